"""A worker's pulse: what it reports to the broker, and what it reads there and obeys.

A thread of the worker's main process reports every two seconds and reads the desired state. The
desired state is read once more, by the thread that fetches jobs, each time that it has connected
and before it fetches anything. Where the broker cannot be asked, the last known state stays in
force; a worker that has never known one begins nothing until it does. Nothing here fails a job.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

import redis
from celery import bootsteps
from celery.worker import state
from kombu.exceptions import KombuError

from queuescope.broker.clock import RightedClock, clock_mark
from queuescope.broker.redis.desired import (
    DamagedDesiredError,
    broker_time,
    is_made_up,
    is_of_other_type,
    publish_desired,
    read_revoked,
    read_told,
)
from queuescope.broker.redis.failures import translated
from queuescope.broker.reports import (
    QUEUES_LIMIT,
    TYPES_LIMIT,
    TYPES_LIMIT_CHARACTERS,
    DesiredState,
    Keys,
    Pool,
    WorkerReport,
    decode_report,
    encode,
    label,
    report_field,
)
from queuescope.broker.timings import WorkerTimings
from queuescope.errors import BrokerError, BrokerErrorKind
from queuescope.instrument import limits
from queuescope.instrument.collector import Collector
from queuescope.instrument.fetched import FetchedJobs
from queuescope.instrument.gate import Gate
from queuescope.instrument.kept_jobs import KeptJobs
from queuescope.instrument.source_queue import broadcasts, origins

logger = logging.getLogger(__name__)

_TIMEOUT_SECONDS = 3.0
_REVOKED_SECONDS = 600.0
_POOLS = {
    "celery.concurrency.prefork": Pool.PREFORK,
    "celery.concurrency.thread": Pool.THREADS,
    "celery.concurrency.solo": Pool.SOLO,
}
_TRANSPORTS = frozenset({"redis", "rediss", "redis+socket", "valkey", "sentinel"})
# These do not pass by themselves, and a project must not stand still for them.
_DAMAGED = "what is desired of the queues is damaged in the broker"
_LASTING = frozenset({BrokerErrorKind.NO_PERMISSION, BrokerErrorKind.UNUSABLE})


class Link:
    """The worker's own connection to its broker, made by the project's own settings."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._connection: Any = None
        self._client: redis.Redis | None = None
        self.keys = Keys()
        self.priority_steps: tuple[int, ...] = ()
        self.separator = ""

    @contextmanager
    def client(self) -> Iterator[redis.Redis]:
        """Raises ``BrokerError``, after which the next call connects anew."""
        try:
            with translated(writes=True):
                try:
                    yield self._connected()
                except KombuError as exc:
                    _raise_cause(exc)
        except BrokerError:
            self.close()
            raise

    def close(self) -> None:
        connection, self._connection, self._client = self._connection, None, None
        if connection is not None:
            try:
                connection.release()
            except (OSError, redis.RedisError, KombuError):
                logger.debug("closing a broken connection failed", exc_info=True)

    def _connected(self) -> redis.Redis:
        if self._client is None:
            self._connection = self._app.connection_for_write(
                connect_timeout=_TIMEOUT_SECONDS,
                transport_options={
                    "socket_timeout": _TIMEOUT_SECONDS,
                    "socket_connect_timeout": _TIMEOUT_SECONDS,
                },
            )
            channel = self._connection.ensure_connection(
                max_retries=1, timeout=_TIMEOUT_SECONDS
            ).default_channel
            self.keys = Keys(channel.global_keyprefix)
            self.priority_steps = tuple(int(step) for step in channel.priority_steps)
            self.separator = channel.sep
            # Kombu's own client would put the prefix before some keys and not before others.
            self._client = redis.Redis(connection_pool=channel.pool)
        return self._client


class Heartbeat:
    """Reports and obeys, from before a worker's first job until after its last."""

    def __init__(
        self,
        worker: Any,
        collector: Collector,
        gate: Gate,
        *,
        clock: RightedClock,
        can_retry: bool,
        keeps: bool,
        timings: WorkerTimings,
    ) -> None:
        self._worker = worker
        self._collector = collector
        self._gate = gate
        self._clock = clock
        self._can_retry = can_retry
        self._timings = timings
        # No broker, however slow, holds up a report for so long.
        self._stood_still_seconds = timings.report_seconds + 3 * _TIMEOUT_SECONDS
        self.link = Link(worker.app)
        self.kept = KeptJobs() if keeps else None
        self._boot_id = uuid.uuid4().hex
        self._field = report_field(str(worker.hostname), self._boot_id)
        self._meets_namesakes = True
        self._first_at = 0.0
        # Not by the clock, which may be put right while the worker runs.
        self._started = time.monotonic()
        self._loop_at = self._pulse_at = self._clock.now()
        self._fetched = FetchedJobs(gate.queue_of)
        self._connected_at: float | None = None
        self._shutdown_at: float | None = None
        self._notice_soft_shutdown()
        self._is_known = False
        self._is_down = False
        self._is_faulty = False
        self._is_damaged = False
        self._revocations: int | None = None
        self._revocations_at = 0.0
        self._timer: Any = None
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="queuescope-pulse", daemon=True)

    def on_connected(self, consumer: Any) -> None:
        """The consumer has connected, and fetches nothing before this returns."""
        self._obey_now()
        self._loop_at = self._connected_at = self._pulse_at = self._clock.now()
        self._gate.attach(consumer)
        self._timer = consumer.timer.call_repeatedly(self._timings.report_seconds, self._tick)
        if self._thread.ident is None:
            self._thread.start()

    def on_disconnected(self) -> None:
        self._connected_at = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def end(self) -> None:
        """End a worker that may have been cut off in its jobs: then its last report stays, by which
        they are known to be lost.
        """
        self.stop(forgets=not self._collector.activity().active_count)

    def stop(self, *, forgets: bool = True) -> None:
        """End; a worker that ends in good order leaves no report behind."""
        if os.getpid() != self._pid or self._stop.is_set():
            return
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(timeout=2 * _TIMEOUT_SECONDS)
        if forgets:
            try:
                with self._lock, self.link.client() as client:
                    client.hdel(self.link.keys.workers, self._field)
            except BrokerError as exc:
                logger.info("the last report stays in the broker: %s", exc)
        self.link.close()

    @property
    def served(self) -> tuple[str, ...]:
        """The queues that this worker is there for, paused or not."""
        return self._gate.served

    def broker_now(self) -> float:
        """Epoch seconds by the broker's clock. Raises ``BrokerError``."""
        with self._lock, self.link.client() as client:
            return broker_time(client)

    @contextmanager
    def client(self) -> Iterator[redis.Redis]:
        """For commands of the same worker. Raises ``BrokerError``."""
        with self._lock, self.link.client() as client:
            yield client

    def _tick(self) -> None:
        self._loop_at = self._clock.now()
        self._gate.apply()

    def _run(self) -> None:
        while True:
            self._notice_standstill()
            try:
                self._beat()
            except Exception:  # a worker without a pulse would be lost, and obey nothing
                if not self._is_faulty:
                    logger.exception(
                        "the pulse of this worker met an error of its own, and goes on"
                    )
                self._is_faulty = True
            if self._stop.wait(self._timings.report_seconds):
                return

    def _notice_standstill(self) -> None:
        """Where the whole process stood still, stopped or on a machine that slept, its main loop
        could do nothing meanwhile either, and has only just come back.
        """
        now = self._clock.now()
        if now - self._pulse_at > self._stood_still_seconds:
            self._loop_at = now
            if self._connected_at is not None:
                self._connected_at = now
        self._pulse_at = now

    def _beat(self) -> None:
        try:
            with self._lock, self.link.client() as client:
                try:
                    self._obey(client)
                finally:
                    # Whoever cannot obey lives all the same.
                    self._report(client)
                if self.kept is not None:
                    self.kept.flush(client, self.link.keys)
        except BrokerError as exc:
            if not self._is_down:
                logger.warning("this worker cannot report, nor see what is paused: %s", exc)
            self._is_down = True
            self._open_for_good(exc)
        else:
            if self._is_down or self._is_faulty:
                logger.info("this worker reports again")
            self._is_down = self._is_faulty = False

    # Shutting down --------------------------------------------------------------------------

    def _notice_soft_shutdown(self) -> None:
        """Celery says nothing before the time that it gives running jobs has passed."""
        wait = getattr(self._worker, "wait_for_soft_shutdown", None)
        if wait is None:
            return

        def wait_for_soft_shutdown() -> Any:
            self._shutdown_at = self._shutdown_at or self._clock.now()
            return wait()

        self._worker.wait_for_soft_shutdown = wait_for_soft_shutdown

    def _shutdown_begun_at(self) -> float | None:
        """Since when this worker shuts down, by its clock: for a signal or an order."""
        # Celery sets these to an exit status, of which 0 is one.
        is_told = any(
            told is not None and told is not False
            for told in (state.should_stop, state.should_terminate)
        )
        if self._shutdown_at is None and (is_told or self._worker.blueprint.state != bootsteps.RUN):
            self._shutdown_at = self._clock.now()
        return self._shutdown_at

    # Obeying --------------------------------------------------------------------------------

    def _obey_now(self) -> None:
        try:
            with self._lock, self.link.client() as client:
                # Before the first job, whose times stand by it.
                asked_at = time.time()
                self._clock.compare(broker_time(client), asked_at=asked_at)
                self._revocations = None
                self._obey(client)
        except BrokerError as exc:
            logger.warning("what is paused could not be read: %s", exc)
            self._open_for_good(exc)
            if not self._is_known:
                logger.warning("no job begins until it is known what is paused")

    def _obey(self, client: redis.Redis) -> None:
        """What is damaged changes nothing: what was known stays in force."""
        keys, mine = self.link.keys, self._gate.desired
        told = read_told(client, keys)
        held = told.state
        if held is not None and self._is_known and is_made_up(held, mine):
            held = None
        self._tell_of_damage(is_damaged=held is None or told.revocations is None)
        if held is not None:
            is_behind = self._is_known and held.revision < mine.revision
            # What no operators decided was learned from a stranger, and the others put it right.
            if is_behind and not (held.revision and is_made_up(mine, held)):
                # The broker has lost its data; what was paused stays so, for other workers, too.
                held = publish_desired(client, keys, mine)
            self._is_known = True
            self._let(held)
        elif not self._is_known:
            raise BrokerError(BrokerErrorKind.UNUSABLE, _DAMAGED)
        is_due = time.monotonic() - self._revocations_at > _REVOKED_SECONDS
        if told.revocations != self._revocations or is_due:
            self._revocations = told.revocations
            self._revocations_at = time.monotonic()
            try:
                state.revoked.update(read_revoked(client, keys))
            except DamagedDesiredError as exc:
                logger.warning("revoked jobs may start: %s", exc)

    def _tell_of_damage(self, *, is_damaged: bool) -> None:
        if is_damaged and not self._is_damaged:
            logger.warning("%s; what was known stays in force", _DAMAGED)
        self._is_damaged = is_damaged

    def _let(self, desired: DesiredState) -> None:
        self._gate.set(desired)
        consumer = getattr(self._worker, "consumer", None)
        if consumer is not None and threading.get_ident() == self._thread.ident:
            consumer.call_soon(self._gate.apply)

    def _open_for_good(self, exc: BrokerError) -> None:
        if exc.kind in _LASTING and not self._is_known:
            logger.error(
                "this worker will not obey a pause: %s; or leave operations out with "
                "instrument(app, operations=False)",
                exc,
            )
            self._is_known = True
            self._let(DesiredState())

    # Reporting ------------------------------------------------------------------------------

    def _report(self, client: redis.Redis) -> None:
        asked_at = time.time()
        now = broker_time(client)
        self._clock.compare(now, asked_at=asked_at)
        report = self._look(now)
        try:
            client.hset(self.link.keys.workers, self._field, encode(report))
        except redis.ResponseError as exc:
            if not is_of_other_type(exc):
                raise
            # What stands in the place of the reports is no report of anybody.
            client.delete(self.link.keys.workers)
            raise
        if self._meets_namesakes:
            self._meet_namesakes(client, report.at)

    def _meet_namesakes(self, client: redis.Redis, now: float) -> None:
        """Find out whether another worker of this name lives. An earlier life of this one has left
        its report, and jobs that nobody runs; what one that lives runs is its own.
        """
        name = str(self._worker.hostname)
        self._first_at = self._first_at or now
        keys: list[Any] = client.hkeys(self.link.keys.workers)
        own = self._field.encode()
        mine = (f"{name} ".encode(), name.encode())
        fields = [key for key in keys if key != own and (key.startswith(mine[0]) or key == mine[1])]
        found: list[Any] = client.hmget(self.link.keys.workers, fields) if fields else []
        others = []
        for raw in found:
            with suppress(ValueError):
                others.append(decode_report(raw or b""))
        if any(other.at > self._first_at for other in others):
            self._meets_namesakes = False
            logger.warning(
                "another worker is called %s, too: orders reach both; give each its own name with "
                "-n",
                name,
            )
        elif all(now - other.at > self._timings.lost_seconds for other in others):
            self._meets_namesakes = False
            if fields:
                client.hdel(self.link.keys.workers, *fields)
            self._collector.abandon_earlier(clock_ahead=self._clock.ahead)

    def _look(self, at: float) -> WorkerReport:
        self._notice_standstill()
        clock_at = self._clock.now()
        consumer, pool = self._worker.consumer, self._worker.pool
        desired, activity = self._gate.desired, self._collector.activity()
        fetched = self._fetched.look(consumer)
        due = fetched.next_due_at
        # Celery lets a job begin when this machine's clock says so.
        next_due_at = None if due is None else max(0.0, self._clock.right(due))
        served, mark = self._gate.served, clock_mark()
        return WorkerReport(
            worker=str(self._worker.hostname),
            boot_id=self._boot_id,
            pid=self._pid,
            at=at,
            clock_at=clock_at,
            started_at=clock_at - (time.monotonic() - self._started),
            queues=served,
            consuming=self._gate.consuming,
            paused=tuple(queue for queue in served if desired.pauses(queue)),
            revision=desired.revision,
            revised_at=self._clock.right(self._gate.set_at),
            pool=kind_of_pool(pool),
            pool_size=int(pool.num_processes or 0),
            prefetch_limit=int(consumer.qos.value if consumer.qos else 0),
            reserved=fetched.reserved,
            scheduled=sum(fetched.scheduled.values()),
            scheduled_queues=fetched.scheduled,
            next_due_at=next_due_at,
            rate_limited=fetched.rate_limited,
            shutting_down_at=self._shutdown_begun_at(),
            is_connected=self._connected_at is not None,
            connected_at=self._connected_at,
            active=activity.active,
            active_count=activity.active_count,
            processed=activity.processed,
            failed=activity.failed,
            retried=activity.retried,
            last_started_at=activity.last_started_at,
            last_ended_at=activity.last_ended_at,
            loop_at=self._loop_at,
            cpu_ratio=activity.cpu_ratio,
            memory_bytes=activity.memory_bytes,
            memory_limit_bytes=limits.memory_limit_bytes(),
            cpu_limit=limits.cpu_limit(),
            redelivers=bool(self._worker.app.conf.task_acks_late),
            retries=self._can_retry,
            needs_arguments=self.kept is not None if self._can_retry else None,
            types=_types(self._worker.app) if self._can_retry else None,
            origins=_origins(self._worker.app, served) if self._can_retry else None,
            broadcasts=broadcasts(self._worker.app, served),
            scales_itself=bool(consumer.controller.autoscaler),
            priority_steps=self.link.priority_steps,
            separator=self.link.separator,
            clock_ahead=self._clock.ahead,
            clock_mark=mark if mark is not None and mark >= 0 else None,
        )


def _types(app: Any) -> tuple[str, ...] | None:
    """The job types of the project, within the limits of a report."""
    names = [label(name) for name in list(app.tasks)]
    if len(names) > TYPES_LIMIT or sum(map(len, names)) > TYPES_LIMIT_CHARACTERS:
        return None
    return tuple(sorted(names))


def _origins(app: Any, served: Sequence[str]) -> tuple[str, ...] | None:
    """Where its jobs come from, within the limits of a report."""
    known = origins(app, served)
    if known is None or len(known) > QUEUES_LIMIT:
        return None
    return tuple(sorted(label(key) for key in known))


def kind_of_pool(pool: Any) -> Pool:
    """What Celery's ``pool`` is, or is made from."""
    kinds = (_POOLS.get(kind.__module__) for kind in type(pool).__mro__)
    return next((kind for kind in kinds if kind is not None), Pool.OTHER)


def obeys(app: Any) -> bool:
    """Whether the broker of ``app`` is of the kind that this module speaks to."""
    return bool(app.connection_for_read().transport_cls in _TRANSPORTS)


class ObeyStep(bootsteps.StartStopStep):  # type: ignore[misc]
    """After the queues are selected and before the loop consumes them, at each connection."""

    requires = ("celery.worker.consumer.tasks:Tasks",)
    name = "queuescope-obey"

    def include_if(self, parent: Any) -> bool:
        return _heartbeat_of(parent) is not None

    def start(self, parent: Any) -> None:
        heartbeat = _heartbeat_of(parent)
        if heartbeat is not None:
            heartbeat.on_connected(parent)

    def stop(self, parent: Any) -> None:
        heartbeat = _heartbeat_of(parent)
        if heartbeat is not None:
            heartbeat.on_disconnected()


def _heartbeat_of(consumer: Any) -> Heartbeat | None:
    return getattr(getattr(consumer.app, "queuescope", None), "heartbeat", None)


def _raise_cause(error: Exception) -> NoReturn:
    """Kombu wraps what redis-py said."""
    cause = error.__cause__
    if isinstance(cause, redis.RedisError | OSError):
        raise cause from error
    raise redis.ConnectionError("no connection") from error
