"""The Prometheus samples of the simulated past: each series on the grid of its scrapes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from queuescope.broker.worker import WorkerStatus
from queuescope.demo.past import Booleans, Past, Targets, worker_is_present
from queuescope.demo.workload import (
    CONCURRENCY,
    PRIORITY_STEPS,
    QUEUES,
    TENANTS,
    WORKERS,
    Fault,
    Floats,
    Integers,
)
from queuescope.instrument import metrics
from queuescope.instrument.metrics import BUCKETS_SECONDS, Metric, Outcome, Unrunnable

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Samples:
    """One series on a grid; NaN is a sample, ``is_present`` is a mask of the existing samples."""

    metric: Metric
    name: str
    labels: tuple[tuple[str, str], ...]
    values: NDArray[Any]
    is_present: Booleans | None = None


def samples(past: Past, grid: Integers, targets: Targets) -> Iterator[Samples]:
    """Every series on ``grid``, grouped by metric."""
    yield from _exporter_samples(past, grid, targets)
    per_worker = [list(_worker_samples(past, grid, targets, worker)) for worker in range(WORKERS)]
    by_metric: dict[str, list[Samples]] = {}
    for series in (one for of_worker in per_worker for one in of_worker):
        by_metric.setdefault(series.metric.stem, []).append(series)
    for group in by_metric.values():
        yield from group


def _exporter_samples(past: Past, grid: Integers, targets: Targets) -> Iterator[Samples]:
    tail = (("job", targets.exporter_job), ("instance", targets.exporter_instance))
    jobs, attempts = past.jobs, past.attempts
    depths, ages = [], []
    # A retry waits in its worker, not in the broker.
    waits = attempts.number == 1
    job, due, start = attempts.job[waits], attempts.due[waits], attempts.start[waits]
    for queue in range(len(QUEUES)):
        depth = np.zeros(len(grid))
        oldest = np.full(len(grid), np.inf)
        for step in PRIORITY_STEPS:
            own_rows = (jobs.queue[job] == queue) & (jobs.priority[job] == step)
            if not own_rows.any():
                continue
            # A list is first in, first out, so both are in the order of arrival.
            dues, starts = np.sort(due[own_rows]), np.sort(start[own_rows])
            arrived, started = _count_until(dues, grid), _count_until(starts, grid)
            depth += arrived - started
            is_waiting = arrived > started
            oldest[is_waiting] = np.minimum(oldest[is_waiting], dues[started[is_waiting]])
        depths.append(depth)
        ages.append(np.where(np.isfinite(oldest), np.maximum(0.0, grid - oldest), 0.0))
    for metric, values in (
        (metrics.QUEUE_DEPTH, depths),
        (metrics.QUEUE_OLDEST_AGE_SECONDS, ages),
    ):
        for queue, name in enumerate(QUEUES):
            labels = (("queue", name), *tail)
            yield Samples(metric, metric.name(), labels, values[queue])
    yield from _fetched_samples(past, grid, tail)
    yield from _status_samples(past, grid, tail)
    workers = WORKERS - (~worker_is_present(past, grid)).astype(np.float64)
    yield Samples(metrics.WORKERS_UP, metrics.WORKERS_UP.name(), tail, workers)
    yield Samples(metrics.BROKER_UP, metrics.BROKER_UP.name(), tail, np.ones(len(grid)))


def _fetched_samples(past: Past, grid: Integers, tail: Labels) -> Iterator[Samples]:
    """Jobs that workers have fetched and not started: retries, first scheduled, then reserved."""
    attempts = past.attempts
    order = np.lexsort((attempts.number, attempts.job))
    again = attempts.number[order] > 1
    # When the previous attempt of the same job ended.
    retried_at = np.concatenate(([0.0], attempts.end[order][:-1]))[again]
    due, start = attempts.due[order][again], attempts.start[order][again]
    queue = past.jobs.queue[attempts.job[order][again]]
    for metric, begin, until in (
        (metrics.QUEUE_SCHEDULED, retried_at, due),
        (metrics.QUEUE_RESERVED, due, start),
    ):
        for index, name in enumerate(QUEUES):
            own_rows = queue == index
            held = _count_until(np.sort(begin[own_rows]), grid) - _count_until(
                np.sort(until[own_rows]), grid
            )
            labels = (("queue", name), *tail)
            yield Samples(metric, metric.name(), labels, held.astype(np.float64))
    limited = metrics.RATE_LIMITED_JOBS
    yield Samples(limited, limited.name(), tail, np.zeros(len(grid)))


def _status_samples(past: Past, grid: Integers, tail: Labels) -> Iterator[Samples]:
    """How many workers would have each status."""
    counts = {status: np.zeros(len(grid)) for status in WorkerStatus}
    for worker in range(WORKERS):
        own_rows = past.attempts.worker == worker
        running = _count_until(np.sort(past.attempts.start[own_rows]), grid) - _count_until(
            np.sort(past.attempts.end[own_rows]), grid
        )
        is_present = (
            worker_is_present(past, grid) if worker == WORKERS - 1 else np.ones(len(grid), np.bool_)
        )
        counts[WorkerStatus.ACTIVE] += is_present & (running > 0)
        counts[WorkerStatus.IDLE] += is_present & (running == 0)
        counts[WorkerStatus.LOST] += ~is_present
    for status, values in counts.items():
        labels = (("status", status.name.lower()), *tail)
        yield Samples(metrics.WORKERS, metrics.WORKERS.name(), labels, values)
    shared = metrics.WORKER_NAMES_SHARED
    yield Samples(shared, shared.name(), tail, np.zeros(len(grid)))


def _worker_samples(past: Past, grid: Integers, targets: Targets, worker: int) -> Iterator[Samples]:
    tail = (("job", targets.worker_job), ("instance", targets.worker_instances[worker]))
    jobs, attempts = past.jobs, past.attempts
    own_rows = attempts.worker == worker
    job, start, end = attempts.job[own_rows], attempts.start[own_rows], attempts.end[own_rows]
    due, is_last = attempts.due[own_rows], attempts.is_last[own_rows]
    tenant, queue = jobs.tenant[job], jobs.queue[job]
    is_failed = jobs.fault[job] != Fault.NONE
    # Each time the last worker returns, its counters start at 0.
    restarts = [until for _, until in past.away] if worker == WORKERS - 1 else []
    is_present = worker_is_present(past, grid) if restarts else None

    def series(metric: Metric, labels: Labels, values: NDArray[Any]) -> Samples:
        return Samples(metric, metric.name(), (*labels, *tail), values, is_present)

    def histogram(
        metric: Metric, labels: Sequence[Labels], group: Integers, at: Floats, seconds: Floats
    ) -> Iterator[Samples]:
        bounds = (*BUCKETS_SECONDS, float("inf"))
        bucket = np.searchsorted(BUCKETS_SECONDS, seconds)
        cells = group * len(bounds) + bucket
        counts = _totals(at, cells, len(labels) * len(bounds), grid, restarts)
        counts = counts.reshape(len(labels), len(bounds), len(grid)).cumsum(axis=1)
        sums = _totals(at, group, len(labels), grid, restarts, weights=seconds)
        for index, names in enumerate(labels):
            if not counts[index, -1, -1]:
                continue
            for position, bound in enumerate(bounds):
                with_bound = (*names, *tail, ("le", _bound_text(bound)))
                values = counts[index, position]
                yield Samples(metric, f"{metric.name()}_bucket", with_bound, values, is_present)
            whole = (*names, *tail)
            yield Samples(metric, f"{metric.name()}_count", whole, counts[index, -1], is_present)
            summed = np.maximum(0.0, np.round(sums[index], 3))
            yield Samples(metric, f"{metric.name()}_sum", whole, summed, is_present)

    by_queue: list[Labels] = [(("queue", name),) for name in QUEUES]
    by_pair: list[Labels] = [(("tenant", t.name), *names) for t in TENANTS for names in by_queue]
    pair = tenant * len(QUEUES) + queue

    started_at = np.full(len(grid), float(past.start))
    for restart in restarts:
        started_at[grid >= restart] = restart
    for index, customer in enumerate(TENANTS):
        final = is_last & (tenant == index)
        ok = _in_window(end[final & ~is_failed], grid, started_at)
        ended = _in_window(end[final], grid, started_at)
        rate = np.where(ended > 0, 100.0 * ok / np.maximum(ended, 1), np.nan)
        yield series(metrics.SUCCESS_RATE, (("tenant", customer.name),), rate)
    latency = (end - jobs.at[job])[is_last]
    at_end = end[is_last]
    yield from histogram(metrics.LATENCY_SECONDS, by_pair, pair[is_last], at_end, latency)
    yield from histogram(metrics.WAIT_SECONDS, by_queue, queue, start, start - due)
    yield from histogram(metrics.RUNTIME_SECONDS, by_queue, queue, end, end - start)
    outcomes = list(Outcome)
    outcome_index = np.where(
        is_last,
        np.where(is_failed, outcomes.index(Outcome.FAILED), outcomes.index(Outcome.SUCCEEDED)),
        outcomes.index(Outcome.RETRIED),
    )
    cells = pair * len(outcomes) + outcome_index
    counts = _totals(end, cells, len(by_pair) * len(outcomes), grid, restarts)
    for index, names in enumerate(by_pair):
        for position, outcome in enumerate(outcomes):
            labels = (*names, ("outcome", outcome.value))
            yield series(metrics.JOBS_TOTAL, labels, counts[index * len(outcomes) + position])
    own = _totals(end, outcome_index, len(outcomes), grid, restarts)
    for position, outcome in enumerate(outcomes):
        names = (("worker", targets.worker_names[worker]), ("outcome", outcome.value))
        yield series(metrics.WORKER_JOBS_TOTAL, names, own[position])
    busy = np.zeros(len(grid), dtype=np.int64)
    for index, names in enumerate(by_queue):
        here = queue == index
        running = _count_until(np.sort(start[here]), grid) - _count_until(np.sort(end[here]), grid)
        busy += running
        yield series(metrics.JOBS_IN_FLIGHT, names, running)
    for names in by_queue:
        yield series(metrics.REDELIVERED_TOTAL, names, np.zeros(len(grid)))
    for reason in Unrunnable:
        names = (("reason", reason.value),)
        yield series(metrics.UNRUNNABLE_MESSAGES_TOTAL, names, np.zeros(len(grid)))
    # The cost of a sleeping job: a little for each process, a little more for each busy one.
    ripple = np.sin(grid / 911.0) + np.sin(grid / 137.0)
    cpu = np.round(0.012 + 0.004 * busy + 0.001 * ripple, 4)
    memory = np.round(410e6 + 1.5e6 * busy + 2e6 * ripple)
    yield series(metrics.WORKER_CPU_RATIO, (), cpu)
    yield series(metrics.WORKER_MEMORY_BYTES, (), memory)
    yield series(metrics.WORKER_PROCESSES, (), np.full(len(grid), 1 + CONCURRENCY))
    # All workers run on one machine, so its clock is never ahead.
    yield series(metrics.WORKER_CLOCK_AHEAD_SECONDS, (), np.zeros(len(grid)))
    yield series(metrics.OBSERVATIONS_LOST_TOTAL, (), np.zeros(len(grid)))


def _totals(
    at: Floats,
    group: Integers,
    groups: int,
    grid: Integers,
    restarts: Sequence[float],
    *,
    weights: Floats | None = None,
) -> NDArray[Any]:
    """Running totals per group at each timestamp, shape ``(groups, len(grid))``, which start again
    from 0 at each restart.
    """
    cells = group * len(grid) + np.searchsorted(grid, at)
    flat = np.bincount(cells, weights, minlength=groups * len(grid))
    totals = flat.reshape(groups, len(grid)).cumsum(axis=1)
    previous = np.zeros(groups, dtype=totals.dtype)
    for restart in restarts:
        before = at < restart
        heavy = None if weights is None else weights[before]
        known = np.bincount(group[before], heavy, minlength=groups).astype(totals.dtype)
        totals[:, grid >= restart] -= (known - previous)[:, np.newaxis]
        previous = known
    return totals


def _bound_text(bound: float) -> str:
    """``le`` as prometheus_client writes it, since the live series must be the same."""
    return "+Inf" if bound == float("inf") else repr(float(bound))


def _count_until(ordered: Floats, grid: Integers) -> Integers:
    return np.searchsorted(ordered, grid, side="right")


def _in_window(times: Floats, grid: Integers, started_at: Floats) -> Integers:
    """How many ended within the rolling window and since the worker started."""
    ordered = np.sort(times)
    opened = np.maximum(grid - metrics.SUCCESS_WINDOW_SECONDS, started_at)
    return _count_until(ordered, grid) - np.searchsorted(ordered, opened, side="left")
