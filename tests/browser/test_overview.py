"""Verdict, cards and alerts: right, in their place from the start, and never green by guess."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Route, expect
from tests.browser.conftest import OpenPage
from tests.browser.dashboard_process import DashboardProcess, get
from tests.browser.trends_page import CARDS, MARKED_AT, WAIT_MS, TrendsPage, card, iso, verdict
from tests.instrument.conftest import until
from tests.real_prometheus import RealPrometheus

BEGAN_SECONDS_AGO = 40 * 60
PAYLOAD = "<img src=x onerror=window.pwned=1>"
RULES = f"""
groups:
  - name: test
    interval: 1s
    rules:
      - alert: QueueDepthHigh
        expr: sum by (team) (ai_agents_queue_depth) > 100
        for: 10m
        labels: {{severity: warning}}
        annotations: {{summary: "{PAYLOAD} 130 jobs wait"}}
"""


@dataclass(frozen=True)
class Firing:
    """A dashboard on an alert that fires and began at an instant (epoch seconds)."""

    began: float
    dashboard: DashboardProcess


@pytest.fixture(scope="module")
def firing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Firing]:
    """130 jobs wait, in a queue whose label is hostile, and an alert has said so for a while."""
    folder = tmp_path_factory.mktemp("firing")
    rules = folder / "rules.yml"
    rules.write_text(RULES)
    now = int(time.time())
    began = now - BEGAN_SECONDS_AGO
    times = np.arange(now - 26 * 3600, now + 3600, 15)
    # Rules can only write if no sample is ahead of them.
    until_now = times[times <= now]
    series = {
        f'ai_agents_queue_depth{{team="{PAYLOAD}"}}': (times, np.full(len(times), 130.0)),
        "ai_agents_workers_up": (times, np.full(len(times), 4.0)),
        # So a Prometheus remembers over a restart since when an alert has been active.
        f'ALERTS_FOR_STATE{{alertname="QueueDepthHigh",severity="warning",team="{PAYLOAD}"}}': (
            until_now,
            np.full(len(until_now), began),
        ),
    }
    with (
        RealPrometheus(folder / "prometheus", series=series, rule_files=[rules]) as prometheus,
        DashboardProcess(folder / "dashboard", prometheus.url) as dashboard,
    ):
        until(lambda: get(prometheus.port, "/api/v1/alerts")[1], lambda text: '"firing"' in text)
        yield Firing(began, dashboard)


def test_cards_and_verdict_show_what_is_known_and_what_is_not(
    firing: Firing, open_page: OpenPage
) -> None:
    page = open_page("?range=1h&refresh=off&tz=UTC", at=firing.dashboard, drawn=False)
    expect(card(page, "queue_depth")).to_have_attribute("data-state", "fresh")
    expect(card(page, "queue_depth").locator("strong")).to_have_text("130")
    expect(card(page, "queue_depth")).to_have_attribute("data-level", "warn")
    expect(card(page, "active_workers").locator("strong")).to_have_text("4")
    for name in ("success_rate", "p95_latency", "throughput", "oldest_waiting"):
        expect(card(page, name)).to_have_attribute("data-state", "empty")
        expect(card(page, name).locator("strong")).to_have_text("–")
        expect(card(page, name)).to_have_attribute("data-level", "none")
    expect(verdict(page)).to_have_attribute("data-verdict", "degraded")
    expect(verdict(page)).to_contain_text("Queue depth is 130 jobs, limit 100, since before")
    # A figure that was never measured is not a finding; the firing alert is one.
    expect(card(page, "success_rate")).to_contain_text("Not measured here.")
    page.page.get_by_text("and 1 more").click()
    expect(verdict(page)).to_contain_text("degraded: alert QueueDepthHigh (warning) is firing")


def test_an_alert_links_to_its_chart_is_marked_where_it_began_and_its_texts_are_only_texts(
    firing: Firing, open_page: OpenPage
) -> None:
    page = open_page("?range=1h&refresh=off&tz=UTC", at=firing.dashboard, drawn=False)
    summary = page.page.get_by_text("1 alert firing")
    expect(summary).to_be_visible()
    summary.click()
    listed = page.page.locator(".qs-alerts li")
    expect(listed).to_contain_text(f"{PAYLOAD} 130 jobs wait")
    expect(listed).to_contain_text(f"team={PAYLOAD}")
    expect(listed).to_contain_text("since")
    listed.get_by_role("button", name="Show its chart").click()
    expect(page.panel("queue_depth")).to_be_focused()
    summary.focus()
    page.page.keyboard.press("Enter")
    expect(listed).to_be_visible()
    page.page.keyboard.press("Escape")
    expect(listed).not_to_be_visible()
    expect(summary).to_be_focused()

    marks = page.panel("queue_depth").locator(".qs-mark")
    expect(marks).to_have_count(1)
    expect(marks).to_have_attribute("data-kind", "alert")
    (at,) = page.page.evaluate(MARKED_AT, "queue_depth")
    assert abs(at - firing.began) < 120
    marks.get_by_role("button").focus()
    tip = page.panel("queue_depth").locator(".qs-mark-tip")
    expect(tip).to_contain_text(
        f"alert QueueDepthHigh began and is firing: {PAYLOAD} 130 jobs wait."
    )
    page.page.keyboard.press("Escape")
    expect(tip).to_be_hidden()
    # It concerns only that chart.
    for name in ("success_rate", "latency"):
        expect(page.panel(name).locator(".qs-mark")).to_have_count(0)
    # It lasts until now.
    span = page.panel("queue_depth").locator(".qs-span")
    expect(span).to_have_count(1)
    expect(span).to_have_attribute("data-state", "firing")
    assert page.page.evaluate("window.pwned") is None
    assert page.page.locator(".qs-verdict img").count() == 0

    # A range that ended before the alert began does not show it, not even at its end.
    start, end = firing.began - 7200, firing.began - 3600
    page.open(f"?from={iso(start)}&to={iso(end)}&refresh=off&tz=UTC")
    expect(page.panel("queue_depth")).not_to_have_attribute("data-live", re.compile(".*"))
    expect(page.page.get_by_text("1 alert firing")).to_be_visible()
    expect(marks).to_have_count(0)
    expect(span).to_have_count(0)


def test_the_cards_are_in_place_before_their_figures_arrive(open_page: OpenPage) -> None:
    held: list[Route] = []
    arrives = False

    def keep(route: Route) -> None:
        if arrives:
            route.continue_()
        else:
            held.append(route)

    def hold(page: TrendsPage) -> None:
        page.page.route("**/queuescope/overview*", keep)

    def places(width: int) -> list[Any]:
        page.resize(width)
        overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert page.page.evaluate(overflow) == 0
        shown = (*(card(page, name) for name in CARDS), page.panel("queue_depth"))
        return [one.bounding_box() for one in shown]

    # What is held for too long is given up, and asked for again with a refresh.
    page = open_page("?range=24h&refresh=10", before=hold)
    page.wait_until_streamlit_has_taken_over()
    before = {width: places(width) for width in (390, 1440)}
    deadline = time.monotonic() + WAIT_MS / 1000
    while not held:
        assert time.monotonic() < deadline, "nothing was asked for"
        page.page.wait_for_timeout(50)
    arrives = True
    for route in held:
        route.continue_()
    expect(card(page, "queue_depth")).to_have_attribute("data-state", "fresh")
    assert {width: places(width) for width in (1440, 390)} == before


def test_a_change_between_two_bounds_is_shown_whole_on_narrow_cards(open_page: OpenPage) -> None:
    page = open_page("?refresh=off", scene="changed")
    expect(card(page, "p95_latency").locator(".qs-figure strong")).to_have_text("10–30 min")
    long = "▲ +8 min 52 s – 29 min 4 s on yesterday"
    expect(card(page, "p95_latency").locator(".qs-changes")).to_contain_text(long)
    expect(card(page, "queue_depth").locator(".qs-changes")).to_contain_text("+1,233,356")
    sizes = set()
    for width in (1440, 1360, 1100, 760, 390):
        page.resize(width)
        cut = page.page.evaluate(
            "[...document.querySelectorAll('.qs-card, .qs-card :is(h2, .qs-figure strong,"
            " .qs-badge, .qs-changes, .qs-changes > span)')].filter(one =>"
            " one.scrollWidth > one.clientWidth + 1 && one.clientWidth"
            " || one.scrollHeight > one.clientHeight + 1 && one.clientHeight)"
            ".map(one => one.outerHTML)"
        )
        assert cut == [], width
        below = page.page.evaluate(
            "[...document.querySelectorAll('.qs-card')].map(card => card.getBoundingClientRect()"
            ".bottom - card.querySelector('.qs-changes').getBoundingClientRect().bottom)"
        )
        assert min(below) > 0
        sizes |= {box["height"] for name in CARDS if (box := card(page, name).bounding_box())}
    # However long the reason is.
    assert len(sizes) == 1
