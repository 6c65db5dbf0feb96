"""A real Prometheus with known samples, behind a proxy that counts and fails."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import orjson
import pytest
from tests.real_prometheus import RealPrometheus, Samples

from queuescope.cache import FrameStore
from queuescope.panels import Dashboard, load_dashboard
from queuescope.prometheus import PrometheusClient
from queuescope.view import Snapshot, ViewService
from queuescope.view.present.live_sources import LiveSources
from queuescope.view.source.alert_rules import AlertScope
from queuescope.view.source.facts import FactsFile

SCRAPE = 30
HOURS = 26
_AHEAD_SECONDS = 3_600
_REQUEST = re.compile(rb"(?:POST|GET) /api/v1/(\S+?)[? ]")


def platform_samples(now: int) -> Samples:
    """Two queues, two tenants, one failed job in ten, and latencies below 2 s.

    They reach beyond ``now``, so that it does not matter how long the tests take.
    """
    times = np.arange(now - HOURS * 3600, now + _AHEAD_SECONDS, SCRAPE)
    jobs = np.arange(len(times), dtype=float)
    samples: dict[str, tuple[Any, Any]] = {
        'ai_agents_queue_depth{queue="a",env="prod"}': (times, np.full(len(times), 5.0)),
        'ai_agents_queue_depth{queue="b",env="prod"}': (times, np.full(len(times), 7.0)),
    }
    for tenant in ("acme", "<b>globex</b>"):
        for outcome, share in (("succeeded", 9), ("failed", 1)):
            name = f'ai_agents_enhancement_jobs_total{{outcome="{outcome}",tenant="{tenant}"}}'
            samples[name] = (times, jobs * share)
        for le, share in (("1", 5), ("2", 10), ("+Inf", 10)):
            name = f'ai_agents_enhancement_latency_seconds_bucket{{le="{le}",tenant="{tenant}"}}'
            samples[name] = (times, jobs * share)
    return samples


@pytest.fixture(scope="package")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealPrometheus]:
    directory = tmp_path_factory.mktemp("prometheus")
    with RealPrometheus(directory, series=platform_samples(int(time.time()))) as server:
        yield server


class CountingProxy:
    """A proxy in front of a Prometheus: ``asked`` counts the requested API paths.

    ``refuse`` closes the port, ``swallow`` takes requests and answers none, ``serve`` is normal.
    """

    def __init__(self, port: int) -> None:
        self._upstream = port
        self._server: asyncio.Server | None = None
        self._swallows = False
        self._port = 0
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.asked: Counter[str] = Counter()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    async def __aenter__(self) -> Self:
        await self.serve()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.refuse()

    async def serve(self) -> None:
        self._swallows = False
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", self._port)
            self._port = self._server.sockets[0].getsockname()[1]

    def lead_to(self, port: int) -> None:
        """Put another server behind the address; connections to the former one are gone."""
        self._upstream = port

    async def swallow(self) -> None:
        self._swallows = True

    async def refuse(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in self._open:
            writer.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._open.add(writer)
        try:
            upstream_reader, upstream = await asyncio.open_connection("127.0.0.1", self._upstream)
            self._open.add(upstream)
            await asyncio.gather(
                self._pump(reader, upstream, counts=True),
                self._pump(upstream_reader, writer, counts=False),
            )
        except (ConnectionError, asyncio.CancelledError):
            writer.close()
        finally:
            self._tasks.discard(task)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, counts: bool
    ) -> None:
        while data := await reader.read(65_536):
            if counts:
                self.asked.update(name.decode() for name in _REQUEST.findall(data))
                if self._swallows:
                    continue
            writer.write(data)
            await writer.drain()
        with contextlib.suppress(ConnectionError):
            writer.close()


class Clock:
    """Our own clock: the machine's, moved by ``offset_seconds``."""

    def __init__(self) -> None:
        self.offset_seconds = 0.0

    def __call__(self) -> float:
        return time.time() + self.offset_seconds


StartService = Callable[..., ViewService]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def stores() -> Iterator[list[FrameStore]]:
    """The clocks of the services that were made, the newest last."""
    made: list[FrameStore] = []
    yield made
    for store in made:
        store.close()


@pytest.fixture
def make_service(tmp_path: Path, clock: Clock, stores: list[FrameStore]) -> StartService:
    """Services over one directory, as of a dashboard that is restarted. Close them."""

    def make(
        url: str,
        *,
        dashboard: Dashboard | None = None,
        matchers: str = "",
        scrape_interval_seconds: int = 0,
        breakdown_limit: int = 8,
        timeout_seconds: float = 20.0,
        live: LiveSources | None = None,
        alert_scope: AlertScope | None = None,
    ) -> ViewService:
        stores.append(FrameStore(tmp_path / "cache", max_points=1_000_000))
        return ViewService(
            PrometheusClient(url, timeout_seconds=timeout_seconds, clock=clock),
            stores[-1],
            FactsFile(tmp_path / "cache"),
            dashboard or load_dashboard("ai-agents"),
            matchers=matchers,
            scrape_interval_seconds=scrape_interval_seconds,
            breakdown_limit=breakdown_limit,
            horizon_seconds=300,
            clock=clock,
            live=live,
            alert_scope=alert_scope,
        )

    return make


def content(snapshot: Snapshot) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(snapshot.body)
    return found


def panels(snapshot: Snapshot) -> dict[str, dict[str, Any]]:
    return {panel["id"]: panel for panel in content(snapshot)["panels"]}


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """However late the present values are, nothing else is asked meanwhile."""
    for module in ("queuescope.view.service", "queuescope.view.present.values"):
        monkeypatch.setattr(f"{module}.PRESENT_PATIENCE_SECONDS", 60.0)
