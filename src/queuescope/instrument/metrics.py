"""Every metric that Queuescope exports: its name, labels, buckets and help text.

A name is ``<namespace>_<stem>``, or ``<namespace>_<subsystem>_<stem>`` for metrics of the
jobs themselves. ``docs/metrics.md`` has the same table with explanations.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.core import Metric as MetricFamily
from prometheus_client.registry import Collector

DEFAULT_NAMESPACE = "ai_agents"
DEFAULT_SUBSYSTEM = "enhancement"

_E12 = (1.0, 1.2, 1.5, 1.8, 2.2, 2.7, 3.3, 3.9, 4.7, 5.6, 6.8, 8.2)
BUCKETS_SECONDS = tuple(
    round(step * decade, 3) for decade in (0.1, 1.0, 10.0, 100.0, 1000.0) for step in _E12
)
"""Twelve per decade, the preferred numbers E12: each is 1.18 to 1.25 times the one before.

P50 and P95 of durations that differ by a factor of three or more are within 10 %; for durations
that differ less, and for P99, the error is one bucket at most.
"""
SUCCESS_WINDOW_SECONDS = 300
TENANT_LIMIT = 50
QUEUE_LIMIT = 50
OTHER = "other"


class Outcome(StrEnum):
    """The outcome of an attempt. Retried is not final: another attempt follows.

    A job is revoked by an operator, expires if it starts too late, and is ignored if it raises
    ``Ignore``: these end a job and do not count in the success rate.
    """

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    RETRIED = "retried"
    REVOKED = "revoked"
    EXPIRED = "expired"
    IGNORED = "ignored"


class Unrunnable(StrEnum):
    """Why no worker can run a message."""

    UNKNOWN_JOB_TYPE = "unknown_job_type"
    INVALID_MESSAGE = "invalid_message"


class Kind(StrEnum):
    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"


class Origin(StrEnum):
    """Who exports a metric: each worker for itself, or the exporter for the whole queue."""

    WORKER = "worker"
    EXPORTER = "exporter"


@dataclass(frozen=True, slots=True)
class Metric:
    """One entry of the catalogue."""

    stem: str
    kind: Kind
    labels: tuple[str, ...]
    origin: Origin
    help: str
    of_jobs: bool = False

    def name(self, namespace: str = DEFAULT_NAMESPACE, subsystem: str = DEFAULT_SUBSYSTEM) -> str:
        """The full name, without the suffixes of a histogram."""
        parts = (namespace, subsystem if self.of_jobs else "", self.stem)
        return "_".join(part for part in parts if part)


def _worker(
    stem: str, kind: Kind, labels: tuple[str, ...], text: str, *, of_jobs: bool = True
) -> Metric:
    return Metric(stem, kind, labels, Origin.WORKER, text, of_jobs)


SUCCESS_RATE = _worker(
    "success_rate",
    Kind.GAUGE,
    ("tenant",),
    "Percent of the jobs that ended in the last 5 minutes that succeeded; NaN if none ended.",
)
LATENCY_SECONDS = _worker(
    "latency_seconds",
    Kind.HISTOGRAM,
    ("tenant", "queue"),
    "Time from when a job first became due until its final outcome, in seconds.",
)
WAIT_SECONDS = _worker(
    "wait_seconds",
    Kind.HISTOGRAM,
    ("queue",),
    "Time from when an attempt became due until a worker started it, in seconds.",
)
RUNTIME_SECONDS = _worker(
    "runtime_seconds",
    Kind.HISTOGRAM,
    ("queue",),
    "Time from the start of an attempt until it ended, in seconds.",
)
JOBS_TOTAL = _worker(
    "jobs_total",
    Kind.COUNTER,
    ("tenant", "queue", "outcome"),
    "Attempts by outcome; retried is not a final outcome.",
)
JOBS_IN_FLIGHT = _worker(
    "jobs_in_flight", Kind.GAUGE, ("queue",), "Jobs that this worker is running."
)
REDELIVERED_TOTAL = _worker(
    "redelivered_total",
    Kind.COUNTER,
    ("queue",),
    "Attempts that started with a message that a worker had before and did not finish.",
)
UNRUNNABLE_MESSAGES_TOTAL = _worker(
    "unrunnable_messages_total",
    Kind.COUNTER,
    ("reason",),
    "Messages that no worker can run; they also count as failed jobs.",
)
WORKER_JOBS_TOTAL = _worker(
    "worker_jobs_total",
    Kind.COUNTER,
    ("worker", "outcome"),
    "Attempts of this worker by outcome.",
    of_jobs=False,
)
WORKER_CPU_RATIO = _worker(
    "worker_cpu_ratio",
    Kind.GAUGE,
    (),
    "CPU seconds per second of this worker and its child processes; 1 is one core.",
    of_jobs=False,
)
WORKER_MEMORY_BYTES = _worker(
    "worker_memory_bytes",
    Kind.GAUGE,
    (),
    "Resident memory of this worker and its child processes; shared pages count in each.",
    of_jobs=False,
)
WORKER_PROCESSES = _worker(
    "worker_processes", Kind.GAUGE, (), "Processes of this worker, including itself.", of_jobs=False
)
WORKER_CLOCK_AHEAD_SECONDS = _worker(
    "worker_clock_ahead_seconds",
    Kind.GAUGE,
    (),
    "How far the clock of this worker's machine is ahead of the broker's; negative is behind.",
    of_jobs=False,
)
OBSERVATIONS_LOST_TOTAL = _worker(
    "observations_lost_total",
    Kind.COUNTER,
    (),
    "Events that reached neither the metrics nor the job history.",
    of_jobs=False,
)
QUEUE_DEPTH = Metric(
    "queue_depth",
    Kind.GAUGE,
    ("queue",),
    Origin.EXPORTER,
    "Jobs waiting in the broker, all priorities.",
)
QUEUE_OLDEST_AGE_SECONDS = Metric(
    "queue_oldest_age_seconds",
    Kind.GAUGE,
    ("queue",),
    Origin.EXPORTER,
    "How long the oldest waiting job has been due, in seconds; 0 if none waits.",
)
QUEUE_SCHEDULED = Metric(
    "queue_scheduled",
    Kind.GAUGE,
    ("queue",),
    Origin.EXPORTER,
    "Jobs that workers have fetched and that are not due yet: a countdown, an ETA, a retry.",
)
QUEUE_RESERVED = Metric(
    "queue_reserved",
    Kind.GAUGE,
    ("queue",),
    Origin.EXPORTER,
    "Jobs that workers have fetched and not started, without the scheduled ones.",
)
RATE_LIMITED_JOBS = Metric(
    "rate_limited_jobs",
    Kind.GAUGE,
    (),
    Origin.EXPORTER,
    "Jobs that workers have fetched and hold back because of a rate limit.",
)
WORKERS = Metric(
    "workers", Kind.GAUGE, ("status",), Origin.EXPORTER, "Workers that report, by their status."
)
WORKER_NAMES_SHARED = Metric(
    "worker_names_shared",
    Kind.GAUGE,
    (),
    Origin.EXPORTER,
    "Worker names that several living workers use at once.",
)
WORKERS_UP = Metric(
    "workers_up",
    Kind.GAUGE,
    (),
    Origin.EXPORTER,
    "Workers that answered one of the last two pings.",
)
BROKER_UP = Metric(
    "broker_up", Kind.GAUGE, (), Origin.EXPORTER, "1 if the broker answers, otherwise 0."
)

CATALOGUE: tuple[Metric, ...] = (
    *(QUEUE_DEPTH, QUEUE_OLDEST_AGE_SECONDS, QUEUE_SCHEDULED, QUEUE_RESERVED, RATE_LIMITED_JOBS),
    *(WORKERS, WORKER_NAMES_SHARED, WORKERS_UP, BROKER_UP),
    *(SUCCESS_RATE, LATENCY_SECONDS, WAIT_SECONDS, RUNTIME_SECONDS, JOBS_TOTAL, JOBS_IN_FLIGHT),
    *(REDELIVERED_TOTAL, UNRUNNABLE_MESSAGES_TOTAL),
    *(WORKER_JOBS_TOTAL, WORKER_CPU_RATIO, WORKER_MEMORY_BYTES, WORKER_PROCESSES),
    *(WORKER_CLOCK_AHEAD_SECONDS, OBSERVATIONS_LOST_TOTAL),
)


class RollingSuccess:
    """The share of successes among the outcomes of the last ``window_seconds``.

    Outcomes are kept by whole second, so memory does not grow with the rate.
    """

    def __init__(
        self,
        window_seconds: int = SUCCESS_WINDOW_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._window_seconds = window_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._seconds: deque[tuple[int, int, int]] = deque()

    def add(self, succeeded: bool, at: float) -> None:
        """Count one final outcome at ``at`` (epoch seconds)."""
        second, good = int(at), int(succeeded)
        with self._lock:
            if self._seconds and self._seconds[-1][0] >= second:
                newest, known_good, known_all = self._seconds.pop()
                self._seconds.append((newest, known_good + good, known_all + 1))
            else:
                self._seconds.append((second, good, 1))
            self._drop_old()

    def percent(self) -> float:
        """0 to 100; NaN when nothing ended within the window."""
        with self._lock:
            self._drop_old()
            total = sum(entry[2] for entry in self._seconds)
            good = sum(entry[1] for entry in self._seconds)
        return 100.0 * good / total if total else float("nan")

    def _drop_old(self) -> None:
        oldest = self._clock() - self._window_seconds
        while self._seconds and self._seconds[0][0] < oldest:
            self._seconds.popleft()


class LabelValues:
    """At most ``limit`` values of a label; later ones become ``other``."""

    def __init__(self, known: Iterable[str], limit: int) -> None:
        self._limit = limit
        self._values = set(known)

    def bounded(self, value: str) -> str:
        if value in self._values:
            return value
        if len(self._values) >= self._limit:
            return OTHER
        self._values.add(value)
        return value


class _WithoutCreated(Collector):
    """Leaves out the ``_created`` series: nothing reads them and they double the counters."""

    def __init__(self, inner: CollectorRegistry) -> None:
        self._inner = inner

    def collect(self) -> Iterator[MetricFamily]:
        for family in self._inner.collect():
            family.samples = [s for s in family.samples if not s.name.endswith("_created")]
            yield family


class _Measured(Collector):
    """A gauge that is absent while its value is unknown."""

    def __init__(self, name: str, text: str, read: Callable[[], float | None]) -> None:
        self._name = name
        self._text = text
        self._read = read

    def collect(self) -> Iterator[MetricFamily]:
        value = self._read()
        if value is not None:
            yield GaugeMetricFamily(self._name, self._text, value)


class WorkerMetrics:
    """The metrics of one worker, in ``registry``.

    Counters of known ``tenants`` and ``queues`` are 0 from the start, those of others from their
    first job. ``clock_off`` returns by how many seconds the machine's clock is ahead of the
    broker's, or ``None`` while that is unknown.
    """

    def __init__(
        self,
        *,
        namespace: str = DEFAULT_NAMESPACE,
        subsystem: str = DEFAULT_SUBSYSTEM,
        tenants: Collection[str] = (),
        queues: Collection[str] = (),
        tenant_limit: int = TENANT_LIMIT,
        clock: Callable[[], float] = time.time,
        clock_off: Callable[[], float | None] = lambda: None,
    ) -> None:
        inner = CollectorRegistry()
        self.registry = CollectorRegistry()
        self.registry.register(_WithoutCreated(inner))
        self._clock = clock
        self._tenants = LabelValues(tenants, tenant_limit)
        self._queues = LabelValues(queues, QUEUE_LIMIT)
        self._success: dict[str, RollingSuccess] = {}
        self._seen_queues: set[str] = set()
        self._pairs: set[tuple[str, str]] = set()

        def gauge(metric: Metric) -> Gauge:
            name = metric.name(namespace, subsystem)
            return Gauge(name, metric.help, metric.labels, registry=inner)

        def counter(metric: Metric) -> Counter:
            name = metric.name(namespace, subsystem)
            return Counter(name, metric.help, metric.labels, registry=inner)

        def histogram(metric: Metric) -> Histogram:
            name = metric.name(namespace, subsystem)
            return Histogram(
                name, metric.help, metric.labels, registry=inner, buckets=BUCKETS_SECONDS
            )

        self._success_rate = gauge(SUCCESS_RATE)
        self._latency = histogram(LATENCY_SECONDS)
        self._wait = histogram(WAIT_SECONDS)
        self._runtime = histogram(RUNTIME_SECONDS)
        self._jobs = counter(JOBS_TOTAL)
        self._in_flight = gauge(JOBS_IN_FLIGHT)
        self._worker_jobs = counter(WORKER_JOBS_TOTAL)
        self._worker = ""
        self._cpu = gauge(WORKER_CPU_RATIO)
        self._memory = gauge(WORKER_MEMORY_BYTES)
        self._processes = gauge(WORKER_PROCESSES)
        ahead = WORKER_CLOCK_AHEAD_SECONDS
        inner.register(_Measured(ahead.name(namespace, subsystem), ahead.help, clock_off))
        self._redelivered = counter(REDELIVERED_TOTAL)
        self._unrunnable = counter(UNRUNNABLE_MESSAGES_TOTAL)
        for reason in Unrunnable:
            self._unrunnable.labels(reason.value)
        self._lost = counter(OBSERVATIONS_LOST_TOTAL)
        # A lookup takes longer than an increment; the caches are bounded because labels are.
        self._wait_of = cache(self._wait.labels)
        self._runtime_of = cache(self._runtime.labels)
        self._latency_of = cache(self._latency.labels)
        self._jobs_of = cache(self._jobs.labels)
        self._worker_jobs_of = cache(self._worker_jobs.labels)
        for queue in queues:
            self._know_queue(queue)
        for tenant in tenants:
            self._know_tenant(tenant)
            for queue in queues:
                self._know_pair(tenant, queue)

    def set_worker(self, worker: str) -> None:
        """Set the worker's name; its counters are 0 from then on."""
        self._worker = worker
        for outcome in Outcome:
            self._worker_jobs.labels(worker, outcome.value)

    def attempt_started(
        self, *, queue: str, wait_seconds: float | None, is_redelivered: bool = False
    ) -> None:
        """Count a started attempt; ``wait_seconds`` is ``None`` if unknown."""
        queue = self._know_queue(queue)
        if is_redelivered:
            self._redelivered.labels(queue).inc()
        if wait_seconds is not None:
            self._wait_of(queue).observe(wait_seconds)

    def attempt_ended(
        self,
        *,
        tenant: str,
        queue: str,
        outcome: Outcome,
        at: float,
        runtime_seconds: float | None,
        latency_seconds: float | None,
    ) -> None:
        """Count an ended attempt, ``at`` epoch seconds. Latency counts for final outcomes only."""
        tenant, queue = self._know_tenant(tenant), self._know_queue(queue)
        self._know_pair(tenant, queue)
        self._jobs_of(tenant, queue, outcome.value).inc()
        if self._worker:
            self._worker_jobs_of(self._worker, outcome.value).inc()
        if runtime_seconds is not None:
            self._runtime_of(queue).observe(runtime_seconds)
        if outcome in (Outcome.SUCCEEDED, Outcome.FAILED):
            # Other final outcomes do not count for the success rate; see ``Outcome``.
            self._success[tenant].add(outcome is Outcome.SUCCEEDED, at)
            if latency_seconds is not None:
                self._latency_of(tenant, queue).observe(latency_seconds)

    def in_flight(self, jobs_by_queue: Mapping[str, int]) -> None:
        """Set how many jobs run now; queues that are not named run none."""
        counts = dict.fromkeys(self._seen_queues, 0)
        for queue, jobs in jobs_by_queue.items():
            known = self._know_queue(queue)
            counts[known] = counts.get(known, 0) + jobs
        for queue, jobs in counts.items():
            self._in_flight.labels(queue).set(jobs)

    def process_sample(self, *, cpu_ratio: float, memory_bytes: int, processes: int) -> None:
        self._cpu.set(cpu_ratio)
        self._memory.set(memory_bytes)
        self._processes.set(processes)

    def unrunnable(self, reason: Unrunnable) -> None:
        """Count a message that no worker can run."""
        self._unrunnable.labels(reason.value).inc()

    def observations_lost(self, count: int) -> None:
        self._lost.inc(count)

    def _know_queue(self, queue: str) -> str:
        queue = self._queues.bounded(queue)
        if queue in self._seen_queues:
            return queue
        self._seen_queues.add(queue)
        self._wait.labels(queue)
        self._runtime.labels(queue)
        self._in_flight.labels(queue)
        self._redelivered.labels(queue)
        return queue

    def _know_tenant(self, tenant: str) -> str:
        tenant = self._tenants.bounded(tenant)
        if tenant not in self._success:
            rolling = RollingSuccess(clock=self._clock)
            self._success[tenant] = rolling
            self._success_rate.labels(tenant).set_function(rolling.percent)
        return tenant

    def _know_pair(self, tenant: str, queue: str) -> None:
        if (tenant, queue) not in self._pairs:
            self._pairs.add((tenant, queue))
            for outcome in Outcome:
                self._jobs.labels(tenant, queue, outcome.value)
