"""Two lines that make a Celery project visible: what its jobs come to becomes observations.

``instrument(app)`` belongs where the app is made, so that both the processes that send jobs and
the workers call it. A sender writes into each message when it became due; a worker serves
``/metrics`` and, if told where, writes the job history.

A retry is a new attempt: it waits from when its countdown ends. The job's latency runs from when
its first attempt became due until its final outcome. Nothing here can fail a job.
"""

from __future__ import annotations

import atexit
import logging
import os
import time
import uuid
from collections.abc import Callable, Collection, Hashable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import celery
import msgspec
from celery import signals
from celery._state import get_current_worker_task
from celery.app.task import Context
from celery.utils.time import maybe_iso8601, maybe_make_aware
from kombu.exceptions import KombuError

from queuescope.broker.clock import RightedClock, clock_mark
from queuescope.broker.redis.address import kind_of_broker
from queuescope.broker.redis.broker import CLOCK_HEADER, DUE_HEADER
from queuescope.broker.reports import KeptJob, label
from queuescope.broker.timings import DEFAULT_TIMINGS, WorkerTimings
from queuescope.environment import place_of, read_setting
from queuescope.errors import ConfigurationError
from queuescope.instrument.attempts import (
    Attempts,
    Begun,
    Note,
    ObserveStep,
    Succeeded,
    described,
    succeeded_at,
    what_became,
)
from queuescope.instrument.collector import Collector, Running
from queuescope.instrument.gate import Gate
from queuescope.instrument.heartbeat import Heartbeat, ObeyStep, obeys
from queuescope.instrument.kept_jobs import keep
from queuescope.instrument.metrics import DEFAULT_NAMESPACE, DEFAULT_SUBSYSTEM, WorkerMetrics
from queuescope.instrument.observation import (
    ERROR_MESSAGE_LIMIT,
    INVALID_MESSAGE,
    UNKNOWN_JOB_TYPE,
    Event,
    Observation,
)
from queuescope.instrument.remote import Retrier, RetryJob
from queuescope.instrument.source_queue import (
    QUEUE_HEADER,
    SourceQueueStep,
    is_broadcast,
    routing_key,
    source_queue,
)
from queuescope.jobs.job import LATEST

if TYPE_CHECKING:
    from queuescope.jobs.store import JobStore

METRICS_PORTS = (9540, *range(9542, 9550))
"""Where a worker serves its metrics unless told otherwise: on the first that is free. The exporter
has the one that is left out.
"""
FIRST_DUE_HEADER = "queuescope_first_enqueued_at"
FIRST_CLOCK_HEADER = "queuescope_first_clock"

_LAST_PORT = 65_535
_RETRIES_LIMIT = 2**31

# What tells of one message, and not of its job.
_NOT_HANDED_ON = frozenset(
    {DUE_HEADER, FIRST_DUE_HEADER, CLOCK_HEADER, FIRST_CLOCK_HEADER, QUEUE_HEADER, "redelivered"}
)

TenantOf = Callable[[Mapping[str, Any], Mapping[str, Any]], str | None]
Redact = Callable[[str], str]

logger = logging.getLogger(__name__)


def default_tenant(kwargs: Mapping[str, Any], headers: Mapping[str, Any]) -> str | None:
    """The header ``tenant``, or the argument ``tenant`` or ``tenant_id``."""
    for value in (headers.get("tenant"), kwargs.get("tenant"), kwargs.get("tenant_id")):
        if isinstance(value, str | int) and value != "":
            return str(value)
    return None


def instrument(
    app: celery.Celery,
    *,
    namespace: str = DEFAULT_NAMESPACE,
    subsystem: str = DEFAULT_SUBSYSTEM,
    metrics_port: int | str | None = None,
    metrics_host: str | None = None,
    job_store_url: str | None = None,
    tenant_of: TenantOf = default_tenant,
    tenants: Collection[str] = (),
    queues: Collection[str] = (),
    operations: bool = True,
    retry: RetryJob | None = None,
    keep_arguments: bool = False,
    redact: Redact | None = None,
    timings: WorkerTimings = DEFAULT_TIMINGS,
) -> None:
    """Make ``app`` tell what becomes of its jobs; a second call for the same app does nothing.

    ``metrics_port`` is a port or a range such as ``"9600-9609"``, of which the first free one is
    taken; it defaults to the setting of that name, then 9540 and 9542 to 9549; 0 takes any.
    ``metrics_host`` defaults to its setting, then every address. ``job_store_url`` defaults to its
    setting; without either there is no job history. Settings stand in the environment, such as
    ``QUEUESCOPE_METRICS_PORT``, or in the file that ``QUEUESCOPE_CONFIG`` names.
    ``tenant_of(kwargs, headers)`` names the tenant of a job; ``None`` is ``default``.
    Counters of the ``tenants`` and ``queues`` that are named here stand at 0 before the first job.

    With ``operations`` workers report to the broker every two seconds and obey what operators
    want: pause, revoke, scale. Failed jobs can be sent again where ``retry(job_id, name)`` does
    so, or where ``keep_arguments`` keeps the arguments of failed jobs in the broker for seven
    days; those may be personal data. ``retry`` runs in a worker's main process and must be quick.

    Obvious secrets in the text of an error (passwords in addresses, tokens, keys) are masked before
    it is written; ``redact(text)`` gives back the text without those that only the project knows.
    Where it fails, the text is left out.

    ``timings`` are how often a worker reports; exporter and dashboard must be given the same.

    Raises ``ConfigurationError`` when a port or the address of the job store cannot be used.
    """
    app = getattr(app, "_get_current_object", lambda: app)()
    if getattr(app, "queuescope", None) is not None:
        return
    url = job_store_url or read_setting("job_store_url")
    clock = RightedClock()
    app.queuescope = Instrumentation(
        app,
        clock=clock,
        metrics=WorkerMetrics(
            namespace=namespace,
            subsystem=subsystem,
            tenants=tenants,
            queues=queues,
            clock=clock.now,
            clock_off=lambda: clock.off,
        ),
        host=metrics_host or read_setting("metrics_host") or "0.0.0.0",
        ports=_ports(metrics_port),
        store=_job_store(url) if url else None,
        tenant_of=tenant_of,
        operations=operations,
        retry=retry,
        keep_arguments=keep_arguments,
        redact=redact,
        timings=timings,
    )


def _job_store(url: str) -> JobStore:
    # SQLAlchemy is half of what a worker would import, and a third of its memory.
    from queuescope.jobs.store import JobStore  # noqa: PLC0415

    return JobStore(url)


class Told(msgspec.Struct, frozen=True):
    """The end of a job that its message says, and no pool."""

    event: Event
    message: Mapping[str, Any]
    at: float
    error: tuple[str, ...]


class Instrumentation:
    """The signal handlers of one app, and in its worker the collector that they talk to."""

    def __init__(
        self,
        app: celery.Celery,
        *,
        clock: RightedClock,
        metrics: WorkerMetrics,
        host: str,
        ports: tuple[int, ...],
        store: JobStore | None,
        tenant_of: TenantOf,
        operations: bool,
        retry: RetryJob | None,
        keep_arguments: bool,
        redact: Redact | None,
        timings: WorkerTimings,
    ) -> None:
        self._app = app
        self._clock = clock
        self._operations = operations
        self._retry = retry
        self._redact = redact
        self._timings = timings
        self._keep_arguments = operations and retry is None and keep_arguments
        self.attempts: Attempts | None = None
        self.heartbeat: Heartbeat | None = None
        self.retrier: Retrier | None = None
        app.steps["worker"].add(ObserveStep)
        app.steps["consumer"].add(SourceQueueStep)
        if operations:
            app.steps["consumer"].add(ObeyStep)
        self._metrics = metrics
        self._host = host
        self._ports = ports
        self._store = store
        self._tenant_of = tenant_of
        self._tenant_of_failed = False
        self._tasks: Any = None
        self._collector: Collector | None = None
        self._keep: Callable[[str], None] | None = None
        self._has_told = False
        for signal, handler in (
            (signals.before_task_publish, self._on_publish),
            (signals.worker_init, self._on_worker_init),
            # Once the log is set up, and before there is a broker; who embeds a worker sends the
            # second alone.
            (signals.celeryd_after_setup, self._on_logging),
            (signals.worker_ready, self._on_logging),
            (signals.worker_process_init, self._on_child_init),
            (signals.worker_shutdown, self._on_worker_shutdown),
            (signals.task_retry, self._on_retry),
            (signals.task_revoked, self._on_revoked),
            (signals.task_unknown, self._on_unknown),
            (signals.task_rejected, self._on_rejected),
        ):
            signal.connect(handler, weak=False)

    @property
    def metrics_port(self) -> int | None:
        """The port of this worker's ``/metrics``; ``None`` elsewhere or while all are busy."""
        return None if self._collector is None else self._collector.port

    # The life of a worker -------------------------------------------------------------------

    def _on_worker_init(self, sender: Any, **_: object) -> None:
        if sender.app is not self._app or self._collector is not None:
            return
        self._collector = Collector(
            self._metrics,
            self._store,
            str(sender.hostname),
            self._translate,
            timings=self._timings,
        )
        self.attempts = Attempts(self._collector.note)
        self._collector.start(
            self._host, self._ports, redelivers=bool(self._app.conf.task_acks_late)
        )
        # A worker that fails before its loop begins sends no shutdown signal.
        atexit.register(self._collector.stop)
        if self._operations and obeys(self._app):
            self._obey(sender, self._collector)
        else:
            # Whether another worker has this name is seen from reports alone.
            self._collector.abandon_earlier()

    def _obey(self, worker: Any, collector: Collector) -> None:
        gate = Gate(self._app)
        gate.install(worker)
        can_retry = self._retry is not None or self._keep_arguments
        self.heartbeat = Heartbeat(
            worker,
            collector,
            gate,
            clock=self._clock,
            can_retry=can_retry,
            keeps=self._keep_arguments,
            timings=self._timings,
        )
        # A cold shutdown sends no signal of its end either.
        atexit.register(self.heartbeat.end)
        if self.heartbeat.kept is not None:
            self._keep = self.heartbeat.kept.add
        if can_retry:
            self.retrier = Retrier(self._app, self.heartbeat, self._retry)

    def _on_logging(self, **_: object) -> None:
        """Say what this worker does, once: what is said before is in no worker's log."""
        if self._collector is None or self._has_told:
            return
        self._has_told = True
        port = self.metrics_port
        if port is None:
            logger.error(
                "metrics cannot be served on %s:%s (%s): this worker is invisible to Prometheus "
                "until a port is free; give it its own port, or a range such as 9600-9609, with "
                "QUEUESCOPE_METRICS_PORT",
                *(self._host, _named(self._ports), self._collector.refusal),
            )
        elif port != self._ports[0] != 0:
            logger.warning(
                "metrics are served on port %d, as %d is taken; Prometheus must scrape it, too",
                *(port, self._ports[0]),
            )
        else:
            logger.info("metrics are served on port %d", port)
        if not obeys(self._app):
            logger.warning(
                "the broker is %s, which Queuescope cannot watch: this worker %s, but live depth, "
                "live workers and operations (pause, purge, scale, revoke, retry) need Redis or "
                "Valkey as the broker",
                kind_of_broker(str(self._app.connection_for_read().transport_cls)),
                "serves metrics"
                if self._store is None
                else "serves metrics and writes the job history",
            )

    def _on_child_init(self, **_: object) -> None:
        if self._collector is not None:
            self._collector.close_in_child()

    def _on_worker_shutdown(self, **_: object) -> None:
        if self.heartbeat is not None:
            self.heartbeat.stop()
        if self._collector is not None:
            self._collector.stop()

    # Sending --------------------------------------------------------------------------------

    def _on_publish(self, headers: dict[str, Any], **_: object) -> None:
        # A job that sends itself again hands on the headers that it came with.
        headers.pop(QUEUE_HEADER, None)
        known_due = headers.get(DUE_HEADER)
        first_due = headers.get(FIRST_DUE_HEADER, known_due)
        first_clock = headers.get(FIRST_CLOCK_HEADER, headers.get(CLOCK_HEADER))
        headers[DUE_HEADER] = max(time.time(), self._eta(headers.get("eta")))
        headers[CLOCK_HEADER] = clock_mark()
        sent_again = self._first_due_of_the_running_job(headers)
        if sent_again is not None:
            headers[FIRST_DUE_HEADER], headers[FIRST_CLOCK_HEADER] = sent_again
        elif headers.get("retries") and isinstance(first_due, int | float):
            headers[FIRST_DUE_HEADER], headers[FIRST_CLOCK_HEADER] = first_due, first_clock
        else:
            headers.pop(FIRST_DUE_HEADER, None)
            headers.pop(FIRST_CLOCK_HEADER, None)

    def _first_due_of_the_running_job(
        self, headers: Mapping[str, Any]
    ) -> tuple[float, float | None] | None:
        """When the job that runs here first became due, and by which clock, where this message
        sends it again. Its id alone tells: Celery 5.3 does not mark what replaces a job.
        """
        task = get_current_worker_task()
        if task is None or task.request.id != headers.get("id"):
            return None
        request = task.request
        for due, clock in ((FIRST_DUE_HEADER, FIRST_CLOCK_HEADER), (DUE_HEADER, CLOCK_HEADER)):
            first_due = _number(request.get(due))
            if first_due:
                return first_due, _number(request.get(clock))
        return None

    def _eta(self, eta: object) -> float:
        """When a message with a countdown may run, in epoch seconds; 0 is at once. A time without
        a zone is what Celery's worker takes it for.
        """
        if not isinstance(eta, str):
            return 0.0
        try:
            at = maybe_make_aware(maybe_iso8601(eta), self._app.conf.timezone)
            return float(at.timestamp())
        except (ValueError, TypeError, OverflowError):
            return 0.0

    # Running --------------------------------------------------------------------------------

    def _on_revoked(self, request: Any, expired: bool = False, **_: object) -> None:
        self._note(Event.EXPIRED if expired else Event.REVOKED, vars(request))

    def _on_unknown(self, sender: Any, message: Any, name: str, **_: object) -> None:
        if sender.app is self._app:
            text = f"No job type of this name is registered in worker {sender.hostname}: {name}"
            self._note(Event.FAILED, _headers(message), UNKNOWN_JOB_TYPE, text)

    def _on_rejected(self, sender: Any, message: Any, exc: object = None, **_: object) -> None:
        if sender.app is self._app:
            text = "This message is no job" if exc is None else described(exc)[1]
            self._note(Event.FAILED, _headers(message), INVALID_MESSAGE, text)

    def _on_retry(self, request: Any, einfo: object, **_: object) -> None:
        # With an error it is the job's own retry, and its result tells it. Without, a worker that
        # lost its broker has ended the job.
        if einfo is None:
            self._note(Event.RETRIED, vars(request))

    def _note(self, event: Event, message: Mapping[str, Any], *error: str) -> None:
        """What no pool tells: the end of a job as its message says it, in the main process."""
        if self._collector is not None and os.getpid() == self._collector.pid:
            self._collector.note(Told(event, message, time.time(), error))

    def _translate(
        self, note: Note | Told, running: Running
    ) -> tuple[Hashable, Observation] | None:
        """For the collector, which calls it in order and one at a time."""
        if isinstance(note, Begun):
            at = self._clock.right(note.at)
            return note.key, self._describe(Event.STARTED, note.message, at, started_at=at)
        if isinstance(note, Told):
            return self._was_told(note, running)
        begun = running.get(note.key)
        if isinstance(note, Succeeded):
            if begun is None:
                return None
            told_at = self._clock.right(note.at)
            at = succeeded_at(told_at, note.runtime_seconds, begun.started_at)
            return note.key, _end_of(begun, Event.SUCCEEDED, at)
        if begun is None and note.has_begun:
            # A time limit, or the process of a revoked job that died: it was told before.
            return None
        request = note.request
        event, at, *error = what_became(note)
        at = self._clock.right(at)
        begun = begun or self._describe(Event.STARTED, request.request_dict, at)
        if event is Event.FAILED and self._keep is not None:
            kept = self._kept(request)
            if kept:
                self._keep(kept)
        return note.key, self._end_of(begun, event, at, *error)

    def _was_told(self, note: Told, running: Running) -> tuple[Hashable, Observation]:
        job_id, at = str(note.message["id"]), self._clock.right(note.at)
        for key, begun in running.items():
            if begun.id == job_id:
                return key, self._end_of(begun, note.event, at, *note.error)
        begun = self._describe(note.event, note.message, at)
        return None, self._end_of(begun, note.event, at, *note.error)

    def _end_of(
        self,
        begun: Observation,
        event: Event,
        at: float,
        error_class: str = "",
        error_message: str = "",
    ) -> Observation:
        if self._redact is not None and error_message:
            try:
                error_message = str(self._redact(error_message))[:ERROR_MESSAGE_LIMIT]
            except Exception:  # a project's own function may raise anything
                logger.exception("redact failed, and the text of an error was left out")
                error_message = "(the text was left out: the project's redact failed)"
        return _end_of(begun, event, at, error_class, error_message)

    def _kept(self, request: Any) -> str:
        queue = self._queue_of(request.request_dict)
        if is_broadcast(request.message.channel, queue):
            # Each of its workers has a job of this id.
            return ""
        time_limit, soft_time_limit = request.time_limits
        return keep(
            KeptJob(
                id=str(request.id),
                name=str(request.task.name),
                queue=queue,
                args=list(request.args or ()),
                kwargs=dict(request.kwargs or {}),
                priority=(request.delivery_info or {}).get("priority"),
                headers=_own_headers(request.request_dict),
                time_limit=time_limit,
                soft_time_limit=soft_time_limit,
                ignore_result=request.request_dict.get("ignore_result"),
            )
        )

    def _redelivers(self, message: Mapping[str, Any]) -> bool | None:
        """Whether a job is acknowledged late, which a project sets for all and for each task."""
        if self._tasks is None:
            # Not before there is a job: to ask for them ends the making of the app.
            self._tasks = self._app.tasks
        task = self._tasks.get(message.get("task"))
        return None if task is None else bool(task.acks_late)

    def _queue_of(self, message: Mapping[str, Any]) -> str:
        return source_queue(message, self._app)

    def _describe(
        self,
        event: Event,
        message: Mapping[str, Any],
        at: float,
        *,
        started_at: float | None = None,
    ) -> Observation:
        """``message`` holds the headers of the message and what Celery adds to them."""
        due_at = self._due_at(message, DUE_HEADER, CLOCK_HEADER)
        return Observation(
            event=event,
            id=str(message["id"]),
            at=at,
            name=label(message.get("task")),
            tenant=self._tenant(message),
            queue=label(self._queue_of(message)),
            routing_key=label(routing_key(message)),
            redelivers=self._redelivers(message),
            is_redelivered=_is_redelivered(message),
            due_at=due_at,
            first_due_at=self._due_at(message, FIRST_DUE_HEADER, FIRST_CLOCK_HEADER) or due_at,
            started_at=started_at,
            attempt=_retries(message.get("retries")) + 1,
        )

    def _due_at(self, message: Mapping[str, Any], due: str, clock: str) -> float | None:
        at = _number(message.get(due))
        if at is None or at <= 0:
            return None
        return self._clock.right_of_sender(at, _number(message.get(clock)))

    def _tenant(self, message: Mapping[str, Any]) -> str:
        kwargs = message.get("kwargs") or {}
        own = message.get("headers")
        headers = {**own, **message} if isinstance(own, dict) else MappingProxyType(message)
        try:
            tenant = self._tenant_of(kwargs, headers)
        except Exception:  # a project's own function may raise anything
            if not self._tenant_of_failed:
                logger.warning("tenant_of failed; such jobs count as “default”", exc_info=True)
            self._tenant_of_failed = True
            tenant = None
        return label(tenant) if tenant is not None else "default"


def _ports(wanted: int | str | None) -> tuple[int, ...]:
    """The ports to try, in this order. Raises ``ConfigurationError``."""
    name = "metrics_port"
    if wanted is None:
        wanted = read_setting("metrics_port")
        if wanted is None:
            return METRICS_PORTS
        name = place_of("metrics_port")
    first, dash, last = str(wanted).replace(" ", "").partition("-")
    last = last if dash else first
    if not all(text.isascii() and text.isdecimal() for text in (first, last)):
        raise ConfigurationError(
            f"{name} is {wanted!r}, not a port number or a range of them such as 9600-9609"
        )
    ports = range(int(first), int(last) + 1)
    if not ports or int(last) > _LAST_PORT or (dash and not int(first)):
        raise ConfigurationError(
            f"{name} is {wanted}; a port is between 0 and 65535, and a range goes up from 1"
        )
    return tuple(ports)


def _named(ports: tuple[int, ...]) -> str:
    return str(ports[0]) if len(ports) == 1 else f"{ports[0]}-{ports[-1]}"


def _headers(message: Any) -> dict[str, Any]:
    """What a message says that is not made a request of."""
    headers = dict(message.headers or {})
    try:
        body = message.payload
    except (KombuError, ValueError, TypeError, LookupError):
        body = None
    if isinstance(body, dict):
        headers = {**body, **headers}
    elif isinstance(body, list | tuple) and len(body) > 1 and isinstance(body[1], dict):
        headers["kwargs"] = body[1]
    headers["delivery_info"] = dict(message.delivery_info or {})
    headers.setdefault("id", f"invalid-{uuid.uuid4()}")
    headers.setdefault("task", "(no job type)")
    return headers


def _own_headers(message: Mapping[str, Any]) -> dict[str, object]:
    """What a project gave a job along, such as its tenant, as Celery's own retry finds it."""
    headers = Context(message).headers
    if not isinstance(headers, dict):
        return {}
    return {name: value for name, value in headers.items() if name not in _NOT_HANDED_ON}


def _is_redelivered(message: Mapping[str, Any]) -> bool:
    """Whether the broker says that it delivered the message before."""
    delivery = message.get("delivery_info")
    return isinstance(delivery, Mapping) and delivery.get("redelivered") is True


def _number(value: object) -> float | None:
    """What a message says of time, in seconds. Whoever sends it may write anything, and one
    infinite wait would stay in the sum of all waits until the worker ends.
    """
    if isinstance(value, int | float) and -LATEST <= value <= LATEST:
        return float(value)
    return None


def _retries(value: object) -> int:
    return value if isinstance(value, int) and 0 <= value < _RETRIES_LIMIT else 0


def _end_of(
    begun: Observation, event: Event, at: float, error_class: str = "", error_message: str = ""
) -> Observation:
    started_at = begun.started_at
    # A clock may have been set back meanwhile; no job ends before it begins.
    at = at if started_at is None else max(at, started_at)
    return msgspec.structs.replace(
        begun,
        event=event,
        at=at,
        runtime_seconds=None if started_at is None else at - started_at,
        error_class=error_class,
        error_message=error_message,
    )
