"""The catalogue, the rolling success rate and the bounds on labels."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client import generate_latest
from tests.metric_names import series_names

from queuescope.instrument.metrics import (
    BUCKETS_SECONDS,
    CATALOGUE,
    Outcome,
    RollingSuccess,
    WorkerMetrics,
)


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def test_the_success_rate_forgets_what_is_older_than_its_window() -> None:
    clock = Clock()
    rate = RollingSuccess(300, clock)
    rate.add(False, clock.now)
    clock.now += 200
    rate.add(True, clock.now)
    assert rate.percent() == 50.0
    clock.now += 150
    assert rate.percent() == 100.0
    clock.now += 200
    assert math.isnan(rate.percent())


def test_the_success_rate_does_not_depend_on_the_last_job_alone() -> None:
    clock = Clock()
    rate = RollingSuccess(300, clock)
    for succeeded in (True, True, True, False):
        rate.add(succeeded, clock.now)
    assert rate.percent() == 75.0


def test_tenants_beyond_the_limit_count_as_other() -> None:
    metrics = WorkerMetrics(tenants=["acme"], tenant_limit=3)
    for number in range(100):
        metrics.attempt_ended(
            tenant=f"tenant-{number}",
            queue="orders",
            outcome=Outcome.SUCCEEDED,
            at=Clock.now,
            runtime_seconds=1.0,
            latency_seconds=1.0,
        )
    text = generate_latest(metrics.registry).decode()
    tenants = {
        line.split('tenant="')[1].split('"')[0] for line in text.splitlines() if 'tenant="' in line
    }
    assert tenants == {"acme", "tenant-0", "tenant-1", "other"}
    assert 'outcome="succeeded",queue="orders",tenant="other"} 98.0' in text


def test_namespace_and_subsystem_name_everything() -> None:
    metrics = WorkerMetrics(namespace="shop", subsystem="orders", tenants=["a"], queues=["q"])
    text = generate_latest(metrics.registry).decode()
    names = {line.split("{")[0].split(" ")[0] for line in text.splitlines() if line[0] != "#"}
    assert names < series_names(namespace="shop", subsystem="orders")
    assert "shop_orders_success_rate" in names
    assert "shop_worker_processes" in names


def test_names_are_declared_once() -> None:
    names = [metric.name() for metric in CATALOGUE]
    assert len(names) == len(set(names)) == 23


def test_the_page_of_metrics_has_every_metric_label_and_bucket() -> None:
    """People read the page, so it must not fall behind the catalogue."""
    page = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text("utf-8")
    rows = {
        cells[1].strip(" `"): (cells[2].strip(), cells[3].strip())
        for line in page.splitlines()
        if line.startswith("| `ai_agents") and (cells := line.split("|"))
    }
    assert rows == {m.name(): (m.kind.value, ", ".join(m.labels) or "–") for m in CATALOGUE}
    assert ", ".join(f"{bound:g}" for bound in BUCKETS_SECONDS) in page


@pytest.mark.parametrize("typical_seconds", [0.4, 3.0, 45.0, 680.0, 2_500.0])
@pytest.mark.parametrize("shape", ["uniform", "exponential", "lognormal", "two kinds"])
@pytest.mark.parametrize("quantile", [0.5, 0.95])
def test_p50_and_p95_from_the_buckets_are_within_a_tenth(
    typical_seconds: float, shape: str, quantile: float
) -> None:
    random = np.random.default_rng(7)
    seconds = (
        typical_seconds
        * {
            "uniform": random.uniform(0.5, 1.5, 20_000),
            "exponential": random.exponential(0.5, 20_000) + 0.3,
            "lognormal": random.lognormal(0.0, 0.4, 20_000),
            "two kinds": np.where(
                random.random(20_000) < 0.7,
                random.normal(0.4, 0.08, 20_000).clip(0.3),
                random.normal(2.0, 0.3, 20_000).clip(0.3),
            ),
        }[shape]
    )
    assert _from_buckets(seconds, quantile) == pytest.approx(
        float(np.quantile(seconds, quantile)), rel=0.1
    )


def test_jobs_that_all_take_the_same_time_are_off_by_a_bucket_at_most() -> None:
    for seconds in np.geomspace(0.101, 8_000.0, 400):
        assert _from_buckets(np.full(100, seconds), 0.95) == pytest.approx(seconds, rel=0.25)


def _from_buckets(seconds: np.ndarray[Any, Any], quantile: float) -> float:
    """As Prometheus does it: straight within a bucket."""
    bounds = np.array([0.0, *BUCKETS_SECONDS])
    counts = np.searchsorted(np.sort(seconds), bounds, side="right")
    rank = quantile * len(seconds)
    upper = int(np.searchsorted(counts, rank))
    share = (rank - counts[upper - 1]) / (counts[upper] - counts[upper - 1])
    return float(bounds[upper - 1] + share * (bounds[upper] - bounds[upper - 1]))
