"""What is on screen while the page loads, and that nothing moves when Streamlit takes over."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect
from tests.browser.conftest import Known, OpenPage
from tests.browser.dashboard_process import DashboardProcess
from tests.browser.trends_page import HOLD_STREAMLIT_BACK, PANELS, TrendsPage, iso

_CHARTS = """
() => [...document.querySelectorAll("[data-panel]")].flatMap(panel => {
  const boxes = [panel, panel.querySelector(".qs-canvas"), panel.querySelector("h2")];
  return boxes.map(element => {
    const { x, y, width, height } = element.getBoundingClientRect();
    return [x, y, width, height];
  });
})
"""


@pytest.fixture
def cold(tmp_path: Path, known: Known) -> Iterator[DashboardProcess]:
    """A dashboard that has just started while Prometheus does not answer."""
    known.prometheus.stop()
    try:
        with DashboardProcess(
            tmp_path,
            known.prometheus.url,
            selector='scene="known"',
            prometheus_timeout_seconds="30",
        ) as dashboard:
            yield dashboard
    finally:
        known.prometheus.cont()


def test_a_skeleton_of_the_final_size_is_shown_until_the_first_data(
    cold: DashboardProcess, open_page: OpenPage, known: Known
) -> None:
    page = open_page("?range=24h", at=cold, drawn=False)
    for name in PANELS:
        expect(page.panel(name)).to_have_attribute("aria-busy", "true")
        expect(page.panel(name).get_by_role("status", name="Loading")).to_be_visible()
        expect(page.plot(name)).to_have_count(0)
    page.wait_until_streamlit_has_taken_over()
    waiting = page.page.evaluate(_CHARTS)

    known.prometheus.cont()
    page.wait_until_drawn()
    for name in PANELS:
        expect(page.panel(name).get_by_role("status", name="Loading")).to_be_hidden()
        expect(page.panel(name)).to_have_attribute("data-state", "fresh")
    assert page.page.evaluate(_CHARTS) == waiting
    assert page.complaints == []


def test_a_change_of_range_marks_the_charts_as_busy_until_they_are_there(
    open_page: OpenPage, known: Known
) -> None:
    page = open_page("?range=1h&refresh=off")
    # A range of its own, so that no other page has had it made already.
    end = int(known.platform.times[-1]) - 90_000
    known.prometheus.stop()
    try:
        page.page.get_by_role("radio", name="Custom").click()
        page.page.get_by_label("From").fill(iso(end - 7_200)[:16])
        page.page.get_by_label("To", exact=True).fill(iso(end)[:16])
        page.page.get_by_role("button", name="Show").click()
        for name in PANELS:
            expect(page.panel(name)).to_have_attribute("aria-busy", "true")
            expect(page.plot(name)).to_be_visible()
        expect(page.status).to_contain_text("asking now")
    finally:
        known.prometheus.cont()
    page.wait_until_drawn(15)
    for name in PANELS:
        expect(page.panel(name)).not_to_have_attribute("aria-busy", "true")


def test_nothing_moves_and_nothing_is_drawn_twice_when_streamlit_takes_over(
    open_page: OpenPage,
) -> None:
    def hold_streamlit_back(page: TrendsPage) -> None:
        page.page.add_init_script(HOLD_STREAMLIT_BACK)

    page = open_page("?range=24h", before=hold_streamlit_back)
    expect(page.page.locator("#queuescope-early [data-panel]")).to_have_count(3)
    before = page.page.evaluate(_CHARTS)
    # It would have come by now.
    page.page.wait_for_timeout(3_000)
    expect(page.page.locator("#queuescope-early [data-panel]")).to_have_count(3)
    page.page.evaluate(
        "window.early = [...document.querySelectorAll('[data-panel], .js-plotly-plot, .main-svg')]"
    )
    page.page.evaluate("window.letStreamlitThrough()")
    page.wait_until_streamlit_has_taken_over()
    assert page.page.evaluate(
        "window.early.length >= 9 && window.early.every(node => node.closest('.qs-slot'))"
    )
    assert page.page.locator(".js-plotly-plot").count() == 3
    assert page.page.evaluate(_CHARTS) == before
