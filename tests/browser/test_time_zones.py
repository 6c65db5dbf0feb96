"""Times are those of the reader's zone, or of UTC, named on the axis and in the address."""

from __future__ import annotations

import time

from playwright.sync_api import expect
from tests.browser.conftest import OpenPage
from tests.browser.known_samples import HOUR
from tests.browser.trends_page import PANELS, wall


def test_times_are_in_the_zone_of_the_reader_or_the_one_chosen_which_the_axis_names(
    open_page: OpenPage,
) -> None:
    began = time.time()
    page = open_page("?range=6h&refresh=off", timezone_id="Australia/Darwin")
    offset = 9 * HOUR + 1_800
    for name in PANELS:
        expect(page.plot(name).locator(".xtitle")).to_have_text("Australia/Darwin, UTC+9:30")
        for trace in page.traces(name, offset).values():
            # A step may have passed since the page was made, which may have been made before.
            newest = {wall(at // 300 * 300 + offset) for at in (began - 60, began, time.time())}
            assert trace.walls[-1][:19] in newest

    page.choose("Times in", "UTC")
    expect(page.plot("latency").locator(".xtitle")).to_have_text("UTC")
    assert page.parameter("tz") == "UTC"
    [depth] = page.traces("queue_depth").values()
    assert depth.times[-1] <= time.time()

    page.choose("Times in", "Local time")
    expect(page.plot("latency").locator(".xtitle")).to_have_text("Australia/Darwin, UTC+9:30")
