"""The headline property: whatever happened before, a cached read equals an uncached one."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.cache.model_source import ModelSource, queue

from queuescope.cache import CachedReader, FrameStore
from queuescope.errors import SourceError, SourceErrorKind
from queuescope.timeseries import UNDEFINED, Frame, Grid, Labels, Reading, State, sampled

STEP = 10
HORIZON = 125
START = 10_000
DOWN = SourceError(SourceErrorKind.TIMEOUT, "It does not answer")

VALUES = st.sampled_from([0.0, 1.0, 2.5, UNDEFINED])
QUEUES = st.sampled_from([queue("a"), queue("b"), queue("c")])


@dataclass(frozen=True)
class Pass:
    """Time goes by, and each series is scraped at each step, or not."""

    seconds: int
    scraped: tuple[tuple[Labels, float], ...]


@dataclass(frozen=True)
class Late:
    """A sample arrives, changes or vanishes within the horizon."""

    series: Labels
    age_steps: int
    value: float | None


@dataclass(frozen=True)
class Read:
    """A range that ends some steps before (or after) now is read."""

    end_steps_ago: int
    steps: int
    fails: bool
    warns: bool


@dataclass(frozen=True)
class Restart:
    """The dashboard starts anew, with or without its files."""

    keeps_files: bool


ACTIONS = st.one_of(
    st.builds(
        Pass,
        st.one_of(st.integers(1, 30), st.integers(1, 400)),
        st.lists(st.tuples(QUEUES, VALUES), unique_by=lambda s: s[0]).map(tuple),
    ),
    st.builds(Late, QUEUES, st.integers(0, 12), st.one_of(st.none(), VALUES)),
    st.builds(
        Read,
        st.one_of(st.just(0), st.integers(-2, 40)),
        st.one_of(st.just(30), st.integers(0, 60)),
        st.sampled_from([False, False, False, True]),
        st.sampled_from([False, False, False, True]),
    ),
    st.builds(Restart, st.booleans()),
)


class History:
    """Plays actions on a source and a cache before it, and compares at every read."""

    def __init__(self, new_store: Callable[[bool], FrameStore]) -> None:
        self.now = START
        self.source = ModelSource()
        self.new_store = new_store
        self.store = new_store(False)
        self.reader = self.new_reader()
        self.said: dict[tuple[Labels, int], set[float | None]] = {}
        self.answered_at = {float("-inf")}

    def new_reader(self) -> CachedReader:
        return CachedReader(
            self.source, self.store, horizon_seconds=HORIZON, clock=lambda: float(self.now)
        )

    async def play(self, action: Pass | Late | Read | Restart) -> None:
        match action:
            case Pass(seconds, scraped):
                first = self.now // STEP * STEP + STEP
                self.now += seconds
                for labels, value in scraped:
                    points = self.source.points.setdefault(labels, {})
                    points.update({t: value + t for t in range(first, self.now + 1, STEP)})
            case Late(labels, age_steps, value):
                self.now += 1
                at = self.now // STEP * STEP - age_steps * STEP
                if at <= self.now - HORIZON:
                    return
                points = self.source.points.setdefault(labels, {})
                if value is None:
                    points.pop(at, None)
                else:
                    points[at] = value
            case Read():
                await self.read(action)
            case Restart(keeps_files):
                self.store.close()
                self.store = self.new_store(keeps_files)
                self.reader = self.new_reader()

    async def read(self, action: Read) -> None:
        end = self.now // STEP * STEP - action.end_steps_ago * STEP
        grid = Grid(end - action.steps * STEP, end, STEP)
        self.source.error = DOWN if action.fails else None
        self.source.warnings = ("half",) if action.warns else ()
        asked = len(self.source.asked)
        reading = await self.reader.read("q", grid, source_now=self.now)
        uncached = self.source.frame(grid)
        if reading.state in (State.STALE, State.UNAVAILABLE):
            assert action.fails
            self.check_nothing_is_invented(reading)
            return
        assert reading.frame is not None
        assert_equal_frames(uncached, reading.frame)
        was_asked = len(self.source.asked) > asked
        if action.warns and was_asked:
            assert State.PARTIAL is reading.state
            return
        assert state_of(uncached) is reading.state
        self.answered_at.add(reading.as_of if reading.as_of is not None else np.nan)
        times = grid.timestamps().astype(int).tolist()
        for labels, row in zip(uncached.series, uncached.values.tolist(), strict=True):
            for t, value in zip(times, row, strict=True):
                self.said.setdefault((labels, t), set()).add(number(value))

    def check_nothing_is_invented(self, reading: Reading) -> None:
        assert reading.cause == "It does not answer"
        if reading.frame is None:
            assert State.UNAVAILABLE is reading.state
            return
        assert reading.as_of in self.answered_at
        times = reading.frame.grid.timestamps().astype(int).tolist()
        for labels, row in zip(reading.frame.series, reading.frame.values.tolist(), strict=True):
            for t, value in zip(times, row, strict=True):
                assert number(value) is None or number(value) in self.said[labels, t]


def number(value: float) -> float | None:
    return value if np.isfinite(value) else None


def state_of(frame: Frame) -> State:
    if not frame.series:
        return State.EMPTY
    return State.FRESH if frame.has_numbers else State.IDLE


def assert_equal_frames(expected: Frame, actual: Frame) -> None:
    assert (expected.grid, expected.series) == (actual.grid, actual.series)
    np.testing.assert_array_equal(expected.values, actual.values)
    np.testing.assert_array_equal(sampled(expected.values), sampled(actual.values))


@settings(max_examples=150, deadline=None)
@given(st.lists(ACTIONS, min_size=5, max_size=40), st.sampled_from([600, 100_000]))
def test_any_history_of_reads_gives_what_the_source_gives(
    actions: list[Pass | Late | Read | Restart], max_points: int
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        number_of_stores = 0

        def new_store(keeps_files: bool) -> FrameStore:
            nonlocal number_of_stores
            number_of_stores += 0 if keeps_files else 1
            return FrameStore(Path(directory) / str(number_of_stores), max_points)

        history = History(new_store)

        async def play() -> None:
            for action in actions:
                await history.play(action)

        asyncio.run(play())
        history.store.close()
