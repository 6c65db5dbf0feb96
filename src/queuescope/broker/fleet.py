"""The fleet: all workers that report, and what follows from their reports together. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from queuescope.broker.desired import DesiredState
from queuescope.broker.protocol import QueueReading, WorkersReading
from queuescope.broker.reports import ACTIVE_LIMIT, WorkerReport, began_at
from queuescope.broker.timings import DEFAULT_TIMINGS, WorkerTimings
from queuescope.broker.worker import Worker, WorkerStatus, worker_of


@dataclass(frozen=True, slots=True)
class Scheduled:
    """``count`` jobs wait for their time; the first is due at ``next_at``, epoch seconds by the
    broker's clock, ``None`` if unknown.
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
class LostJobs:
    """The jobs of a lost worker: those that it started ``before`` that time and did not end.

    If ``redelivers``, the broker delivers them again, otherwise they are gone, unless the history
    says something else about a job. ``boot_id`` is the run of the worker that has ended.
    ``elsewhere`` are jobs that a living worker of the same name runs.
    """

    worker: str
    boot_id: str
    before: float
    redelivers: bool
    elsewhere: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Fleet:
    """All workers that report or did so recently, by name.

    ``expired`` are older reports that are still in the broker.
    """

    at: float
    workers: tuple[Worker, ...]
    expired: tuple[WorkerReport, ...] = ()
    timings: WorkerTimings = DEFAULT_TIMINGS

    @property
    def alive(self) -> tuple[Worker, ...]:
        return tuple(worker for worker in self.workers if worker.is_alive)

    @property
    def lost(self) -> tuple[Worker, ...]:
        return tuple(worker for worker in self.workers if not worker.is_alive)

    def named(self, name: str) -> tuple[Worker, ...]:
        """All workers of that name: there may be several at once."""
        return tuple(worker for worker in self.workers if worker.name == name)

    def get(self, name: str) -> Worker | None:
        """The worker of that name; of several, one that is alive and not shutting down."""
        return min(
            self.named(name),
            key=lambda w: (not w.is_alive, w.status is WorkerStatus.SHUTTING_DOWN),
            default=None,
        )

    def cannot_scale(self, worker: Worker) -> str:
        """Why the pool of ``worker`` cannot be scaled, as a sentence; empty if it can."""
        if worker.is_alive and worker.name in self.shared_names():
            return "Several workers have this name, and the command to scale would reach them all."
        return worker.cannot_scale

    def running(self, job: str) -> Worker | None:
        """The living worker that runs the job with this id."""
        for worker in self.alive:
            if any(active.id == job for active in worker.report.active):
                return worker
        return None

    def shared_names(self) -> tuple[str, ...]:
        """Names that several living workers have, without those that are shutting down."""
        names = Counter(w.name for w in self.alive if w.status is not WorkerStatus.SHUTTING_DOWN)
        return tuple(sorted(name for name, count in names.items() if count > 1))

    def with_clocks_off(self) -> tuple[Worker, ...]:
        """The living workers whose clock is off, the farthest off first."""
        off = (worker for worker in self.alive if worker.clock_off_seconds)
        return tuple(sorted(off, key=lambda worker: -abs(worker.clock_off_seconds)))

    def scheduled(self, queue: str | None = None) -> Scheduled | None:
        """The jobs of ``queue``, or of all queues, that living workers have fetched and that wait
        for their time; ``None`` if there are none.
        """
        count, dues = 0, []
        for worker in self.alive:
            by_queue = worker.report.scheduled_queues
            own = sum(by_queue.values()) if queue is None else by_queue.get(queue, 0)
            count += own
            if own and worker.next_due_at is not None:
                # A worker with several queues does not report the queue of its first job.
                dues.append(worker.next_due_at if queue is None or len(by_queue) == 1 else None)
        if not count:
            return None
        known = [due for due in dues if due is not None]
        return Scheduled(count, min(known) if known and len(known) == len(dues) else None)

    def reserved(self, queue: str) -> int:
        """How many jobs of ``queue`` living workers have fetched that could start now."""
        reports = [worker.report for worker in self.alive]
        return sum(
            max(0, r.reserved.get(queue, 0) - r.scheduled_queues.get(queue, 0)) for r in reports
        )

    def confirmation(self, queue: str, desired: DesiredState) -> Confirmation:
        """Which workers have applied ``desired`` to ``queue``: “paused: 3 of 4 workers confirmed”.

        Lost workers do not count, since they run nothing; nor do workers that never report, so
        zero of zero does not prove that a queue is paused.
        """
        asked = [worker for worker in self.alive if queue in worker.report.queues]
        missing = tuple(w.name for w in asked if w.report.revision < desired.revision)
        return Confirmation(len(asked) - len(missing), len(asked), missing)

    def has_lost(self, worker: str, job_id: str, started_at: float) -> bool | None:
        """Whether a job that the history calls started no longer runs; ``None`` is unknown.

        It started in ``worker`` at ``started_at`` by that worker's clock. It is lost if the worker
        is, if it started in an earlier run of the worker, or if the worker has had the time to
        report it and does not. It is unknown for a worker without reports.
        """
        known = self.named(worker)
        if not known:
            return None
        settle = self.timings.settle_seconds
        return all(_has_lost(one, job_id, started_at, settle) for one in known)

    def has_ended(self, worker: str, started_at: float) -> bool:
        """Whether no living worker of that name can have started a job at ``started_at``."""
        return all(
            not one.is_alive or started_at < one.report.started_at for one in self.named(worker)
        )

    def lost_jobs(self) -> tuple[LostJobs, ...]:
        """The jobs that the history should end, so that none runs there for ever.

        A worker that was wrongly taken for lost corrects its rows when its jobs end.
        """
        found = []
        for report in (*(worker.report for worker in self.lost), *self.expired):
            others = [w.report for w in self.named(report.worker) if w.is_alive]
            if any(other.active_count > ACTIVE_LIMIT for other in others):
                # Its report does not name all of its jobs, so they cannot be told apart.
                continue
            # A successor started later; another worker of this name reports all that it runs.
            ends = [
                other.started_at if began_at(other) > report.at else other.clock_at
                for other in others
            ]
            found.append(
                LostJobs(
                    report.worker,
                    report.boot_id,
                    min([report.clock_at + self.timings.lost_seconds, *ends]),
                    report.redelivers,
                    frozenset(job.id for other in others for job in other.active),
                )
            )
        return tuple(found)


def _has_lost(worker: Worker, job_id: str, started_at: float, settle_seconds: float) -> bool:
    """Whether ``worker`` does not run a job, or no longer does."""
    report = worker.report
    if not worker.is_alive:
        return True
    if any(job.id == job_id for job in report.active):
        # Even if it seems to be from an earlier run: a clock may have been corrected in between.
        return False
    if started_at < report.started_at:
        return True
    is_new = report.clock_at - started_at < settle_seconds
    return not (is_new or report.active_count > ACTIVE_LIMIT)


def fleet_of(
    reading: WorkersReading, desired: DesiredState, queues: Iterable[QueueReading] = ()
) -> Fleet:
    """The fleet at ``reading.at``; without ``queues`` no worker counts as stalled because jobs
    wait.
    """
    waiting = {queue.queue: queue for queue in queues if queue.depth > 0}
    return Fleet(
        reading.at,
        tuple(worker_of(report, reading, desired, waiting) for report in reading.reports),
        reading.expired,
        reading.timings,
    )
