"""What is learnt about a source, and that a damaged file of it is ignored."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import ArrayLike
from tests.real_prometheus import RealPrometheus
from tests.view.conftest import CountingProxy

from queuescope.prometheus import PrometheusClient
from queuescope.view.source.facts import FactsFile, SourceFacts, fetch_facts
from queuescope.view.source.scrapes import Scrape

pytestmark = pytest.mark.anyio

NOW = int(time.time())
INTERVALS = (1, 5, 10, 15, 20, 30, 60, 120, 300, 600)
MIXED = {
    "mixed_60": (15, 60),
    "mixed_120": (15, 120),
    "mixed_300": (15, 300),
    "mixed_600": (30, 600),
    "mixed_by_queue": (15, 120),
    "mixed_young": (15, 60),
    "mixed_ended": (15, 30),
    "mixed_bucket": (15, 120),
}
"""The shortest and the longest interval of each metric whose targets differ."""
FACTS = SourceFacts("2.42.0", left_open=False, scrape_interval_seconds=30, measured=True)
IDENTITY = "http://prometheus:9090"


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealPrometheus]:
    series: dict[str, tuple[ArrayLike, ArrayLike]] = {}
    for interval in INTERVALS:
        times = np.arange(NOW - 3600 + 3, NOW + 1, interval) + 0.4
        series[f"scraped_{interval}"] = (times, np.ones(len(times)))
    gap = np.array([*range(NOW - 900, NOW - 600, 15), *range(NOW - 60, NOW, 15)]) + 0.5
    series["interrupted"] = (gap, np.ones(len(gap)))
    lost = np.array([at for at in range(NOW - 900, NOW, 20) if at != NOW - 40]) + 0.5
    series["lost"] = (lost, np.ones(len(lost)))
    young = np.arange(NOW - 45, NOW, 15) + 0.5
    series["young"] = (young, np.ones(len(young)))
    series["once"] = (young[-1:], np.ones(1))

    def add(name: str, interval: float, since: int = 7200, until: int = 0) -> None:
        times = np.arange(NOW - since + interval % 7, NOW - until, interval) + 0.3
        series[name] = (times, np.ones(len(times)))

    for slow in (60, 120, 300, 600):
        add(f'mixed_{slow}{{job="workers",instance="a:1"}}', 30 if slow == 600 else 15)
        add(f'mixed_{slow}{{job="workers",instance="b:1"}}', 30 if slow == 600 else 15)
        add(f'mixed_{slow}{{job="exporter",instance="c:1"}}', slow)
    add('mixed_by_queue{queue="a"}', 15)
    add('mixed_by_queue{queue="b"}', 120)
    add('mixed_young{instance="a:1"}', 15)
    add('mixed_young{instance="b:1"}', 60, since=150)
    add('mixed_young{instance="c:1"}', 15, since=50)
    add('mixed_ended{instance="a:1"}', 15)
    add('mixed_ended{instance="b:1"}', 30)
    add('mixed_ended{instance="c:1"}', 15, since=1200, until=1150)
    for le in ("1", "+Inf"):
        add(f'mixed_bucket{{instance="a:1",le="{le}"}}', 15)
        add(f'mixed_bucket{{instance="b:1",le="{le}"}}', 120)
    old = np.arange(NOW - 2 * 86_400, NOW - 86_400, 30)
    series['paused{env="prod"}'] = (old, np.ones(len(old)))
    with RealPrometheus(tmp_path_factory.mktemp("prometheus"), series=series) as server:
        yield server


async def _ask(prometheus: RealPrometheus, *metrics: str, matchers: str = "") -> SourceFacts:
    async with PrometheusClient(prometheus.url) as client:
        return await fetch_facts(client, metrics, matchers, NOW)


@pytest.mark.parametrize("interval", INTERVALS)
async def test_the_scrape_interval_is_measured(prometheus: RealPrometheus, interval: int) -> None:
    facts = await _ask(prometheus, f"scraped_{interval}")
    assert (facts.scrape_interval_seconds, facts.measured) == (interval, True)


async def test_each_metric_is_measured_and_the_fastest_is_used_for_the_unmeasured(
    prometheus: RealPrometheus,
) -> None:
    facts = await _ask(prometheus, "no_such_metric", "scraped_60", "scraped_15", "paused")
    intervals = {name: (s.fastest_seconds, s.slowest_seconds) for name, s in facts.scrapes.items()}
    assert intervals == {"scraped_60": (60, 60), "scraped_15": (15, 15), "paused": (30, 30)}
    assert facts.scrape_interval_seconds == 15
    scrapes = facts.as_scrapes()
    assert scrapes.of(["scraped_15", "scraped_60"]) == Scrape(15, 60)
    assert scrapes.of(["no_such_metric"]) == Scrape(15, 60)
    assert scrapes.of(["scraped_60", "no_such_metric"]) == facts.scrapes["scraped_60"]


@pytest.mark.parametrize(("metric", "expected"), MIXED.items())
async def test_targets_of_one_metric_may_be_scraped_at_several_intervals(
    prometheus: RealPrometheus, metric: str, expected: tuple[int, int]
) -> None:
    facts = await _ask(prometheus, metric)
    assert facts.scrapes[metric] == Scrape(*expected)
    async with CountingProxy(prometheus.port) as proxy, PrometheusClient(proxy.url) as client:
        assert await fetch_facts(client, (metric,), "", NOW, facts) == facts
        if metric not in ("mixed_young", "mixed_ended"):
            assert proxy.asked == {"query": 1, "status/buildinfo": 1}


async def test_a_configured_interval_is_that_of_all_targets(prometheus: RealPrometheus) -> None:
    facts = await _ask(prometheus, "scraped_60", "scraped_15", "mixed_120")
    scrapes = facts.as_scrapes(60)
    assert scrapes.of(["mixed_120"]) == scrapes.of(["scraped_15"]) == Scrape(60, 60)
    assert scrapes.of(["scraped_60"]) == facts.scrapes["scraped_60"]


async def test_the_version_and_the_ends_of_its_ranges_are_learnt(
    prometheus: RealPrometheus,
) -> None:
    facts = await _ask(prometheus, "scraped_15")
    assert facts.version.startswith("2.")
    assert facts.left_open is False


async def test_the_first_metric_that_is_sampled_decides(prometheus: RealPrometheus) -> None:
    assert (await _ask(prometheus, "absent", "scraped_60")).scrape_interval_seconds == 60


async def test_a_metric_without_present_samples_is_measured_in_its_past(
    prometheus: RealPrometheus,
) -> None:
    facts = await _ask(prometheus, "paused", matchers='env="prod"')
    assert (facts.scrape_interval_seconds, facts.measured) == (30, True)


@pytest.mark.parametrize(("metric", "interval"), [("interrupted", 15), ("lost", 20), ("young", 15)])
async def test_a_gap_a_lost_scrape_and_a_young_series_do_not_mislead(
    prometheus: RealPrometheus, metric: str, interval: int
) -> None:
    facts = await _ask(prometheus, metric)
    assert (facts.scrape_interval_seconds, facts.measured) == (interval, True)


async def test_facts_that_still_hold_are_not_measured_again(prometheus: RealPrometheus) -> None:
    async with CountingProxy(prometheus.port) as proxy, PrometheusClient(proxy.url) as client:
        for metrics in (("scraped_15",), ("scraped_60", "no_such_metric")):
            measured = await fetch_facts(client, metrics, "", NOW)
            proxy.asked.clear()
            assert await fetch_facts(client, metrics, "", NOW, measured) is measured
            assert proxy.asked == {"query": 1, "status/buildinfo": 1}


@pytest.mark.parametrize(
    "wrong",
    [
        {"version": "2.41.0"},
        {"scrapes": {"scraped_15": Scrape(30, 30)}},
        {"scrapes": {"scraped_15": Scrape(10, 10)}},
        {"scrapes": {}},
        {"scrapes": {"scraped_15": Scrape(15, 30)}},
        {"scrapes": {"scraped_15": Scrape(15, 15)}},
        {"scrapes": {"scraped_15": Scrape(5, 15)}},
        {"measured": False},
    ],
)
async def test_outdated_facts_are_measured_again(
    prometheus: RealPrometheus, wrong: dict[str, Any]
) -> None:
    right = await _ask(prometheus, "scraped_15")
    assert right.scrapes["scraped_15"].phase_seconds is not None
    async with PrometheusClient(prometheus.url) as client:
        found = await fetch_facts(client, ("scraped_15",), "", NOW, replace(right, **wrong))
    assert found == right


async def test_another_scrape_phase_is_measured_again(prometheus: RealPrometheus) -> None:
    right = await _ask(prometheus, "scraped_15")
    phase = right.scrapes["scraped_15"].phase_seconds
    assert phase is not None
    moved = {"scraped_15": Scrape(15, 15, (phase + 7) % 15)}
    async with PrometheusClient(prometheus.url) as client:
        found = await fetch_facts(client, ("scraped_15",), "", NOW, replace(right, scrapes=moved))
    assert found == right


async def test_a_single_sample_measures_nothing(prometheus: RealPrometheus) -> None:
    assert (await _ask(prometheus, "once")).measured is False


async def test_without_samples_there_is_a_default_that_says_so(prometheus: RealPrometheus) -> None:
    facts = await _ask(prometheus, "paused", matchers='env="dev"')
    assert (facts.scrape_interval_seconds, facts.measured) == (15, False)
    assert facts.version.startswith("2.")


def test_facts_are_kept_for_each_source(tmp_path: Path) -> None:
    FactsFile(tmp_path / "new").save(IDENTITY, FACTS)
    assert FactsFile(tmp_path / "new").load(IDENTITY) == FACTS
    assert FactsFile(tmp_path / "new").load("http://other:9090") is None
    (file,) = (tmp_path / "new").iterdir()
    assert "prometheus" not in file.name


def test_facts_that_could_not_be_kept_are_kept_with_the_next_call(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = tmp_path / "cache"
    directory.write_text("a file in its place")
    facts = FactsFile(directory)
    for _ in range(2):
        facts.save(IDENTITY, FACTS)
    assert len(caplog.messages) == 1
    directory.unlink()
    facts.save(IDENTITY, FACTS)
    (file,) = directory.iterdir()
    file.unlink()
    facts.save(IDENTITY, FACTS)  # they are known to be kept, so nothing is written
    assert not list(directory.iterdir())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff",
        b"[]",
        b"3",
        json.dumps({"scrape_interval_seconds": "15"}).encode(),
        json.dumps({"scrape_interval_seconds": 0}).encode(),
        json.dumps({"scrape_interval_seconds": 15, "left_open": "no"}).encode(),
    ],
)
def test_a_file_that_is_not_whole_is_no_fact(tmp_path: Path, content: bytes) -> None:
    facts = FactsFile(tmp_path)
    facts.save(IDENTITY, FACTS)
    (file,) = tmp_path.iterdir()
    file.write_bytes(content)
    assert facts.load(IDENTITY) is None


@pytest.mark.parametrize("place", ["file", "below a file"])
def test_a_directory_that_cannot_be_written_is_no_error(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("not a directory")
    facts = FactsFile(tmp_path / "file" / ("x" if place == "below a file" else ""))
    facts.save(IDENTITY, FACTS)
    assert facts.load(IDENTITY) is None
