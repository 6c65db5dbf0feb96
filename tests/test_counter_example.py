"""Typical errors of dashboards like this one, and that this one does not have them.

Each test is for one way in which a page of charts has misled its viewers. Errors that only a
browser shows (zoom, the refresh selector, an outage for a viewer) are in ``tests/browser``.
"""

from __future__ import annotations

import ast
import asyncio
import math
import re
import time
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from tests.conftest import StartPrometheus
from tests.metric_names import names_in, series_names
from tests.real_prometheus import RealPrometheus, Samples

import queuescope
from queuescope.cache import CachedReader, FrameStore
from queuescope.figures import curves_of, duration_words, panel_figure
from queuescope.figures.curves import Curves
from queuescope.instrument.metrics import BUCKETS_SECONDS, RollingSuccess
from queuescope.panels import Panel, Resolution, load_dashboard, render
from queuescope.panels.native import classic_part
from queuescope.prometheus import PrometheusClient
from queuescope.settings import RefreshSeconds
from queuescope.timeseries import Floats, Frame, Grid, Reading, State
from queuescope.view import RANGES

SOURCE = Path(queuescope.__file__).parent
RULES = Path(__file__).parents[1] / "deploy" / "prometheus" / "rules" / "queuescope.rules.yml"
DEPTH, SUCCESS, LATENCY = load_dashboard("ai-agents").panels
SCRAPE_SECONDS = 15
HOUR = 3_600


def query_of(panel: Panel, grid: Grid) -> str:
    resolution = Resolution(grid.step_seconds, SCRAPE_SECONDS, left_open=False)
    return render(panel.query, resolution)


async def read_once(prometheus: RealPrometheus, panel: Panel, grid: Grid) -> Curves:
    """The way of a reading: query, network, cache, curves."""
    client = PrometheusClient(prometheus.url)
    reader = CachedReader(client, FrameStore(None, 100_000), horizon_seconds=300, clock=time.time)
    try:
        reading = await reader.read(query_of(panel, grid), grid, source_now=time.time())
    finally:
        await client.aclose()
    assert reading.frame is not None, reading.cause
    return curves_of(panel, reading.frame, None, 8)


def scrapes(hours: float) -> Floats:
    """The times of the scrapes of the last hours."""
    end = int(time.time()) // SCRAPE_SECONDS * SCRAPE_SECONDS - 7
    return np.arange(end - hours * HOUR, end, SCRAPE_SECONDS, dtype=np.float64)


def test_every_metric_that_a_chart_of_the_default_preset_asks_for_is_exported() -> None:
    for panel in load_dashboard("ai-agents").panels:
        for step in (60, 300, 900, 3_600):
            for template in (panel.query, panel.now):
                query = render(template, Resolution(step, SCRAPE_SECONDS))
                # Workers export classic histograms; Prometheus may store them as native ones.
                query = classic_part(query)
                assert names_in(query)
                assert names_in(query) <= series_names()


def test_what_was_read_an_hour_ago_is_found_when_the_source_is_gone(
    start_prometheus: StartPrometheus, tmp_path: Path
) -> None:
    times = scrapes(3)
    prometheus = start_prometheus(series={'ai_agents_queue_depth{queue="a"}': (times, times * 0)})

    async def before_and_during() -> tuple[Reading, Reading, Reading]:
        client = PrometheusClient(prometheus.url, timeout_seconds=30)
        store = FrameStore(tmp_path / "cache", 100_000)
        reader = CachedReader(client, store, horizon_seconds=300, clock=time.time)
        now = time.time()
        # The page queries at a different time each time; the cache must not depend on it.
        then = Grid.ending_at(now - HOUR, HOUR, 60)
        good = await reader.read(query_of(DEPTH, then), then, source_now=now - HOUR)
        prometheus.kill()
        later = Grid.ending_at(now - HOUR + 777, HOUR, 60)
        bad = await reader.read(query_of(DEPTH, later), later, source_now=now - HOUR + 777)
        prometheus.start()
        # The failure itself is not cached: the next query is sent again.
        again = await reader.read(query_of(DEPTH, later), later, source_now=now - HOUR + 778)
        await client.aclose()
        store.close()
        return good, bad, again

    good, bad, again = asyncio.run(before_and_during())
    assert [good.state, bad.state, again.state] == [State.FRESH, State.STALE, State.FRESH]
    assert bad.frame is not None
    assert bad.frame.has_numbers
    assert bad.as_of == good.as_of
    assert bad.cause


def test_every_instance_and_every_queue_counts(start_prometheus: StartPrometheus) -> None:
    times = scrapes(1)
    series: Samples = {
        f'ai_agents_queue_depth{{instance="{instance}",queue="{queue}"}}': (
            times,
            times * 0 + n,
        )
        for instance, queue, n in (("a", "x", 1), ("a", "y", 20), ("b", "x", 300))
    }
    prometheus = start_prometheus(series=series)
    grid = Grid.ending_at(times[-1], 1_800, 60)
    [curve] = asyncio.run(read_once(prometheus, DEPTH, grid)).curves
    assert set(curve.values) == {321.0}


def test_quantiles_are_those_of_all_jobs_together(start_prometheus: StartPrometheus) -> None:
    times = scrapes(1)
    ticks = np.arange(len(times), dtype=np.float64)
    series: dict[str, tuple[Floats, Floats]] = {}
    for tenant, per_scrape, seconds in (("fast", 9, 1.0), ("slow", 1, 60.0)):
        for bound in (1.0, 10.0, 60.0, math.inf):
            le = "+Inf" if math.isinf(bound) else f"{bound:g}"
            name = "ai_agents_enhancement_latency_seconds_bucket"
            counts = 1e6 + ticks * (per_scrape if seconds <= bound else 0)
            series[f'{name}{{tenant="{tenant}",le="{le}"}}'] = (times, counts)
    prometheus = start_prometheus(series=series)
    grid = Grid.ending_at(times[-1], 1_800, 60)
    p50, p95, _ = asyncio.run(read_once(prometheus, LATENCY, grid)).curves
    # Nine of ten jobs take up to 1 s: the median is there, and P95 is in the slow tenth.
    np.testing.assert_allclose(p50.values, 1_000 * 0.5 / 0.9)
    np.testing.assert_allclose(p95.values, 10_000 + 50_000 * 0.5)


@pytest.mark.parametrize("name", RANGES)
def test_a_rate_looks_at_every_minute_of_its_step(name: str) -> None:
    _, step = RANGES[name]
    query = render(LATENCY.query, Resolution(step, SCRAPE_SECONDS))
    [window] = set(re.findall(r"\[(\d+)s\]", query))
    assert int(window) >= step + SCRAPE_SECONDS


@pytest.mark.parametrize("name", RANGES)
def test_a_spike_of_one_scrape_is_neither_averaged_away_nor_skipped(
    name: str, start_prometheus: StartPrometheus
) -> None:
    span, step = RANGES[name]
    times = scrapes(min(span, 30 * HOUR) / HOUR)
    values = times * 0
    values[len(times) // 2] = 500
    prometheus = start_prometheus(series={'ai_agents_queue_depth{queue="a"}': (times, values)})
    grid = Grid.ending_at(times[-1], span, step)
    [curve] = asyncio.run(read_once(prometheus, DEPTH, grid)).curves
    assert np.nanmax(curve.values) == 500


def test_the_latency_that_alerts_can_be_measured() -> None:
    rules = RULES.read_text("utf-8")
    limits = re.findall(r"latency_seconds:p95\w* > (\d+)", rules)
    assert limits
    for limit in limits:
        assert max(BUCKETS_SECONDS) > float(limit)
    for threshold in LATENCY.thresholds:
        assert max(BUCKETS_SECONDS) * LATENCY.scale > threshold.value


def test_an_alert_on_zero_also_fires_when_nothing_is_told() -> None:
    rules = RULES.read_text("utf-8")
    compared = re.findall(r"(ai_agents_\w+)\)? == 0", rules)
    assert compared
    for metric in compared:
        assert metric in series_names()
        assert f"absent({metric})" in rules


def test_the_success_rate_is_that_of_all_recent_jobs() -> None:
    now = 1_000_000.0
    rate = RollingSuccess(300, lambda: now)
    for succeeded in (True, False, True, True):
        rate.add(succeeded, now)
    assert rate.percent() == 75.0


@pytest.mark.parametrize("panel", [DEPTH, SUCCESS, LATENCY], ids=lambda panel: panel.id)
def test_an_empty_chart_holds_no_number(panel: Panel) -> None:
    curves = curves_of(panel, Frame.empty(Grid(0, 600, 60)), None, 8)
    assert curves.curves
    assert not curves.has_numbers
    for trace in panel_figure(panel, curves)["data"]:
        assert trace["connectgaps"] is False


def test_an_error_is_no_number(start_prometheus: StartPrometheus) -> None:
    prometheus = start_prometheus()
    prometheus.kill()

    async def read() -> Reading:
        client = PrometheusClient(prometheus.url, timeout_seconds=30)
        reader = CachedReader(client, FrameStore(None, 1_000), horizon_seconds=0, clock=time.time)
        grid = Grid.ending_at(time.time(), HOUR, 60)
        try:
            return await reader.read(query_of(DEPTH, grid), grid, source_now=time.time())
        finally:
            await client.aclose()

    reading = asyncio.run(read())
    assert (reading.state, reading.frame, reading.as_of) == (State.UNAVAILABLE, None, None)
    assert reading.cause


def test_no_time_is_taken_without_its_zone() -> None:
    naive = [
        f"{path.relative_to(SOURCE)}:{call.lineno}"
        for path, call in calls_in_the_source(lambda _: True)
        if isinstance(call.func, ast.Attribute)
        and (
            call.func.attr in ("utcnow", "utcfromtimestamp")
            or (call.func.attr == "now" and not call.args and names(call.func.value, "datetime"))
            or (call.func.attr == "fromtimestamp" and len(call.args) + len(call.keywords) < 2)
        )
    ]
    assert naive == []


def test_the_page_offers_the_refresh_intervals_that_can_be_set() -> None:
    class Options(HTMLParser):
        offered: list[int] = []  # noqa: RUF012 - one parser, used once
        inside = False

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            given = dict(attrs)
            if tag == "select":
                self.inside = given.get("data-qs") == "refresh"
            elif tag == "option" and self.inside:
                self.offered.append(int(given["value"] or ""))

    page = Options()
    page.feed((SOURCE / "dashboard" / "static" / "overview" / "page.html").read_text("utf-8"))
    assert tuple(page.offered) == get_args(RefreshSeconds)


def test_an_age_of_three_days_is_not_told_as_seconds() -> None:
    assert duration_words(3 * 86_400 + 20) == "3 d"
    assert duration_words(3 * 86_400 + 7_200) == "3 d 2 h"


# Takes what dashboard/ui/widgets.py has escaped, of which tests/dashboard/ui/test_widgets.py is.
_DESCRIBED_BY_THE_SERVER = {"live_html.js": ["wanted.innerHTML = data.html;"]}


def test_text_from_outside_never_becomes_markup() -> None:
    dangerous = re.compile(
        r"\.(innerHTML|outerHTML|srcdoc)\s*\+?=[^=]|insertAdjacentHTML|document\.write|\beval\("
    )
    static = SOURCE / "dashboard" / "static"
    scripts = [file for file in sorted(static.rglob("*.js")) if file.parent.name != "vendor"]
    assert len(scripts) >= 4
    for script in scripts:
        lines = script.read_text("utf-8").splitlines()
        found = [line.strip() for line in lines if dangerous.search(line)]
        assert found == _DESCRIBED_BY_THE_SERVER.get(script.name, []), script.name
    unsafe = [
        f"{path.relative_to(SOURCE)}:{call.lineno}"
        for path, call in calls_in_the_source(
            lambda call: any(keyword.arg == "unsafe_allow_html" for keyword in call.keywords)
        )
    ]
    assert unsafe == []


def test_a_label_value_is_escaped_for_plotly() -> None:
    grid = Grid(0, 60, 60)
    frame = Frame(grid, ((("queue", "<b>x</b> & y"),),), np.ones((1, 2)))
    figure = panel_figure(DEPTH, curves_of(DEPTH, frame, "queue", 8), by="queue")
    assert [trace["name"] for trace in figure["data"]] == ["&lt;b&gt;x&lt;/b&gt; &amp; y"]


def calls_in_the_source(
    wanted: Callable[[ast.Call], bool],
) -> list[tuple[Path, ast.Call]]:
    return [
        (path, node)
        for path in sorted(SOURCE.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and wanted(node)
    ]


def names(node: ast.expr, name: str) -> bool:
    """Whether an expression is ``name`` or ends in ``.name``."""
    return getattr(node, "id", None) == name or getattr(node, "attr", None) == name
