"""The servers of a run: each in its own process on a free port, stopped at the end."""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil
from tests.ports import free_port

PROJECT = Path(__file__).parent.parent
_READY_WITHIN_SECONDS = 60.0


class Server:
    """A Python server: ``arguments`` follow the interpreter, ``{port}`` in them is its port."""

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        directory: Path,
        *,
        environment: Mapping[str, str] | None = None,
        ready_path: str = "/",
    ) -> None:
        self.name = name
        self.port = free_port()
        self._arguments = [argument.format(port=self.port) for argument in arguments]
        self._environment = dict(environment or {})
        self._log = directory / f"{name}.log"
        self._ready_path = ready_path
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, *self._arguments],
                cwd=PROJECT,
                env={**os.environ, "PYTHONPATH": str(PROJECT), **self._environment},
                stdout=log,
                stderr=log,
            )
        until = time.monotonic() + _READY_WITHIN_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > until:
                self.stop()
                raise RuntimeError(f"{self.name} did not start:\n{self._log.read_text('utf-8')}")
            time.sleep(0.05)

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", self._ready_path)
            return connection.getresponse().status == 200
        except (http.client.HTTPException, OSError):
            return False
        finally:
            connection.close()

    def cpu_seconds(self) -> float:
        """User and system time of the process and all its descendants, including ended ones."""
        assert self._process is not None, f"{self.name} does not run"
        root = psutil.Process(self._process.pid)
        return sum(sum(one.cpu_times()[:4]) for one in (root, *root.children(recursive=True)))

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


def line_to(server: Server, directory: Path, *, megabits: float, round_trip_ms: float) -> Server:
    """A slow line in front of ``server``."""
    return Server(
        f"line-{server.name}",
        (
            *("-m", "benchmarks.line", "--port", "{port}", "--target", str(server.port)),
            *("--megabits", str(megabits), "--round-trip-ms", str(round_trip_ms)),
        ),
        directory,
        ready_path="/",
    )
