"""The demo's workload: plausible, the same for the past and the present, and within capacity."""

from __future__ import annotations

import numpy as np
import pytest

from queuescope.demo.simulation import absences, simulate
from queuescope.demo.workload import (
    BACKOFF_SECONDS,
    CONCURRENCY,
    MAX_ATTEMPTS,
    QUEUES,
    TASKS,
    TENANTS,
    WORKERS,
    Arrivals,
    Fault,
    IncidentKind,
    World,
)

DAY = 86_400
# Monday, 2026-08-31 00:00 UTC.
START = 1_788_134_400


@pytest.fixture(scope="module")
def week() -> Arrivals:
    return World().arrivals(START, START + 7 * DAY, np.random.default_rng(1))


def test_about_thirty_jobs_arrive_in_a_minute(week: Arrivals) -> None:
    assert 27 < len(week) / (7 * 1440) < 34
    assert np.all(np.diff(week.at) >= 0)


def test_the_day_is_busier_than_the_night_and_the_week_than_its_end(week: Arrivals) -> None:
    per_hour = np.bincount(((week.at - START) // 3600).astype(int), minlength=7 * 24)
    days = per_hour.reshape(7, 24)
    assert days[:, 13:17].mean() > 2 * days[:, 1:5].mean()
    assert days[:5].mean() > 1.2 * days[5:].mean()


def test_runtimes_are_spread_around_six_seconds_and_end_at_the_timeout(week: Arrivals) -> None:
    sound = week.runtime_seconds[week.fault == Fault.NONE]
    assert 5 < np.median(sound) < 7
    assert np.percentile(sound, 99) > 25
    assert week.runtime_seconds.max() == 60.0


def test_tenants_differ_in_rate_and_reliability(week: Arrivals) -> None:
    counts = np.bincount(week.tenant, minlength=len(TENANTS))
    assert list(np.argsort(-counts)) == [0, 1, 2, 3]
    failed = [np.mean(week.fault[week.tenant == index] != Fault.NONE) for index in range(4)]
    assert failed[2] > 2 * failed[0]
    assert all(0 < share < 0.1 for share in failed)


def test_all_kinds_of_faults_and_both_queues_occur(week: Arrivals) -> None:
    assert set(week.fault.tolist()) == {fault.value for fault in Fault}
    assert set(week.queue.tolist()) == set(range(len(QUEUES)))
    assert set(week.priority.tolist()) == {0, 3, 6}
    assert week.limited.max() == MAX_ATTEMPTS - 1


def test_incidents_are_the_same_for_every_caller_and_every_day_has_some() -> None:
    """The producer requests second by second, the history for weeks."""
    whole = World().incidents(START, START + 14 * DAY)
    by_day = [World().incidents(START + d * DAY, START + (d + 1) * DAY) for d in range(14)]
    assert sorted({i.start for day in by_day for i in day}) == sorted(i.start for i in whole)
    assert all(len(day) >= 2 for day in by_day)
    assert {incident.kind for incident in whole} == set(IncidentKind)
    first = whole[0]
    assert first in World().incidents(first.start + 1, first.start + 2)


def test_a_plan_matches_its_arrival(week: Arrivals) -> None:
    at, plan = next(iter(week.plans()))
    assert at == week.at[0]
    assert plan.task == TASKS[week.task[0]].name
    assert plan.arguments() == {
        "tenant": TENANTS[week.tenant[0]].name,
        "ticket_id": week.ticket_id[0],
        "plan": {
            "runtime_seconds": round(float(week.runtime_seconds[0]), 3),
            "rate_limited_attempts": week.limited[0],
            "fault": week.fault[0],
        },
    }


def jobs(*rows: tuple[float, float, int, int]) -> Arrivals:
    """``(at, runtime, priority, limited)`` each."""
    at, runtime, priority, limited = (np.array(column) for column in zip(*rows, strict=True))
    zeros = np.zeros(len(rows), dtype=np.int64)
    return Arrivals(
        at=at.astype(float),
        tenant=zeros,
        task=zeros,
        queue=zeros,
        priority=priority,
        ticket_id=zeros,
        limited=limited,
        fault=zeros,
        runtime_seconds=runtime.astype(float),
    )


def test_a_free_platform_starts_a_job_at_once() -> None:
    done = simulate(jobs((5.0, 2.0, 6, 0), (6.0, 1.0, 6, 0)), [])
    assert done.start.tolist() == [5.0, 6.0]
    assert done.end.tolist() == [7.0, 7.0]


def test_a_full_platform_serves_the_urgent_first_and_then_in_order() -> None:
    slots = WORKERS * CONCURRENCY
    filling = [(0.0, 10.0 + n, 6, 0) for n in range(slots)]
    done = simulate(jobs(*filling, (1.0, 1.0, 6, 0), (2.0, 1.0, 6, 0), (3.0, 1.0, 0, 0)), [])
    started = dict(zip(done.job.tolist(), done.start.tolist(), strict=True))
    assert started[slots + 2] == 10.0
    # The slot of the urgent job is free again at 11, like the second one.
    assert started[slots] == 11.0
    assert started[slots + 1] == 11.0


def test_a_refused_attempt_is_repeated_after_its_countdown() -> None:
    done = simulate(jobs((0.0, 5.0, 6, 2)), [])
    assert done.number.tolist() == [1, 2, 3]
    assert done.is_last.tolist() == [False, False, True]
    assert done.due[1] == done.end[0] + BACKOFF_SECONDS[0]
    assert done.due[2] == done.end[1] + BACKOFF_SECONDS[1]
    assert done.end[2] == done.start[2] + 5.0


def test_an_absent_worker_starts_nothing() -> None:
    week = World().arrivals(START, START + DAY, np.random.default_rng(2))
    away = [(START + 40_000.0, START + 41_000.0)]
    done = simulate(week, away)
    of_last = done.start[done.worker == WORKERS - 1]
    assert not np.any((of_last >= away[0][0]) & (of_last < away[0][1]))
    assert len(done) > len(week)
    assert np.all(done.start >= done.due)


def test_capacity_keeps_up_normally_and_backlogs_drain(week: Arrivals) -> None:
    incidents = World().incidents(START, START + 7 * DAY)
    done = simulate(week, absences(incidents))
    wait = (done.start - done.due)[done.number == 1]
    assert np.median(wait) < 1.0
    assert wait.max() > 60.0
    running = np.searchsorted(np.sort(done.start), done.start, side="right") - np.searchsorted(
        np.sort(done.end), done.start, side="right"
    )
    assert running.max() == WORKERS * CONCURRENCY
