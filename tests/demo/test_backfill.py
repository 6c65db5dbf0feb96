"""The demo's past: every sample equals what the job rows say, and promtool accepts it."""

from __future__ import annotations

import subprocess
from collections import Counter
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from tests.job_rows import ended_jobs
from tests.metric_names import series_names

from queuescope.demo.backfill import write_history
from queuescope.demo.blocks import BLOCK_SECONDS, load_blocks
from queuescope.demo.simulation import absences
from queuescope.demo.workload import QUEUES, TENANTS, World
from queuescope.errors import DemoError, JobStoreError
from queuescope.instrument.metrics import BUCKETS_SECONDS, CATALOGUE, Kind
from queuescope.jobs.job import Job, JobStatus
from queuescope.jobs.store import JobStore

# A day (2026-09-20, UTC) with every kind of incident.
START = 1_789_862_400
END = START + 86_400
PROBES = (START + 6 * 3600, START + 13 * 3600 + 15, START + 20 * 3600 + 45, END)

Key = tuple[str, frozenset[tuple[str, str]]]


@dataclass(frozen=True)
class Made:
    """``few`` are files with only some of the series, because promtool is slow."""

    url: str
    files: list[Path]
    few: list[Path]
    rows: list[Job]
    series: dict[Key, dict[int, float]]
    kinds: dict[str, str]

    def at(self, name: str, at: int, **labels: str) -> float:
        return self.series[name, frozenset(labels.items())][at]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("history")
    url = f"sqlite:///{folder / 'jobs.db'}"
    files = write_history(folder / "samples", url, days=1, end=END + 30, seed=3)
    store = JobStore(url)
    rows = ended_jobs(store, 1_000_000)
    store.close()
    series: dict[Key, dict[int, float]] = {}
    kinds: dict[str, str] = {}
    few = []
    for file in files:
        with np.load(file) as kept:
            found = dict(kept)
        stamps, is_there = found["stamps"], found["is_there"]
        chosen, families = [], set()
        for number, (head, values, may_be_absent) in enumerate(
            zip(found["heads"].tolist(), found["values"], found["may_be_absent"], strict=True)
        ):
            name, kind, text = head.split("\t")
            kinds[name.removesuffix("_total") if kind == "counter" else name] = kind
            wanted = is_there.copy() if may_be_absent else np.ones(len(stamps), dtype=np.bool_)
            if "_bucket{" in text:
                wanted &= np.isin(stamps, PROBES)
            elif name not in families or 'worker-2",tenant="acme"' in text:
                families.add(name)
                chosen.append(number)
            at = series.setdefault(key_of(text), {})
            at.update(zip(stamps[wanted].tolist(), values[wanted].tolist(), strict=True))
        few.append(folder / f"few-{file.name}")
        each = {name: found[name][chosen] for name in ("heads", "values", "may_be_absent")}
        np.savez(few[-1], stamps=stamps, is_there=is_there, **each)
    return Made(url, files, few, rows, series, kinds)


def key_of(text: str) -> Key:
    """A series as OpenMetrics writes it."""
    name, _, inside = text.partition("{")
    pairs = (part.split("=") for part in inside.rstrip("}").split(",") if part)
    return name, frozenset((label.strip(), value.strip('"')) for label, value in pairs)


FIRST = {"job": "worker", "instance": "worker-1"}
EXPORTER = {"job": "exporter", "instance": "exporter"}


def ended_on_first(made: Made, at: float) -> list[Job]:
    """The first worker never stops, so its counters run from the beginning."""
    return [j for j in made.rows if (j.finished_at or 0) <= at and j.worker == "worker-1@demo"]


@pytest.mark.parametrize("at", PROBES)
def test_final_outcomes_are_those_of_the_rows(made: Made, at: int) -> None:
    found = Counter((j.tenant, j.queue, j.status) for j in ended_on_first(made, at))
    tenants = [tenant.name for tenant in TENANTS]
    for key in product(tenants, QUEUES, (JobStatus.SUCCEEDED, JobStatus.FAILED)):
        tenant, queue, status = key
        name = "ai_agents_enhancement_jobs_total"
        labels = {"tenant": tenant, "queue": queue, "outcome": status.value, **FIRST}
        assert made.at(name, at, **labels) == found[key]


@pytest.mark.parametrize("at", PROBES)
def test_the_latency_histogram_is_that_of_the_rows(made: Made, at: int) -> None:
    name = "ai_agents_enhancement_latency_seconds"
    for tenant in ("acme", "umbrella"):
        ended = ended_on_first(made, at)
        found = [j for j in ended if (j.tenant, j.queue) == (tenant, "default")]
        latency = np.array([(j.finished_at or 0) - (j.enqueued_at or 0) for j in found])
        labels = {"tenant": tenant, "queue": "default", **FIRST}
        for bound in BUCKETS_SECONDS:
            counted = made.at(f"{name}_bucket", at, le=str(bound), **labels)
            assert counted == np.sum(latency <= bound)
        assert made.at(f"{name}_bucket", at, le="+Inf", **labels) == len(found)
        assert made.at(f"{name}_count", at, **labels) == len(found)
        assert made.at(f"{name}_sum", at, **labels) == pytest.approx(latency.sum(), abs=0.002)


@pytest.mark.parametrize("at", PROBES)
def test_the_success_rate_is_that_of_the_last_five_minutes_of_rows(made: Made, at: int) -> None:
    for tenant in TENANTS:
        recent = [
            j.status is JobStatus.SUCCEEDED
            for j in ended_on_first(made, at)
            if j.tenant == tenant.name and (j.finished_at or 0) >= at - 300
        ]
        value = made.at("ai_agents_enhancement_success_rate", at, tenant=tenant.name, **FIRST)
        expected = 100 * sum(recent) / len(recent) if recent else np.nan
        assert value == pytest.approx(expected, nan_ok=True)


def test_depth_is_what_the_rows_say_was_waiting(made: Made) -> None:
    """A row has the start of its last attempt, so a retried job may or may not have waited."""
    seen_backlog = 0.0
    for queue in QUEUES:
        rows = [job for job in made.rows if job.queue == queue]
        enqueued = np.array([job.enqueued_at or 0 for job in rows])
        started = np.array([job.started_at or 0 for job in rows])
        attempts = np.array([job.attempts for job in rows])
        for at in range(START, END + 1, 300):
            waiting = attempts[(enqueued <= at) & (at < started)]
            depth = made.at("ai_agents_queue_depth", at, queue=queue, **EXPORTER)
            assert np.sum(waiting == 1) <= depth <= len(waiting)
            age = made.at("ai_agents_queue_oldest_age_seconds", at, queue=queue, **EXPORTER)
            assert (age > 0) == (depth > 0)
            seen_backlog = max(seen_backlog, depth)
    assert seen_backlog > 5


def test_a_lost_worker_is_absent_and_comes_back_with_its_counters_at_zero(made: Made) -> None:
    ((begin, until),) = absences(World().incidents(START, END))
    workers = made.series["ai_agents_workers_up", frozenset(EXPORTER.items())]
    second = {"job": "worker", "instance": "worker-2"}
    name = "ai_agents_enhancement_latency_seconds_count"
    counted = made.series[name, frozenset({"tenant": "acme", "queue": "default", **second}.items())]
    missing = sorted(set(workers) - set(counted))
    assert missing
    assert begin <= missing[0]
    assert missing[-1] < until
    assert {workers[at] for at in missing} == {1.0}
    first_after = min(at for at in counted if at > missing[-1])
    assert counted[first_after] < 5 < counted[missing[0] - 15]
    later = [
        j
        for j in made.rows
        if (j.worker, j.tenant, j.queue) == ("worker-2@demo", "acme", "default")
        and (j.finished_at or 0) >= until
    ]
    assert counted[END] == len(later)


def test_counters_never_fall_on_the_worker_that_stays(made: Made) -> None:
    for (name, labels), samples in made.series.items():
        is_counter = name.endswith(("_total", "_count", "_sum"))
        if is_counter and ("instance", "worker-1") in labels:
            assert np.all(np.diff([samples[at] for at in sorted(samples)]) >= -1e-6), name


def test_names_and_kinds_are_those_of_the_catalogue(made: Made) -> None:
    assert {name for name, _ in made.series} == series_names()
    expected = {
        m.name().removesuffix("_total") if m.kind is Kind.COUNTER else m.name(): m.kind.value
        for m in CATALOGUE
    }
    assert made.kinds == expected


def test_samples_are_fifteen_seconds_apart_and_end_at_the_present_minute(made: Made) -> None:
    key = ("ai_agents_broker_up", frozenset(EXPORTER.items()))
    stamps = np.array(sorted(made.series[key]))
    assert stamps[-1] == END
    assert set(np.diff(stamps)) == {15}


def test_promtool_makes_blocks_that_hold_the_same_numbers(made: Made, tmp_path: Path) -> None:
    """For each kind of metric, and for a worker that was down for a while."""
    said: list[str] = []
    assert len(made.files) == len({START // BLOCK_SECONDS, END // BLOCK_SECONDS})
    load_blocks(tmp_path / "tsdb", made.few, "promtool", said.append)
    blocks = [path for path in (tmp_path / "tsdb").iterdir() if (path / "meta.json").exists()]
    assert len(blocks) == len(made.files)
    assert said[-1] == f"block {len(made.files)} of {len(made.files)} loaded"
    # promtool needs a write-ahead log in the database, even an empty one.
    (tmp_path / "tsdb" / "wal").mkdir()
    dump = subprocess.run(
        ["promtool", "tsdb", "dump", str(tmp_path / "tsdb")],
        capture_output=True,
        text=True,
        check=True,
    )
    kept: dict[Key, dict[int, float]] = {}
    for line in dump.stdout.splitlines():
        text, value, stamp = line.rsplit(" ", 2)
        name, _, labels = text.strip("{}").partition(",")
        key = key_of(f"{name.partition('=')[2].strip(chr(34))}{{{labels}}}")
        kept.setdefault(key, {})[int(stamp) // 1000] = float(value)
    heads = np.concatenate([np.load(file)["heads"] for file in made.few]).tolist()
    assert kept.keys() == {key_of(head.split("\t")[2]) for head in heads}
    for key, found in kept.items():
        np.testing.assert_array_equal(sorted(found.items()), sorted(made.series[key].items()))


def test_a_missing_or_failing_promtool_is_reported(made: Made, tmp_path: Path) -> None:
    with pytest.raises(DemoError, match="no-such-promtool"):
        load_blocks(tmp_path, made.few[:1], tmp_path / "no-such-promtool")
    with pytest.raises(DemoError, match="promtool refused the history"):
        load_blocks(tmp_path, made.few[:1], "false")


def test_a_history_is_not_written_over_another(made: Made, tmp_path: Path) -> None:
    with pytest.raises(JobStoreError):
        write_history(tmp_path, made.url, days=1, end=END, seed=3)
