"""A gauge of success that holds a ratio, such as 0.97, is read as 97 %; one of percent as it is."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pytest
from tests.real_prometheus import RealPrometheus
from tests.view.conftest import StartService, panels
from tests.view.test_service import values_of

from queuescope.panels import Resolution, load_dashboard, render
from queuescope.prometheus import PrometheusClient
from queuescope.view import View

pytestmark = pytest.mark.anyio

SCRAPE = 15
NOW = int(time.time())
GAUGE = "ai_agents_enhancement_success_rate"
PANEL = load_dashboard("ai-agents").panels[1]
TIMES = np.arange(NOW - 26 * 3600, NOW + 3 * 3600, SCRAPE)
YOUNG = np.arange(NOW - 180, NOW + 3 * 3600, SCRAPE)
OF_LATE = NOW - 2 * 3600


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealPrometheus]:
    of = {
        "ratio": (TIMES, np.full(len(TIMES), 0.97)),
        "percent": (TIMES, np.full(len(TIMES), 97.0)),
        "all": (TIMES, np.full(len(TIMES), 1.0)),
        "nothing": (TIMES, np.zeros(len(TIMES))),
        "young": (YOUNG, np.full(len(YOUNG), 0.97)),
        # Nearly everything fails for two hours: still a percentage.
        "failing": (TIMES, np.where(TIMES < OF_LATE, 97.0, 0.9)),
        # It was 0 % until a minute ago.
        "recovered": (TIMES, np.where(TIMES < NOW - 60, 0.0, 97.0)),
    }
    series = {f'{GAUGE}{{env="{env}"}}': samples for env, samples in of.items()}
    jobs = "ai_agents_enhancement_jobs_total"
    counted = np.arange(len(TIMES), dtype=float)
    series |= {
        f'{jobs}{{env="counted",outcome="succeeded",tenant="old"}}': (TIMES, counted),
        f'{jobs}{{env="counted",outcome="failed",tenant="new"}}': (TIMES, counted),
    }
    with RealPrometheus(tmp_path_factory.mktemp("gauges"), series=series) as server:
        yield server


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ("ratio", 97.0),
        ("percent", 97.0),
        ("all", 100.0),
        ("nothing", 0.0),
        ("young", 97.0),
        ("failing", 0.9),
        ("recovered", 97.0),
    ],
)
async def test_a_ratio_is_read_as_percent_and_a_percentage_as_it_is(
    prometheus: RealPrometheus, env: str, expected: float
) -> None:
    async with PrometheusClient(prometheus.url) as client:
        resolution = Resolution(300, SCRAPE, await client.ranges_are_left_open())
        text = render(PANEL.now, resolution, f'env="{env}"')
        (sample,) = (await client.query(text, at=NOW)).samples
    assert sample.value == pytest.approx(expected)


async def test_chart_and_figure_of_a_ratio_agree(
    prometheus: RealPrometheus, make_service: StartService
) -> None:
    service = make_service(prometheus.url, matchers='env="ratio"')
    try:
        found = panels(await service.get(View("24h"), max_age_seconds=1e9))["success_rate"]
    finally:
        await service.aclose()
    assert found["state"] == "fresh", found["cause"]
    np.testing.assert_allclose(values_of(found), 97.0)
    assert found["now"]["words"] == "97.0 %"


async def test_a_tenant_without_a_successful_job_has_a_rate_of_zero(
    prometheus: RealPrometheus, make_service: StartService
) -> None:
    """Its first success would be the first sample of that outcome; until then all is failure."""
    service = make_service(prometheus.url, matchers='env="counted",tenant="new"')
    try:
        alone = panels(await service.get(View("1h"), max_age_seconds=1e9))["success_rate"]
    finally:
        await service.aclose()
    assert alone["state"] == "fresh", alone["cause"]
    assert set(values_of(alone)) == {0.0}
    assert alone["now"]["words"] == "0.0 %"
    service = make_service(prometheus.url, matchers='env="counted"')
    try:
        by = panels(await service.get(View("1h", by="tenant"), max_age_seconds=1e9))
    finally:
        await service.aclose()
    curves = by["success_rate"]["figure"]["data"]
    found = {curve["name"]: set(values_of(by["success_rate"], n)) for n, curve in enumerate(curves)}
    assert found == {"new": {0.0}, "old": {100.0}}
