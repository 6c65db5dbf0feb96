"""How well each text stands out from what is behind it."""

from __future__ import annotations

from typing import Literal

from playwright.sync_api import Page
from tests.browser.trends_page import WAIT_MS

Theme = Literal["light", "dark"]
THEMES: tuple[Theme, ...] = ("light", "dark")

# Every text that is painted, against the nearest opaque backgrounds below it, as WCAG measures.
CONTRASTS = """
root => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = colour => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = (top, below) => [0, 1, 2].map(i => top[i] * top[3] + below[i] * (1 - top[3]));
  const ground = element => {
    if (!element) return [255, 255, 255];
    const own = rgba(getComputedStyle(element).backgroundColor);
    return own[3] === 1 ? own.slice(0, 3) : over(own, ground(element.parentElement));
  };
  const light = rgb => {
    const [r, g, b] = rgb.map(v => v / 255)
      .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ratio = (a, b) => {
    const [x, y] = [light(a), light(b)].sort((one, two) => two - one);
    return (x + 0.05) / (y + 0.05);
  };
  const found = [];
  for (const element of document.querySelectorAll(`${root} *`)) {
    const text = [...element.childNodes].filter(node => node.nodeType === 3)
      .map(node => node.textContent.trim()).join("");
    const box = element.getBoundingClientRect();
    const style = getComputedStyle(element);
    if (!text || !box.width || style.visibility === "hidden" || style.opacity === "0") continue;
    if (element.closest("option, .modebar, defs")) continue;
    const svg = element instanceof SVGElement;
    const back = ground(svg ? element.closest("[data-panel]") : element);
    let front = rgba(svg ? style.fill : style.color);
    for (let node = element; node && node.closest(root); node = node.parentElement) {
      front[3] *= Number(getComputedStyle(node).opacity);
    }
    found.push([Math.round(ratio(over(front, back), back) * 100) / 100, text.slice(0, 40)]);
  }
  return found;
}
"""

_IS_IN = """
theme => getComputedStyle(document.querySelector(".stApp")).colorScheme === theme
  && [...document.querySelectorAll(".qs-page")].every(page => page.dataset.theme === theme)
  && !document.getAnimations().some(one => one instanceof CSSTransition)
"""


def turn_to(page: Page, theme: Theme) -> None:
    """Change what the reader's system prefers, and wait until the open page has followed."""
    page.emulate_media(color_scheme=theme)
    page.wait_for_function(_IS_IN, arg=theme, timeout=WAIT_MS)
