"""Two Prometheus servers scrape the same targets for one source, so each series exists twice."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from tests.gateway import gateway
from tests.real_prometheus import RealPrometheus, Samples
from tests.view.conftest import SCRAPE, StartService, content, panels, platform_samples
from tests.view.test_service import values_of

from queuescope.errors import ConfigurationError
from queuescope.panels import (
    Dashboard,
    Resolution,
    count_once,
    load_dashboard,
    parse_dashboard,
    render,
)
from queuescope.prometheus import PrometheusClient
from queuescope.prometheus.promql import parse
from queuescope.timeseries import labels_of
from queuescope.view import View
from queuescope.view.source.check import SourceCheck
from queuescope.view.source.replicas import find_replica_labels, replica_labels

pytestmark = pytest.mark.anyio

NOW = int(time.time())
PLAIN = load_dashboard("ai-agents")
ONCE = count_once(PLAIN, ["replica"])
AWAY = ((-2400, -1200), (-240, 7200))
"""When one of the pair scraped nothing, before and after now: twenty minutes, and now."""


def _with(labels: str, series: Samples) -> Samples:
    return {name.replace("{", f"{{{labels},"): samples for name, samples in series.items()}


def _pair() -> Samples:
    # Not from when this file was read: it may run a quarter of an hour later.
    now = time.time()
    single = _with('instance="app:9808",job="celery"', platform_samples(int(now)))
    other: dict[str, Any] = {}
    for name, (times, values) in single.items():
        at = np.asarray(times) + 11.0
        seen = ~np.logical_or.reduce([(at > now + start) & (at < now + end) for start, end in AWAY])
        other[name] = (at[seen], np.asarray(values)[seen])
    return {**_with('replica="prom-a"', single), **_with('replica="prom-b"', other)}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealPrometheus]:
    with RealPrometheus(tmp_path_factory.mktemp("pair"), series=_pair()) as server:
        yield server


async def _said(url: str, dashboard: Dashboard) -> tuple[list[str], bool]:
    async with PrometheusClient(url) as client:
        check = SourceCheck(client, dashboard, "")
        return [line async for line in check.lines()], check.is_good


async def test_a_pair_is_found_and_the_setting_is_proposed(
    pair: RealPrometheus, make_service: StartService
) -> None:
    service = make_service(pair.url)
    try:
        snapshot = await service.get(View("1h"), max_age_seconds=1e9)
    finally:
        await service.aclose()
    words = (
        "Each series exists more than once, differing only in the label replica: several "
        "Prometheus servers scrape the same targets, and every count is multiplied. "
        'Set replica_labels = "replica" to count each once.'
    )
    assert content(snapshot)["source"]["notice"] == words
    lines, is_good = await _said(pair.url, PLAIN)
    assert words in lines
    assert not is_good


async def test_with_the_setting_each_is_counted_once_also_while_one_is_away(
    pair: RealPrometheus, make_service: StartService
) -> None:
    service = make_service(pair.url, dashboard=ONCE)
    try:
        snapshot = await service.get(View("1h"), max_age_seconds=1e9)
        by_tenant = await service.get(View("1h", by="tenant"), max_age_seconds=1e9)
    finally:
        await service.aclose()
    found = panels(snapshot)
    assert content(snapshot)["source"]["notice"] == ""
    assert set(values_of(found["queue_depth"])) == {12.0}
    np.testing.assert_allclose(values_of(found["success_rate"]), 90, rtol=1e-6)
    np.testing.assert_allclose(values_of(found["latency"], 1), 1900, rtol=1e-6)
    assert [found[name]["now"]["words"] for name in found] == ["12", "90.0 %", "1–2 s"]
    assert panels(by_tenant)["success_rate"]["state"] == "fresh"
    lines, is_good = await _said(pair.url, ONCE)
    assert is_good, lines


async def test_rates_are_those_of_one(pair: RealPrometheus) -> None:
    async with PrometheusClient(pair.url) as client:
        resolution = Resolution(300, SCRAPE, await client.ranges_are_left_open())
        for dashboard, factor in ((PLAIN, 2), (ONCE, 1)):
            throughput = next(m for m in dashboard.measures if m.id == "throughput")
            text = render(throughput.now, resolution)
            # Both had scraped for a long time then.
            answer = await client.query(text, at=NOW - 3000)
            (sample,) = answer.samples
            assert sample.value == pytest.approx(40.0 * factor, rel=1e-3)


async def test_every_query_stays_promql() -> None:
    flow, ended = ONCE.flow, ONCE.ended
    assert flow is not None
    assert ended is not None
    texts = [text for m in ONCE.measures for text in (m.panel.query, m.now)]
    texts += [text for panel in ONCE.panels for text in (panel.query, panel.now)]
    for text in (*texts, flow.completion, flow.waiting, flow.completed, ended.now):
        query = render(text, Resolution(300, SCRAPE), 'env="(prod,"')
        assert str(parse(query))
        assert "max without (replica) (" in query


FILE = """
[[panel]]
id = "queue_depth"
title = "Depth"
kind = "count"
unit = "jobs"
point = "peak"
metrics = ["depth"]
query = '''{query}'''
now = 'sum(depth{{$matchers}})'
"""


@pytest.mark.parametrize(
    ("written", "asked"),
    [
        (
            'topk(3, depth{a=","})',
            'topk(3,max without (replica, "k8s.pod") (depth{a=","}))',
        ),
        (
            "sum without (x) (rate(sum_total{a='sum('}[5m]))",
            "sum without (x) (max without (replica, \"k8s.pod\") (rate(sum_total{a='sum('}[5m])))",
        ),
        (
            "max_over_time((sum${by}(depth{$matchers}))[5m:1m])",
            'max_over_time((sum${by}(max without (replica, "k8s.pod") (depth{$matchers})))[5m:1m])',
        ),
    ],
)
def test_a_file_of_ones_own_is_counted_once_too(written: str, asked: str) -> None:
    own = parse_dashboard(FILE.format(query=written), "own", "own.toml")
    assert count_once(own, ["replica", "k8s.pod"]).panels[0].query == asked


def test_a_query_that_cannot_be_counted_once_is_refused() -> None:
    own = parse_dashboard(FILE.format(query="depth{$matchers} / sum(depth{})"), "own", "own.toml")
    with pytest.raises(ConfigurationError, match=r"own, queue_depth, query: with replica_labels"):
        count_once(own, ["replica"])


def _found(*series: tuple[dict[str, str], float]) -> tuple[str, ...]:
    found = {labels_of(labels): value for labels, value in series}
    return replica_labels(found, breakdowns=("tenant", "queue", "instance"))


def test_only_replicas_are_called_replicas() -> None:
    def twice(label: str, other: float, **labels: str) -> list[tuple[dict[str, str], float]]:
        return [({**labels, label: "a"}, 1000.0), ({**labels, label: "b"}, other)]

    target = {"instance": "app:1", "job": "celery"}
    assert _found(*twice("prometheus_replica", 990.0, **target)) == ("prometheus_replica",)
    # A federation names itself as the target; one of an unusual name counts exactly the same.
    federated = {"exported_instance": "app:1", "job": "federate"}
    assert _found(*twice("instance", 1000.0, **federated)) == ("instance",)
    assert _found(*twice("scraper", 1000.0, **target)) == ("scraper",)
    # Two clusters, two workers, two tenants and two outcomes are not the same jobs twice.
    assert _found(*twice("cluster", 600.0, **target)) == ()
    assert _found(*twice("instance", 1000.0, job="celery")) == ()
    assert _found(*twice("tenant", 1000.0, **target)) == ()
    assert _found(*twice("outcome", 20.0, **target)) == ()
    # A Deployment's own replicas have each their own address.
    workers = [({"instance": f"app:{n}", "replica": str(n)}, 1000.0) for n in range(2)]
    assert _found(*workers) == ()
    # Scraped under two names of the job by two servers.
    both = [({"instance": "app:1", "job": f"j-{n}", "replica": n}, 5.0) for n in "ab"]
    assert _found(*both) == ("replica", "job")


async def test_no_replica_is_found_where_there_is_none(prometheus: RealPrometheus) -> None:
    async with PrometheusClient(prometheus.url) as client:
        assert await find_replica_labels(client, PLAIN, "", NOW) == ()


async def test_a_gateway_that_passes_only_queries_suffices(
    prometheus: RealPrometheus,
) -> None:
    def queries_only(path: str, _parameters: object) -> bool:
        return path in ("/api/v1/query", "/api/v1/query_range")

    async with gateway(prometheus.port, queries_only) as gate:
        lines, is_good = await _said(gate.url, PLAIN)
    assert is_good, lines
    assert lines[0] == "Prometheus of unknown version answers."
    assert "  Success rate: ai_agents_enhancement_success_rate: nothing" in lines
    assert "  Queue depth: ai_agents_queue_depth: 2 series" in lines
    assert "Each chart has another metric to draw, so nothing is missing on the page." in lines
    assert lines[-1] == "It does not list its alerts, so the page shows none."
