"""Which time is looked at: the four ranges, a custom one, and the link that carries them."""

from __future__ import annotations

import time

from playwright.sync_api import expect
from tests.browser.conftest import Known, OpenPage
from tests.browser.known_samples import HOUR
from tests.browser.trends_page import PANELS, TrendsPage, iso


def checked(page: TrendsPage) -> list[str]:
    return page.page.get_by_role("radio", checked=True).all_inner_texts()


def test_the_page_opens_with_the_last_24_hours(open_page: OpenPage) -> None:
    page = open_page()
    assert checked(page) == ["24h"]
    [depth] = page.traces("queue_depth").values()
    assert depth.times[-1] - depth.times[0] == 24 * HOUR
    assert time.time() - 3 * 900 < depth.times[-1] <= time.time()


def test_each_choice_of_range_is_drawn_and_stands_in_the_address(open_page: OpenPage) -> None:
    page = open_page()
    for name, span, step in (
        ("1h", HOUR, 60),
        ("6h", 6 * HOUR, 300),
        ("7d", 7 * 24 * HOUR, HOUR),
        ("24h", 24 * HOUR, 900),
    ):
        page.radio(name).click()
        page.wait_until_drawn(step)
        assert checked(page) == [name]
        assert page.parameter("range") == name
        for panel in PANELS:
            for trace in page.traces(panel).values():
                assert trace.times[-1] - trace.times[0] == span


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


def test_a_custom_range_is_chosen_by_its_two_ends(open_page: OpenPage, known: Known) -> None:
    page = open_page()
    start = known.marks.spike // HOUR * HOUR - HOUR
    page.radio("Custom").click()
    page.page.get_by_label("From").fill(iso(start)[:16])
    page.page.get_by_label("To", exact=True).fill(iso(start + 4 * HOUR)[:16])
    page.page.get_by_role("button", name="Show").click()
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


def test_a_custom_range_that_ends_before_it_starts_is_refused(open_page: OpenPage) -> None:
    page = open_page()
    page.radio("Custom").click()
    page.page.get_by_label("From").fill("2026-01-02T00:00")
    page.page.get_by_label("To", exact=True).fill("2026-01-01T00:00")
    page.page.get_by_role("button", name="Show").click()
    expect(page.page.get_by_text("The start must lie before the end.")).to_be_visible()
    assert page.parameter("from") is None


def test_the_range_is_chosen_with_the_arrow_keys(open_page: OpenPage) -> None:
    page = open_page("?range=1h")
    page.radio("1h").focus()
    page.page.keyboard.press("ArrowRight")
    page.wait_until_drawn(300)
    assert checked(page) == ["6h"]
    expect(page.radio("6h")).to_be_focused()
    page.page.keyboard.press("ArrowLeft")
    page.wait_until_drawn(60)
    assert checked(page) == ["1h"]


def test_the_range_selector_is_one_stop_of_the_tab_key(open_page: OpenPage) -> None:
    page = open_page("?range=6h")
    page.radio("6h").focus()
    page.page.keyboard.press("Tab")
    expect(page.selector("Break down by")).to_be_focused()
    page.page.keyboard.press("Shift+Tab")
    expect(page.radio("6h")).to_be_focused()
