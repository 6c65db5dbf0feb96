"""How the page stays up to date: its own clock, which the reader sets and sees."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect
from tests.browser.conftest import OpenPage
from tests.browser.trends_page import TrendsPage


def with_a_clock_of_its_own(page: TrendsPage) -> None:
    """For a ``newcomer`` only: a browser's clock is that of all its pages, now and later."""
    page.page.clock.install()


def show_tab(page: Page, *, hidden: bool) -> None:
    """What a browser does when the reader turns to another tab, or back."""
    page.evaluate(
        "hidden => { Object.defineProperty(document, 'hidden',"
        " { configurable: true, get: () => hidden });"
        " document.dispatchEvent(new Event('visibilitychange')); }",
        hidden,
    )


def test_each_refresh_interval_takes_effect_at_once_and_only_in_a_visible_tab(
    open_page: OpenPage,
) -> None:
    page = open_page("?range=1h", before=with_a_clock_of_its_own, newcomer=True)
    for label, address, next_in in (
        ("5 min", "300", r"next in (5 min|4 min \d+ s)$"),
        ("30 s", "30", r"next in (30|[12]?\d) s$"),
        ("off", "off", "refresh is off$"),
        ("10 s", "10", r"next in (10|\d) s$"),
    ):
        page.choose("Refresh", label)
        expect(page.status).to_have_text(re.compile(next_in))
        assert page.parameter("refresh") == address
    asked = page.views_asked
    for number in range(1, 4):
        page.page.clock.fast_forward(11_000)
        page.wait_for_views(asked + number)

    page.choose("Refresh", "off")
    asked, before = page.views_asked, page.status.inner_text()
    page.page.clock.fast_forward(3_600_000)
    page.page.wait_for_timeout(300)
    assert page.views_asked == asked
    page.page.get_by_role("button", name="Refresh now").click()
    page.wait_for_views(asked + 1)
    expect(page.status).not_to_have_text(before)
    expect(page.status).to_have_text(re.compile("^updated .* refresh is off$"))

    # A hidden tab does not refresh, and catches up when it is visible again.
    page.choose("Refresh", "10 s")
    expect(page.status).to_contain_text("next in")
    show_tab(page.page, hidden=True)
    asked = page.views_asked
    page.page.clock.fast_forward(600_000)
    page.page.wait_for_timeout(300)
    assert page.views_asked == asked
    expect(page.status).to_contain_text("paused")

    show_tab(page.page, hidden=False)
    page.wait_for_views(asked + 1)
    expect(page.status).to_contain_text("next in")
