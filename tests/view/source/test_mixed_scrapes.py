"""Targets of one page that are scraped at several intervals: the numbers are those of the samples.

Everything is recomputed here from the samples: of the depth, which changes with each of them, its
peak; of counters that grow evenly, their rates.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.real_prometheus import RealPrometheus
from tests.view.conftest import Clock, StartService, content, panels
from tests.view.overview.test_overview import cards, over, read_overview

from queuescope.panels import load_dashboard
from queuescope.prometheus import PrometheusClient
from queuescope.view import View
from queuescope.view.source.check import SourceCheck

pytestmark = pytest.mark.anyio

NOW = int(time.time())
# The tests may run long after this file was read.
HOURS, AHEAD_SECONDS = 5, 3 * 3600
FAST_PHASE, OTHER_PHASE, SLOW_PHASE = 3, 10, 40
Times = NDArray[np.float64]


@dataclass(frozen=True)
class Mix:
    """The intervals of workers and of the exporter, in seconds; with ``split`` each of them exports
    of everything, else workers of jobs and the exporter of the queue.
    """

    workers: int
    exporter: int
    split: bool = True


MIXES = {
    "even": Mix(15, 15),
    "a_minute": Mix(15, 60),
    "two_minutes": Mix(15, 120),
    "five_minutes": Mix(15, 300),
    "ten_minutes": Mix(30, 600),
    "slow_workers": Mix(120, 15),
    "slow_exporter": Mix(15, 300, split=False),
    "slow_jobs": Mix(300, 15, split=False),
}
MIXED_WORDS = {
    "five_minutes": "every 15 s to 5 min",
    "slow_workers": "every 15 s to 2 min",
    "slow_exporter": "every 5 min",
}
BUCKETS = {"1": (20, 0), "10": (50, 0), "60": (50, 0), "120": (50, 20), "+Inf": (50, 20)}
"""By upper bound how many jobs, of fifty and of twenty in each minute, took no longer."""
JOBS = {"succeeded": (49, 2), "failed": (1, 18)}
SUCCESS = 100 * 51 / 70
P95_MS = 60_000 + 60_000 * (0.95 * 70 - 50) / 20


def _times(interval: int, phase: int) -> Times:
    first = (NOW - HOURS * 3600) // interval * interval + phase % interval
    return np.arange(first, NOW + AHEAD_SECONDS, interval, dtype=float)


def _depths(interval: int, phase: int) -> tuple[Times, Times]:
    """Each alone is above the limit of a hundred."""
    times = _times(interval, phase)
    return times, 101.0 + (times // interval * 7919) % 40


def _targets(mix: Mix) -> tuple[tuple[str, int, int], tuple[str, int, int]]:
    return (
        ("w:1", mix.workers, FAST_PHASE),
        ("x:1", mix.exporter, SLOW_PHASE if mix.exporter > mix.workers else OTHER_PHASE),
    )


def _samples() -> dict[str, tuple[Any, Any]]:
    found: dict[str, tuple[Any, Any]] = {}
    for env, mix in MIXES.items():
        for number, (instance, interval, phase) in enumerate(_targets(mix)):
            where = f'env="{env}",instance="{instance}"'
            times, depths = _depths(interval, phase)
            since = times - times[0]
            if mix.split or number == 1:
                found[f"ai_agents_queue_depth{{{where}}}"] = (times, depths)
                found[f"ai_agents_workers_up{{{where}}}"] = (times, np.full(len(times), 3.0))
            if not mix.split and number == 1:
                continue
            for outcome, counts in JOBS.items():
                name = f'ai_agents_enhancement_jobs_total{{{where},outcome="{outcome}"}}'
                found[name] = (times, since * _of(mix, counts, number) / 60)
            for le, counts in BUCKETS.items():
                name = f'ai_agents_enhancement_latency_seconds_bucket{{{where},le="{le}"}}'
                found[name] = (times, since * _of(mix, counts, number) / 60)
    return found


def _of(mix: Mix, counts: tuple[int, int], number: int) -> int:
    return counts[number] if mix.split else sum(counts)


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealPrometheus]:
    directory = tmp_path_factory.mktemp("mixed")
    with RealPrometheus(directory, series=_samples()) as server:
        yield server


def _peaks(mix: Mix, end: float, step: float) -> tuple[float, float]:
    """The peak of the sum in (end - step, end]: of what began there and lasted half an interval of
    the fastest target, or lasts still; and of all there was.
    """
    targets = [t for n, t in enumerate(_targets(mix)) if mix.split or n == 1]
    series = [_depths(interval, phase) for _, interval, phase in targets]
    begins = np.unique(np.concatenate([times for times, _ in series]))
    ends = np.append(begins[1:], np.inf)
    last = [np.clip(np.searchsorted(times, begins, "right") - 1, 0, None) for times, _ in series]
    sums = np.sum([values[at] for at, (_, values) in zip(last, series, strict=True)], axis=0)
    lasted = np.minimum(ends, end) - np.maximum(begins, end - step)
    long_enough = (begins > end - step) & (lasted >= min(i for _, i, _ in targets) // 2)
    seen = long_enough | ((begins <= end) & (ends > end))
    return float(sums[seen].max()), float(sums[lasted > 0].max())


def _values(panel: dict[str, Any], curve: int = 0) -> list[float]:
    packed = panel["figure"]["data"][curve]["y"]
    raw = base64.b64decode(packed["bdata"])
    found: list[float] = np.frombuffer(raw, f"<{packed['dtype']}").tolist()
    return found


@pytest.mark.parametrize("env", MIXES)
async def test_the_numbers_are_those_of_the_samples_at_every_mixture(
    prometheus: RealPrometheus, make_service: StartService, clock: Clock, env: str
) -> None:
    mix = MIXES[env]
    service = make_service(prometheus.url, matchers=f'env="{env}"')
    async with over(service) as overview:
        snapshot = await service.get(View("1h"), max_age_seconds=0)
        shown = await read_overview(overview)
    assert snapshot.complete
    found, view = panels(snapshot), content(snapshot)["view"]
    times = np.arange(view["from"], view["to"] + 1, view["step"])
    drawn = {
        name: [_values(found[name], n) for n in range(1 + 2 * (name == "latency"))]
        for name in found
    }
    depths = drawn["queue_depth"][0]
    assert len(depths) == len(times)
    for at, depth in zip(times, depths, strict=True):
        seen, most = _peaks(mix, at, view["step"])
        assert seen <= depth <= most, (at, depth)
    np.testing.assert_allclose(drawn["success_rate"][0], SUCCESS, rtol=1e-5)
    np.testing.assert_allclose(drawn["latency"][1], P95_MS, rtol=1e-5)
    assert found["success_rate"]["now"]["words"] == "72.9 %"
    words = "every 15 s" if env == "even" else MIXED_WORDS.get(env, "")
    mixed = [name for name in found if "scraped every" in found[name]["note"]]
    assert mixed == (list(found) if mix.split and mix.workers != mix.exporter else [])
    assert words in found["queue_depth"]["details"]["scrapes"]
    figures = cards(shown)
    assert figures["active_workers"]["words"] == ("6" if mix.split else "3")
    assert figures["throughput"]["words"] == "70"
    # The window that was really read, in the words of cards and of the ends of the curves.
    jobs = [mix.workers, mix.exporter] if mix.split else [mix.workers]
    window = max(300, 4 * max(jobs))
    for name in ("success_rate", "p95_latency", "throughput"):
        assert figures[name]["note"] == ("" if window == 300 else f"over {window // 60} min")
        assert any("so rarely" in line[0] for line in figures[name]["details"]) is (window > 300)
    for name, card in (("success_rate", "success_rate"), ("latency", "p95_latency")):
        ends = [*found[name]["figure"]["data"], *figures[card]["ends"].values()]
        told_over = {end.get("liveOver", end.get("over")) for end in ends}
        assert told_over == {f"{window // 60} min"}
    assert "liveOver" not in found["queue_depth"]["figure"]["data"][0]
    assert figures["active_workers"]["note"] == ""
    words = found["latency"]["figure"]["point"]
    step, rarely = view["step"], max(jobs)
    if 4 * rarely <= step + rarely:
        assert words == f"of the jobs finished within {step // 60} min"
    else:
        said = f"of the jobs finished within {4 * rarely // 60} min, every {step // 60} min"
        assert words == said
    verdict = shown["verdict"]
    assert verdict["state"] == "degraded"
    assert {"queue_depth", "success_rate", "p95_latency"} <= {
        finding["rule"] for finding in verdict["findings"]
    }


async def test_the_source_check_reports_mixed_scrape_intervals(prometheus: RealPrometheus) -> None:
    async with PrometheusClient(prometheus.url) as client:
        check = SourceCheck(client, load_dashboard("ai-agents"), 'env="five_minutes"')
        read_overview = [line async for line in check.lines()]
        even = SourceCheck(client, load_dashboard("ai-agents"), 'env="even"')
        assert not any("scraped" in line for line in [line async for line in even.lines()])
    assert [line.partition(",")[0] for line in read_overview if "scraped" in line] == [
        f"{title} is scraped every 15 s to 5 min"
        for title in ("Queue depth", "Success rate", "Latency")
    ]
