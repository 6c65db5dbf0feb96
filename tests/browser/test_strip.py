"""The strip on the depth chart: each state at its time, shown by shape and in words."""

from __future__ import annotations

import re

from playwright.sync_api import expect
from tests.browser.conftest import Known, OpenPage
from tests.browser.trends_page import WAIT_MS, TrendsPage

STALLED, SHAPES = "qs-strip-x", ("qs-strip-x", "qs-strip-g", "qs-strip-c")
# The times (epoch seconds) that a shape of the strip covers, by the axis below it.
_COVERED = """
name => {
  const panel = document.querySelector("[data-panel=queue_depth]");
  const axis = panel.querySelector(".js-plotly-plot")._fullLayout.xaxis;
  const at = pixels => axis.p2c(pixels) / 1000;
  const drawn = panel.querySelector(`.qs-strip .${name}`).getAttribute("d");
  const cells = [...drawn.matchAll(/M([\\d.]+) \\S+?H([\\d.]+)/g)];
  return cells.map(([, from, to]) => [at(Number(from)), at(Number(to))]);
}
"""


def covered(page: TrendsPage, name: str) -> list[list[float]]:
    found: list[list[float]] = page.page.evaluate(_COVERED, name)
    return found


def strip_of(page: TrendsPage) -> TrendsPage:
    expect(page.panel("queue_depth").locator(".qs-strip")).to_have_attribute(
        "data-states", re.compile("x"), timeout=WAIT_MS
    )
    return page


def test_a_stall_is_drawn_at_its_time_and_described_and_a_gap_is_left_out(
    open_page: OpenPage, known: Known
) -> None:
    page = strip_of(open_page("?range=6h&tz=UTC&refresh=off", scene="flow", drawn=False))
    start, end = known.flow.stall
    [stall] = covered(page, STALLED)
    # A cell of five minutes is about the ten before its end.
    assert abs(stall[0] - start) <= 900
    assert abs(stall[1] - end) <= 600
    first, last = known.flow.gap
    for shape in (*SHAPES, "qs-strip-line"):
        for begins, ends in covered(page, shape):
            assert not first + 400 < begins < last
            assert not first + 400 < ends < last
    key = page.panel("queue_depth").locator(".qs-key")
    expect(key).to_have_text("growsclearsstalls")
    expect(page.panel("queue_depth").locator(".qs-strip")).to_have_attribute(
        "aria-label", re.compile("Arrival against completion. Last: ")
    )
    # It is no curve: the chart's are those that were promised.
    assert list(page.traces("queue_depth")) == ["Queue depth"]
    [depth] = page.traces("queue_depth").values()
    share = (known.flow.stall[1] - 1200 - depth.times[0]) / (depth.times[-1] - depth.times[0])
    page.hover("queue_depth", share)
    tooltip = page.plot("queue_depth").locator(".hoverlayer .legend")
    expect(tooltip).to_contain_text(re.compile(r"stalled: \d+ arrived, 0 completed a minute in 10"))


def test_a_zoom_shows_it_finer_and_a_breakdown_without_it(
    open_page: OpenPage, known: Known
) -> None:
    page = strip_of(open_page("?range=6h&tz=UTC&refresh=off", scene="flow", drawn=False))
    strip = page.panel("queue_depth").locator(".qs-strip")
    expect(strip).to_have_attribute("data-steps", "300")
    page.zoom("queue_depth", 0.1, 0.4)
    expect(page.page.get_by_text(re.compile("a point every"))).to_be_visible(timeout=WAIT_MS)
    expect(strip).to_have_attribute("data-steps", re.compile(r"^300 (15|20|30|60)$"))
    page.page.get_by_role("button", name="Reset zoom").click()
    page.choose("Break down by", "queue")
    expect(page.panel("queue_depth").locator(".qs-strip")).to_be_hidden(timeout=WAIT_MS)
