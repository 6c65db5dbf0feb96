"""The whole client, and every query of the page, on each kind of server: equal numbers."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from tests.engines import ENGINES, running

from queuescope.errors import SourceError, SourceErrorKind
from queuescope.panels import Panel, Resolution, load_dashboard, render
from queuescope.prometheus import PrometheusClient, promql
from queuescope.timeseries import Floats, Frame, Grid, labels_of

pytestmark = pytest.mark.anyio

HOUR = 3600
SCRAPE = 30
END = int(time.time()) // HOUR * HOUR - HOUR
TIMES = np.arange(END - 8 * 24 * HOUR, END + 1, SCRAPE)
STEPS = {HOUR: 60, 6 * HOUR: 300, 24 * HOUR: 900, 7 * 24 * HOUR: HOUR}
"""The ranges of the page, and their steps."""

# Two hours in which one tenant's jobs fail and are slow; twenty minutes without a scrape; a
# worker that restarts, with a counter reset.
BAD_FROM, BAD_UNTIL = END - 10 * HOUR, END - 8 * HOUR
GAP_FROM, GAP_UNTIL = END - 5 * HOUR, END - 5 * HOUR + 1200
RESET = END - 7 * HOUR - 30 * 60
BAD = (TIMES > BAD_FROM) & (TIMES <= BAD_UNTIL)
SCRAPED = ~((TIMES > GAP_FROM) & (TIMES <= GAP_UNTIL))

_random = np.random.default_rng(20)
DEPTH_A = _random.integers(0, 50, len(TIMES)) + 100.0 * (TIMES == END - 2 * HOUR - 90)
DEPTH_B = _random.integers(0, 20, len(TIMES)).astype(float)
OUTCOMES = {"succeeded": (9, 4), "failed": (1, 6)}
BUCKETS = {"0.5": (5, 1), "1": (8, 2), "5": (10, 9), "+Inf": (10, 10)}
"""The increase between two scrapes: usually, and for the bad tenant in the bad hours."""
TENANTS = ("acme", "globex")


def _counter(tenant: str, usual: int, bad: int) -> Floats:
    counted = np.cumsum(np.where(BAD & (tenant == "acme"), float(bad), float(usual)))
    return np.where(TIMES >= RESET, counted - counted[TIMES == RESET] + usual, counted)


def _series() -> dict[str, tuple[Floats, Floats]]:
    jobs, bucket = (
        "ai_agents_enhancement_jobs_total",
        "ai_agents_enhancement_latency_seconds_bucket",
    )
    values: dict[str, Floats] = {
        'ai_agents_queue_depth{queue="a"}': DEPTH_A,
        'ai_agents_queue_depth{queue="b"}': DEPTH_B,
    }
    for tenant in TENANTS:
        for outcome, (usual, bad) in OUTCOMES.items():
            name = f'{jobs}{{outcome="{outcome}",tenant="{tenant}"}}'
            values[name] = _counter(tenant, usual, bad)
        for le, (usual, bad) in BUCKETS.items():
            values[f'{bucket}{{le="{le}",tenant="{tenant}"}}'] = _counter(tenant, usual, bad)
    found = {name: (TIMES[SCRAPED].astype(float), v[SCRAPED]) for name, v in values.items()}
    text = 'we"ird \\ Zürich 東京 {}'
    found[f"label_text{{text={promql.quote(text)}}}"] = (TIMES[-10:].astype(float), np.ones(10))
    return found


@dataclass(frozen=True)
class Server:
    name: str
    url: str


@pytest.fixture(scope="module", params=ENGINES)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """One of the engines with eight days of known samples, below a path, with a target down."""
    directory = tmp_path_factory.mktemp(request.param)
    with running(
        request.param, directory, _series(), prefix="/deep/path", targets=("127.0.0.1:1",)
    ) as engine:
        yield Server(request.param, engine.url)


@pytest.fixture
async def client(server: Server) -> AsyncIterator[PrometheusClient]:
    async with PrometheusClient(server.url, timeout_seconds=30) as client:
        yield client


def _row(frame: Frame, **labels: str) -> Floats:
    row: Floats = frame.values[frame.series.index(labels_of(labels))]
    return row


async def test_what_was_fetched_is_what_the_tests_are_about(
    client: PrometheusClient, server: Server
) -> None:
    version = (await client.buildinfo()).version
    expected = {"prometheus-2": "2.42.", "prometheus-3": "3.", "victoria-metrics": ""}
    assert version.startswith(expected[server.name])
    assert "/deep/path" in client.identity


async def test_instant_and_range_queries_give_the_samples(client: PrometheusClient) -> None:
    name = "ai_agents_queue_depth"
    answer = await client.query(f'{name}{{queue="a"}}', at=float(TIMES[-5]))
    (sample,) = answer.samples
    assert (dict(sample.labels), sample.value) == ({"__name__": name, "queue": "a"}, DEPTH_A[-5])
    assert sample.timestamp == TIMES[-5]

    grid = Grid(END - 3 * HOUR, END, SCRAPE)
    frame = (await client.query_range(name, grid)).frame
    for queue, depth in (("a", DEPTH_A), ("b", DEPTH_B)):
        assert depth[-len(grid) :].tolist() == _row(frame, __name__=name, queue=queue).tolist()


async def test_a_scrape_gap_is_a_gap(client: PrometheusClient) -> None:
    grid = Grid(GAP_FROM - 600, GAP_UNTIL + 600, 60)
    query = "last_over_time(ai_agents_queue_depth[31s])"
    values = (await client.query_range(query, grid)).frame.values
    at = grid.timestamps()
    missing = (at > GAP_FROM + 31) & (at <= GAP_UNTIL)
    assert np.isnan(values[:, missing]).all()
    assert np.isfinite(values[:, ~missing & (at != GAP_FROM + 30)]).all()


async def test_more_steps_than_a_server_allows_are_split(client: PrometheusClient) -> None:
    grid = Grid(END - 2 * 86_400, END, 5)
    frame = (await client.query_range("last_over_time(ai_agents_queue_depth[31s])", grid)).frame
    assert len(grid) > 3 * 11_000
    at = grid.timestamps()
    newest = np.searchsorted(TIMES, at, side="right") - 1
    known = (at <= GAP_FROM) | (at > GAP_UNTIL + SCRAPE)
    for row, depth in zip(frame.values, (DEPTH_A, DEPTH_B), strict=True):
        assert depth[newest[known]].tolist() == row[known].tolist()


async def test_a_subquery_of_more_points_than_a_server_allows_is_split(
    client: PrometheusClient,
) -> None:
    grid = Grid(END - 7 * 24 * HOUR, END, HOUR)
    frame = (await client.query_range("count_over_time(vector(1)[1h:10s])", grid)).frame
    assert set(np.unique(frame.values)) <= {360.0, 361.0}
    assert frame.values.shape == (1, 7 * 24 + 1)


async def test_series_and_labels_are_found(client: PrometheusClient) -> None:
    day = (float(END - 24 * HOUR), float(END))
    selector = "ai_agents_queue_depth"
    assert await client.series([selector], *day) == tuple(
        labels_of({"__name__": selector, "queue": queue}) for queue in "ab"
    )
    assert await client.label_values("tenant", [], *day) == TENANTS
    assert await client.label_values("queue", ['{queue=~"b|c"}'], *day) == ("b",)
    assert await client.label_values("__name__", [], *day) >= (
        "ai_agents_enhancement_jobs_total",
        "ai_agents_enhancement_latency_seconds_bucket",
        "ai_agents_queue_depth",
    )
    assert await client.series(["no_such_metric"], *day) == ()


async def test_any_label_value_can_be_selected(client: PrometheusClient) -> None:
    (text,) = await client.label_values("text", ["label_text"], float(END - 600), float(END))
    answer = await client.query(f"label_text{{text={promql.quote(text)}}}", at=float(END))
    assert {"__name__": "label_text", "text": text} == dict(answer.samples[0].labels)


async def test_rules_and_alerts_are_read(client: PrometheusClient) -> None:
    assert await client.rules() == ()
    assert await client.alerts() == ()


async def test_now_is_the_clock_of_the_server(client: PrometheusClient) -> None:
    before = time.time()
    assert before - 1 <= await client.now() <= time.time() + 1


@pytest.mark.parametrize("query", ["depth{", "sum(", 'up{a=~"("}'])
async def test_a_wrong_query_is_told(query: str, client: PrometheusClient) -> None:
    with pytest.raises(SourceError) as caught:
        await client.query(query)
    assert SourceErrorKind.BAD_DATA is caught.value.kind


async def test_windows_of_neighbouring_steps_count_each_sample_once(
    client: PrometheusClient, server: Server
) -> None:
    left_open = await client.ranges_are_left_open()
    assert left_open == (server.name != "prometheus-2")
    window = Resolution(HOUR, SCRAPE, left_open).window(HOUR)
    grid = Grid(END - 3 * HOUR, END, HOUR)
    query = f'count_over_time(ai_agents_queue_depth{{queue="a"}}[{window}])'
    counts = (await client.query_range(query, grid)).frame.values
    assert counts.tolist() == [[HOUR / SCRAPE] * 4]


@pytest.mark.parametrize("engine", ENGINES)
async def test_the_newest_samples_are_read_but_for_short_steps_of_victoria_metrics(
    engine: str, tmp_path: Path
) -> None:
    now = int(time.time()) // 60 * 60
    times = np.arange(now - 600, now + 601, 5)
    with running(engine, tmp_path, {"clock": (times, times.astype(float))}) as server:
        async with PrometheusClient(server.url) as client:
            at = int(await client.now()) // 5 * 5
            answer = await client.query("clock", at=float(at))
            assert [at] == [sample.value for sample in answer.samples]

            for step in (60, 15):
                grid = Grid.ending_at(at, 10 * step, step)
                values = (await client.query_range("clock", grid)).frame.values[0]
                lag = grid.timestamps() - values
                # It repeats the newest point before the last 30 s; see docs/engines.md.
                repeats = engine == "victoria-metrics" and step < 60
                settled = grid.timestamps() < at - 60
                assert not lag[settled].any()
                assert bool(lag[-1] > 0) == repeats


PANELS = {panel.id: panel for panel in load_dashboard("ai-agents").panels}


async def _frame(
    client: PrometheusClient, panel: Panel, span: int, by: str | None, phase: float | None = None
) -> tuple[Frame, Resolution]:
    left_open = await client.ranges_are_left_open()
    resolution = Resolution(STEPS[span], SCRAPE, left_open, phase)
    query = render(panel.query, resolution, "", by)
    grid = Grid(END - span, END, resolution.step_seconds)
    return (await client.query_range(query, grid)).frame, resolution


def _steady(grid: Grid, reach: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """The points without a change or a missing scrape in the ``reach`` seconds before them."""
    at = grid.timestamps()
    steady = np.ones(len(grid), dtype=bool)
    for change in (BAD_FROM, BAD_UNTIL, GAP_UNTIL):
        steady &= (at < change) | (at > change + reach)
    return steady & ~((at > GAP_FROM) & (at <= GAP_UNTIL))


def _peaks(depth: Floats, grid: Grid, *, carried: bool) -> Floats:
    """The highest sample within each step, or also the one still valid at its start."""
    first = grid.timestamps() - grid.step_seconds + (0 if carried else SCRAPE)
    last = grid.timestamps()
    return np.array(
        [
            depth[(f <= TIMES) & (t >= TIMES) & SCRAPED].max(initial=-1)
            for f, t in zip(first.tolist(), last.tolist(), strict=True)
        ]
    )


@pytest.mark.parametrize("span", STEPS)
@pytest.mark.parametrize("phase", [None, float(SCRAPE)])
async def test_the_peaks_of_the_queues_are_those_of_the_samples(
    phase: float | None, span: int, client: PrometheusClient
) -> None:
    frame, resolution = await _frame(client, PANELS["queue_depth"], span, "queue", phase)
    scraped = _steady(frame.grid, SCRAPE + resolution.lookback_seconds)
    for queue, depth in (("a", DEPTH_A), ("b", DEPTH_B)):
        row = _row(frame, queue=queue)
        expected = _peaks(depth, frame.grid, carried=phase is None)
        assert expected[scraped].tolist() == row[scraped].tolist()


@pytest.mark.parametrize("span", STEPS)
@pytest.mark.parametrize("by", [None, "tenant"])
async def test_the_success_rate_is_that_of_the_counters(
    by: str | None, span: int, client: PrometheusClient
) -> None:
    frame, resolution = await _frame(client, PANELS["success_rate"], span, by)
    steady = _steady(frame.grid, resolution.step_seconds + resolution.rate_window_seconds + SCRAPE)
    at = frame.grid.timestamps()
    bad = (at > BAD_FROM) & (at <= BAD_UNTIL)
    for tenant in TENANTS if by else ("",):
        worst = {"": 65.0, "acme": 40.0, "globex": 90.0}[tenant]
        row = _row(frame, **({"tenant": tenant} if tenant else {}))
        expected = np.where(bad, worst, 90.0)[steady]
        np.testing.assert_allclose(row[steady], expected, rtol=1e-9)
        assert ((worst - 1e-9 <= row) & (row <= 90 + 1e-9) | np.isnan(row)).all()


@pytest.mark.parametrize("span", STEPS)
@pytest.mark.parametrize("by", [None, "tenant"])
async def test_the_rates_of_the_buckets_are_those_of_the_counters(
    by: str | None, span: int, client: PrometheusClient
) -> None:
    frame, resolution = await _frame(client, PANELS["latency"], span, by)
    steady = _steady(frame.grid, resolution.rate_window_seconds + SCRAPE)
    at = frame.grid.timestamps()
    bad = (at > BAD_FROM) & (at <= BAD_UNTIL)
    assert steady.sum() > 0.7 * len(at)
    for le, (usual, slow) in BUCKETS.items():
        for tenant in TENANTS if by else ("",):
            of_acme = np.where(bad, slow, usual) / SCRAPE
            of_globex = np.full(len(at), usual / SCRAPE)
            expected = {"acme": of_acme, "globex": of_globex, "": of_acme + of_globex}[tenant]
            row = _row(frame, le=le, **({"tenant": tenant} if tenant else {}))
            np.testing.assert_allclose(row[steady], expected[steady], rtol=1e-9)


@pytest.mark.parametrize("panel", PANELS.values(), ids=list(PANELS))
async def test_the_present_value_of_each_panel_is_equal(
    panel: Panel, client: PrometheusClient
) -> None:
    resolution = Resolution(300, SCRAPE, await client.ranges_are_left_open())
    answer = await client.query(render(panel.now, resolution), at=float(END))
    found = {dict(sample.labels).get("le", ""): sample.value for sample in answer.samples}
    expected = {
        "queue_depth": {"": DEPTH_A[-1] + DEPTH_B[-1]},
        "success_rate": {"": 90.0},
        "latency": {le: 2 * usual / SCRAPE for le, (usual, _) in BUCKETS.items()},
    }[panel.id]
    assert found == pytest.approx(expected, rel=1e-9)
