"""A Streamlit app of the tests' own, in a process of its own."""

from __future__ import annotations

import os
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.ports import free_port
from tests.prepared_python import start_python


@contextmanager
def running_app(app: str, directory: Path, settings: Mapping[str, str]) -> Iterator[int]:
    """The port of ``app``, such as ``package.module:app``; its log is in ``directory``."""
    port = free_port()
    log = directory / "log"
    process = start_python(
        "uvicorn",
        [app, "--no-proxy-headers", "--port", str(port), "--log-level", "warning"],
        environment={**os.environ, **settings},
        folder=Path.cwd(),
        log=log,
    )
    try:
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health") as answer:
                    assert answer.status == 200
                    break
            except OSError:
                assert process.poll() is None, log.read_text("utf-8")
                time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait(120)
