"""What is learnt of a source, and that a file of it is believed only when it is whole."""

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
from tests.snapshot.conftest import CountingProxy

from queuescope.prometheus import PrometheusClient
from queuescope.snapshot.source_facts import FactsFile, SourceFacts, ask_facts

pytestmark = pytest.mark.anyio

NOW = int(time.time())
INTERVALS = (1, 5, 10, 15, 20, 30, 60, 120, 300)
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
    old = np.arange(NOW - 2 * 86_400, NOW - 86_400, 30)
    series['paused{env="prod"}'] = (old, np.ones(len(old)))
    with RealPrometheus(tmp_path_factory.mktemp("prometheus"), series=series) as server:
        yield server


async def _ask(prometheus: RealPrometheus, *metrics: str, matchers: str = "") -> SourceFacts:
    async with PrometheusClient(prometheus.url) as client:
        return await ask_facts(client, metrics, matchers, NOW)


@pytest.mark.parametrize("interval", INTERVALS)
async def test_the_scrape_interval_is_measured(prometheus: RealPrometheus, interval: int) -> None:
    facts = await _ask(prometheus, f"scraped_{interval}")
    assert (facts.scrape_interval_seconds, facts.measured) == (interval, True)


async def test_the_interval_of_another_metric_serves_where_the_wanted_are_not_there(
    prometheus: RealPrometheus,
) -> None:
    async with PrometheusClient(prometheus.url) as client:
        for wanted, interval in ((("no_such_metric",), 60), (("scraped_15",), 15)):
            facts = await ask_facts(
                client, wanted, "", NOW, otherwise=("nor_this", "scraped_60", "scraped_30")
            )
            assert (facts.scrape_interval_seconds, facts.measured) == (interval, True)


async def test_the_version_and_the_ends_of_its_ranges_are_learnt(
    prometheus: RealPrometheus,
) -> None:
    facts = await _ask(prometheus, "scraped_15")
    assert facts.version.startswith("2.")
    assert facts.left_open is False


async def test_the_first_metric_that_is_sampled_decides(prometheus: RealPrometheus) -> None:
    assert (await _ask(prometheus, "absent", "scraped_60")).scrape_interval_seconds == 60


async def test_what_is_paused_just_now_is_measured_in_its_past(
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
            measured = await ask_facts(client, metrics, "", NOW)
            proxy.asked.clear()
            assert await ask_facts(client, metrics, "", NOW, measured) is measured
            assert proxy.asked == {"query": 1, "status/buildinfo": 1}


@pytest.mark.parametrize(
    "wrong",
    [
        {"version": "2.41.0"},
        {"scrape_interval_seconds": 30},
        {"scrape_interval_seconds": 10},
        {"phases": {}},
        {"measured": False},
    ],
)
async def test_facts_that_hold_no_more_are_measured_anew(
    prometheus: RealPrometheus, wrong: dict[str, Any]
) -> None:
    right = await _ask(prometheus, "scraped_15")
    assert right.phases
    async with PrometheusClient(prometheus.url) as client:
        found = await ask_facts(client, ("scraped_15",), "", NOW, replace(right, **wrong))
    assert found == right


async def test_another_moment_of_the_scrape_is_measured_anew(prometheus: RealPrometheus) -> None:
    right = await _ask(prometheus, "scraped_15")
    moved = {metric: (phase + 7) % 15 for metric, phase in right.phases.items()}
    async with PrometheusClient(prometheus.url) as client:
        found = await ask_facts(client, ("scraped_15",), "", NOW, replace(right, phases=moved))
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


def test_facts_that_could_not_be_kept_are_kept_with_the_next_call(tmp_path: Path) -> None:
    directory = tmp_path / "cache"
    directory.write_text("a file in its place")
    facts = FactsFile(directory)
    facts.save(IDENTITY, FACTS)
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
