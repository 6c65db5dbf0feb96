"""Jobs that kill their process or worker, and are redelivered if their task says so."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.instrument.conftest import Shop, until
from tests.job_rows import ended_jobs, jobs_that_are

from queuescope.broker.fleet import fleet_of
from queuescope.broker.redis.broker import RedisBroker
from queuescope.jobs.job import LOST_WORKER, JobStatus


@pytest.fixture
def broker(shop: Shop) -> Iterator[RedisBroker]:
    shop.clear()
    made = RedisBroker(shop.broker_url, timeout_seconds=30)
    yield made
    made.close()


def test_a_job_that_kills_every_process_is_visible(
    shop: Shop, broker: RedisBroker, tmp_path: Path
) -> None:
    """One attempt, by Celery's count, however often it is delivered."""
    worker = shop.start_worker("-c", "1")
    path = tmp_path / "killed"
    end = tmp_path / "end"
    job_id = shop.send("kill", path=str(path), times=3, until=str(end))
    until(
        lambda: [job for r in broker.workers().reports for job in r.active],
        lambda jobs: [job.is_redelivered for job in jobs] == [True],
    )
    until(lambda: path.read_text("utf-8").split(), lambda words: len(words) == 4)
    end.touch()
    row = until(
        lambda: worker.store.get(job_id),
        lambda job: (
            job is not None and job.finished_at is not None and job.status == JobStatus.SUCCEEDED
        ),
    )
    assert row is not None
    assert len(path.read_text("utf-8").split()) == 4
    assert (row.attempts, row.deliveries, row.redelivers) == (1, 4, True)
    again = worker.scrape().value("ai_agents_enhancement_redelivered_total", queue="orders")
    assert again == 3.0
    healthy = shop.send("nap")
    row = until(
        lambda: worker.store.get(healthy),
        lambda job: job is not None and job.status == JobStatus.SUCCEEDED,
    )
    assert row is not None
    assert (row.deliveries, row.redelivers) == (1, False)


def test_jobs_of_a_killed_worker_are_redelivered_as_their_task_says(
    shop: Shop, broker: RedisBroker
) -> None:
    """The project acknowledges early, one of its tasks late."""
    worker = shop.start_worker("-c", "2")
    name = f"w{shop._count}@shop"
    early, late = shop.send("nap", seconds=600), shop.send("nap_late", seconds=600)
    until(
        lambda: {job.id for job in jobs_that_are(worker.store, JobStatus.STARTED)},
        lambda ids: ids == {early, late},
    )
    report = until(
        lambda: next((r for r in broker.workers().reports if r.worker == name), None),
        lambda found: found is not None and found.active_count == 2,
    )
    assert report is not None
    assert not report.redelivers
    assert {job.id: job.redelivers for job in report.active} == {early: False, late: True}
    assert {job.id: job.is_redelivered for job in report.active} == {early: False, late: False}
    os.killpg(worker.process.pid, signal.SIGKILL)
    worker.process.wait()
    lost = until(lambda: fleet_of(broker.workers(), broker.desired()).lost_jobs(), bool)
    (left,) = [one for one in lost if one.worker == name]
    ended = worker.store.end_lost(name, before=left.before, redelivers=left.redelivers)
    assert ended == {JobStatus.RETRYING: 1, JobStatus.LOST: 1}
    status = {job.id: (job.status, job.error_class) for job in ended_jobs(worker.store)}
    assert status == {
        early: (JobStatus.LOST, LOST_WORKER),
        late: (JobStatus.RETRYING, LOST_WORKER),
    }
