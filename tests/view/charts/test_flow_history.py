"""The strip on the depth chart: its states follow from the samples, and a gap stays one."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import orjson
import pytest
from tests.flow_samples import SCRAPE, FlowSamples
from tests.real_prometheus import RealPrometheus
from tests.view.conftest import Clock, CountingProxy, StartService

from queuescope.panels import load_dashboard, parse_dashboard
from queuescope.view import View, ViewService
from queuescope.view.charts.flow_history import FlowHistories

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def flow() -> FlowSamples:
    return FlowSamples(int(time.time()))


@pytest.fixture(scope="module")
def platform(
    tmp_path_factory: pytest.TempPathFactory, flow: FlowSamples
) -> Iterator[RealPrometheus]:
    with RealPrometheus(tmp_path_factory.mktemp("flow"), series=flow.samples()) as server:
        yield server


@asynccontextmanager
async def histories(
    url: str, make_service: StartService, clock: Clock, preset: str = "", **options: Any
) -> AsyncIterator[FlowHistories]:
    dashboard = parse_dashboard(preset, "t", "test") if preset else load_dashboard("ai-agents")
    service: ViewService = make_service(url, dashboard=dashboard, timeout_seconds=20, **options)
    try:
        yield service.flow_histories
    finally:
        await service.aclose()


async def read_flow(made: FlowHistories, view: View) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(await made.get(view))
    return found


def numbers(packed: dict[str, str]) -> list[float]:
    raw = base64.b64decode(packed["bdata"])
    values: list[float] = np.frombuffer(raw, f"<{packed['dtype']}").tolist()
    return values


def is_inside_a_counters_gap(flow: FlowSamples, at: float, window: int) -> bool:
    """Prometheus extends a rate to the ends of its window only where samples stand near them."""
    return flow.gap[0] - SCRAPE < at < flow.gap[1] + window + 2 * SCRAPE


@pytest.mark.parametrize("step", [60, 300, 900])
async def test_the_strip_agrees_with_the_samples(
    platform: RealPrometheus, make_service: StartService, clock: Clock, flow: FlowSamples, step: int
) -> None:
    end = int(flow.times[-1]) // 900 * 900
    view = View(None, end - 6 * 3600, end, step)
    async with histories(platform.url, make_service, clock) as made:
        found = await read_flow(made, view)
    assert (found["state"], found["from"], found["step"]) == ("fresh", end - 6 * 3600, step)
    steps = max(1, 600 // step)
    window = step * steps
    moving = -(-180 // step)
    words = [found["windowWords"][str(seconds)] for seconds in found["windows"]]
    arrived, completed = numbers(found["arrivedPerMinute"]), numbers(found["completedPerMinute"])
    at = np.arange(end - 6 * 3600, end + 1, step)
    assert len(found["states"]) == len(arrived) == len(completed) == len(at)
    seen = set()
    for n, t in enumerate(at.tolist()):
        depths = [flow.waiting(t - k * step) for k in range(steps, -1, -1)]
        ended = [flow.completed(t - k * step, step) for k in range(steps)]
        done = float(np.mean(ended))
        if is_inside_a_counters_gap(flow, t, window):
            assert found["states"][n] == "-" or np.isfinite([*depths, done]).all()
            continue
        newest, net = depths[-1] - depths[-2], depths[-1] - depths[-1 - moving]
        over = moving
        if newest * net < 0 and abs(newest) > 1:
            # It has turned within these minutes.
            net, over = newest, 1
        told_net, told_over = net, over
        if found["states"][n] in "xw":
            # Whether anything was completed is judged over the whole window.
            told_net, told_over = depths[-1] - depths[0], steps
        assert words[n] == f"{told_over * step // 60} min"
        lately, grown = float(np.mean(ended[:told_over])), told_net / (told_over * step)
        np.testing.assert_allclose(completed[n], 60 * lately, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(arrived[n], 60 * max(0, lately + grown), rtol=1e-5, atol=1e-5)
        jobs = done * window
        if depths[-1] == 0:
            state = "e"
        elif jobs < 0.5:
            falls = net < -max(1, 0.02 * max(0, done * over * step + net))
            state = "w" if min(depths) == 0 or falls else "x"
        elif abs(net) <= max(1, 0.02 * max(0, done * over * step + net)):
            state = "s"
        else:
            state = "g" if net > 0 else "c"
        assert found["states"][n] == state, (t, depths, done)
        seen.add(state)
    assert seen >= set("ecgx")


async def test_a_gap_in_the_samples_is_unknown_and_never_a_state(
    platform: RealPrometheus, make_service: StartService, clock: Clock, flow: FlowSamples
) -> None:
    end = int(flow.times[-1]) // 900 * 900
    async with histories(platform.url, make_service, clock) as made:
        found = await read_flow(made, View(None, end - 6 * 3600, end, 300))
    first, last = flow.gap
    for n, state in enumerate(found["states"]):
        at = found["from"] + 300 * n
        if first + 5 * SCRAPE < at < last:
            assert state == "-"
            assert np.isnan(numbers(found["completedPerMinute"])[n])


async def test_however_many_ask_it_is_asked_for_once_in_a_step(
    platform: RealPrometheus, make_service: StartService, clock: Clock
) -> None:
    async with (
        CountingProxy(platform.port) as proxy,
        histories(proxy.url, make_service, clock) as made,
    ):
        end = int(time.time()) // 3600 * 3600 - 3600
        view = View(None, end - 7200, end)
        bodies = await asyncio.gather(*(made.get(view) for _ in range(50)))
        assert proxy.asked["query_range"] == 1
        by_tenant = View(None, end - 7200, end, None, "tenant")
        assert {*bodies, await made.get(by_tenant)} == {bodies[0]}
        assert proxy.asked["query_range"] == 1


async def test_in_an_outage_the_last_good_strip_is_stale_with_its_cause(
    platform: RealPrometheus, make_service: StartService, clock: Clock
) -> None:
    async with (
        CountingProxy(platform.port) as proxy,
        histories(proxy.url, make_service, clock) as made,
    ):
        good = await read_flow(made, View("1h"))
        await proxy.refuse()
        clock.offset_seconds += 3600
        bad = await read_flow(made, View("1h"))
        never = await read_flow(made, View("7d"))
        await proxy.serve()
    assert good["state"] == "fresh"
    assert bad["state"] == "stale"
    assert "connect" in bad["cause"]
    assert bad["asOf"] == pytest.approx(good["asOf"], abs=2)
    # The hour that has passed meanwhile is not known.
    assert set(bad["states"][1:]) == {"-"}
    assert (never["state"], never["states"]) == ("unavailable", "")


async def test_without_a_counter_of_completed_jobs_there_is_no_strip_and_it_says_so(
    platform: RealPrometheus, make_service: StartService, clock: Clock
) -> None:
    async with histories(platform.url, make_service, clock, matchers='queue="a"') as made:
        found = await read_flow(made, View("1h"))
    assert (found["state"], found["states"]) == ("empty", "")
    assert "completed" in found["cause"]


async def test_a_panel_file_without_the_two_queries_asks_nothing(
    platform: RealPrometheus, make_service: StartService, clock: Clock
) -> None:
    preset = """
[[panel]]
id = "queue_depth"
title = "Depth"
kind = "count"
unit = "jobs"
query = "sum$by(ai_agents_queue_depth{$matchers})"
now = "sum(ai_agents_queue_depth{$matchers})"
point = "peak within {step}"
metrics = ["ai_agents_queue_depth"]
"""
    async with (
        CountingProxy(platform.port) as proxy,
        histories(proxy.url, make_service, clock, preset) as made,
    ):
        found = await read_flow(made, View("1h"))
        assert not proxy.asked
    assert (found["state"], found["states"]) == ("empty", "")
