"""A dashboard with credentials: nothing that it says or keeps holds one of them."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tests.real_prometheus import RealPrometheus
from tests.snapshot.conftest import platform_samples

PASSWORD = "Ungeheuer"
API_KEY = "k3y-c4n4ry"
SECRETS = (PASSWORD, base64.b64encode(f"ops:{PASSWORD}".encode()).decode(), API_KEY)
PATHS = ("/", "/queuescope/view?range=24h&age=1", "/readyz", "/metrics", "/healthz", "/no/such")


class Echo(BaseHTTPRequestHandler):
    """Refuses access and repeats what it was told."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        body = f"no: {self.headers}".encode()
        self.send_response(401)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[RealPrometheus]:
    """A Prometheus that wants a password."""
    web = tmp_path / "web.yml"
    web.write_text(
        "basic_auth_users: {ops: '$2b$04$WPoxp3kgP2Iy2ThvxSBxB.RTygPK7uvF1iPlN7rfIBaM/O6O2vY9G'}\n",
        "utf-8",
    )
    server = RealPrometheus(
        tmp_path / "prometheus", series=platform_samples(int(time.time())), web_config=web
    )
    with server:
        yield server


def _said(url: str) -> str:
    said = []
    for path in PATHS:
        try:
            with urllib.request.urlopen(url + path, timeout=30) as response:  # noqa: S310 - ours
                said.append(f"{response.headers}{response.read().decode()}")
        except urllib.error.HTTPError as refused:
            said.append(f"{refused.headers}{refused.read().decode()}")
    return "\n".join(said)


def test_no_credential_is_said_or_kept_while_prometheus_answers_or_refuses_and_repeats_them(
    guarded: RealPrometheus, tmp_path: Path
) -> None:
    data, log = tmp_path / "data", tmp_path / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "queuescope.cli", "serve", "--port", "0"],
            stdout=subprocess.PIPE,
            stderr=out,
            text=True,
            env={
                **os.environ,
                "PROMETHEUS_URL": f"http://127.0.0.1:{guarded.port}",
                "QUEUESCOPE_DATA_DIR": str(data),
                "QUEUESCOPE_PROMETHEUS_USERNAME": "ops",
                "QUEUESCOPE_PROMETHEUS_PASSWORD": PASSWORD,
                "QUEUESCOPE_PROMETHEUS_HEADERS": f"X-Api-Key={API_KEY}",
            },
        )
    assert process.stdout is not None
    try:
        url = next(line for line in process.stdout if "Dashboard: " in line).split()[-1]
        answering = _said(url)
        deadline = time.monotonic() + 60
        while '"state":"fresh"' not in answering:  # it listens before it has read its data
            assert time.monotonic() < deadline
            time.sleep(0.5)
            answering = _said(url)

        guarded.kill()
        with ThreadingHTTPServer(("127.0.0.1", guarded.port), Echo) as echo:
            threading.Thread(target=echo.serve_forever, daemon=True).start()
            time.sleep(1.1)  # older than the age that is asked for
            refusing = _said(url)
            echo.shutdown()
        assert "refused access" in refusing
        argv = Path(f"/proc/{process.pid}/cmdline").read_text("utf-8")
    finally:
        process.terminate()
        process.stdout.close()
        process.wait()

    kept = [path for path in data.rglob("*") if path.is_file()]
    assert kept, "the cache must have been written"
    told = [answering, refusing, argv, log.read_text("utf-8"), *map(str, kept)]
    told += [path.read_bytes().decode("latin-1") for path in kept]
    for secret in SECRETS:
        assert not any(secret in text for text in told)
