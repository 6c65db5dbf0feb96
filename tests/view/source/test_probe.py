"""The source is asked once for all viewers, and its state says since when it holds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from tests.real_prometheus import RealPrometheus
from tests.view.conftest import CountingProxy

from queuescope.errors import SourceErrorKind
from queuescope.prometheus import PrometheusClient
from queuescope.view.source.probe import Probe
from queuescope.view.source.state import contact_of

pytestmark = pytest.mark.anyio

NOW = time.time()


class Still:
    """A clock that stands until it is moved."""

    now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def proxy(prometheus: RealPrometheus) -> AsyncIterator[CountingProxy]:
    async with CountingProxy(prometheus.port) as proxy:
        yield proxy


@pytest.fixture
def still() -> Still:
    return Still()


@pytest.fixture
async def probe(proxy: CountingProxy, still: Still) -> AsyncIterator[Probe]:
    async with PrometheusClient(proxy.url) as client:
        probe = Probe(client, still)
        yield probe
        await probe.aclose()


async def test_requests_within_half_a_second_share_an_answer(
    probe: Probe, proxy: CountingProxy, still: Still
) -> None:
    await asyncio.gather(*(probe.renew() for _ in range(20)))
    still.now += 0.4
    await probe.renew()
    assert proxy.asked["query"] == 1
    still.now += 0.2
    await probe.renew()
    assert proxy.asked["query"] == 2


async def test_a_clock_that_is_set_back_does_not_silence_it(
    probe: Probe, proxy: CountingProxy, still: Still
) -> None:
    await probe.renew()
    still.now -= 86_400
    contact = await probe.renew()
    assert proxy.asked["query"] == 2
    assert contact_of(contact).offset_seconds == pytest.approx(time.time() - still.now, abs=60)


async def test_the_beginning_of_an_outage_is_remembered_until_it_ends(
    probe: Probe, proxy: CountingProxy, still: Still
) -> None:
    seen = await probe.renew()
    assert (seen.error, seen.failing_since, seen.as_of) == (None, None, NOW)
    await proxy.refuse()
    for late in (10, 20, 30):
        still.now = NOW + late
        contact = await probe.renew()
        assert contact.error is not None
        assert contact.error.kind is SourceErrorKind.CANNOT_CONNECT
        assert (contact.failing_since, contact.as_of) == (NOW + 10, NOW)
        assert contact_of(contact).offset_seconds == contact_of(seen).offset_seconds
    await proxy.serve()
    # The client leaves a source that is away alone for a moment.
    while (back := await probe.renew()).error is not None:
        still.now += 1
        await asyncio.sleep(0.05)
    assert (back.failing_since, back.as_of) == (None, still.now)


async def test_a_known_outage_is_not_waited_for(
    probe: Probe, proxy: CountingProxy, still: Still
) -> None:
    await proxy.refuse()
    refused = (await probe.renew()).error
    await proxy.serve()
    await proxy.swallow()
    known = refused
    while not proxy.asked["query"]:
        still.now += 1
        known = (await probe.renew()).error
        await asyncio.sleep(0.05)
    # The question is still under way: what is known goes on screen.
    assert refused is not None
    assert known is not None
    assert known.kind is refused.kind is SourceErrorKind.CANNOT_CONNECT


async def test_beside_answers_to_other_questions_only_the_epoch_is_asked_for_every_five_minutes(
    probe: Probe, proxy: CountingProxy, still: Still
) -> None:
    first = await probe.renew()
    assert contact_of(first).epoch is not None
    for _ in range(10):
        still.now += 60
        probe.note_answer(still.now + 7, still.now, still.now)
        proxy.asked.clear()
        contact = await probe.renew()
        assert (contact_of(contact).offset_seconds, contact.as_of) == (7, still.now)
        assert contact_of(contact).epoch == contact_of(first).epoch
        due = (still.now - NOW) % 300 == 0
        assert proxy.asked == ({"status/runtimeinfo": 1} if due else {})


async def test_behind_a_new_connection_everything_is_asked_for(
    probe: Probe, proxy: CountingProxy, still: Still
) -> None:
    await probe.renew()
    await proxy.refuse()
    await proxy.serve()
    still.now += 5
    await probe.renew()
    assert (proxy.asked["query"], proxy.asked["status/runtimeinfo"]) == (2, 2)
