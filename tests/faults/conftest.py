"""One Prometheus for all cells, and a dashboard for it that can be restarted."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from tests.faults.oracles import CANARY
from tests.faults.proxy import FaultProxy
from tests.faults.world import PANELS, SCRAPE, Page, Truth, panel_of, this_moment, world
from tests.real_prometheus import RealPrometheus
from tests.view.conftest import Clock

from queuescope.cache import FrameStore
from queuescope.dashboard.metrics import OwnMetrics
from queuescope.panels import Dashboard as Panels
from queuescope.panels import Resolution, load_dashboard, render
from queuescope.panels.template import RECENT_SECONDS
from queuescope.prometheus import PrometheusClient
from queuescope.view import View, ViewService
from queuescope.view.source.facts import FactsFile

HOUR = View("1h")
HANG_SECONDS = 30.0
"""No reading may take that long, whatever happens; it guards against hanging, not slowness."""
_MEBIBYTE = 1024 * 1024


@dataclass
class Dashboard:
    """A running dashboard: its service, its cache, and its ``/metrics``."""

    service: ViewService
    store: FrameStore
    metrics: OwnMetrics

    async def read(self, view: View = HOUR, max_age_seconds: float = 1) -> Page:
        """Everything queried again, except what others queried within the same second."""
        async with asyncio.timeout(HANG_SECONDS):
            snapshot = await self.service.get(view, max_age_seconds=max_age_seconds)
        self.metrics.viewed(snapshot)
        return Page.of(snapshot)

    async def crowd(self, size: int, view: View = HOUR) -> list[Page]:
        """``size`` viewers at once."""
        return await asyncio.gather(*(self.read(view) for _ in range(size)))

    def metrics_text(self) -> str:
        return self.metrics.render()[0].decode()


class Lab:
    """Dashboards with one cache directory and one proxy, with their own clock."""

    def __init__(self, proxy: FaultProxy, cache: Path, truth: Truth) -> None:
        self.proxy = proxy
        self.cache = cache
        self.truth = truth
        self.clock = Clock()
        self.url = f"http://127.0.0.1:{proxy.port}"

    def forward(self, seconds: float) -> None:
        self.clock.offset_seconds += seconds

    @asynccontextmanager
    async def dashboard(
        self,
        *,
        timeout_seconds: float = 25.0,
        env: str = "prod",
        charts: Panels | None = None,
    ) -> AsyncIterator[Dashboard]:
        metrics = OwnMetrics()
        store = FrameStore(self.cache, max_points=1_000_000)
        client = PrometheusClient(
            self.url,
            token=CANARY,
            timeout_seconds=timeout_seconds,
            max_body_bytes=4 * _MEBIBYTE,
            clock=self.clock,
            telemetry=metrics,
        )
        service = ViewService(
            client,
            store,
            FactsFile(self.cache),
            charts or three_charts(),
            matchers=f'env="{env}"',
            scrape_interval_seconds=0,
            breakdown_limit=8,
            horizon_seconds=300,
            clock=self.clock,
            telemetry=metrics,
        )
        metrics.export_state_of(service, store, lambda: client.breaker_state)
        try:
            yield Dashboard(service, store, metrics)
        finally:
            await service.aclose()
            store.close()


def three_charts() -> Panels:
    """The three panels for which the correct values are known."""
    preset = load_dashboard("ai-agents")
    return replace(preset, panels=tuple(p for p in preset.panels if p.id in PANELS))


@pytest.fixture(scope="session")
def moment() -> int:
    """The instant around which the samples lie."""
    return this_moment()


@pytest.fixture(scope="package")
def prometheus(tmp_path_factory: pytest.TempPathFactory, moment: int) -> Iterator[RealPrometheus]:
    directory = tmp_path_factory.mktemp("prometheus")
    with RealPrometheus(directory, series=world(moment)) as server:
        yield server


@pytest.fixture(scope="package")
def mortal(tmp_path_factory: pytest.TempPathFactory, moment: int) -> Iterator[RealPrometheus]:
    """A second one, to be frozen and killed."""
    directory = tmp_path_factory.mktemp("mortal")
    with RealPrometheus(directory, series=world(moment)) as server:
        yield server


@pytest.fixture(scope="package")
def truth(
    prometheus: RealPrometheus, moment: int, tmp_path_factory: pytest.TempPathFactory
) -> Truth:
    """Prometheus's own responses to the queries of a dashboard when nothing is wrong.

    The dashboard uses a shorter query for present values than the panels. The correct values are
    those of the panels' queries.
    """

    async def asked() -> Truth:
        async with FaultProxy(prometheus.port) as proxy:
            nothing = Truth(prometheus.port, {}, {}, moment)
            lab = Lab(proxy, tmp_path_factory.mktemp("healthy"), nothing)
            async with lab.dashboard() as dashboard:
                assert (await dashboard.read()).complete
            ranges = [r.query for r in proxy.seen if r.endpoint == "query_range"]
        queries = {panel_of(query): query for query in ranges}
        assert len(ranges) == len(queries) == 3
        recent = Resolution(RECENT_SECONDS, SCRAPE, left_open=False)
        present = {
            panel.id: render(panel.now, recent, 'env="prod"') for panel in three_charts().panels
        }
        return Truth(prometheus.port, queries, present, moment)

    return asyncio.run(asked())


@pytest.fixture
async def lab(
    prometheus: RealPrometheus, truth: Truth, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> AsyncIterator[Lab]:
    caplog.set_level(logging.INFO)
    async with FaultProxy(prometheus.port) as proxy:
        yield Lab(proxy, tmp_path / "cache", truth)
