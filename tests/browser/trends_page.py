"""Performance Trends as a reader sees it: what is drawn, and the controls."""

from __future__ import annotations

import calendar
import csv
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
from playwright.sync_api import (
    Locator,
    Page,
    Request,
    TimeoutError,  # noqa: A004 - Playwright's own
    expect,
)
from tests.browser.known_samples import Floats

PANELS = ("queue_depth", "success_rate", "latency")
CARDS = (
    *("queue_depth", "success_rate", "p95_latency"),
    *("active_workers", "throughput", "oldest_waiting"),
)
WAIT_MS = 30_000
"""How long a busy machine may need for something that is usually immediate."""

_DRAWN = """
step => {
  const plots = [...document.querySelectorAll("[data-panel]")].map(
    panel => panel.hasAttribute("aria-busy") ? null : panel.querySelector(".js-plotly-plot"));
  return plots.length && plots.every(plot => plot && plot.data && plot.data.length
    && plot.querySelector("svg.main-svg")
    && (!step || Date.parse(plot.data[0].x[1] + "Z") - Date.parse(plot.data[0].x[0] + "Z")
      === step * 1000));
}
"""
_TRACES = """
panel => {
  const { dataset } = document.querySelector(`[data-panel=${panel}]`);
  const { data, _fullData } = document.querySelector(`[data-panel=${panel}] .js-plotly-plot`);
  return { live: dataset.live ?? null, traces: data.map(({ name, x, y }, i) => (
    { name, x: [...x], y: [...y], connects: _fullData[i].connectgaps })) };
}
"""
_ALL_START_AT = """
start => [...document.querySelectorAll("[data-panel] .js-plotly-plot")].every(
  plot => String(plot._fullLayout.xaxis.range[0]).slice(0, 19) === start)
"""
_RANGES = """
() => [...document.querySelectorAll("[data-panel] .js-plotly-plot")].map(
  plot => plot._fullLayout.xaxis.range.map(wall => String(wall).slice(0, 19)))
"""


FITS = """
() => document.documentElement.scrollWidth <= document.documentElement.clientWidth
"""
"""Whether nothing of the page is wider than the screen, so that it need not be scrolled."""

MARKED_AT = """
panel => [...document.querySelectorAll(`[data-panel=${panel}] .qs-mark`)].map(mark => {
  const plot = document.querySelector(`[data-panel=${panel}] .js-plotly-plot`);
  return plot._fullLayout.xaxis.p2c(parseFloat(mark.style.left)) / 1000;
})
"""
"""The positions of a chart's marks, as epoch seconds on an axis in UTC."""

# Streamlit's connection waits until the test has looked at the page that came before it.
HOLD_STREAMLIT_BACK = """
{
  const Real = window.WebSocket;
  const gate = new Promise(open => { window.letStreamlitThrough = open; });
  window.WebSocket = class extends Real {
    addEventListener(type, handler, ...rest) {
      const held = async event => { await gate; handler(event); };
      super.addEventListener(type, type === "open" ? held : handler, ...rest);
    }
  };
}
"""


@dataclass(frozen=True, eq=False)
class Trace:
    """One drawn line. ``times`` are epoch seconds, ``values`` hold NaN where a gap is drawn.

    The step that is still open is apart: ``live`` is its value so far, and up to when; None where
    it has none.
    """

    name: str
    times: Floats
    values: Floats
    walls: Sequence[str]
    live: tuple[float, float] | None
    connects_gaps: bool


@dataclass(eq=False)
class TrendsPage:
    """One open page, with the complaints and requests of its browser."""

    page: Page
    base_url: str
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("console", self._heard)
        self.page.on("pageerror", self._failed)
        self.page.on("request", self._asked)

    def stop_listening(self) -> None:
        """The tab is to show another page."""
        self.page.remove_listener("console", self._heard)
        self.page.remove_listener("pageerror", self._failed)
        self.page.remove_listener("request", self._asked)

    def _failed(self, error: Exception) -> None:
        self.complaints.append(str(error))

    def _heard(self, message: Any) -> None:
        if message.type == "error":
            self.complaints.append(message.text)

    def _asked(self, request: Request) -> None:
        self.requests.append(request.url)

    # ---- what is asked

    @property
    def views_asked(self) -> int:
        """How often the page has asked the dashboard for data."""
        return sum("/queuescope/view" in url for url in self.requests)

    def wait_for_views(self, count: int) -> None:
        until = time.monotonic() + WAIT_MS / 1000
        while self.views_asked < count:
            assert time.monotonic() < until, f"asked {self.views_asked} times, not {count}"
            self.page.wait_for_timeout(50)

    # ---- where we are

    def open(self, query: str = "", *, drawn: bool = True) -> TrendsPage:
        self.page.goto(f"{self.base_url}/{query}", wait_until="domcontentloaded")
        if drawn:
            self.wait_until_drawn()
        return self

    def wait_until_drawn(self, step: int | None = None) -> None:
        """Wait until all charts are drawn, with points ``step`` seconds apart."""
        self.page.wait_for_function(_DRAWN, arg=step, timeout=WAIT_MS)

    def wait_until_streamlit_has_taken_over(self) -> None:
        self.page.locator(".qs-slot [data-panel]").first.wait_for(timeout=WAIT_MS)
        expect(self.page.locator("#queuescope-early")).to_have_count(0)

    def parameter(self, name: str) -> str | None:
        found = re.search(rf"[?&]{name}=([^&#]*)", self.page.url)
        return found and found.group(1)

    # ---- what is drawn

    def panel(self, name: str) -> Locator:
        return self.page.locator(f"[data-panel={name}]")

    def plot(self, name: str) -> Locator:
        return self.panel(name).locator(".js-plotly-plot")

    def traces(self, panel: str, utc_offset_seconds: int = 0) -> dict[str, Trace]:
        """The lines of a chart whose axis is ``utc_offset_seconds`` ahead of UTC."""
        drawn: dict[str, Any] = self.page.evaluate(_TRACES, panel)
        # The axis has whole seconds.
        live_at = drawn["live"] and datetime.fromisoformat(drawn["live"]).timestamp()
        found = {}
        for one in drawn["traces"]:
            times = [epoch(wall) - utc_offset_seconds for wall in one["x"]]
            values = [np.nan if y is None else y for y in one["y"]]
            live = None
            if live_at and times and times[-1] == live_at // 1:
                times.pop()
                live = (live_at, values.pop())
            found[one["name"]] = Trace(
                one["name"],
                np.array(times),
                np.array(values, dtype=np.float64),
                one["x"][: len(times)],
                live,
                one["connects"],
            )
        return found

    def shown_ranges(self) -> list[list[str]]:
        """From and to of each chart's time axis, as on screen."""
        ranges: list[list[str]] = self.page.evaluate(_RANGES)
        return ranges

    def state(self, panel: str) -> str | None:
        return self.panel(panel).get_attribute("data-state")

    def expect_states(self, state: str, timeout: float = WAIT_MS) -> None:
        for name in PANELS:
            expect(self.panel(name)).to_have_attribute("data-state", state, timeout=timeout)

    # ---- what it rests on

    def source(self, name: str) -> Locator:
        """The text about a source, such as ``broker``, in a list that may be folded."""
        return self.page.locator(f"[data-source={name}]")

    def refresh_until(
        self, what: Locator, said: str | re.Pattern[str], *, attribute: str = "data-state"
    ) -> None:
        """Press *Refresh now* until an attribute has that value."""
        until = time.monotonic() + 2 * WAIT_MS / 1000
        while True:
            self.page.locator("[data-qs=refresh-now]").click()
            try:
                expect(what).to_have_attribute(attribute, said, timeout=1500)
            except AssertionError:
                assert time.monotonic() < until, what.text_content()
            else:
                return

    # ---- controls and words

    def radio(self, name: str) -> Locator:
        return self.page.get_by_role("radio", name=name, exact=True)

    def selector(self, name: str) -> Locator:
        return self.page.get_by_role("combobox", name=name, exact=True)

    def choose(self, name: str, option: str) -> None:
        self.selector(name).select_option(label=option)

    @property
    def status(self) -> Locator:
        return self.page.locator("[data-qs=status]")

    @property
    def banner(self) -> Locator:
        return self.page.locator("[data-qs=banner]")

    # ---- the screen

    def resize(self, width: int, height: int = 900) -> None:
        """Change the size, and wait for the new layout."""
        self.page.set_viewport_size({"width": width, "height": height})
        self.page.evaluate(
            "new Promise(laid => requestAnimationFrame(() => requestAnimationFrame(laid)))"
        )

    # ---- the mouse

    def drag_area(self, panel: str) -> dict[str, float]:
        box = self.panel(panel).locator(".nsewdrag").first.bounding_box()
        assert box is not None
        return {"x": box["x"], "y": box["y"], "width": box["width"], "height": box["height"]}

    def zoom(self, panel: str, start: float, end: float) -> None:
        """Drag a box over the middle of a chart, from and to being shares of its width."""
        box = self.drag_area(panel)
        middle = box["y"] + box["height"] / 2
        self.page.mouse.move(box["x"] + box["width"] * start, middle)
        self.page.mouse.down()
        self.page.mouse.move(box["x"] + box["width"] * end, middle + 4, steps=5)
        self.page.mouse.up()

    def reset_zoom(self, panel: str, starts_at: str) -> None:
        """Double-click on a chart until all charts start there. Presses that a busy page receives
        more than 300 ms apart are no double-click for Plotly.
        """
        box = self.drag_area(panel)
        repeat_until(
            lambda: self.page.mouse.dblclick(box["x"] + 150, box["y"] + 100),
            lambda timeout_ms: self.page.wait_for_function(
                _ALL_START_AT, arg=starts_at, timeout=timeout_ms
            ),
        )

    def hover(self, panel: str, share: float) -> None:
        box = self.drag_area(panel)
        middle = box["y"] + box["height"] / 2
        self.page.mouse.move(box["x"] + box["width"] * share - 3, middle)
        self.page.mouse.move(box["x"] + box["width"] * share, middle, steps=3)
        # Plotly follows the mouse some 50 ms behind.
        self.page.wait_for_timeout(300)


def card(page: TrendsPage, name: str) -> Locator:
    return page.page.locator(f'[data-kpi="{name}"]')


def verdict(page: TrendsPage) -> Locator:
    return page.page.locator(".qs-verdict")


def details_of(page: TrendsPage, panel: str) -> Locator:
    return page.panel(panel).locator(".qs-details")


def details_rows(page: TrendsPage, panel: str) -> dict[str, str]:
    """The names and values in the open details of a chart."""
    rows: list[tuple[str, str]] = details_of(page, panel).evaluate(
        "box => [...box.querySelectorAll('dt')].map(dt => [dt.textContent,"
        " dt.nextElementSibling.textContent])"
    )
    return dict(rows)


def save(page: TrendsPage, panel: str, title: str) -> tuple[str, list[dict[str, str]]]:
    """The name and the rows of the CSV file behind a button of a chart."""
    page.panel(panel).hover()
    button = page.panel(panel).locator(f".modebar-btn[data-title='{title}']")
    return saved(page, button.click)


def saved(page: TrendsPage, press: Callable[[], None]) -> tuple[str, list[dict[str, str]]]:
    with page.page.expect_download() as download:
        press()
    with download.value.path().open(encoding="utf-8", newline="") as file:
        return download.value.suggested_filename, list(csv.DictReader(file))


def wait_until_at_rest(page: Page) -> None:
    """Wait until a script has ended: a button that is pressed earlier may be redrawn, and the press
    be lost.
    """
    page.locator("[data-test-script-state=notRunning]").wait_for(timeout=WAIT_MS)


def repeat_until(act: Callable[[], object], wait_for_effect: Callable[[float], object]) -> None:
    """Do what a busy page may miss, again until its effect is there.

    ``wait_for_effect`` is given the milliseconds to wait, and raises ``TimeoutError`` after them.
    """
    for is_last in (False, False, False, True):
        act()
        try:
            wait_for_effect(WAIT_MS / 4)
        except TimeoutError:
            if is_last:
                raise
        else:
            return


def epoch(wall: str) -> float:
    """``2026-11-23 12:00:00`` read as UTC."""
    return float(calendar.timegm(time.strptime(wall[:19], "%Y-%m-%d %H:%M:%S")))


def wall(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds))


def iso(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
