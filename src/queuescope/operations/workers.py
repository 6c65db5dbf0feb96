"""The fleet: from the last report of each worker to what may be said of it.

Pure: a reading of the broker goes in, words that the page shows come out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from queuescope.heartbeats import (
    ACTIVE_LIMIT,
    LOST_SECONDS,
    STALL_SECONDS,
    ActiveJob,
    DesiredState,
    WorkerReport,
)
from queuescope.operations.broker import QueueReading, WorkersReading

_SETTLE_SECONDS = 10.0


class WorkerStatus(StrEnum):
    """``stalled`` lives, could take work that waits, and does not."""

    ACTIVE = "active"
    IDLE = "idle"
    PAUSED = "paused"
    STALLED = "stalled"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker and what may be said of it; ``reason`` is a sentence for stalled and lost."""

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
    def uptime_seconds(self) -> float:
        return max(0.0, self.report.clock_at - self.report.started_at)

    def age_seconds(self, job: ActiveJob) -> float:
        """How long ``job`` has run; of a lost worker, how long it had."""
        since = self.silent_seconds if self.is_alive else 0.0
        return max(0.0, self.report.clock_at - job.started_at + since)


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

    The broker delivers them again if it ``redelivers``; otherwise they are gone. ``boot_id`` is
    the life of the worker that has ended.
    """

    worker: str
    boot_id: str
    before: float
    redelivers: bool


@dataclass(frozen=True, slots=True)
class Fleet:
    """All workers that report or did so lately, by name.

    ``forgotten`` are reports of longer ago that still lie in the broker.
    """

    at: float
    workers: tuple[Worker, ...]
    forgotten: tuple[WorkerReport, ...] = ()

    @property
    def alive(self) -> tuple[Worker, ...]:
        return tuple(worker for worker in self.workers if worker.is_alive)

    @property
    def lost(self) -> tuple[Worker, ...]:
        return tuple(worker for worker in self.workers if not worker.is_alive)

    def get(self, name: str) -> Worker | None:
        return next((worker for worker in self.workers if worker.name == name), None)

    def queues(self) -> tuple[str, ...]:
        """Every queue that a worker serves."""
        return tuple(sorted({queue for w in self.workers for queue in w.report.queues}))

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
        known = self.get(worker)
        if known is None:
            return None
        report = known.report
        if not known.is_alive or started_at < report.started_at:
            return True
        if report.clock_at - started_at < _SETTLE_SECONDS or report.active_count > ACTIVE_LIMIT:
            return False
        return all(job.id != job_id for job in report.active)

    def abandonments(self) -> tuple[Abandonment, ...]:
        """What the history should end, so that no job runs there for ever.

        A worker that was wrongly believed lost corrects its rows by itself when its jobs end.
        """
        reports = (*(worker.report for worker in self.lost), *self.forgotten)
        return tuple(
            Abandonment(
                report.worker, report.boot_id, report.clock_at + LOST_SECONDS, report.redelivers
            )
            for report in reports
        )


def judge(
    reading: WorkersReading, desired: DesiredState, queues: Iterable[QueueReading] = ()
) -> Fleet:
    """The fleet as it is at ``reading.at``; without ``queues`` nobody is told to be stalled for
    work that waits.
    """
    waiting = {queue.queue: queue for queue in queues if queue.depth > 0}
    return Fleet(
        reading.at,
        tuple(_judge(report, reading.at, desired, waiting) for report in reading.reports),
        reading.forgotten,
    )


def _judge(
    report: WorkerReport, at: float, desired: DesiredState, waiting: dict[str, QueueReading]
) -> Worker:
    silent = max(0.0, at - report.at)
    reason = ""
    if silent > LOST_SECONDS:
        status = WorkerStatus.LOST
        reason = f"It has not reported for {silent:.0f} s."
    elif reason := _stall(report, desired, waiting):
        status = WorkerStatus.STALLED
    elif report.active_count:
        status = WorkerStatus.ACTIVE
    elif report.queues and set(report.queues) <= set(report.paused):
        status = WorkerStatus.PAUSED
    else:
        status = WorkerStatus.IDLE
    return Worker(report, status, reason, silent)


def _stall(report: WorkerReport, desired: DesiredState, waiting: dict[str, QueueReading]) -> str:
    """Why a living worker takes no work, or nothing."""
    now = report.clock_at
    busy_alone = report.pool_size <= 1 and report.active_count > 0
    if now - report.loop_at > STALL_SECONDS and not busy_alone:
        return f"Its main loop has done nothing for {now - report.loop_at:.0f} s."
    wanted = [queue for queue in report.queues if not desired.pauses(queue)]
    is_new = now - report.started_at <= STALL_SECONDS
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
    )
    if now - last <= STALL_SECONDS:
        return ""
    for queue in wanted:
        found = waiting.get(queue)
        if found is not None and (found.oldest_age_seconds or 0.0) > STALL_SECONDS:
            return f"Jobs wait in {queue}, and it has begun none for {now - last:.0f} s."
    return ""


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
