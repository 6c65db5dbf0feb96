"""What the rendered windows read from a real Prometheus 2, whose ranges include both ends."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from tests.real_prometheus import RealPrometheus, Samples

from queuescope.panels import Panel, Resolution, load_dashboard, render
from queuescope.prometheus import PrometheusClient
from queuescope.timeseries import Floats, Grid

pytestmark = pytest.mark.anyio

SCRAPE = 15
SLOW_SCRAPE = 30
HOURS = 12
START = 1_700_006_400  # a whole hour
END = START + HOURS * 3600
SPIKE = START + 6 * 3600  # on the grid of every step
STEPS = (60, 300, 900, 3600)
BUCKETS = {"0.5": 0.5, "1": 0.8, "2": 0.99, "+Inf": 1.0}
PANELS = {panel.id: panel for panel in load_dashboard("ai-agents").panels}


def _series() -> Samples:
    times = np.arange(START, END + 1, SCRAPE)
    depth = np.where(times == SPIKE, 500.0, 3.0)
    between = np.where(times == SPIKE + 8 * SCRAPE, 400.0, 3.0)
    kept = np.ones(len(times), dtype=bool)
    kept[100] = False  # one lost scrape
    kept[400:407] = False  # seven
    jobs = np.arange(len(times), dtype=float)
    slow = np.arange(START, END + 1, SLOW_SCRAPE)
    return {
        'spike{queue="a"}': (times, depth),
        'ai_agents_queue_depth{queue="a"}': (times, depth),
        'ai_agents_queue_depth{queue="b"}': (times, between),
        "holey": (times[kept], depth[kept]),
        'ai_agents_enhancement_jobs_total{outcome="succeeded",kind="slow"}': (
            slow,
            np.arange(len(slow), dtype=float) * 9,
        ),
        'ai_agents_enhancement_jobs_total{outcome="failed",kind="slow"}': (
            slow,
            np.arange(len(slow), dtype=float),
        ),
        **{
            f'ai_agents_enhancement_latency_seconds_bucket{{le="{le}"}}': (times, jobs * share)
            for le, share in BUCKETS.items()
        },
    }


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealPrometheus]:
    with RealPrometheus(tmp_path_factory.mktemp("prometheus"), series=_series()) as server:
        yield server


async def _ask(prometheus: RealPrometheus, query: str, grid: Grid) -> Floats:
    async with PrometheusClient(prometheus.url) as client:
        frame = (await client.query_range(query, grid)).frame
    assert len(frame.series) == 1, query
    row: Floats = frame.values[0]
    return row


async def _resolution(prometheus: RealPrometheus, step: int, scrape: int = SCRAPE) -> Resolution:
    async with PrometheusClient(prometheus.url) as client:
        return Resolution(step, scrape, await client.ranges_are_left_open())


def _grid(step: int) -> Grid:
    return Grid(START + 7200, END, step)


def _bare(query: str) -> Panel:
    depth = PANELS["queue_depth"]
    return Panel(
        "queue_depth", "x", depth.kind, "x", query, query, "x", ("spike",), breakdowns=("queue",)
    )


@pytest.mark.parametrize("step", STEPS)
async def test_a_sample_on_a_grid_point_is_counted_in_one_step_only(
    prometheus: RealPrometheus, step: int
) -> None:
    panel = _bare("count_over_time(spike{$matchers}[$step])")
    query = render(panel.query, await _resolution(prometheus, step))
    counts = await _ask(prometheus, query, _grid(step))
    assert counts.tolist() == [step / SCRAPE] * len(counts)


@pytest.mark.parametrize("step", STEPS)
async def test_a_spike_on_a_grid_point_is_the_maximum_of_one_step_only(
    prometheus: RealPrometheus, step: int
) -> None:
    panel = _bare("max_over_time(spike{$matchers}[$step])")
    query = render(panel.query, await _resolution(prometheus, step))
    peaks = await _ask(prometheus, query, _grid(step))
    at = _grid(step).index(SPIKE)
    assert np.flatnonzero(peaks == 500).tolist() == [at]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("phase", [SCRAPE, None], ids=["phase known", "phase unknown"])
async def test_a_single_scrape_of_a_deep_queue_is_the_peak_at_every_step(
    prometheus: RealPrometheus, step: int, phase: float | None
) -> None:
    panel = PANELS["queue_depth"]
    resolution = replace(await _resolution(prometheus, step), phase_seconds=phase)
    query = render(panel.query, resolution)
    peaks = await _ask(prometheus, query, _grid(step))
    at = _grid(step).index(SPIKE)
    assert peaks[at] >= 500
    # Queues that are full two minutes apart do not add up to one peak.
    assert np.nanmax(peaks) == 503
    if phase is None:
        # The sample is valid until the next one, so the step that begins there may show it too.
        assert set(np.flatnonzero(peaks >= 500).tolist()) <= {at, at + 1}
    else:
        assert np.flatnonzero(peaks >= 500).tolist() == [at]
        assert peaks[at] == 503
        assert peaks[_grid(step).index(SPIKE + 8 * SCRAPE + step - SCRAPE)] == 403


async def test_one_lost_scrape_is_no_gap_and_seven_are(prometheus: RealPrometheus) -> None:
    resolution = await _resolution(prometheus, SCRAPE)
    panel = _bare("sum$by(last_over_time(holey{$matchers}[$lookback]))")
    query = render(panel.query, resolution)
    grid = Grid(START, END, SCRAPE)
    values = await _ask(prometheus, query, grid)
    assert np.isfinite(values[:400]).all()
    assert np.isnan(values[400:407]).sum() == 3
    assert np.isfinite(values[407:]).all()


@pytest.mark.parametrize("step", STEPS)
async def test_the_rate_window_covers_each_step_whole(
    prometheus: RealPrometheus, step: int
) -> None:
    panel = PANELS["latency"]
    query = render(panel.query, await _resolution(prometheus, step))
    async with PrometheusClient(prometheus.url) as client:
        frame = (await client.query_range(query, _grid(step))).frame
    found = {dict(labels)["le"]: frame.values[row] for row, labels in enumerate(frame.series)}
    assert set(found) == set(BUCKETS)
    for le, share in BUCKETS.items():
        np.testing.assert_allclose(found[le], share / SCRAPE, rtol=1e-9)


@pytest.mark.parametrize("step", [30, 60, 300, 3600])
async def test_the_success_rate_has_a_point_at_every_step_of_a_slow_scrape(
    prometheus: RealPrometheus, step: int
) -> None:
    panel = PANELS["success_rate"]
    resolution = await _resolution(prometheus, step, SLOW_SCRAPE)
    query = render(panel.query, resolution, 'kind="slow"')
    rates = await _ask(prometheus, query, _grid(step))
    np.testing.assert_allclose(rates, 90.0, rtol=1e-9)


@pytest.mark.parametrize("left_open", [True, False])
def test_no_subquery_is_coarser_than_its_step(left_open: bool) -> None:
    for scrape in (1, 2, 5, 15, 30, 45, 60, 120, 300, 3600):
        for step in (1, 2, 5, 15, 30, 60, 300, 900, 3600, 86_400):
            if step >= scrape:
                found = Resolution(step, scrape, left_open).placeholders()
                assert 1 <= int(found["coarse"].rstrip("s")) <= step
                assert 1 <= int(found["fine"].rstrip("s")) <= max(1, scrape // 2)
                assert found["shift"] == ""
