"""The fleet: all workers that report, and what is known of them together. Pure."""

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
class LostJobs:
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

    def reserved(self, queue: str) -> int:
        """Jobs of ``queue`` that living workers have fetched and that could begin."""
        reports = [worker.report for worker in self.alive]
        return sum(
            max(0, r.reserved.get(queue, 0) - r.scheduled_queues.get(queue, 0)) for r in reports
        )

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

    def lost_jobs(self) -> tuple[LostJobs, ...]:
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


def fleet_of(
    reading: WorkersReading, desired: DesiredState, queues: Iterable[QueueReading] = ()
) -> Fleet:
    """The fleet as it is at ``reading.at``; without ``queues`` nobody is told to be stalled for
    work that waits.
    """
    waiting = {queue.queue: queue for queue in queues if queue.depth > 0}
    return Fleet(
        reading.at,
        tuple(worker_of(report, reading, desired, waiting) for report in reading.reports),
        reading.forgotten,
        reading.timings,
    )
