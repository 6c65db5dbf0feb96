"""A series that Prometheus has ended no longer counts after the marker, on each kind of server."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator

import numpy as np
import pytest
from tests.engines import ENGINES, holding
from tests.remote_write import ENDED, Sample

from queuescope.panels import Resolution, load_dashboard, render
from queuescope.prometheus import PrometheusClient
from queuescope.timeseries import Floats, Grid, labels_of
from queuescope.view.source.scrapes import lookback_delta_for

pytestmark = pytest.mark.anyio

SCRAPE = 15
END = int(time.time()) // 900 * 900
START = END - 3600
MOVED = START + 1200
"""The exporter's last scrape under its first name; the next one is under its second."""
LOST = MOVED + 600
"""A scrape that is missing, without a marker."""
DOWN, BACK = MOVED + 1200, MOVED + 1200 + 8 * SCRAPE
"""The exporter's last scrape before a restart under the same name, and the first one after it."""

SLOW_SCRAPE = 300
SLOW_FROM, SLOW_LOST, SLOW_UNTIL = START - 4 * 3600, START - 3 * 3600, START - 2 * 3600
"""Hours before, a target with a scrape interval as long as the lookback of a plain selector."""

RENAMED_FROM = START - 9 * 3600
RENAMED, RENAMED_UNTIL = RENAMED_FROM + 3600, RENAMED_FROM + 7200
"""Even earlier, an exporter with that interval: its first scrape, the last one under its first
name, and the last one."""

DASHBOARD = load_dashboard("ai-agents")
METRICS = {
    "ai_agents_queue_depth": 80.0,
    "ai_agents_workers_up": 4.0,
    "ai_agents_queue_oldest_age_seconds": 7.0,
    "ai_agents_enhancement_success_rate": 96.0,
}
NOW = {
    "queue_depth": 80,
    "active_workers": 4,
    "oldest_waiting": 7,
    "success_rate": 96,
}
"""Each present value while the exporter is scraped, under either name."""


def _samples() -> Iterator[Sample]:
    for metric, value in METRICS.items():
        first, second = (
            labels_of({"__name__": metric, "instance": name}) for name in ("old:1", "new:1")
        )
        # The first name has the worse value of the same queue, so it shows which one counts.
        worse = 900.0 if metric.endswith("age_seconds") else value
        for at in range(START, MOVED + 1, SCRAPE):
            yield first, at, worse
        yield first, MOVED + SCRAPE, ENDED
        for at in range(MOVED + SCRAPE, END + 1, SCRAPE):
            if at == LOST or DOWN < at < BACK:
                continue
            yield second, at, value
        yield second, DOWN + SCRAPE, ENDED
    slow = labels_of({"__name__": "ai_agents_queue_depth", "instance": "slow:1"})
    for at in range(SLOW_FROM, SLOW_UNTIL + 1, SLOW_SCRAPE):
        if at != SLOW_LOST:
            yield slow, at, 30.0
    before, after = (
        labels_of({"__name__": "ai_agents_queue_depth", "instance": name})
        for name in ("slow_old:1", "slow_new:1")
    )
    for at in range(RENAMED_FROM, RENAMED + 1, SLOW_SCRAPE):
        yield before, at, 80.0
    yield before, RENAMED + SLOW_SCRAPE, ENDED
    for at in range(RENAMED + SLOW_SCRAPE, RENAMED_UNTIL + 1, SLOW_SCRAPE):
        # One scrape is lost.
        if at != RENAMED + 4 * SLOW_SCRAPE:
            yield after, at, 80.0


@pytest.fixture(scope="module", params=ENGINES)
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with holding(request.param, tmp_path_factory.mktemp("samples"), list(_samples())) as address:
        yield address


@pytest.fixture
async def client(url: str) -> AsyncIterator[PrometheusClient]:
    async with PrometheusClient(url) as client:
        yield client


async def _row(client: PrometheusClient, query: str, grid: Grid) -> Floats:
    values = (await client.query_range(query, grid)).frame.values
    assert len(values) <= 1, query
    return values[0] if len(values) else np.full(len(grid), np.nan)


@pytest.mark.parametrize("measure", NOW)
async def test_a_present_value_never_counts_an_exporter_under_two_names(
    client: PrometheusClient, measure: str
) -> None:
    found = next(m for m in DASHBOARD.measures if m.panel.id == measure)
    resolution = Resolution(300, SCRAPE, await client.ranges_are_left_open())
    text = found.panel.now if found.on_page else found.now
    query = render(text, resolution)
    values = await _row(client, query, Grid(MOVED + SCRAPE, DOWN, SCRAPE))
    assert set(values.tolist()) == {NOW[measure]}  # the lost scrape is among them
    gone = await _row(client, query, Grid(DOWN + SCRAPE, BACK - SCRAPE, SCRAPE))
    assert np.isnan(gone).all()
    back = await _row(client, query, Grid(BACK, END, SCRAPE))
    assert set(back.tolist()) == {NOW[measure]}


@pytest.mark.parametrize("step", [60, 300])
@pytest.mark.parametrize("phase", [SCRAPE * 7.5 / 8, None], ids=["phase known", "phase unknown"])
async def test_no_peak_is_left_in_the_charts_where_an_exporter_changed_its_name(
    client: PrometheusClient, step: int, phase: float | None
) -> None:
    resolution = Resolution(step, SCRAPE, await client.ranges_are_left_open(), phase)
    grid = Grid(START + step, DOWN, step)
    panel = DASHBOARD.panels[0]
    depth = await _row(client, render(panel.query, resolution), grid)
    assert set(depth.tolist()) == {80}
    workers = next(m.panel for m in DASHBOARD.measures if m.id == "active_workers")
    query = render(workers.query, resolution).replace("min_over", "max_over")
    assert set((await _row(client, query, grid)).tolist()) == {4}


async def test_a_changed_name_is_no_growth_and_no_shrinking(client: PrometheusClient) -> None:
    assert DASHBOARD.flow is not None
    resolution = Resolution(60, SCRAPE, await client.ranges_are_left_open())
    grid = Grid(MOVED, MOVED + 600, 60)
    flow = DASHBOARD.flow
    waiting = await _row(client, render(flow.waiting, resolution), grid)
    assert set(waiting.tolist()) == {80}


async def test_a_scrape_as_slow_as_the_lookback_of_the_source_has_no_gaps(
    client: PrometheusClient,
) -> None:
    resolution = Resolution(60, SLOW_SCRAPE, await client.ranges_are_left_open())
    panel = DASHBOARD.panels[0]
    query = render(panel.now, resolution)
    depth = await _row(client, query, Grid(SLOW_FROM, SLOW_UNTIL, 60))
    assert set(depth.tolist()) == {30}


async def test_a_slow_exporter_is_counted_once_where_a_question_may_say_how_far_to_look_back(
    client: PrometheusClient, request: pytest.FixtureRequest
) -> None:
    selector = 'ai_agents_queue_depth{instance="slow_new:1"}'
    takes_lookback = await client.takes_lookback(selector, RENAMED_UNTIL)
    takes_reach = await client.takes_reach()
    assert takes_lookback is ("prometheus-3" in request.node.name)
    assert takes_reach is ("victoria-metrics" in request.node.name)
    if takes_lookback:
        client.lookback_delta_seconds = lookback_delta_for(SLOW_SCRAPE)
    if takes_lookback or takes_reach:
        resolution = Resolution(
            60,
            SLOW_SCRAPE,
            await client.ranges_are_left_open(),
            lookback_delta_seconds=lookback_delta_for(SLOW_SCRAPE),
            takes_reach=takes_reach,
        )
        assert resolution.ends_are_seen
        panel = DASHBOARD.panels[0]
        grid = Grid(RENAMED_FROM, RENAMED_UNTIL, 60)
        for text in (panel.now, panel.query):
            query = render(text, resolution)
            assert set((await _row(client, query, grid)).tolist()) == {80}
