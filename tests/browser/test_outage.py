"""Prometheus goes away and comes back: what is known stays, with its age; nothing is made up."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import expect
from tests.browser.conftest import OpenPage
from tests.browser.dashboard_process import DashboardProcess
from tests.browser.known_samples import HOUR, Platform, held, known_platform
from tests.browser.trends_page import (
    CARDS,
    PANELS,
    WAIT_MS,
    TrendsPage,
    card,
    details_rows,
    verdict,
)
from tests.ports import free_port
from tests.real_prometheus import RealPrometheus

# One automatic refresh, and the time that a busy machine needs to draw it.
_ONE_REFRESH_MS = 10_000 + WAIT_MS
# How long the page waits for its own server.
_PAGE_LIMIT_MS = 20_000


@dataclass(frozen=True, eq=False)
class Stage:
    platform: Platform
    prometheus: RealPrometheus
    dashboard: DashboardProcess


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A Prometheus and a dashboard on it. A test that stops one of them starts it again."""
    folder, now = tmp_path_factory.mktemp("outage"), time.time()
    platform, _ = known_platform(now - 7 * HOUR, now + HOUR, now)
    with (
        RealPrometheus(folder / "prometheus", series=platform.series("known")) as prometheus,
        DashboardProcess(folder / "dashboard", prometheus.url) as dashboard,
    ):
        yield Stage(platform, prometheus, dashboard)


def points(page: TrendsPage) -> dict[str, set[tuple[float, float]]]:
    """Everything that is drawn, by trace: (time, value); gaps are left out."""
    return {
        name: {
            (at, value)
            for at, value in zip(trace.times.tolist(), trace.values.tolist(), strict=True)
            if not np.isnan(value)
        }
        for panel in PANELS
        for name, trace in page.traces(panel).items()
    }


def depth_at(platform: Platform, moment: float) -> int:
    """How many jobs waited in all queues."""
    at = np.array([moment])
    return int(sum(held(platform.times, values, at)[0] for values in platform.depth.values()))


def assert_only_seen_points(page: TrendsPage, seen: dict[str, set[tuple[float, float]]]) -> None:
    """Nothing new is drawn, and almost nothing is missing."""
    drawn = points(page)
    assert list(drawn) == list(seen)
    for name, those in drawn.items():
        assert those <= seen[name]
        # The range moves with the clock: its oldest points leave it.
        assert len(those) >= len(seen[name]) - 3 > 0


def refresh_now(page: TrendsPage) -> None:
    page.page.get_by_role("button", name="Refresh now").click()


def age_in_seconds(page: TrendsPage) -> int:
    """The age in the warning."""
    found = re.search(r", (?:(\d+) min ?)?(?:(\d+) s)? old\.", page.banner.inner_text())
    assert found, page.banner.inner_text()
    return 60 * int(found.group(1) or 0) + int(found.group(2) or 0)


def assert_warned(page: TrendsPage, cause: re.Pattern[str]) -> None:
    """The page says what is wrong, as of when the data are, how old, and when it asks again."""
    page.expect_states("stale")
    expect(page.banner).to_be_visible()
    expect(page.banner).to_contain_text(cause)
    expect(page.banner).to_contain_text(
        re.compile(r"The charts show the data of (.* )?\d\d:\d\d:\d\d, .*\d s old\.")
    )
    expect(page.status).to_have_text(
        re.compile(r"^tried (.* )?\d\d:\d\d:\d\d, (next in|asking now)")
    )
    expect(verdict(page)).to_have_attribute("data-verdict", "unknown")
    for name in PANELS:
        expect(page.panel(name).locator(".qs-badge")).to_have_text(re.compile(r"^stale, .* old$"))
        as_of = datetime.fromisoformat(page.panel(name).get_attribute("data-as-of") or "")
        assert as_of.utcoffset() is not None
        assert time.time() - 300 < as_of.timestamp() < time.time()


def test_a_killed_prometheus_leaves_the_last_good_data_with_a_warning_until_it_is_back(
    stage: Stage, open_page: OpenPage
) -> None:
    # Nothing is read again before Prometheus is killed: the last good data are those seen here.
    page = open_page("?range=6h&refresh=off", at=stage.dashboard)
    page.radio("1h").click()
    page.wait_until_drawn(60)
    hour = points(page)
    page.radio("6h").click()
    page.wait_until_drawn(300)
    before, as_of = points(page), page.panel("latency").get_attribute("data-as-of")
    depth = card(page, "queue_depth")
    expect(depth).to_have_attribute("data-state", "fresh")

    stage.prometheus.kill()
    try:
        page.choose("Refresh", "10 s")
        refresh_now(page)
        assert_warned(page, re.compile("not accept connections", re.IGNORECASE))
        assert_only_seen_points(page, before)
        assert (page.panel("latency").get_attribute("data-as-of") or "") >= (as_of or "")
        expect(depth).to_have_attribute("data-state", "stale")
        expect(depth).to_contain_text(re.compile(r"\d+ s old, of (.* )?\d\d:\d\d:\d\d"))
        # The dashboard may have read it once more after this page had.
        of = datetime.fromisoformat(depth.get_attribute("data-as-of") or "").timestamp()
        assert int(depth.locator(".qs-figure strong").inner_text()) == depth_at(stage.platform, of)
        # The cause is visible on the chart, and more in its details.
        expect(page.panel("latency").locator(".qs-foot")).to_contain_text(
            "Prometheus does not accept connections."
        )
        page.page.get_by_role("button", name="Details of Latency").click()
        rows = details_rows(page, "latency")
        assert rows["Kind"] == "cannot_connect"
        assert rows["State"].startswith("stale. ")
        assert re.search(r"\d\d:\d\d:\d\d", rows["Last answer"])
        assert re.match(r"next in |asking now", rows["Next try"])
        page.page.keyboard.press("Escape")

        first = age_in_seconds(page)
        until = time.monotonic() + WAIT_MS / 1000
        while age_in_seconds(page) <= first:
            assert time.monotonic() < until, "the age stands still"
            page.page.wait_for_timeout(100)

        page.radio("1h").click()
        page.wait_until_drawn(60)
        assert_warned(page, re.compile("not accept connections", re.IGNORECASE))
        assert_only_seen_points(page, hour)

        viewer = open_page("?range=6h&refresh=10", at=stage.dashboard)
        assert_warned(viewer, re.compile("not accept connections", re.IGNORECASE))
        assert_only_seen_points(viewer, before)

        stage.dashboard.kill()
        stage.dashboard.start()
        viewer.open("?range=6h&refresh=10")
        assert_warned(viewer, re.compile("not accept connections", re.IGNORECASE))
        assert_only_seen_points(viewer, before)
    finally:
        stage.prometheus.start()
    for open_one in (viewer, page):
        open_one.expect_states("fresh", timeout=_ONE_REFRESH_MS)
        expect(open_one.banner).to_be_hidden()
        expect(open_one.status).to_contain_text("updated")


def test_a_frozen_prometheus_is_given_up_and_reported_within_the_time_limit(
    stage: Stage, tmp_path: Path, open_page: OpenPage
) -> None:
    with DashboardProcess(
        tmp_path, stage.prometheus.url, prometheus_timeout_seconds="12"
    ) as impatient:
        assert_given_up_and_reported(
            stage.prometheus, open_page("?range=1h&refresh=off", at=impatient)
        )


def assert_given_up_and_reported(prometheus: RealPrometheus, page: TrendsPage) -> None:
    # Nothing is read again before Prometheus is frozen: the last good data are those seen here.
    page.expect_states("fresh")
    before = points(page)
    prometheus.stop()
    try:
        page.choose("Refresh", "10 s")
        refresh_now(page)
        assert_warned(page, re.compile("timed out|in time|not answer", re.IGNORECASE))
        assert_only_seen_points(page, before)
        # The page itself still reacts at once to input that needs no Prometheus.
        page.choose("Times in", "UTC")
        # The ranges may have been read ahead; the breakdown was not.
        page.choose("Break down by", "queue")
        expect(page.panel("queue_depth")).to_have_attribute("data-state", "unavailable")
        expect(page.panel("queue_depth")).to_contain_text("No data to show")
    finally:
        prometheus.cont()
    # The other charts have no such label.
    expect(page.panel("queue_depth")).to_have_attribute(
        "data-state", "fresh", timeout=_ONE_REFRESH_MS
    )


def test_with_nothing_seen_before_there_is_an_explanation_and_not_one_number(
    tmp_path: Path, open_page: OpenPage
) -> None:
    port = free_port()
    with DashboardProcess(tmp_path, f"http://127.0.0.1:{port}") as dashboard:
        page = open_page(at=dashboard, drawn=False)
        page.expect_states("unavailable")
        expect(page.banner).to_contain_text("Check that Prometheus runs and that PROMETHEUS_URL")
        for name in PANELS:
            expect(page.panel(name)).to_contain_text("No data to show")
            assert page.panel(name).get_attribute("data-as-of") is None
        drawn = page.page.evaluate(
            "[...document.querySelectorAll('.js-plotly-plot')].flatMap(plot => plot.data)"
            ".flatMap(trace => [...trace.y]).filter(value => value !== null)"
        )
        assert drawn == []
        for name in PANELS:
            expect(page.panel(name).locator(".qs-now")).to_have_text("")
        for name in CARDS:
            expect(card(page, name).locator(".qs-figure strong")).to_have_text("–")
        expect(verdict(page)).to_have_attribute("data-verdict", "unknown")
        expect(page.status).to_contain_text("next in")


def test_a_frozen_dashboard_is_reported_after_the_time_limit_and_the_page_recovers(
    stage: Stage, open_page: OpenPage
) -> None:
    page = open_page("?range=1h&refresh=off", at=stage.dashboard)
    before = points(page)
    stage.dashboard.stop()
    try:
        page.choose("Refresh", "10 s")
        page.expect_states("stale", timeout=_ONE_REFRESH_MS + _PAGE_LIMIT_MS)
        expect(page.banner).to_contain_text("Disconnected since")
        assert_only_seen_points(page, before)
    finally:
        stage.dashboard.cont()
    page.expect_states("fresh", timeout=_ONE_REFRESH_MS + _PAGE_LIMIT_MS)
    expect(page.banner).to_be_hidden()


def test_a_stopped_dashboard_is_reported_and_another_range_shows_no_wrong_data(
    stage: Stage, open_page: OpenPage
) -> None:
    page = open_page("?range=1h&refresh=off", at=stage.dashboard)
    page.wait_until_streamlit_has_taken_over()
    expect(card(page, "queue_depth")).to_have_attribute("data-state", "fresh")
    before = points(page)
    stage.dashboard.kill()
    try:
        # Reported once the connection is lost, and not in a dialog that covers the controls.
        page.expect_states("stale")
        expect(page.banner).to_contain_text(
            re.compile(
                r"The Queuescope server does not answer\. Disconnected since (.* )?\d\d:\d\d:\d\d\."
            )
        )
        expect(page.panel("latency").locator(".qs-foot")).to_contain_text("does not answer")
        assert_only_seen_points(page, before)
        expect(page.page.get_by_role("dialog")).to_have_count(0)
        # Nothing stays green.
        expect(verdict(page)).to_have_attribute("data-verdict", "unknown")
        expect(verdict(page)).to_contain_text("The Queuescope server does not answer.")
        for name in CARDS:
            assert card(page, name).get_attribute("data-state") in ("stale", "unavailable")
        page.radio("6h").click()
        page.expect_states("unavailable")
        expect(page.radio("6h")).to_be_checked()
        for name in PANELS:
            expect(page.panel(name)).to_contain_text("No data to show")
            assert page.panel(name).get_attribute("data-as-of") is None
        page.radio("1h").click()
        page.expect_states("stale")
        assert_only_seen_points(page, before)
        page.radio("6h").click()
        page.expect_states("unavailable")
    finally:
        stage.dashboard.start()
    page.expect_states("fresh", timeout=_ONE_REFRESH_MS)
    page.wait_until_drawn(300)
    expect(page.radio("6h")).to_be_checked()
    expect(page.banner).to_be_hidden()
