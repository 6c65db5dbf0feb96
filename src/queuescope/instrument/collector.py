"""Turns notes of a worker's main process into metrics and rows of the job history.

To note an event costs a job next to nothing. A thread processes the notes four times a second;
each scrape and each report processes them as well, so that it includes everything before it.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import Counter, deque
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any

from queuescope.broker.reports import ACTIVE_LIMIT, ActiveJob, label
from queuescope.broker.timings import DEFAULT_TIMINGS, WorkerTimings
from queuescope.instrument.history_writer import HistoryWriter, JobSink, row_of
from queuescope.instrument.metrics import Outcome, Unrunnable, WorkerMetrics
from queuescope.instrument.metrics_server import MetricsServer
from queuescope.instrument.observation import (
    INVALID_MESSAGE,
    UNKNOWN_JOB_TYPE,
    Event,
    Observation,
)
from queuescope.instrument.usage import Usage, UsageMeter

logger = logging.getLogger(__name__)

_PROCESS_SECONDS = 0.25
_OUTCOMES = {
    event: Outcome(event.value) for event in Event if event not in {Event.STARTED, Event.REPLACED}
}
_UNRUNNABLE = {
    UNKNOWN_JOB_TYPE: Unrunnable.UNKNOWN_JOB_TYPE,
    INVALID_MESSAGE: Unrunnable.INVALID_MESSAGE,
}


@dataclass(frozen=True, slots=True)
class Activity:
    """A worker's running jobs, its counts since its start and its usage; see ``WorkerReport``."""

    active: tuple[ActiveJob, ...]
    active_count: int
    processed: int
    failed: int
    retried: int
    last_started_at: float | None
    last_ended_at: float | None
    cpu_ratio: float
    memory_bytes: int


Running = Mapping[Hashable, Observation]
"""The running attempts by their key, each with the observation of its start."""

Interpret = Callable[[Any, Running], tuple[Hashable, Observation] | None]
"""Turns a note into the key of its attempt and an observation; ``None`` for what is known."""


class Collector:
    """Owns the metrics and the history of one worker.

    ``note`` may be called by any thread and at any time, also in a signal handler of Celery's.
    ``interpret`` is called later, for the notes in their order.
    """

    def __init__(
        self,
        metrics: WorkerMetrics,
        store: JobSink | None,
        worker: str,
        interpret: Interpret,
        *,
        timings: WorkerTimings = DEFAULT_TIMINGS,
    ) -> None:
        self._metrics = metrics
        self._worker = worker
        metrics.set_worker(label(worker))
        self._history = None if store is None else HistoryWriter(store, metrics, timings=timings)
        self._usage_seconds = timings.usage_seconds
        self._interpret = interpret
        self._notes: deque[Any] = deque()
        self.note = self._notes.append
        """Accepts what ``interpret`` understands; costs nothing and never fails."""
        self.pid = os.getpid()
        self._lock = threading.Lock()
        self._running: dict[Hashable, Observation] = {}
        self._counts: Counter[Event] = Counter()
        self._last_started_at: float | None = None
        self._last_ended_at: float | None = None
        self._usage = Usage()
        self._has_failed = False
        self._stop = threading.Event()
        self._processor = threading.Thread(target=self._run, name="queuescope-notes", daemon=True)
        self._meter = threading.Thread(target=self._measure, name="queuescope-usage", daemon=True)
        self._server: MetricsServer | None = None

    def start(self, host: str, ports: tuple[int, ...], *, redelivers: bool) -> None:
        """Serve ``/metrics`` on the first free one of ``ports``, and start to process notes.

        If none is free, it is tried again while the worker runs.
        """
        self._server = MetricsServer(self._metrics.registry, self.process_notes, host, ports)
        self._server.start()
        if self._history is not None:
            self._history.start(self._worker, redelivers=redelivers)
        self._processor.start()
        self._meter.start()

    def close_earlier_jobs(self, *, clock_ahead: float = 0.0) -> None:
        """End the jobs that an earlier process of this worker left as started; call it once no
        other worker of this name is alive. ``clock_ahead`` corrects its start time, in seconds.
        """
        if self._history is not None:
            self._history.close_earlier_jobs(clock_ahead=clock_ahead)

    @property
    def port(self) -> int | None:
        """The port that serves ``/metrics``, or ``None``."""
        return None if self._server is None else self._server.port

    @property
    def refusal(self) -> str:
        """Why ``/metrics`` is not served: the operating system's error."""
        return "" if self._server is None else self._server.refusal

    def stop(self) -> None:
        """Process the remaining notes, write the history, and release the port."""
        if os.getpid() != self.pid or self._stop.is_set():
            return
        self._stop.set()
        if self._processor.is_alive():
            self._processor.join(timeout=5)
        self.process_notes()
        if self._history is not None:
            self._history.stop()
        if self._server is not None:
            self._server.stop()

    def close_in_child(self) -> None:
        """Close what a forked child inherited."""
        # Thread and solo pools send ``worker_process_init`` in the main process.
        if os.getpid() != self.pid and self._server is not None:
            self._server.close_in_child()

    def activity(self) -> Activity:
        """The activity up to now; any thread may call it."""
        self.process_notes()
        with self._lock:
            running = list(self._running.values())
        running.sort(key=lambda job: job.started_at or job.at)
        usage = self._usage
        return Activity(
            active=tuple(
                ActiveJob(
                    id=job.id,
                    name=job.name,
                    queue=job.queue,
                    tenant=job.tenant,
                    started_at=job.started_at or job.at,
                    redelivers=job.redelivers,
                    is_redelivered=job.is_redelivered,
                )
                for job in running[:ACTIVE_LIMIT]
            ),
            active_count=len(running),
            processed=sum(self._counts.values()),
            failed=self._counts[Event.FAILED],
            retried=self._counts[Event.RETRIED],
            last_started_at=self._last_started_at,
            last_ended_at=self._last_ended_at,
            cpu_ratio=usage.cpu_ratio,
            memory_bytes=usage.memory_bytes,
        )

    def process_notes(self) -> None:
        """Process all notes up to now; any thread may call it."""
        with self._lock:
            is_changed = False
            while self._notes:
                note = self._notes.popleft()
                try:
                    found = self._interpret(note, self._running)
                    if found is not None:
                        self._observe(*found)
                        is_changed = True
                except Exception:
                    self._metrics.observations_lost(1)
                    if not self._has_failed:
                        logger.exception("an event of a job could not be processed")
                    self._has_failed = True
            if is_changed:
                self._metrics.in_flight(Counter(job.queue for job in self._running.values()))

    def _observe(self, key: Hashable, seen: Observation) -> None:
        if seen.event is Event.STARTED:
            self._running[key] = seen
            self._last_started_at = seen.at
            self._metrics.attempt_started(
                queue=seen.queue,
                wait_seconds=seen.wait_seconds,
                is_redelivered=seen.is_redelivered,
            )
            self._record(seen)
            return
        self._running.pop(key, None)
        self._last_ended_at = seen.at
        if seen.event is Event.REPLACED:
            self._record(seen)
            return
        self._counts[seen.event] += 1
        if seen.started_at is None and (reason := _UNRUNNABLE.get(seen.error_class)) is not None:
            self._metrics.unrunnable(reason)
        self._metrics.attempt_ended(
            tenant=seen.tenant,
            queue=seen.queue,
            outcome=_OUTCOMES[seen.event],
            at=seen.at,
            runtime_seconds=seen.runtime_seconds,
            latency_seconds=seen.latency_seconds,
        )
        self._record(seen)

    def _record(self, seen: Observation) -> None:
        if self._history is not None:
            self._history.add(row_of(seen, self._worker))

    def _run(self) -> None:
        while not self._stop.wait(_PROCESS_SECONDS):
            self.process_notes()

    def _measure(self) -> None:
        meter = UsageMeter(self.pid)
        while True:
            self._usage = usage = meter.measure()
            self._metrics.process_sample(
                cpu_ratio=usage.cpu_ratio,
                memory_bytes=usage.memory_bytes,
                processes=usage.processes,
            )
            if self._stop.wait(self._usage_seconds):
                return
            if self._server is not None:
                self._server.try_again()
