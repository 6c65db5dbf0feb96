"""The open step: its end is the present figure, its value so far follows from the samples, and
neither is ever cached.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any

import numpy as np
import pytest
from tests.browser.known_samples import (
    DAY,
    HOUR,
    INSTANCES,
    QUEUES,
    SCRAPE_OFFSET_SECONDS,
    SCRAPE_SECONDS,
    Floats,
    known_jobs,
    known_platform,
    latency_ms,
    live_depth,
    live_job_success,
    live_mean_success,
    scrape_times,
)
from tests.real_prometheus import RealPrometheus, Samples
from tests.view.conftest import Clock, CountingProxy, StartService, content, panels

from queuescope.panels import Panel, Resolution, bucket_quantiles, load_dashboard
from queuescope.prometheus import PrometheusClient
from queuescope.view import View
from queuescope.view.charts.live_end import LiveEnds, OpenPanel, Series, fetch_live_ends
from queuescope.view.source.facts import fetch_facts

pytestmark = pytest.mark.anyio

START = int(time.time()) // HOUR * HOUR - 8 * HOUR
YOUNG_SINCE = int(time.time()) - 2 * SCRAPE_SECONDS
PANELS: dict[str, Panel] = {panel.id: panel for panel in load_dashboard("ai-agents").panels}


def incident_samples(now: int) -> Samples:
    """Nothing waits until a moment ago; then 380 jobs of one queue do, and they keep waiting."""
    times = scrape_times(now - 2 * DAY, now + HOUR)
    since = times >= now - 2 * SCRAPE_SECONDS
    depth = {queue: np.zeros(len(times)) for queue in QUEUES}
    depth["priority"][since] = 380
    return {
        f'ai_agents_queue_depth{{scene="incident",queue="{queue}"}}': (times, values)
        for queue, values in depth.items()
    }


def coloured_samples(now: int) -> Samples:
    """Depth of some queues, latency of others, and of both what has no queue."""
    times = scrape_times(now - 25 * HOUR, now + HOUR)
    rising = np.arange(len(times), dtype=float)
    found: dict[str, tuple[Floats, Floats]] = {}
    for queue, waiting in (("a", 3), ("b", 4), ("d", 5), ("", 12)):
        name = f'ai_agents_queue_depth{{scene="colours",queue="{queue}"}}'
        found[name.replace(',queue=""', "")] = (times, np.full(len(times), float(waiting)))
    for queue in ("b", "c", ""):
        for le in ("1", "5", "+Inf"):
            name = (
                'ai_agents_enhancement_latency_seconds_bucket{scene="colours",'
                f'queue="{queue}",le="{le}"}}'
            )
            found[name.replace(',queue=""', "")] = (times, rising)
    return found


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealPrometheus]:
    platform, _ = known_platform(START, START + 5 * HOUR, START + 5 * HOUR)
    jobs = known_jobs(START, START + 5 * HOUR)
    young = scrape_times(YOUNG_SINCE, YOUNG_SINCE + 3 * HOUR)
    series = {
        **platform.series("known"),
        **jobs.series("jobs"),
        **incident_samples(int(time.time())),
        **coloured_samples(int(time.time())),
        'ai_agents_queue_depth{scene="young"}': (young, np.full(len(young), 7.0)),
    }
    with RealPrometheus(tmp_path_factory.mktemp("live"), series=series) as server:
        yield server


@pytest.fixture
async def client(known: RealPrometheus) -> AsyncIterator[PrometheusClient]:
    client = PrometheusClient(known.url)
    yield client
    await client.aclose()


def worst(ends: LiveEnds, name: str, of: Callable[[Iterable[float]], float]) -> float:
    """The present value and that of the open step so far, of a panel with one curve."""
    return of([value for part in (ends.series, ends.so_far) for _, value in part[name]])


def p95_ms(series: Series) -> float:
    buckets = {float(dict(labels)["le"]): rate for labels, rate in series}
    assert len(buckets) == 8
    bounds = np.array(sorted(buckets))
    counts = np.array([[buckets[bound]] for bound in bounds])
    return float(1000 * bucket_quantiles(bounds, counts, [0.95]).values[0, 0])


# Right after the step began, before its first sample, within a minute of it, and late in it.
@pytest.mark.parametrize("after", [1.5, 7.0, 31.25, 400.0, 899.0])
@pytest.mark.parametrize("step", [900, 3600])
async def test_the_value_now_and_the_value_so_far_are_those_of_the_samples(
    client: PrometheusClient, after: float, step: int
) -> None:
    platform, _ = known_platform(START, START + 5 * HOUR, START + 5 * HOUR)
    jobs = known_jobs(START, START + 5 * HOUR)
    begun, at = START + 3 * HOUR, START + 3 * HOUR + after
    facts = await fetch_facts(client, ("ai_agents_queue_depth",), 'scene="known"', START + 4 * HOUR)
    resolution = Resolution(step, SCRAPE_SECONDS, facts.left_open, SCRAPE_OFFSET_SECONDS)

    def asked(name: str, by: str | None = None, scene: str = "known") -> OpenPanel:
        return OpenPanel(PANELS[name], by, f'scene="{scene}"', resolution)

    ends = await fetch_live_ends(client, [asked(name) for name in PANELS], begun, at)
    assert (ends.error, ends.warnings) == (None, ())
    [(_, depth)] = ends.series["queue_depth"]
    assert depth == live_depth(platform, at, at)
    assert worst(ends, "queue_depth", max) == live_depth(platform, begun, at)
    [(_, success)] = ends.series["success_rate"]
    assert success == pytest.approx(live_mean_success(platform, at, at))
    assert worst(ends, "success_rate", min) == pytest.approx(live_mean_success(platform, begun, at))
    # The present value is of the last five minutes; a step that is open longer has its own value
    # beside it.
    assert bool(ends.so_far["latency"]) == (after > 300)
    for series, window in ((ends.series, 300), (ends.so_far, after + SCRAPE_SECONDS)):
        if series["latency"]:
            [expected] = latency_ms(platform, np.array([at]), window - SCRAPE_SECONDS, 0.95)
            assert p95_ms(series["latency"]) == pytest.approx(expected, rel=1e-6)

    ends = await fetch_live_ends(client, [asked("queue_depth", "queue")], begun, at)
    for labels, value in ends.series["queue_depth"]:
        keys = [(dict(labels)["queue"], instance) for instance in INSTANCES]
        assert value == live_depth(platform, at, at, keys)
    ends = await fetch_live_ends(client, [asked("success_rate", scene="jobs")], begun, at)
    assert worst(ends, "success_rate", min) == pytest.approx(live_job_success(jobs, begun, at))
    [(_, success)] = ends.series["success_rate"]
    assert success == pytest.approx(live_job_success(jobs, int(at), at))


async def test_one_chart_that_the_source_refuses_takes_no_other_along(
    client: PrometheusClient,
) -> None:
    resolution = Resolution(900, SCRAPE_SECONDS)
    depth = OpenPanel(PANELS["queue_depth"], None, 'scene="known"', resolution)
    broken = Panel(
        "broken", "Broken", PANELS["latency"].kind, "ms", "no_function(up)", "up", "", ("up",)
    )
    ends = await fetch_live_ends(
        client,
        [depth, OpenPanel(broken, None, "", resolution)],
        START + HOUR,
        START + HOUR + 60.0,
    )
    assert ends.error is None
    assert list(ends.series) == ["queue_depth"]


def _ends(panel: dict[str, Any]) -> dict[str, float]:
    return {trace["name"]: trace["live"] for trace in panel["figure"]["data"] if "live" in trace}


async def test_an_incident_shows_in_every_range_within_one_refresh(
    known: RealPrometheus, make_service: StartService
) -> None:
    service = make_service(known.url, matchers='scene="incident"')
    try:
        for name in ("1h", "6h", "24h", "7d"):
            snapshot = await service.get(View(name), max_age_seconds=1)
            depth = panels(snapshot)["queue_depth"]
            assert _ends(depth) == {"Queue depth": 380}
            assert depth["state"] == "fresh"
            view = content(snapshot)["view"]
            assert depth["figure"]["live"] == {"at": view["live"], "from": view["to"]}
            assert 0 < view["live"] - view["to"] < view["step"]
            assert depth["asOf"] == view["live"]
        by_queue = panels(await service.get(View("24h", by="queue"), max_age_seconds=1))
        assert _ends(by_queue["queue_depth"]) == {"default": 0, "priority": 380}
        past = View(None, int(time.time()) - DAY, int(time.time()) - HOUR)
        snapshot = await service.get(past, max_age_seconds=1)
        assert content(snapshot)["view"]["live"] is None
        assert _ends(panels(snapshot)["queue_depth"]) == {}
    finally:
        await service.aclose()


async def test_in_the_first_minutes_of_a_set_up_its_open_step_is_drawn(
    known: RealPrometheus, make_service: StartService
) -> None:
    service = make_service(known.url, matchers='scene="young"')
    try:
        for name in ("1h", "24h", "7d"):
            snapshot = await service.get(View(name), max_age_seconds=1)
            depth = panels(snapshot)["queue_depth"]
            assert (depth["state"], _ends(depth)) == ("fresh", {"Queue depth": 7}), name
            # The time before is not taken for idle; the first sample is found to a minute.
            live = content(snapshot)["view"]["live"]
            assert YOUNG_SINCE - SCRAPE_SECONDS <= depth["dataStart"] <= max(live, YOUNG_SINCE + 60)
    finally:
        await service.aclose()


async def test_a_value_has_one_colour_on_all_charts_and_in_all_ranges(
    known: RealPrometheus, make_service: StartService
) -> None:
    service = make_service(known.url, matchers='scene="colours"')
    try:
        seen: dict[str, set[tuple[str, str]]] = {}
        for name in ("1h", "24h", "1h"):
            taken = panels(await service.get(View(name, by="queue"), max_age_seconds=1))
            lines = [trace for panel in taken.values() for trace in panel["figure"]["data"]]
            for trace in lines:
                line = (trace["line"]["color"], trace["line"]["dash"])
                seen.setdefault(trace["name"], set()).add(line)
            notes = {panel: found["note"] for panel, found in taken.items()}
            assert notes["queue_depth"] == "up to 12 jobs have no queue"
            assert notes["latency"] == "jobs without a queue are not drawn"
            assert taken["latency"]["figure"]["point"].startswith("P95 of the jobs")
        titles = {"Success rate"}
        values = {name: lines for name, lines in seen.items() if name not in titles}
        assert set(values) == {"a", "b", "c", "d"}
        assert all(len(lines) == 1 for lines in values.values()), values
        assert len({next(iter(lines)) for lines in values.values()}) == 4
    finally:
        await service.aclose()


async def test_a_chart_of_the_present_is_stale_at_the_next_refresh_without_the_source(
    known: RealPrometheus, make_service: StartService, clock: Clock
) -> None:
    async with CountingProxy(known.port) as proxy:
        service = make_service(proxy.url, matchers='scene="incident"')
        try:
            first = {
                view: content(await service.get(view, max_age_seconds=1))
                for view in (View("24h"), View("7d"), View("24h", by="queue"))
            }
            past = View(None, int(time.time()) - DAY, int(time.time()) - HOUR)
            await service.get(past, max_age_seconds=1)
            await proxy.refuse()
            clock.offset_seconds += 10
            for view, before in first.items():
                snapshot = await service.get(view, max_age_seconds=5)
                depth = panels(snapshot)["queue_depth"]
                assert depth["state"] == "stale", view
                assert depth["cause"]
                # As of the newest answer, of which the open step was a part.
                assert depth["asOf"] == before["view"]["live"]
                assert _ends(depth) == {}
                assert not snapshot.complete
            # The past needs no source.
            held = panels(await service.get(past, max_age_seconds=5))["queue_depth"]
            assert held["state"] == "fresh"
            await proxy.serve()
            clock.offset_seconds += 60
            depth = panels(await service.get(View("24h"), max_age_seconds=1))["queue_depth"]
            assert (depth["state"], _ends(depth)) == ("fresh", {"Queue depth": 380})
        finally:
            await service.aclose()
