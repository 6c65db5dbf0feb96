"""Corrects the job history where workers cannot: jobs of lost workers do not run for ever.

A worker writes its own rows. What it left when it was killed stands as started until somebody
ends it: its next life does so, and this reconciler, which sees from the reports that a worker is
lost. It also ends rows of which no worker will ever report again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from queuescope.broker.fleet import Fleet, LostJobs
from queuescope.broker.timings import DEFAULT_TIMINGS, WorkerTimings
from queuescope.errors import JobStoreError
from queuescope.jobs.job import Job, JobStatus

ORPHAN_SECONDS = 86_400.0
"""A job that was started so long ago by a worker of which nothing is known is lost."""
RETRY_SECONDS = 7 * 86_400.0
"""A job that has been retrying for so long is lost: no message should wait longer than that."""

_NO_TELEMETRY = "Its worker runs it no more and has not told how it ended."
_ORPHANED = "Its worker has not been heard of for a day; how it ended is not known."
_REPLACED = "The worker ended while it ran this job."
_NOT_RETRIED = "It was to run again and has not begun within 7 days."

logger = logging.getLogger(__name__)


class History(Protocol):
    """What the reconciler needs of the job history: ``queuescope.jobs.store.JobStore``.

    The methods raise ``JobStoreError``.
    """

    def unfinished(self, *, before: float) -> list[Job]: ...

    def abandon(
        self, worker: str, *, before: float, redelivers: bool, elsewhere: Collection[str] = ()
    ) -> Mapping[JobStatus, int]: ...

    def give_up(self, jobs: Iterable[Job], *, at: float, status: JobStatus, reason: str) -> int: ...

    def give_up_retries(self, *, before: float, at: float, reason: str) -> int: ...

    def take_back(self, worker: str, job_ids: Iterable[str]) -> int: ...


@dataclass(frozen=True, slots=True)
class Ending:
    """A row that stands as started and whose job nobody runs, and what is to be said of it."""

    job: Job
    status: JobStatus
    reason: str


class JobReconciler:
    """Ends the rows of lost workers, each life of a worker once. Belongs to one thread.

    ``fleet`` gives what is known of the workers now, or None where that is not known: then nobody
    is taken for lost. ``drop`` deletes reports that lie in the broker for too long, but for those
    of the workers that it is handed; it raises ``BrokerError``. ``clock`` is in epoch seconds.
    """

    def __init__(
        self,
        history: History | None,
        fleet: Callable[[], Fleet | None],
        drop: Callable[[Collection[str]], object],
        *,
        clock: Callable[[], float] = time.time,
        timings: WorkerTimings = DEFAULT_TIMINGS,
    ) -> None:
        """Without a ``history`` there are only reports to be dropped."""
        self._history = history
        self._fleet = fleet
        self._drop = drop
        self._clock = clock
        self._timings = timings
        self._pending: dict[tuple[str, str], LostJobs] = {}
        self._ended: set[tuple[str, str]] = set()
        self._suspects: dict[str, float] = {}
        self._swept_at = float("-inf")

    def reconcile(self) -> int:
        """Do what is due now; returns how many rows were changed.

        Raises ``JobStoreError`` and ``BrokerError``; what could not be done is done by the next
        call that can.
        """
        fleet = self._fleet()
        changed, failure = 0, None
        if fleet is not None:
            self._take_in(fleet)
        if self._history is not None:
            try:
                changed = self._reconcile(self._history, fleet)
            except JobStoreError as exc:
                failure = exc
        if fleet is not None and fleet.expired:
            # What the history still has to be told must not be forgotten before.
            self._drop({abandonment.worker for abandonment in self._pending.values()})
        if failure is not None:
            raise failure
        return changed

    def _take_in(self, fleet: Fleet) -> None:
        left = {(a.worker, a.boot_id): a for a in fleet.lost_jobs()}
        alive = {(worker.name, worker.report.boot_id) for worker in fleet.alive}
        for life, abandonment in left.items():
            if self._history is not None and life not in self._ended:
                self._pending[life] = abandonment
        # Who reports again was not lost, and may be lost again.
        for life in alive & self._pending.keys():
            del self._pending[life]
        self._ended &= left.keys() | alive

    def _reconcile(self, history: History, fleet: Fleet | None) -> int:
        changed = 0
        for life, left in list(self._pending.items()):
            ended = history.abandon(
                left.worker,
                before=left.before,
                redelivers=left.redelivers,
                elsewhere=left.elsewhere,
            )
            for status, count in ended.items():
                if count:
                    logger.info("%r is lost: %d of its jobs are %s", left.worker, count, status)
                changed += count
            del self._pending[life]
            self._ended.add(life)
        if fleet is None:
            return changed
        for worker in fleet.alive:
            life = (worker.name, worker.report.boot_id)
            if life in self._ended:
                running = [job.id for job in worker.report.active]
                changed += history.take_back(worker.name, running)
                self._ended.discard(life)
        # However far: a clock that was set back must not silence the sweep.
        if not 0 <= self._clock() - self._swept_at < self._timings.sweep_seconds:
            changed += self._sweep(history, fleet)
            self._swept_at = self._clock()
        return changed

    def _sweep(self, history: History, fleet: Fleet) -> int:
        now = self._clock()
        changed = history.give_up_retries(before=now - RETRY_SECONDS, at=now, reason=_NOT_RETRIED)
        rows = history.unfinished(before=now)
        found = endings(rows, fleet, now)
        suspects = {e.job.id: min(now, self._suspects.get(e.job.id, now)) for e in found}
        for (status, reason), jobs in _grouped(found).items():
            patience = self._timings.silence_seconds if reason == _NO_TELEMETRY else 0
            due = [job for job in jobs if now - suspects[job.id] >= patience]
            if due:
                changed += history.give_up(due, at=now, status=status, reason=reason)
        self._suspects = suspects
        return changed


def endings(rows: Iterable[Job], fleet: Fleet, now: float) -> list[Ending]:
    """Which of the rows that stand as started nobody runs, as far as ``fleet`` tells.

    ``now`` is in epoch seconds, as are the rows' times.
    """
    found = []
    for job in rows:
        if job.started_at is None:
            continue
        is_lost = fleet.has_lost(job.worker, job.id, job.started_at)
        worker = fleet.get(job.worker)
        if worker is None:
            if now - job.started_at > ORPHAN_SECONDS:
                found.append(Ending(job, JobStatus.LOST, _ORPHANED))
        elif is_lost and fleet.has_ended(job.worker, job.started_at):
            comes_again = worker.report.redelivers if job.redelivers is None else job.redelivers
            status = JobStatus.RETRYING if comes_again else JobStatus.LOST
            found.append(Ending(job, status, _REPLACED))
        elif is_lost:
            found.append(Ending(job, JobStatus.LOST, _NO_TELEMETRY))
    return found


def _grouped(found: Iterable[Ending]) -> dict[tuple[JobStatus, str], list[Job]]:
    groups: dict[tuple[JobStatus, str], list[Job]] = {}
    for ending in found:
        groups.setdefault((ending.status, ending.reason), []).append(ending.job)
    return groups
