"""Rates of the last minutes if jobs have been counted for less: over the time with data."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from tests.real_prometheus import RealPrometheus, Samples
from tests.view.conftest import Clock, CountingProxy, StartService
from tests.view.overview.test_overview import cards, over, read_overview

from queuescope.panels import load_dashboard

pytestmark = pytest.mark.anyio

EVERY = 5
PER_SECOND = 4
OLD, YOUNG, GAP = 'env="old"', 'env="young"', 'env="gap"'


def samples(now: int) -> Samples:
    """Four jobs a second in three environments: for an hour; since 45 s; and for an hour, of which
    the scrapes of some minutes until 45 s ago are missing. In each, 20 jobs wait.
    """
    times = np.arange(now - 3_600, now + 600, EVERY)
    seen = {
        OLD: times,
        YOUNG: times[times >= now - 45],
        GAP: times[(times < now - 420) | (times >= now - 45)],
    }
    found: dict[str, tuple[Any, Any]] = {}
    for env, at in seen.items():
        jobs = PER_SECOND * (at - at[0]).astype(float)
        found[f'ai_agents_enhancement_jobs_total{{outcome="succeeded",{env}}}'] = (at, jobs)
        found[f"ai_agents_queue_depth{{{env}}}"] = (at, np.full(len(at), 20.0))
        found[f"ai_agents_queue_oldest_age_seconds{{{env}}}"] = (at, np.full(len(at), 900.0))
    return found


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealPrometheus]:
    folder = tmp_path_factory.mktemp("young")
    with RealPrometheus(folder, series=samples(int(time.time()))) as server:
        yield server


async def overview_of(
    url: str, make_service: StartService, clock: Clock, matchers: str
) -> dict[str, Any]:
    dashboard = load_dashboard("ai-agents")
    service = make_service(
        url, dashboard=dashboard, matchers=matchers, scrape_interval_seconds=EVERY
    )
    async with over(service) as made:
        return await read_overview(made)


@pytest.mark.parametrize("env", [OLD, YOUNG, GAP])
async def test_a_rate_uses_the_window_that_has_data_and_says_so(
    server: RealPrometheus, make_service: StartService, clock: Clock, env: str
) -> None:
    found = await overview_of(server.url, make_service, clock, env)
    throughput = cards(found)["throughput"]
    success = cards(found)["success_rate"]
    assert (throughput["state"], throughput["words"]) == ("fresh", "240")
    assert (success["words"], success["note"]) == ("100.0 %", throughput["note"])
    assert found["drain"]["completionPerMinute"] == pytest.approx(240, rel=0.02)
    if env == OLD:
        assert throughput["note"] == ""
    else:
        assert throughput["note"].startswith("over ")
        assert any("Measured over" in line[0] for line in throughput["details"])


@pytest.mark.usefixtures("patient")
async def test_where_it_began_is_looked_for_once(
    server: RealPrometheus, make_service: StartService, clock: Clock
) -> None:
    dashboard = load_dashboard("ai-agents")
    async with CountingProxy(server.port) as proxy:
        service = make_service(
            proxy.url, dashboard=dashboard, matchers=OLD, scrape_interval_seconds=EVERY
        )
        async with over(service) as made:
            await read_overview(made)
            proxy.asked.clear()
            for _ in range(3):
                clock.offset_seconds += 20
                await read_overview(made, 10)
            assert proxy.asked["query"] <= 3 * 2
