"""Live sources on the page: the source of a figure, what is away, and operations where they
happened.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from celery import Celery
from playwright.sync_api import Locator, expect
from tests.browser.conftest import Known, OpenPage
from tests.browser.dashboard_process import DashboardProcess
from tests.browser.trends_page import (
    FITS,
    HOLD_STREAMLIT_BACK,
    MARKED_AT,
    PANELS,
    WAIT_MS,
    TrendsPage,
    card,
)
from tests.instrument.conftest import until
from tests.real_broker import RealBroker

from queuescope.jobs.job import Job, JobStatus
from queuescope.jobs.store import JobStore
from queuescope.operations.access import Actor, Origin, Role
from queuescope.operations.audit import Outcome, Result
from queuescope.operations.request import Request
from queuescope.operations.store import OperationsStore

PAYLOAD = "<img src=x onerror=window.pwned=1>"
HOUR = 3600
# How long ago, who, what, and the outcome.
ACTS = (
    (4 * HOUR, "ada", Request.pause("orders"), Result.DONE),
    (4 * HOUR - 60, PAYLOAD, Request.resume("orders"), Result.DONE),
    (2 * HOUR, "ada", Request.purge("express"), Result.FAILED),
    (20, "ada", Request.scale("w1@shop", 3), Result.UNKNOWN),
)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealBroker]:
    """Twelve jobs wait in it."""
    with RealBroker(tmp_path_factory.mktemp("broker"), keeps=True) as running:
        with running.connected() as client:
            client.lpush("later", *["{}"] * 12)
        yield running


@pytest.fixture(scope="module")
def dashboard(
    known: Known, broker: RealBroker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DashboardProcess]:
    folder = tmp_path_factory.mktemp("dashboard")
    write_acts(folder / "operations.db")
    write_failures(folder / "jobs.db")
    with DashboardProcess(
        folder,
        known.prometheus.url,
        selector='scene="flow"',
        broker_url=broker.url,
        operations_store_url=f"sqlite:///{folder / 'operations.db'}",
        job_store_url=f"sqlite:///{folder / 'jobs.db'}",
        queues="later",
    ) as running:
        until(
            lambda: json.loads(running.get("/queuescope/overview")[1]),
            lambda seen: bool(seen["operations"]["list"]) and bool(seen["failures"]["last"]),
        )
        yield running


def write_acts(path: Path) -> None:
    now = [0.0]
    with closing(OperationsStore(f"sqlite:///{path}", clock=lambda: now[0])) as store:
        for ago, name, request, result in ACTS:
            now[0] = time.time() - ago
            actor = Actor(name, Origin.OIDC)
            plan = store.plan(actor, request, 3)
            act = store.begin(plan, actor, Role.ADMIN, 3)
            detail = f"Three {PAYLOAD} of them."
            store.end(Outcome(result, detail, 3, act), actor, Role.ADMIN, request)


def write_failures(path: Path) -> None:
    now = time.time()
    job = Job("", "enhance", "acme", "later", "w@h", JobStatus.FAILED, started_at=now - HOUR)
    late = replace(job, error_class="LookupError")
    store = JobStore(f"sqlite:///{path}")
    store.record(
        [
            *(
                replace(
                    late,
                    id=f"order {number}",
                    tenant=f"tenant-{number}",
                    finished_at=now - 600 - number,
                    error_message=f"no order {number}",
                )
                for number in range(4)
            ),
            replace(
                job,
                id=PAYLOAD,
                name=PAYLOAD,
                tenant=PAYLOAD,
                finished_at=now - 60,
                error_class=PAYLOAD,
                error_message=f"{PAYLOAD} {'long ' * 100}",
            ),
        ]
    )
    store.close()


LIFT = """
(selector) => {
  const lifted = document.querySelector(selector), place = document.createComment("")
  lifted.replaceWith(place)
  window.putBack = () => place.replaceWith(lifted)
}
"""
PUT_BACK = "window.putBack()"


def marks(page: TrendsPage, panel: str) -> Locator:
    return page.panel(panel).locator(".qs-mark")


def test_operations_are_marked_on_every_chart_at_their_time_and_follow_the_zoom(
    dashboard: DashboardProcess, open_page: OpenPage
) -> None:
    page = open_page("?range=6h&tz=UTC&refresh=off", at=dashboard, drawn=False)
    for name in ("queue_depth", "success_rate"):
        expect(marks(page, name)).to_have_count(3, timeout=WAIT_MS)
    at = page.page.evaluate(MARKED_AT, "queue_depth")
    assert abs(at[0] - (time.time() - 4 * HOUR)) < 600
    assert abs(at[1] - (time.time() - 2 * HOUR)) < 600
    # Two that would cover each other are one, with their count.
    first = marks(page, "queue_depth").nth(0).locator("button")
    expect(first).to_have_attribute("data-count", "2")
    first.hover()
    tip = page.panel("queue_depth").locator(".qs-mark-tip")
    expect(tip).to_contain_text("ada: pause queue orders, done.")
    expect(tip).to_contain_text(f"{PAYLOAD}: resume queue orders, done.")
    page.page.mouse.move(5, 5)
    expect(tip).to_be_hidden()
    # When Streamlit takes over, the charts move, and a mark that the pointer was on is not left.
    page.wait_until_streamlit_has_taken_over()
    first.hover()
    expect(tip).to_be_visible()
    page.page.evaluate(LIFT, "[data-panel=queue_depth]")
    page.page.mouse.move(5, 5)
    page.page.evaluate(PUT_BACK)
    page.page.mouse.move(8, 8)
    expect(tip).to_be_hidden()
    # By keyboard, too; an operation that did not succeed is shown with its outcome.
    marks(page, "queue_depth").nth(1).locator("button").focus()
    expect(tip).to_contain_text(f"purge queue express, failed. Three {PAYLOAD} of them.")
    page.page.keyboard.press("Escape")
    expect(tip).to_be_hidden()
    # Marks newer than the newest point are at the edge.
    last = marks(page, "queue_depth").nth(2).locator("button")
    expect(last).to_have_attribute("aria-label", re.compile("scale worker w1@shop to 3, not known"))
    assert page.page.evaluate("window.pwned") is None
    assert page.page.locator(".qs-marks img, .qs-mark-tip img").count() == 0
    for name in PANELS:
        assert page.panel(name).locator(".qs-chart svg.main-svg img").count() == 0

    # Four hours ago is a third of the way; with a range of a quarter of an hour, the two are apart.
    page.zoom("queue_depth", 0.31, 0.36)
    expect(marks(page, "queue_depth").locator("button:not([data-count])")).to_have_count(
        2, timeout=WAIT_MS
    )
    at = page.page.evaluate(MARKED_AT, "queue_depth")
    assert abs(at[1] - at[0] - 60) < 15


def test_an_open_or_closed_mark_stays_so_when_streamlit_takes_over_and_at_a_new_width(
    dashboard: DashboardProcess, open_page: OpenPage
) -> None:
    page = open_page(
        "?range=6h&tz=UTC&refresh=off",
        at=dashboard,
        drawn=False,
        before=lambda page: page.page.add_init_script(HOLD_STREAMLIT_BACK),
    )
    expect(marks(page, "queue_depth")).to_have_count(3, timeout=WAIT_MS)
    mark = marks(page, "queue_depth").nth(1).locator("button")
    tip = page.panel("queue_depth").locator(".qs-mark-tip")
    mark.focus()
    expect(tip).to_be_visible()
    page.page.keyboard.press("Escape")
    expect(page.page.locator("#queuescope-early .qs-mark")).not_to_have_count(0)
    page.page.evaluate("window.letStreamlitThrough()")
    page.wait_until_streamlit_has_taken_over()
    expect(mark).to_be_focused()
    expect(tip).to_be_hidden()
    # A pointer that leaves it and returns opens it again.
    page.page.keyboard.press("Tab")
    page.page.keyboard.press("Shift+Tab")
    expect(mark).to_be_focused()
    expect(tip).to_be_visible()

    box = page.panel("queue_depth").locator(".qs-marks")

    def place_anew(width: int) -> None:
        before = box.get_attribute("style") or ""
        page.page.set_viewport_size({"width": width, "height": 1200})
        expect(box).not_to_have_attribute("style", before)

    place_anew(1400)
    expect(mark).to_be_focused()
    expect(tip).to_be_visible()
    page.page.keyboard.press("Escape")
    expect(tip).to_be_hidden()
    place_anew(1360)
    expect(mark).to_be_focused()
    expect(tip).to_be_hidden()


def test_a_card_says_where_its_figure_is_from_and_as_of_when(
    dashboard: DashboardProcess, open_page: OpenPage
) -> None:
    page = open_page("?range=6h&refresh=off", at=dashboard, drawn=False)
    depth = card(page, "queue_depth")
    expect(depth).to_have_attribute("data-origin", "broker", timeout=WAIT_MS)
    expect(depth.locator(".qs-figure strong")).to_have_text("12")
    present = page.panel("queue_depth").locator(".qs-now")
    expect(present.locator("strong")).to_have_text("12")
    expect(present).to_have_attribute(
        "title", re.compile(r"From the broker, as of (.* )?\d\d:\d\d")
    )
    about = page.page.get_by_label("About Queue depth")
    about.click()
    said = depth.locator(".qs-from")
    expect(said).to_contain_text(re.compile(r"From the broker, as of (.* )?\d\d:\d\d:\d\d\."))
    expect(said).to_contain_text("are from Prometheus.")
    said.get_by_role("button", name="Show its chart").click()
    expect(page.panel("queue_depth")).to_be_focused()
    expect(said.locator("ul")).to_be_hidden()
    page.page.get_by_text("4 sources", exact=True).click()
    for name in ("prometheus", "broker", "job_history", "audit"):
        expect(page.page.locator(f"[data-source={name}]")).to_have_attribute("data-state", "fresh")


def test_jobs_that_are_sent_and_fetched_move_the_figures_of_an_open_page(
    dashboard: DashboardProcess, open_page: OpenPage, broker: RealBroker
) -> None:
    """From Celery's message in the broker to card and chart, without a reload."""
    page = open_page("?range=6h&refresh=10", at=dashboard, drawn=False)
    depth = card(page, "queue_depth")
    figures = (
        depth.locator(".qs-figure strong"),
        page.panel("queue_depth").locator(".qs-now strong"),
    )
    for shown in figures:
        expect(shown).to_have_text("12", timeout=WAIT_MS)
    app = Celery("shop", broker=broker.url, set_as_current=False)
    for number in range(5):
        app.send_task("enhance", args=[number], queue="later")
    app.close()
    for shown in figures:
        expect(shown).to_have_text("17", timeout=WAIT_MS)
    expect(depth).to_have_attribute("data-origin", "broker")
    with broker.connected() as client:
        # The newest are on the left.
        client.ltrim("later", 5, -1)
    for shown in figures:
        expect(shown).to_have_text("12", timeout=WAIT_MS)


def test_when_the_broker_goes_the_page_says_so_and_nothing_moves_on_any_screen(
    dashboard: DashboardProcess, open_page: OpenPage, broker: RealBroker
) -> None:
    page = open_page("?range=6h&refresh=10", at=dashboard, drawn=False)
    depth, rate = card(page, "queue_depth"), card(page, "success_rate")
    expect(depth).to_have_attribute("data-origin", "broker", timeout=WAIT_MS)

    def boxes(width: int) -> list[object]:
        page.resize(width)
        return [one.bounding_box() for one in (depth, rate, page.panel("latency"))]

    before = {width: boxes(width) for width in (390, 1440)}
    with broker.gone():
        away = page.page.locator("[data-source=broker]")
        expect(away).to_have_attribute("data-state", "stale", timeout=WAIT_MS)
        expect(page.page.locator(".qs-sources summary")).to_have_text("1 source away")
        verdict = page.page.locator("[data-qs=findings]")
        verdict.locator("summary").click()
        expect(verdict).to_contain_text("the broker did not answer")
        page.page.keyboard.press("Escape")
        # The figure of Prometheus is shown instead.
        expect(depth).to_contain_text("from Prometheus")
        expect(depth).to_have_attribute("data-state", "partial")
        expect(rate).not_to_have_attribute("data-state", "stale")
        present = page.panel("queue_depth").locator(".qs-now")
        expect(present).to_have_attribute("title", re.compile(r"From Prometheus, as of"))
        for width in (1440, 390):
            assert boxes(width) == before[width]
            cut = page.page.evaluate(
                "[...document.querySelectorAll('.qs-card .qs-badge:not([hidden]),"
                " .qs-figure strong')].filter(one => one.scrollWidth > one.clientWidth + 1"
                " || one.getBoundingClientRect().right > one.closest('.qs-figure')"
                ".getBoundingClientRect().right + 0.5).map(one => one.textContent)"
            )
            assert cut == []
    expect(depth).to_have_attribute("data-state", "fresh", timeout=WAIT_MS)


def test_recent_failures_are_listed_by_group_and_one_by_one_and_link_to_the_jobs(
    dashboard: DashboardProcess, open_page: OpenPage
) -> None:
    page = open_page("?range=6h&refresh=off", at=dashboard, drawn=False)
    section = page.page.get_by_role("region", name="Recent failures")
    expect(section).to_have_attribute("data-state", "fresh", timeout=WAIT_MS)
    counted = section.get_by_text("last 24 h: 5 of 2 kinds")
    expect(counted).to_have_css("position", "static")
    expect(counted).to_have_css("background-color", "rgba(0, 0, 0, 0)")
    kinds, last = section.locator("ol").nth(0), section.locator("ol").nth(1)
    expect(kinds.locator("li")).to_have_count(2)
    expect(kinds.locator("li").nth(0)).to_contain_text("enhance · LookupError")
    expect(kinds.locator("li").nth(0)).to_contain_text("4 ×")
    expect(kinds.locator("li").nth(0).locator("i")).to_have_text("number")
    expect(kinds.locator("li").nth(0)).to_contain_text("tenant-0, tenant-1 and 2 more")
    expect(last.locator("li")).to_have_count(5)
    expect(last.locator("li").nth(0)).to_contain_text(PAYLOAD)
    assert page.page.evaluate("window.pwned") is None
    assert section.locator("img").count() == 0
    for width in (1440, 390):
        page.resize(width)
        assert page.page.evaluate(FITS)
    group = kinds.get_by_role("link").first.get_attribute("href") or ""
    assert re.search(r"/jobs\?group=[0-9a-f]+$", group)
    assert "/jobs?find=order%200" in [
        link.get_attribute("href") for link in last.get_by_role("link").all()
    ]
