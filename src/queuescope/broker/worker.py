"""One worker and its status, derived from its last report: active, idle, stalled, lost. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from queuescope.broker.clock import CLOCK_OFF_SECONDS, significant_offset
from queuescope.broker.desired import DesiredState
from queuescope.broker.protocol import QueueReading, WorkersReading
from queuescope.broker.reports import ActiveJob, Pool, RateLimited, WorkerReport
from queuescope.broker.timings import WorkerTimings
from queuescope.words import counted, listed


class WorkerStatus(StrEnum):
    """The status of a worker. A ``stalled`` one is alive and could start waiting jobs, but does
    not; one that is shutting down should not start any.
    """

    ACTIVE = "active"
    IDLE = "idle"
    PAUSED = "paused"
    RATE_LIMITED = "held back by a rate limit"
    SHUTTING_DOWN = "shutting down"
    STALLED = "stalled"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker and its status; ``reason`` is why it starts no jobs, as a sentence, may be empty."""

    report: WorkerReport
    status: WorkerStatus
    reason: str
    silent_seconds: float
    """How long ago it reported."""

    @property
    def name(self) -> str:
        return self.report.worker

    @property
    def is_alive(self) -> bool:
        return self.status is not WorkerStatus.LOST

    @property
    def words(self) -> str:
        """Its status in a few words."""
        if self.status is not WorkerStatus.SHUTTING_DOWN or not self.report.active_count:
            return str(self.status)
        return f"{self.status}, finishes {_jobs(self.report.active_count)}"

    @property
    def next_due_at(self) -> float | None:
        """When the first of its scheduled jobs is due, by the broker's clock; ``None`` if
        unknown.
        """
        report = self.report
        due = report.next_due_at
        return None if due is None else due - report.clock_at + report.at

    @property
    def clock_off_seconds(self) -> float:
        """How far its machine's clock is ahead of the broker's, negative if it is behind, 0 if it
        is off by less than ``CLOCK_OFF_SECONDS``.
        """
        return significant_offset(self.report.clock_ahead + self.report.clock_at - self.report.at)

    @property
    def corrects_times(self) -> bool:
        """Whether it reports the times of its jobs by the broker's clock."""
        return abs(self.report.clock_at - self.report.at) < CLOCK_OFF_SECONDS

    @property
    def cannot_end(self) -> str:
        """Why it cannot end a running job, as a sentence; empty if it can, or if that is
        unknown.
        """
        pool = self.report.pool
        if pool not in (Pool.THREADS, Pool.SOLO):
            return ""
        return (
            f"Worker {self.name} runs this job and cannot end it: its pool is {pool}, and only a "
            "pool of processes can."
        )

    @property
    def cannot_scale(self) -> str:
        """Why its pool cannot be scaled, as a sentence; empty if it can."""
        report = self.report
        if not self.is_alive:
            return "This worker does not report."
        if report.shutting_down_at is not None:
            return "This worker is shutting down."
        if report.pool is not Pool.PREFORK:
            kind = "of another kind" if report.pool is Pool.OTHER else report.pool
            return f"Only a pool of processes can be scaled; this one is {kind}."
        return "This worker scales itself (--autoscale)." if report.scales_itself else ""

    @property
    def uptime_seconds(self) -> float:
        return max(0.0, self.report.clock_at - self.report.started_at)

    def age_seconds(self, job: ActiveJob) -> float:
        """How long ``job`` has run; for a lost worker, up to its last report."""
        since = self.silent_seconds if self.is_alive else 0.0
        return max(0.0, self.report.clock_at - job.started_at + since)


def worker_of(
    report: WorkerReport,
    reading: WorkersReading,
    desired: DesiredState,
    waiting: Mapping[str, QueueReading],
) -> Worker:
    """The worker at ``reading.at``; ``waiting`` are the queues in which jobs wait."""
    silent = max(0.0, reading.at - report.at)
    reason = ""
    if silent > reading.timings.lost_seconds:
        status = WorkerStatus.LOST
        reason = f"It has not reported for {silent:.0f} s."
    elif report.shutting_down_at is not None:
        status = WorkerStatus.SHUTTING_DOWN
    elif reason := _stall(report, reading.timings, desired, waiting):
        status = WorkerStatus.STALLED
    elif report.active_count:
        status = WorkerStatus.ACTIVE
        reason = _rate_limited(report) or _connecting(report)
    elif report.queues and set(report.queues) <= set(report.paused):
        status = WorkerStatus.PAUSED
    elif reason := _rate_limited(report):
        status = WorkerStatus.RATE_LIMITED
    else:
        reason = _connecting(report)
        status = WorkerStatus.IDLE
    return Worker(report, status, reason, silent)


def _stall(
    report: WorkerReport,
    timings: WorkerTimings,
    desired: DesiredState,
    waiting: Mapping[str, QueueReading],
) -> str:
    """Why a living worker is stalled, as a sentence; empty if it is not."""
    now, stall_seconds = report.clock_at, timings.stall_seconds
    if not report.is_connected:
        # Celery waits longer before each attempt.
        since = now - report.loop_at
        is_usual = since <= timings.connect_seconds
        return "" if is_usual else f"{_connecting(report)[:-1]} for {since:.0f} s."
    busy_alone = report.pool_size <= 1 and report.active_count > 0
    if now - report.loop_at > stall_seconds and not busy_alone:
        return f"Its main loop has done nothing for {now - report.loop_at:.0f} s."
    wanted = [queue for queue in report.queues if not desired.pauses(queue)]
    is_new = now - report.started_at <= stall_seconds
    is_new |= now - max(report.revised_at, report.connected_at or 0.0) <= stall_seconds
    # A lower revision shows that it has not applied the last change yet.
    if is_new or report.revision < desired.revision:
        return ""
    unserved = [queue for queue in wanted if queue not in report.consuming]
    if unserved and not busy_alone:
        return f"It does not fetch from {listed(unserved)}, which is not paused."
    if report.active_count >= report.pool_size:
        return ""
    last = max(
        report.last_started_at or 0.0,
        report.last_ended_at or 0.0,
        report.started_at,
        report.revised_at,
        report.connected_at or 0.0,
    )
    if now - last <= stall_seconds:
        return ""
    for queue in wanted:
        found = waiting.get(queue)
        if found is None or (found.oldest_age_seconds or 0.0) <= stall_seconds:
            continue
        if _is_full(report) and report.rate_limited:
            return ""
        if _is_full(report) and report.scheduled >= report.prefetch_limit:
            held = f"{report.scheduled:,} scheduled jobs"
            return f"Jobs wait in {queue}, and it holds {held}, as many as it may fetch."
        return f"Jobs wait in {queue}, and it has started none for {now - last:.0f} s."
    return ""


def _is_full(report: WorkerReport) -> bool:
    """Whether it holds as many jobs as it may fetch; some running jobs may no longer count."""
    held = sum(report.reserved.values()) + report.active_count
    return report.prefetch_limit == 0 or held >= report.prefetch_limit


def _rate_limited(report: WorkerReport) -> str:
    """Which jobs a rate limit holds back, as a sentence; may be empty."""
    if not report.rate_limited:
        return ""
    kinds = [f"{_jobs(one.count)} of {one.name} ({_rate(one)})" for one in report.rate_limited]
    return f"A rate limit holds back {listed(kinds)}."


def _connecting(report: WorkerReport) -> str:
    return "" if report.is_connected else "It has no connection to fetch jobs, and tries again."


def _rate(limited: RateLimited) -> str:
    for unit, seconds in (("a second", 1), ("a minute", 60), ("an hour", 3600)):
        if limited.per_second * seconds >= 1 - 1e-9:
            return f"{limited.per_second * seconds:.3g} {unit}"
    return f"{limited.per_second * 86_400:.3g} a day"


def _jobs(count: int) -> str:
    return counted(count, "job")
