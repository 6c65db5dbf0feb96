"""A breakdown by a label of 100,000 values: the worst of them, how many more, and no freeze."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from tests.real_prometheus import RealPrometheus
from tests.snapshot.conftest import Clock, CountingProxy, StartService, panels

from queuescope.panels import Dashboard, load_dashboard
from queuescope.snapshot import View

pytestmark = pytest.mark.anyio

MANY = 100_000
SCRAPE = 300
PRESET = load_dashboard("ai-agents")
WORST = {12_345: 900.0, 77_777: 800.0, 99_999: 700.0, 3: 600.0, 50_000: 500.0}
ENDED = 4_242
"""It was the worst of all, and ended half an hour ago."""


def depth_alone() -> Dashboard:
    return replace(PRESET, panels=(PRESET.panels[0],))


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealPrometheus]:
    now = int(time.time())
    times = np.arange(now // SCRAPE * SCRAPE - 3_000, now + 1_200, SCRAPE)
    series = {}
    for number in range(MANY):
        depth = WORST.get(number, number % 100)
        own = times[times < now - 1_800] if number == ENDED else times
        values = np.full(len(own), 5_000.0 if number == ENDED else depth)
        name = f'ai_agents_queue_depth{{queue="q.{number:06}(x)|"}}'
        series[name] = (own, values)
    with RealPrometheus(tmp_path_factory.mktemp("crowd"), series=series) as server:
        yield server


async def test_the_worst_of_a_crowd_are_shown_and_the_others_are_counted(
    crowded: RealPrometheus, make_service: StartService, clock: Clock
) -> None:
    async with CountingProxy(crowded.port) as proxy:
        service = make_service(
            proxy.url,
            dashboard=depth_alone(),
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
            assert panel["hidden"] == MANY - 5
            if life == "warm":
                assert proxy.asked["label/queue/values"] == 0
        # In an outage the last good data are those of the same ones.
        await proxy.refuse()
        clock.offset_seconds += 120
        panel = panels(await service.get(view, max_age_seconds=0))["queue_depth"]
        assert panel["state"] == "stale"
        assert [trace["name"] for trace in panel["figure"]["data"]] == names
        assert panel["hidden"] == MANY - 5
        await proxy.serve()
        clock.offset_seconds += 30
        # Without the breakdown the crowd is one curve.
        whole = panels(await service.get(View("1h"), max_age_seconds=0))["queue_depth"]
        assert (whole["state"], whole["hidden"]) == ("fresh", 0)
        await service.aclose()
