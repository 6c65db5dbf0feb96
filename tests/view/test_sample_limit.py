"""A week of more samples than Prometheus may hold at once: asked in parts, or with a remedy."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pytest
from tests.real_prometheus import RealPrometheus, Samples
from tests.view.conftest import CountingProxy, StartService, panels
from tests.view.test_service import values_of

from queuescope.panels import Resolution, load_dashboard, render
from queuescope.prometheus import PrometheusClient
from queuescope.timeseries import Grid
from queuescope.view import View

pytestmark = pytest.mark.anyio

SCRAPE = 120
HOUR = 3600
NOW = int(time.time())
ALLOWED = 60_000
"""The success rate of a week takes more than three times as many here."""


def _samples() -> Samples:
    times = np.arange(NOW - 8 * 86_400, NOW + 3 * HOUR, SCRAPE)
    jobs = np.arange(len(times), dtype=float)
    series = {
        f'ai_agents_enhancement_jobs_total{{outcome="{outcome}",tenant="t{n}"}}': (
            times,
            share * jobs,
        )
        for n in range(10)
        for outcome, share in (("succeeded", 9), ("failed", 1))
    }
    return {**series, 'ai_agents_queue_depth{queue="a"}': (times, np.full(len(times), 12.0))}


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealPrometheus]:
    server = RealPrometheus(
        tmp_path_factory.mktemp("limited"),
        series=_samples(),
        options=[f"--query.max-samples={ALLOWED}"],
    )
    with server:
        yield server


async def test_a_week_is_drawn_from_parts_that_are_remembered(
    prometheus: RealPrometheus, make_service: StartService
) -> None:
    service = make_service(prometheus.url)
    try:
        found = panels(await service.get(View("7d"), max_age_seconds=1e9))
    finally:
        await service.aclose()
    for name, value in (("queue_depth", 12.0), ("success_rate", 90.0)):
        assert found[name]["state"] == "fresh", found[name]["cause"]
        values = values_of(found[name])
        assert len(values) >= 7 * 24
        np.testing.assert_allclose(values, value, rtol=1e-6)

    panel = load_dashboard("ai-agents").panels[1]
    async with CountingProxy(prometheus.port) as proxy, PrometheusClient(proxy.url) as client:
        resolution = Resolution(HOUR, SCRAPE, await client.ranges_are_left_open())
        query = render(panel.query, resolution)
        grid = Grid.ending_at(NOW, 7 * 86_400, HOUR)
        first = await client.query_range(query, grid)
        asked_first = proxy.asked["query_range"]
        again = await client.query_range(query, grid)
    asked_again = proxy.asked["query_range"] - asked_first
    np.testing.assert_array_equal(first.frame.values, again.frame.values)
    assert asked_first > asked_again > 1, "what was refused once is not asked for again"


async def test_too_many_samples_even_for_one_step_name_the_remedy(
    prometheus: RealPrometheus, make_service: StartService
) -> None:
    prometheus.kill()
    prometheus.options = ["--query.max-samples=20"]
    prometheus.start()
    service = make_service(prometheus.url, scrape_interval_seconds=SCRAPE)
    try:
        found = panels(await service.get(View("7d"), max_age_seconds=1e9))
    finally:
        await service.aclose()
    assert found["success_rate"]["state"] == "unavailable"
    assert found["success_rate"]["cause"] == (
        "This query reads more samples at once than Prometheus allows (--query.max-samples); a "
        "recording rule, or a narrower “selector”, makes it smaller"
    )
