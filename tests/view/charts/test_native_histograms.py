"""Native histograms, exponential and of custom buckets, are drawn as classic ones are."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pytest
from tests.engines import program
from tests.real_prometheus import RealPrometheus
from tests.remote_write import Histogram, RemoteWriter
from tests.view.conftest import Clock, StartService, panels
from tests.view.test_service import values_of

from queuescope.panels import Panel, Resolution, count_once, load_dashboard, parse_dashboard, render
from queuescope.panels.native import classic_part
from queuescope.prometheus import PrometheusClient
from queuescope.prometheus.promql import parse
from queuescope.timeseries import Grid, labels_of
from queuescope.view import View, ViewService
from queuescope.view.charts.high_cardinality import HighCardinality
from queuescope.view.present.fetcher import PresentFetcher
from queuescope.view.present.queries import PresentQuery
from queuescope.view.source.check import SourceCheck
from queuescope.view.source.scrapes import Scrape, Scrapes

pytestmark = pytest.mark.anyio

NOW = int(time.time())
SCRAPE = 30
BEGAN = NOW - 7200
METRIC = "ai_agents_enhancement_latency_seconds"
LATENCY = load_dashboard("ai-agents").panels[2]
MOVED = NOW - 3600
"""Since when one application has native histograms in the place of classic ones."""


def _exponential(jobs: int) -> Histogram:
    """Of 40 jobs, 24 take up to 1 s, 15 up to 2 s and one up to 4 s."""
    return Histogram({0: 24 * jobs, 8: 15 * jobs, 16: jobs})


def _custom(jobs: int) -> Histogram:
    return Histogram({0: 24 * jobs, 1: 15 * jobs, 2: jobs}, (1.0, 2.0, 4.0))


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealPrometheus]:
    server = RealPrometheus(
        tmp_path_factory.mktemp("native"),
        program=program("prometheus-3"),
        takes_samples=True,
        options=["--enable-feature=native-histograms"],
    )
    # As far ahead as Prometheus takes them, and not from when this file was read.
    times = range(BEGAN, int(time.time()) + 540, SCRAPE)
    with server:
        writer = RemoteWriter(server.port)
        for kind, make in (("exponential", _exponential), ("custom", _custom)):
            for tenant, scale in (("acme", 1), ("globex", 3)):
                labels = labels_of({"__name__": METRIC, "kind": kind, "tenant": tenant})
                row = [(at, make(scale * n)) for n, at in enumerate(times, start=1)]
                writer.write_histograms({labels: row})
        for replica in "ab":
            labels = labels_of({"__name__": METRIC, "kind": "pair", "replica": replica})
            writer.write_histograms({labels: [(t, _custom(n)) for n, t in enumerate(times, 1)]})
        for le, share in (("1", 24), ("2", 39), ("4", 40), ("+Inf", 40)):
            labels = labels_of({"__name__": f"{METRIC}_bucket", "kind": "moved", "le": le})
            old = [(labels, t, float(share * n)) for n, t in enumerate(times) if t < MOVED]
            writer.write(old)
        labels = labels_of({"__name__": METRIC, "kind": "moved"})
        new = [(t, _custom(n)) for n, t in enumerate(times, 1) if t >= MOVED]
        writer.write_histograms({labels: new})
        writer.close()
        yield server


# Within a bucket of eighths of a power of two Prometheus goes by the logarithm.
QUANTILES = {
    "exponential": [1000 * 2 ** (e / 8) for e in (20 / 24 - 1, 7 + 14 / 15, 15.6)],
    "custom": [1000 * 20 / 24, 1000 + 1000 * 14 / 15, 2000 + 2000 * 0.6],
}


@pytest.mark.parametrize("kind", QUANTILES)
async def test_their_quantiles_are_drawn_and_are_the_figure_of_now(
    prometheus: RealPrometheus, make_service: StartService, kind: str
) -> None:
    service: ViewService = make_service(prometheus.url, matchers=f'kind="{kind}"')
    try:
        whole = panels(await service.get(View("1h"), max_age_seconds=1e9))["latency"]
        by = panels(await service.get(View("1h", by="tenant"), max_age_seconds=1e9))["latency"]
    finally:
        await service.aclose()
    assert whole["state"] == "fresh", whole["cause"]
    assert [curve["name"] for curve in whole["figure"]["data"]] == ["P50", "P95", "P99"]
    for curve, expected in enumerate(QUANTILES[kind]):
        np.testing.assert_allclose(values_of(whole, curve), expected, rtol=1e-6)
    assert whole["now"]["words"] in ("1.9 s", "2 s", "2.0 s")
    assert {curve["name"] for curve in by["figure"]["data"]} == {"acme", "globex"}
    np.testing.assert_allclose(values_of(by), QUANTILES[kind][1], rtol=1e-6)


async def test_the_days_of_the_move_from_classic_ones_are_one_curve(
    prometheus: RealPrometheus, make_service: StartService
) -> None:
    service = make_service(prometheus.url, matchers='kind="moved"')
    try:
        found = panels(
            await service.get(
                View(None, start=BEGAN + 900, end=NOW - 900, step_seconds=60), max_age_seconds=1e9
            )
        )["latency"]
    finally:
        await service.aclose()
    values = np.array(values_of(found, 1))
    assert np.isfinite(values).all()
    np.testing.assert_allclose(values, QUANTILES["custom"][1], rtol=1e-6)


async def test_many_values_are_ranked_and_a_source_checked_by_native_histograms(
    prometheus: RealPrometheus,
) -> None:
    matchers = 'kind="custom"'
    async with PrometheusClient(prometheus.url) as client:
        crowds = HighCardinality(client, matchers=matchers, limit=1, clock=Clock())
        query = render(LATENCY.now, Resolution(300, SCRAPE), matchers, "tenant")
        assert str(parse(query))
        worst = await crowds._worst_at_instants(
            LATENCY, "tenant", Grid.ending_at(NOW, 3600, 60), Resolution(60, SCRAPE)
        )
        assert len(worst) == 1
        check = SourceCheck(client, load_dashboard("ai-agents"), matchers)
        lines = [line async for line in check.lines()]
    assert f"  Latency: {METRIC}: 2 series of native histograms" in lines
    assert "These charts have no data: Queue depth, Success rate." in lines


async def test_those_of_a_pair_are_counted_once(prometheus: RealPrometheus) -> None:
    once = count_once(load_dashboard("ai-agents"), ["replica"])
    latency: Panel = once.panels[2]
    async with PrometheusClient(prometheus.url) as client:
        fetcher = PresentFetcher(client, matchers='kind="pair"', clock=Clock())
        question = PresentQuery("latency", latency, latency.now)
        answers = await fetcher.fetch([question], Scrapes(Scrape(SCRAPE, SCRAPE)), at=float(NOW))
    assert answers.found["latency"].value == pytest.approx(QUANTILES["custom"][1])


FILE = """
[[panel]]
id = "latency"
title = "Latency"
kind = "latency"
unit = "s"
point = "of the jobs"
quantiles = [0.95]
metrics = ["jobs.seconds_bucket"]
query = '''{query}'''
now = '''{query}'''
"""


def test_a_panel_of_ones_own_reads_them_too() -> None:
    text = 'sum$le_by(rate({"jobs.seconds_bucket",$matchers}[$window]))'
    own = parse_dashboard(FILE.format(query=text), "own", "own.toml").panels[0]
    assert own.all_metrics == ("jobs.seconds_bucket", "jobs.seconds")
    assert classic_part(own.query) == text
    assert own.query == (
        f"{text} or label_replace((histogram_quantile(0.95, "
        'sum$by(rate({"jobs.seconds",$matchers}[$window])))), "quantile", "0.95", "", "")'
    )
    recorded = "sum by (le) (jobs:rate5m{$matchers})"
    assert parse_dashboard(FILE.format(query=recorded), "own", "own").panels[0].query == recorded
