"""The status of a worker from its last report."""

from __future__ import annotations

from typing import Any

import pytest
from tests.worker_reports import AHEAD, BUSY, JOB, NOW, report

from queuescope.broker.desired import DesiredState
from queuescope.broker.fleet import Fleet, Scheduled, fleet_of
from queuescope.broker.protocol import QueueReading, WorkersReading
from queuescope.broker.reports import Pool, RateLimited
from queuescope.broker.timings import DEFAULT_TIMINGS
from queuescope.broker.worker import WorkerStatus

WAITS = QueueReading("orders", 5, 60.0, 0)
DESIRED = DesiredState(revision=4)


def fleet(*queues: QueueReading, desired: DesiredState = DESIRED, **changes: Any) -> Fleet:
    return fleet_of(WorkersReading(NOW, (report(**changes),)), desired, queues)


FULL: dict[str, Any] = {"active": (JOB, JOB), "active_count": 2}
ALL_PAUSED: dict[str, Any] = {"paused": ("express", "orders"), "consuming": ()}
ENDING: dict[str, Any] = {
    "shutting_down_at": NOW + AHEAD - 90,
    "consuming": (),
    "loop_at": NOW + AHEAD - 90,
}
LIMITED: dict[str, Any] = {"rate_limited": (RateLimited(name="nap", per_second=1 / 60, count=2),)}
CUT_OFF: dict[str, Any] = {"loop_at": NOW + AHEAD - 60, "consuming": ()}
PAUSE = DesiredState(revision=4, paused=("*",))


@pytest.mark.parametrize(
    ("status", "fleet_now"),
    [
        (WorkerStatus.IDLE, fleet()),
        (WorkerStatus.ACTIVE, fleet(**BUSY)),
        (WorkerStatus.PAUSED, fleet(WAITS, desired=PAUSE, **ALL_PAUSED)),
        # A paused worker that still finishes a job is active.
        (WorkerStatus.ACTIVE, fleet(desired=PAUSE, **ALL_PAUSED, **BUSY)),
        (WorkerStatus.LOST, fleet(at=NOW - 16, **BUSY)),
        (WorkerStatus.IDLE, fleet(at=NOW - 14)),
        # Free, and what it serves waits longer than it should.
        (WorkerStatus.STALLED, fleet(WAITS)),
        (WorkerStatus.STALLED, fleet(WAITS, **BUSY)),
        (WorkerStatus.ACTIVE, fleet(WAITS, **FULL)),
        (WorkerStatus.IDLE, fleet(QueueReading("orders", 5, 20.0, 0))),
        (WorkerStatus.IDLE, fleet(QueueReading("orders", 5, None, 0))),
        (WorkerStatus.IDLE, fleet(QueueReading("elsewhere", 5, 60.0, 0))),
        (WorkerStatus.IDLE, fleet(WAITS, last_started_at=NOW + AHEAD - 20)),
        # Just resumed or just started: it needs some time.
        (WorkerStatus.IDLE, fleet(WAITS, revised_at=NOW + AHEAD - 5)),
        (WorkerStatus.IDLE, fleet(WAITS, started_at=NOW + AHEAD - 5)),
        (WorkerStatus.IDLE, fleet(WAITS, desired=DesiredState(revision=5))),
        # It does not fetch, and its queue is not paused.
        (WorkerStatus.STALLED, fleet(consuming=("express",))),
        # It takes no more since it should not: neither its loop nor its queues matter.
        (WorkerStatus.SHUTTING_DOWN, fleet(WAITS, **ENDING)),
        (WorkerStatus.SHUTTING_DOWN, fleet(WAITS, **ENDING, **BUSY)),
        (WorkerStatus.LOST, fleet(WAITS, at=NOW - 16, **ENDING, **BUSY)),
        # What it may fetch is taken by jobs that may not begin yet; with room it should take more.
        (WorkerStatus.RATE_LIMITED, fleet(WAITS, reserved={"orders": 2}, **LIMITED)),
        (WorkerStatus.RATE_LIMITED, fleet(WAITS, prefetch_limit=0, **LIMITED)),
        (WorkerStatus.STALLED, fleet(WAITS, prefetch_limit=8, reserved={"orders": 2}, **LIMITED)),
        # So many scheduled jobs that nothing else is fetched.
        (WorkerStatus.STALLED, fleet(WAITS, reserved={"orders": 2}, scheduled=2)),
        # The broker was away: Celery takes its time to connect again, and then to begin.
        (WorkerStatus.IDLE, fleet(WAITS, is_connected=False, **CUT_OFF)),
        (WorkerStatus.ACTIVE, fleet(WAITS, is_connected=False, **CUT_OFF, **BUSY)),
        (WorkerStatus.IDLE, fleet(WAITS, connected_at=NOW + AHEAD - 3)),
        (WorkerStatus.STALLED, fleet(is_connected=False, loop_at=NOW + AHEAD - 200)),
        # Only just resumed, and the loop has not come round to it.
        (WorkerStatus.IDLE, fleet(consuming=(), revised_at=NOW + AHEAD - 2)),
        # Scaled to no process.
        (WorkerStatus.IDLE, fleet(WAITS, pool_size=0)),
        # Its main loop hangs; a solo worker in mid-job has none that runs.
        (WorkerStatus.STALLED, fleet(loop_at=NOW + AHEAD - 60)),
        (WorkerStatus.ACTIVE, fleet(loop_at=NOW + AHEAD - 60, pool_size=1, **BUSY)),
    ],
)
def test_status(status: WorkerStatus, fleet_now: Fleet) -> None:
    (worker,) = fleet_now.workers
    assert worker.status is status
    must_be_told = (WorkerStatus.STALLED, WorkerStatus.LOST, WorkerStatus.RATE_LIMITED)
    is_cut_off = not worker.report.is_connected
    assert bool(worker.reason) == (status in must_be_told or is_cut_off)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, ""),
        (BUSY, ""),
        ({"pool": Pool.THREADS}, "Only a pool of processes can be scaled; this one is threads."),
        ({"pool": Pool.SOLO}, "Only a pool of processes can be scaled; this one is solo."),
        (
            {"pool": Pool.OTHER},
            "Only a pool of processes can be scaled; this one is of another kind.",
        ),
        ({"scales_itself": True}, "This worker scales itself (--autoscale)."),
        (ENDING, "This worker is shutting down."),
        ({"at": NOW - 60}, "This worker does not report."),
    ],
)
def test_why_a_pool_cannot_be_scaled(changes: dict[str, Any], why: str) -> None:
    (worker,) = fleet(**changes).workers
    assert worker.cannot_scale == why


def test_workers_with_a_shared_name_are_not_scaled_unless_one_shuts_down() -> None:
    one, two = report(boot_id="1"), report(boot_id="2")
    ends = report(boot_id="0", **ENDING)
    both = fleet_of(WorkersReading(NOW, (one, two)), DESIRED)
    assert {both.cannot_scale(worker) for worker in both.workers} == {
        "Several workers have this name, and the command to scale would reach them all."
    }
    follows = fleet_of(WorkersReading(NOW, (ends, one)), DESIRED)
    assert [follows.cannot_scale(w) for w in follows.workers] == [
        "This worker is shutting down.",
        "",
    ]
    # The one that stays is found.
    assert follows.get("w@h") == follows.workers[1]


@pytest.mark.parametrize("pool", Pool)
def test_why_a_running_job_cannot_be_ended(pool: Pool) -> None:
    """If that is unknown, as for gevent, there is no reason against it."""
    (worker,) = fleet(pool=pool, **BUSY).workers
    cannot = pool in (Pool.THREADS, Pool.SOLO)
    why = f"Worker w@h runs this job and cannot end it: its pool is {pool}, and only a pool of"
    assert worker.cannot_end.startswith(why) == bool(worker.cannot_end) == cannot


def test_rate_limited_jobs_are_named_with_their_rate() -> None:
    (worker,) = fleet(**LIMITED).workers
    assert worker.reason == "A rate limit holds back 2 jobs of nap (1 a minute)."
    (worker,) = fleet(
        rate_limited=(
            RateLimited(name="a", per_second=2.5, count=1),
            RateLimited(name="b", per_second=1 / 7200, count=1234),
        )
    ).workers
    assert worker.reason == (
        "A rate limit holds back 1 job of a (2.5 a second), 1,234 jobs of b (12 a day)."
    )


def test_a_worker_that_shuts_down_says_what_it_finishes() -> None:
    assert [fleet(**ENDING, active_count=n).workers[0].words for n in (0, 1, 3)] == [
        "shutting down",
        "shutting down, finishes 1 job",
        "shutting down, finishes 3 jobs",
    ]


def test_scheduled_jobs_are_counted_by_queue_with_the_time_of_the_next() -> None:
    """By the broker's clock; a lost worker has none, since the broker will deliver them again."""
    reports = (
        report(worker="a", scheduled_queues={"orders": 2}, next_due_at=NOW + AHEAD + 60),
        report(worker="b", scheduled_queues={"orders": 1, "mail": 4}, next_due_at=NOW + AHEAD + 9),
        report(worker="gone", at=NOW - 60, scheduled_queues={"orders": 7}, next_due_at=NOW),
    )
    seen = fleet_of(WorkersReading(NOW, reports), DESIRED)
    assert seen.scheduled() == Scheduled(7, NOW + 9)
    # Which of its queues the next job of b is of is unknown.
    assert seen.scheduled("orders") == Scheduled(3, None)
    assert seen.scheduled("mail") == Scheduled(4, None)
    assert seen.scheduled("elsewhere") is None
    only = fleet_of(WorkersReading(NOW, reports[:1]), DESIRED)
    assert only.scheduled("orders") == Scheduled(2, NOW + 60)


def test_ages_do_not_depend_on_the_workers_clock() -> None:
    (alive,) = fleet(**BUSY).workers
    assert alive.age_seconds(JOB) == pytest.approx(40.0)
    assert alive.uptime_seconds == pytest.approx(999.0)
    (lost,) = fleet(at=NOW - 100, **BUSY).workers
    assert lost.age_seconds(JOB) == pytest.approx(39.0)


def test_a_pause_is_confirmed_by_living_workers_that_serve_the_queue() -> None:
    reports = tuple(
        report(worker=name, revision=revision, at=at, queues=queues)
        for name, revision, at, queues in (
            ("a", 4, NOW, ("orders",)),
            ("behind", 3, NOW, ("orders",)),
            ("gone", 3, NOW - 60, ("orders",)),
            ("other", 3, NOW, ("express",)),
        )
    )
    said = fleet_of(WorkersReading(NOW, reports), DESIRED).confirmation("orders", DESIRED)
    assert (said.confirmed, said.asked, said.missing) == (1, 2, ("behind",))
    assert not said.is_complete


@pytest.mark.parametrize(
    ("is_lost", "fleet_now", "started_at"),
    [
        (False, fleet(**BUSY), NOW + AHEAD - 40),
        (True, fleet(at=NOW - 16, **BUSY), NOW + AHEAD - 40),
        # From an earlier run of the same worker.
        (True, fleet(), NOW + AHEAD - 1001),
        # It says that it runs it: its clock was put right meanwhile.
        (False, fleet(**BUSY), NOW + AHEAD - 1001),
        # It has had the time to report it, and does not.
        (True, fleet(), NOW + AHEAD - 40),
        (False, fleet(), NOW + AHEAD - 5),
        # More run than a report names.
        (False, fleet(active_count=201), NOW + AHEAD - 40),
    ],
)
def test_a_started_job_runs_or_is_lost(is_lost: bool, fleet_now: Fleet, started_at: float) -> None:
    assert fleet_now.has_lost("w@h", "j", started_at) is is_lost


def test_nothing_is_known_of_a_worker_that_never_reports() -> None:
    assert fleet().has_lost("unknown@h", "j", NOW) is None


def test_the_jobs_of_a_lost_worker_are_listed_with_their_future() -> None:
    assert fleet(**BUSY).lost_jobs() == ()
    (left,) = fleet(at=NOW - 16, **BUSY).lost_jobs()
    assert (left.worker, left.redelivers) == ("w@h", True)
    assert left.before > JOB.started_at


def test_expired_workers_have_lost_jobs_too() -> None:
    """No dashboard may have run while it was lost."""
    old = report(at=NOW - DEFAULT_TIMINGS.drop_seconds - 60, **BUSY)
    seen = fleet_of(WorkersReading(NOW, (), (old,)), DESIRED)
    assert seen.workers == ()
    assert [(left.worker, left.boot_id) for left in seen.lost_jobs()] == [("w@h", "b")]
