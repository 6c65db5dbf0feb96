"""Reads through the cache: fetch what is missing, keep what is final, fall back to the last good.

The contract: while the source answers, a read gives what the source itself would give for the
whole range, provided that no sample arrives later than the horizon and that the query looks at
samples up to the point in time, not beyond it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from queuescope.cache.disk import Extent, Extents, FrameKey
from queuescope.cache.extents import crop, gaps, overlap
from queuescope.cache.store import FrameStore
from queuescope.errors import SourceError, SourceErrorKind
from queuescope.timeseries import Answer, Frame, Grid, LookupStatus, RangeSource, Reading, State

SEAM_POINTS = 3
"""How many held points are fetched again beside a gap, to see that the history is still the same:
another server, or lost data, behind the same address must not be stitched to what is held."""

_JITTER_RATIO = 0.1
_NO_NUMBER = "The series exist, but nothing happened that could be measured"
_NO_SERIES = "The source has no such series in this range"
_PARTIAL = "The source warned that its answer may be incomplete"


@dataclass(frozen=True, slots=True)
class _Flight:
    """A fetch under way for one key, and the range that it is for."""

    grid: Grid
    task: asyncio.Task[Reading]


@dataclass(frozen=True, slots=True)
class _Plan:
    """Which held parts serve a read, and what must be fetched beside them."""

    status: LookupStatus
    usable: tuple[Frame, ...] = ()
    missing: tuple[Grid, ...] = ()
    as_of: float = float("-inf")


class CachedReader:
    """Reads ``source`` through ``store``. Belongs to one event loop, apart from ``last_good``.

    Points newer than ``horizon_seconds`` before the source's now are fetched again on each read.
    ``clock`` gives our own time, epoch seconds; it only measures how long a busy source wants to
    be left alone.
    """

    def __init__(
        self,
        source: RangeSource,
        store: FrameStore,
        *,
        horizon_seconds: float,
        clock: Callable[[], float],
    ) -> None:
        self._source = source
        self._store = store
        self._horizon_seconds = horizon_seconds
        self._clock = clock
        self._flights: dict[FrameKey, _Flight] = {}
        self._left_alone_until = float("-inf")
        self._left_alone_because: SourceError | None = None

    @property
    def left_alone_until(self) -> float | None:
        """Until when (our clock) a busy source is not asked, or None."""
        return self._left_alone_until if self._clock() < self._left_alone_until else None

    async def read(self, query: str, grid: Grid, *, source_now: float) -> Reading:
        """The series of ``query`` on ``grid``, ``source_now`` being the source's clock.

        Never raises for a source that fails: the reading is then stale, or unavailable when
        nothing is held. However many read a key at once, one fetch is under way for it.
        """
        key = FrameKey(self._source.identity, query, grid.step_seconds)
        while (flight := self._flights.get(key)) is not None:
            reading = await asyncio.shield(flight.task)
            if flight.grid == grid:
                return reading
            if reading.lookup is LookupStatus.SOURCE_ERROR:
                # It failed for the neighbour a moment ago; asking again would only wait again.
                return self._fallen_back(
                    key, grid, reading.cause, reading.cause_kind, reading.detail
                )
        task = asyncio.create_task(self._read(key, grid, source_now))
        self._flights[key] = _Flight(grid, task)
        task.add_done_callback(lambda _: self._flights.pop(key, None))
        return await asyncio.shield(task)

    def last_good(self, query: str, step_seconds: int, span_seconds: int) -> Reading | None:
        """The newest held window of at most ``span_seconds``, without asking the source.

        The reading is stale, with an empty cause; None when nothing is held.
        """
        key = FrameKey(self._source.identity, query, step_seconds)
        found = _newest(self._store.get(key), span_seconds)
        if found is None:
            return None
        return Reading(State.STALE, found.frame, found.as_of, LookupStatus.HIT)

    def forget(self, query: str, step_seconds: int) -> None:
        """Hold nothing of this key any more, so that its whole history is read anew."""
        self._store.forget(FrameKey(self._source.identity, query, step_seconds))

    async def _read(self, key: FrameKey, grid: Grid, source_now: float) -> Reading:
        plan = self._plan(self._store.get(key), grid, source_now)
        if plan.status is LookupStatus.HIT:
            return _reading(Frame.assembled(grid, plan.usable), plan.as_of, plan.status)
        try:
            if self.left_alone_until and self._left_alone_because:
                raise self._left_alone_because
            answers = await self._fetch(key.query, plan.missing)
            rewritten = _history_differs(plan, [answer.frame for answer in answers])
            if rewritten:
                answers = await self._fetch(key.query, (grid,))
        except SourceError as exc:
            self._leave_alone(exc)
            return self._fallen_back(key, grid, str(exc), exc.kind, exc.detail)
        held = () if rewritten else plan.usable
        frame = Frame.assembled(grid, (*held, *(answer.frame for answer in answers)))
        warnings = tuple(dict.fromkeys(text for answer in answers for text in answer.warnings))
        infos = tuple(dict.fromkeys(text for answer in answers for text in answer.infos))
        if not warnings:
            extent = Extent(frame, source_now - self._horizon_seconds, source_now)
            (self._store.replace if rewritten else self._store.put)(key, extent)
        status = LookupStatus.RANGE_MISS if rewritten else plan.status
        return _reading(frame, source_now, status, warnings, infos)

    def _plan(self, held: Extents, grid: Grid, source_now: float) -> _Plan:
        if not held:
            return _Plan(LookupStatus.KEY_MISS, missing=(grid,))
        usable: list[Grid] = []
        frames: list[Frame] = []
        as_of = float("-inf")
        for extent in held:
            # What was fetched at this very moment of the source needs no second fetch. A source
            # whose clock went back is not believed beyond its present horizon.
            last = (
                extent.grid.end
                if extent.as_of == source_now
                else min(extent.final_until, source_now - self._horizon_seconds)
            )
            part = crop(extent.grid, first=grid.start, last=min(grid.end, last))
            if part is not None:
                usable.append(part)
                frames.append(Frame.assembled(part, (extent.frame,)))
                as_of = max(as_of, extent.as_of)
        if not usable:
            return _Plan(LookupStatus.RANGE_MISS, missing=(grid,))
        missing = tuple(_with_seam(gap, grid, usable) for gap in gaps(grid, usable))
        status = LookupStatus.PARTIAL_HIT if missing else LookupStatus.HIT
        return _Plan(status, tuple(frames), missing, as_of)

    async def _fetch(self, query: str, missing: tuple[Grid, ...]) -> list[Answer]:
        tasks = [asyncio.create_task(self._source.query_range(query, g)) for g in missing]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()

    def _leave_alone(self, error: SourceError) -> None:
        if error.retry_after_seconds and self.left_alone_until is None:
            # The jitter keeps several dashboards from coming back at the same moment.
            wait = error.retry_after_seconds * (1 + random.uniform(0, _JITTER_RATIO))
            self._left_alone_until = self._clock() + wait
            self._left_alone_because = error

    def _fallen_back(
        self, key: FrameKey, grid: Grid, cause: str, kind: SourceErrorKind | None, detail: str
    ) -> Reading:
        """The last good data for ``grid``, with the reason why there are no new ones."""
        held = self._store.get(key)
        found = _covering(held, grid) or _newest(held, grid.end - grid.start)
        return Reading(
            State.UNAVAILABLE if found is None else State.STALE,
            None if found is None else found.frame,
            None if found is None else found.as_of,
            LookupStatus.SOURCE_ERROR,
            cause=cause,
            cause_kind=kind,
            detail=detail,
        )


def _reading(
    frame: Frame,
    as_of: float,
    status: LookupStatus,
    warnings: tuple[str, ...] = (),
    infos: tuple[str, ...] = (),
) -> Reading:
    if warnings:
        state, cause = State.PARTIAL, _PARTIAL
    elif not frame.series:
        state, cause = State.EMPTY, _NO_SERIES
    elif not frame.has_numbers:
        state, cause = State.IDLE, _NO_NUMBER
    else:
        state, cause = State.FRESH, ""
    return Reading(state, frame, as_of, status, cause=cause, warnings=(*warnings, *infos))


def _with_seam(gap: Grid, grid: Grid, usable: list[Grid]) -> Grid:
    """``gap`` widened over a few of the held points that it touches, but not over all of them."""
    step = gap.step_seconds
    before = next((part for part in usable if part.end == gap.start - step), None)
    after = next((part for part in usable if part.start == gap.end + step), None)
    start = gap.start if before is None else max(before.start, gap.start - SEAM_POINTS * step)
    end = gap.end if after is None else min(after.end, gap.end + SEAM_POINTS * step)
    return Grid(max(grid.start, start), min(grid.end, end), step)


def _history_differs(plan: _Plan, fetched: list[Frame]) -> bool:
    """Whether a point that was final has another value now."""
    for held in plan.usable:
        for frame in fetched:
            common = overlap(held.grid, frame.grid)
            if common is None:
                continue
            was = Frame.assembled(common, (held,))
            now = Frame.assembled(common, (frame,))
            # Sums over series may differ in the last bits when blocks are written.
            if was.series != now.series or not np.allclose(
                was.values, now.values, rtol=1e-9, atol=1e-12, equal_nan=True
            ):
                return True
    return False


def _covering(held: Extents, grid: Grid) -> Extent | None:
    """What is held of ``grid``, with the age of its newest part; None when that is nothing."""
    parts = [extent for extent in held if overlap(extent.grid, grid) is not None]
    if not parts:
        return None
    first = max(grid.start, parts[0].grid.start)
    last = min(grid.end, parts[-1].grid.end)
    cropped = Grid(first, last, grid.step_seconds)
    frame = Frame.assembled(cropped, (extent.frame for extent in parts))
    return parts[-1]._replace(frame=frame)


def _newest(held: Extents, span_seconds: int) -> Extent | None:
    """The newest held window of at most ``span_seconds``; None when nothing is held."""
    if not held:
        return None
    newest = held[-1]
    step = newest.grid.step_seconds
    first = newest.grid.end - span_seconds // step * step
    parts = [extent for extent in held if extent.grid.end >= first]
    window = Grid(max(first, parts[0].grid.start), newest.grid.end, step)
    return newest._replace(frame=Frame.assembled(window, (extent.frame for extent in parts)))
