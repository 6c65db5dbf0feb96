"""Seven days of each worker, from a real Prometheus: read in advance, with gaps and
faults shown.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from tests.real_prometheus import RealPrometheus
from tests.view.conftest import Clock, CountingProxy, StartService

from queuescope.panels import PerWorker, load_dashboard
from queuescope.timeseries import Floats, Reading, State
from queuescope.view.charts.worker_trends import (
    MAX_WORKERS,
    TREND_SPAN_SECONDS,
    TREND_STEP_SECONDS,
    TrendBoard,
    WorkerTrends,
)

pytestmark = pytest.mark.anyio

SCRAPE = 60
# Samples go on for so long after the start, so that an hour that ends during a test is whole.
AHEAD_SECONDS = 900
HOSTILE = '"}) or vector(1) # $worker \\ \u202e<b>'
YOUNG_SECONDS = 2 * 86_400


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealPrometheus]:
    """Three attempts a minute, one of four failed; a young worker; and a name that would escape."""
    now = int(time.time())
    times = np.arange(
        now - TREND_SPAN_SECONDS - 2 * TREND_STEP_SECONDS, now + AHEAD_SECONDS, SCRAPE
    )
    steady = np.arange(len(times), dtype=float)
    young = times >= now - YOUNG_SECONDS
    escaped = HOSTILE.replace("\u202e", "\ufffd").replace("\\", "\\\\").replace('"', '\\"')
    name = "ai_agents_worker_jobs_total"
    series: dict[str, tuple[Any, Any]] = {
        f'{name}{{worker="steady@h",outcome="succeeded",env="prod"}}': (times, 2.25 * steady),
        f'{name}{{worker="steady@h",outcome="failed",env="prod"}}': (times, 0.75 * steady),
        f'{name}{{worker="steady@h",outcome="failed",env="test"}}': (times, 100 * steady),
        f'{name}{{worker="young@h",outcome="succeeded",env="prod"}}': (
            times[young],
            np.arange(young.sum(), dtype=float),
        ),
        f'{name}{{worker="idle@h",outcome="succeeded",env="prod"}}': (times, 0 * steady),
        f'{name}{{worker="{escaped}",outcome="succeeded",env="prod"}}': (times, 7 * steady),
    }
    with RealPrometheus(tmp_path_factory.mktemp("trends"), series=series) as server:
        yield server


class Site:
    def __init__(self, board: TrendBoard, trends: WorkerTrends) -> None:
        self.board = board
        self.trends = trends


@asynccontextmanager
async def site(
    url: str, make_service: StartService, clock: Clock, matchers: str = 'env="prod"'
) -> AsyncIterator[Site]:
    dashboard = load_dashboard("ai-agents")
    service = make_service(url, dashboard=dashboard, timeout_seconds=10, matchers=matchers)
    board = TrendBoard(clock)
    per_worker = dashboard.per_worker
    assert isinstance(per_worker, PerWorker)
    trends = WorkerTrends(board, service.present, service.reader, per_worker)
    try:
        yield Site(board, trends)
    finally:
        await service.aclose()


def rates(trend: Reading) -> Floats:
    assert trend.frame is not None
    return np.asarray(trend.frame.values[0])


async def test_a_trend_is_what_the_worker_ended_in_each_hour(
    platform: RealPrometheus, make_service: StartService, clock: Clock
) -> None:
    async with site(platform.url, make_service, clock) as here:
        assert here.board.look(["steady@h"]) == {}
        await here.trends.read_due()
        trend = here.board.look(["steady@h"])["steady@h"]
    assert (trend.state, trend.cause) == (State.FRESH, "")
    assert trend.frame is not None
    assert 0 <= time.time() - trend.frame.grid.end < TREND_STEP_SECONDS + 60
    assert len(rates(trend)) == TREND_SPAN_SECONDS // TREND_STEP_SECONDS + 1
    np.testing.assert_allclose(rates(trend), 3.0, rtol=0.03)


async def test_a_name_is_text_in_the_question(
    platform: RealPrometheus, make_service: StartService, clock: Clock
) -> None:
    async with site(platform.url, make_service, clock) as here:
        here.board.look([HOSTILE])
        await here.trends.read_due()
        trend = here.board.look([HOSTILE])[HOSTILE]
    np.testing.assert_allclose(rates(trend), 7.0, rtol=0.03)


async def test_no_job_is_zero_and_no_worker_is_a_gap(
    platform: RealPrometheus, make_service: StartService, clock: Clock
) -> None:
    names = ["idle@h", "young@h", "unknown@h"]
    async with site(platform.url, make_service, clock) as here:
        here.board.look(names)
        await here.trends.read_due()
        found = here.board.look(names)
    idle, young, unknown = (found[name] for name in names)
    assert not rates(idle).any()
    missing = np.isnan(rates(young))
    assert missing[: (TREND_SPAN_SECONDS - YOUNG_SECONDS) // TREND_STEP_SECONDS - 1].all()
    assert not missing[-24:].any()
    assert (unknown.state, unknown.frame) == (State.EMPTY, None)
    assert unknown.cause


async def test_prometheus_is_queried_once_an_hour_and_only_for_viewers(
    platform: RealPrometheus, make_service: StartService, clock: Clock
) -> None:
    async with (
        CountingProxy(platform.port) as proxy,
        site(proxy.url, make_service, clock) as here,
    ):

        async def asked() -> int:
            before = proxy.asked["query_range"]
            await here.trends.read_due()
            return proxy.asked["query_range"] - before

        assert await asked() == 0
        here.board.look(["steady@h", "idle@h"])
        assert await asked() == 2
        here.board.look(["steady@h", "idle@h"])
        assert await asked() == 0
        clock.offset_seconds += TREND_STEP_SECONDS + 180
        assert here.board.look([]) == {}
        assert await asked() == 0
        assert here.board.look(["steady@h"]) == {}
        assert await asked() <= 1
        assert here.board.look(["steady@h"])["steady@h"].frame is not None


async def test_an_outage_is_shown_and_ends(
    platform: RealPrometheus, make_service: StartService, clock: Clock
) -> None:
    async with (
        CountingProxy(platform.port) as proxy,
        site(proxy.url, make_service, clock) as here,
    ):
        await proxy.refuse()
        here.board.look(["steady@h"])
        await here.trends.read_due()
        away = here.board.look(["steady@h"])["steady@h"]
        assert (away.state, away.frame) == (State.UNAVAILABLE, None)
        assert away.cause
        await proxy.serve()
        clock.offset_seconds += 31
        here.board.look(["steady@h"])
        await here.trends.read_due()
        assert here.board.look(["steady@h"])["steady@h"].state is State.FRESH
        await proxy.refuse()
        clock.offset_seconds += 40
        here.board.look(["steady@h"])
        await here.trends.read_due()
        # What was final is not asked for again before the hour is over.
        assert here.board.look(["steady@h"])["steady@h"].state is State.FRESH


async def test_more_workers_than_the_limit_are_left_out(clock: Clock) -> None:
    board = TrendBoard(clock)
    board.look([f"w{number}" for number in range(MAX_WORKERS + 5)])
    assert len(board.wanted()) == MAX_WORKERS
    # Watched workers stay, and make room once no one looks at them any more.
    clock.offset_seconds += 61
    board.look(["other"])
    assert board.wanted() == ("other",)
