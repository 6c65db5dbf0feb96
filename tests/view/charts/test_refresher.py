"""Watched views are renewed once for all viewers, with as few queries as possible."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from tests.real_prometheus import RealPrometheus
from tests.view.conftest import Clock, CountingProxy, StartService, content, panels

from queuescope.panels import load_dashboard
from queuescope.view import RANGES, View, ViewService
from queuescope.view import service as service_module
from queuescope.view.charts.readings import recheck_seconds

pytestmark = pytest.mark.anyio

HOUR = View("1h")
DAY = View("24h")
FOREVER = 1e9


@pytest.fixture
async def proxy(prometheus: RealPrometheus) -> AsyncIterator[CountingProxy]:
    async with CountingProxy(prometheus.port) as proxy:
        yield proxy


@pytest.fixture
async def service(proxy: CountingProxy, make_service: StartService) -> AsyncIterator[ViewService]:
    service = make_service(proxy.url)
    yield service
    await service.aclose()


def just_past(clock: Clock) -> View:
    """A view whose newest point has been scraped, and may still be corrected by late samples."""
    end = int(clock()) // 60 * 60 - 120
    return View(None, end - 3_600, end, 60)


async def look(service: ViewService, view: View, every: int) -> None:
    await service.get(view, max_age_seconds=every)
    service.watch(view, every)


async def renewals(service: ViewService, view: View, since: float) -> None:
    """Wait until ``view`` has been taken after ``since``."""
    while (held := service.held(view, FOREVER)) is None or held.taken_at <= since:  # noqa: ASYNC110 - the service has no event for it
        await asyncio.sleep(0.01)


async def test_a_view_is_renewed_before_its_viewer_comes_again(
    service: ViewService, clock: Clock
) -> None:
    await look(service, HOUR, 10)
    first = await service.get(HOUR, max_age_seconds=FOREVER)
    clock.offset_seconds = 9.6
    # The refresher looks at the clock again.
    await look(service, DAY, 300)
    await renewals(service, HOUR, first.taken_at)
    clock.offset_seconds = 10
    held = service.held(HOUR, 9)
    assert held is not None
    assert held.taken_at == content(held)["takenAt"]
    assert await service.get(HOUR, max_age_seconds=10) is held


async def test_a_view_without_viewers_is_no_longer_renewed(
    service: ViewService, proxy: CountingProxy, clock: Clock
) -> None:
    await look(service, HOUR, 10)
    await look(service, DAY, 300)
    assert set(service.watched) == {HOUR, DAY}
    clock.offset_seconds = 21
    assert service.watched == (DAY,)
    before = service.held(HOUR, FOREVER)
    asked = proxy.asked.copy()
    await look(service, DAY, 300)
    await asyncio.sleep(0.1)
    assert service.held(HOUR, FOREVER) is before
    assert proxy.asked == asked


async def test_a_viewer_without_an_interval_is_not_waited_for(
    service: ViewService,
) -> None:
    await service.get(HOUR, max_age_seconds=60)
    assert service.watched == ()


@pytest.mark.usefixtures("patient")
async def test_a_refresh_in_which_nothing_can_have_changed_costs_one_question(
    service: ViewService, proxy: CountingProxy, clock: Clock
) -> None:
    """It returns the present values and the source's time; the charts are unchanged."""
    view = just_past(clock)
    await service.get(view, max_age_seconds=60)
    clock.offset_seconds = 2
    # The first one opened connections, and each new one could lead to another server.
    first = await service.get(view, max_age_seconds=1)
    proxy.asked.clear()
    clock.offset_seconds = 12
    second = await service.get(view, max_age_seconds=5)
    assert proxy.asked == {"query": 1}
    assert second.complete
    assert second.taken_at > first.taken_at
    assert not second.thorough
    for name, panel in panels(second).items():
        assert panel["figure"] == panels(first)[name]["figure"]
        # Its age counts from the request.
        assert panel["asOf"] == panels(first)[name]["asOf"]
        assert panel["now"]["asOf"] > panels(first)[name]["now"]["asOf"]


async def test_samples_that_come_late_are_looked_for_twice_a_minute(
    service: ViewService, proxy: CountingProxy, clock: Clock
) -> None:
    view = just_past(clock)
    await service.get(view, max_age_seconds=60)
    proxy.asked.clear()
    for second in range(10, 61, 10):
        clock.offset_seconds = second
        await service.get(view, max_age_seconds=5)
    assert proxy.asked["query_range"] == 2 * 3


@pytest.mark.parametrize(
    ("step", "seconds"), [(15, 30), (60, 30), (300, 30), (600, 60), (900, 90), (3600, 120)]
)
def test_a_longer_step_waits_longer_for_late_samples(step: int, seconds: int) -> None:
    assert recheck_seconds(step) == seconds


async def test_a_manual_refresh_reads_everything_again(
    service: ViewService, proxy: CountingProxy, clock: Clock
) -> None:
    view = just_past(clock)
    await service.get(view, max_age_seconds=60)
    clock.offset_seconds = 10
    scheduled = await service.get(view, max_age_seconds=5)
    proxy.asked.clear()
    by_hand = await service.get(view, max_age_seconds=1)
    assert by_hand is not scheduled
    assert by_hand.thorough
    assert proxy.asked["query_range"] == 3
    assert await service.get(view, max_age_seconds=1) is by_hand


async def test_a_panel_that_fails_is_not_asked_again_for_each_viewer(
    proxy: CountingProxy,
    make_service: StartService,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(service_module, "_PANEL_FAILED_SECONDS", 60.0)
    dashboard = load_dashboard("ai-agents")
    broken = replace(dashboard.panels[0], query="sum(", now="sum(")
    dashboard = replace(dashboard, panels=(broken, *dashboard.panels[1:]))
    service = make_service(proxy.url, dashboard=dashboard)
    first = await service.get(HOUR, max_age_seconds=60)
    assert (first.complete, first.reachable) == (False, True)
    clock.offset_seconds = 4
    assert await service.get(HOUR, max_age_seconds=60) is first
    assert await service.get(HOUR, max_age_seconds=1) is not first
    await service.aclose()


async def test_the_ranges_are_read_ahead_once(
    service: ViewService, proxy: CountingProxy, clock: Clock
) -> None:
    views = [View(name) for name in RANGES]
    await service.read_ahead(views)
    assert proxy.asked["query_range"] == 3 * len(views)
    assert service.watched == ()
    proxy.asked.clear()
    await service.read_ahead(views)
    assert proxy.asked == {}


async def test_nothing_is_read_ahead_while_the_source_is_away(
    service: ViewService, proxy: CountingProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("queuescope.view.service._READ_AHEAD_RETRY_SECONDS", 0.05)
    await proxy.refuse()
    reading = asyncio.create_task(service.read_ahead([HOUR, DAY]))
    await asyncio.sleep(0.5)
    assert not reading.done()
    assert service.held(DAY, FOREVER) is None
    await proxy.serve()
    await reading
    assert service.held(HOUR, FOREVER) is not None
    assert service.held(DAY, FOREVER) is not None


async def test_the_age_of_the_data_is_that_of_the_oldest_view_that_is_watched(
    service: ViewService, clock: Clock
) -> None:
    assert service.ages_seconds() == {}
    await look(service, just_past(clock), 300)
    clock.offset_seconds = 100
    await look(service, HOUR, 300)
    ages = service.ages_seconds()
    assert set(ages) == {"queue_depth", "success_rate", "latency"}
    # Our clock was set, not that of the source: it has aged by what the test took.
    assert all(0 <= age < 60 for age in ages.values())
