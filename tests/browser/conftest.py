"""One Prometheus with known samples, dashboards on it, and one browser for all tests here."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright
from tests.browser.crew import crew_scene
from tests.browser.dashboard_process import DashboardProcess
from tests.browser.known_samples import (
    DAY,
    HOUR,
    Floats,
    Jobs,
    Landmarks,
    Platform,
    known_jobs,
    known_platform,
)
from tests.browser.scenes import (
    changed_scene,
    crowded_scene,
    idle_scene,
    in_flight_scene,
    many_queues,
)
from tests.browser.trends_page import WAIT_MS, TrendsPage
from tests.flow_samples import FlowSamples
from tests.real_prometheus import RealPrometheus

CHROMIUM = shutil.which("chromium-headless-shell") or shutil.which("chromium") or "chromium"
CHROMIUM_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    # Tabs of one profile share a process and its compiled code.
    "--renderer-process-limit=1",
    # A page is closed after seconds: its code is optimized for more time than it then saves.
    "--js-flags=--no-opt,--no-maglev",
)
# The samples reach beyond the present, so that they are all there however long the tests take.
_AHEAD_SECONDS = HOUR
_USUAL: dict[str, Any] = {"viewport": {"width": 1440, "height": 1200}, "timezone_id": "UTC"}


@dataclass(frozen=True, eq=False)
class Known:
    """The Prometheus that holds all scenes, and their samples."""

    prometheus: RealPrometheus
    platform: Platform
    marks: Landmarks
    jobs: Jobs
    queues: Mapping[str, tuple[Floats, Floats]]
    flow: FlowSamples


Reader = Callable[[dict[str, Any]], BrowserContext]
OpenTab = Callable[..., Page]
KeepTab = Callable[..., Page]
OpenPage = Callable[..., TrendsPage]
DashboardFor = Callable[..., DashboardProcess]


@contextmanager
def running_chromium() -> Iterator[Browser]:
    expect.set_options(timeout=WAIT_MS)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with running_chromium() as chromium:
        yield chromium


@pytest.fixture(scope="package")
def known(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Known]:
    now = time.time()
    start, end = now - 7 * DAY - 2 * HOUR, now + _AHEAD_SECONDS
    platform, marks = known_platform(start, end, now)
    jobs = known_jobs(now - 7 * DAY - 2 * HOUR, end)
    queues = many_queues(now - DAY - HOUR, end)
    flow = FlowSamples(int(end))
    series = {
        **platform.series("known"),
        **flow.samples('scene="flow",'),
        **jobs.series("many"),
        **crowded_scene(now - 2 * HOUR, end),
        **idle_scene(now - 2 * HOUR, end),
        **in_flight_scene(marks.rest[0], end),
        **crew_scene(end),
        **changed_scene(now, end),
        **{
            f'ai_agents_queue_depth{{scene="many",queue="{queue}"}}': samples
            for queue, samples in queues.items()
        },
    }
    directory = tmp_path_factory.mktemp("known")
    with RealPrometheus(directory, series=series) as prometheus:
        yield Known(prometheus, platform, marks, jobs, queues, flow)


@pytest.fixture(scope="package")
def dashboard_for(known: Known, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DashboardFor]:
    """A dashboard on one scene of the known Prometheus, started on first use."""
    with ExitStack() as running:
        started: dict[str, DashboardProcess] = {}

        def dashboard(scene: str) -> DashboardProcess:
            if scene not in started:
                started[scene] = running.enter_context(
                    DashboardProcess(
                        tmp_path_factory.mktemp(f"dashboard-{scene}"),
                        known.prometheus.url,
                        selector=f'scene="{scene}"',
                    )
                )
            return started[scene]

        yield dashboard


@pytest.fixture(scope="package")
def reader(browser: Browser) -> Iterator[Reader]:
    """A browser profile for each set of options, which keeps its downloads."""
    profiles: dict[str, BrowserContext] = {}

    def profile(options: dict[str, Any]) -> BrowserContext:
        key = repr(sorted(options.items()))
        if key not in profiles:
            profiles[key] = browser.new_context(**options)
            # While one tab stays, the others need no window each, which costs three times a tab.
            profiles[key].new_page()
        return profiles[key]

    yield profile
    for context in profiles.values():
        context.close()


@pytest.fixture
def open_tab(reader: Reader) -> Iterator[OpenTab]:
    """Opens a tab in the browser profile for a set of options; closed when the test is over."""
    with ExitStack() as closing:

        def open_one(**options: Any) -> Page:
            return closing.enter_context(reader({**_USUAL, **options}).new_page())

        yield open_one


@pytest.fixture(scope="module")
def keep_tab(reader: Reader) -> Iterator[KeepTab]:
    """Opens a tab for a whole file, in which a page opens for half of what a new tab takes."""
    with ExitStack() as closing:

        def keep_one(**options: Any) -> Page:
            return closing.enter_context(reader({**_USUAL, **options}).new_page())

        yield keep_one


@pytest.fixture(scope="module")
def tab(keep_tab: KeepTab) -> Page:
    return keep_tab()


class FreeTabs:
    """The tabs of a file that no page is open in, for each set of options."""

    def __init__(self, keep_tab: KeepTab) -> None:
        self._keep_tab = keep_tab
        self._free: dict[str, list[Page]] = {}

    @contextmanager
    def one(self, options: dict[str, Any]) -> Iterator[Page]:
        """A tab that remembers nothing of the page before."""
        free = self._free.setdefault(repr(sorted(options.items())), [])
        tab = free.pop() if free else self._keep_tab(**options)
        yield tab
        if tab.is_closed():
            return
        tab.unroute_all(behavior="ignoreErrors")
        tab.evaluate("() => { try { sessionStorage.clear(); } catch { } }")
        tab.goto("about:blank")
        tab.emulate_media(media="null", color_scheme="null")
        tab.set_viewport_size(options["viewport"])
        free.append(tab)


@pytest.fixture(scope="module")
def free_tabs(keep_tab: KeepTab) -> FreeTabs:
    return FreeTabs(keep_tab)


@pytest.fixture
def open_page(
    browser: Browser, open_tab: OpenTab, free_tabs: FreeTabs, dashboard_for: DashboardFor
) -> Iterator[OpenPage]:
    """Opens the page of a scene, and waits until it is drawn.

    When the test is over, the page must not have complained. ``at`` opens another dashboard,
    where complaints about the network may be part of the scene. A ``newcomer`` has a browser
    that has never seen the page. What is done ``before`` stays in a tab, so that it has its own.
    """
    with ExitStack() as closing:
        opened: list[TrendsPage] = []

        def open_one(
            query: str = "",
            *,
            scene: str = "known",
            at: DashboardProcess | None = None,
            drawn: bool = True,
            newcomer: bool = False,
            before: Callable[[TrendsPage], None] | None = None,
            **context: Any,
        ) -> TrendsPage:
            options = {"viewport": {"width": 1440, "height": 900}, "timezone_id": "UTC", **context}
            if newcomer:
                tab = closing.enter_context(browser.new_context(**options)).new_page()
            elif before is not None:
                tab = open_tab(**options)
            else:
                tab = closing.enter_context(free_tabs.one(options))
            page = TrendsPage(tab, (at or dashboard_for(scene)).url)
            closing.callback(page.stop_listening)
            if at is None:
                opened.append(page)
            if before is not None:
                before(page)
            return page.open(query, drawn=drawn)

        yield open_one
        for page in opened:
            assert page.complaints == []
