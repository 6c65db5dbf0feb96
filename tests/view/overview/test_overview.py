"""Verdict, cards and alerts from a real Prometheus: right, shared, and marked as old in
an outage.
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from tests.fault_server import http_response
from tests.faults.proxy import FaultProxy, alter, ask_instead
from tests.real_prometheus import RealPrometheus
from tests.view.conftest import SCRAPE, Clock, CountingProxy, StartService, panels

from queuescope.panels import Resolution, load_dashboard, parse_dashboard, render
from queuescope.prometheus import PrometheusClient
from queuescope.view import View, ViewService
from queuescope.view.overview.overview import Overview

pytestmark = pytest.mark.anyio

PRESET = Path(__file__).parents[3] / "src/queuescope/panels/presets/ai-agents.toml"
_AHEAD_SECONDS = 1_200
RULES = """
groups:
  - name: test
    interval: 1s
    rules:
      - record: waiting:sum
        expr: sum(last_over_time(ai_agents_queue_depth[1h]))
      - alert: TooDeep
        expr: waiting:sum > 100
        labels: {severity: critical}
        annotations: {summary: "<b>{{ $value }}</b> jobs wait"}
      - alert: NotYet
        expr: sum(last_over_time(ai_agents_workers_up[1h])) < 10
        for: 1h
"""


def samples(end: int) -> dict[str, tuple[Any, Any]]:
    """Eight days: the queue holds 12 jobs, and 130 since an hour ago; a job in ten fails.

    They reach beyond now, so that it does not matter how long the tests take.
    """
    times = np.arange(end - 8 * 86_400, end + _AHEAD_SECONDS, SCRAPE)
    jobs = np.arange(len(times), dtype=float)
    depth = np.where(times > end - 3600, 130.0, 12.0)
    found: dict[str, tuple[Any, Any]] = {
        'ai_agents_queue_depth{queue="a"}': (times, depth),
        "ai_agents_workers_up": (times, np.full(len(times), 4.0)),
        'ai_agents_queue_oldest_age_seconds{queue="a"}': (times, np.full(len(times), 8.0)),
    }
    for outcome, share in (("succeeded", 9), ("failed", 1)):
        name = f'ai_agents_enhancement_jobs_total{{outcome="{outcome}",tenant="acme"}}'
        found[name] = (times, jobs * share)
    for le, share in (("1", 5), ("2", 10), ("+Inf", 10)):
        name = f'ai_agents_enhancement_latency_seconds_bucket{{le="{le}",tenant="acme"}}'
        found[name] = (times, jobs * share)
    return found


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealPrometheus]:
    directory = tmp_path_factory.mktemp("overview")
    with RealPrometheus(directory, series=samples(int(time.time()))) as server:
        yield server


@pytest.fixture(scope="module")
def alarmed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealPrometheus]:
    """One with rules, which can write what they find only where nothing is ahead of them. They read
    the last hour, since the samples end when the server is started.
    """
    directory = tmp_path_factory.mktemp("alarmed")
    rules = directory / "rules.yml"
    rules.write_text(RULES)
    end = int(time.time())
    whole = samples(end)
    series = {
        text: (times[times <= end], values[times <= end])
        for text, (times, values) in whole.items()
        if "queue_depth" in text or "workers" in text
    }
    with RealPrometheus(directory, series=series, rule_files=[rules]) as server:
        yield server


@pytest.fixture
async def proxy(platform: RealPrometheus) -> AsyncIterator[CountingProxy]:
    async with CountingProxy(platform.port) as proxy:
        yield proxy


@asynccontextmanager
async def overview(
    url: str, make_service: StartService, clock: Clock, preset: str = ""
) -> AsyncIterator[Overview]:
    dashboard = parse_dashboard(preset, "t", "test") if preset else load_dashboard("ai-agents")
    service = make_service(url, dashboard=dashboard, timeout_seconds=20)
    async with over(service) as made:
        yield made


@asynccontextmanager
async def over(service: ViewService) -> AsyncIterator[Overview]:
    """The overview of ``service``, which is closed at the end."""
    try:
        yield service.overview
    finally:
        await service.aclose()


async def read_overview(service: Overview, max_age_seconds: float = 1e9) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(await service.get(max_age_seconds=max_age_seconds))
    return found


def cards(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {card["id"]: card for card in found["kpis"]}


async def test_the_cards_show_the_samples_own_numbers(
    platform: RealPrometheus, make_service: StartService, clock: Clock
) -> None:
    async with overview(platform.url, make_service, clock) as service:
        found = await read_overview(service)
    shown = {name: (card["state"], card["words"]) for name, card in cards(found).items()}
    assert shown == {
        "queue_depth": ("fresh", "130"),
        "success_rate": ("fresh", "90.0 %"),
        # Half below 1 s and all below 2 s: the buckets show no more than that.
        "p95_latency": ("fresh", "1–2 s"),
        "active_workers": ("fresh", "4"),
        # Ten jobs in each of two scrapes a minute.
        "throughput": ("fresh", "20"),
        "oldest_waiting": ("fresh", "8.0 s"),
    }
    changes = {change["against"]: change for change in cards(found)["queue_depth"]["changes"]}
    assert {name: change["words"] for name, change in changes.items()} == {
        "yesterday": "+118",
        "last week": "+118",
    }
    assert {change["tone"] for change in changes.values()} == {"worse"}
    packed = cards(found)["queue_depth"]["spark"]["values"]
    spark = np.frombuffer(base64.b64decode(packed), "<f4")
    assert set(spark.tolist()) == {12.0, 130.0}


async def test_the_verdict_names_the_figure_its_limit_and_since_when(
    platform: RealPrometheus, make_service: StartService, clock: Clock
) -> None:
    async with overview(platform.url, make_service, clock) as service:
        verdict = (await read_overview(service))["verdict"]
    assert verdict["state"] == "degraded"
    by_rule = {finding["rule"]: finding for finding in verdict["findings"]}
    assert set(by_rule) == {"queue_depth", "success_rate"}
    text, when = by_rule["queue_depth"]["reason"][0], by_rule["queue_depth"]["reason"][-1]
    assert text == "Queue depth is 130 jobs, limit 100"
    # The depth rose an hour before the newest sample; the history shows it to its step.
    assert abs(when["at"] - (time.time() - 3600)) <= 900 + 600
    assert by_rule["success_rate"]["reason"][0] == (
        "Success rate is 90.0 %, should be at least 95.0 %"
    )


async def test_alerts_are_listed_with_their_chart_and_start(
    alarmed: RealPrometheus, make_service: StartService, clock: Clock
) -> None:
    deadline = time.monotonic() + 120
    async with overview(alarmed.url, make_service, clock) as service:
        found = await read_overview(service)
        while len(found["alerts"]) < 2:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.3)
            clock.offset_seconds += 2
            found = await read_overview(service, 1)
    firing, pending = found["alerts"]
    assert found["alertsState"] == "fresh"
    assert (firing["name"], firing["state"], firing["severity"]) == (
        "TooDeep",
        "firing",
        "critical",
    )
    # Through the recording rule that it reads.
    assert firing["panel"] == "queue_depth"
    assert firing["summary"] == "<b>130</b> jobs wait"
    assert abs(firing["since"] - time.time()) < 600
    assert (pending["name"], pending["state"], pending["panel"]) == ("NotYet", "pending", None)


async def test_in_an_outage_old_figures_keep_their_time_and_nothing_is_green(
    proxy: CountingProxy, make_service: StartService, clock: Clock
) -> None:
    async with overview(proxy.url, make_service, clock) as service:
        before = await read_overview(service)
        await proxy.refuse()
        clock.offset_seconds += 60
        after = await read_overview(service, 1)
        await proxy.serve()
        clock.offset_seconds += 120
        again = await read_overview(service, 1)
    assert {card["state"] for card in after["kpis"]} == {"stale"}
    assert [card["words"] for card in after["kpis"]] == [card["words"] for card in before["kpis"]]
    assert {card["asOf"] for card in after["kpis"]} == {before["asOf"]}
    assert {card["level"] for card in after["kpis"]} == {"none"}
    assert after["verdict"]["state"] == "unknown"
    assert "connect" in after["verdict"]["reason"][0]
    assert after["drain"]["state"] == "unknown"
    assert (after["alertsState"], after["alertsAsOf"]) == ("stale", before["alertsAsOf"])
    assert {card["state"] for card in again["kpis"]} == {"fresh"}


async def test_without_any_answer_nothing_is_shown_as_a_number(
    proxy: CountingProxy, make_service: StartService, clock: Clock
) -> None:
    await proxy.refuse()
    async with overview(proxy.url, make_service, clock) as service:
        found = await read_overview(service)
    assert {(card["state"], card["words"]) for card in found["kpis"]} == {("unavailable", "–")}
    assert found["verdict"]["state"] == "unknown"
    assert found["alertsState"] == "unavailable"
    assert found["asOf"] is None


@pytest.mark.usefixtures("patient")
async def test_however_many_ask_the_source_is_asked_once(
    proxy: CountingProxy, make_service: StartService, clock: Clock
) -> None:
    async with overview(proxy.url, make_service, clock) as service:
        await read_overview(service)
        clock.offset_seconds += 30
        proxy.asked.clear()
        await read_overview(service, 1)
        alone = dict(proxy.asked)
        clock.offset_seconds += 30
        proxy.asked.clear()
        await asyncio.gather(*(read_overview(service, 1) for _ in range(100)))
    assert sum(proxy.asked.values()) <= sum(alone.values())
    assert alone["alerts"] == 1


async def test_a_question_that_is_refused_takes_no_other_card_along(
    platform: RealPrometheus, make_service: StartService, clock: Clock
) -> None:
    broken = PRESET.read_text("utf-8").replace(
        "now = 'max(last_over_time(ai_agents_queue_oldest",
        "now = 'max(nonsense(ai_agents_queue_oldest",
    )
    async with overview(platform.url, make_service, clock, broken) as service:
        found = cards(await read_overview(service))
    assert found["oldest_waiting"]["state"] == "unavailable"
    assert "refused this query" in found["oldest_waiting"]["cause"]
    assert {card["state"] for name, card in found.items() if name != "oldest_waiting"} == {"fresh"}


@pytest.mark.usefixtures("patient")
async def test_a_card_shows_the_very_figure_of_its_chart_and_both_cost_one_question(
    proxy: CountingProxy, make_service: StartService, clock: Clock
) -> None:
    dashboard = load_dashboard("ai-agents")
    service = make_service(proxy.url, dashboard=dashboard)
    async with over(service) as made:
        await read_overview(made)
        clock.offset_seconds += 2
        # The first one opened connections, and each new one could lead to another server.
        await service.get(View("1h"), max_age_seconds=1)
        await read_overview(made, 1)
        for _ in range(2):
            clock.offset_seconds += 20
            proxy.asked.clear()
            view = panels(await service.get(View("1h"), max_age_seconds=19))
            clock.offset_seconds += 3
            found = cards(await read_overview(made, 60))
            # One for all present values, one for what the charts draw of the open step.
            assert proxy.asked["query"] == 2
            for panel, card in (("queue_depth", "queue_depth"), ("latency", "p95_latency")):
                assert found[card]["words"] == view[panel]["now"]["words"]
                assert found[card]["asOf"] == view[panel]["now"]["asOf"]


async def test_alerts_are_asked_for_every_fifteen_seconds_and_their_rules_when_they_change(
    alarmed: RealPrometheus, make_service: StartService, clock: Clock
) -> None:
    async with AsyncExitStack() as running:
        proxy = await running.enter_async_context(CountingProxy(alarmed.port))
        service = make_service(proxy.url, timeout_seconds=20)
        made = await running.enter_async_context(over(service))
        deadline = time.monotonic() + 120
        while len((await read_overview(made, 1))["alerts"]) < 2:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.3)
            clock.offset_seconds += 2
        proxy.asked.clear()
        for _ in range(6):
            clock.offset_seconds += 10
            await read_overview(made, 10)
        assert (proxy.asked["alerts"], proxy.asked["rules"]) == (3, 0)
        clock.offset_seconds += 3
        await read_overview(made, 1)
        assert proxy.asked["alerts"] == 4
        clock.offset_seconds += 600
        # The marks on the charts follow the same rules.
        _, found = await asyncio.gather(
            service.get(View("1h"), max_age_seconds=10), read_overview(made, 10)
        )
        assert proxy.asked["rules"] == 1
    assert [alert["panel"] for alert in found["alerts"]] == ["queue_depth", None]


async def test_a_partial_figure_is_shown_as_such_and_never_green(
    platform: RealPrometheus, make_service: StartService, clock: Clock
) -> None:
    """It proves only that too many jobs wait, which the missing part could not disprove."""

    def half(body: bytes) -> bytes:
        return http_response(body.rstrip()[:-1] + b',"warnings":["a store did not answer"]}')

    dashboard = load_dashboard("ai-agents")
    async with FaultProxy(platform.port) as proxy:
        url = f"http://127.0.0.1:{proxy.port}"
        service = make_service(url, dashboard=dashboard)
        proxy.spoil(alter(half), lambda request: "queuescope_panel" in request.query)
        async with over(service) as made:
            found = await read_overview(made)
            view = panels(await service.get(View("1h"), max_age_seconds=60))
            await proxy.heal()
            clock.offset_seconds += 60
            whole = await read_overview(made, 1)
    partial = found["kpis"]
    assert {card["state"] for card in partial} == {"partial"}
    # The share of a day is read by itself, and was whole.
    assert cards(found)["success_rate"]["beside"] == "90.0 % in 24 h"
    assert cards(found)["queue_depth"]["words"] == "130"
    levels = {card["id"]: card["level"] for card in found["kpis"]}
    assert levels.pop("queue_depth") == "warn"
    assert set(levels.values()) == {"none"}
    for card in partial:
        assert card["warnings"] == ["a store did not answer"]
        assert "may be incomplete" in card["cause"]
        assert card["changes"] == []
    unknown = {f["rule"] for f in found["verdict"]["findings"] if f["state"] == "unknown"}
    assert unknown == {"success_rate", "p95_latency", "active_workers", "oldest_waiting"}
    assert found["verdict"]["state"] == "degraded"
    assert found["drain"]["state"] == "unknown"
    for panel in view.values():
        assert panel["state"] == "fresh"
        assert panel["now"]["state"] == "partial"
        assert panel["now"]["warnings"] == ["a store did not answer"]
    assert {card["state"] for card in whole["kpis"]} == {"fresh"}


@pytest.mark.usefixtures("patient")
async def test_a_rejected_query_is_left_out_for_a_minute(
    proxy: CountingProxy, make_service: StartService, clock: Clock
) -> None:
    broken = PRESET.read_text("utf-8").replace(
        "now = 'max(last_over_time(ai_agents_queue_oldest",
        "now = 'max(nonsense(ai_agents_queue_oldest",
    )
    async with overview(proxy.url, make_service, clock, broken) as service:
        await read_overview(service)
        asked = []
        for _ in range(4):
            clock.offset_seconds += 20
            proxy.asked.clear()
            found = cards(await read_overview(service, 10))
            asked.append(proxy.asked["query"])
            assert found["oldest_waiting"]["state"] == "unavailable"
            assert found["queue_depth"]["state"] == "fresh"
    # A question of the probe's own is among them once a minute.
    assert sum(count <= 2 for count in asked) == 3
    assert max(asked) > 8


async def test_the_share_of_a_day_is_added_up_and_only_its_newest_step_is_read_again(
    proxy: CountingProxy, make_service: StartService, clock: Clock, platform: RealPrometheus
) -> None:
    """It equals what one question for the whole day gives, today, yesterday and last week."""
    dashboard = load_dashboard("ai-agents")
    [measure] = [m for m in dashboard.measures if m.share is not None]
    async with overview(proxy.url, make_service, clock) as service:
        found = cards(await read_overview(service))["success_rate"]
        assert (found["state"], found["words"]) == ("fresh", "90.0 %")
        assert {change["words"] for change in found["changes"]} == {"the same"}
        proxy.asked.clear()
        clock.offset_seconds += 301
        again = cards(await read_overview(service, 60))["success_rate"]
    assert again["words"] == "90.0 %"
    # Of each of the seven days in steps at most its newest edge.
    assert proxy.asked["query_range"] <= 7
    async with PrometheusClient(platform.url) as client:
        whole = render(measure.now, Resolution(300, SCRAPE))
        [asked] = (await client.query(whole)).samples
    assert asked.value == pytest.approx(90, rel=1e-3)


@pytest.mark.usefixtures("patient")
async def test_where_no_jobs_are_counted_the_day_is_asked_for_at_once(
    tmp_path: Path, make_service: StartService, clock: Clock
) -> None:
    end = int(time.time())
    times = np.arange(end - 8 * 86_400, end + 1, 60)
    rate = np.where(times < end - 2 * 86_400, 50.0, 80.0)
    series = {'ai_agents_enhancement_success_rate{tenant="acme"}': (times, rate)}
    with RealPrometheus(tmp_path, series=series) as server:
        async with (
            CountingProxy(server.port) as proxy,
            overview(proxy.url, make_service, clock) as service,
        ):
            found = cards(await read_overview(service))["success_rate"]
            proxy.asked.clear()
            clock.offset_seconds += 30
            again = cards(await read_overview(service, 10))["success_rate"]
            assert proxy.asked["query"] <= 2
    assert (
        (found["state"], found["words"]) == (again["state"], again["words"]) == ("fresh", "80.0 %")
    )
    assert [change["words"] for change in found["changes"]] == ["the same", "+30.0 points"]


@pytest.mark.usefixtures("patient")
async def test_past_figures_are_fetched_once_in_a_quarter_of_an_hour(
    proxy: CountingProxy, make_service: StartService, clock: Clock
) -> None:
    # The first step within a quarter of an hour, so that none passes in between.
    clock.offset_seconds = -(time.time() % 900) + 1
    async with overview(proxy.url, make_service, clock) as service:
        found = await read_overview(service)
        proxy.asked.clear()
        for _ in range(5):
            clock.offset_seconds += 100
            again = await read_overview(service, 60)
        assert proxy.asked["query"] <= 5 * 2
    assert cards(again)["queue_depth"]["changes"] == cards(found)["queue_depth"]["changes"]


async def test_where_every_job_fails_the_success_rate_is_zero(
    tmp_path: Path, make_service: StartService, clock: Clock
) -> None:
    end = int(time.time())
    times = np.arange(end - 1_800, end + _AHEAD_SECONDS, SCRAPE)
    series = {
        'ai_agents_enhancement_jobs_total{outcome="failed"}': (times, np.arange(len(times)) * 5.0)
    }
    with RealPrometheus(tmp_path, series=series) as server:
        async with overview(server.url, make_service, clock) as service:
            found = await read_overview(service)
    assert cards(found)["success_rate"]["words"] == "0.0 %"
    assert cards(found)["throughput"]["words"] == "10"
    assert found["verdict"]["state"] == "down"


@pytest.mark.usefixtures("patient")
async def test_a_rejected_ended_query_affects_no_other_figure(
    proxy: CountingProxy, make_service: StartService, clock: Clock
) -> None:
    broken = PRESET.read_text("utf-8").replace(
        "[ended]\nnow = 'sum by", "[ended]\nnow = 'nonsense by"
    )
    async with overview(proxy.url, make_service, clock, broken) as service:
        found = await read_overview(service)
        proxy.asked.clear()
        clock.offset_seconds += 20
        await read_overview(service, 10)
    assert proxy.asked["query"] <= 2
    assert {card["state"] for card in found["kpis"]} == {"fresh"}
    assert cards(found)["throughput"]["words"] == "20"


async def test_a_day_that_is_refused_takes_no_other_along(
    proxy: CountingProxy, make_service: StartService, clock: Clock
) -> None:
    broken = PRESET.read_text("utf-8").replace(
        "  max_over_time(ai_agents_queue_oldest",
        "  nonsense(ai_agents_queue_oldest",
    )
    async with overview(proxy.url, make_service, clock, broken) as service:
        found = cards(await read_overview(service))
        proxy.asked.clear()
        clock.offset_seconds += 20
        await read_overview(service, 10)
    sparks = {name: card["spark"] is not None for name, card in found.items()}
    assert sparks.pop("oldest_waiting") is False
    assert all(sparks.values())
    assert {card["state"] for card in found.values()} == {"fresh"}
    # What was read is kept; only what was refused is tried again, and the depth of the last
    # minutes has a scrape more where one has passed.
    assert 1 <= proxy.asked["query_range"] <= 2


async def test_of_a_histogram_the_buckets_around_the_quantile_are_enough(
    tmp_path: Path, make_service: StartService, clock: Clock
) -> None:
    """They give the same figure, and all of them are asked for again when they are not enough."""

    def asks(query: str) -> bool:
        return "queuescope_panel" in query and "latency_seconds_bucket" in query

    bounds = ("0.1", "0.2", "0.5", "1", "2", "5", "10", "20", "60", "120", "+Inf")
    end = int(time.time())
    times = np.arange(end - 1_800, end + _AHEAD_SECONDS, SCRAPE)
    jobs = np.arange(len(times), dtype=float)
    series = {
        f'ai_agents_enhancement_latency_seconds_bucket{{le="{bound}"}}': (
            times,
            jobs * (10 if float(bound) >= 2 else 9 if float(bound) >= 1 else 0),
        )
        for bound in bounds
    }
    dashboard = load_dashboard("ai-agents")
    with RealPrometheus(tmp_path, series=series) as server:
        async with FaultProxy(server.port) as proxy:
            url = f"http://127.0.0.1:{proxy.port}"
            service = make_service(url, dashboard=dashboard)
            async with over(service) as made:
                first = cards(await read_overview(made))["p95_latency"]
                assert (first["state"], first["words"]) == ("fresh", "1–2 s")
                proxy.forget()
                clock.offset_seconds += 30
                again = cards(await read_overview(made, 10))["p95_latency"]
                [narrow] = [r.query for r in proxy.seen if asks(r.query)]
                assert 'le=~"0\\\\.5|1|2|5|\\\\+Inf"' in narrow
                assert (again["state"], again["words"]) == ("fresh", "1–2 s")
                # A source that has one of them no more.
                lacking = narrow.replace("le=~", 'le!="2",le=~')
                proxy.spoil(ask_instead(lacking), lambda r: r.query == narrow)
                proxy.forget()
                clock.offset_seconds += 30
                whole = cards(await read_overview(made, 10))["p95_latency"]
                asked = ["le=~" in r.query for r in proxy.seen if asks(r.query)]
    assert asked == [True, False]
    assert (whole["state"], whole["words"]) == ("fresh", "1–2 s")


@pytest.fixture(scope="module")
def no_numbers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealPrometheus]:
    """Gauges of an exporter that could not count, and a counter that cannot be read."""
    end = int(time.time())
    times = np.arange(end - 7200, end + _AHEAD_SECONDS, SCRAPE)
    jobs = np.arange(len(times), dtype=float)
    series = {}
    for env, depth, workers in (("nan", np.nan, np.inf), ("inf", np.inf, np.nan)):
        for queue in ("a", "b"):
            name = f'ai_agents_queue_depth{{queue="{queue}",env="{env}"}}'
            series[name] = (times, np.full(len(times), depth))
        series[f'ai_agents_workers_up{{env="{env}"}}'] = (times, np.full(len(times), workers))
        for outcome, counted in (("succeeded", jobs), ("failed", np.full(len(times), np.nan))):
            name = f'ai_agents_enhancement_jobs_total{{outcome="{outcome}",env="{env}"}}'
            series[name] = (times, counted)
    with RealPrometheus(tmp_path_factory.mktemp("no-numbers"), series=series) as server:
        yield server


@pytest.mark.parametrize("env", ["nan", "inf"])
async def test_a_value_that_is_not_a_number_is_unknown_and_neither_idle_nor_healthy(
    env: str, no_numbers: RealPrometheus, make_service: StartService, clock: Clock
) -> None:
    dashboard, matchers = load_dashboard("ai-agents"), f'env="{env}"'
    service = make_service(no_numbers.url, dashboard=dashboard, matchers=matchers)
    async with over(service) as made:
        found = await read_overview(made)
        chart = panels(await service.get(View("1h"), max_age_seconds=1e9))["queue_depth"]
    of = {"queue_depth": env, "active_workers": {"nan": "inf", "inf": "nan"}[env]}
    of |= {"success_rate": "nan", "throughput": "nan"}
    for name, value in of.items():
        card = cards(found)[name]
        assert (card["state"], card["words"], card["level"]) == ("unavailable", "–", "none"), name
        text = {"nan": "NaN", "inf": "+Inf"}[value]
        assert card["cause"] == f"The result of its newest samples is {text}, which is not a number"
    assert found["verdict"]["state"] == "unknown"
    rules = {(finding["rule"], finding["state"]) for finding in found["verdict"]["findings"]}
    assert {(name, "unknown") for name in of if name != "throughput"} <= rules
    assert (chart["state"], chart["cause"]) == (
        *("empty", "All samples in this range are NaN or infinite."),
    )
