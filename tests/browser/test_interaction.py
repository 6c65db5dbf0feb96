"""Zoom, hover and legend: on all three charts at once, and lasting over every refresh."""

from __future__ import annotations

import re
import time

import numpy as np
from playwright.sync_api import expect
from tests.browser.conftest import Known, OpenPage
from tests.browser.known_samples import BOUNDS, latency_ms, peak_depth
from tests.browser.trends_page import PANELS, WAIT_MS, TrendsPage, epoch
from tests.rounding import words_of

from queuescope.panels import Kind

_CROSSHAIRS = """
() => [...document.querySelectorAll("[data-panel]")].map(panel => {
  const line = panel.querySelector(".qs-crosshair");
  const axis = panel.querySelector(".js-plotly-plot")._fullLayout.xaxis;
  return line.hidden ? null : axis.p2c(parseFloat(line.style.left) - axis._offset) / 1000;
})
"""
_LATENCY_VISIBILITY = """
() => document.querySelector("[data-panel=latency] .js-plotly-plot")._fullData.map(
  trace => [trace.name, trace.visible])
"""
_MARK_NODES = """
() => {
  window.marked = [...document.querySelectorAll("[data-panel]")].flatMap(panel => [
    panel, panel.querySelector(".js-plotly-plot"), panel.querySelector("svg.main-svg")]);
  window.disturbed = [];
  new MutationObserver(changes => changes.forEach(change => {
    if (change.target.getAttribute("aria-busy")) window.disturbed.push("aria-busy");
  })).observe(document.querySelector(".qs-charts"),
    { subtree: true, attributes: true, attributeFilter: ["aria-busy"] });
}
"""
_SAME_NODES = """
() => window.marked.length === 9 && [...document.querySelectorAll("[data-panel]")].flatMap(
  panel => [panel, panel.querySelector(".js-plotly-plot"), panel.querySelector("svg.main-svg")]
).every((node, i) => node === window.marked[i])
"""


def step_of(page: TrendsPage, panel: str, start: float, end: float) -> int:
    """The distance of the points that are drawn between two instants."""
    [trace, *_] = page.traces(panel).values()
    inside = trace.times[(trace.times >= start) & (trace.times <= end)]
    [step] = np.unique(np.diff(inside))
    return int(step)


def test_zooming_one_chart_zooms_all_and_fetches_finer_points_until_it_is_reset(
    open_page: OpenPage, known: Known
) -> None:
    page = open_page("?range=24h&refresh=off")
    whole = page.shown_ranges()
    page.zoom("success_rate", 0.4, 0.6)
    page.page.wait_for_function(
        "whole => [...document.querySelectorAll('.js-plotly-plot')].every("
        "plot => String(plot._fullLayout.xaxis.range[0]).slice(0, 19) !== whole)",
        arg=whole[0][0],
    )
    zoomed = page.shown_ranges()
    assert zoomed[0] == zoomed[1] == zoomed[2]
    span = epoch(zoomed[0][1]) - epoch(zoomed[0][0])
    assert abs(span - 0.2 * 86_400) < 900
    expect(page.page.get_by_text(re.compile(r"a point every \d+ (s|min)"))).to_be_visible()

    page.reset_zoom("latency", whole[0][0])
    assert page.shown_ranges() == whole
    expect(page.page.get_by_text(re.compile("a point every"))).to_be_hidden()

    # Down to the scrape interval.
    page.zoom("queue_depth", 0.90, 0.93)
    expect(page.page.get_by_text("a point every 15 s")).to_be_visible(timeout=WAIT_MS)
    [start, end] = map(epoch, page.shown_ranges()[0])
    for panel in PANELS:
        assert step_of(page, panel, start, end) == 15
        expect(page.panel(panel).locator(".qs-point")).to_contain_text("15 s")
    [depth] = page.traces("queue_depth").values()
    inside = (depth.times >= start) & (depth.times <= end)
    np.testing.assert_allclose(
        depth.values[inside], peak_depth(known.platform, depth.times[inside], 15), rtol=2e-6
    )
    p99 = page.traces("latency")["P99"]
    np.testing.assert_allclose(
        p99.values[inside],
        latency_ms(known.platform, p99.times[inside], 15, 0.99),
        rtol=2e-6,
        equal_nan=True,
    )
    # Outside the zoom the range's own points stay.
    assert depth.times[1] - depth.times[0] == 900

    page.page.get_by_role("button", name="Reset zoom").click()
    page.wait_until_drawn(900)
    [again] = page.traces("queue_depth").values()
    assert list(np.unique(np.diff(again.times))) == [900]


def test_one_tooltip_shows_what_a_point_is_and_the_crosshair_is_in_all_charts(
    open_page: OpenPage, known: Known
) -> None:
    page = open_page("?range=24h&refresh=off")
    page.hover("latency", 0.3)
    tooltip = page.plot("latency").locator(".hoverlayer .legend")
    expect(tooltip).to_have_count(1)
    expect(tooltip).to_contain_text("of the jobs finished within 15 min")
    text = tooltip.text_content() or ""
    when = re.search(r"(\d\d \w{3} \d\d:\d\d:\d\d) UTC", text)
    assert when, text
    [at] = {
        n
        for n, seconds in enumerate(page.traces("latency")["P50"].times)
        if _tooltip_time(seconds) == when.group(1)
    }
    for name, quantile in (("P50", 0.5), ("P95", 0.95), ("P99", 0.99)):
        moment = page.traces("latency")[name].times[at : at + 1]
        [value] = latency_ms(known.platform, moment, 900, quantile)
        # The buckets only show in which of them it is.
        above = next(n for n, bound in enumerate(BOUNDS) if value <= 1000 * bound)
        bucket = (1000 * BOUNDS[above - 1] if above else 0.0, 1000 * BOUNDS[above])
        words = words_of(Kind.LATENCY, value, bucket)
        assert any(f"{name} : {one}" in text for one in words), (words, text)

    page.hover("queue_depth", 0.7)
    expect(page.plot("queue_depth").locator(".hoverlayer .legend")).to_have_count(1)
    lines = page.page.evaluate(_CROSSHAIRS)
    assert None not in lines
    assert max(lines) - min(lines) <= 60
    for panel in ("success_rate", "latency"):
        expect(page.plot(panel).locator(".hoverlayer .legend")).to_have_count(1)

    page.page.mouse.move(5, 5)
    page.page.wait_for_function(f"({_CROSSHAIRS})().every(line => line === null)")


def _tooltip_time(seconds: float) -> str:
    return time.strftime("%d %b %H:%M:%S", time.gmtime(seconds))


def test_zoom_hover_and_legend_survive_three_automatic_refreshes(open_page: OpenPage) -> None:
    page = open_page("?range=1h&refresh=10")
    page.wait_until_streamlit_has_taken_over()
    page.zoom("queue_depth", 0.5, 0.8)
    expect(page.page.get_by_text("a point every 15 s")).to_be_visible(timeout=WAIT_MS)
    page.plot("latency").locator(".legendtoggle").nth(2).click()
    page.page.wait_for_function(f"({_LATENCY_VISIBILITY})()[2][1] === 'legendonly'")
    page.hover("success_rate", 0.4)
    tooltip = page.plot("success_rate").locator(".hoverlayer .legend")
    expect(tooltip).to_have_count(1)
    page.page.evaluate(_MARK_NODES)
    zoomed, pointed = page.shown_ranges(), page.page.evaluate(_CROSSHAIRS)
    asked = sum("range=1h" in url for url in page.requests if "/queuescope/view" in url)
    updated = [page.status.inner_text().partition(",")[0]]
    for _ in range(3):
        expect(page.status).not_to_contain_text(updated[-1], timeout=10_000 + WAIT_MS)
        expect(page.status).to_contain_text("updated")
        updated.append(page.status.inner_text().partition(",")[0])
    assert len(set(updated)) == 4
    asked_now = sum("range=1h" in url for url in page.requests if "/queuescope/view" in url)
    assert asked_now - asked >= 3

    assert page.shown_ranges() == zoomed
    # A browser keeps a position to some thousandths of a pixel, of which one is three seconds here.
    np.testing.assert_allclose(page.page.evaluate(_CROSSHAIRS), pointed, rtol=0, atol=0.1)
    expect(tooltip).to_have_count(1)
    assert page.page.evaluate(_LATENCY_VISIBILITY) == [
        ["P50", True],
        ["P95", True],
        ["P99", "legendonly"],
    ]
    expect(page.page.get_by_text("a point every 15 s")).to_be_visible()
    # The old chart stays on screen meanwhile: the same nodes, never marked as waiting.
    assert page.page.evaluate(_SAME_NODES)
    assert page.page.evaluate("window.disturbed") == []
