"""The dashboard as a process of its own, on a real Prometheus with hostile label values."""

from __future__ import annotations

import http.client
import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from numpy.typing import ArrayLike
from tests.ports import free_port
from tests.prepared_python import start_python
from tests.real_prometheus import RealPrometheus

SCRAPE = 30
HOSTILE = "</script><script>alert('x')</script><!--<img src=x onerror=alert(1)>\u202e"
_READY_WITHIN_SECONDS = 120.0

Headers = Mapping[str, str] | Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode("utf-8")


class RunningDashboard:
    """``uvicorn queuescope.dashboard.routes:app``, or ``queuescope serve``, in ``directory`` and
    configured by its environment.
    """

    def __init__(
        self,
        directory: Path,
        prometheus_url: str,
        *,
        port: int = 0,
        server: Literal["uvicorn", "queuescope"] = "uvicorn",
        **settings: str,
    ) -> None:
        self.port = port or free_port()
        self.directory = directory
        self._log = directory / "dashboard.log"
        kept = {k: v for k, v in os.environ.items() if not k.startswith("QUEUESCOPE_")}
        environment = {
            **kept,
            "PROMETHEUS_URL": prometheus_url,
            "QUEUESCOPE_DATA_DIR": str(directory),
            **{f"QUEUESCOPE_{name.upper()}": value for name, value in settings.items()},
        }
        module, arguments = {
            "uvicorn": ("uvicorn", ["queuescope.dashboard.routes:app", "--log-level", "warning"]),
            "queuescope": ("queuescope.cli", ["serve"]),
        }[server]
        self._log.unlink(missing_ok=True)
        arguments += ["--port", str(self.port)]
        if server == "uvicorn":
            # If it closed idle connections as early as a client, it would cut requests off.
            arguments += ["--timeout-keep-alive", "75"]
        self._process = start_python(
            module,
            arguments,
            environment=environment,
            folder=directory,
            log=self._log,
        )
        until = time.monotonic() + _READY_WITHIN_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > until:
                self.close()
                raise RuntimeError(self.log)
            time.sleep(0.05)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def log(self) -> str:
        return self._log.read_text("utf-8")

    def _answers(self) -> bool:
        try:
            return self.ask("/healthz").status == 200
        except OSError:
            return False

    def ask(
        self,
        path: str,
        headers: Headers | None = None,
        method: str = "GET",
        *,
        source: str = "127.0.0.1",
    ) -> Answer:
        """One request, sent as it is written; ``headers`` may name another ``Host``, and come in
        pairs where one is repeated. ``source`` is the address that it comes from.
        """
        pairs = list(headers.items() if isinstance(headers, Mapping) else headers or ())
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.port, timeout=30, source_address=(source, 0)
        )
        try:
            connection.putrequest(
                method,
                path,
                skip_host=any(name == "Host" for name, _ in pairs),
                skip_accept_encoding=True,
            )
            for name, value in pairs:
                connection.putheader(name, value)
            connection.endheaders()
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, found, response.read())
        finally:
            connection.close()

    def close(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@pytest.fixture(scope="package")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealPrometheus]:
    now = int(time.time())
    # They reach beyond now, so that it does not matter how long the tests take.
    times = np.arange(now - 2 * 3600, now + 3600, SCRAPE)
    jobs = np.arange(len(times), dtype=float)
    label = HOSTILE.replace('"', '\\"')
    series: dict[str, tuple[ArrayLike, ArrayLike]] = {
        f'ai_agents_queue_depth{{queue="{label}"}}': (times, np.full(len(times), 5.0)),
        f'ai_agents_enhancement_jobs_total{{outcome="succeeded",tenant="{label}"}}': (times, jobs),
    }
    for le, share in (("1", 5), ("+Inf", 10)):
        name = f'ai_agents_enhancement_latency_seconds_bucket{{le="{le}",tenant="{label}"}}'
        series[name] = (times, jobs * share)
    directory = tmp_path_factory.mktemp("prometheus")
    with RealPrometheus(directory, series=series) as server:
        yield server


@pytest.fixture(scope="package")
def dashboard(
    prometheus: RealPrometheus, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningDashboard]:
    directory = tmp_path_factory.mktemp("dashboard")
    running = RunningDashboard(
        directory,
        prometheus.url,
        allowed_hosts="queuescope.example,*.never.example",
        prometheus_timeout_seconds="30",
    )
    try:
        yield running
    finally:
        running.close()
    assert "Traceback" not in running.log, running.log
