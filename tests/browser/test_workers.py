"""The page of workers in a real browser, on a real broker, with made-up and with real workers."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect
from tests.browser.conftest import DashboardFor, Known
from tests.browser.contrasts import CONTRASTS, Theme
from tests.browser.crew import HOSTILE_WORKER, XSS, Crew, everybody
from tests.browser.dashboard_process import DashboardProcess
from tests.browser.trends_page import FITS, WAIT_MS, wait_until_at_rest
from tests.instrument.conftest import Shop, until
from tests.real_broker import RealBroker

from queuescope.broker.timings import DEFAULT_TIMINGS
from queuescope.jobs.job import Job, JobStatus
from queuescope.jobs.store import JobStore

_SLOW_MS = 60_000
_FIT = """
() => {
  const width = document.documentElement.clientWidth;
  const wide = [...document.querySelectorAll(".qs-sheet, .qs-sheet *")].filter(element => {
    const box = element.getBoundingClientRect();
    const frame = element.closest(".qs-scroll");
    return box.width > 0 && (!frame || frame === element)
      && (box.right > width + 1 || box.left < -1);
  }).map(element => element.className || element.tagName);
  return { wide, scrolls: document.documentElement.scrollWidth > width };
}
"""
_PLACES = """
() => [...document.querySelectorAll(".qs-live :is(th, td, tr, .qs-summary > *)")].map(
  element => { const box = element.getBoundingClientRect(); return [box.x, box.y, box.width]; })
"""


class WorkersPage:
    """One open page of workers."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url

    def open(self) -> WorkersPage:
        self.page.goto(f"{self.url}/workers")
        expect(self.page.locator("h1", has_text="Workers")).to_be_visible(timeout=WAIT_MS)
        return self

    @property
    def sheet(self) -> Locator:
        return self.page.locator(".qs-live")

    @property
    def summary(self) -> Locator:
        return self.page.locator(".qs-summary")

    @property
    def part(self) -> Locator:
        return self.page.locator(".qs-live > .qs-part-of")

    def worker(self, name: str) -> Locator:
        return self.page.locator(".qs-crew tr", has=self.page.get_by_text(name, exact=True))

    def lost(self, name: str) -> Locator:
        return self.page.locator(".qs-lost tr", has=self.page.get_by_text(name, exact=True))

    def wait_for_a_refresh(self) -> None:
        """Wait until the page shows a later reading."""
        at = self.page.locator(".qs-part-head time").first
        before = at.get_attribute("datetime")
        assert before is not None
        expect(at).not_to_have_attribute("datetime", before, timeout=WAIT_MS)


Look = Callable[..., WorkersPage]


def assert_within(inner: Locator, outer: Locator) -> None:
    """Neither reaches beyond the other to the right."""
    box, frame = inner.bounding_box(), outer.bounding_box()
    assert box is not None
    assert frame is not None
    assert box["x"] + box["width"] <= frame["x"] + frame["width"]


@pytest.fixture
def look(tab: Page) -> Look:
    """Opens the page of workers of a dashboard, in the tab of the one before."""

    def look_at(dashboard: DashboardProcess, theme: Theme = "light") -> WorkersPage:
        tab.set_viewport_size({"width": 1440, "height": 1400})
        tab.emulate_media(media="screen", color_scheme=theme)
        return WorkersPage(tab, dashboard.url).open()

    return look_at


@dataclass(frozen=True, eq=False)
class Served:
    """A broker without data, and a dashboard on it and on a job history."""

    broker: RealBroker
    history: str
    dashboard: DashboardProcess


@pytest.fixture(scope="module")
def lasting(known: Known, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    history = f"sqlite:///{folder / 'jobs.db'}"
    with (
        RealBroker(folder / "broker") as broker,
        DashboardProcess(
            folder / "dashboard",
            known.prometheus.url,
            broker_url=broker.url,
            job_store_url=history,
        ) as dashboard,
    ):
        yield Served(broker, history, dashboard)


@pytest.fixture
def served(lasting: Served) -> Served:
    """One server for all tests, emptied for each."""
    with lasting.broker.connected() as client:
        client.flushall()
    return lasting


@pytest.fixture(scope="module")
def crew_dashboard(
    known: Known, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DashboardProcess]:
    """A dashboard on a worker of each kind."""
    folder = tmp_path_factory.mktemp("crew")
    history = f"sqlite:///{folder / 'jobs.db'}"
    now = time.time()
    with closing(JobStore(history)) as store:
        store.record(
            [
                Job(
                    id=f"e{number}",
                    name="enhance_ticket",
                    tenant="acme",
                    queue="default",
                    worker="worker-1@demo",
                    status=JobStatus.SUCCEEDED,
                    started_at=now - 300 - number,
                    finished_at=now - 290 - number,
                    runtime_seconds=10.0,
                )
                for number in range(100)
            ]
        )
    with (
        RealBroker(folder / "broker") as server,
        Crew(server.port) as crew,
        DashboardProcess(
            folder / "dashboard",
            known.prometheus.url,
            broker_url=server.url,
            job_store_url=history,
            selector='scene="crew"',
        ) as dashboard,
    ):
        everybody(crew)
        yield dashboard


def assert_readable(page: WorkersPage) -> None:
    """Every text has enough contrast."""
    measured = page.page.evaluate(CONTRASTS, ".qs-live")
    assert {"stalled", "86 %, high", "pod-5f7c9@demo"} <= {text for _, text in measured}
    assert [one for one in measured if one[0] < 4.5] == []


def test_each_worker_is_listed_with_everything_known_as_readable_text(
    crew_dashboard: DashboardProcess, look: Look
) -> None:
    page = look(crew_dashboard)
    for words in (
        "8 of 9 workers alive",
        "3 active",
        "1 idle",
        "1 paused",
        "1 stalled",
        "1 lost",
        "1 shutting down",
    ):
        expect(page.summary).to_contain_text(words, timeout=WAIT_MS)
    busy = page.worker("worker-1@demo")
    expect(busy).to_contain_text("active")
    expect(busy).to_contain_text("far older than usual95 % of its type end within 10 s")
    expect(busy).to_contain_text("86 %, high")
    expect(busy).to_contain_text("183 failed")
    expect(page.worker("worker-2@demo")).to_contain_text("97 %, at its limit")
    expect(page.worker("worker-3@demo")).to_contain_text("nightlypaused")
    expect(page.worker("worker-4@demo")).to_contain_text("Its main loop has done nothing for")
    ending = page.worker("worker-5@demo")
    expect(ending).to_contain_text("shutting down, finishes 1 job")
    expect(ending).to_contain_text("delivered againid 6f1d-came-again")
    # Its words are whole, in a column that is narrower than they are.
    status, cell = ending.locator(".qs-worker > .qs-state"), ending.locator("td, th").first
    assert_within(status, cell)
    held = page.worker("worker-6@demo")
    expect(held).to_contain_text("held back by a rate limit")
    expect(held).to_contain_text("A rate limit holds back 4 jobs of send_mail (1 a minute).")
    expect(held).to_contain_text("2,500 scheduled, next at ")
    for name in ("worker-1@demo", "worker-2@demo", "worker-4@demo"):
        curve = page.worker(name).locator("svg path")
        expect(curve).to_have_attribute("d", re.compile(r"^M.*L"), timeout=WAIT_MS)
    # Its samples have a gap, and so has the curve.
    gap = page.worker("worker-2@demo").locator("svg path").get_attribute("d") or ""
    assert gap.count("M") == 2
    gone = page.lost("pod-5f7c9@demo")
    expect(gone).to_contain_text("lost")
    expect(gone).to_contain_text("The broker will deliver them again.")
    expect(page.page.locator(".qs-lost")).to_contain_text(
        "forgotten 10 min after their last report"
    )
    expect(page.summary).to_contain_text("8 of 9 workers alive")
    assert_readable(page)

    # Whatever a name holds.
    page.wait_for_a_refresh()
    row = page.worker(HOSTILE_WORKER)
    assert (row.text_content() or "").count(XSS) >= 4
    assert page.page.locator(".qs-sheet img").count() == 0
    assert page.page.evaluate("document.body.dataset.pwned") is None


def test_a_dark_page_can_be_read_and_is_printed_light_and_whole_and_without_buttons(
    crew_dashboard: DashboardProcess, look: Look
) -> None:
    page = look(crew_dashboard, theme="dark")
    expect(page.worker(HOSTILE_WORKER)).to_be_visible(timeout=WAIT_MS)
    expect(page.summary).to_contain_text("8 of 9 workers alive")
    assert_readable(page)
    wait_until_at_rest(page.page)
    # What is wider than the paper a browser makes smaller: this is as wide as the table at least.
    page.page.set_viewport_size({"width": 1200, "height": 1000})
    page.page.emulate_media(media="print", color_scheme="dark")
    measured = page.page.evaluate(CONTRASTS, ".stMain")
    assert "worker-1@demo" in [text for _, text in measured]
    assert [one for one in measured if one[0] < 4.5] == []
    assert page.page.evaluate(FITS)
    assert page.page.evaluate(
        "[...document.querySelectorAll('.qs-sheet td')].every("
        "cell => cell.scrollWidth <= cell.clientWidth + 1)"
    )
    expect(page.page.locator(".stAppHeader")).to_be_hidden()
    assert page.page.locator(".qs-action:visible").count() == 0
    # Nothing is cut off at the edge of the screen.
    assert page.page.locator(".stMain").evaluate("main => getComputedStyle(main).overflowY") == (
        "visible"
    )


def test_nothing_moves_while_it_refreshes_and_it_fits_every_screen(
    crew_dashboard: DashboardProcess, look: Look
) -> None:
    page = look(crew_dashboard)
    for name in ("worker-1@demo", "worker-2@demo", "worker-4@demo"):
        expect(page.worker(name).locator("svg path")).to_be_visible(timeout=WAIT_MS)
    # A remark in the first seconds is above the table.
    expect(page.sheet).not_to_contain_text("has only just answered", timeout=WAIT_MS)
    rules = page.page.locator("details", has_text="How this is judged")
    rules.locator("summary").click()
    page.wait_for_a_refresh()
    before = page.page.evaluate(_PLACES)
    assert len(before) > 60
    for _ in range(5):
        page.wait_for_a_refresh()
        places, before = before, page.page.evaluate(_PLACES)
        # A duration in words may need one more line now and then.
        if places == before:
            break
    assert places == before
    expect(rules).to_have_attribute("open", "")

    for width in (390, 320, 768, 1_100, 1_440):
        page.page.set_viewport_size({"width": width, "height": 1000})
        assert page.page.evaluate(_FIT) == {"wide": [], "scrolls": False}


def test_of_many_workers_some_are_shown_any_is_found_and_the_dead_drop_off(
    served: Served, look: Look
) -> None:
    with Crew(served.broker.port) as crew:
        for number in range(60):
            crew.join(f"pod-{number}@k8s", loop_at=crew.now - (90 if number == 57 else 0))
        page = look(served.dashboard)
        rows = page.page.locator(".qs-crew tbody tr")
        expect(rows).to_have_count(50, timeout=WAIT_MS)
        expect(page.sheet).to_contain_text("10 more live workers are not shown.")
        expect(rows.first).to_contain_text("pod-57@k8s")
        page.page.get_by_label("Find a worker").fill("pod-58")
        page.page.keyboard.press("Enter")
        expect(rows).to_have_count(1, timeout=WAIT_MS)
        expect(rows.first).to_contain_text("pod-58@k8s")
        page.wait_for_a_refresh()
        expect(rows).to_have_count(1)

        crew.lose("pod-58@k8s", seconds=60)
        expect(page.lost("pod-58@k8s")).to_be_visible(timeout=WAIT_MS)
        expect(page.summary).to_contain_text("59 of 60 workers alive")
        crew.age("pod-58@k8s", seconds=DEFAULT_TIMINGS.drop_seconds - 60)
        expect(page.lost("pod-58@k8s")).to_have_count(0, timeout=WAIT_MS)
        expect(page.summary).to_contain_text("59 of 59 workers alive")
    # Nor do reports pile up in the broker.
    with served.broker.connected() as client:
        until(lambda: client.hkeys("queuescope:workers"), lambda keys: b"pod-58@k8s" not in keys)


def test_without_a_broker_it_says_which_setting_is_missing(
    dashboard_for: DashboardFor, look: Look
) -> None:
    page = look(dashboard_for("known"))
    expect(page.page.locator(".qs-notice")).to_contain_text(
        "Set broker_url (QUEUESCOPE_BROKER_URL)", timeout=WAIT_MS
    )
    assert page.summary.count() == 0


def test_a_broker_that_fails_is_reported_with_its_cause_and_the_last_workers_stay(
    served: Served, look: Look
) -> None:
    """Stopped, or without permission to write: the last known workers stay."""
    with Crew(served.broker.port) as crew:
        page = look(served.dashboard)
        expect(page.page.locator(".qs-notice")).to_contain_text(
            "No worker reports to this broker.", timeout=WAIT_MS
        )
        crew.join("worker-1@demo")
        expect(page.summary).to_contain_text("1 of 1 worker alive", timeout=WAIT_MS)
        # A replica takes no reports, and workers that cannot report are not just called lost.
        with served.broker.read_only():
            expect(page.page.locator(".qs-notice")).to_contain_text(
                "Workers cannot report, so those that seem lost may be alive: the broker refuses "
                "to write",
                timeout=WAIT_MS,
            )
            expect(page.lost("worker-1@demo")).to_contain_text("not known", timeout=WAIT_MS)
            expect(page.summary).to_contain_text("1 worker: not known which are alive")

        def is_fresh() -> None:
            expect(page.part).to_have_attribute("data-state", "fresh", timeout=WAIT_MS)
            expect(page.summary).to_contain_text("1 of 1 worker alive", timeout=WAIT_MS)

        is_fresh()
        with served.broker.gone():
            expect(page.part).to_have_attribute("data-state", "stale", timeout=WAIT_MS)
            expect(page.page.locator(".qs-failing")).to_contain_text(
                "the broker did not answer: no connection could be made or kept", timeout=WAIT_MS
            )
            expect(page.summary).to_contain_text("1 of 1 worker was alive")
            expect(page.worker("worker-1@demo")).to_be_visible()
        is_fresh()


@pytest.mark.timeout(300)
def test_a_worker_killed_in_mid_job_is_lost_and_comes_back(
    served: Served, tmp_path: Path, look: Look
) -> None:
    shop = Shop(tmp_path, served.broker.url)
    with closing(JobStore(served.history)) as store, closing(shop):
        arguments = ("-n", "phoenix@shop", "-Q", "orders", "-c", "1")
        worker = shop.start_worker(
            *arguments, QUEUESCOPE_JOB_STORE_URL=served.history, SHOP_ACKS_LATE="1"
        )
        job_id = shop.send("hang_once", path=str(tmp_path / "evidence"), word="begun")
        page = look(served.dashboard)
        expect(page.worker("phoenix@shop")).to_contain_text("hang_once", timeout=_SLOW_MS)
        expect(page.worker("phoenix@shop")).to_contain_text("active")
        # A worker that is killed before it has written the start leaves no row to end.
        until(lambda: store.get(job_id), lambda job: job is not None)
        os.killpg(worker.process.pid, signal.SIGKILL)
        worker.process.wait()
        gone = page.lost("phoenix@shop")
        expect(gone).to_contain_text("hang_once", timeout=_SLOW_MS)
        expect(gone).to_contain_text("The broker will deliver them again.")
        expect(page.summary).to_contain_text("0 of 1 worker alive")
        expect(page.page.locator(".qs-crew")).to_contain_text("No worker is alive.")
        row = until(
            lambda: store.get(job_id), lambda job: job is not None and job.status != "started"
        )
        assert row is not None
        assert row.status is JobStatus.RETRYING
        shop.start_worker(*arguments, QUEUESCOPE_JOB_STORE_URL=served.history, SHOP_ACKS_LATE="1")
        expect(page.worker("phoenix@shop")).to_contain_text("idle", timeout=_SLOW_MS)
        expect(page.lost("phoenix@shop")).to_have_count(0)
        expect(page.summary).to_contain_text("1 of 1 worker alive")
