"""The page of jobs while its database fails: the cause, and the last data with their age."""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.browser.dashboard_process import DashboardProcess, get
from tests.browser.jobs_page import NOWHERE, some_jobs
from tests.dashboard.jobs.jobs_seen import BOTH, look, once
from tests.faulty_history import CANARY, FaultyHistory
from tests.instrument.conftest import until
from tests.real_postgresql import RealPostgreSQL

from queuescope.jobs.store import JobStore


@pytest.fixture(scope="module")
def faulty(postgresql: RealPostgreSQL) -> Iterator[FaultyHistory]:
    with FaultyHistory.on(postgresql) as made:
        yield made


@pytest.fixture(scope="module")
def dashboard(
    faulty: FaultyHistory, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DashboardProcess]:
    folder = tmp_path_factory.mktemp("dashboard")
    with DashboardProcess(folder, NOWHERE, job_store_url=faulty.url) as running:
        yield running


def test_without_a_history_the_page_names_the_setting(tmp_path: Path) -> None:
    with DashboardProcess(tmp_path, NOWHERE) as dashboard:
        seen = look(dashboard)
        assert "QUEUESCOPE_JOB_STORE_URL" in seen.text
        assert seen.states == {}
        assert get(dashboard.port, "/queuescope/jobs.csv")[0] == 404


def test_an_empty_history_says_so_and_shows_no_zero_as_health(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'empty.db'}"
    with DashboardProcess(tmp_path, NOWHERE, job_store_url=url) as dashboard:
        seen = once(dashboard, "fresh")
    assert seen.states == dict.fromkeys(BOTH, "fresh")
    assert "The job history holds no jobs yet." in seen.text
    assert "No job failed in the last 24 hours." in seen.text


@dataclass(frozen=True)
class Case:
    """``words`` are what the page says, ``cause`` is in it."""

    trouble: str
    words: str
    cause: str


CASES = (
    Case("no permission", "The dashboard may not read the job history", "its user lacks a right"),
    Case("slow", "The job history does not answer in time", "it took too long"),
    # Whether a connection was open then or not.
    Case("frozen", "The job history ", "does not answer in time"),
    # A connection was closed, or cannot be opened.
    Case("down", "The job history cannot be reached", "check that it runs and is reachable"),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.trouble)
def test_the_last_data_stay_with_their_age_and_the_cause_until_it_answers_again(
    case: Case, dashboard: DashboardProcess, faulty: FaultyHistory
) -> None:
    before = once(dashboard, "fresh")
    assert before.ids["history"]
    with faulty.trouble(case.trouble):
        seen = once(dashboard, "stale")
        for name in BOTH:
            assert seen.alerts[name].startswith(case.words)
            assert case.cause in seen.alerts[name]
            assert re.search(r", since +\S+ *; the data shown are of ", seen.alerts[name])
        assert seen.ids == before.ids
        other = look(dashboard, "tenant=acme&find=zebra")
        assert other.states["history"] == "unavailable"
        assert case.words in other.alerts["history"]
        assert other.ids["history"] == []
        status, body = get(dashboard.port, "/queuescope/jobs.csv?tenant=globex")
        assert (status, CANARY in body) == (503, False)
        assert get(dashboard.port, "/healthz") == (200, "ok\n")
        published = get(dashboard.port, "/metrics")[1] + dashboard.log
        assert CANARY not in seen.text + other.text + published
    assert once(dashboard, "fresh").ids == before.ids


def test_a_locked_table_is_reported(tmp_path: Path, faulty: FaultyHistory) -> None:
    with (
        DashboardProcess(tmp_path, NOWHERE, job_store_url=faulty.url) as dashboard,
        faulty.server.connect("faulty") as other,
    ):
        other.execute("BEGIN")
        other.execute("LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE")
        words = "Another program has locked the job history, since "
        seen = until(
            lambda: look(dashboard),
            lambda seen: seen.alerts.get("history", "").startswith(words),
            pause_seconds=0.5,
        )
        other.execute("ROLLBACK")
    assert seen.states["history"] == "unavailable"


def test_a_history_that_may_only_be_read_is_read(tmp_path: Path, faulty: FaultyHistory) -> None:
    url = faulty.url + "?options=-c%20default_transaction_read_only%3Don"
    with DashboardProcess(tmp_path, NOWHERE, job_store_url=url) as dashboard:
        seen = once(dashboard, "fresh")
    assert seen.states["history"] == "fresh"
    assert "<b>261 jobs</b>" in seen.text


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


def test_readers_of_sqlite_wait_for_no_writer_and_report_what_blocks_them(
    tmp_path: Path,
) -> None:
    file = tmp_path / "jobs.db"
    with closing(JobStore(f"sqlite:///{file}")) as store:
        store.record(some_jobs(time.time()))
    made = DashboardProcess(tmp_path, NOWHERE, job_store_url=f"sqlite:///{file}")
    made.is_privileged = False
    with made as dashboard:
        with kept_locked(file):
            rows = once(dashboard, "fresh").ids
        with with_mode(file, 0o444):
            assert once(dashboard, "fresh").ids == rows
        for trouble, words, cause in (
            (with_mode(file, 0), "The job history cannot be reached", "cannot be opened"),
            (kept_alone(file), "Another program has locked the job history", "has locked it"),
        ):
            with trouble:
                seen = once(dashboard, "stale")
                assert words in seen.alerts["history"]
                assert cause in seen.alerts["history"]
                assert seen.ids == rows
            once(dashboard, "fresh")
        for part in tmp_path.glob("jobs.db*"):
            part.unlink()
        file.write_bytes(b"no database at all" * 500)
        broken = look(dashboard, "tenant=acme")
        assert broken.states["history"] == "unavailable"
        assert "The job history gives no usable answer" in broken.alerts["history"]
        assert "its file is not a database" in broken.alerts["history"]
        once(dashboard, "stale")
