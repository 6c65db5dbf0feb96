"""Samples that are missing, odd or late: gaps stay gaps, and emptiness is explained."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from pathlib import Path

import pytest
from tests.faults import oracles
from tests.faults.conftest import Lab, three_charts
from tests.faults.proxy import FaultProxy
from tests.faults.world import PANELS, Page, Truth, platform
from tests.real_prometheus import RealPrometheus

from queuescope.panels import Dashboard as Panels
from queuescope.view import View

pytestmark = pytest.mark.anyio


class Cache(StrEnum):
    """What the cache holds before the page is read."""

    COLD = "cold"
    WARM = "warm"
    RESTARTED = "restarted"


def _caches(usual: Cache) -> pytest.MarkDecorator:
    """Each of them; without ``--long`` only ``usual``."""
    return pytest.mark.parametrize(
        "cache",
        [pytest.param(cache, marks=() if cache is usual else pytest.mark.long) for cache in Cache],
    )


async def _page(
    lab: Lab, cache: Cache, env: str, view: View | None = None, charts: Panels | None = None
) -> Page:
    """The page of one environment, checked against the truth."""
    view = view or View("1h")
    async with lab.dashboard(env=env, charts=charts) as dashboard:
        page = await dashboard.read(view)
        if cache is not Cache.COLD:
            lab.forward(400)
        if cache is Cache.WARM:
            page = await dashboard.read(view)
    if cache is Cache.RESTARTED:
        async with lab.dashboard(env=env, charts=charts) as restarted:
            page = await restarted.read(view)
    oracles.unknown_is_not_zero(page)
    oracles.drawn_is_true(page, lab.truth.of(env))
    oracles.old_values_carry_their_time(page, {}, {})
    return page


@_caches(Cache.WARM)
async def test_a_scrape_gap_stays_a_gap(cache: Cache, lab: Lab, moment: int) -> None:
    page = await _page(lab, cache, "gap")
    oracles.states_are(page, dict.fromkeys(PANELS, "fresh"))
    oracles.nothing_is_missing(page, lab.truth.of("gap"))
    for panel in PANELS:
        oracles.no_line_crosses(page, panel, moment - 1_500, moment - 1_260)


@_caches(Cache.RESTARTED)
async def test_nan_and_infinity_are_gaps_and_not_zero(cache: Cache, lab: Lab, moment: int) -> None:
    page = await _page(lab, cache, "undefined")
    oracles.states_are(page, dict.fromkeys(PANELS, "fresh"))
    oracles.nothing_is_missing(page, lab.truth.of("undefined"))
    oracles.no_line_crosses(page, "queue_depth", moment - 1_700, moment - 1_530)
    oracles.no_line_crosses(page, "queue_depth", moment - 1_100, moment - 960)


@_caches(Cache.WARM)
async def test_a_counter_reset_makes_no_negative_rate(cache: Cache, lab: Lab) -> None:
    page = await _page(lab, cache, "restarted")
    oracles.states_are(page, dict.fromkeys(PANELS, "fresh"))
    oracles.nothing_is_missing(page, lab.truth.of("restarted"))
    assert all(0 <= value <= 100 for value in page.points("success_rate")["Success rate"].values())
    assert all(min(points.values()) >= 0 for points in page.points("latency").values())


@_caches(Cache.COLD)
async def test_without_finished_jobs_there_is_no_rate_and_no_latency(
    cache: Cache, lab: Lab
) -> None:
    page = await _page(lab, cache, "idle")
    oracles.states_are(page, {"queue_depth": "fresh", "success_rate": "idle", "latency": "idle"})
    assert [page.panels[name]["now"] is None for name in PANELS] == [False, True, True]


@_caches(Cache.RESTARTED)
async def test_a_series_that_has_ended_has_no_present_value(cache: Cache, lab: Lab) -> None:
    page = await _page(lab, cache, "ended")
    oracles.states_are(page, dict.fromkeys(PANELS, "empty"))
    for panel in page.panels.values():
        assert "no sample in this range; the newest is from" in panel["cause"]
        assert panel["now"] is None


@_caches(Cache.WARM)
async def test_curves_start_at_the_first_sample(cache: Cache, lab: Lab, moment: int) -> None:
    page = await _page(lab, cache, "young")
    oracles.states_are(page, dict.fromkeys(PANELS, "fresh"))
    oracles.nothing_is_missing(page, lab.truth.of("young"))
    for panel in PANELS:
        assert all(min(points) >= moment - 1_200 for points in page.points(panel).values())


@_caches(Cache.COLD)
async def test_a_range_before_the_first_sample_says_when_the_data_start(
    cache: Cache, lab: Lab, moment: int
) -> None:
    end = (moment - 3_600) // 60 * 60
    page = await _page(lab, cache, "young", View(None, end - 3_600, end, 60))
    oracles.states_are(page, dict.fromkeys(PANELS, "empty"))
    assert all("The data start at" in panel["cause"] for panel in page.panels.values())


@_caches(Cache.RESTARTED)
async def test_a_filter_that_matches_nothing_is_named(cache: Cache, lab: Lab) -> None:
    page = await _page(lab, cache, "nowhere")
    oracles.states_are(page, dict.fromkeys(PANELS, "empty"))
    for panel in page.panels.values():
        assert 'The label filter {env="nowhere"} matches no series' in panel["cause"]
        assert panel["now"] is None


@_caches(Cache.WARM)
async def test_an_unknown_metric_is_named_with_similar_names(cache: Cache, lab: Lab) -> None:
    charts = three_charts()
    wrong = "ai_agents_queue_dpth"
    depth = replace(
        charts.panels[0],
        metrics=(wrong,),
        query=charts.panels[0].query.replace("ai_agents_queue_depth", wrong),
        now=charts.panels[0].now.replace("ai_agents_queue_depth", wrong),
    )
    charts = replace(charts, panels=(depth, *charts.panels[1:]))
    page = await _page(lab, cache, "prod", charts=charts)
    oracles.states_are(page, {"queue_depth": "empty", "success_rate": "fresh", "latency": "fresh"})
    cause = page.panels["queue_depth"]["cause"]
    assert cause.startswith(f"Prometheus has no metric {wrong}.")
    assert "ai_agents_queue_depth" in cause
    assert page.panels["queue_depth"]["now"] is None


@pytest.mark.parametrize(
    "restarted",
    [pytest.param(False, marks=pytest.mark.long), True],
    ids=["warm", "restarted"],
)
async def test_samples_that_arrive_late_correct_the_chart(
    restarted: bool, tmp_path: Path, truth: Truth, moment: int
) -> None:
    """They reach back less far than the horizon, so nothing of them was held as final."""
    server = RealPrometheus(tmp_path / "late", series=platform("prod", moment, last=-270))
    try:
        server.start()
        async with FaultProxy(server.port) as proxy:
            lab = Lab(proxy, tmp_path / "cache", replace(truth, port=server.port, _known={}))
            async with lab.dashboard() as dashboard:
                early = await dashboard.read()
                server.kill()
                server.backfill(platform("prod", moment, first=-240))
                server.start()
                lab.forward(121)
                late = await dashboard.read()
            if restarted:
                async with lab.dashboard() as again:
                    late = await again.read()
            oracles.drawn_is_true(late, lab.truth)
            oracles.nothing_is_missing(late, lab.truth)
            assert max(late.points("queue_depth")["Queue depth"]) > max(
                early.points("queue_depth")["Queue depth"]
            )
    finally:
        server.kill()
