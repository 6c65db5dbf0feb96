"""The worker's main process: observations become metrics and rows of the job history.

What happens is only noted, which costs a job next to nothing. A thread takes in what was noted, a
few times a second; so does whoever asks, so that an answer holds all that happened before.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from wsgiref.simple_server import WSGIServer

import psutil
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import Metric as MetricFamily
from prometheus_client.registry import Collector as RegistryCollector

from queuescope.broker.clock import CLOCK_OFF_SECONDS
from queuescope.broker.reports import ACTIVE_LIMIT, ActiveJob, label
from queuescope.broker.timings import DEFAULT_TIMINGS, WorkerTimings
from queuescope.errors import JobStoreError
from queuescope.instrument.metrics import Outcome, Unrunnable, WorkerMetrics
from queuescope.instrument.observation import (
    INVALID_MESSAGE,
    UNKNOWN_JOB_TYPE,
    Event,
    Observation,
)
from queuescope.jobs.job import Job, JobStatus

logger = logging.getLogger(__name__)

_ROWS_LIMIT = 20_000
_TAKE_SECONDS = 0.25
_STATUS = {
    Event.STARTED: JobStatus.STARTED,
    Event.SUCCEEDED: JobStatus.SUCCEEDED,
    Event.FAILED: JobStatus.FAILED,
    Event.RETRIED: JobStatus.RETRYING,
    Event.REVOKED: JobStatus.REVOKED,
    Event.EXPIRED: JobStatus.EXPIRED,
    Event.IGNORED: JobStatus.IGNORED,
    # It goes on under its id.
    Event.REPLACED: JobStatus.RETRYING,
}
_OUTCOMES = {
    event: Outcome(event.value) for event in Event if event not in {Event.STARTED, Event.REPLACED}
}
_UNRUNNABLE = {
    UNKNOWN_JOB_TYPE: Unrunnable.UNKNOWN_JOB_TYPE,
    INVALID_MESSAGE: Unrunnable.INVALID_MESSAGE,
}


class JobSink(Protocol):
    """Where job rows go: ``queuescope.jobs.store.JobStore``."""

    def record(self, jobs: Sequence[Job]) -> None: ...

    def abandon(self, worker: str, *, before: float, redelivers: bool) -> object: ...

    def fill_fingerprints(self) -> int: ...


class History:
    """Writes rows in batches from a thread of its own; a store that is down blocks nothing.

    Rows wait in memory, the newest of each time that a job began, at most ``limit``; what does not
    fit is lost and counted.
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
        self._abandoned: tuple[str, float, bool] | None = None
        self._may_abandon = False
        self._has_unmarked = True

    def start(self, worker: str, *, redelivers: bool) -> None:
        """Begin; rows that an earlier life of ``worker`` left as running are closed as soon as it
        is known that nobody runs them: ``abandon_earlier``. ``redelivers`` holds for those that do
        not say whether they will be delivered again.
        """
        self._abandoned = (worker, time.time(), redelivers)
        self._thread.start()

    def abandon_earlier(self, *, clock_ahead: float = 0.0) -> None:
        """No other worker of this name lives; by ``clock_ahead`` seconds times are put right."""
        if self._abandoned is not None:
            worker, began_at, redelivers = self._abandoned
            self._abandoned = (worker, began_at - clock_ahead, redelivers)
        self._may_abandon = True

    def add(self, job: Job) -> None:
        with self._lock:
            key = (job.id, job.started_at)
            self._waiting[key] = job
            self._waiting.move_to_end(key)
            if len(self._waiting) > self._limit:
                self._waiting.popitem(last=False)
                self._metrics.observations_lost(1)

    def stop(self) -> None:
        """Write what waits, once, and end."""
        self._stop.set()
        self._thread.join(timeout=10)

    def _run(self) -> None:
        while not self._stop.wait(self._seconds):
            self._flush_or_tell()
        self._flush_or_tell()

    def _flush_or_tell(self) -> None:
        try:
            self._flush()
        except Exception:  # rows of other jobs must be written all the same
            if not self._is_down:
                logger.exception("the job history met an error of its own; rows wait in memory")
            self._is_down = True

    def _flush(self) -> None:
        with self._lock:
            rows = list(self._waiting.values())
        abandoned = self._abandoned if self._may_abandon else None
        if not rows and abandoned is None and not self._has_unmarked:
            return
        try:
            if abandoned is not None:
                worker, before, redelivers = abandoned
                self._store.abandon(worker, before=before, redelivers=redelivers)
                self._abandoned = None
            for batch in _each_begin(rows):
                self._store.record(batch)
            # Rows of a time before there were fingerprints, a few with each turn.
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
                # A row that was renewed meanwhile has still to be written.
                key = (row.id, row.started_at)
                if self._waiting.get(key) is row:
                    del self._waiting[key]


def _each_begin(rows: Sequence[Job]) -> list[list[Job]]:
    """``rows`` in batches that hold no job twice, in the order in which each job began: the store
    counts the begins. There is one batch as a rule.
    """
    batches: list[list[Job]] = []
    seen: Counter[str] = Counter()
    for row in sorted(rows, key=lambda row: row.moment):
        if seen[row.id] == len(batches):
            batches.append([])
        batches[seen[row.id]].append(row)
        seen[row.id] += 1
    return batches or [[]]


@dataclass(frozen=True, slots=True)
class Activity:
    """What a worker has done since its start, and does now; see ``WorkerReport``."""

    active: tuple[ActiveJob, ...]
    active_count: int
    processed: int
    failed: int
    retried: int
    last_started_at: float | None
    last_ended_at: float | None
    cpu_ratio: float
    memory_bytes: int


class _UpToDate(RegistryCollector):
    """The metrics of a worker, after all that was noted has been taken in."""

    def __init__(self, metrics: WorkerMetrics, take_in: Callable[[], None]) -> None:
        self._metrics = metrics
        self._take_in = take_in

    def collect(self) -> Iterator[MetricFamily]:
        self._take_in()
        yield from self._metrics.registry.collect()


Running = Mapping[Hashable, Observation]
"""The attempts that run, and how each began."""

Translate = Callable[[Any, Running], tuple[Hashable, Observation] | None]
"""What a note says, and of which attempt; nothing where that is known already."""


class Collector:
    """Owns the metrics and the history of one worker.

    ``note`` may be called by any thread and at any time, also in a signal handler of Celery's.
    ``translate`` is called later, for the notes in their order.
    """

    def __init__(
        self,
        metrics: WorkerMetrics,
        store: JobSink | None,
        worker: str,
        translate: Translate,
        *,
        timings: WorkerTimings = DEFAULT_TIMINGS,
    ) -> None:
        self._metrics = metrics
        self._worker = worker
        metrics.belong_to(label(worker))
        self._history = None if store is None else History(store, metrics, timings=timings)
        self._usage_seconds = timings.usage_seconds
        self._translate = translate
        self._notes: deque[Any] = deque()
        self.note = self._notes.append
        """Takes what ``translate`` understands; costs nothing and never fails."""
        self.pid = os.getpid()
        self._lock = threading.Lock()
        self._running: dict[Hashable, Observation] = {}
        self._counts: Counter[Event] = Counter()
        self._last_started_at: float | None = None
        self._last_ended_at: float | None = None
        self._usage = (0.0, 0)
        self._has_failed = False
        self._stop = threading.Event()
        self._taker = threading.Thread(target=self._run, name="queuescope-taker", daemon=True)
        self._sampler = threading.Thread(target=self._sample, name="queuescope-usage", daemon=True)
        self._server: WSGIServer | None = None
        self._host = ""
        self._ports: tuple[int, ...] = ()
        self.refusal = ""
        """Why ``/metrics`` is not served, as the system says it."""

    def start(self, host: str, ports: tuple[int, ...], *, redelivers: bool) -> None:
        """Serve ``/metrics`` on the first of ``ports`` that is free, and begin to take in.

        Where none is, that costs the metrics of this worker and never the worker; it is tried
        again for as long as it runs.
        """
        self._host, self._ports = host, ports
        self._serve()
        if self._history is not None:
            self._history.start(self._worker, redelivers=redelivers)
        self._taker.start()
        self._sampler.start()

    def _serve(self) -> None:
        registry = CollectorRegistry()
        registry.register(_UpToDate(self._metrics, self.take_in))
        for port in self._ports:
            try:
                self._server, _ = start_http_server(port, self._host, registry)
            except OSError as exc:
                self.refusal = exc.strerror or str(exc)
                if exc.errno != errno.EADDRINUSE:
                    return
            else:
                self.refusal = ""
                return

    def _serve_at_last(self) -> None:
        """Another worker may have ended that had the port."""
        self._serve()
        if self.port is not None:
            logger.warning("metrics are served on port %d from now on", self.port)

    def abandon_earlier(self, *, clock_ahead: float = 0.0) -> None:
        """No other worker of this name lives: what stands as started from before is nobody's.
        By ``clock_ahead`` seconds the times of jobs are put right.
        """
        if self._history is not None:
            self._history.abandon_earlier(clock_ahead=clock_ahead)

    @property
    def port(self) -> int | None:
        """The port that serves ``/metrics``, or ``None``."""
        return None if self._server is None else int(self._server.server_port)

    def stop(self) -> None:
        """Take in what was noted, write the history, and give the port back."""
        if os.getpid() != self.pid or self._stop.is_set():
            return
        self._stop.set()
        if self._taker.is_alive():
            self._taker.join(timeout=5)
        self.take_in()
        if self._history is not None:
            self._history.stop()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def close_in_child(self) -> None:
        """Let go of what a forked child inherited: it must not hold the port of a dead worker."""
        if os.getpid() == self.pid:
            # Thread and solo pools “initialise their process” in the main process.
            return
        if self._server is not None:
            self._server.socket.close()

    def activity(self) -> Activity:
        """What is known now; any thread may ask."""
        self.take_in()
        with self._lock:
            running = list(self._running.values())
        running.sort(key=lambda job: job.started_at or job.at)
        cpu_ratio, memory_bytes = self._usage
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
            cpu_ratio=cpu_ratio,
            memory_bytes=memory_bytes,
        )

    def take_in(self) -> None:
        """Take in all that was noted until now; any thread may call it."""
        with self._lock:
            is_changed = False
            while self._notes:
                note = self._notes.popleft()
                try:
                    said = self._translate(note, self._running)
                    if said is not None:
                        self._observe(*said)
                        is_changed = True
                except Exception:
                    self._metrics.observations_lost(1)
                    if not self._has_failed:
                        logger.exception("what happened to a job could not be understood")
                    self._has_failed = True
            if is_changed:
                self._metrics.in_flight(Counter(job.queue for job in self._running.values()))

    def _observe(self, key: Hashable, seen: Observation) -> None:
        if seen.event is Event.STARTED:
            self._running[key] = seen
            self._last_started_at = seen.at
            self._metrics.attempt_started(
                queue=seen.queue,
                wait_seconds=_wait_seconds(seen),
                is_redelivered=seen.is_redelivered,
            )
            self._tell(seen)
            return
        self._running.pop(key, None)
        self._last_ended_at = seen.at
        if seen.event is Event.REPLACED:
            self._tell(seen)
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
            latency_seconds=_seconds_since(seen.first_due_at, seen.at),
        )
        self._tell(seen)

    def _tell(self, seen: Observation) -> None:
        if self._history is None:
            return
        self._history.add(
            Job(
                id=seen.id,
                name=seen.name,
                tenant=seen.tenant,
                queue=seen.queue,
                worker=self._worker,
                status=_STATUS[seen.event],
                enqueued_at=seen.first_due_at,
                started_at=seen.started_at,
                finished_at=None if seen.event is Event.STARTED else seen.at,
                wait_seconds=_wait_seconds(seen),
                runtime_seconds=seen.runtime_seconds,
                attempts=max(1, seen.attempt),
                error_class=seen.error_class,
                error_message=seen.error_message,
                routing_key=seen.routing_key,
                redelivers=seen.redelivers,
            )
        )

    def _run(self) -> None:
        while not self._stop.wait(_TAKE_SECONDS):
            self.take_in()

    def _sample(self) -> None:
        main = psutil.Process(self.pid)
        family: dict[int, psutil.Process] = {}
        while True:
            cpu_percent, memory_bytes, processes = 0.0, 0, 0
            try:
                members = [main, *main.children(recursive=True)]
            except psutil.Error:
                members = [main]
            family = {member.pid: family.get(member.pid, member) for member in members}
            for process in family.values():
                try:
                    # The first reading of a process is 0: there is nothing to compare with.
                    cpu_percent += process.cpu_percent()
                    memory_bytes += process.memory_info().rss
                    processes += 1
                except psutil.Error:
                    continue
            self._usage = (cpu_percent / 100, memory_bytes)
            self._metrics.process_sample(
                cpu_ratio=cpu_percent / 100, memory_bytes=memory_bytes, processes=processes
            )
            if self._stop.wait(self._usage_seconds):
                return
            if self._server is None:
                self._serve_at_last()


def _wait_seconds(seen: Observation) -> float | None:
    return _seconds_since(seen.due_at, seen.started_at)


def _seconds_since(due_at: float | None, at: float | None) -> float | None:
    """How long after ``due_at`` it was; unknown where the clock that gave that is off."""
    if due_at is None or at is None or at - due_at <= -CLOCK_OFF_SECONDS:
        return None
    return max(0.0, at - due_at)
