"""How the page looks and behaves at every size, in both themes, and which servers it contacts."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect
from tests.browser.conftest import OpenPage
from tests.browser.contrasts import CONTRASTS, THEMES, Theme, turn_to
from tests.browser.trends_page import PANELS, TrendsPage

_FIT = """
() => {
  const width = document.documentElement.clientWidth;
  const wide = [...document.querySelectorAll(".qs-page, .qs-page *")].filter(element => {
    const box = element.getBoundingClientRect();
    return box.width > 0 && (box.right > width + 1 || box.left < -1);
  }).map(element => element.className || element.tagName);
  return { wide, scrolls: document.documentElement.scrollWidth > width };
}
"""

_PLOTS_FIT_THEIR_FRAMES = """
() => [...document.querySelectorAll(".js-plotly-plot")].every(plot => {
  const { width, height } = plot.querySelector("svg.main-svg").getBoundingClientRect();
  return Math.abs(width - plot.clientWidth) <= 1 && Math.abs(height - plot.clientHeight) <= 1;
})
"""


# Looks at the page while it is laid out for the paper, once its own script has seen to it.
_LOOK_AT_THE_PAPER = f"""
() => matchMedia("print").addEventListener("change", async ({{ matches }}) => {{
  if (!matches) return;
  for (let n = 0; n < 100; n += 1) await null;
  const all = [...document.querySelectorAll("body *")].filter(one => one.getClientRects().length);
  const named = found => found.map(one => one.className.baseVal ?? one.className);
  const within = (one, box) => {{
    const {{ left, right, top, bottom }} = one.getBoundingClientRect();
    return left > box.left - 1 && right < box.right + 1
      && top > box.top - 1 && bottom < box.bottom + 1;
  }};
  const plots = [...document.querySelectorAll(".js-plotly-plot")];
  window.paper = {{
    words: document.querySelector(".qs-printed").innerText,
    contrasts: ({CONTRASTS})(".qs-page"),
    grounds: ["body", ".stApp"].map(
      name => getComputedStyle(document.querySelector(name)).backgroundColor),
    controls: named(all.filter(one => one.matches("button, select, input, a, .modebar"))),
    stuck: named(all.filter(one => ["fixed", "sticky"].includes(getComputedStyle(one).position)
      && one.innerText?.trim())),
    cut: named(all.filter(one => one.closest(".qs-page") && !one.closest(".js-plotly-plot")
      && getComputedStyle(one).overflow !== "visible" && one.firstChild
      && (one.scrollWidth > one.clientWidth + 1 || one.scrollHeight > one.clientHeight + 1))),
    cutLabels: plots.flatMap(plot => [...plot.querySelectorAll("text")].filter(text =>
      text.getClientRects().length && !within(text, plot.getBoundingClientRect()))
      .map(text => text.textContent)),
    plots: plots.map(plot => [
      plot._fullLayout.width - plot.clientWidth, plot._fullLayout.height - plot.clientHeight,
      plot.getBoundingClientRect().width / document.documentElement.clientWidth]),
    names: [...document.querySelectorAll("[data-panel=latency] .qs-legend span")]
      .map(one => one.textContent),
  }};
}})
"""
_PAGE_OF_PDF = re.compile(rb"/Type\s*/Page\b")


def in_theme(theme: Theme) -> Callable[[TrendsPage], None]:
    return lambda page: page.page.emulate_media(color_scheme=theme)


@pytest.mark.parametrize(
    ("scene", "query", "paper", "words"),
    [
        pytest.param(
            "known",
            "?range=24h&refresh=off&tz=Asia/Kolkata",
            "A4",
            "last 24h: TIME to TIME, a point every 15 min.\nTimes are in Asia/Kolkata (UTC+5:30).",
            marks=pytest.mark.long,
        ),
        (
            "crowd",
            "?range=1h&refresh=off&tz=UTC&by=tenant",
            "Letter",
            "last 1h: TIME to TIME, a point every 1 min.\nTimes are in UTC. Broken down by tenant.",
        ),
    ],
)
def test_a_dark_page_is_printed_as_one_light_sheet_with_nothing_cut(
    scene: str, query: str, paper: str, words: str, open_page: OpenPage
) -> None:
    page = open_page(query, scene=scene, before=in_theme("dark"))
    page.wait_until_streamlit_has_taken_over()
    expect(page.page.locator(".qs-page")).to_have_attribute("data-theme", "dark")
    expect(page.page.locator("[data-kpi=p95_latency]")).to_have_attribute("data-state", "fresh")
    page.page.evaluate(_LOOK_AT_THE_PAPER)
    sheet = page.page.pdf(format=paper)
    assert len(_PAGE_OF_PDF.findall(sheet)) == 1
    printed = page.page.evaluate("window.paper")
    moment = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")
    said = moment.sub("TIME", printed["words"])
    assert said.startswith(f"The {words}")
    assert re.search(r"\. Data as of TIME, ((\d+ min )?\d+ s|\d+ min) old when printed\.\Z", said)
    assert printed["grounds"] == ["rgb(255, 255, 255)"] * 2
    assert len(printed["contrasts"]) > 30
    assert [one for one in printed["contrasts"] if one[0] < 4.5] == []
    for name in ("controls", "stuck", "cut", "cutLabels"):
        assert printed[name] == [], name
    for wider, higher, share in printed["plots"]:
        assert (wider, higher) == (0, 0)
        # Of the paper's width, all but its margins and the frame.
        assert share > 0.85
    assert len(printed["names"]) == (3 if scene == "known" else 8)
    # What is on the screen is as it was.
    expect(page.page.locator(".qs-page")).to_have_attribute("data-theme", "dark")
    page.page.wait_for_function(_PLOTS_FIT_THEIR_FRAMES)
    assert page.page.evaluate(CONTRASTS, ".qs-page") != printed["contrasts"]
    expect(page.plot("latency").locator(".infolayer .legendtext").first).to_be_visible()
    # A zoom is named, and not the range that follows the present.
    page.zoom("latency", 0.4, 0.6)
    page.page.wait_for_url("**zoom=*")
    page.page.pdf(format=paper)
    assert page.page.evaluate("window.paper.words").startswith("20")


def test_in_an_outage_the_page_is_still_printed_as_one_sheet(open_page: OpenPage) -> None:
    """The texts above and below each chart have room even on the shorter paper."""
    page = open_page("?range=24h&refresh=off&tz=Asia/Kolkata")
    page.wait_until_streamlit_has_taken_over()
    expect(page.page.locator("[data-kpi=p95_latency]")).to_have_attribute("data-state", "fresh")
    page.page.route(re.compile("/queuescope/(view|overview)"), lambda route: route.abort())
    page.page.get_by_role("button", name="Refresh now").click()
    page.expect_states("stale")
    expect(page.page.locator("[data-kpi=p95_latency]")).to_have_attribute("data-state", "stale")
    page.page.evaluate(_LOOK_AT_THE_PAPER)
    assert len(_PAGE_OF_PDF.findall(page.page.pdf(format="Letter"))) == 1
    printed = page.page.evaluate("window.paper")
    assert (printed["cut"], printed["cutLabels"]) == ([], [])
    assert [text for text in page.complaints if "ERR_FAILED" not in text] == []
    page.complaints.clear()


def test_colours_follow_the_theme_and_every_text_has_enough_contrast(open_page: OpenPage) -> None:
    page = open_page("?range=24h&refresh=off")
    page.wait_until_streamlit_has_taken_over()
    for theme in THEMES:
        turn_to(page.page, theme)
        assert_has_the_colours_of(theme, page)


def assert_has_the_colours_of(theme: Theme, page: TrendsPage) -> None:
    measured = page.page.evaluate(CONTRASTS, ".qs-page")
    texts = [text for _, text in measured]
    assert {"Performance Trends", "24h", "P99", "limit 1 min", "Latency"} <= set(texts)
    assert [one for one in measured if one[0] < 4.5] == []
    lines = page.page.evaluate(
        "[...document.querySelectorAll('.js-plotly-plot')].flatMap("
        "plot => plot._fullData.map(trace => trace.line.color))"
    )
    assert len(lines) == 5
    assert len(set(lines[2:])) == 3
    assert all(colour.startswith(("#", "rgb")) for colour in lines)
    page_ground, plot_ground = page.page.evaluate(
        "['.stApp', '[data-panel]'].map(name =>"
        " getComputedStyle(document.querySelector(name)).backgroundColor.match(/\\d+/g)"
        ".slice(0, 3).reduce((sum, part) => sum + Number(part), 0) / 3)"
    )
    # Streamlit's page and ours are dark together, or light together.
    assert (page_ground < 64, plot_ground < 64) == (theme == "dark",) * 2


def test_the_page_fits_the_screen_at_any_size(open_page: OpenPage) -> None:
    page = open_page("?range=24h", before=lambda page: page.resize(390, 844))
    page.wait_until_streamlit_has_taken_over()
    for width in (390, 320, 768, 1_100, 1_440, 390):
        page.page.set_viewport_size({"width": width, "height": 844})
        page.page.wait_for_function(_PLOTS_FIT_THEIR_FRAMES)
        assert page.page.evaluate(_FIT) == {"wide": [], "scrolls": False}
        tops = {box["y"] for name in PANELS if (box := page.panel(name).bounding_box())}
        assert len(tops) == (1 if width >= 1_100 else 3)
    for height in (900, 700):
        page.page.set_viewport_size({"width": 1_440, "height": height})
        page.page.wait_for_function(_PLOTS_FIT_THEIR_FRAMES)


def test_the_page_asks_no_other_host_for_anything(open_page: OpenPage) -> None:
    sockets: list[str] = []

    def listen(page: TrendsPage) -> None:
        page.page.on("websocket", lambda socket: sockets.append(socket.url))

    page = open_page("?range=24h", newcomer=True, before=listen)
    page.wait_until_streamlit_has_taken_over()
    page.page.wait_for_load_state("networkidle")
    asked = [urlsplit(url) for url in (*page.requests, *sockets)]
    # What the page holds itself (data:, blob:) needs no request.
    hosts = {url.netloc for url in asked if url.scheme not in ("data", "blob")}
    assert hosts == {urlsplit(page.base_url).netloc}
    assert sockets
    assert len(page.requests) > 5


def test_the_first_paint_holds_the_charts_without_asking_for_their_data(
    open_page: OpenPage,
) -> None:
    """While the answer for one page is new enough for the next, since a busy machine
    opens it late.
    """
    open_page("?range=24h")
    assert 0 in (open_page("?range=24h&refresh=off").views_asked for _ in range(5))


def test_every_control_is_reached_with_the_tab_key(open_page: OpenPage) -> None:
    page = open_page("?range=24h")
    page.wait_until_streamlit_has_taken_over()
    page.radio("24h").focus()
    reached = []
    for _ in range(4):
        page.page.keyboard.press("Tab")
        reached.append(
            page.page.evaluate("document.activeElement.getAttribute('data-qs')"),
        )
    assert reached == ["by", "zone", "refresh", "refresh-now"]
    outline = page.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
