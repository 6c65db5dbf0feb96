"""Metrics and labels of any name, such as those of OpenTelemetry, where Prometheus takes them."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from tests.engines import program
from tests.real_prometheus import RealPrometheus
from tests.remote_write import RemoteWriter
from tests.view.conftest import StartService, panels
from tests.view.test_service import values_of

from queuescope.errors import ConfigurationError
from queuescope.panels import count_once, parse_dashboard
from queuescope.prometheus import PrometheusClient
from queuescope.prometheus.matchers import parse_matchers
from queuescope.prometheus.promql import (
    is_label_name,
    is_metric_name,
    label_text,
    render_matchers,
    selector,
)
from queuescope.timeseries import Grid, labels_of
from queuescope.view import View
from queuescope.view.source.absence import explain_absence
from queuescope.view.source.check import SourceCheck
from queuescope.view.source.facts import fetch_facts

pytestmark = pytest.mark.anyio

NOW = int(time.time())
SCRAPE = 30
AHEAD = 540
"""Prometheus takes nothing that is ten minutes ahead of its clock."""
DEPTHS = {"web": 5.0, "ba\u00dftch": 7.0}
MATCHERS = render_matchers(parse_matchers('"deployment.env"="prod",team=~"a|b"'))
FILE = """
[[panel]]
id = "queue_depth"
title = "Depth"
kind = "count"
unit = "jobs"
point = "peak within {step}"
metrics = ["celery.queue/depth"]
breakdowns = ["service.name"]
query = '''max$by(max_over_time((sum$by({"celery.queue/depth",$matchers}))[$step:$fine]))'''
now = '''sum$by({"celery.queue/depth",$matchers})'''
"""


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealPrometheus]:
    server = RealPrometheus(
        tmp_path_factory.mktemp("names"), program=program("prometheus-3"), takes_samples=True
    )
    with server:
        writer = RemoteWriter(server.port)
        for service, depth in DEPTHS.items():
            for env in ("prod", "test"):
                labels = labels_of(
                    {
                        "__name__": "celery.queue/depth",
                        "deployment.env": env,
                        "service.name": service,
                        "team": "a",
                    }
                )
                times = range(NOW - 7200, int(time.time()) + AHEAD, SCRAPE)
                writer.write([(labels, at, depth) for at in times])
        writer.close()
        yield server


async def test_unusual_names_can_be_selected_filtered_and_broken_down_by(
    prometheus: RealPrometheus, make_service: StartService
) -> None:
    own = parse_dashboard(FILE, "own", "own.toml")
    service = make_service(prometheus.url, dashboard=own, matchers=MATCHERS)
    try:
        whole = panels(await service.get(View("1h"), max_age_seconds=1e9))["queue_depth"]
        by = panels(await service.get(View("1h", by="service.name"), max_age_seconds=1e9))
    finally:
        await service.aclose()
    assert whole["state"] == "fresh", whole["cause"]
    assert set(values_of(whole)) == {12.0}
    assert whole["now"]["words"] == "12"
    curves = by["queue_depth"]["figure"]["data"]
    assert {curve["name"] for curve in curves} == DEPTHS.keys()
    assert {max(values_of(by["queue_depth"], n)) for n in range(2)} == set(DEPTHS.values())


async def test_a_source_with_unusual_names_is_measured_and_checked(
    prometheus: RealPrometheus,
) -> None:
    own = parse_dashboard(FILE, "own", "own.toml")
    async with PrometheusClient(prometheus.url) as client:
        facts = await fetch_facts(client, own.panels[0].metrics, MATCHERS, NOW)
        assert (facts.scrape_interval_seconds, facts.measured) == (SCRAPE, True)
        check = SourceCheck(client, own, MATCHERS)
        lines = [line async for line in check.lines()]
        assert check.is_good, lines
        assert "  Depth: celery.queue/depth: 2 series" in lines
        everything = (["{team!=''}"], NOW - 7200, NOW)
        assert await client.label_values("service.name", *everything) == tuple(sorted(DEPTHS))
        grid = Grid.covering(NOW - 20 * 3600, NOW - 10 * 3600, 300)
        ended = await explain_absence(client, own.panels[0], MATCHERS, grid, float(NOW))
        assert ended.words.endswith("after this range.")
        wrong = await explain_absence(client, own.panels[0], '"a.b"="c"', grid, float(NOW))
        assert not wrong.is_unknown
        assert wrong.words == (
            'The label filter {"a.b"="c"} matches no series of celery.queue/depth. '
            "Widen the setting “selector”."
        )


def test_names_are_written_as_promql_has_them() -> None:
    assert label_text("le") == "le"
    assert label_text("app.kubernetes.io/name") == '"app.kubernetes.io/name"'
    assert selector("depth", "a='b'") == "depth{a='b'}"
    assert selector("queue.depth") == '{"queue.depth"}'
    assert selector("queue.depth", '"a.b"="c"') == '{"queue.depth","a.b"="c"}'
    assert all(map(is_label_name, ("a", "_a", "service.name", "größe", "a-b")))
    assert all(map(is_metric_name, ("a:b", ":a", "http.server.duration")))
    assert not any(map(is_label_name, ("", "a b", 'a"', "{a}", "1a", ".a", "a,b", "a=b", "a\n")))
    own = count_once(parse_dashboard(FILE, "own", "own.toml"), ["k8s.pod"])
    assert 'max without ("k8s.pod") ({"celery.queue/depth",$matchers})' in own.panels[0].query


def test_a_name_that_needs_quotes_is_shown_with_them() -> None:
    with pytest.raises(ConfigurationError, match=r"column 8: a label name .* must be quoted"):
        parse_matchers('a="b", service.name="x"')
    with pytest.raises(ConfigurationError, match="column 1: 'a b' is not a label name"):
        parse_matchers('"a b"="x"')
