"""The fleet: from the last report of each worker to what may be said of it.

Pure: a reading of the broker goes in, words that the page shows come out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from queuescope.broker.clock import CLOCK_OFF_SECONDS, noticed
from queuescope.broker.redis.broker import QueueReading, WorkersReading
from queuescope.broker.reports import (
    ACTIVE_LIMIT,
    ActiveJob,
    DesiredState,
    Pool,
    RateLimited,
    WorkerReport,
    began_at,
)
from queuescope.broker.timings import DEFAULT_TIMINGS, WorkerTimings
from queuescope.words import counted


class WorkerStatus(StrEnum):
    """``stalled`` lives, could take work that waits, and does not. A worker that shuts down takes
    none because it should not.
    """

    ACTIVE = "active"
    IDLE = "idle"
    PAUSED = "paused"
    RATE_LIMITED = "held back by a rate limit"
    SHUTTING_DOWN = "shutting down"
    STALLED = "stalled"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker and what may be said of it; ``reason`` is why it takes no work, or no more: a
    sentence, or nothing.
    """

    report: WorkerReport
    status: WorkerStatus
    reason: str
    silent_seconds: float
    """How long ago it reported."""

    @property
    def name(self) -> str:
        return self.report.worker

    @property
    def is_alive(self) -> bool:
        return self.status is not WorkerStatus.LOST

    @property
    def words(self) -> str:
        """Its status in a few words."""
        if self.status is not WorkerStatus.SHUTTING_DOWN or not self.report.active_count:
            return str(self.status)
        return f"{self.status}, finishes {_jobs(self.report.active_count)}"

    @property
    def next_due_at(self) -> float | None:
        """When the first of its scheduled jobs is due, by the broker's clock."""
        report = self.report
        due = report.next_due_at
        return None if due is None else due - report.clock_at + report.at

    @property
    def clock_off_seconds(self) -> float:
        """How far its machine's clock is ahead of the broker's, or behind where this is negative; 0
        for less than ``CLOCK_OFF_SECONDS``.
        """
        return noticed(self.report.clock_ahead + self.report.clock_at - self.report.at)

    @property
    def puts_times_right(self) -> bool:
        """Whether it tells the times of its jobs by the broker's clock, and not by its own."""
        return abs(self.report.clock_at - self.report.at) < CLOCK_OFF_SECONDS

    @property
    def cannot_end(self) -> str:
        """Why it cannot end a job that it runs, as a sentence, or nothing: also for a pool of which
        that is not known.
        """
        pool = self.report.pool
        if pool not in (Pool.THREADS, Pool.SOLO):
            return ""
        return (
            f"Worker {self.name} runs this job and cannot end it: its pool is {pool}, and only a "
            "pool of processes can."
        )

    @property
    def cannot_scale(self) -> str:
        """Why its pool cannot be given another size, as a sentence, or nothing."""
        report = self.report
        if not self.is_alive:
            return "This worker does not report."
        if report.shutting_down_at is not None:
            return "This worker shuts down."
        if report.pool is not Pool.PREFORK:
            kind = "of another kind" if report.pool is Pool.OTHER else report.pool
            return f"Only a pool of processes can be scaled; this one is {kind}."
        return "This worker scales itself (--autoscale)." if report.scales_itself else ""

    @property
    def uptime_seconds(self) -> float:
        return max(0.0, self.report.clock_at - self.report.started_at)

    def age_seconds(self, job: ActiveJob) -> float:
        """How long ``job`` has run; of a lost worker, how long it had."""
        since = self.silent_seconds if self.is_alive else 0.0
        return max(0.0, self.report.clock_at - job.started_at + since)


@dataclass(frozen=True, slots=True)
class Scheduled:
    """So many jobs wait for their time; the first is due at ``next_at``, epoch seconds by the
    broker's clock, where that is known.
    """

    count: int
    next_at: float | None


@dataclass(frozen=True, slots=True)
class Confirmation:
    """How many of the living workers that serve a queue have applied the desired state."""

    confirmed: int
    asked: int
    missing: tuple[str, ...]

    @property
    def is_complete(self) -> bool:
        return not self.missing


@dataclass(frozen=True, slots=True)
class Abandonment:
    """The jobs that a lost worker has left: what it began ``before`` then and did not end.

    Unless the history knows better of a job, the broker delivers it again if it ``redelivers``;
    otherwise it is gone. ``boot_id`` is
    the life of the worker that has ended. ``elsewhere`` are jobs that a living worker of the same
    name runs.
    """

    worker: str
    boot_id: str
    before: float
    redelivers: bool
    elsewhere: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Fleet:
    """All workers that report or did so lately, by name.

    ``forgotten`` are reports of longer ago that still lie in the broker.
    """

    at: float
    workers: tuple[Worker, ...]
    forgotten: tuple[WorkerReport, ...] = ()
    timings: WorkerTimings = DEFAULT_TIMINGS

    @property
    def alive(self) -> tuple[Worker, ...]:
        return tuple(worker for worker in self.workers if worker.is_alive)

    @property
    def lost(self) -> tuple[Worker, ...]:
        return tuple(worker for worker in self.workers if not worker.is_alive)

    def named(self, name: str) -> tuple[Worker, ...]:
        """All of that name: there may be two at once."""
        return tuple(worker for worker in self.workers if worker.name == name)

    def get(self, name: str) -> Worker | None:
        """The worker of that name, rather one that lives, and that does not shut down."""
        return min(
            self.named(name),
            key=lambda w: (not w.is_alive, w.status is WorkerStatus.SHUTTING_DOWN),
            default=None,
        )

    def cannot_scale(self, worker: Worker) -> str:
        """Why the pool of ``worker`` cannot be given another size, as a sentence, or nothing."""
        if worker.is_alive and worker.name in self.namesakes():
            return "Several workers have this name, and an order to scale would reach all of them."
        return worker.cannot_scale

    def running(self, job: str) -> Worker | None:
        """The living worker that runs this job, by its id."""
        for worker in self.alive:
            if any(active.id == job for active in worker.report.active):
                return worker
        return None

    def namesakes(self) -> tuple[str, ...]:
        """Names that several living workers have, but for one that makes room for its successor."""
        names = Counter(w.name for w in self.alive if w.status is not WorkerStatus.SHUTTING_DOWN)
        return tuple(sorted(name for name, count in names.items() if count > 1))

    def with_clocks_off(self) -> tuple[Worker, ...]:
        """The living workers whose clock is not the broker's, the farthest off first."""
        off = (worker for worker in self.alive if worker.clock_off_seconds)
        return tuple(sorted(off, key=lambda worker: -abs(worker.clock_off_seconds)))

    def scheduled(self, queue: str | None = None) -> Scheduled | None:
        """The jobs of ``queue``, or of all, that living workers have fetched and that wait for
        their time; None where there are none.
        """
        count, dues = 0, []
        for worker in self.alive:
            by_queue = worker.report.scheduled_queues
            mine = sum(by_queue.values()) if queue is None else by_queue.get(queue, 0)
            count += mine
            if mine and worker.next_due_at is not None:
                # Of a worker with several queues it is not told which the first job belongs to.
                dues.append(worker.next_due_at if queue is None or len(by_queue) == 1 else None)
        if not count:
            return None
        known = [due for due in dues if due is not None]
        return Scheduled(count, min(known) if known and len(known) == len(dues) else None)

    def queues(self) -> tuple[str, ...]:
        """Every queue that a worker serves and in which jobs can wait."""
        return tuple(sorted({queue for w in self.workers for queue in waiting_queues(w.report)}))

    def confirmation(self, queue: str, desired: DesiredState) -> Confirmation:
        """Who acts on ``desired`` for ``queue``: “paused: 3 of 4 workers confirmed”.

        A lost worker does not count, since it runs nothing; nor does one that never reports, which
        is why zero of zero is no proof that a queue stands still.
        """
        asked = [worker for worker in self.alive if queue in worker.report.queues]
        missing = tuple(w.name for w in asked if w.report.revision < desired.revision)
        return Confirmation(len(asked) - len(missing), len(asked), missing)

    def has_lost(self, worker: str, job_id: str, started_at: float) -> bool | None:
        """Whether a job that the history calls started runs no more; ``None`` is unknown.

        ``worker`` is where it began, at ``started_at`` by that worker's clock. It is lost when the
        worker is, when it began in an earlier life of the worker, or when the worker has had
        the time to report it and does not. Unknown is a worker that does not report.
        """
        known = self.named(worker)
        if not known:
            return None
        settle = self.timings.settle_seconds
        return all(_has_lost(one, job_id, started_at, settle) for one in known)

    def has_ended(self, worker: str, started_at: float) -> bool:
        """Whether no worker of that name lives that could have begun a job at ``started_at``."""
        return all(
            not one.is_alive or started_at < one.report.started_at for one in self.named(worker)
        )

    def abandonments(self) -> tuple[Abandonment, ...]:
        """What the history should end, so that no job runs there for ever.

        A worker that was wrongly believed lost corrects its rows by itself when its jobs end.
        """
        found = []
        for report in (*(worker.report for worker in self.lost), *self.forgotten):
            others = [w.report for w in self.named(report.worker) if w.is_alive]
            if any(other.active_count > ACTIVE_LIMIT for other in others):
                # Which of the jobs are whose cannot be told at once.
                continue
            # A successor's jobs began later; those of another of this name are all named until now.
            ends = [
                other.started_at if began_at(other) > report.at else other.clock_at
                for other in others
            ]
            found.append(
                Abandonment(
                    report.worker,
                    report.boot_id,
                    min([report.clock_at + self.timings.lost_seconds, *ends]),
                    report.redelivers,
                    frozenset(job.id for other in others for job in other.active),
                )
            )
        return tuple(found)


def waiting_queues(report: WorkerReport) -> tuple[str, ...]:
    """The queues of ``report`` in which jobs wait for a worker: broadcasts wait nowhere, and what
    lies under their name is taken by nobody.
    """
    return tuple(queue for queue in report.queues if queue not in report.broadcasts)


def _has_lost(worker: Worker, job_id: str, started_at: float, settle_seconds: float) -> bool:
    """Whether ``worker`` does not run a job, or not any more."""
    report = worker.report
    if not worker.is_alive:
        return True
    if any(job.id == job_id for job in report.active):
        # Even if it seems to be of an earlier life: a clock may have been put right meanwhile.
        return False
    if started_at < report.started_at:
        return True
    is_new = report.clock_at - started_at < settle_seconds
    return not (is_new or report.active_count > ACTIVE_LIMIT)


def judge(
    reading: WorkersReading, desired: DesiredState, queues: Iterable[QueueReading] = ()
) -> Fleet:
    """The fleet as it is at ``reading.at``; without ``queues`` nobody is told to be stalled for
    work that waits.
    """
    waiting = {queue.queue: queue for queue in queues if queue.depth > 0}
    return Fleet(
        reading.at,
        tuple(_judge(report, reading, desired, waiting) for report in reading.reports),
        reading.forgotten,
        reading.timings,
    )


def _judge(
    report: WorkerReport,
    reading: WorkersReading,
    desired: DesiredState,
    waiting: dict[str, QueueReading],
) -> Worker:
    silent = max(0.0, reading.at - report.at)
    reason = ""
    if silent > reading.timings.lost_seconds:
        status = WorkerStatus.LOST
        reason = f"It has not reported for {silent:.0f} s."
    elif report.shutting_down_at is not None:
        status = WorkerStatus.SHUTTING_DOWN
    elif reason := _stall(report, reading.timings, desired, waiting):
        status = WorkerStatus.STALLED
    elif report.active_count:
        status = WorkerStatus.ACTIVE
        reason = _held_back(report) or _connecting(report)
    elif report.queues and set(report.queues) <= set(report.paused):
        status = WorkerStatus.PAUSED
    elif reason := _held_back(report):
        status = WorkerStatus.RATE_LIMITED
    else:
        reason = _connecting(report)
        status = WorkerStatus.IDLE
    return Worker(report, status, reason, silent)


def _stall(
    report: WorkerReport,
    timings: WorkerTimings,
    desired: DesiredState,
    waiting: dict[str, QueueReading],
) -> str:
    """Why a living worker takes no work, or nothing."""
    now, stall_seconds = report.clock_at, timings.stall_seconds
    if not report.is_connected:
        # Celery waits longer with each attempt.
        since = now - report.loop_at
        is_usual = since <= timings.connect_seconds
        return "" if is_usual else f"{_connecting(report)[:-1]} for {since:.0f} s."
    busy_alone = report.pool_size <= 1 and report.active_count > 0
    if now - report.loop_at > stall_seconds and not busy_alone:
        return f"Its main loop has done nothing for {now - report.loop_at:.0f} s."
    wanted = [queue for queue in report.queues if not desired.pauses(queue)]
    is_new = now - report.started_at <= stall_seconds
    is_new |= now - max(report.revised_at, report.connected_at or 0.0) <= stall_seconds
    # Whether it has had the time to follow the last change is seen from its revision.
    if is_new or report.revision < desired.revision:
        return ""
    unserved = [queue for queue in wanted if queue not in report.consuming]
    if unserved and not busy_alone:
        return f"It does not fetch from {_listed(unserved)}, which is not paused."
    if report.active_count >= report.pool_size:
        return ""
    last = max(
        report.last_started_at or 0.0,
        report.last_ended_at or 0.0,
        report.started_at,
        report.revised_at,
        report.connected_at or 0.0,
    )
    if now - last <= stall_seconds:
        return ""
    for queue in wanted:
        found = waiting.get(queue)
        if found is None or (found.oldest_age_seconds or 0.0) <= stall_seconds:
            continue
        if _is_full(report) and report.rate_limited:
            return ""
        if _is_full(report) and report.scheduled >= report.prefetch_limit:
            held = f"{report.scheduled:,} scheduled jobs"
            return f"Jobs wait in {queue}, and it holds {held}, as many as it may fetch."
        return f"Jobs wait in {queue}, and it has begun none for {now - last:.0f} s."
    return ""


def _is_full(report: WorkerReport) -> bool:
    """Whether it holds as many jobs as it may fetch; of those that run, some are no more held."""
    held = sum(report.reserved.values()) + report.active_count
    return report.prefetch_limit == 0 or held >= report.prefetch_limit


def _held_back(report: WorkerReport) -> str:
    """Which jobs it has that may not begin yet, or nothing."""
    if not report.rate_limited:
        return ""
    kinds = [f"{_jobs(one.count)} of {one.name} ({_rate(one)})" for one in report.rate_limited]
    return f"A rate limit holds back {_listed(kinds)}."


def _connecting(report: WorkerReport) -> str:
    return "" if report.is_connected else "It has no connection to fetch by, and tries again."


def _rate(limited: RateLimited) -> str:
    for unit, seconds in (("a second", 1), ("a minute", 60), ("an hour", 3600)):
        if limited.per_second * seconds >= 1 - 1e-9:
            return f"{limited.per_second * seconds:.3g} {unit}"
    return f"{limited.per_second * 86_400:.3g} a day"


def _jobs(count: int) -> str:
    return counted(count, "job")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
