"""The numbers of a day, counted from rows in SQLite and PostgreSQL."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from queuescope.jobs.store import Job, JobStatus, JobStore
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


def test_jobs_count_by_what_became_of_them_and_by_when_they_ended(store: JobStore) -> None:
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


def test_of_no_jobs_there_is_no_rate(store: JobStore) -> None:
    found = totals(store)
    assert (found.ended_in_day, found.left, found.began_at) == (0, 0, None)
    assert math.isnan(found.success_percent_of_day)
    assert math.isnan(found.success_percent_lately)
    assert found.ended_per_minute == 0.0


def test_a_job_of_a_worker_whose_clock_is_ahead_counts(store: JobStore) -> None:
    store.record(ended(JobStatus.SUCCEEDED, -120))
    assert (totals(store).succeeded_lately, totals(store).left) == (1, 1)


def test_the_window_of_the_forecast_may_be_longer_than_a_day(store: JobStore) -> None:
    store.record(ended(JobStatus.SUCCEEDED, 10, 100_000))
    found = totals(store, window_seconds=200_000)
    assert (found.succeeded_in_day, found.left) == (1, 2)
