"""The worker's main process: observations become metrics and rows of the job history."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import tempfile
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from wsgiref.simple_server import WSGIServer

import msgspec
import psutil
from prometheus_client import start_http_server

from queuescope.errors import JobStoreError
from queuescope.heartbeats import ACTIVE_LIMIT, ActiveJob, label
from queuescope.instrument.metrics import Outcome, WorkerMetrics
from queuescope.instrument.observation import Event, Observation, decode
from queuescope.jobs.store import Job, JobStatus

logger = logging.getLogger(__name__)

_FOLDER_PREFIX = "queuescope-"
_SOCKET_NAME = "observations.sock"
# Of a Unix socket, without the byte that ends it, on the system that takes the shortest.
_LONGEST_ADDRESS_BYTES = 103
_DATAGRAM_BYTES = 65_536
_ENDED_LIMIT = 20_000
_ROWS_LIMIT = 20_000
_FLUSH_SECONDS = 1.0
_SAMPLE_SECONDS = 5.0
_REAP_SECONDS = 5.0
# Celery waits 10 s for the result of a child that died before it reports the job as lost.
_LOST_AFTER_SECONDS = 30.0
_STATUS = {
    Event.STARTED: JobStatus.STARTED,
    Event.SUCCEEDED: JobStatus.SUCCEEDED,
    Event.FAILED: JobStatus.FAILED,
    Event.RETRIED: JobStatus.RETRYING,
    Event.REVOKED: JobStatus.REVOKED,
}


class JobSink(Protocol):
    """Where job rows go: ``queuescope.jobs.store.JobStore``."""

    def record(self, jobs: Sequence[Job]) -> None: ...

    def abandon(self, worker: str, *, before: float, status: JobStatus) -> int: ...

    def fill_fingerprints(self) -> int: ...


class History:
    """Writes rows in batches from a thread of its own; a store that is down blocks nothing.

    Rows wait in memory, newest per job, at most ``limit``; what does not fit is lost and counted.
    """

    def __init__(self, store: JobSink, metrics: WorkerMetrics, limit: int = _ROWS_LIMIT) -> None:
        self._store = store
        self._metrics = metrics
        self._limit = limit
        self._lock = threading.Lock()
        self._waiting: OrderedDict[str, Job] = OrderedDict()
        self._stop = threading.Event()
        self._is_down = False
        self._thread = threading.Thread(target=self._run, name="queuescope-history", daemon=True)
        self._abandoned: tuple[str, float, JobStatus] | None = None
        self._has_unmarked = True

    def start(self, worker: str, *, redelivers: bool) -> None:
        """Begin; rows that an earlier life of ``worker`` left as running are closed first."""
        status = JobStatus.RETRYING if redelivers else JobStatus.LOST
        self._abandoned = (worker, time.time(), status)
        self._thread.start()

    def add(self, job: Job) -> None:
        with self._lock:
            self._waiting[job.id] = job
            self._waiting.move_to_end(job.id)
            if len(self._waiting) > self._limit:
                self._waiting.popitem(last=False)
                self._metrics.observations_lost(1)

    def stop(self) -> None:
        """Write what waits, once, and end."""
        self._stop.set()
        self._thread.join(timeout=10)

    def _run(self) -> None:
        while not self._stop.wait(_FLUSH_SECONDS):
            self._flush()
        self._flush()

    def _flush(self) -> None:
        with self._lock:
            rows = list(self._waiting.values())
        if not rows and self._abandoned is None and not self._has_unmarked:
            return
        try:
            if self._abandoned is not None:
                worker, before, status = self._abandoned
                self._store.abandon(worker, before=before, status=status)
                self._abandoned = None
            self._store.record(rows)
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
                if self._waiting.get(row.id) is row:
                    del self._waiting[row.id]


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


class Collector:
    """Owns the socket, the metrics and the history of one worker.

    Only the thread that reads the socket knows the running jobs, so nothing there is locked.
    """

    def __init__(self, metrics: WorkerMetrics, store: JobSink | None, worker: str) -> None:
        self._metrics = metrics
        self._worker = worker
        metrics.belong_to(label(worker))
        self._history = History(store, metrics) if store is not None else None
        _remove_sockets_of_the_dead()
        self._folder = Path(tempfile.mkdtemp(prefix=_FOLDER_PREFIX, dir=_home_of_sockets()))
        self.path = self._folder / _SOCKET_NAME
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self.path))
        self._socket.settimeout(1.0)
        self._pid = os.getpid()
        self._running: dict[str, Observation] = {}
        self._ended: OrderedDict[str, None] = OrderedDict()
        self._dead_since: dict[str, float] = {}
        self._counts: Counter[Event] = Counter()
        self._last_started_at: float | None = None
        self._last_ended_at: float | None = None
        self._usage = (0.0, 0)
        self.keep: Callable[[str], None] | None = None
        """Takes the arguments of failed jobs that came with their observations."""
        self._stop = threading.Event()
        self._reader = threading.Thread(target=self._read, name="queuescope-reader", daemon=True)
        self._sampler = threading.Thread(target=self._sample, name="queuescope-usage", daemon=True)
        self._server: WSGIServer | None = None

    def start(self, host: str, port: int, *, redelivers: bool) -> None:
        """Serve ``/metrics`` and begin to read.

        A busy port costs the metrics of this worker, which is logged, and never the worker.
        """
        try:
            self._server, _ = start_http_server(port, host, self._metrics.registry)
        except OSError as exc:
            logger.error(  # noqa: TRY400 - the cause is in the message, a traceback adds nothing
                "metrics cannot be served on %s:%d (%s): this worker is invisible to Prometheus; "
                "give it its own port with QUEUESCOPE_METRICS_PORT",
                *(host, port, exc.strerror or exc),
            )
        if self._history is not None:
            self._history.start(self._worker, redelivers=redelivers)
        self._reader.start()
        self._sampler.start()

    @property
    def port(self) -> int | None:
        """The port that serves ``/metrics``, or ``None``."""
        return None if self._server is None else int(self._server.server_port)

    def stop(self) -> None:
        """Take in what was sent, write the history, and give socket and port back."""
        if os.getpid() != self._pid or self._stop.is_set():
            return
        self._stop.set()
        self._reader.join(timeout=5)
        if self._history is not None:
            self._history.stop()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
        self._socket.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def close_in_child(self) -> None:
        """Let go of what a forked child inherited: it must not hold the port of a dead worker."""
        if os.getpid() == self._pid:
            # Thread and solo pools “initialise their process” in the main process.
            return
        self._socket.close()
        if self._server is not None:
            self._server.socket.close()

    def activity(self) -> Activity:
        """What is known now; any thread may ask."""
        # list() of a dict is one step for other threads.
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

    def observe(self, seen: Observation) -> None:
        """Take in one observation."""
        if seen.lost:
            self._metrics.observations_lost(seen.lost)
        if seen.event is Event.STARTED:
            self._started(seen)
        else:
            self._ended_with(seen)
        self._metrics.in_flight(Counter(job.queue for job in self._running.values()))

    def _started(self, seen: Observation) -> None:
        self._ended.pop(seen.id, None)
        self._dead_since.pop(seen.id, None)
        self._running[seen.id] = seen
        self._last_started_at = seen.at
        self._metrics.attempt_started(queue=seen.queue, wait_seconds=_wait_seconds(seen))
        self._note(seen)

    def _ended_with(self, seen: Observation) -> None:
        started = self._running.pop(seen.id, None)
        self._dead_since.pop(seen.id, None)
        if started is None and seen.id in self._ended:
            # The child told it before it died, and the main process tells it again.
            return
        self._ended[seen.id] = None
        if len(self._ended) > _ENDED_LIMIT:
            self._ended.popitem(last=False)
        if seen.arguments and self.keep is not None:
            self.keep(seen.arguments)
        if started is not None:
            seen = _completed(seen, started)
        self._counts[seen.event] += 1
        self._last_ended_at = seen.at
        latency = None if seen.first_due_at is None else max(0.0, seen.at - seen.first_due_at)
        self._metrics.attempt_ended(
            tenant=seen.tenant,
            queue=seen.queue,
            outcome=Outcome(seen.event.value),
            at=seen.at,
            runtime_seconds=seen.runtime_seconds,
            latency_seconds=latency,
        )
        self._note(seen)

    def _note(self, seen: Observation) -> None:
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
            )
        )

    def _read(self) -> None:
        next_reap = time.monotonic() + _REAP_SECONDS
        while True:
            try:
                datagram = self._socket.recv(_DATAGRAM_BYTES)
            except TimeoutError:
                datagram = b""
            if datagram:
                self._take(datagram)
            elif self._stop.is_set():
                return
            if self._stop.is_set():
                self._socket.settimeout(0.1)
            if time.monotonic() >= next_reap:
                self._reap()
                next_reap = time.monotonic() + _REAP_SECONDS

    def _take(self, datagram: bytes) -> None:
        try:
            seen = decode(datagram)
        except ValueError:
            self._metrics.observations_lost(1)
            return
        self.observe(seen)

    def _reap(self) -> None:
        """Let go of jobs whose process died and whose message went back to the broker.

        Celery reports a lost job as failed, except when it gives the message back: then nothing
        is reported, another worker runs it, and here it would be in flight for ever.
        """
        now = time.time()
        for job in list(self._running.values()):
            if not job.pid or psutil.pid_exists(job.pid):
                continue
            if now - self._dead_since.setdefault(job.id, now) >= _LOST_AFTER_SECONDS:
                self.observe(
                    Observation(
                        event=Event.RETRIED,
                        id=job.id,
                        at=now,
                        error_class="WorkerLostError",
                        error_message="The process that ran this job died; it is tried again.",
                    )
                )

    def _sample(self) -> None:
        main = psutil.Process(self._pid)
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
            if self._stop.wait(_SAMPLE_SECONDS):
                return


def _home_of_sockets() -> Path:
    """The folder for temporary files, unless the address of a socket in it would be too long."""
    folder = Path(tempfile.gettempdir())
    address = folder / f"{_FOLDER_PREFIX}12345678" / _SOCKET_NAME
    fits = len(os.fsencode(address)) <= _LONGEST_ADDRESS_BYTES
    return folder if fits else Path("/tmp")  # noqa: S108 - a folder of our own is made in it


def _remove_sockets_of_the_dead() -> None:
    """A worker that is killed cannot clear up after itself; the next one does."""
    for path in _home_of_sockets().glob(f"{_FOLDER_PREFIX}*/{_SOCKET_NAME}"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect(str(path))
            except ConnectionRefusedError:
                shutil.rmtree(path.parent, ignore_errors=True)
            except OSError:
                # Another user's, or gone meanwhile.
                continue


def _wait_seconds(seen: Observation) -> float | None:
    if seen.due_at is None or seen.started_at is None:
        return None
    return max(0.0, seen.started_at - seen.due_at)


def _completed(ended: Observation, started: Observation) -> Observation:
    """What the main process reports says little; the start of the attempt knows the rest."""
    runtime_seconds = ended.runtime_seconds
    if runtime_seconds is None and started.started_at is not None:
        runtime_seconds = max(0.0, ended.at - started.started_at)
    return msgspec.structs.replace(
        started,
        event=ended.event,
        at=ended.at,
        runtime_seconds=runtime_seconds,
        error_class=ended.error_class,
        error_message=ended.error_message,
        lost=0,
    )
