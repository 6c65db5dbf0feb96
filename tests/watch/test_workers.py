"""What is said of each worker: limits, stuck jobs, pauses, and when a lost one is forgotten."""

from __future__ import annotations

from typing import Any

import pytest
from tests.worker_reports import AHEAD, BUSY, JOB, NOW, report

from queuescope.broker.desired import DesiredState
from queuescope.broker.fleet import fleet_of
from queuescope.broker.protocol import WorkersReading
from queuescope.broker.reports import WorkerReport
from queuescope.broker.worker import WorkerStatus
from queuescope.jobs.store import UsualRuntime
from queuescope.watch import BrokerState, CompletionRate
from queuescope.watch.workers import (
    Level,
    QueueState,
    Usage,
    WorkerDetails,
    WorkerList,
    list_workers,
    natural_key,
)

USUAL = {"nap": UsualRuntime(12.0, 500)}
DESIRED = DesiredState(revision=4)


def of(
    *reports: WorkerReport,
    desired: DesiredState = DESIRED,
    usual: dict[str, UsualRuntime] = USUAL,
    completion_rates: dict[tuple[str, str], CompletionRate] | None = None,
) -> WorkerList:
    fleet = fleet_of(WorkersReading(NOW, reports), desired)
    return list_workers(BrokerState(NOW, (), fleet, desired, completion_rates or {}), usual)


def entry(**changes: Any) -> WorkerDetails:
    (found,) = of(report(**changes)).alive
    return found


@pytest.mark.parametrize(
    ("used", "limit", "level"),
    [
        (0.0, 2.0, Level.NORMAL),
        (1.59, 2.0, Level.NORMAL),
        (1.6, 2.0, Level.HIGH),
        (1.899, 2.0, Level.HIGH),
        (1.9, 2.0, Level.CRITICAL),
        (3.0, 2.0, Level.CRITICAL),
        # Nothing to compare with is no low use.
        (3.0, None, None),
    ],
)
def test_use_is_judged_by_its_limit(used: float, limit: float | None, level: Level | None) -> None:
    assert Usage(used, limit).level is level
    assert (Usage(used, limit).ratio is None) == (limit is None)


def test_cpu_is_measured_against_cores_and_memory_against_its_limit() -> None:
    found = entry(cpu_ratio=1.2, cpu_limit=1.5, memory_bytes=300, memory_limit_bytes=400)
    assert (found.cpu, found.memory) == (Usage(1.2, 1.5), Usage(300, 400.0))
    found = entry(cpu_ratio=1.2, cpu_limit=None, memory_bytes=300, memory_limit_bytes=None)
    assert (found.cpu, found.memory) == (Usage(1.2, None), Usage(300, None))


@pytest.mark.parametrize("changes", [{"started_at": NOW + AHEAD - 6}, {"memory_bytes": 0}])
def test_what_was_not_measured_yet_is_unknown_and_not_nought(changes: dict[str, Any]) -> None:
    found = entry(**changes)
    assert (found.cpu, found.memory) == (None, None)


@pytest.mark.parametrize(
    ("age", "usual", "is_stuck"),
    [
        # Three times as long as 95 % of its kind, and a minute at least.
        (59, UsualRuntime(1.0, 500), False),
        (61, UsualRuntime(1.0, 500), True),
        (149, UsualRuntime(50.0, 500), False),
        (151, UsualRuntime(50.0, 500), True),
        # Too few to conclude from, or none: ten minutes.
        (599, UsualRuntime(1.0, 19), False),
        (601, UsualRuntime(1.0, 19), True),
        (61, UsualRuntime(1.0, 20), True),
        (599, None, False),
        (601, None, True),
    ],
)
def test_a_job_that_is_far_older_than_usual_is_stuck(
    age: float, usual: UsualRuntime | None, is_stuck: bool
) -> None:
    begun = JOB.__class__(
        id="j", name="nap", queue="orders", tenant="acme", started_at=NOW + AHEAD - age
    )
    known = {} if usual is None else {"nap": usual}
    found = of(report(active=(begun,), active_count=1), usual=known)
    (running,) = found.alive[0].jobs
    assert running.age_seconds == pytest.approx(age)
    assert running.is_stuck is is_stuck
    assert found.alive[0].has_stuck_jobs is is_stuck
    assert found.stuck_jobs == is_stuck


def test_jobs_of_a_lost_worker_do_not_count_as_stuck() -> None:
    found = of(report(at=NOW - 60, clock_at=NOW + AHEAD + 9000, **BUSY))
    assert found.lost[0].has_stuck_jobs
    assert found.stuck_jobs == 0


def test_a_queue_is_paused_when_the_worker_says_so() -> None:
    wanted = DesiredState(revision=5, paused=("express",))
    (behind,) = of(report(), desired=wanted).alive
    assert behind.queues == (("express", QueueState.PAUSING), ("orders", QueueState.SERVED))
    (follows,) = of(report(revision=5, paused=("express",)), desired=wanted).alive
    assert follows.queues == (("express", QueueState.PAUSED), ("orders", QueueState.SERVED))


def test_lost_workers_stand_apart_and_drop_off() -> None:
    found = of(
        report(worker="w10@h", **BUSY),
        report(worker="w2@h"),
        report(worker="gone@h", at=NOW - 100, **BUSY),
        completion_rates={
            ("w10@h", "b"): CompletionRate(3.0, 60.0),
            ("gone@h", "b"): CompletionRate(3.0, 60.0),
        },
    )
    assert [entry.worker.name for entry in found.alive] == ["w2@h", "w10@h"]
    (gone,) = found.lost
    assert gone.dropped_in_seconds == pytest.approx(500.0)
    # How fast it was says nothing of now.
    assert gone.completion_rate is None
    assert found.alive[1].completion_rate == CompletionRate(3.0, 60.0)
    assert found.counts == {
        WorkerStatus.ACTIVE: 1,
        WorkerStatus.IDLE: 1,
        WorkerStatus.PAUSED: 0,
        WorkerStatus.RATE_LIMITED: 0,
        WorkerStatus.SHUTTING_DOWN: 0,
        WorkerStatus.STALLED: 0,
        WorkerStatus.LOST: 1,
    }


def test_names_are_ordered_as_people_count() -> None:
    names = ["w10", "w9", "W1", "", "9w", "w", "w9a", "\u0664", "w" + "9" * 4000]
    assert sorted(names, key=natural_key) == [
        "",
        "9w",
        "W1",
        "w",
        "w9",
        "w9a",
        "w10",
        "w" + "9" * 4000,
        "\u0664",
    ]
