"""Work that many request at once is done once, and an ended task delays no one."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuescope.single_flight import SingleFlight

pytestmark = pytest.mark.anyio


async def test_what_is_under_way_is_found_with_what_it_was_asked_for() -> None:
    flights = SingleFlight[str, int, str]()
    gate = asyncio.Event()

    async def work() -> str:
        await gate.wait()
        return "done"

    launched = flights.launch("key", 7, work())
    assert flights.under_way("key") is launched
    assert flights.under_way("other") is None
    gate.set()
    assert (launched.asked, await launched.result()) == (7, "done")
    assert flights.under_way("key") is None


async def test_whoever_waits_may_be_cancelled_and_the_work_goes_on() -> None:
    flights = SingleFlight[str, None, str]()
    gate = asyncio.Event()

    async def work() -> str:
        await gate.wait()
        return "done"

    flight = flights.launch("key", None, work())
    waiting = asyncio.create_task(flight.result())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    gate.set()
    assert await flight.result() == "done"


async def test_work_that_fails_tells_everybody_and_is_gone() -> None:
    flights = SingleFlight[str, None, str]()

    async def work() -> str:
        await asyncio.sleep(0)
        raise LookupError("no")

    flight = flights.launch("key", None, work())
    results = await asyncio.gather(flight.result(), flight.result(), return_exceptions=True)
    assert [type(error) for error in results] == [LookupError, LookupError]
    assert flights.under_way("key") is None


async def test_an_older_flight_does_not_take_the_newer_one_along_when_it_ends() -> None:
    flights = SingleFlight[str, int, int]()
    gates = [asyncio.Event(), asyncio.Event()]

    async def work(number: int) -> int:
        await gates[number].wait()
        return number

    older = flights.launch("key", 0, work(0))
    newer = flights.launch("key", 1, work(1))
    gates[0].set()
    assert await older.result() == 0
    assert flights.under_way("key") is newer
    gates[1].set()
    assert await newer.result() == 1


async def test_closing_ends_what_is_under_way_and_what_has_not_begun() -> None:
    flights = SingleFlight[str, None, None]()
    began = asyncio.Event()

    async def work() -> None:
        began.set()
        await asyncio.Event().wait()

    running = flights.launch("running", None, work())
    await began.wait()
    waiting = flights.launch("waiting", None, work())
    await flights.aclose()
    assert running.task.cancelled()
    assert waiting.task.cancelled()
    assert flights.under_way("running") is flights.under_way("waiting") is None


@given(asks=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=12))
def test_whoever_asks_again_until_it_suits_never_holds_the_loop(
    asks: list[tuple[int, int]],
) -> None:
    """``asks`` are windows wanted, and after how many turns of the loop they are asked for."""

    async def look(flights: SingleFlight[str, int, int], window: int, turns: int) -> int:
        for _ in range(turns):
            await asyncio.sleep(0)
        # Like viewers: they wait for a task of another window, then ask again.
        while (flight := flights.under_way("key")) is not None:
            found = await flight.result()
            if flight.asked == window:
                return found

        async def work() -> int:
            await asyncio.sleep(0)
            return window

        return await flights.launch("key", window, work()).result()

    async def all_look() -> list[int]:
        flights = SingleFlight[str, int, int]()
        return await asyncio.gather(*(look(flights, window, turns) for window, turns in asks))

    assert asyncio.run(all_look()) == [window for window, _ in asks]
