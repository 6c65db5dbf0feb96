"""Where the data begin within a range: shown if they do, and not for a mere gap."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pytest
from tests.real_prometheus import RealPrometheus
from tests.view.conftest import CountingProxy, StartService, panels

from queuescope.view import View

pytestmark = pytest.mark.anyio

HOUR = 3_600
SCRAPE = 60
NOW = int(time.time())
FIRST = NOW // HOUR * HOUR - 5 * HOUR


def regular(start: float, end: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.arange(start, end, SCRAPE, dtype=np.float64)


@pytest.fixture(scope="module")
def young(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealPrometheus]:
    """Depth since five hours; success only before and after the first hours of the day's range."""
    # Beyond now: what seems to have ended is looked for every two seconds.
    end = NOW + 3 * HOUR
    depth = regular(FIRST, end)
    rate = np.concatenate([regular(NOW - 40 * HOUR, NOW - 30 * HOUR), regular(FIRST, end)])
    series = {
        'ai_agents_queue_depth{queue="a"}': (depth, depth * 0),
        'ai_agents_enhancement_success_rate{tenant="a"}': (rate, rate * 0 + 99),
    }
    with RealPrometheus(tmp_path_factory.mktemp("young"), series=series) as server:
        yield server


@pytest.mark.parametrize("warm", [True, False], ids=["warm", "cold"])
async def test_a_range_that_begins_before_the_first_sample_says_where_the_data_start(
    young: RealPrometheus, warm: bool, make_service: StartService
) -> None:
    service = make_service(young.url, scrape_interval_seconds=SCRAPE)
    if warm:
        await service.get(View("24h"), max_age_seconds=0)
    found = panels(await service.get(View("24h"), max_age_seconds=0))
    await service.aclose()
    assert found["queue_depth"]["dataStart"] == FIRST
    # Before the range there are older samples: what is missing is a gap.
    assert found["success_rate"]["state"] == "fresh"
    assert found["success_rate"]["dataStart"] is None
    # Without any data, the reason for the empty chart says so.
    assert (found["latency"]["state"], found["latency"]["dataStart"]) == ("empty", None)


async def test_a_range_within_the_data_says_nothing(
    young: RealPrometheus, make_service: StartService
) -> None:
    service = make_service(young.url, scrape_interval_seconds=SCRAPE)
    found = panels(await service.get(View("1h"), max_age_seconds=0))
    await service.aclose()
    assert found["queue_depth"]["dataStart"] is None


async def test_the_beginning_is_not_searched_for_with_every_refresh(
    young: RealPrometheus, make_service: StartService
) -> None:
    async with CountingProxy(young.port) as proxy:
        service = make_service(proxy.url, scrape_interval_seconds=SCRAPE)
        await service.get(View("24h"), max_age_seconds=0)
        await service.get(View("24h"), max_age_seconds=0)
        proxy.asked.clear()
        found = panels(await service.get(View("24h"), max_age_seconds=0))
        await service.aclose()
    assert found["queue_depth"]["dataStart"] is not None
    assert proxy.asked["query"] <= 2  # the time, and the present values
