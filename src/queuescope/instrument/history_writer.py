"""Writes rows of the job history in batches, in a separate thread."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Sequence
from typing import Protocol

from queuescope.broker.timings import DEFAULT_TIMINGS, WorkerTimings
from queuescope.errors import JobStoreError
from queuescope.instrument.metrics import WorkerMetrics
from queuescope.instrument.observation import Event, Observation
from queuescope.jobs.job import Job, JobStatus

logger = logging.getLogger(__name__)

_ROWS_LIMIT = 20_000
_STATUS = {
    Event.STARTED: JobStatus.STARTED,
    Event.SUCCEEDED: JobStatus.SUCCEEDED,
    Event.FAILED: JobStatus.FAILED,
    Event.RETRIED: JobStatus.RETRYING,
    Event.REVOKED: JobStatus.REVOKED,
    Event.EXPIRED: JobStatus.EXPIRED,
    Event.IGNORED: JobStatus.IGNORED,
    # The job goes on under the same id.
    Event.REPLACED: JobStatus.RETRYING,
}


class JobSink(Protocol):
    """Stores job rows: ``queuescope.jobs.store.JobStore``."""

    def record(self, jobs: Sequence[Job]) -> None: ...

    def end_lost(self, worker: str, *, before: float, redelivers: bool) -> object: ...

    def fill_fingerprints(self) -> int: ...


class HistoryWriter:
    """Writes rows in batches in a separate thread; a store that is down blocks nothing.

    At most ``limit`` rows wait in memory, the newest one for each attempt; those that do not fit
    are lost and counted.
    """

    def __init__(
        self,
        store: JobSink,
        metrics: WorkerMetrics,
        limit: int = _ROWS_LIMIT,
        *,
        timings: WorkerTimings = DEFAULT_TIMINGS,
    ) -> None:
        self._store = store
        self._metrics = metrics
        self._limit = limit
        self._seconds = timings.history_seconds
        self._lock = threading.Lock()
        self._waiting: OrderedDict[tuple[str, float | None], Job] = OrderedDict()
        self._stop = threading.Event()
        self._is_down = False
        self._thread = threading.Thread(target=self._run, name="queuescope-history", daemon=True)
        self._earlier: tuple[str, float, bool] | None = None
        self._may_close = False
        self._has_unmarked = True

    def start(self, worker: str, *, redelivers: bool) -> None:
        """Start. ``close_earlier_jobs`` later closes the rows that an earlier process of ``worker``
        left as running; ``redelivers`` says whether the broker delivers those jobs again whose
        rows do not say it.
        """
        self._earlier = (worker, time.time(), redelivers)
        self._thread.start()

    def close_earlier_jobs(self, *, clock_ahead: float = 0.0) -> None:
        """Close the rows of earlier processes: no other worker of this name is alive.
        ``clock_ahead`` corrects the start time, in seconds.
        """
        if self._earlier is not None:
            worker, began_at, redelivers = self._earlier
            self._earlier = (worker, began_at - clock_ahead, redelivers)
        self._may_close = True

    def add(self, job: Job) -> None:
        with self._lock:
            key = (job.id, job.started_at)
            self._waiting[key] = job
            self._waiting.move_to_end(key)
            if len(self._waiting) > self._limit:
                self._waiting.popitem(last=False)
                self._metrics.observations_lost(1)

    def stop(self) -> None:
        """Write the waiting rows, once, and end."""
        self._stop.set()
        self._thread.join(timeout=10)

    def _run(self) -> None:
        while not self._stop.wait(self._seconds):
            self._flush_or_log()
        self._flush_or_log()

    def _flush_or_log(self) -> None:
        try:
            self._flush()
        except Exception:  # later rows must still be written
            if not self._is_down:
                logger.exception("writing the job history failed; rows wait in memory")
            self._is_down = True

    def _flush(self) -> None:
        with self._lock:
            rows = list(self._waiting.values())
        earlier = self._earlier if self._may_close else None
        if not rows and earlier is None and not self._has_unmarked:
            return
        try:
            if earlier is not None:
                worker, before, redelivers = earlier
                self._store.end_lost(worker, before=before, redelivers=redelivers)
                self._earlier = None
            for batch in _batches_of(rows):
                self._store.record(batch)
            # Rows from before there were fingerprints, a few each time.
            self._has_unmarked = self._has_unmarked and self._store.fill_fingerprints() > 0
        except JobStoreError as exc:
            if not self._is_down:
                logger.warning("%s; rows wait in memory and are tried again", exc)
            self._is_down = True
            return
        if self._is_down:
            logger.info("the job history answers again")
            self._is_down = False
        with self._lock:
            for row in rows:
                # A row that was replaced in between must still be written.
                key = (row.id, row.started_at)
                if self._waiting.get(key) is row:
                    del self._waiting[key]


def _batches_of(rows: Sequence[Job]) -> list[list[Job]]:
    """``rows`` in batches without a job twice, each job's rows in order: the store counts starts.
    Usually there is one batch.
    """
    batches: list[list[Job]] = []
    seen: Counter[str] = Counter()
    for row in sorted(rows, key=lambda row: row.order):
        if seen[row.id] == len(batches):
            batches.append([])
        batches[seen[row.id]].append(row)
        seen[row.id] += 1
    return batches or [[]]


def row_of(seen: Observation, worker: str) -> Job:
    """The row of a job after this event."""
    return Job(
        id=seen.id,
        name=seen.name,
        tenant=seen.tenant,
        queue=seen.queue,
        worker=worker,
        status=_STATUS[seen.event],
        enqueued_at=seen.first_due_at,
        started_at=seen.started_at,
        finished_at=None if seen.event is Event.STARTED else seen.at,
        wait_seconds=seen.wait_seconds,
        runtime_seconds=seen.runtime_seconds,
        attempts=max(1, seen.attempt),
        error_class=seen.error_class,
        error_message=seen.error_message,
        routing_key=seen.routing_key,
        redelivers=seen.redelivers,
    )
