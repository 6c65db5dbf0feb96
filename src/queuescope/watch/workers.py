"""Details of each worker, from one state of the broker. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from queuescope.broker.reports import ActiveJob
from queuescope.broker.worker import Worker, WorkerStatus
from queuescope.jobs.store import UsualRuntime
from queuescope.watch.broker import BrokerState
from queuescope.watch.completion_rates import CompletionRate

HIGH_RATIO = 0.80
CRITICAL_RATIO = 0.95

STUCK_FACTOR = 3
STUCK_LEAST_SECONDS = 60.0
STUCK_WITHOUT_HISTORY_SECONDS = 600.0
FEWEST_JOBS = 20
"""With fewer jobs their usual runtime is unknown."""


class Level(StrEnum):
    """How much of a limit is used."""

    NORMAL = "normal"
    HIGH = "high"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True)
class Usage:
    """How much of ``limit`` is used; the limit is ``None`` if unknown."""

    used: float
    limit: float | None

    @property
    def ratio(self) -> float | None:
        return self.used / self.limit if self.limit else None

    @property
    def level(self) -> Level | None:
        """``None`` without a limit."""
        ratio = self.ratio
        if ratio is None:
            return None
        if ratio >= CRITICAL_RATIO:
            return Level.CRITICAL
        return Level.HIGH if ratio >= HIGH_RATIO else Level.NORMAL


@dataclass(frozen=True, slots=True)
class RunningJob:
    """A job that a worker runs, or ran when it was lost. After ``stuck_after_seconds`` it has run
    far longer than usual; ``usual`` is the runtime behind that, if known.
    """

    job: ActiveJob
    age_seconds: float
    stuck_after_seconds: float
    usual: UsualRuntime | None

    @property
    def is_stuck(self) -> bool:
        return self.age_seconds > self.stuck_after_seconds


class QueueState(StrEnum):
    """The state of a queue in a worker that serves it."""

    SERVED = "served"
    PAUSED = "paused"
    PAUSING = "pausing"
    """The queue should be paused, and the worker has not confirmed it yet."""


@dataclass(frozen=True, slots=True)
class WorkerDetails:
    """One worker. ``cpu`` is in cores, ``memory`` in bytes; ``None`` is not measured yet.

    ``jobs`` are the oldest of its ``job_count``. ``completion_rate`` is ``None`` while it is
    unknown.
    """

    worker: Worker
    queues: tuple[tuple[str, QueueState], ...]
    jobs: tuple[RunningJob, ...]
    job_count: int
    completion_rate: CompletionRate | None
    cpu: Usage | None
    memory: Usage | None
    dropped_in_seconds: float
    """In how many seconds the report of a lost worker is dropped."""

    @property
    def reserved_count(self) -> int:
        """Jobs that it has fetched and that could start: neither scheduled nor rate-limited."""
        report = self.worker.report
        limited = sum(one.count for one in report.rate_limited)
        return max(0, sum(report.reserved.values()) - report.scheduled - limited)

    @property
    def has_stuck_jobs(self) -> bool:
        return any(job.is_stuck for job in self.jobs)


@dataclass(frozen=True, slots=True)
class WorkerList:
    """The living and the lost workers, each in the order of their names."""

    at: float
    alive: tuple[WorkerDetails, ...]
    lost: tuple[WorkerDetails, ...]

    @property
    def counts(self) -> dict[WorkerStatus, int]:
        """How many workers have each status, with all statuses in order."""
        found = Counter(entry.worker.status for entry in (*self.alive, *self.lost))
        return {status: found[status] for status in WorkerStatus}

    @property
    def stuck_jobs(self) -> int:
        return sum(job.is_stuck for entry in self.alive for job in entry.jobs)


def list_workers(state: BrokerState, usual: Mapping[str, UsualRuntime]) -> WorkerList:
    """The workers of ``state``; ``usual`` are runtimes by job type."""
    fleet = state.fleet
    entries = [_entry(state, worker, usual) for worker in fleet.workers]
    entries.sort(key=lambda entry: natural_key(entry.worker.name))
    return WorkerList(
        fleet.at,
        tuple(entry for entry in entries if entry.worker.is_alive),
        tuple(entry for entry in entries if not entry.worker.is_alive),
    )


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """A sort key with which ``worker-2`` comes before ``worker-10``."""
    parts = re.findall(r"[0-9]+|[^0-9]+", name)
    return tuple(
        (0, int(part[:18]), part) if part[0] in "0123456789" else (1, 0, part) for part in parts
    )


def _entry(state: BrokerState, worker: Worker, usual: Mapping[str, UsualRuntime]) -> WorkerDetails:
    report, timings = worker.report, state.fleet.timings
    # The first CPU reading of a process is 0.
    measured_after = 2 * timings.usage_seconds + timings.report_seconds
    is_measured = worker.uptime_seconds >= measured_after and report.memory_bytes > 0
    limit = report.memory_limit_bytes
    return WorkerDetails(
        worker,
        tuple((queue, _queue_state(state, worker, queue)) for queue in report.queues),
        tuple(_running(worker, job, usual.get(job.name)) for job in report.active),
        report.active_count,
        state.completion_rates.get((worker.name, report.boot_id)) if worker.is_alive else None,
        Usage(report.cpu_ratio, report.cpu_limit) if is_measured else None,
        Usage(report.memory_bytes, None if limit is None else float(limit))
        if is_measured
        else None,
        max(0.0, timings.drop_seconds - worker.silent_seconds),
    )


def _queue_state(state: BrokerState, worker: Worker, queue: str) -> QueueState:
    if queue in worker.report.paused:
        return QueueState.PAUSED
    return QueueState.PAUSING if state.desired.pauses(queue) else QueueState.SERVED


def _running(worker: Worker, job: ActiveJob, usual: UsualRuntime | None) -> RunningJob:
    if usual is not None and usual.count < FEWEST_JOBS:
        usual = None
    after = STUCK_WITHOUT_HISTORY_SECONDS
    if usual is not None:
        after = max(STUCK_LEAST_SECONDS, STUCK_FACTOR * usual.p95_seconds)
    return RunningJob(job, worker.age_seconds(job), after, usual)
