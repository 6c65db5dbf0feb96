"""Reads through the cache: what is fetched, what is kept, and what is returned in an outage."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest
from tests.cache.model_source import ModelSource, Points, queue

from queuescope.cache import CachedReader, FrameStore
from queuescope.cache.history import SEAM_POINTS
from queuescope.errors import SourceError, SourceErrorKind
from queuescope.timeseries import UNDEFINED, Grid, LookupStatus, Reading, State

pytestmark = pytest.mark.anyio

STEP = 10
HORIZON = 50
NOW = 2000
DOWN = SourceError(SourceErrorKind.CANNOT_CONNECT, "It does not answer", detail="refused")


def ramp(first: int, last: int) -> dict[int, float]:
    return {t: float(t) for t in range(first, last + 1, STEP)}


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def reader_of(source: ModelSource, store: FrameStore | None = None) -> CachedReader:
    held = store or FrameStore(None, 100_000)
    return CachedReader(source, held, horizon_seconds=HORIZON, clock=Clock())


async def read(
    reader: CachedReader, start: int, end: int, source_now: float = NOW, query: str = "q"
) -> Reading:
    return await reader.read(query, Grid(start, end, STEP), source_now=source_now)


def span(reading: Reading | None) -> tuple[int, int]:
    assert reading is not None
    assert reading.frame is not None
    return reading.frame.grid.start, reading.frame.grid.end


async def test_a_first_read_asks_for_everything_and_an_equal_one_for_nothing() -> None:
    source = ModelSource({queue("a"): ramp(0, NOW)})
    reader = reader_of(source)
    first = await read(reader, 1000, NOW)
    again = await read(reader, 1000, NOW)
    assert [Grid(1000, NOW, STEP)] == source.asked
    assert [(r.state, r.lookup, r.as_of, r.cause) for r in (first, again)] == [
        (State.FRESH, LookupStatus.KEY_MISS, NOW, ""),
        (State.FRESH, LookupStatus.HIT, NOW, ""),
    ]
    assert again.frame is not None
    assert list(ramp(1000, NOW).values()) == again.frame.values[0].tolist()


async def test_a_refresh_asks_only_for_the_newest_edge() -> None:
    source = ModelSource({queue("a"): ramp(0, 3000)})
    reader = reader_of(source)
    await read(reader, 1000, NOW)
    source.asked.clear()
    reading = await read(reader, 1000 + STEP, NOW + STEP, NOW + STEP)
    assert LookupStatus.PARTIAL_HIT is reading.lookup
    first_volatile = NOW - HORIZON + STEP
    assert [Grid(first_volatile - SEAM_POINTS * STEP, NOW + STEP, STEP)] == source.asked


async def test_history_that_is_final_is_never_asked_for_again() -> None:
    source = ModelSource({queue("a"): ramp(0, NOW)})
    reader = reader_of(source)
    await read(reader, 1000, NOW)
    source.asked.clear()
    reading = await read(reader, 1100, NOW - HORIZON, NOW + 500)
    assert (reading.lookup, reading.as_of, source.asked) == (LookupStatus.HIT, NOW, [])


async def test_ranges_apart_from_what_is_held_are_filled_in() -> None:
    source = ModelSource({queue("a"): ramp(0, NOW)})
    reader = reader_of(source)
    await read(reader, 500, 600)
    apart = await read(reader, 1000, 1100)
    whole = await read(reader, 400, 1200)
    assert (apart.lookup, whole.lookup) == (LookupStatus.RANGE_MISS, LookupStatus.PARTIAL_HIT)
    seam = SEAM_POINTS * STEP
    assert [
        Grid(400, 490 + seam, STEP),
        Grid(610 - seam, 990 + seam, STEP),
        Grid(1110 - seam, 1200, STEP),
    ] == source.asked[2:]
    assert whole.frame is not None
    assert list(ramp(400, 1200).values()) == whole.frame.values[0].tolist()


async def test_queries_steps_and_sources_are_kept_apart() -> None:
    store = FrameStore(None, 100_000)
    source, other = ModelSource({queue("a"): ramp(0, NOW)}), ModelSource(identity="other")
    await read(reader_of(source, store), 1000, 1100)
    assert LookupStatus.KEY_MISS is (await read(reader_of(other, store), 1000, 1100)).lookup
    reader = reader_of(source, store)
    assert LookupStatus.KEY_MISS is (await read(reader, 1000, 1100, query="p")).lookup
    wider = await reader.read("q", Grid(1000, 1100, 50), source_now=NOW)
    assert LookupStatus.KEY_MISS is wider.lookup


async def test_a_late_sample_within_the_horizon_corrects_what_is_held() -> None:
    source = ModelSource({queue("a"): ramp(0, NOW)})
    reader = reader_of(source)
    await read(reader, 1000, NOW)
    source.points[queue("a")][NOW - HORIZON + STEP] = -1.0
    reading = await read(reader, 1000, NOW, NOW + 1)
    assert reading.frame is not None
    assert -1.0 in reading.frame.values


async def test_another_history_behind_the_same_address_is_not_stitched_to_the_old_one() -> None:
    source = ModelSource({queue("a"): ramp(0, NOW)})
    reader = reader_of(source)
    await read(reader, 1000, NOW)
    others: tuple[Points, ...] = (
        {},
        {queue("a"): dict.fromkeys(ramp(0, 3000), 7.0)},
        {queue("b"): ramp(0, 3000)},
    )
    for now, other in zip((2100, 2200, 2300), others, strict=True):
        source.points = other
        reading = await read(reader, 1000, now, now)
        assert reading.frame is not None
        expected = source.frame(Grid(1000, now, STEP))
        assert expected.series == reading.frame.series
        np.testing.assert_array_equal(expected.values, reading.frame.values)


async def test_sums_that_differ_in_their_last_bits_are_the_same_history() -> None:
    source = ModelSource({queue("a"): dict.fromkeys(ramp(0, 3000), 0.1 + 0.2)})
    reader = reader_of(source)
    await read(reader, 1000, NOW)
    source.points = {queue("a"): dict.fromkeys(ramp(0, 3000), 0.3)}
    reading = await read(reader, 1000, NOW + 10, NOW + 10)
    assert LookupStatus.PARTIAL_HIT is reading.lookup


async def test_a_series_that_ended_disappears_when_its_last_point_leaves_the_range() -> None:
    source = ModelSource({queue("a"): ramp(0, 3000), queue("b"): ramp(0, 1500)})
    reader = reader_of(source)
    await read(reader, 1000, NOW)
    both, one = await read(reader, 1500, NOW), await read(reader, 1510, NOW)
    assert both.frame is not None
    assert one.frame is not None
    assert ((queue("a"), queue("b")), (queue("a"),)) == (both.frame.series, one.frame.series)
    assert np.isnan(both.frame.values[1, 1:]).all()


async def test_empty_idle_and_zero_are_different_and_stay_so_in_the_cache() -> None:
    source = ModelSource({queue("a"): dict.fromkeys(ramp(0, NOW), UNDEFINED)})
    reader = reader_of(source)
    for _ in range(2):
        idle = await read(reader, 1000, 1100)
        assert (idle.state, len(idle.frame.series) if idle.frame else 0) == (State.IDLE, 1)
        assert "nothing happened" in idle.cause
    source.points = {}
    for _ in range(2):
        empty = await read(reader, 1000, 1100, query="nothing")
        assert (empty.state, len(empty.frame.series) if empty.frame else 1) == (State.EMPTY, 0)
        assert "no such series" in empty.cause
    source.points = {queue("a"): dict.fromkeys(ramp(0, NOW), 0.0)}
    for _ in range(2):
        assert State.FRESH is (await read(reader, 1000, 1100, query="zero")).state


async def test_a_partial_answer_is_shown_with_its_warning_and_not_kept() -> None:
    source = ModelSource({queue("a"): ramp(0, NOW)})
    source.warnings, source.infos = ("store down",), ("no counter",)
    reader = reader_of(source)
    partial = await read(reader, 1000, NOW)
    assert (partial.state, partial.warnings) == (State.PARTIAL, ("store down", "no counter"))

    source.warnings = ()
    whole = await read(reader, 1000, NOW)
    assert (
        whole.state,
        whole.lookup,
        whole.warnings,
    ) == (State.FRESH, LookupStatus.KEY_MISS, ("no counter",))


async def test_without_the_source_the_last_good_data_are_given_with_their_age_and_cause() -> None:
    source = ModelSource({queue("a"): ramp(0, NOW)})
    reader = reader_of(source)
    await read(reader, 1000, NOW)
    source.error = DOWN
    stale = await read(reader, 1500, NOW + 300, NOW + 300)
    assert (
        stale.state,
        stale.lookup,
        stale.as_of,
        stale.cause,
        stale.cause_kind,
        stale.detail,
    ) == (
        State.STALE,
        LookupStatus.SOURCE_ERROR,
        NOW,
        "It does not answer",
        SourceErrorKind.CANNOT_CONNECT,
        "refused",
    )
    assert span(stale) == (1500, NOW)
    assert stale.frame is not None
    assert list(ramp(1500, NOW).values()) == stale.frame.values[0].tolist()


async def test_long_after_the_source_went_away_the_newest_window_of_equal_length_is_given() -> None:
    source = ModelSource({queue("a"): ramp(0, NOW)})
    reader = reader_of(source)
    await read(reader, 1000, NOW)
    source.error = DOWN
    assert span(await read(reader, 9000, 9300, 9300)) == (NOW - 300, NOW)
    assert span(await read(reader, 7000, 9300, 9300)) == (1000, NOW)


async def test_with_nothing_held_nothing_is_invented() -> None:
    source = ModelSource()
    source.error = DOWN
    reading = await read(reader_of(source), 1000, NOW)
    assert (reading.state, reading.frame, reading.as_of) == (State.UNAVAILABLE, None, None)
    assert (reading.lookup, reading.cause) == (LookupStatus.SOURCE_ERROR, "It does not answer")


async def test_final_history_needs_no_source() -> None:
    source = ModelSource({queue("a"): ramp(0, NOW)})
    reader = reader_of(source)
    await read(reader, 1000, NOW)
    source.error = DOWN
    reading = await read(reader, 1000, NOW - HORIZON, 9000)
    assert (reading.state, reading.as_of) == (State.FRESH, NOW)


async def test_recovery_reads_what_was_missed() -> None:
    source = ModelSource({queue("a"): ramp(0, NOW)})
    reader = reader_of(source)
    await read(reader, 1000, NOW)
    source.error = DOWN
    await read(reader, 1300, NOW + 300, NOW + 300)
    source.error = None
    source.points[queue("a")] |= ramp(NOW, NOW + 400)
    reading = await read(reader, 1400, NOW + 400, NOW + 400)
    assert (reading.state, reading.lookup) == (State.FRESH, LookupStatus.PARTIAL_HIT)
    assert reading.frame is not None
    assert list(ramp(1400, NOW + 400).values()) == reading.frame.values[0].tolist()


async def test_the_last_good_data_outlive_a_restart_during_an_outage(tmp_path: Path) -> None:
    source = ModelSource({queue("a"): ramp(0, NOW)})
    store = FrameStore(tmp_path, 100_000)
    await read(reader_of(source, store), 1000, NOW)
    store.close()
    source.error = DOWN
    reader = reader_of(source, FrameStore(tmp_path, 100_000))
    held = await read(reader, 1010, NOW + 10, NOW + 10)
    assert span(held) == (1010, NOW)
    assert (held.state, held.as_of) == (State.STALE, NOW)


async def test_after_a_restart_only_the_edge_is_asked_for(tmp_path: Path) -> None:
    source = ModelSource({queue("a"): ramp(0, 3000)})
    store = FrameStore(tmp_path, 100_000)
    await read(reader_of(source, store), 1000, NOW)
    store.close()
    source.asked.clear()
    reading = await read(reader_of(source, FrameStore(tmp_path, 100_000)), 1010, NOW + 10, NOW + 10)
    assert LookupStatus.PARTIAL_HIT is reading.lookup
    assert len(source.asked[0]) <= HORIZON // STEP + SEAM_POINTS + 1


async def test_many_readers_at_once_ask_the_source_once() -> None:
    source = ModelSource({queue("a"): ramp(0, NOW)})
    source.gate = asyncio.Event()
    reader = reader_of(source)
    same = [asyncio.create_task(read(reader, 1000, NOW, NOW + i / 100)) for i in range(50)]
    narrower = [asyncio.create_task(read(reader, 1500, NOW - 100)) for _ in range(50)]
    await asyncio.sleep(0.01)
    same[0].cancel()  # a viewer that leaves must not take the answer from the others
    source.gate.set()
    readings = await asyncio.gather(*same[1:], *narrower)
    assert {State.FRESH} == {reading.state for reading in readings}
    assert [Grid(1000, NOW, STEP)] == source.asked


@pytest.mark.parametrize("turns", range(8))
async def test_readers_of_different_windows_at_one_step_all_get_theirs(turns: int) -> None:
    """Also a reader that comes between the end of another's fetch and its result."""
    reader = reader_of(ModelSource({queue("a"): ramp(0, NOW)}))

    async def later() -> Reading:
        for _ in range(turns):
            await asyncio.sleep(0)
        return await read(reader, 1200, 1700)

    readings = await asyncio.gather(read(reader, 1000, 1500), later(), read(reader, 900, 1400))
    assert [span(reading) for reading in readings] == [(1000, 1500), (1200, 1700), (900, 1400)]


async def test_in_an_outage_many_readers_of_a_key_wait_for_one_failure() -> None:
    source = ModelSource({queue("a"): ramp(0, NOW)})
    reader = reader_of(source)
    await read(reader, 1000, NOW)
    source.asked.clear()
    source.error, source.gate = DOWN, asyncio.Event()
    ranges = [(start, NOW + 100) for start in range(1000, 1500, STEP)]
    tasks = [asyncio.create_task(read(reader, *r, source_now=NOW + 100)) for r in ranges]
    await asyncio.sleep(0.01)
    source.gate.set()
    readings = await asyncio.gather(*tasks)
    assert [(start, NOW) for start, _ in ranges] == [span(reading) for reading in readings]
    assert {(State.STALE, "It does not answer")} == {(r.state, r.cause) for r in readings}
    assert len(source.asked) == 1


async def test_a_busy_source_is_left_alone_for_as_long_as_it_asked() -> None:
    source = ModelSource({queue("a"): ramp(0, NOW)})
    clock = Clock()
    reader = CachedReader(source, FrameStore(None, 9999), horizon_seconds=HORIZON, clock=clock)
    source.error = SourceError(SourceErrorKind.BUSY, "It is busy", retry_after_seconds=100)
    await read(reader, 1000, NOW)
    source.error = None
    assert reader.backing_off_until is not None
    assert 100 <= reader.backing_off_until <= 110
    for now, query in ((0.0, "q"), (50.0, "other"), (99.0, "q")):
        clock.now = now
        held_off = await read(reader, 1000, NOW, query=query)
        assert (held_off.state, held_off.cause) == (State.UNAVAILABLE, "It is busy")
    assert len(source.asked) == 1

    clock.now = 110.0
    assert reader.backing_off_until is None
    assert State.FRESH is (await read(reader, 1000, NOW)).state


async def test_a_source_whose_clock_went_back_is_not_answered_from_its_future() -> None:
    source = ModelSource({queue("a"): ramp(0, NOW)})
    reader = reader_of(source)
    await read(reader, 1000, NOW)
    source.asked.clear()
    await read(reader, 1000, NOW - 500, NOW - 500)
    assert source.asked[0].end == NOW - 500
    assert source.asked[0].start <= NOW - 500 - HORIZON + STEP


async def test_a_fault_of_the_program_is_not_taken_for_one_of_the_source() -> None:
    class Broken(ModelSource):
        async def query_range(self, query: str, grid: Grid) -> None:  # type: ignore[override]
            raise ZeroDivisionError

    reader = reader_of(Broken())
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            await read(reader, 1000, NOW)
