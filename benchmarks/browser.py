"""How long a viewer waits, measured inside a real Chromium."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

# Its headless shell is Chromium without a screen.
_CHROMIUM = shutil.which("chromium") or shutil.which("chromium-headless-shell")
_PROBE = Path(__file__).with_name("probe.js")
_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
)
_PATIENCE_MS = 60_000
_SETTLE_MS = 1_500
WEEK_SECONDS = 7 * 86_400


def chromium_words(browser: Browser) -> str:
    """Its version, and whether it is the headless shell, as shown in a result."""
    is_shell = _CHROMIUM is not None and Path(_CHROMIUM).name != "chromium"
    return f"{browser.version}{' (headless shell)' if is_shell else ''}"


@dataclass(frozen=True, slots=True)
class Load:
    """One cold load: milliseconds to all charts painted, and the bytes of all HTTP answers."""

    drawn_ms: float
    transferred_bytes: int


@contextmanager
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_CHROMIUM, args=list(_ARGUMENTS))
        yield browser
        browser.close()


@contextmanager
def new_viewer(browser: Browser) -> Iterator[Page]:
    """A page in a new context: nothing is cached."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    context.set_default_timeout(_PATIENCE_MS)
    context.add_init_script(path=_PROBE)
    yield context.new_page()
    context.close()


def awaited(page: Page, promise: str) -> Any:
    """The value of ``promise`` (JavaScript). Raises playwright's ``Error`` if it has none within a
    minute: ``evaluate`` has no deadline of its own.
    """
    late = f"no result within {_PATIENCE_MS} ms"
    deadline = (
        f"new Promise((_, reject) => setTimeout(reject, {_PATIENCE_MS}, new Error('{late}')))"
    )
    return page.evaluate(f"Promise.race([{promise}, {deadline}])")


def load(page: Page, url: str) -> Load:
    """Open ``url`` and wait until all charts are painted."""
    page.goto(url, wait_until="commit")
    drawn = float(awaited(page, "benchmark.cold"))
    return Load(drawn, int(page.evaluate("benchmark.transferred()")))


def switch_range(page: Page, action: str) -> float:
    """Milliseconds from ``action`` (JavaScript) to the week's curves painted in all charts."""
    # Scripts that are still starting behind the charts must not count towards the switch.
    page.wait_for_timeout(_SETTLE_MS)
    taken = awaited(
        page,
        f"""(async () => {{
          const start = performance.now();
          {action};
          return await benchmark.whenDrawn({WEEK_SECONDS}) - start;
        }})()""",
    )
    return float(taken)
