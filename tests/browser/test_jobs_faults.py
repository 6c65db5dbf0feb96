"""The page of jobs while its database fails: the cause, and the last data with their age."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass

import pytest
from playwright.sync_api import Locator, Page, expect
from tests.browser.conftest import KeepTab, Known
from tests.browser.crew import Crew
from tests.browser.dashboard_process import DashboardProcess, get
from tests.browser.jobs_page import JobsPage
from tests.browser.operations_page import World
from tests.browser.trends_page import WAIT_MS, TrendsPage
from tests.dashboard.jobs.jobs_seen import once
from tests.faulty_history import CANARY, FaultyHistory
from tests.real_postgresql import RealPostgreSQL

from queuescope.jobs.job import Job, JobStatus
from queuescope.jobs.store import JobStore

OpenJobs = Callable[..., JobsPage]


@pytest.fixture(scope="module")
def faulty(postgresql: RealPostgreSQL) -> Iterator[FaultyHistory]:
    with FaultyHistory.on(postgresql) as made:
        yield made


@pytest.fixture(scope="module")
def world(
    known: Known, faulty: FaultyHistory, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    """A dashboard on that history, with all its other sources, and one worker that lives."""
    with (
        World(
            tmp_path_factory.mktemp("world"),
            prometheus_url=known.prometheus.url,
            prometheus_timeout_seconds="20",
            selector='scene="known"',
            queues="orders",
            job_store_url=faulty.url,
        ) as running,
        Crew(running.server.port) as crew,
    ):
        crew.join("alive@shop")
        yield running


@dataclass(frozen=True, eq=False)
class Onlookers:
    """Readers who keep the charts and the page of workers open."""

    charts: TrendsPage
    workers: Page


@pytest.fixture(scope="module")
def onlookers(keep_tab: KeepTab, world: World) -> Onlookers:
    charts = TrendsPage(keep_tab(), world.dashboard.url).open("?range=1h&refresh=60")
    workers = keep_tab()
    workers.goto(f"{world.dashboard.url}/workers")
    expect(workers.locator(".qs-summary")).to_contain_text("1 of 1 worker alive")
    return Onlookers(charts, workers)


@pytest.fixture
def open_jobs(tab: Page) -> Iterator[OpenJobs]:
    """Opens the page of another reader, in the tab of the one before, which is looked at first."""
    opened: list[JobsPage] = []

    def expect_no_secret() -> None:
        for page in opened[-1:]:
            assert page.complaints == []
            assert CANARY not in page.page.content()

    def open_one(at: DashboardProcess, query: str = "") -> JobsPage:
        expect_no_secret()
        opened.append(JobsPage(tab, at.url))
        return opened[-1].open(query)

    yield open_one
    expect_no_secret()


def alert(page: JobsPage, part: str) -> Locator:
    """The error notice of a part."""
    return page.part(part).get_by_role("alert")


def opened_when(open_jobs: OpenJobs, at: DashboardProcess, state: str) -> JobsPage:
    """The page of another reader, once both parts are in that state."""
    once(at, state)
    return open_jobs(at)


def test_the_last_data_stay_with_their_age_and_the_cause_until_it_answers_again(
    open_jobs: OpenJobs, faulty: FaultyHistory, world: World, onlookers: Onlookers
) -> None:
    dashboard, charts = world.dashboard, onlookers.charts
    rows = opened_when(open_jobs, dashboard, "fresh").ids()
    failures = charts.page.get_by_role("region", name="Recent failures")
    for part in (charts.source("job_history"), failures):
        charts.refresh_until(part, "fresh")
    told_before = charts.source("prometheus").inner_text()
    # Of a connection that was closed, and of one that cannot be opened.
    cause = "check that it runs and is reachable"
    with faulty.trouble("down"):
        page = opened_when(open_jobs, dashboard, "stale")
        for name in ("failures", "history"):
            said = alert(page, name).inner_text()
            assert said.startswith("The job history cannot be reached")
            assert cause in said
            assert re.search(r", since .+?; the data shown are of ", said)
        assert page.ids() == rows
        expect(page.groups).to_have_count(3)
        other = open_jobs(dashboard, "?tenant=acme&find=zebra")
        other.expect_state("history", "unavailable")
        assert "The job history cannot be reached" in alert(other, "history").inner_text()
        expect(other.table("Jobs")).to_have_count(0)
        download = "/queuescope/jobs.csv?tenant=globex"
        status, body = get(dashboard.port, download, timeout_seconds=30)
        assert (status, CANARY in body) == (503, False)
        assert get(dashboard.port, "/healthz") == (200, "ok\n")
        # The charts have a source of their own, and say which one they lack.
        charts.refresh_until(charts.source("job_history"), "stale")
        expect(charts.source("job_history")).to_contain_text(cause)
        rate = charts.page.locator("[data-kpi=success_rate]")
        expect(rate).to_have_attribute("data-origin", "prometheus")
        expect(rate).to_contain_text("from Prometheus")
        charts.refresh_until(failures, "stale")
        expect(failures.locator(".qs-cause")).to_contain_text(cause)
        for name in ("prometheus", "broker", "audit"):
            expect(charts.source(name)).to_have_attribute("data-state", "fresh")
        expect(charts.source("prometheus")).not_to_have_text(told_before)
        charts.expect_states("fresh")
        workers = onlookers.workers
        expect(workers.locator(".qs-live > .qs-part-of")).to_have_attribute("data-state", "fresh")
        assert CANARY not in charts.page.content() + workers.content()
        assert CANARY not in get(dashboard.port, "/metrics")[1] + dashboard.log
    again = opened_when(open_jobs, dashboard, "fresh")
    assert again.ids() == rows
    assert charts.complaints == []


def test_a_history_that_cannot_be_written_is_noted_on_the_page_of_workers(
    open_jobs: OpenJobs, faulty: FaultyHistory, world: World, onlookers: Onlookers
) -> None:
    """A worker is lost, and the dashboard may not write so into the history."""
    crew_page, now = onlookers.workers, time.time()
    left = Job(
        id="left-behind",
        name="enhance_ticket",
        tenant="acme",
        queue="default",
        worker="gone@shop",
        status=JobStatus.STARTED,
        started_at=now - 300,
    )
    with closing(JobStore(faulty.server.url("faulty"))) as store:
        store.record([left])
    warning = crew_page.locator(".qs-notice", has_text="has not been updated since")
    with Crew(world.server.port) as crew:
        crew.join("gone@shop", started_at=now - 600, redelivers=False)
        crew.lose("gone@shop")
        expect(crew_page.locator(".qs-lost")).to_contain_text("gone@shop")
        expect(warning).to_contain_text("jobs of lost workers may still be listed as started")
        expect(warning).to_contain_text("its user lacks a right; grant SELECT, INSERT and UPDATE")
        assert CANARY not in crew_page.content()
        page = open_jobs(world.dashboard, "?find=left-behind")
        expect(page.rows.first).to_contain_text("started")
        faulty.execute("GRANT INSERT, UPDATE ON jobs TO reader")
        try:
            expect(warning).to_have_count(0, timeout=2 * WAIT_MS)
            page = open_jobs(world.dashboard, "?find=left-behind&status=lost")
            expect(page.rows).to_have_count(1)
            expect(page.rows.first).to_contain_text("lost")
        finally:
            faulty.execute("REVOKE INSERT, UPDATE ON jobs FROM reader")
            faulty.execute("DELETE FROM jobs WHERE id = 'left-behind'")
