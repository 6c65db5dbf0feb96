"""The page of jobs while its database fails: the cause, and the last data with their age."""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect
from tests.browser.conftest import Known, OpenTab
from tests.browser.crew import Crew
from tests.browser.dashboard_process import DashboardProcess, get
from tests.browser.jobs_page import NOWHERE, JobsPage, some_jobs
from tests.browser.operations_page import World
from tests.browser.trends_page import WAIT_MS, TrendsPage
from tests.real_postgresql import RealPostgreSQL

from queuescope.jobs.job import Job, JobStatus
from queuescope.jobs.store import JobStore

CANARY = "c4n4ry-Ungeheuer"
OpenJobs = Callable[..., JobsPage]
Serve = Callable[..., DashboardProcess]

# Every row takes longer than a page is willing to wait.
_SLOW_VIEW = """
ALTER TABLE jobs RENAME TO jobs_of_old;
CREATE VIEW jobs AS SELECT * FROM jobs_of_old WHERE pg_sleep(30) IS NOT NULL;
GRANT SELECT ON jobs TO reader
"""
_NO_SLOW_VIEW = "DROP VIEW jobs; ALTER TABLE jobs_of_old RENAME TO jobs"


class Faulty:
    """A history with known jobs in PostgreSQL that the user ``reader`` may read."""

    def __init__(self, server: RealPostgreSQL) -> None:
        self.server = server
        self.url = server.url("faulty", user="reader", password=CANARY)

    def execute(self, sql: str) -> None:
        for statement in sql.split(";"):
            self.server.execute(statement, database="faulty")

    @contextmanager
    def trouble(self, kind: str) -> Iterator[None]:
        match kind:
            case "down":
                self.server.kill()
            case "no permission":
                self.execute("REVOKE SELECT ON jobs FROM reader")
            case "slow":
                self.execute(_SLOW_VIEW)
        try:
            with self.server.frozen() if kind == "frozen" else nullcontext():
                yield
        finally:
            match kind:
                case "down":
                    self.server.start()
                case "no permission":
                    self.execute("GRANT SELECT ON jobs TO reader")
                case "slow":
                    self.execute(_NO_SLOW_VIEW)


@pytest.fixture(scope="module")
def faulty(postgresql: RealPostgreSQL) -> Iterator[Faulty]:
    postgresql.execute("CREATE DATABASE faulty")
    postgresql.execute(f"CREATE ROLE reader LOGIN PASSWORD '{CANARY}'")
    store = JobStore(postgresql.url("faulty"))
    store.record(some_jobs(time.time()))
    store.close()
    made = Faulty(postgresql)
    made.execute("GRANT SELECT ON jobs TO reader")
    yield made
    postgresql.execute("DROP DATABASE faulty WITH (FORCE)")
    postgresql.execute("DROP ROLE reader")


@pytest.fixture(scope="module")
def world(
    known: Known, faulty: Faulty, tmp_path_factory: pytest.TempPathFactory
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
    """Those who have the charts and the page of workers open all the while."""

    charts: TrendsPage
    workers: Page


@pytest.fixture(scope="module")
def onlookers(browser: Browser, world: World) -> Iterator[Onlookers]:
    with browser.new_context(viewport={"width": 1440, "height": 900}) as context:
        charts = TrendsPage(context.new_page(), world.dashboard.url).open("?range=1h&refresh=60")
        workers = context.new_page()
        workers.goto(f"{world.dashboard.url}/workers")
        expect(workers.locator(".qs-summary")).to_contain_text("1 of 1 worker alive")
        yield Onlookers(charts, workers)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    with ExitStack() as running:

        def start(**settings: str) -> DashboardProcess:
            made = DashboardProcess(tmp_path, NOWHERE, **settings)
            return running.enter_context(made)

        yield start


@pytest.fixture
def open_jobs(open_tab: OpenTab) -> Iterator[OpenJobs]:
    opened: list[JobsPage] = []

    def open_one(at: DashboardProcess, query: str = "") -> JobsPage:
        page = JobsPage(open_tab(), at.url)
        opened.append(page)
        return page.open(query)

    yield open_one
    for page in opened:
        assert page.complaints == []
        if not page.page.is_closed():
            assert CANARY not in page.page.content()


def alert(page: JobsPage, part: str) -> Locator:
    """What is said of the trouble in a part."""
    return page.part(part).get_by_role("alert")


def test_without_a_history_the_page_names_the_setting(serve: Serve, browser: Browser) -> None:
    dashboard = serve()
    with browser.new_context() as context:
        tab = context.new_page()
        tab.goto(f"{dashboard.url}/jobs")
        expect(tab.get_by_text("QUEUESCOPE_JOB_STORE_URL")).to_be_visible(timeout=WAIT_MS)
        expect(tab.locator("table")).to_have_count(0)
    assert get(dashboard.port, "/queuescope/jobs.csv")[0] == 404


def test_an_empty_history_says_so_and_shows_no_zero_as_health(
    serve: Serve, open_jobs: OpenJobs, tmp_path: Path
) -> None:
    page = open_jobs(serve(job_store_url=f"sqlite:///{tmp_path / 'empty.db'}"))
    expect(page.part("history")).to_contain_text("The job history holds no job yet.")
    expect(page.part("failures")).to_contain_text("No job failed in the last 24 hours.")
    page.expect_state("history", "fresh")


def reopened(open_jobs: OpenJobs, at: DashboardProcess, state: str) -> JobsPage:
    """A page of another reader, as soon as both parts are in that state. Answers are shared for
    some seconds, so the first of them may still be another.
    """
    until = time.monotonic() + WAIT_MS / 1000
    while True:
        page = open_jobs(at)
        states = {page.part(name).get_attribute("data-state") for name in ("failures", "history")}
        if states == {state}:
            return page
        assert time.monotonic() < until, states
        page.page.close()


@dataclass(frozen=True)
class Case:
    """``words`` are what the page of jobs says, ``cause`` is what all say."""

    trouble: str
    words: str
    cause: str


CASES = (
    Case("down", "The job history cannot be reached", "cannot be opened"),
    Case("no permission", "The dashboard may not read the job history", "its user lacks a right"),
    Case("slow", "The job history does not answer in time", "it took too long"),
    # Whether a connection was open then or not.
    Case("frozen", "The job history ", "does not answer in time"),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.trouble)
def test_the_last_data_stay_with_their_age_and_the_cause_until_it_answers_again(
    case: Case, open_jobs: OpenJobs, faulty: Faulty, world: World, onlookers: Onlookers
) -> None:
    dashboard, charts = world.dashboard, onlookers.charts
    rows = reopened(open_jobs, dashboard, "fresh").ids()
    failures = charts.page.get_by_role("region", name="Recent failures")
    for part in (charts.source("job_history"), failures):
        charts.refresh_until(part, "fresh")
    told_before = charts.source("prometheus").inner_text()
    with faulty.trouble(case.trouble):
        page = reopened(open_jobs, dashboard, "stale")
        for name in ("failures", "history"):
            said = alert(page, name).inner_text()
            assert said.startswith(case.words)
            assert case.cause in said
            assert re.search(r", since \S+; these are the data of ", said)
        assert page.ids() == rows
        expect(page.groups).to_have_count(3)
        other = open_jobs(dashboard, "?tenant=acme&find=zebra")
        other.expect_state("history", "unavailable")
        assert case.words in alert(other, "history").inner_text()
        expect(other.table("Jobs")).to_have_count(0)
        download = "/queuescope/jobs.csv?tenant=globex"
        status, body = get(dashboard.port, download, timeout_seconds=30)
        assert (status, CANARY in body) == (503, False)
        assert get(dashboard.port, "/healthz") == (200, "ok\n")
        # The charts have a source of their own, and say which one they lack.
        charts.refresh_until(charts.source("job_history"), "stale")
        expect(charts.source("job_history")).to_contain_text(case.cause)
        rate = charts.page.locator("[data-kpi=success_rate]")
        expect(rate).to_have_attribute("data-origin", "prometheus")
        expect(rate).to_contain_text("from Prometheus")
        charts.refresh_until(failures, "stale")
        expect(failures.locator(".qs-cause")).to_contain_text(case.cause)
        for name in ("prometheus", "broker", "audit"):
            expect(charts.source(name)).to_have_attribute("data-state", "fresh")
        expect(charts.source("prometheus")).not_to_have_text(told_before)
        charts.expect_states("fresh")
        workers = onlookers.workers
        expect(workers.locator(".qs-live > .qs-part-of")).to_have_attribute("data-state", "fresh")
        assert CANARY not in charts.page.content() + workers.content()
        assert CANARY not in get(dashboard.port, "/metrics")[1] + dashboard.log
    again = reopened(open_jobs, dashboard, "fresh")
    assert again.ids() == rows
    assert charts.complaints == []


def test_workers_whose_history_cannot_be_kept_are_told_of_until_it_is(
    open_jobs: OpenJobs, faulty: Faulty, world: World, onlookers: Onlookers
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
    warning = crew_page.locator(".qs-notice", has_text="has not been kept since")
    with Crew(world.server.port) as crew:
        crew.join("gone@shop", started_at=now - 600, redelivers=False)
        crew.lose("gone@shop")
        expect(crew_page.locator(".qs-lost")).to_contain_text("gone@shop")
        expect(warning).to_contain_text("jobs of lost workers may still stand as started")
        expect(warning).to_contain_text("its user lacks a right; grant SELECT, INSERT and UPDATE")
        assert CANARY not in crew_page.content()
        page = open_jobs(world.dashboard, "?find=left-behind")
        expect(page.rows.first).to_contain_text("started")
        faulty.execute("GRANT INSERT, UPDATE ON jobs TO reader")
        try:
            expect(warning).to_have_count(0)
            page = open_jobs(world.dashboard, "?find=left-behind&status=lost")
            expect(page.rows).to_have_count(1)
            expect(page.rows.first).to_contain_text("lost")
        finally:
            faulty.execute("REVOKE INSERT, UPDATE ON jobs FROM reader")
            faulty.execute("DELETE FROM jobs WHERE id = 'left-behind'")


def test_a_locked_table_is_told(serve: Serve, open_jobs: OpenJobs, faulty: Faulty) -> None:
    dashboard = serve(job_store_url=faulty.url)
    with faulty.server.connect("faulty") as other:
        other.execute("BEGIN")
        other.execute("LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE")
        page = open_jobs(dashboard)
        page.expect_state("history", "unavailable")
        said = alert(page, "history").inner_text()
        assert said.startswith("Another program keeps the job history locked, since ")
        other.execute("ROLLBACK")


def test_a_history_that_may_only_be_read_is_read(
    serve: Serve, open_jobs: OpenJobs, faulty: Faulty
) -> None:
    query = "?options=-c%20default_transaction_read_only%3Don"
    page = open_jobs(serve(job_store_url=faulty.url + query))
    page.expect_state("history", "fresh")
    expect(page.count).to_have_text("261 jobs")


@contextmanager
def kept_locked(file: Path) -> Iterator[None]:
    writer = sqlite3.connect(file)
    writer.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        writer.close()


@contextmanager
def kept_alone(file: Path) -> Iterator[None]:
    """While one connection keeps all others from even reading."""
    keeper = sqlite3.connect(file, isolation_level=None)
    keeper.execute("PRAGMA locking_mode=EXCLUSIVE")
    keeper.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        keeper.close()


@contextmanager
def with_mode(file: Path, mode: int) -> Iterator[None]:
    file.chmod(mode)
    try:
        yield
    finally:
        file.chmod(0o644)


def test_readers_of_sqlite_wait_for_no_writer_and_of_what_bars_them_the_cause_is_told(
    open_jobs: OpenJobs, tmp_path: Path
) -> None:
    file = tmp_path / "jobs.db"
    store = JobStore(f"sqlite:///{file}")
    store.record(some_jobs(time.time()))
    store.close()
    made = DashboardProcess(tmp_path, NOWHERE, job_store_url=f"sqlite:///{file}")
    made.is_privileged = False
    with made as dashboard:
        with kept_locked(file):
            rows = reopened(open_jobs, dashboard, "fresh").ids()
        with with_mode(file, 0o444):
            assert reopened(open_jobs, dashboard, "fresh").ids() == rows
        for trouble, words, cause in (
            (with_mode(file, 0), "The job history cannot be reached", "cannot be opened"),
            (kept_alone(file), "Another program keeps the job history locked", "keeps it locked"),
        ):
            with trouble:
                page = reopened(open_jobs, dashboard, "stale")
                said = alert(page, "history").inner_text()
                assert words in said
                assert cause in said
                assert page.ids() == rows
            reopened(open_jobs, dashboard, "fresh")
        for part in tmp_path.glob("jobs.db*"):
            part.unlink()
        file.write_bytes(b"no database at all" * 500)
        broken = open_jobs(dashboard, "?tenant=acme")
        broken.expect_state("history", "unavailable")
        said = alert(broken, "history").inner_text()
        assert "The job history gives no usable answer" in said
        assert "its file is no database" in said
        reopened(open_jobs, dashboard, "stale")
