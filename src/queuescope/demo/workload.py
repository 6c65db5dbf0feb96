"""The workload model of the demo: which tenants send which jobs when, and what goes wrong.

The producer draws from it every second, the backfill fourteen days at once. Incidents depend only
on the seed and the calendar day, so both have the same ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

DAY_SECONDS = 86_400
SEED = 7
WORKERS = 2
CONCURRENCY = 4
MEAN_JOBS_PER_MINUTE = 30.0
# In the order in which a worker serves them.
QUEUES = ("priority", "default")
PRIORITY_STEPS = (0, 3, 6, 9)
MAX_ATTEMPTS = 3
BACKOFF_SECONDS = (10.0, 20.0)
UPSTREAM_TIMEOUT_SECONDS = 60.0
_LIMITED_RUNTIME_SECONDS = 0.8
_REFUSED_RUNTIME_SECONDS = 0.2
_CELL_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Tenant:
    """A tenant: its share of the jobs, the share of urgent ones, and the ratios of failures."""

    name: str
    share: float
    priority_share: float
    bad_payload_ratio: float
    rate_limited_ratio: float


@dataclass(frozen=True, slots=True)
class TaskKind:
    """A job type; runtimes are log-normal around the median."""

    name: str
    share: float
    median_seconds: float


TENANTS = (
    Tenant("acme", 0.40, 0.30, 0.004, 0.010),
    Tenant("globex", 0.30, 0.15, 0.008, 0.015),
    Tenant("initech", 0.20, 0.0, 0.030, 0.010),
    Tenant("umbrella", 0.10, 0.0, 0.012, 0.040),
)
TASKS = (
    TaskKind("enhance_ticket", 0.60, 6.5),
    TaskKind("summarise_thread", 0.15, 9.0),
    TaskKind("classify_ticket", 0.25, 3.0),
)
_RUNTIME_SIGMA = 0.8
_TIMEOUT_RATIO = 0.004


class UpstreamTimeoutError(Exception):
    """The model provider did not answer in time."""


class RateLimitedError(Exception):
    """The model provider refused the request for now."""


class BadPayloadError(Exception):
    """The job itself is invalid."""


class Fault(IntEnum):
    """The fault that ends the last attempt of a job, if any."""

    NONE = 0
    TIMEOUT = 1
    RATE_LIMITED = 2
    BAD_PAYLOAD = 3


def failure(fault: Fault, tenant: str, ticket_id: int) -> Exception:
    """The error that a job with this fault raises."""
    if fault is Fault.TIMEOUT:
        return UpstreamTimeoutError(
            f"the model did not answer within {UPSTREAM_TIMEOUT_SECONDS:.0f} s (ticket {ticket_id})"
        )
    if fault is Fault.RATE_LIMITED:
        return RateLimitedError(f"429 Too Many Requests for tenant {tenant} (ticket {ticket_id})")
    return BadPayloadError(f"ticket {ticket_id}: the field 'body' is missing")


class IncidentKind(StrEnum):
    SLOW_UPSTREAM = "slow_upstream"
    RATE_LIMIT_STORM = "rate_limit_storm"
    WORKER_LOSS = "worker_loss"
    BURST = "burst"


_MINUTES = {
    IncidentKind.SLOW_UPSTREAM: (6, 16),
    IncidentKind.RATE_LIMIT_STORM: (8, 25),
    IncidentKind.WORKER_LOSS: (4, 9),
    IncidentKind.BURST: (3, 8),
}
_SEVERITY = {
    IncidentKind.SLOW_UPSTREAM: (1.3, 1.9),  # factor of the runtimes
    IncidentKind.RATE_LIMIT_STORM: (0.5, 0.8),  # share of refused attempts
    IncidentKind.WORKER_LOSS: (1.0, 1.0),  # number of lost workers
    IncidentKind.BURST: (2.5, 5.0),  # factor of one tenant's jobs
}


@dataclass(frozen=True, slots=True)
class Incident:
    """An incident from ``start`` to ``end`` (epoch seconds)."""

    kind: IncidentKind
    start: float
    end: float
    severity: float
    tenant: int

    def covers(self, at: Floats) -> NDArray[np.bool_]:
        return (at >= self.start) & (at < self.end)


@dataclass(frozen=True, slots=True)
class Plan:
    """One job as the producer sends it; the worker does what the plan says."""

    task: str
    tenant: str
    queue: str
    priority: int
    ticket_id: int
    runtime_seconds: float
    rate_limited_attempts: int
    fault: Fault

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments of the task."""
        return {
            "tenant": self.tenant,
            "ticket_id": self.ticket_id,
            "plan": {
                "runtime_seconds": round(self.runtime_seconds, 3),
                "rate_limited_attempts": self.rate_limited_attempts,
                "fault": int(self.fault),
            },
        }


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Jobs in order of arrival, as arrays of one length.

    ``tenant``, ``task`` and ``queue`` index ``TENANTS``, ``TASKS`` and ``QUEUES``;
    ``limited`` is how many attempts are refused before the last one; ``runtime_seconds`` and
    ``fault`` are those of the last attempt.
    """

    at: Floats
    tenant: Integers
    task: Integers
    queue: Integers
    priority: Integers
    ticket_id: Integers
    limited: Integers
    fault: Integers
    runtime_seconds: Floats

    def __len__(self) -> int:
        return len(self.at)

    def plans(self) -> Iterator[tuple[float, Plan]]:
        """The arrival time and the plan of each job."""
        for i in range(len(self)):
            yield (
                float(self.at[i]),
                Plan(
                    task=TASKS[self.task[i]].name,
                    tenant=TENANTS[self.tenant[i]].name,
                    queue=QUEUES[self.queue[i]],
                    priority=int(self.priority[i]),
                    ticket_id=int(self.ticket_id[i]),
                    runtime_seconds=float(self.runtime_seconds[i]),
                    rate_limited_attempts=int(self.limited[i]),
                    fault=Fault(int(self.fault[i])),
                ),
            )


def limited_runtime_seconds() -> float:
    """The runtime of an attempt that the provider refuses."""
    return _LIMITED_RUNTIME_SECONDS


class World:
    """The workload for one ``seed``."""

    def __init__(self, seed: int = SEED) -> None:
        self._seed = seed

    def incidents(self, start: float, end: float) -> list[Incident]:
        """The incidents that overlap ``start``..``end``, in order; every day has at least two."""
        days = range(int(start // DAY_SECONDS) - 1, int(end // DAY_SECONDS) + 1)
        found = [incident for day in days for incident in self._incidents_of(day)]
        return [incident for incident in found if incident.end > start and incident.start < end]

    def jobs_per_second(self, at: Floats, tenant: int) -> Floats:
        """The expected rate of one tenant without incidents."""
        hour = at % DAY_SECONDS / 3600
        day = np.cos(2 * np.pi * (hour - 14.5) / 24)
        lunch = np.cos(4 * np.pi * (hour - 10.5) / 24)
        daily = np.maximum(0.1, 1 + 0.42 * day + 0.10 * lunch)
        # 1970-01-01 was a Thursday.
        weekday = (at // DAY_SECONDS + 3) % 7
        weekly = np.where(weekday < 5, 1.10, np.where(weekday < 6, 0.80, 0.70))
        rate: Floats = MEAN_JOBS_PER_MINUTE / 60 * TENANTS[tenant].share * daily * weekly
        return rate

    def arrivals(self, start: float, end: float, rng: np.random.Generator) -> Arrivals:
        """Draw the jobs that arrive in ``start`` ≤ time < ``end``."""
        incidents = self.incidents(start, end)
        cells = np.arange(start, end, _CELL_SECONDS)
        widths = np.minimum(end - cells, _CELL_SECONDS)
        at_parts, tenant_parts = [], []
        for index in range(len(TENANTS)):
            rate = self.jobs_per_second(cells, index)
            for incident in incidents:
                if incident.kind is IncidentKind.BURST and incident.tenant == index:
                    rate = np.where(incident.covers(cells), rate * incident.severity, rate)
            counts = rng.poisson(rate * widths)
            at = np.repeat(cells, counts) + rng.random(counts.sum()) * np.repeat(widths, counts)
            at_parts.append(at)
            tenant_parts.append(np.full(len(at), index, dtype=np.int64))
        at = np.concatenate(at_parts)
        order = np.argsort(at, kind="stable")
        return self._jobs(at[order], np.concatenate(tenant_parts)[order], incidents, rng)

    def _jobs(
        self, at: Floats, tenant: Integers, incidents: list[Incident], rng: np.random.Generator
    ) -> Arrivals:
        count = len(at)
        task = rng.choice(len(TASKS), size=count, p=[t.share for t in TASKS])
        is_urgent = rng.random(count) < np.array([t.priority_share for t in TENANTS])[tenant]
        medians = np.array([t.median_seconds for t in TASKS])[task]
        runtime = medians * np.exp(_RUNTIME_SIGMA * rng.standard_normal(count))
        timeout_ratio = np.full(count, _TIMEOUT_RATIO)
        limited_ratio = np.array([t.rate_limited_ratio for t in TENANTS])[tenant]
        for incident in incidents:
            hit = incident.covers(at)
            if incident.kind is IncidentKind.SLOW_UPSTREAM:
                runtime = np.where(hit, runtime * incident.severity, runtime)
                timeout_ratio = np.where(hit, 0.04, timeout_ratio)
            elif incident.kind is IncidentKind.RATE_LIMIT_STORM:
                hit &= tenant == incident.tenant
                limited_ratio = np.where(hit, incident.severity, limited_ratio)
        refused = rng.random((MAX_ATTEMPTS, count)) < limited_ratio
        limited = np.cumprod(refused, axis=0).sum(axis=0)
        fault = np.zeros(count, dtype=np.int64)
        fault[limited == MAX_ATTEMPTS] = Fault.RATE_LIMITED
        is_bad = rng.random(count) < np.array([t.bad_payload_ratio for t in TENANTS])[tenant]
        is_late = (rng.random(count) < timeout_ratio) | (runtime > UPSTREAM_TIMEOUT_SECONDS)
        fault[(fault == Fault.NONE) & is_late] = Fault.TIMEOUT
        # An invalid job fails before the provider is called.
        fault[is_bad] = Fault.BAD_PAYLOAD
        limited[is_bad] = 0
        runtime[fault == Fault.TIMEOUT] = UPSTREAM_TIMEOUT_SECONDS
        runtime[fault == Fault.RATE_LIMITED] = _LIMITED_RUNTIME_SECONDS
        runtime[fault == Fault.BAD_PAYLOAD] = _REFUSED_RUNTIME_SECONDS
        return Arrivals(
            at=at,
            tenant=tenant,
            task=task.astype(np.int64),
            queue=np.where(is_urgent, QUEUES.index("priority"), QUEUES.index("default")),
            priority=np.where(is_urgent, 0, rng.choice((3, 6), size=count, p=(0.25, 0.75))),
            ticket_id=rng.integers(100_000, 999_999, size=count),
            limited=np.minimum(limited, MAX_ATTEMPTS - 1).astype(np.int64),
            fault=fault,
            runtime_seconds=runtime,
        )

    def _incidents_of(self, day: int) -> list[Incident]:
        rng = np.random.default_rng((self._seed, day))
        count = 2 + int(rng.poisson(1.2))
        kinds = list(IncidentKind)
        incidents = []
        for position in range(count):
            kind = kinds[int(rng.integers(len(kinds)))]
            # One in each part of the day, so that every day has some.
            begin = (day + (position + float(rng.random())) / count) * DAY_SECONDS
            minutes = float(rng.uniform(*_MINUTES[kind]))
            incidents.append(
                Incident(
                    kind=kind,
                    start=round(begin),
                    end=round(begin + minutes * 60),
                    severity=float(rng.uniform(*_SEVERITY[kind])),
                    tenant=int(rng.integers(len(TENANTS))),
                )
            )
        return incidents
