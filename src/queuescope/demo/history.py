"""The demo's past: the same world as live, as Prometheus samples and as rows of the job history.

Jobs are drawn and simulated once; every sample and every row is derived from them. Samples are
kept as arrays, one file per Prometheus block, and become OpenMetrics text only for promtool,
because as text two weeks would fill gigabytes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from queuescope.broker.worker import WorkerStatus
from queuescope.demo.simulation import Attempts, absences, simulate
from queuescope.demo.workload import (
    CONCURRENCY,
    PRIORITY_STEPS,
    QUEUES,
    TASKS,
    TENANTS,
    WORKERS,
    Arrivals,
    Fault,
    Floats,
    Integers,
    World,
    failure,
)
from queuescope.errors import DemoError
from queuescope.instrument import metrics
from queuescope.instrument.metrics import BUCKETS_SECONDS, Kind, Metric, Outcome, Unrunnable
from queuescope.jobs.job import Job, JobStatus
from queuescope.jobs.store import JobStore

# A block of Prometheus' own sizes (2 h · 3ⁿ), aligned to the epoch as they are.
BLOCK_SECONDS = 18 * 3600
FINE_STEP_SECONDS = 15
COARSE_STEP_SECONDS = 30
FINE_SPAN_SECONDS = 2 * 86_400

Progress = Callable[[str], None]
Booleans = NDArray[np.bool_]
Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Targets:
    """The labels that Prometheus attaches when it scrapes, and the names of the workers."""

    worker_job: str = "worker"
    worker_instances: tuple[str, ...] = ("worker-1", "worker-2")
    worker_names: tuple[str, ...] = ("worker-1@demo", "worker-2@demo")
    exporter_job: str = "exporter"
    exporter_instance: str = "exporter"


@dataclass(frozen=True, slots=True)
class Past:
    """The jobs of a span that all came to an end within it, with their attempts."""

    start: int
    end: int
    jobs: Arrivals
    attempts: Attempts
    away: list[tuple[float, float]]


def make_past(*, days: int, end: int, seed: int) -> Past:
    """Draw and simulate the jobs of ``days`` days until ``end``, floored to the minute.

    A job that has not ended by then is left out altogether: the live platform starts empty.
    """
    end = end // 60 * 60
    start = end - days * 86_400
    world = World()
    jobs = world.arrivals(start, end, np.random.default_rng(seed))
    away = absences(world.incidents(start, end))
    attempts = simulate(jobs, away)
    is_kept = np.zeros(len(jobs), dtype=np.bool_)
    is_kept[attempts.job[attempts.is_last & (attempts.end < end)]] = True
    return Past(start, end, jobs, attempts.of_jobs(is_kept), away)


def write_history(
    directory: Path,
    job_store_url: str,
    *,
    days: int,
    end: int,
    seed: int,
    progress: Progress = lambda _: None,
    targets: Targets = Targets(),
) -> list[Path]:
    """Make ``days`` days of history until ``end`` (epoch seconds, floored to the minute).

    Writes the job history to ``job_store_url``, which must not hold these jobs yet, and into
    ``directory`` one file of samples per block, newest first in the list, for
    ``import_history``. The samples are 15 s apart in the last two days, 30 s before.

    Raises ``JobStoreError``, and ``DemoError`` when the files cannot be written.
    """
    past = make_past(days=days, end=end, seed=seed)
    progress(f"{len(past.jobs):,} jobs of {days} days simulated")
    store = JobStore(job_store_url)
    with ThreadPoolExecutor(1) as aside:
        rows = aside.submit(store.load, job_rows(past, targets))
        try:
            directory.mkdir(parents=True, exist_ok=True)
            files = _write_samples(directory, past, targets)
        except OSError as exc:
            raise DemoError(
                f"cannot write the history to {directory}: {exc.strerror}; free some space"
            ) from exc
        progress(f"{rows.result():,} rows of job history written")
    store.close()
    return files[::-1]


def import_history(
    tsdb_dir: Path,
    files: Sequence[Path],
    promtool: str | Path = "promtool",
    progress: Progress = lambda _: None,
) -> None:
    """Turn the files of ``write_history`` into blocks in ``tsdb_dir``, two at a time.

    Each block appears whole or not at all, so a Prometheus may already run there. Raises
    ``DemoError`` when promtool refuses or cannot be started.
    """
    tsdb_dir.mkdir(parents=True, exist_ok=True)
    newest_first = sorted(files, reverse=True)
    with ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
        pending = [pool.submit(_import, tsdb_dir, file, str(promtool)) for file in newest_first]
        try:
            for done, future in enumerate(pending, 1):
                future.result()
                if done % 4 == 0 or done == len(pending):
                    progress(f"block {done} of {len(pending)} loaded")
        finally:
            for future in pending:
                future.cancel()


def sample_times(past: Past) -> Integers:
    """When the past was scraped, in epoch seconds."""
    fine_from = past.end - min(FINE_SPAN_SECONDS, past.end - past.start)
    return np.unique(
        np.concatenate(
            (
                np.arange(past.start, fine_from, COARSE_STEP_SECONDS),
                np.arange(fine_from, past.end + 1, FINE_STEP_SECONDS),
            )
        )
    )


def job_rows(past: Past, targets: Targets) -> Iterator[Job]:
    """The history rows, in the order in which the jobs ended."""
    jobs, attempts = past.jobs, past.attempts
    rows = np.flatnonzero(attempts.is_last)
    rows = rows[np.argsort(attempts.end[rows], kind="stable")]
    job = attempts.job[rows]
    # Plain lists: an element of an array costs ten times as much to read.
    columns = (
        *(attempts.start[rows], attempts.end[rows], attempts.due[rows]),
        *(attempts.number[rows], attempts.worker[rows], jobs.at[job], jobs.tenant[job]),
        *(jobs.queue[job], jobs.task[job], jobs.fault[job], jobs.ticket_id[job]),
    )
    tail = np.random.default_rng(len(jobs)).bytes(10 * len(rows)).hex()
    for position, (
        start,
        end,
        due,
        number,
        worker,
        at,
        tenant,
        queue,
        task,
        fault,
        ticket,
    ) in enumerate(zip(*(column.tolist() for column in columns), strict=True)):
        error = failure(Fault(fault), TENANTS[tenant].name, ticket) if fault else None
        # Ordered by time, so that they are quick to insert, and as unique as any.
        head, rest = f"{int(end * 1000):012x}", tail[20 * position : 20 * position + 20]
        yield Job(
            id=f"{head[:8]}-{head[8:]}-7{rest[:3]}-a{rest[3:6]}-{rest[6:18]}",
            name=TASKS[task].name,
            tenant=TENANTS[tenant].name,
            queue=QUEUES[queue],
            worker=targets.worker_names[worker],
            status=JobStatus.FAILED if fault else JobStatus.SUCCEEDED,
            enqueued_at=at,
            started_at=start,
            finished_at=end,
            wait_seconds=start - due,
            runtime_seconds=end - start,
            attempts=number,
            error_class=type(error).__name__ if error else "",
            error_message=str(error) if error else "",
        )


@dataclass(frozen=True, slots=True)
class Samples:
    """One series on a grid; NaN is kept, ``is_present`` says where there is a sample."""

    metric: Metric
    name: str
    labels: tuple[tuple[str, str], ...]
    values: NDArray[Any]
    is_present: Booleans | None = None


def samples(past: Past, grid: Integers, targets: Targets) -> Iterator[Samples]:
    """Every series on ``grid``, series of one metric together."""
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
    # A job that is to be retried waits in its worker, not in the broker.
    waits = attempts.number == 1
    job, due, start = attempts.job[waits], attempts.due[waits], attempts.start[waits]
    for queue in range(len(QUEUES)):
        depth = np.zeros(len(grid))
        oldest = np.full(len(grid), np.inf)
        for step in PRIORITY_STEPS:
            mine = (jobs.queue[job] == queue) & (jobs.priority[job] == step)
            if not mine.any():
                continue
            # First in, first out within a list: both are in the order of arrival.
            dues, starts = np.sort(due[mine]), np.sort(start[mine])
            arrived, begun = _count_until(dues, grid), _count_until(starts, grid)
            depth += arrived - begun
            is_waiting = arrived > begun
            oldest[is_waiting] = np.minimum(oldest[is_waiting], dues[begun[is_waiting]])
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
    workers = WORKERS - (~_is_there(past, grid)).astype(np.float64)
    yield Samples(metrics.WORKERS_UP, metrics.WORKERS_UP.name(), tail, workers)
    yield Samples(metrics.BROKER_UP, metrics.BROKER_UP.name(), tail, np.ones(len(grid)))


def _fetched_samples(past: Past, grid: Integers, tail: Labels) -> Iterator[Samples]:
    """What workers have fetched and not begun: retries, which wait for their time, then a place."""
    attempts = past.attempts
    order = np.lexsort((attempts.number, attempts.job))
    again = attempts.number[order] > 1
    # The attempt before, of the same job.
    put_off = np.concatenate(([0.0], attempts.end[order][:-1]))[again]
    due, start = attempts.due[order][again], attempts.start[order][again]
    queue = past.jobs.queue[attempts.job[order][again]]
    for metric, begin, until in (
        (metrics.QUEUE_SCHEDULED, put_off, due),
        (metrics.QUEUE_RESERVED, due, start),
    ):
        for index, name in enumerate(QUEUES):
            mine = queue == index
            held = _count_until(np.sort(begin[mine]), grid) - _count_until(
                np.sort(until[mine]), grid
            )
            labels = (("queue", name), *tail)
            yield Samples(metric, metric.name(), labels, held.astype(np.float64))
    limited = metrics.RATE_LIMITED_JOBS
    yield Samples(limited, limited.name(), tail, np.zeros(len(grid)))


def _status_samples(past: Past, grid: Integers, tail: Labels) -> Iterator[Samples]:
    """How many workers there are of each status, as they would report."""
    counts = {status: np.zeros(len(grid)) for status in WorkerStatus}
    for worker in range(WORKERS):
        mine = past.attempts.worker == worker
        running = _count_until(np.sort(past.attempts.start[mine]), grid) - _count_until(
            np.sort(past.attempts.end[mine]), grid
        )
        is_there = _is_there(past, grid) if worker == WORKERS - 1 else np.ones(len(grid), np.bool_)
        counts[WorkerStatus.ACTIVE] += is_there & (running > 0)
        counts[WorkerStatus.IDLE] += is_there & (running == 0)
        counts[WorkerStatus.LOST] += ~is_there
    for status, values in counts.items():
        labels = (("status", status.name.lower()), *tail)
        yield Samples(metrics.WORKERS, metrics.WORKERS.name(), labels, values)
    shared = metrics.WORKER_NAMES_SHARED
    yield Samples(shared, shared.name(), tail, np.zeros(len(grid)))


def _worker_samples(past: Past, grid: Integers, targets: Targets, worker: int) -> Iterator[Samples]:
    tail = (("job", targets.worker_job), ("instance", targets.worker_instances[worker]))
    jobs, attempts = past.jobs, past.attempts
    mine = attempts.worker == worker
    job, start, end = attempts.job[mine], attempts.start[mine], attempts.end[mine]
    due, is_last = attempts.due[mine], attempts.is_last[mine]
    tenant, queue = jobs.tenant[job], jobs.queue[job]
    is_failed = jobs.fault[job] != Fault.NONE
    # The last worker starts afresh, with its counters at 0, each time it comes back.
    births = [until for _, until in past.away] if worker == WORKERS - 1 else []
    is_present = _is_there(past, grid) if births else None

    def series(metric: Metric, labels: Labels, values: NDArray[Any]) -> Samples:
        return Samples(metric, metric.name(), (*labels, *tail), values, is_present)

    def histogram(
        metric: Metric, labels: Sequence[Labels], group: Integers, at: Floats, seconds: Floats
    ) -> Iterator[Samples]:
        bounds = (*BUCKETS_SECONDS, float("inf"))
        bucket = np.searchsorted(BUCKETS_SECONDS, seconds)
        cells = group * len(bounds) + bucket
        counts = _totals(at, cells, len(labels) * len(bounds), grid, births)
        counts = counts.reshape(len(labels), len(bounds), len(grid)).cumsum(axis=1)
        sums = _totals(at, group, len(labels), grid, births, weights=seconds)
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

    born = np.full(len(grid), float(past.start))
    for birth in births:
        born[grid >= birth] = birth
    for index, customer in enumerate(TENANTS):
        final = is_last & (tenant == index)
        ok = _in_window(end[final & ~is_failed], grid, born)
        ended = _in_window(end[final], grid, born)
        rate = np.where(ended > 0, 100.0 * ok / np.maximum(ended, 1), np.nan)
        yield series(metrics.SUCCESS_RATE, (("tenant", customer.name),), rate)
    latency = (end - jobs.at[job])[is_last]
    at_end = end[is_last]
    yield from histogram(metrics.LATENCY_SECONDS, by_pair, pair[is_last], at_end, latency)
    yield from histogram(metrics.WAIT_SECONDS, by_queue, queue, start, start - due)
    yield from histogram(metrics.RUNTIME_SECONDS, by_queue, queue, end, end - start)
    outcomes = list(Outcome)
    came_to = np.where(
        is_last,
        np.where(is_failed, outcomes.index(Outcome.FAILED), outcomes.index(Outcome.SUCCEEDED)),
        outcomes.index(Outcome.RETRIED),
    )
    cells = pair * len(outcomes) + came_to
    counts = _totals(end, cells, len(by_pair) * len(outcomes), grid, births)
    for index, names in enumerate(by_pair):
        for position, outcome in enumerate(outcomes):
            labels = (*names, ("outcome", outcome.value))
            yield series(metrics.JOBS_TOTAL, labels, counts[index * len(outcomes) + position])
    own = _totals(end, came_to, len(outcomes), grid, births)
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
    # What a sleeping job costs: a little for each process, a little more for each that works.
    ripple = np.sin(grid / 911.0) + np.sin(grid / 137.0)
    cpu = np.round(0.012 + 0.004 * busy + 0.001 * ripple, 4)
    memory = np.round(410e6 + 1.5e6 * busy + 2e6 * ripple)
    yield series(metrics.WORKER_CPU_RATIO, (), cpu)
    yield series(metrics.WORKER_MEMORY_BYTES, (), memory)
    yield series(metrics.WORKER_PROCESSES, (), np.full(len(grid), 1 + CONCURRENCY))
    # Of one machine there is one clock.
    yield series(metrics.WORKER_CLOCK_AHEAD_SECONDS, (), np.zeros(len(grid)))
    yield series(metrics.OBSERVATIONS_LOST_TOTAL, (), np.zeros(len(grid)))


def _totals(
    at: Floats,
    group: Integers,
    groups: int,
    grid: Integers,
    births: Sequence[float],
    *,
    weights: Floats | None = None,
) -> NDArray[Any]:
    """Running totals per group at each timestamp, shape ``(groups, len(grid))``, which start
    again from 0 at each birth.
    """
    cells = group * len(grid) + np.searchsorted(grid, at)
    flat = np.bincount(cells, weights, minlength=groups * len(grid))
    totals = flat.reshape(groups, len(grid)).cumsum(axis=1)
    forgotten = np.zeros(groups, dtype=totals.dtype)
    for birth in births:
        before = at < birth
        heavy = None if weights is None else weights[before]
        known = np.bincount(group[before], heavy, minlength=groups).astype(totals.dtype)
        totals[:, grid >= birth] -= (known - forgotten)[:, np.newaxis]
        forgotten = known
    return totals


def _bound_text(bound: float) -> str:
    """As prometheus_client writes ``le``: the live series must be the same."""
    return "+Inf" if bound == float("inf") else repr(float(bound))


def _is_there(past: Past, grid: Integers) -> Booleans:
    there = np.ones(len(grid), dtype=np.bool_)
    for begin, until in past.away:
        there &= ~((grid >= begin) & (grid < until))
    return there


def _count_until(ordered: Floats, grid: Integers) -> Integers:
    return np.searchsorted(ordered, grid, side="right")


def _in_window(times: Floats, grid: Integers, born: Floats) -> Integers:
    """How many ended within the rolling window, none before the worker was born."""
    ordered = np.sort(times)
    opened = np.maximum(grid - metrics.SUCCESS_WINDOW_SECONDS, born)
    return _count_until(ordered, grid) - np.searchsorted(ordered, opened, side="left")


def _write_samples(directory: Path, past: Past, targets: Targets) -> list[Path]:
    """One file per block, oldest first."""
    grid = sample_times(past)
    everything = list(samples(past, grid, targets))
    heads = []
    for one in everything:
        labels = ",".join(f'{name}="{value}"' for name, value in one.labels)
        heads.append(f"{one.metric.name()}\t{one.metric.kind}\t{one.name}{{{labels}}}")
    is_there = _is_there(past, grid)
    cuts = np.flatnonzero(np.diff(grid // BLOCK_SECONDS)) + 1
    files = []
    for part in np.split(np.arange(len(grid)), cuts):
        files.append(directory / f"{int(grid[part[0]]):012d}.npz")
        np.savez(
            files[-1],
            heads=np.array(heads),
            values=np.array([one.values[part[0] : part[-1] + 1] for one in everything]),
            stamps=grid[part],
            may_be_absent=np.array([one.is_present is not None for one in everything]),
            is_there=is_there[part],
        )
    return files


def write_openmetrics(file: Path, to: TextIO) -> None:
    """Write one file of ``write_history`` as OpenMetrics text."""
    with np.load(file, allow_pickle=False) as kept:
        heads, values, stamps = kept["heads"].tolist(), kept["values"], kept["stamps"]
        may_be_absent, is_there = kept["may_be_absent"].tolist(), kept["is_there"]
    stamps_all = stamps.tolist()
    stamps_there = stamps[is_there].tolist()
    family = ""
    for head, row, is_partial in zip(heads, values, may_be_absent, strict=True):
        name, kind, series = head.split("\t")
        if name != family:
            family = name
            base = name.removesuffix("_total") if kind == Kind.COUNTER.value else name
            to.write(f"# TYPE {base} {kind}\n")
        present = row[is_there] if is_partial else row
        at = stamps_there if is_partial else stamps_all
        if not at:
            continue
        if np.isnan(present).any():
            texts = ["NaN" if np.isnan(value) else value for value in present.tolist()]
        elif np.all(present == np.floor(present)):
            texts = present.astype(np.int64).tolist()
        else:
            texts = present.tolist()
        lines = [f"{value} {stamp}" for value, stamp in zip(texts, at, strict=True)]
        to.write(f"{series} " + f"\n{series} ".join(lines) + "\n")
    to.write("# EOF\n")


def _import(tsdb_dir: Path, file: Path, promtool: str) -> None:
    with tempfile.TemporaryDirectory(prefix="import-", dir=file.parent) as folder:
        text, blocks = Path(folder) / "samples.om", Path(folder) / "blocks"
        try:
            with text.open("w", encoding="ascii") as to:
                write_openmetrics(file, to)
            done = subprocess.run(
                # The flag is hidden, but without it promtool reads the whole text once per 2 h.
                [
                    *(promtool, "tsdb", "create-blocks-from"),
                    *(f"--max-block-duration={BLOCK_SECONDS // 3600}h", "--quiet"),
                    *("openmetrics", str(text), str(blocks)),
                ],
                capture_output=True,
                text=True,
                check=False,
                # One core each, and garbage collected less often: a quarter less time.
                env={**os.environ, "GOMAXPROCS": "1", "GOGC": "400"},
            )
        except OSError as exc:
            raise DemoError(
                f"cannot load the history with {promtool}: {exc.strerror}; "
                "is Prometheus' promtool installed, and is there space?"
            ) from exc
        if done.returncode != 0:
            raise DemoError(f"promtool refused the history: {done.stderr.strip()[-500:]}")
        for block in blocks.iterdir():
            if block.is_dir() and (block / "meta.json").exists():
                shutil.move(block, tsdb_dir / block.name)
