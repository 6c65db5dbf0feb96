"""Many viewers of one dashboard: how long they wait, and the load on the server and Prometheus."""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

import brotli
import numpy as np
import orjson
import uvloop
from benchmarks.report import Ratio, Results, busy_cores, versions
from benchmarks.samples import platform_samples
from benchmarks.servers import PROJECT, Server
from prometheus_client.parser import text_string_to_metric_families
from tests.real_prometheus import RealPrometheus

REFRESH_SECONDS = 10
_SPREAD_SECONDS = 0.5
_PAGE = f"/?range=24h&refresh={REFRESH_SECONDS}"
_VIEW = f"/queuescope/view?range=24h&refresh={REFRESH_SECONDS}&age={REFRESH_SECONDS}"
_OVERVIEW = f"/queuescope/overview?age={REFRESH_SECONDS}"
_TARGET_MS = 250
_UPSTREAM_TARGET = 1.05
_READ_AHEAD_SECONDS = 10.0
_IDLE_SECONDS = 10.0
_QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


@dataclass(slots=True)
class Seen:
    """How long the viewers of one part waited, in milliseconds by kind of request."""

    waits_ms: dict[str, list[float]] = field(default_factory=dict)
    oldest_seconds: float = 0.0
    moments: set[float] = field(default_factory=set)


class Connection:
    """A browser's connection that is kept open: requests one after another, no caching."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def get(self, path: str, accept: str) -> tuple[dict[bytes, bytes], bytes]:
        """Headers (names in lower case) and body; raises ``RuntimeError`` unless it is a 200."""
        request = (
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\nAccept: {accept}\r\n"
            "Accept-Encoding: gzip, deflate, br\r\n\r\n"
        ).encode()
        try:
            reader, head = await self._answered(request)
        except (asyncio.IncompleteReadError, ConnectionError):
            # The server has closed a connection that was not used for long.
            self.close()
            reader, head = await self._answered(request)
        if head[0].split(b" ")[1] != b"200":
            raise RuntimeError(f"{path}: {head[0].decode()}")
        headers = dict(line.lower().split(b": ", 1) for line in head[1:-2])
        return headers, await reader.readexactly(int(headers[b"content-length"]))

    async def _answered(self, request: bytes) -> tuple[asyncio.StreamReader, list[bytes]]:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        writer.write(request)
        return reader, (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


class Viewers:
    """Pages that load once and refresh, as the page's script does it."""

    def __init__(self, port: int, refreshes: int) -> None:
        self._port = port
        self._refreshes = refreshes
        self.seen = Seen()

    async def come(self, number: int) -> None:
        """``number`` of them, within the first interval, until all have seen their refreshes."""
        chance = random.Random(number)
        starts = [chance.uniform(0, REFRESH_SECONDS) for _ in range(number)]
        await asyncio.gather(*(self._view(after, chance.random()) for after in starts))

    async def _view(self, after_seconds: float, phase: float) -> None:
        # A browser requests both at once, over two connections.
        connections = (Connection(self._port), Connection(self._port))
        await asyncio.sleep(after_seconds)
        try:
            await self._timed(connections[0], "document", _PAGE, "text/html,*/*")
            for _ in range(self._refreshes):
                view, _ = await asyncio.gather(
                    self._timed(connections[0], "view", _VIEW, "application/json"),
                    self._timed(connections[1], "overview", _OVERVIEW, "application/json"),
                )
                age = self._age_seconds(*view)
                self.seen.oldest_seconds = max(self.seen.oldest_seconds, age)
                await asyncio.sleep(max(1, REFRESH_SECONDS - age) + phase * _SPREAD_SECONDS)
        finally:
            for connection in connections:
                connection.close()

    async def _timed(
        self, connection: Connection, what: str, path: str, accept: str
    ) -> tuple[dict[bytes, bytes], bytes]:
        started = time.perf_counter()
        answer = await connection.get(path, accept)
        wait = (time.perf_counter() - started) * 1000
        self.seen.waits_ms.setdefault(what, []).append(wait)
        return answer

    def _age_seconds(self, headers: dict[bytes, bytes], body: bytes) -> float:
        taken_at = orjson.loads(brotli.decompress(body))["takenAt"]
        self.seen.moments.add(taken_at)
        return float(headers[b"queuescope-now"]) - float(taken_at)


def upstream_queries(server: Server) -> float:
    """How many queries the dashboard has sent to Prometheus since it was started."""
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=60) as answer:  # noqa: S310
        text = answer.read().decode()
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "queuescope_upstream_queries_total"
    )


class Run:
    """One run: the same dashboard without viewers, with one, and with many."""

    def __init__(self, server: Server, viewers: int, refreshes: int) -> None:
        self._server = server
        self._viewers = viewers
        self._refreshes = refreshes
        options = {"viewers": viewers, "refreshes": refreshes, "interval_s": REFRESH_SECONDS}
        packages = versions("streamlit", "uvicorn", "uvloop", "httptools")
        self.results = Results("viewers", "Many viewers", options, packages)
        self._upstream: dict[int, float] = {}
        self._waits: dict[str, list[float]] = {}

    def measure(self) -> None:
        time.sleep(_READ_AHEAD_SECONDS)
        # Queries that are only sent occasionally belong to no part.
        uvloop.run(Viewers(self._server.port, 1).come(1))
        time.sleep(2 * REFRESH_SECONDS)
        before = self._server.cpu_seconds()
        time.sleep(_IDLE_SECONDS)
        idle_cores = (self._server.cpu_seconds() - before) / _IDLE_SECONDS
        for number in (1, self._viewers):
            self._measure(number, idle_cores)

    def _measure(self, number: int, idle_cores: float) -> None:
        name = "1 viewer" if number == 1 else f"{number} viewers"
        self.results.load.setdefault(name, []).append(busy_cores())
        viewers = Viewers(self._server.port, self._refreshes)
        asked, cpu, started = (
            upstream_queries(self._server),
            self._server.cpu_seconds(),
            time.monotonic(),
        )
        uvloop.run(viewers.come(number))
        seconds = time.monotonic() - started
        cpu = self._server.cpu_seconds() - cpu
        # The parts have different lengths: viewers arrive one by one.
        self._upstream[number] = (upstream_queries(self._server) - asked) / len(
            viewers.seen.moments
        )
        for what, waits in viewers.seen.waits_ms.items():
            for quantile, share in _QUANTILES.items():
                value = float(np.quantile(waits, share))
                self.results.add(f"{what}, {quantile}", name, "ms", [value])
            self._waits[what] = waits
        refreshes = len(viewers.seen.waits_ms["view"])
        net = (cpu - idle_cores * seconds) / refreshes * 1000
        self.results.add("server CPU per viewer and refresh", name, "ms", [net])
        self.results.add("cores busy in the server", name, "", [cpu / seconds])
        self.results.add("queries to Prometheus per refresh", name, "", [self._upstream[number]])
        self.results.add("oldest snapshot shown", name, "s", [viewers.seen.oldest_seconds])

    def judge(self) -> None:
        """The ratios with the project's targets; the waits are those of many viewers."""
        ratios = self.results.ratios
        for what, waits in self._waits.items():
            p95 = float(np.quantile(waits, 0.95))
            ratios.append(Ratio(f"{what}, p95 in ms", p95, _TARGET_MS, at_least=False))
        times = self._upstream[self._viewers] / self._upstream[1]
        title = "queries to Prometheus: times those for one viewer"
        ratios.append(Ratio(title, times, _UPSTREAM_TARGET, at_least=False))


def main() -> None:
    parser = argparse.ArgumentParser(prog="./benchmarks/run viewers", description=__doc__)
    parser.add_argument("--viewers", type=int, default=200, help="[%(default)s]")
    parser.add_argument(
        "--refreshes", type=int, default=12, help="that each viewer sees [%(default)s]"
    )
    parser.add_argument(
        "--output", type=Path, default=PROJECT / "benchmarks/results", help="[%(default)s]"
    )
    given = parser.parse_args()
    # A run that is stopped also stops its servers.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory(prefix="queuescope-benchmark-") as name:
        directory = Path(name)
        print("Backfilling Prometheus …", flush=True)
        prometheus = RealPrometheus(
            directory / "prometheus",
            series=platform_samples(time.time()),
            scrape_interval_seconds=15,
        )
        with prometheus:
            server = Server(
                "queuescope",
                ("-m", "queuescope.cli", "serve", "--port", "{port}"),
                directory,
                environment={
                    "PROMETHEUS_URL": prometheus.url,
                    "QUEUESCOPE_DATA_DIR": str(directory / "data"),
                },
                ready_path="/readyz",
            )
            with server:
                run = Run(server, given.viewers, given.refreshes)
                print("One viewer, and many …", flush=True)
                run.measure()
    run.judge()
    run.results.write(given.output)
    print((given.output / "viewers.md").read_text("utf-8"))


if __name__ == "__main__":
    main()
