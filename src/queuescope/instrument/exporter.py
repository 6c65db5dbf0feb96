"""A process that exports what no worker can: queue depth, oldest age, and which workers are up.

    python -m queuescope.instrument.exporter --broker-url redis://127.0.0.1:6379/0 --queues default

Depth and age are read from the broker at each scrape. While the broker does not answer there are
no samples of them, and ``broker_up`` is 0. For a broker other than Redis and Valkey only
``broker_up`` and the number of workers that answer a ping are exported.
"""

from __future__ import annotations

import argparse
import json
import logging
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import celery
from kombu.exceptions import OperationalError
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from queuescope.broker.connect import broker_for
from queuescope.broker.fleet import Fleet, fleet_of
from queuescope.broker.protocol import Broker, QueueReading, WorkersReading
from queuescope.broker.reports import names_in_replies
from queuescope.broker.timings import DEFAULT_TIMINGS, WorkerTimings
from queuescope.broker.worker import WorkerStatus
from queuescope.environment import DEFAULT_BROKER_URL, names_in, place_of, read_setting
from queuescope.errors import (
    BrokerError,
    BrokerErrorKind,
    ConfigurationError,
    DamagedError,
    UnsupportedBrokerError,
)
from queuescope.instrument.metrics import (
    BROKER_UP,
    CATALOGUE,
    DEFAULT_NAMESPACE,
    QUEUE_DEPTH,
    QUEUE_OLDEST_AGE_SECONDS,
    QUEUE_RESERVED,
    QUEUE_SCHEDULED,
    RATE_LIMITED_JOBS,
    WORKER_NAMES_SHARED,
    WORKERS,
    WORKERS_UP,
    Metric,
    Origin,
)

DEFAULT_PORT = 9541
_TIMEOUT_SECONDS = 3.0
_TIMEOUTS = {"socket_timeout": _TIMEOUT_SECONDS, "socket_connect_timeout": _TIMEOUT_SECONDS}
_PING_TIMEOUT_SECONDS = 2.0

logger = logging.getLogger(__name__)


class LiveWorkers:
    """Counts live workers: those that report, and of the others those that answer a ping.

    A separate thread pings, since a ping always takes its whole timeout.
    """

    def __init__(
        self,
        broker_url: str,
        broker: Broker | None,
        clock: Callable[[], float] = time.time,
        *,
        transport_options: Mapping[str, Any] | None = None,
        timings: WorkerTimings = DEFAULT_TIMINGS,
    ) -> None:
        self._broker = broker
        self._timings = timings
        # A worker is up if it answered one of the last two pings: a busy machine may miss one.
        self._alive_seconds = 2 * (timings.ping_seconds + _PING_TIMEOUT_SECONDS) + 1
        self._app = celery.Celery("queuescope-exporter", broker=broker_url, set_as_current=False)
        self._app.conf.update(
            accept_content=["json"],
            broker_connection_timeout=_TIMEOUT_SECONDS,
            broker_transport_options={
                **(transport_options or {}),
                # Other transports do not know these options.
                **({} if broker is None else _TIMEOUTS),
            },
        )
        # Not every transport can broadcast to all workers.
        transport = self._transport()
        self._can_ping = "fanout" in transport.implements.exchange_type
        self._errors = (
            *(OperationalError, OSError),
            *transport.connection_errors,
            *transport.channel_errors,
        )
        self._clock = clock
        self.answers: bool | None = None
        """Whether the broker answered the last ping; ``None`` before the first."""
        self._seen_at: dict[str, float] = {}
        self._asked_at: float | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="queuescope-ping", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(timeout=2 * _TIMEOUT_SECONDS)
        self._app.close()

    def reports(self) -> WorkersReading | None:
        """The workers' reports; ``None`` without permission to read. Raises ``BrokerError``."""
        if self._broker is None:
            return None
        try:
            return self._broker.workers()
        except BrokerError as exc:
            if exc.kind is not BrokerErrorKind.NO_PERMISSION:
                raise
            return None

    def count(self, reading: WorkersReading | None) -> int | None:
        """How many workers are alive, given the reports; ``None`` if they could not be pinged."""
        now = self._clock()
        if self._asked_at is None or now - self._asked_at > self._alive_seconds:
            return None
        answered = {
            w for w, seen in list(self._seen_at.items()) if now - seen <= self._alive_seconds
        }
        if self._broker is None and not self._can_ping:
            return None
        if reading is None:
            return len(answered)
        # Two workers of one name answer a ping as one, but report as two.
        live = [r for r in reading.reports if reading.at - r.at <= self._timings.lost_seconds]
        # For a worker that reports, its reports are newer than its ping.
        reporting = {r.worker for r in reading.reports}
        return len(live) + len(answered - reporting)

    def ping(self) -> None:
        """Ping all workers once. Raises ``BrokerError``."""
        try:
            with self._app.connection_for_write() as connection:
                connection.ensure_connection(max_retries=1, timeout=_TIMEOUT_SECONDS)
                replies = (
                    self._app.control.ping(timeout=_PING_TIMEOUT_SECONDS, connection=connection)
                    if self._can_ping
                    else []
                )
        except self._errors as exc:
            self.answers = False
            raise BrokerError(
                BrokerErrorKind.DOWN, f"the broker did not answer ({type(exc).__name__})"
            ) from exc
        self.answers = True
        now = self._clock()
        for worker in names_in_replies(replies):
            self._seen_at[worker] = now
        self._seen_at = {w: t for w, t in self._seen_at.items() if now - t <= self._alive_seconds}
        self._asked_at = now

    def _transport(self) -> Any:
        """Raises ``ConfigurationError`` if this environment lacks the client of such a broker."""
        try:
            with self._app.connection_for_write() as connection:
                return connection.transport
        except (ImportError, KeyError) as exc:
            raise ConfigurationError(f"--broker-url: no connection can be made: {exc}") from exc

    def _run(self) -> None:
        was_down = False
        while True:
            try:
                self.ping()
            except BrokerError as exc:
                if not was_down:
                    logger.warning("workers cannot be pinged: %s", exc)
                was_down = True
            except Exception:  # any client of the broker may send any reply
                self.answers = False
                if not was_down:
                    logger.exception("workers cannot be pinged")
                was_down = True
            else:
                was_down = False
            if self._stop.wait(self._timings.ping_seconds if not was_down else _TIMEOUT_SECONDS):
                return


class ExporterCollector(Collector):
    """Reads the broker at each scrape."""

    def __init__(
        self,
        broker: Broker | None,
        queues: Sequence[str],
        workers: LiveWorkers,
        namespace: str,
    ) -> None:
        self._broker = broker
        self._queues = queues
        self._workers = workers
        self._namespace = namespace
        self._is_down = False

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Let the registry learn the names without reading the broker."""
        for metric in CATALOGUE:
            if metric.origin is Origin.EXPORTER:
                yield self._family(metric)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        if self._broker is None:
            yield from self._from_pings()
            return
        broker_up = self._family(BROKER_UP)
        try:
            reading = self._workers.reports()
            states = self._broker.queues(self._queues, with_unacknowledged=False)
            count = self._workers.count(reading)
            fleet = _fleet(self._broker, reading, states)
        except BrokerError as exc:
            if not self._is_down:
                logger.warning("%s", exc)
            self._is_down = True
            broker_up.add_metric((), 0)
            yield broker_up
            return
        if self._is_down:
            logger.info("the broker answers again")
        self._is_down = False
        broker_up.add_metric((), 1)
        yield broker_up
        depth = self._family(QUEUE_DEPTH)
        age = self._family(QUEUE_OLDEST_AGE_SECONDS)
        for state in states:
            depth.add_metric((state.queue,), state.depth)
            if state.oldest_age_seconds is not None:
                age.add_metric((state.queue,), state.oldest_age_seconds)
        yield depth
        yield age
        yield from self._workers_up(count)
        if fleet is not None:
            yield from self._from_reports(fleet)

    def _from_reports(self, fleet: Fleet) -> Iterator[GaugeMetricFamily]:
        """Metrics from the workers' reports. No label value is taken from a report."""
        by_status = self._family(WORKERS)
        counts = Counter(worker.status for worker in fleet.workers)
        for status in WorkerStatus:
            by_status.add_metric((status.name.lower(),), counts[status])
        yield by_status
        shared = self._family(WORKER_NAMES_SHARED)
        shared.add_metric((), len(fleet.shared_names()))
        yield shared
        reports = [worker.report for worker in fleet.alive]
        if not reports:
            # What happened to the jobs that a lost worker had fetched is unknown.
            return
        scheduled, reserved = self._family(QUEUE_SCHEDULED), self._family(QUEUE_RESERVED)
        for queue in self._queues:
            timed = fleet.scheduled(queue)
            scheduled.add_metric((queue,), 0 if timed is None else timed.count)
            reserved.add_metric((queue,), fleet.reserved(queue))
        yield scheduled
        yield reserved
        limited = self._family(RATE_LIMITED_JOBS)
        limited.add_metric((), sum(one.count for report in reports for one in report.rate_limited))
        yield limited

    def _from_pings(self) -> Iterator[GaugeMetricFamily]:
        """The metrics for a broker whose queues cannot be read."""
        answers = self._workers.answers
        if answers is None:
            return
        broker_up = self._family(BROKER_UP)
        broker_up.add_metric((), int(answers))
        yield broker_up
        if answers:
            yield from self._workers_up(self._workers.count(None))

    def _workers_up(self, count: int | None) -> Iterator[GaugeMetricFamily]:
        if count is not None:
            workers_up = self._family(WORKERS_UP)
            workers_up.add_metric((), count)
            yield workers_up

    def _family(self, metric: Metric) -> GaugeMetricFamily:
        return GaugeMetricFamily(metric.name(self._namespace), metric.help, labels=metric.labels)


def _fleet(
    broker: Broker, reading: WorkersReading | None, queues: Sequence[QueueReading]
) -> Fleet | None:
    """The workers that report; ``None`` if none does, or without permission to read the desired
    state. Raises ``BrokerError``.
    """
    if reading is None or not reading.reports:
        return None
    try:
        desired = broker.desired()
    except DamagedError:
        desired = broker.last_desired
    except BrokerError as exc:
        if exc.kind is not BrokerErrorKind.NO_PERMISSION:
            raise
        return None
    return fleet_of(reading, desired, queues)


def options() -> argparse.ArgumentParser:
    """The parser; its defaults are the settings. Raises ``ConfigurationError``."""
    try:
        queues = names_in(read_setting("queues") or [], "must be names of queues")
    except ValueError as exc:
        raise ConfigurationError(f"{place_of('queues')}: {exc}") from exc
    transport = read_setting("broker_transport_options") or {}
    parser = argparse.ArgumentParser(
        prog="queuescope exporter",
        description="Exports the state of a Celery broker to Prometheus.",
    )
    parser.add_argument(
        "--broker-url",
        default=read_setting("broker_url") or DEFAULT_BROKER_URL,
        help="the broker (setting: broker_url)",
    )
    parser.add_argument(
        "--queues",
        default=",".join(queues) or "celery",
        help="queue names, separated by commas (setting: queues)",
    )
    parser.add_argument("--host", default="0.0.0.0", help="address to listen on")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="port of /metrics")
    parser.add_argument("--namespace", default=DEFAULT_NAMESPACE, help="prefix of every name")
    parser.add_argument(
        "--key-prefix",
        default=read_setting("broker_key_prefix") or "",
        help="kombu's global_keyprefix, if it is set (setting: broker_key_prefix)",
    )
    parser.add_argument(
        "--transport-options",
        default=transport if isinstance(transport, str) else json.dumps(transport),
        metavar="JSON",
        help='the project\'s broker_transport_options, such as {"master_name": "queues"} '
        "(setting: broker_transport_options)",
    )
    return parser


def main(argv: Sequence[str] | None = None, *, timings: WorkerTimings = DEFAULT_TIMINGS) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit status."""
    try:
        parser = options()
    except ConfigurationError as exc:
        print(f"queuescope: {exc}", file=sys.stderr)
        return 2
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    names = [name.strip() for name in arguments.queues.split(",") if name.strip()]
    if not names:
        parser.error("--queues names no queue")
    broker: Broker | None = None
    try:
        transport = json.loads(arguments.transport_options)
        try:
            broker = broker_for(
                arguments.broker_url,
                key_prefix=arguments.key_prefix,
                transport_options=transport,
                timings=timings,
            )
        except UnsupportedBrokerError as exc:
            logger.warning(
                "%s. This exporter shows whether the broker answers and, if the broker can "
                "broadcast, how many workers are up; queue depth and age need Redis or Valkey",
                exc,
            )
        workers = LiveWorkers(
            arguments.broker_url, broker, transport_options=transport, timings=timings
        )
    except ValueError as exc:
        parser.error(f"--transport-options is not JSON: {exc}")
    except ConfigurationError as exc:
        parser.error(str(exc))
    registry = CollectorRegistry()
    registry.register(ExporterCollector(broker, names, workers, arguments.namespace))
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        server, _ = start_http_server(arguments.port, arguments.host, registry)
    except OSError as exc:
        logger.error(  # noqa: TRY400 - the cause is in the message
            "cannot listen on %s:%d: %s; choose another --port",
            *(arguments.host, arguments.port, exc.strerror or exc),
        )
        return 1
    workers.start()
    logger.info("metrics are served on port %d", server.server_port)
    stop.wait()
    server.shutdown()
    server.server_close()
    workers.stop()
    if broker is not None:
        broker.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
