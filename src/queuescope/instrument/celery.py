"""Instruments a Celery project with two lines: the start and end of its jobs become observations.

Call ``instrument(app)`` where the app is made, so that both the processes that send jobs and the
workers call it. A sender writes into each message when it became due. A worker serves ``/metrics``
and writes the job history if one is configured.

A retry is a new attempt: its wait begins when its countdown ends. The job's latency is the time
from when its first attempt became due until its final outcome. Nothing here can fail a job.
"""

from __future__ import annotations

import atexit
import logging
import os
import time
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import celery
from celery import signals

from queuescope.broker.clock import CorrectedClock
from queuescope.broker.connect import kind_of_broker, worker_connection_for
from queuescope.broker.protocol import WorkerConnection
from queuescope.broker.timings import DEFAULT_TIMINGS, WorkerTimings
from queuescope.environment import read_setting
from queuescope.instrument.attempts import Attempts, ObserveStep, described
from queuescope.instrument.collector import Collector
from queuescope.instrument.due_headers import mark_messages_of
from queuescope.instrument.heartbeat import DesiredStateStep, Heartbeat
from queuescope.instrument.messages import MessageReader, TenantOf, default_tenant, headers_of
from queuescope.instrument.metrics import DEFAULT_NAMESPACE, DEFAULT_SUBSYSTEM, WorkerMetrics
from queuescope.instrument.metrics_ports import port_range, ports_of
from queuescope.instrument.notes import MessageEnd, NoteInterpreter, Redact
from queuescope.instrument.observation import INVALID_MESSAGE, UNKNOWN_JOB_TYPE, Event
from queuescope.instrument.pause_enforcer import PauseEnforcer
from queuescope.instrument.remote import Retrier, RetryJob
from queuescope.instrument.source_queue import SourceQueueStep

if TYPE_CHECKING:
    from queuescope.jobs.store import JobStore

logger = logging.getLogger(__name__)


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
    """Make ``app`` report its jobs; a second call for the same app does nothing.

    ``metrics_port`` is a port or a range such as ``"9600-9609"``, of which the first free one is
    taken; it defaults to the setting of that name, then 9540 and 9542 to 9549; 0 takes any.
    ``metrics_host`` defaults to its setting, then every address. ``job_store_url`` defaults to its
    setting; without either there is no job history. Settings are read from the environment, such as
    ``QUEUESCOPE_METRICS_PORT``, or from the file that ``QUEUESCOPE_CONFIG`` names.
    ``tenant_of(kwargs, headers)`` names the tenant of a job; ``None`` means ``default``.
    Counters of these ``tenants`` and ``queues`` are 0 before the first job instead of absent.

    With ``operations`` workers report to the broker every two seconds and carry out what operators
    request: pause, revoke, scale. Failed jobs can be sent again if ``retry(job_id, name)`` sends
    them, or if ``keep_arguments`` keeps the arguments of failed jobs in the broker for seven days;
    these may be personal data. ``retry`` runs in a worker's main process and must be quick.

    Obvious secrets in the text of an error (passwords in addresses, tokens, keys) are masked before
    it is written; ``redact(text)`` returns the text without the secrets that only the project
    recognizes. If it fails, the text is left out.

    ``timings`` set how often a worker reports; exporter and dashboard need the same values.

    Raises ``ConfigurationError`` when a port or the address of the job store cannot be used.
    """
    app = getattr(app, "_get_current_object", lambda: app)()
    if getattr(app, "queuescope", None) is not None:
        return
    url = job_store_url or read_setting("job_store_url")
    clock = CorrectedClock()
    app.queuescope = Instrumentation(
        app,
        clock=clock,
        metrics=WorkerMetrics(
            namespace=namespace,
            subsystem=subsystem,
            tenants=tenants,
            queues=queues,
            clock=clock.now,
            clock_off=lambda: clock.offset_seconds,
        ),
        host=metrics_host or read_setting("metrics_host") or "0.0.0.0",
        ports=ports_of(metrics_port),
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


class Instrumentation:
    """The signal handlers of one app and, in a worker, the collector that they call."""

    def __init__(
        self,
        app: celery.Celery,
        *,
        clock: CorrectedClock,
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
        self._timings = timings
        self._keep_arguments = operations and retry is None and keep_arguments
        self.attempts: Attempts | None = None
        self.heartbeat: Heartbeat | None = None
        self.retrier: Retrier | None = None
        app.steps["worker"].add(ObserveStep)
        app.steps["consumer"].add(SourceQueueStep)
        if operations:
            app.steps["consumer"].add(DesiredStateStep)
        self._metrics = metrics
        self._host = host
        self._ports = ports
        self._store = store
        self._notes = NoteInterpreter(MessageReader(app, clock, tenant_of), clock, redact)
        self._collector: Collector | None = None
        self._has_logged = False
        mark_messages_of(app)
        for signal, handler in (
            (signals.worker_init, self._on_worker_init),
            # After logging is set up and before the broker is connected; an embedded worker sends
            # only the second signal.
            (signals.celeryd_after_setup, self._log_start),
            (signals.worker_ready, self._log_start),
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

    def _on_worker_init(self, sender: Any, **_: object) -> None:
        if sender.app is not self._app or self._collector is not None:
            return
        self._collector = Collector(
            self._metrics,
            self._store,
            str(sender.hostname),
            self._notes.interpret,
            timings=self._timings,
        )
        self.attempts = Attempts(self._collector.note)
        self._collector.start(
            self._host, self._ports, redelivers=bool(self._app.conf.task_acks_late)
        )
        # A worker that fails before its loop begins sends no shutdown signal.
        atexit.register(self._collector.stop)
        connection = worker_connection_for(self._app) if self._operations else None
        if connection is not None:
            self._start_heartbeat(sender, self._collector, connection)
        else:
            # Only reports show whether another worker has this name.
            self._collector.close_earlier_jobs()

    def _start_heartbeat(
        self, worker: Any, collector: Collector, connection: WorkerConnection
    ) -> None:
        pauses = PauseEnforcer(self._app)
        pauses.install(worker)
        can_retry = self._retry is not None or self._keep_arguments
        self.heartbeat = Heartbeat(
            worker,
            collector,
            pauses,
            connection,
            clock=self._clock,
            can_retry=can_retry,
            keeps=self._keep_arguments,
            timings=self._timings,
        )
        # A cold shutdown sends no signal either.
        atexit.register(self.heartbeat.end)
        if self.heartbeat.kept is not None:
            self._notes.keep = self.heartbeat.kept.add
        if can_retry:
            self.retrier = Retrier(self._app, self.heartbeat, self._retry)

    def _log_start(self, **_: object) -> None:
        """Log once what this worker serves; before logging is set up, the message would be lost."""
        if self._collector is None or self._has_logged:
            return
        self._has_logged = True
        port = self.metrics_port
        if port is None:
            logger.error(
                "metrics cannot be served on %s:%s (%s): this worker is invisible to Prometheus "
                "until a port is free; give it its own port, or a range such as 9600-9609, with "
                "QUEUESCOPE_METRICS_PORT",
                *(self._host, port_range(self._ports), self._collector.refusal),
            )
        elif port != self._ports[0] != 0:
            logger.warning(
                "metrics are served on port %d, as %d is taken; Prometheus must scrape it as well",
                *(port, self._ports[0]),
            )
        else:
            logger.info("metrics are served on port %d", port)
        if worker_connection_for(self._app) is None:
            logger.warning(
                "the broker is %s, which Queuescope cannot watch: this worker %s, but live depth, "
                "live workers and operations (pause, purge, scale, revoke, retry) need Redis or "
                "Valkey as the broker",
                kind_of_broker(self._app),
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

    def _on_revoked(self, request: Any, expired: bool = False, **_: object) -> None:
        self._note(Event.EXPIRED if expired else Event.REVOKED, vars(request))

    def _on_unknown(self, sender: Any, message: Any, name: str, **_: object) -> None:
        if sender.app is self._app:
            text = f"No job type of this name is registered in worker {sender.hostname}: {name}"
            self._note(Event.FAILED, headers_of(message), UNKNOWN_JOB_TYPE, text)

    def _on_rejected(self, sender: Any, message: Any, exc: object = None, **_: object) -> None:
        if sender.app is self._app:
            text = "This message is not a job" if exc is None else described(exc)[1]
            self._note(Event.FAILED, headers_of(message), INVALID_MESSAGE, text)

    def _on_retry(self, request: Any, einfo: object, **_: object) -> None:
        # With an error it is the job's own retry, and its result shows that. Without one, a worker
        # that lost its broker ended the job.
        if einfo is None:
            self._note(Event.RETRIED, vars(request))

    def _note(self, event: Event, message: Mapping[str, Any], *error: str) -> None:
        """Note the end of a job that never reached the pool, in the main process."""
        if self._collector is not None and os.getpid() == self._collector.pid:
            self._collector.note(MessageEnd(event, message, time.time(), error))
