"""A real Prometheus for tests, browser tests and benchmarks: backfilled, stoppable, restartable."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import ArrayLike
from tests.ports import free_port

Samples = Mapping[str, tuple[ArrayLike, ArrayLike]]
"""Series text, such as ``depth{queue="a"}``, to its timestamps (epoch seconds) and values."""

_READY_WITHIN_SECONDS = 120.0
_BLOCK_DURATION = "1536h"  # one block for weeks of samples backfills ten times faster


def write_openmetrics(path: Path, series: Samples) -> None:
    """Write samples as OpenMetrics text, as ``promtool`` backfills it. NaN is a sample too."""
    families: dict[str, list[str]] = {}
    for text, (timestamps, values) in series.items():
        at, what = np.asarray(timestamps, dtype=float), np.asarray(values, dtype=float)
        lines = text.replace("%", "%%") + " %r %.3f\n"
        # All at once, which takes half of the time.
        families.setdefault(text.partition("{")[0], []).append(
            lines * len(at) % tuple(np.column_stack((what, at)).ravel().tolist())
        )
    with path.open("w", encoding="utf-8") as out:
        for name, samples in families.items():
            out.write(f"# TYPE {name} unknown\n")
            out.writelines(samples)
        out.write("# EOF\n")


class RealPrometheus:
    """A Prometheus process in ``directory`` on a free port of the loopback interface.

    ``targets`` (``host:port``) are scraped every ``scrape_interval_seconds``. ``web_config`` is a
    file of Prometheus's own for TLS and users, ``prefix`` the path below which it serves. With
    ``takes_samples`` it accepts written samples, up to a month late and out of order; ``options``
    are further command line options. Use it as a context manager, or call ``start`` and ``kill``.
    The port and the data stay the same across restarts.
    """

    def __init__(
        self,
        directory: Path,
        *,
        series: Samples | None = None,
        targets: Sequence[str] = (),
        rule_files: Sequence[Path] = (),
        scrape_interval_seconds: int = 1,
        program: str | Path = "prometheus",
        web_config: Path | None = None,
        prefix: str = "",
        takes_samples: bool = False,
        options: Sequence[str] = (),
    ) -> None:
        self._directory = directory
        self._takes_samples = takes_samples
        self.options = options
        self._program = program
        self._web_config = web_config
        self._prefix = prefix
        self._data = directory / "data"
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        self._data.mkdir(parents=True, exist_ok=True)
        listed = ", ".join(f'"{target}"' for target in targets)
        rules = ", ".join(f'"{path}"' for path in rule_files)
        (directory / "prometheus.yml").write_text(
            f"global: {{scrape_interval: {scrape_interval_seconds}s,"
            f" scrape_timeout: {scrape_interval_seconds}s,"
            f" evaluation_interval: {scrape_interval_seconds}s}}\n"
            f"rule_files: [{rules}]\n"
            "scrape_configs:\n"
            f"- {{job_name: under_test, static_configs: [{{targets: [{listed}]}}]}}\n"
            + ("storage: {tsdb: {out_of_order_time_window: 30d}}\n" if takes_samples else ""),
            encoding="utf-8",
        )
        if series:
            self.backfill(series)

    @property
    def url(self) -> str:
        scheme = "http" if self._web_config is None else "https"
        return f"{scheme}://127.0.0.1:{self.port}{self._prefix}"

    @property
    def pid(self) -> int:
        assert self._process is not None, "Prometheus is not running"
        return self._process.pid

    def backfill(self, series: Samples) -> None:
        """Add history; a running server sees it after its next restart."""
        text = self._directory / "backfill.om"
        write_openmetrics(text, series)
        subprocess.run(
            [
                *("promtool", "tsdb", "create-blocks-from", "openmetrics", "--quiet"),
                *(f"--max-block-duration={_BLOCK_DURATION}", text, self._data),
            ],
            check=True,
            capture_output=True,
        )
        text.unlink()

    def start(self) -> None:
        """Start it, and wait until it is ready."""
        log = (self._directory / "prometheus.log").open("ab")
        options = [f"--web.route-prefix={self._prefix}"] if self._prefix else []
        options += ["--web.enable-remote-write-receiver"] if self._takes_samples else []
        options += [f"--web.config.file={self._web_config}"] if self._web_config else []
        with log:
            self._process = subprocess.Popen(
                [
                    self._program,
                    f"--config.file={self._directory / 'prometheus.yml'}",
                    f"--storage.tsdb.path={self._data}",
                    "--storage.tsdb.retention.time=400d",
                    f"--web.listen-address=127.0.0.1:{self.port}",
                    "--log.level=warn",
                    *options,
                    *self.options,
                ],
                stdout=log,
                stderr=log,
                env={**os.environ, "GOMAXPROCS": "2"},
            )
        until = time.monotonic() + _READY_WITHIN_SECONDS
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > until:
                self.kill()
                raise RuntimeError((self._directory / "prometheus.log").read_text("utf-8"))
            time.sleep(0.02)

    def _is_ready(self) -> bool:
        if self._web_config is not None:
            # Readiness cannot be queried without a certificate; it listens once it is ready.
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", self.port)) == 0
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=1)
        try:
            connection.request("GET", f"{self._prefix}/-/ready")
            return connection.getresponse().status == 200
        except (http.client.HTTPException, OSError):
            return False
        finally:
            connection.close()

    def stop(self) -> None:
        """Freeze it: the kernel accepts connections, and no response comes."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED)  # until its last thread has stopped

    def cont(self) -> None:
        """Continue a frozen one."""
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """Kill it at once. Does nothing if it does not run."""
        if self._process is not None:
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
        self.kill()
