"""A breakdown by a label with very many values: the worst of them, the number of others, and no
long wait.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.real_prometheus import RealPrometheus
from tests.view.conftest import Clock, CountingProxy, StartService, panels

from queuescope.panels import Dashboard, load_dashboard
from queuescope.view import View

pytestmark = pytest.mark.anyio

SCRAPE = 300
PRESET = load_dashboard("ai-agents")
WORST = {2_345: 900.0, 1_777: 800.0, 4_999: 700.0, 3: 600.0, 3_000: 500.0}
ENDED = 4_242
"""It was the worst of all, and ended half an hour ago."""
FEW = 600
"""Just very many values, beside the other metric."""
IN_TURN = (7, 8)
"""Of these two of the few one is the worst for some seconds, and then the other."""
TURN_SECONDS = 3
BUSY = 20_000.0


def depth_alone() -> Dashboard:
    return replace(PRESET, panels=(PRESET.panels[0],))


def depth_in_turn(number: int, at: Any) -> Any:
    return np.where(at // TURN_SECONDS % 2 == IN_TURN.index(number), BUSY + at % 1_000, 1.0)


def success_in_turn(number: int, at: Any) -> Any:
    """The busy one fails."""
    depth = depth_in_turn(number, at)
    return np.where(depth >= BUSY, (depth - BUSY) / 100, 99.0)


@pytest.fixture(scope="module")
def many(request: pytest.FixtureRequest) -> int:
    """How many queues there are."""
    return 100_000 if request.config.getoption("--long") else 5_000


@pytest.fixture(scope="module")
def crowded(many: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealPrometheus]:
    now = int(time.time())
    times = np.arange(now // SCRAPE * SCRAPE - 3_000, now + 1_200, SCRAPE)
    series = {}
    for number in range(many):
        depth = WORST.get(number, number % 100)
        own = times[times < now - 1_800] if number == ENDED else times
        values = np.full(len(own), 5_000.0 if number == ENDED else depth)
        name = f'ai_agents_queue_depth{{queue="q.{number:06}(x)|"}}'
        series[name] = (own, values)
    for number in range(FEW):
        own, waiting = times, np.full(len(times), number % 100)
        success = 99.0 - waiting / 2
        if number in IN_TURN:
            # Not before the range has been looked at.
            own = np.arange(now, now + 1_200)
            waiting, success = depth_in_turn(number, own), success_in_turn(number, own)
        labels = f'{{queue="{number:06}",scene="few"}}'
        series[f"ai_agents_queue_depth{labels}"] = (own, waiting)
        series[f"ai_agents_enhancement_success_rate{labels}"] = (own, success)
    with RealPrometheus(tmp_path_factory.mktemp("crowd"), series=series) as server:
        yield server


async def test_the_worst_of_many_values_are_shown_and_the_others_counted(
    crowded: RealPrometheus, many: int, make_service: StartService, clock: Clock
) -> None:
    async with CountingProxy(crowded.port) as proxy:
        service = make_service(
            proxy.url,
            dashboard=depth_alone(),
            matchers='scene=""',
            scrape_interval_seconds=SCRAPE,
            breakdown_limit=5,
            timeout_seconds=120,
        )
        view = View("1h", by="queue")
        for life in ("cold", "warm"):
            proxy.asked.clear()
            panel = panels(await service.get(view, max_age_seconds=0))["queue_depth"]
            assert panel["state"] == "fresh", panel["cause"]
            names = [trace["name"] for trace in panel["figure"]["data"]]
            shown = {int(re.sub(r"\D", "", name)) for name in names}
            assert shown == {ENDED, *sorted(WORST, key=lambda n: -WORST[n])[:4]}
            assert panel["hidden"] == many - 5
            if life == "warm":
                assert proxy.asked["label/queue/values"] == 0
        # In an outage the last good data are those of the same ones.
        await proxy.refuse()
        clock.offset_seconds += 120
        panel = panels(await service.get(view, max_age_seconds=0))["queue_depth"]
        assert panel["state"] == "stale"
        assert [trace["name"] for trace in panel["figure"]["data"]] == names
        assert panel["hidden"] == many - 5
        await proxy.serve()
        clock.offset_seconds += 30
        # Without the breakdown they are one curve.
        whole = panels(await service.get(View("1h"), max_age_seconds=0))["queue_depth"]
        assert (whole["state"], whole["hidden"]) == ("fresh", 0)
        await service.aclose()


async def test_the_worst_value_of_the_open_step_is_drawn_with_the_next_refresh(
    crowded: RealPrometheus, make_service: StartService
) -> None:
    """With its value now, and the worst of the open step, as in a breakdown of few."""
    service = make_service(
        crowded.url,
        dashboard=replace(PRESET, panels=PRESET.panels[:2]),
        matchers='scene="few"',
        scrape_interval_seconds=SCRAPE,
        breakdown_limit=5,
        timeout_seconds=120,
    )
    view = View("24h", by="queue")
    seen: dict[int, set[float]] = {}
    until = time.monotonic() + 120
    refreshes = begun = compared = 0
    while compared < 3 or min(len(seen.get(number, ())) for number in IN_TURN) < 2:
        assert time.monotonic() < until, seen
        found = panels(await service.get(view, max_age_seconds=0))
        shown = {}
        for name, panel in found.items():
            assert panel["state"] == "fresh", panel["cause"]
            shown[name] = {int(one["name"]): one for one in panel["figure"]["data"]}
            assert len(shown[name]) == 5
            assert panel["hidden"] == FEW - 5
        live = found["queue_depth"]["figure"]["live"]
        if begun != live["from"]:
            begun = live["from"]
            seen.clear()
        refreshes += 1
        newest = live["at"] // 1
        busy = next(one for one in IN_TURN if depth_in_turn(one, newest) >= BUSY)
        seen.setdefault(busy, set()).add(newest)
        # Whose turn it is is there at once, and moves; whose turn it was stays, with its peak. The
        # success rate is looked at as often as is scraped, which a turn may fall between.
        success = shown["success_rate"].get(busy)
        if success is not None:
            assert success["live"] == pytest.approx(success_in_turn(busy, newest), rel=1e-6)
            compared += 1
        for number in seen:
            depth = shown["queue_depth"][number]
            assert depth["live"] == depth_in_turn(number, newest)
            if number != busy:
                assert depth["soFar"] >= BUSY
        await asyncio.sleep(0.2)
    assert refreshes >= compared > 2
    await service.aclose()
