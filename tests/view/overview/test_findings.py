"""What makes the verdict, on a real Prometheus that has only the three metrics of the charts: a
firing alert counts, a figure that was never measured does not, and a lost one does.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from tests.fault_server import http_response
from tests.faults.proxy import FaultProxy, say
from tests.real_prometheus import RealPrometheus, Samples
from tests.view.conftest import SCRAPE, Clock, StartService
from tests.view.overview.test_overview import cards, over, read_overview

from queuescope.errors import ConfigurationError
from queuescope.known import Known
from queuescope.panels import load_dashboard
from queuescope.prometheus import PrometheusClient
from queuescope.prometheus.matchers import parse_matchers
from queuescope.view.overview.alerts import AlertReader
from queuescope.view.overview.overview import Overview
from queuescope.view.source.alert_rules import AlertRules, AlertScope
from queuescope.view.source.scrapes import Scrape, Scrapes
from queuescope.view.source.state import SourceState

pytestmark = pytest.mark.anyio

RULES = """
groups:
  - name: test
    interval: 1s
    rules:
      - {alert: Filling, expr: "ai_agents_queue_depth > 10", labels: {severity: warning, team: a}}
      - {alert: Pair, expr: "ai_agents_queue_depth > 10", labels: {severity: warning, team: p}}
      - {alert: Pair, expr: "ai_agents_queue_depth > 10", labels: {severity: critical, team: p}}
      - {alert: Watchdog, expr: vector(1), labels: {severity: none}}
      - {alert: NotYet, expr: vector(1), for: 1h, labels: {team: a}}
      - {alert: DiskFull, expr: vector(1), labels: {team: others}}
"""
WORKERS_LOST = 'env="lost"'
NEVER = 'env="never"'


def samples(end: int) -> Samples:
    """All is well in two environments; of one there were workers until two hours ago."""
    times = np.arange(end - 86_400, end + 3_600, SCRAPE)
    jobs = np.arange(len(times), dtype=float)
    found: dict[str, tuple[Any, Any]] = {}
    for env in (WORKERS_LOST, NEVER):
        found[f"ai_agents_queue_depth{{{env}}}"] = (times, np.full(len(times), 12.0))
        found[f"ai_agents_enhancement_success_rate{{{env}}}"] = (times, np.full(len(times), 99.0))
        for le in ("1", "+Inf"):
            name = f'ai_agents_enhancement_latency_seconds_bucket{{le="{le}",{env}}}'
            found[name] = (times, jobs)
    before = times[times < end - 7_200]
    found[f"ai_agents_workers_up{{{WORKERS_LOST}}}"] = (before, np.full(len(before), 4.0))
    return found


@pytest.fixture(scope="module")
def sparse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealPrometheus]:
    folder = tmp_path_factory.mktemp("sparse")
    rules = folder / "rules.yml"
    rules.write_text(RULES)
    with RealPrometheus(folder, series=samples(int(time.time())), rule_files=[rules]) as server:
        yield server


@asynccontextmanager
async def watched(
    url: str, make_service: StartService, clock: Clock, matchers: str, alerts: str
) -> AsyncIterator[Overview]:
    dashboard = load_dashboard("ai-agents")
    scope = AlertScope(parse_matchers(alerts))
    service = make_service(url, dashboard=dashboard, matchers=matchers, alert_scope=scope)
    async with over(service) as overview:
        yield overview


async def until_alerts(overview: Overview, clock: Clock, count: int) -> dict[str, Any]:
    deadline = time.monotonic() + 120
    while len((found := await read_overview(overview, 1))["alerts"]) < count:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.3)
        clock.offset_seconds += 2
    return found


def text(reason: list[Any]) -> str:
    return "".join(part if isinstance(part, str) else "TIME" for part in reason)


async def test_a_firing_alert_is_a_finding_and_an_unmeasured_figure_is_not(
    sparse: RealPrometheus, make_service: StartService, clock: Clock
) -> None:
    async with watched(sparse.url, make_service, clock, NEVER, 'team=~"a|x"') as overview:
        found = await until_alerts(overview, clock, 3)
    verdict = found["verdict"]
    assert verdict["state"] == "degraded"
    # One for each environment; pending alerts and those of other teams do not count.
    assert [text(finding["reason"]) for finding in verdict["findings"]] == [
        "alert Filling (warning) is firing, 2 times, since TIME"
    ]
    assert abs(verdict["findings"][0]["since"] - time.time()) < 300
    assert {alert["name"] for alert in found["alerts"]} == {"Filling", "NotYet"}
    shown = cards(found)
    for name in ("active_workers", "throughput", "oldest_waiting"):
        assert (shown[name]["state"], shown[name]["words"]) == ("empty", "–")
        assert (shown[name]["cause"], shown[name]["level"]) == ("Not measured here", "none")


async def test_alerts_of_several_servers_that_differ_only_in_severity_are_each_listed_once(
    sparse: RealPrometheus,
) -> None:
    async with PrometheusClient(sparse.url) as client:
        panels = load_dashboard("ai-agents").panels
        scope = AlertScope(parse_matchers('team="p"'))
        state = SourceState(time.time(), Scrapes(Scrape(15, 15)), Known())
        deadline = time.monotonic() + 120
        while True:
            # The environments represent servers that each list all alerts.
            rules = AlertRules(client, panels, time.time, scope)
            reader = AlertReader(client, rules, time.time, replica_labels=["env"])
            found = (await reader.read(state)).value
            active = () if found is None else found.active
            if len(active) >= 2:
                break
            assert time.monotonic() < deadline, active
            await asyncio.sleep(0.3)
    assert sorted(alert.severity for alert in active) == ["critical", "warning"]


async def test_a_figure_that_was_never_measured_is_named_and_leaves_the_rest_healthy(
    sparse: RealPrometheus, make_service: StartService, clock: Clock
) -> None:
    async with (
        FaultProxy(sparse.port) as proxy,
        watched(
            f"http://127.0.0.1:{proxy.port}", make_service, clock, NEVER, 'team="nobody"'
        ) as overview,
    ):
        found = await read_overview(overview)
        proxy.forget()
        clock.offset_seconds += 30
        await read_overview(overview, 10)
        # It was looked for once.
        assert not [
            r for r in proxy.seen if "ai_agents_workers_up" in r.query and "group" in r.query
        ]
        # Alerts that could be read, and cannot be now, may fire.
        proxy.spoil(
            say(http_response(b"", status="500 Internal Server Error")),
            lambda request: request.endpoint == "alerts",
        )
        clock.offset_seconds += 30
        blind = await read_overview(overview, 1)
    assert found["verdict"]["state"] == "healthy"
    assert text(found["verdict"]["reason"]) == (
        "all 3 checks are within their limits; "
        "Active workers and Oldest waiting are not measured here"
    )
    assert blind["verdict"]["state"] == "unknown"
    assert blind["verdict"]["reason"][0].startswith("it is not known whether alerts are firing: ")


async def test_a_figure_that_was_measured_and_is_gone_is_unknown(
    sparse: RealPrometheus, make_service: StartService, clock: Clock
) -> None:
    async with watched(sparse.url, make_service, clock, WORKERS_LOST, 'team="nobody"') as overview:
        found = await read_overview(overview)
    assert found["verdict"]["state"] == "unknown"
    assert [finding["rule"] for finding in found["verdict"]["findings"]] == ["active_workers"]
    assert cards(found)["active_workers"]["cause"] == "Nothing was measured in the last minutes"
    assert cards(found)["oldest_waiting"]["cause"] == "Not measured here"


async def test_where_nothing_is_measured_nothing_is_healthy(
    sparse: RealPrometheus, make_service: StartService, clock: Clock
) -> None:
    async with watched(sparse.url, make_service, clock, 'env="none"', 'team="nobody"') as overview:
        found = await read_overview(overview)
    assert found["verdict"]["state"] == "unknown"
    assert found["verdict"]["reason"] == ["nothing is measured here yet"]


@pytest.mark.parametrize(
    ("matchers", "held"),
    [
        ("", True),
        ('team="a"', True),
        ('team!="a"', False),
        ('team=~"a|b"', True),
        ('team=~"b"', False),
        ('team!~"b.*",env=""', True),
        ('env=~".+"', False),
    ],
)
def test_alerts_are_chosen_as_a_selector_chooses_series(matchers: str, held: bool) -> None:
    scope = AlertScope(parse_matchers(matchers))
    assert scope.holds({"alertname": "A", "team": "a"}) is held
    assert not scope.holds({"alertname": "A", "team": "a", "severity": "none"})


def test_an_expression_that_only_prometheus_reads_is_refused_with_its_setting() -> None:
    with pytest.raises(ConfigurationError, match="alert_selector"):
        AlertScope(parse_matchers(r'team=~"\\pN"'))
