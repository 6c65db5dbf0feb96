"""The numbers of a day, counted from rows in SQLite and PostgreSQL."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from queuescope.jobs.job import Job, JobStatus
from queuescope.jobs.store import JobStore
from queuescope.jobs.totals import JobTotals, read_totals

NOW = 1_000_000_000.0
JOB = Job("", "enhance", "acme", "default", "w@h", JobStatus.SUCCEEDED, started_at=NOW - 5000.0)


def ended(status: JobStatus, *ago_seconds: float) -> list[Job]:
    return [
        replace(JOB, id=f"{status}-{number}-{ago}", status=status, finished_at=NOW - ago)
        for number, ago in enumerate(ago_seconds)
    ]


def totals(store: JobStore, window_seconds: float = 600) -> JobTotals:
    return read_totals(store, now=NOW, window_seconds=window_seconds)


def test_jobs_are_counted_by_outcome_and_end(store: JobStore) -> None:
    store.record(
        [
            *ended(JobStatus.SUCCEEDED, 0, 10, 299, 301, 599, 86_399, 86_401),
            *ended(JobStatus.FAILED, 20, 400, 86_000),
            *ended(JobStatus.LOST, 30, 90_000),
            # Neither succeeded nor failed, but gone from the queue.
            *ended(JobStatus.REVOKED, 40, 700),
            # They have not ended.
            *ended(JobStatus.RETRYING, 50),
            replace(JOB, id="runs", status=JobStatus.STARTED, started_at=NOW - 5),
        ]
    )
    found = totals(store)
    assert (found.succeeded_in_day, found.unsuccessful_in_day) == (6, 4)
    assert (found.succeeded_lately, found.unsuccessful_lately) == (3, 2)
    assert found.left == 5 + 3 + 1
    assert found.left_per_second == pytest.approx(9 / 600)
    assert found.ended_per_minute == 1.0
    assert found.success_percent_of_day == 60.0
    assert found.success_percent_lately == 60.0
    assert found.began_at == NOW - 90_000


def test_latencies_are_those_of_jobs_that_ended_lately(store: JobStore) -> None:
    """Sorted by hand: twenty jobs took 1 to 20 s, so that 95 in a hundred took at most 19 s."""
    took = [
        replace(job, enqueued_at=NOW - 10 - n)
        for n, job in enumerate(ended(JobStatus.SUCCEEDED, *([10] * 20)), 1)
    ]
    took[3] = replace(took[3], status=JobStatus.FAILED)
    beside = [
        # Too old, ended in another way, still running, or without any time.
        *ended(JobStatus.SUCCEEDED, 301),
        *ended(JobStatus.LOST, 20),
        *ended(JobStatus.REVOKED, 20),
        *ended(JobStatus.RETRYING, 20),
    ]
    beside = [replace(job, enqueued_at=NOW - 5000) for job in beside]
    store.record([*took, *beside, *ended(JobStatus.FAILED, 30)])
    found = totals(store)
    assert found.measured_lately == 21
    assert found.latencies == pytest.approx({0.5: 10, 0.95: 19, 0.99: 20})


def test_one_job_is_each_quantile_and_a_clock_that_is_behind_makes_no_time_negative(
    store: JobStore,
) -> None:
    [job] = ended(JobStatus.SUCCEEDED, 10)
    store.record([replace(job, enqueued_at=NOW - 12.5)])
    assert totals(store).latencies == {0.5: 2.5, 0.95: 2.5, 0.99: 2.5}
    store.record([replace(job, enqueued_at=NOW)])
    assert set(totals(store).latencies.values()) == {0.0}


def test_without_jobs_there_is_no_rate(store: JobStore) -> None:
    found = totals(store)
    assert (found.ended_in_day, found.left, found.began_at) == (0, 0, None)
    assert math.isnan(found.success_percent_of_day)
    assert math.isnan(found.success_percent_lately)
    assert found.ended_per_minute == 0.0
    assert found.latencies == {}


def test_a_job_of_a_worker_whose_clock_is_ahead_counts(store: JobStore) -> None:
    store.record(ended(JobStatus.SUCCEEDED, -120))
    assert (totals(store).succeeded_lately, totals(store).left) == (1, 1)


def test_the_window_of_the_forecast_may_be_longer_than_a_day(store: JobStore) -> None:
    store.record(ended(JobStatus.SUCCEEDED, 10, 100_000))
    found = totals(store, window_seconds=200_000)
    assert (found.succeeded_in_day, found.left) == (1, 2)


def test_a_rate_covers_only_the_time_of_the_history(store: JobStore) -> None:
    """40 jobs in 40 s are one a second, not 40 in five minutes."""
    store.record(ended(JobStatus.SUCCEEDED, *(float(ago) for ago in range(1, 41))))
    found = totals(store)
    assert found.ended_per_minute == pytest.approx(60)
    assert found.left_per_second == pytest.approx(1)
    assert (found.covered(300), found.covered(20)) == (40, 20)
    # A single job just now is no rate of hundreds.
    assert replace(found, began_at=NOW - 1).covered(300) == 10
