"""Times are those of the reader's zone, named on the axis, with every hour once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from playwright.sync_api import expect
from tests.browser.conftest import OpenPage
from tests.browser.dashboard_process import DashboardProcess
from tests.browser.known_samples import DAY, HOUR, scrape_times
from tests.browser.trends_page import PANELS, epoch, iso, wall
from tests.real_prometheus import RealPrometheus

BERLIN = ZoneInfo("Europe/Berlin")


def newest_change_of_clocks(to_hours: int) -> int:
    """The newest instant at which Berlin went to ``to_hours`` ahead of UTC; epoch seconds."""
    at = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    after, before = timedelta(hours=to_hours), timedelta(hours=3 - to_hours)
    while (
        at.astimezone(BERLIN).utcoffset(),
        (at - timedelta(hours=1)).astimezone(BERLIN).utcoffset(),
    ) != (after, before):
        at -= timedelta(hours=1)
    return int(at.timestamp())


def test_times_are_in_the_readers_zone_which_the_axis_names(open_page: OpenPage) -> None:
    began = time.time()
    page = open_page("?range=6h", timezone_id="Australia/Darwin")
    offset = 9 * HOUR + 1_800
    for name in PANELS:
        expect(page.plot(name).locator(".xtitle")).to_have_text("Australia/Darwin, UTC+9:30")
        for trace in page.traces(name, offset).values():
            # A step may have passed since the page was made, which may have been made before.
            newest = {wall(at // 300 * 300 + offset) for at in (began - 60, began, time.time())}
            assert trace.walls[-1][:19] in newest


def test_the_zone_can_be_set_to_utc_and_stands_in_the_address(open_page: OpenPage) -> None:
    page = open_page("?range=6h", timezone_id="Australia/Darwin")
    page.choose("Times in", "UTC")
    expect(page.plot("latency").locator(".xtitle")).to_have_text("UTC")
    assert page.parameter("tz") == "UTC"
    [depth] = page.traces("queue_depth").values()
    assert depth.times[-1] <= time.time()

    linked = open_page("?range=6h&tz=UTC", timezone_id="Australia/Darwin")
    expect(linked.plot("latency").locator(".xtitle")).to_have_text("UTC")
    linked.choose("Times in", "Local time")
    expect(linked.plot("latency").locator(".xtitle")).to_have_text("Australia/Darwin, UTC+9:30")


@pytest.fixture(scope="module")
def over_the_changes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DashboardProcess]:
    """A dashboard whose depth counts the quarters of an hour, over both changes of the clocks."""
    directory = tmp_path_factory.mktemp("clocks")
    prometheus = RealPrometheus(directory / "prometheus")
    for change in sorted(newest_change_of_clocks(hours) for hours in (1, 2)):
        times = scrape_times(change - DAY, change + DAY)
        depth = np.floor((times - (change - DAY)) / 900)
        prometheus.backfill({'ai_agents_queue_depth{queue="default"}': (times, depth)})
    with prometheus, DashboardProcess(directory / "dashboard", prometheus.url) as dashboard:
        yield dashboard


@pytest.mark.parametrize("to_hours", [1, 2])
def test_a_change_of_the_clocks_neither_doubles_nor_drops_an_hour(
    to_hours: int, over_the_changes: DashboardProcess, open_page: OpenPage
) -> None:
    change = newest_change_of_clocks(to_hours)
    start, end = change - 12 * HOUR, change + 12 * HOUR
    page = open_page(
        f"?from={iso(start)}&to={iso(end)}&step=900",
        at=over_the_changes,
        timezone_id="Europe/Berlin",
    )
    expect(page.panel("queue_depth")).to_have_attribute("data-state", "fresh")
    [depth] = page.traces("queue_depth", to_hours * HOUR).values()
    assert list(depth.times) == list(range(start, end + 1, 900))
    assert list(depth.values) == [12 * 4 + n - 1 for n in range(len(depth.times))]
    expect(page.plot("queue_depth").locator(".xtitle")).to_have_text(
        f"Europe/Berlin, UTC+{to_hours}"
    )
    expect(page.banner).to_contain_text("The clocks change within this range")
    expect(page.banner).to_contain_text(f"UTC+{to_hours}")


@pytest.mark.parametrize("to_hours", [1, 2])
def test_a_zoom_over_a_change_of_the_clocks_asks_for_the_window_that_is_seen(
    to_hours: int, over_the_changes: DashboardProcess, open_page: OpenPage
) -> None:
    """The axis keeps one offset, so the repeated hour stands on it twice as long, not twice."""
    change = newest_change_of_clocks(to_hours)
    start, end = change - 6 * HOUR, change + 6 * HOUR
    page = open_page(
        f"?from={iso(start)}&to={iso(end)}&step=900&refresh=off",
        at=over_the_changes,
        timezone_id="Europe/Berlin",
    )
    asked = page.views_asked
    page.zoom("queue_depth", 0.4, 0.6)
    page.wait_for_views(asked + 1)
    shown = [epoch(text) - to_hours * HOUR for text in page.shown_ranges()[0]]
    assert shown[0] < change < shown[1]
    query = parse_qs(
        urlsplit([url for url in page.requests if "/queuescope/view" in url][-1]).query
    )
    window = [datetime.fromisoformat(query[name][0]).timestamp() for name in ("from", "to")]
    span = shown[1] - shown[0]
    # Half a window more on each side.
    np.testing.assert_allclose(window, [shown[0] - span / 2, shown[1] + span / 2], atol=2)
    page.radio("Custom").click()
    fields = [
        page.page.locator(f"[data-qs=custom-{name}]").input_value() for name in ("from", "to")
    ]
    berlin = [datetime.fromtimestamp(at, BERLIN).strftime("%Y-%m-%dT%H:%M") for at in shown]
    assert fields == berlin
    page.page.get_by_role("button", name="Show", exact=True).click()
    page.wait_until_drawn()
    there = [datetime.fromisoformat(page.parameter(n) or "").timestamp() for n in ("from", "to")]
    np.testing.assert_allclose(there, shown, atol=60)
