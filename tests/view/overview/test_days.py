"""Days that are read in one query for several cards equal those of separate queries."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import numpy as np
import pytest
from tests.fault_server import http_response
from tests.faults.proxy import FaultProxy, Request, say
from tests.real_prometheus import RealPrometheus
from tests.view.conftest import Clock

from queuescope.cache import CachedReader, FrameStore
from queuescope.errors import SourceError, SourceErrorKind
from queuescope.known import Known
from queuescope.panels import load_dashboard
from queuescope.prometheus import PrometheusClient
from queuescope.timeseries import Grid, Reading, State
from queuescope.view.overview.days import DAY_SECONDS, DAY_STEP_SECONDS, Days
from queuescope.view.source.scrapes import Scrape, Scrapes
from queuescope.view.source.state import Contact, SourceState

pytestmark = pytest.mark.anyio

DASHBOARD = load_dashboard("ai-agents")
MEASURES = {measure.id: measure for measure in DASHBOARD.measures}
WORKERS, THROUGHPUT = MEASURES["active_workers"].panel, MEASURES["throughput"].panel
NOW = float(time.time() // DAY_STEP_SECONDS * DAY_STEP_SECONDS + 60)
FAILS = say(http_response(b"{}", status="500 Internal Server Error"))
DOWN = SourceError(SourceErrorKind.TIMEOUT, "It does not answer in time")


@pytest.fixture
async def proxy(prometheus: RealPrometheus) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(prometheus.port) as proxy:
        yield proxy


@pytest.fixture
async def client(proxy: FaultProxy) -> AsyncIterator[PrometheusClient]:
    async with PrometheusClient(f"http://127.0.0.1:{proxy.port}") as client:
        yield client


@pytest.fixture
def days(client: PrometheusClient, clock: Clock) -> Days:
    reader = CachedReader(client, FrameStore(None, 1_000_000), horizon_seconds=300, clock=clock)
    return Days(reader, DASHBOARD, matchers="", clock=clock)


def source_state(now: float = NOW, error: SourceError | None = None) -> SourceState:
    contact = Known(Contact(epoch="first"), NOW, error)
    return SourceState(now, Scrapes(Scrape(30, 30), left_open=False), contact)


async def throughput(days: Days, at: SourceState, *, anew: bool = False) -> Reading:
    return await days.read(THROUGHPUT.query, at, THROUGHPUT.metrics, anew=anew)


def is_of_several(request: Request) -> bool:
    return request.query.count("queuescope_day") > 1


def is_range(request: Request) -> bool:
    return request.endpoint == "query_range"


async def test_a_part_equals_the_answer_to_its_own_query(
    days: Days, client: PrometheusClient, proxy: FaultProxy
) -> None:
    at = source_state()
    found = await throughput(days, at)
    alone = days.filled(THROUGHPUT.query, at.resolution(DAY_STEP_SECONDS, THROUGHPUT.query))
    expected = await client.query_range(alone, Grid.ending_at(NOW, DAY_SECONDS, DAY_STEP_SECONDS))
    assert found.frame is not None
    assert (found.state, found.frame.series) == (State.FRESH, expected.frame.series)
    assert np.array_equal(found.frame.values, expected.frame.values, equal_nan=True)
    # The others were read with it, and there are no such series.
    asked = len(proxy.seen)
    workers = await days.read(WORKERS.query, at, WORKERS.metrics, anew=False)
    assert (workers.state, workers.cause) == (
        State.EMPTY,
        "The source has no such series in this range",
    )
    assert len(proxy.seen) == asked


async def test_where_the_one_question_fails_each_asks_its_own_for_a_while(
    days: Days, proxy: FaultProxy, clock: Clock
) -> None:
    proxy.spoil(FAILS, is_of_several)
    first = await throughput(days, source_state())
    again = await throughput(days, source_state(NOW + 60), anew=True)
    assert (first.state, again.state) == (State.FRESH, State.FRESH)
    assert list(map(is_of_several, proxy.seen)) == [True, False, False]
    clock.offset_seconds += 300
    await throughput(days, source_state(NOW + 120))
    assert list(map(is_of_several, proxy.seen))[3:] == [True, False]


@pytest.mark.parametrize("error", [None, DOWN])
async def test_a_day_that_cannot_be_read_any_more_stays_as_it_was(
    days: Days, proxy: FaultProxy, error: SourceError | None
) -> None:
    """Whether or not it is known already that the source is away."""
    before = await throughput(days, source_state())
    proxy.spoil(FAILS, is_range)
    for seconds in (60, 120):
        after = await throughput(days, source_state(NOW + seconds, error), anew=True)
        assert (after.state, after.as_of) == (State.STALE, NOW)
        assert after.frame is not None
        assert before.frame is not None
        assert np.array_equal(after.frame.values, before.frame.values, equal_nan=True)
