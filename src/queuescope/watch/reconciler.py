"""Ends jobs of lost workers in the job history, where workers cannot.

A worker writes its own rows. If it is killed, its running jobs stay as started until the next run
of the worker ends them, or this reconciler, which sees from the reports that the worker is lost. It
also ends rows that no worker will ever update.
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
"""A job is lost if it started this long ago in a worker without any report."""
RETRY_SECONDS = 7 * 86_400.0
"""A job that has been retrying for this long is lost: no message should wait longer."""

_NO_TELEMETRY = "Its worker no longer runs it and has not recorded how it ended."
_ORPHANED = "Its worker has not reported for a day; how it ended is unknown."
_REPLACED = "The worker ended while it ran this job."
_NOT_RETRIED = "It was due to run again and has not started within 7 days."

logger = logging.getLogger(__name__)


class History(Protocol):
    """The part of the job history that the reconciler needs: ``queuescope.jobs.store.JobStore``.

    The methods raise ``JobStoreError``.
    """

    def unfinished(self, *, before: float) -> list[Job]: ...

    def end_lost(
        self, worker: str, *, before: float, redelivers: bool, elsewhere: Collection[str] = ()
    ) -> Mapping[JobStatus, int]: ...

    def end_started(
        self, jobs: Iterable[Job], *, at: float, status: JobStatus, reason: str
    ) -> int: ...

    def end_old_retries(self, *, before: float, at: float, reason: str) -> int: ...

    def reopen(self, worker: str, job_ids: Iterable[str]) -> int: ...


@dataclass(frozen=True, slots=True)
class Ending:
    """A started row whose job no worker runs, with its new status and the reason."""

    job: Job
    status: JobStatus
    reason: str


class JobReconciler:
    """Ends the rows of lost workers, once for each run of a worker. Belongs to one thread.

    ``fleet`` returns the workers, or ``None`` if they are unknown: then no worker counts as lost.
    ``drop`` deletes expired reports except those of the given workers; it raises ``BrokerError``.
    ``clock`` is in epoch seconds.
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
        """Without a ``history`` it only drops reports."""
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

        Raises ``JobStoreError`` and ``BrokerError``; the next call does what could not be done.
        """
        fleet = self._fleet()
        changed, failure = 0, None
        if fleet is not None:
            self._add_lost(fleet)
        if self._history is not None:
            try:
                changed = self._reconcile(self._history, fleet)
            except JobStoreError as exc:
                failure = exc
        if fleet is not None and fleet.expired:
            # Reports that the history still needs must not be dropped.
            self._drop({lost.worker for lost in self._pending.values()})
        if failure is not None:
            raise failure
        return changed

    def _add_lost(self, fleet: Fleet) -> None:
        lost = {(one.worker, one.boot_id): one for one in fleet.lost_jobs()}
        alive = {(worker.name, worker.report.boot_id) for worker in fleet.alive}
        for run, jobs in lost.items():
            if self._history is not None and run not in self._ended:
                self._pending[run] = jobs
        # A worker that reports again was not lost, and may be lost later.
        for run in alive & self._pending.keys():
            del self._pending[run]
        self._ended &= lost.keys() | alive

    def _reconcile(self, history: History, fleet: Fleet | None) -> int:
        changed = 0
        for run, lost in list(self._pending.items()):
            ended = history.end_lost(
                lost.worker,
                before=lost.before,
                redelivers=lost.redelivers,
                elsewhere=lost.elsewhere,
            )
            for status, count in ended.items():
                if count:
                    logger.info("%r is lost: %d of its jobs are %s", lost.worker, count, status)
                changed += count
            del self._pending[run]
            self._ended.add(run)
        if fleet is None:
            return changed
        for worker in fleet.alive:
            run = (worker.name, worker.report.boot_id)
            if run in self._ended:
                running = [job.id for job in worker.report.active]
                changed += history.reopen(worker.name, running)
                self._ended.discard(run)
        # Also if the clock was set back, by any amount.
        if not 0 <= self._clock() - self._swept_at < self._timings.sweep_seconds:
            changed += self._sweep(history, fleet)
            self._swept_at = self._clock()
        return changed

    def _sweep(self, history: History, fleet: Fleet) -> int:
        now = self._clock()
        changed = history.end_old_retries(before=now - RETRY_SECONDS, at=now, reason=_NOT_RETRIED)
        rows = history.unfinished(before=now)
        found = endings(rows, fleet, now)
        suspects = {e.job.id: min(now, self._suspects.get(e.job.id, now)) for e in found}
        for (status, reason), jobs in _grouped(found).items():
            patience = self._timings.silence_seconds if reason == _NO_TELEMETRY else 0
            due = [job for job in jobs if now - suspects[job.id] >= patience]
            if due:
                changed += history.end_started(due, at=now, status=status, reason=reason)
        self._suspects = suspects
        return changed


def endings(rows: Iterable[Job], fleet: Fleet, now: float) -> list[Ending]:
    """Those of the started ``rows`` that no worker runs, as far as ``fleet`` shows.

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
            redelivers = worker.report.redelivers if job.redelivers is None else job.redelivers
            status = JobStatus.RETRYING if redelivers else JobStatus.LOST
            found.append(Ending(job, status, _REPLACED))
        elif is_lost:
            found.append(Ending(job, JobStatus.LOST, _NO_TELEMETRY))
    return found


def _grouped(found: Iterable[Ending]) -> dict[tuple[JobStatus, str], list[Job]]:
    groups: dict[tuple[JobStatus, str], list[Job]] = {}
    for ending in found:
        groups.setdefault((ending.status, ending.reason), []).append(ending.job)
    return groups
