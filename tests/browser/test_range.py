"""The time range: the four usual ones, a custom one, and links to them."""

from __future__ import annotations

import re
import time

from playwright.sync_api import expect
from tests.browser.conftest import Known, OpenPage
from tests.browser.known_samples import HOUR
from tests.browser.trends_page import WAIT_MS, TrendsPage, epoch, iso


def checked(page: TrendsPage) -> list[str]:
    return page.page.get_by_role("radio", checked=True).all_inner_texts()


def test_a_link_shows_what_its_sender_saw(open_page: OpenPage) -> None:
    sender = open_page("?range=7d")
    sender.choose("Refresh", "5 min")
    sender.choose("Break down by", "tenant")
    sender.radio("6h").click()
    expect(sender.panel("success_rate").locator(".qs-point")).to_contain_text("5 min")
    sender.wait_until_drawn(300)

    receiver = open_page(sender.page.url.removeprefix(f"{sender.base_url}/"))
    assert receiver.page.url == sender.page.url
    assert checked(receiver) == ["6h"]
    expect(receiver.selector("Refresh")).to_have_value("300")
    expect(receiver.selector("Break down by")).to_have_value("tenant")
    assert list(receiver.traces("success_rate")) == list(sender.traces("success_rate"))


def choose_ends(page: TrendsPage, start: float, end: float) -> None:
    """Enter a custom range, and show it."""
    page.page.get_by_label("From").fill(iso(start)[:16])
    page.page.get_by_label("To", exact=True).fill(iso(end)[:16])
    page.page.get_by_role("button", name="Show").click()


def test_a_range_is_chosen_with_the_arrow_keys_or_by_its_two_ends(
    open_page: OpenPage, known: Known
) -> None:
    page = open_page("?range=1h")
    # It is one stop of the Tab key.
    page.radio("1h").focus()
    page.page.keyboard.press("Tab")
    expect(page.selector("Break down by")).to_be_focused()
    page.page.keyboard.press("Shift+Tab")
    expect(page.radio("1h")).to_be_focused()
    page.page.keyboard.press("ArrowRight")
    page.wait_until_drawn(300)
    assert checked(page) == ["6h"]
    expect(page.radio("6h")).to_be_focused()
    page.page.keyboard.press("ArrowLeft")
    page.wait_until_drawn(60)
    assert checked(page) == ["1h"]

    page.radio("Custom").click()
    later = time.time() + 7 * 24 * HOUR
    choose_ends(page, later, later + HOUR)
    expect(page.page.get_by_text("The start lies in the future.")).to_be_visible()
    start = known.marks.spike // HOUR * HOUR - HOUR
    choose_ends(page, start, start + 4 * HOUR)
    page.wait_until_drawn(30)
    assert page.parameter("range") is None
    assert page.parameter("from") == iso(start)
    assert page.parameter("to") == iso(start + 4 * HOUR)
    [depth] = page.traces("queue_depth").values()
    assert (depth.times[0], depth.times[-1]) == (start, start + 4 * HOUR)
    assert max(depth.values) == 500

    linked = open_page(page.page.url.removeprefix(f"{page.base_url}/"))
    [same] = linked.traces("queue_depth").values()
    assert list(same.times) == list(depth.times)
    assert list(same.values) == list(depth.values)
    assert checked(linked) == ["Custom"]


def test_an_address_that_the_page_would_not_write_gets_remarks_as_text(
    open_page: OpenPage,
) -> None:
    payload = "<img src=x onerror=window.hacked=1>"
    query = f"?range={payload}&by={payload}&step=x&refresh=7&tz={payload}"
    page = open_page(query, timezone_id="Asia/Tokyo")
    expect(page.banner).to_have_attribute("data-tone", "note")
    for words in (
        f"range='{payload}': choose one of 1h, 6h, 24h, 7d, or another number of m, h, d or w.",
        "Shown instead: the last 24h.",
        f"by='{payload}': choose one of none, queue, instance, tenant.",
        "Shown instead: all together.",
        "step='x': give whole seconds, 1 to 86400. Shown instead: the usual step.",
        "refresh='7': choose one of off, 10, 30, 60, 300. Shown instead: 60 s.",
        f"tz='{payload}': give UTC or a zone such as Europe/Berlin. Shown instead: Asia/Tokyo.",
    ):
        expect(page.banner).to_contain_text(words)
    assert checked(page) == ["24h"]
    # The address says what is drawn, and the remark is gone with the next choice.
    assert page.page.url.removeprefix(page.base_url) == "/?refresh=60&range=24h"
    page.wait_until_streamlit_has_taken_over()
    expect(page.banner).to_contain_text(f"range='{payload}'")
    assert page.page.evaluate("window.hacked") is None
    assert page.page.locator("img[src=x]").count() == 0
    page.radio("1h").click()
    page.wait_until_drawn(60)
    expect(page.banner).to_be_hidden()


def test_a_range_that_ends_in_the_future_is_drawn_until_now(open_page: OpenPage) -> None:
    later = time.time() + 7 * 24 * HOUR
    page = open_page(f"?from={iso(time.time() - HOUR)}&to={iso(later)}&step=3600&refresh=off")
    expect(page.banner).to_contain_text("The range ends in the future: it is drawn until now")
    [depth] = page.traces("queue_depth").values()
    assert depth.times[-1] <= time.time()


def test_a_range_as_other_tools_write_it_follows_the_present(open_page: OpenPage) -> None:
    page = open_page("?from=now-3h&to=now&timezone=utc&refresh=1m&orgId=1", drawn=False)
    page.wait_until_drawn(30)
    expect(page.banner).to_be_hidden()
    assert checked(page) == ["Custom: 3h"]
    assert (page.parameter("range"), page.parameter("from")) == ("3h", None)
    expect(page.selector("Refresh")).to_have_value("60")
    expect(page.plot("latency").locator(".xtitle")).to_have_text("UTC")
    expect(page.panel("queue_depth")).to_have_attribute("data-live", re.compile("T"))


def test_times_of_the_address_mean_the_same_in_every_zone(open_page: OpenPage) -> None:
    end = int(time.time()) // HOUR * HOUR - HOUR
    start = end - 4 * HOUR
    query = f"?from={start * 1000}&to={iso(end)[:16]}&tz=Asia/Kolkata"
    page = open_page(query, timezone_id="Asia/Tokyo")
    [depth] = page.traces("queue_depth", 19_800).values()
    assert (depth.times[0], depth.times[-1]) == (start, end)
    assert (page.parameter("from"), page.parameter("to")) == (iso(start), iso(end))
    expect(page.banner).to_contain_text("names no time zone and is read as UTC.")


def drawn_span(page: TrendsPage, seconds: float) -> None:
    """Wait until the charts are drawn over a range of that length."""
    page.page.wait_for_function(
        """seconds => [...document.querySelectorAll(".js-plotly-plot")].every(plot => {
          const [from, to] = plot._fullLayout.xaxis.range.map(
            wall => Date.parse(`${String(wall).replace(" ", "T")}Z`) / 1000);
          return Math.abs(to - from - seconds) <= Math.max(3700, seconds / 50);
        })""",
        arg=seconds,
        timeout=WAIT_MS,
    )


def test_back_and_forward_draw_what_the_address_says(open_page: OpenPage) -> None:
    page = open_page("?range=24h&refresh=off")
    page.wait_until_streamlit_has_taken_over()
    page.radio("7d").click()
    page.wait_until_drawn(HOUR)
    page.choose("Break down by", "tenant")
    expect(page.panel("success_rate").locator(".legendtext").first).to_be_visible()
    page.choose("Refresh", "5 min")
    page.zoom("success_rate", 0.4, 0.6)
    page.page.wait_for_url("**zoom=*")
    zoomed = page.page.url
    drawn_span(page, 0.2 * 7 * 24 * HOUR)
    link = page.page.get_by_role("link", name="Jobs", exact=True)
    link.click()
    page.page.wait_for_url("**/jobs")
    expect(page.page.get_by_role("heading", name="Jobs", exact=True)).to_be_visible()

    page.page.go_back()
    page.page.wait_for_url(zoomed)
    drawn_span(page, 0.2 * 7 * 24 * HOUR)
    page.page.go_back()
    drawn_span(page, 7 * 24 * HOUR)
    expect(page.selector("Break down by")).to_have_value("tenant")
    assert page.parameter("zoom") is None
    page.page.go_back()
    expect(page.selector("Break down by")).to_have_value("none")
    page.wait_until_drawn(HOUR)
    assert (checked(page), page.parameter("range")) == (["7d"], "7d")
    page.page.go_back()
    page.wait_until_drawn(900)
    assert (checked(page), page.parameter("range")) == (["24h"], "24h")
    for _ in range(3):
        page.page.go_forward()
    page.page.wait_for_url(zoomed)
    drawn_span(page, 0.2 * 7 * 24 * HOUR)
    page.page.go_forward()
    page.page.wait_for_url("**/jobs")
    expect(page.page.get_by_role("heading", name="Jobs", exact=True)).to_be_visible()

    # A link to the dashboard shows it as it was left, and says so.
    page.page.get_by_role("link", name="Dashboard", exact=True).click()
    page.page.wait_for_url("**zoom=*")
    drawn_span(page, 0.2 * 7 * 24 * HOUR)
    # A whole new visit to the same address shows the same.
    shown = page.shown_ranges()
    page.page.reload()
    page.wait_until_drawn()
    drawn_span(page, 0.2 * 7 * 24 * HOUR)
    differences = zip(shown[0], page.shown_ranges()[0], strict=True)
    assert max(abs(epoch(a) - epoch(b)) for a, b in differences) <= 1
