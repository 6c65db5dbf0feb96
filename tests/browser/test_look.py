"""How the page looks and behaves at every size, in both themes, and whom it talks to."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect
from tests.browser.conftest import OpenPage
from tests.browser.contrasts import CONTRASTS
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


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_enough_contrast(scheme: str, open_page: OpenPage) -> None:
    page = open_page("?range=24h", color_scheme=scheme)
    page.wait_until_streamlit_has_taken_over()
    expect(page.page.locator(".qs-page")).to_have_attribute("data-theme", scheme)
    measured = page.page.evaluate(CONTRASTS, ".qs-page")
    texts = [text for _, text in measured]
    assert {"Performance Trends", "24h", "P99", "limit 1 min", "Latency"} <= set(texts)
    assert [one for one in measured if one[0] < 4.5] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_follow_the_theme_and_no_token_is_left_over(
    scheme: str, open_page: OpenPage
) -> None:
    page = open_page("?range=1h", color_scheme=scheme)
    lines = page.page.evaluate(
        "[...document.querySelectorAll('.js-plotly-plot')].flatMap("
        "plot => plot._fullData.map(trace => trace.line.color))"
    )
    assert len(lines) == 5
    assert len(set(lines[2:])) == 3
    assert all(colour.startswith(("#", "rgb")) for colour in lines)
    page.wait_until_streamlit_has_taken_over()
    expect(page.page.locator(".qs-page")).to_have_attribute("data-theme", scheme)
    page_ground, plot_ground = page.page.evaluate(
        "['.stApp', '[data-panel]'].map(name =>"
        " getComputedStyle(document.querySelector(name)).backgroundColor.match(/\\d+/g)"
        ".slice(0, 3).reduce((sum, part) => sum + Number(part), 0) / 3)"
    )
    # Streamlit's page and ours are dark together, or light together.
    assert (page_ground < 64, plot_ground < 64) == (scheme == "dark",) * 2


def test_the_page_fits_the_screen_at_any_size(open_page: OpenPage) -> None:
    page = open_page("?range=24h", viewport={"width": 390, "height": 844})
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
    # What the page holds itself (data:, blob:) is asked of nobody.
    hosts = {url.netloc for url in asked if url.scheme not in ("data", "blob")}
    assert hosts == {urlsplit(page.base_url).netloc}
    assert sockets
    assert len(page.requests) > 5


def test_the_first_paint_holds_the_charts_without_asking_for_their_data(
    open_page: OpenPage,
) -> None:
    open_page("?range=24h")
    page = open_page("?range=24h&refresh=off")
    assert page.views_asked == 0


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
