"""The history of jobs whose workers are gone: ended once, in both databases, and never for one
that lives.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from tests.worker_reports import AHEAD, BUSY, JOB, NOW, report

from queuescope.broker.desired import DesiredState
from queuescope.broker.fleet import Fleet, fleet_of
from queuescope.broker.protocol import WorkersReading
from queuescope.broker.reports import WorkerReport
from queuescope.broker.timings import DEFAULT_TIMINGS, WorkerTimings
from queuescope.errors import BrokerError, BrokerErrorKind, JobStoreError
from queuescope.jobs.job import Job, JobStatus
from queuescope.jobs.store import JobStore
from queuescope.watch.reconciler import ORPHAN_SECONDS, RETRY_SECONDS, JobReconciler

# Unlike the defaults, so that it shows which are used.
TIMINGS = WorkerTimings(sweep_seconds=20, silence_seconds=50)

ROW = Job(
    id=JOB.id,
    name=JOB.name,
    tenant=JOB.tenant,
    queue=JOB.queue,
    worker="w@h",
    status=JobStatus.STARTED,
    enqueued_at=JOB.started_at - 1,
    started_at=JOB.started_at,
)


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[JobStore]:
    # Only the lock of the file is waited for, and by a test.
    url, timeout_seconds = f"sqlite:///{tmp_path / 'jobs.db'}", 0.2
    if request.param == "postgresql":
        url, timeout_seconds = request.getfixturevalue("postgresql_url"), 30.0
    made = JobStore(url, timeout_seconds=timeout_seconds)
    made.record([ROW])
    yield made
    made.close()


class Site:
    """A reconciler and its inputs: the workers, the time, whether reports can be deleted."""

    def __init__(self, store: JobStore | None) -> None:
        self.store = store
        self.fleet: Fleet | None = None
        # What the clocks of workers say, too.
        self.now = NOW + AHEAD
        self.dropped: list[set[str]] = []
        self.may_drop = True
        self.reconciler = JobReconciler(
            store, lambda: self.fleet, self._drop, clock=lambda: self.now, timings=TIMINGS
        )

    def see(self, *reports: WorkerReport, expired: tuple[WorkerReport, ...] = ()) -> int:
        self.fleet = fleet_of(WorkersReading(NOW, reports, expired), DesiredState())
        return self.reconciler.reconcile()

    def status(self, job_id: str = ROW.id) -> str:
        assert self.store is not None
        row = self.store.get(job_id)
        assert row is not None
        return row.status

    def _drop(self, keep: Collection[str]) -> None:
        if not self.may_drop:
            raise BrokerError(BrokerErrorKind.NO_PERMISSION, "the broker's user lacks a right")
        self.dropped.append(set(keep))


@pytest.fixture
def site(store: JobStore) -> Site:
    return Site(store)


@contextmanager
def out_of_reach(site: Site, request: pytest.FixtureRequest) -> Iterator[Callable[[], None]]:
    """A store that cannot be written, as another holds its lock or its server is away; gives what
    ends that.
    """
    with ExitStack() as ending:
        if "sqlite" in request.node.name:
            writer = sqlite3.connect(request.getfixturevalue("tmp_path") / "jobs.db")
            writer.execute("BEGIN IMMEDIATE")
            ending.callback(writer.close)
        else:
            server = request.getfixturevalue("postgresql")
            server.kill()
            ending.callback(server.start)
        yield ending.close


def test_what_another_worker_of_the_name_runs_is_not_ended(site: Site) -> None:
    """Nor what it started since its last report."""
    store = site.store
    assert store is not None
    store.record([replace(ROW, id="mine"), replace(ROW, id="new", started_at=NOW + AHEAD + 1)])
    living = report(boot_id="other", active=(structs.replace(JOB, id="mine"),), active_count=1)
    assert site.see(report(**LOST), living) == 1
    assert [site.status(job_id) for job_id in ("j", "mine", "new")] == [
        JobStatus.RETRYING,
        JobStatus.STARTED,
        JobStatus.STARTED,
    ]


LOST: dict[str, Any] = {"at": NOW - 16, "clock_at": NOW + AHEAD - 16, **BUSY}


@pytest.mark.parametrize(
    ("redelivers", "status"), [(True, JobStatus.RETRYING), (False, JobStatus.LOST)]
)
def test_a_job_of_a_lost_worker_is_retrying_or_lost(
    site: Site, redelivers: bool, status: JobStatus
) -> None:
    assert site.see(report(**BUSY)) == 0
    assert site.status() is JobStatus.STARTED
    assert site.see(report(redelivers=redelivers, **LOST)) == 1
    assert site.status() is status
    assert site.see(report(redelivers=redelivers, **LOST)) == 0


def test_each_lost_run_is_ended_once_and_the_next_one_is_not_touched(site: Site) -> None:
    site.see(report(**LOST))
    again = replace(ROW, started_at=NOW + AHEAD - 20, attempts=2)
    assert site.store is not None
    site.store.record([again])
    # The report of the old life is still there when the job runs again.
    site.see(report(**LOST))
    assert site.store.get(ROW.id) == replace(again, deliveries=2)


def test_nothing_is_ended_while_the_workers_are_unknown(site: Site) -> None:
    assert site.reconciler.reconcile() == 0
    assert site.status() is JobStatus.STARTED


def test_a_store_that_is_down_is_tried_again_even_when_the_broker_is_down_then(
    site: Site, request: pytest.FixtureRequest
) -> None:
    with out_of_reach(site, request) as back:
        with pytest.raises(JobStoreError):
            site.see(report(**LOST))
        site.fleet = None
        with pytest.raises(JobStoreError):
            site.reconciler.reconcile()
        back()
    assert site.reconciler.reconcile() == 1
    assert site.status() is JobStatus.RETRYING


def test_a_worker_that_comes_back_before_the_store_does_is_not_ended(
    site: Site, request: pytest.FixtureRequest
) -> None:
    with out_of_reach(site, request) as back:
        with pytest.raises(JobStoreError):
            site.see(report(**LOST))
        back()
    site.see(report(**BUSY))
    assert site.status() is JobStatus.STARTED


def test_a_worker_that_was_only_silent_gets_its_jobs_back(site: Site) -> None:
    site.see(report(**LOST))
    assert site.status() is JobStatus.RETRYING
    assert site.see(report(**BUSY)) == 1
    assert site.status() is JobStatus.STARTED
    # And is ended again when it is lost again.
    assert site.see(report(**LOST)) == 1
    assert site.status() is JobStatus.RETRYING


def test_workers_lost_while_no_dashboard_ran_are_ended_before_they_are_dropped(site: Site) -> None:
    old = report(at=NOW - DEFAULT_TIMINGS.drop_seconds - 1, **BUSY)
    assert site.see(expired=(old,)) == 1
    assert site.status() is JobStatus.RETRYING
    assert site.dropped == [set()]


def test_a_report_stays_until_the_history_knows(site: Site, request: pytest.FixtureRequest) -> None:
    old = report(at=NOW - DEFAULT_TIMINGS.drop_seconds - 1, **BUSY)
    with out_of_reach(site, request) as back:
        with pytest.raises(JobStoreError):
            site.see(expired=(old,))
        assert site.dropped == [{"w@h"}]
        back()
    site.see(expired=(old,))
    assert site.dropped == [{"w@h"}, set()]


def test_the_history_is_corrected_without_the_right_to_delete_reports(site: Site) -> None:
    site.may_drop = False
    with pytest.raises(BrokerError):
        site.see(expired=(report(at=NOW - DEFAULT_TIMINGS.drop_seconds - 1, **BUSY),))
    assert site.status() is JobStatus.RETRYING


def test_without_a_history_reports_are_dropped() -> None:
    site = Site(None)
    assert site.see(report(**LOST), expired=(report(worker="old@h", at=0.0),)) == 0
    assert site.dropped == [set()]


def test_a_job_that_its_living_worker_no_longer_runs_is_lost_after_a_while(site: Site) -> None:
    """Its end was not recorded: a full socket, a store that was down for too long."""
    site.see(report())
    assert site.status() is JobStatus.STARTED
    site.now += TIMINGS.silence_seconds - 1
    site.see(report())
    assert site.status() is JobStatus.STARTED
    site.now += TIMINGS.sweep_seconds + 1
    assert site.see(report()) == 1
    assert site.status() is JobStatus.LOST


def test_a_job_that_is_seen_again_is_suspected_anew(site: Site) -> None:
    site.see(report())
    for reports in (report(**BUSY), report()):
        site.now += TIMINGS.silence_seconds
        site.see(reports)
        assert site.status() is JobStatus.STARTED


def test_a_row_of_an_earlier_run_is_ended(site: Site) -> None:
    """The new run could not write when it started."""
    assert site.see(report(started_at=JOB.started_at + 5)) == 1
    assert site.status() is JobStatus.RETRYING


def test_a_job_of_an_unknown_worker_is_lost_after_a_day(site: Site) -> None:
    """It may never have reported, so its silence proves nothing sooner."""
    site.see()
    site.now = JOB.started_at + ORPHAN_SECONDS
    site.see()
    assert site.status() is JobStatus.STARTED
    site.now += TIMINGS.sweep_seconds
    assert site.see() == 1
    assert site.status() is JobStatus.LOST


def test_a_retry_that_has_not_come_within_a_week_is_lost(site: Site) -> None:
    site.see(report(**LOST))
    site.now += RETRY_SECONDS - TIMINGS.sweep_seconds
    site.see()
    assert site.status() is JobStatus.RETRYING
    site.now += TIMINGS.sweep_seconds
    site.see()
    assert site.status() is JobStatus.LOST
    # And if it comes after all, the history follows.
    assert site.store is not None
    site.store.record([replace(ROW, worker="w2@h", started_at=site.now, attempts=2)])
    assert site.status() is JobStatus.STARTED
