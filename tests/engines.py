"""The three kinds of servers with the same API: Prometheus 2 and 3, VictoriaMetrics.

``scripts/engines.sh`` provides their programs; ``./test`` calls it.
"""

from __future__ import annotations

import http.client
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import numpy as np
from tests.ports import free_port
from tests.real_prometheus import RealPrometheus, Samples
from tests.remote_write import RemoteWriter, Sample

ENGINES = ("prometheus-2", "prometheus-3", "victoria-metrics")

_PROGRAMS = Path(__file__).parents[1] / ".engines"
_READY_WITHIN_SECONDS = 120.0


class Engine(Protocol):
    """A running server."""

    @property
    def url(self) -> str: ...


class RealVictoriaMetrics:
    """A VictoriaMetrics process in ``directory`` that holds ``series``, as it runs by default."""

    def __init__(
        self, directory: Path, series: Samples, *, prefix: str = "", targets: tuple[str, ...] = ()
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._port = free_port()
        self._prefix = prefix
        self._process: subprocess.Popen[bytes] | None = None
        self._series = series
        listed = ", ".join(f'"{target}"' for target in targets)
        (directory / "scrape.yml").write_text(
            "global: {scrape_interval: 1s}\n"
            "scrape_configs:\n"
            f"- {{job_name: under_test, static_configs: [{{targets: [{listed}]}}]}}\n",
            encoding="utf-8",
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}{self._prefix}"

    def start(self) -> None:
        """Start it, wait until it is ready, and import the series."""
        with (self._directory / "victoria-metrics.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    program("victoria-metrics"),
                    f"-storageDataPath={self._directory / 'data'}",
                    f"-httpListenAddr=127.0.0.1:{self._port}",
                    f"-http.pathPrefix={self._prefix}",
                    f"-promscrape.config={self._directory / 'scrape.yml'}",
                    "-retentionPeriod=10y",
                    "-memory.allowedPercent=10",
                    "-loggerLevel=WARN",
                ],
                stdout=log,
                stderr=log,
                env={**os.environ, "GOMAXPROCS": "2"},
            )
        until = time.monotonic() + _READY_WITHIN_SECONDS
        while self._ask("GET", "/health") != 200:
            if self._process.poll() is not None or time.monotonic() > until:
                self.kill()
                raise RuntimeError((self._directory / "victoria-metrics.log").read_text("utf-8"))
            time.sleep(0.02)
        lines = "".join(_text_lines(self._series))
        imported = self._ask("POST", "/api/v1/import/prometheus", lines.encode())
        assert imported == 204, f"the import was answered by {imported}"
        # Imported samples are visible after the next flush, which happens within seconds.
        assert self._ask("GET", "/internal/force_flush") == 200

    def kill(self) -> None:
        """Stop it at once. Does nothing if it does not run."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _ask(self, method: str, path: str, body: bytes | None = None) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        try:
            connection.request(method, self._prefix + path, body)
            return connection.getresponse().status
        except (http.client.HTTPException, OSError):
            return 0
        finally:
            connection.close()


def _text_lines(series: Samples) -> Iterator[str]:
    for text, (timestamps, values) in series.items():
        at = (np.asarray(timestamps, dtype=float) * 1000).astype(int).tolist()
        what = np.asarray(values, dtype=float).tolist()
        yield from (f"{text} {v!r} {t}\n" for t, v in zip(at, what, strict=True))


def program(engine: str) -> Path:
    """The path of the program of ``engine``. Fails if it was not fetched."""
    name = "victoria-metrics" if engine == "victoria-metrics" else "prometheus"
    found = _PROGRAMS / engine / name
    assert found.exists(), f"{found} is not there: run scripts/engines.sh (./test does)"
    return found


@contextmanager
def running(
    engine: str,
    directory: Path,
    series: Samples,
    *,
    prefix: str = "",
    targets: tuple[str, ...] = (),
) -> Iterator[Engine]:
    """``engine`` with ``series`` in it, below the path ``prefix``, scraping ``targets``."""
    if engine == "victoria-metrics":
        victoria = RealVictoriaMetrics(directory, series, prefix=prefix, targets=targets)
        try:
            victoria.start()
            yield victoria
        finally:
            victoria.kill()
        return
    with RealPrometheus(
        directory, series=series, program=program(engine), prefix=prefix, targets=targets
    ) as prometheus:
        yield prometheus


@contextmanager
def holding(engine: str, directory: Path, samples: Sequence[Sample]) -> Iterator[str]:
    """The address of ``engine`` with ``samples`` written to it, the ends of series among them."""
    with ExitStack() as stack:
        if engine == "victoria-metrics":
            url = stack.enter_context(running(engine, directory, {})).url
        else:
            server = RealPrometheus(directory, program=program(engine), takes_samples=True)
            url = stack.enter_context(server).url
        port = urlsplit(url).port
        assert port is not None
        writer = RemoteWriter(port)
        stack.callback(writer.close)
        writer.write(samples)
        if engine == "victoria-metrics":
            # Written samples can be queried a little later, or after a flush.
            flush = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            stack.callback(flush.close)
            flush.request("GET", "/internal/force_flush")
            assert flush.getresponse().status == 200
        yield url
