"""Reads through the cache: fetches gaps, keeps final data, falls back to the last good answer.

The contract: while the source answers, a read returns what the source itself would return for the
whole range, provided that no sample arrives later than the horizon and that the query only uses
samples up to each point in time.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass

from cachetools import LRUCache

from queuescope.cache import history
from queuescope.cache.disk import Extent, Extents, FrameKey
from queuescope.cache.extents import crop, gaps, overlap
from queuescope.cache.store import FrameStore
from queuescope.errors import SourceError
from queuescope.single_flight import SingleFlight
from queuescope.timeseries import Answer, Frame, Grid, LookupStatus, RangeSource, Reading, State

CHECK_SECONDS = 60.0
"""How often a few cached points are compared if the source has no epoch."""

_MAX_EPOCHS = 8
_MAX_CHECKED = 4_096
_JITTER_RATIO = 0.1
_NO_NUMBER = "The series exist, but nothing happened that could be measured"
_NO_SERIES = "The source has no such series in this range"
_PARTIAL = "The source warned that its answer may be incomplete"


@dataclass(frozen=True, slots=True)
class _Plan:
    """The cached parts for a read, and the parts that must be fetched.

    ``final`` are the cached parts of the range that the answers must match, and ``beside`` those
    next to it; ``epochs`` are those in which all of ``final`` were confirmed.
    """

    status: LookupStatus
    usable: tuple[Frame, ...] = ()
    missing: tuple[Grid, ...] = ()
    as_of: float = float("-inf")
    final: tuple[Frame, ...] = ()
    beside: tuple[Frame, ...] = ()
    epochs: tuple[str, ...] = ()


class CachedReader:
    """Reads ``source`` through ``store``. Belongs to one event loop.

    Points newer than ``horizon_seconds`` before the source's present time are fetched again on each
    read. ``clock`` returns our own time in epoch seconds; it only measures the back-off from a busy
    source.
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
        self._flights = SingleFlight[FrameKey, Grid, Reading]()
        self._checked_at = LRUCache[FrameKey, float](_MAX_CHECKED)
        self._backing_off_until = float("-inf")
        self._back_off_error: SourceError | None = None

    @property
    def backing_off_until(self) -> float | None:
        """Until when (our clock) no request is sent to a busy source; ``None`` if it is not
        busy.
        """
        return self._backing_off_until if self._clock() < self._backing_off_until else None

    async def read(
        self,
        query: str,
        grid: Grid,
        *,
        source_now: float,
        epoch: str | None = None,
        late_seconds: float = 0.0,
    ) -> Reading:
        """The series of ``query`` on ``grid``; ``source_now`` is the source's present time.

        ``epoch`` changes when another or a restarted server answers. Without one, a few cached
        points are compared once a minute instead. Samples that arrive ``late_seconds`` late extend
        the horizon by that time.

        Never raises if the source fails: the reading is then stale, or unavailable if nothing is
        cached. However many callers read a key at once, there is one fetch for it.
        """
        key = FrameKey(self._source.identity, query, grid.step_seconds)
        while (flight := self._flights.under_way(key)) is not None:
            reading = await flight.result()
            if flight.asked == grid:
                return reading
            if reading.lookup is LookupStatus.SOURCE_ERROR:
                # The source failed for another caller a moment ago; a new fetch would only wait.
                return self._fallback(key, grid, reading.cause, reading.cause_kind, reading.detail)
        work = self._read(key, grid, source_now, epoch, self._horizon_seconds + late_seconds)
        return await self._flights.launch(key, grid, work).result()

    async def _read(
        self,
        key: FrameKey,
        grid: Grid,
        source_now: float,
        epoch: str | None,
        horizon_seconds: float,
    ) -> Reading:
        final_until = source_now - horizon_seconds
        plan = self._plan(self._store.get(key), grid, source_now, epoch, final_until)
        try:
            if self.backing_off_until and self._back_off_error:
                raise self._back_off_error
            due = epoch is None and bool(plan.usable) and self._is_check_due(key)
            rewritten = due and await self._is_other_history(key, plan)
            if plan.status is LookupStatus.HIT and not rewritten:
                return _reading(Frame.assembled(grid, plan.usable), plan.as_of, plan.status)
            answers = [] if rewritten else await self._fetch(key.query, plan.missing)
            held_parts = (*plan.final, *plan.beside)
            rewritten = rewritten or history.differs(held_parts, [a.frame for a in answers])
            if rewritten and (not answers or plan.missing != (grid,)):
                answers = await self._fetch(key.query, (grid,))
        except SourceError as exc:
            self._back_off(exc)
            if plan.status is LookupStatus.HIT:
                # Final data do not need the source.
                return _reading(Frame.assembled(grid, plan.usable), plan.as_of, plan.status)
            return self._fallback(key, grid, str(exc), exc.kind, exc.detail)
        held = () if rewritten else plan.usable
        frame = Frame.assembled(grid, (*held, *(answer.frame for answer in answers)))
        warnings = tuple(dict.fromkeys(text for answer in answers for text in answer.warnings))
        infos = tuple(dict.fromkeys(text for answer in answers for text in answer.infos))
        if not warnings:
            epochs = _with_epoch(() if rewritten else plan.epochs, epoch)
            extent = Extent(frame, final_until, source_now, epochs)
            (self._store.replace if rewritten else self._store.put)(key, extent)
            if not plan.usable or rewritten:
                self._note_check(key)
        status = LookupStatus.RANGE_MISS if rewritten else plan.status
        return _reading(frame, source_now, status, warnings, infos)

    def _plan(
        self,
        held: Extents,
        grid: Grid,
        source_now: float,
        epoch: str | None,
        final_until: float,
    ) -> _Plan:
        if not held:
            return _Plan(LookupStatus.KEY_MISS, missing=(grid,))
        usable: list[Frame] = []
        final: list[Frame] = []
        beside: list[Frame] = []
        epochs: list[tuple[str, ...]] = []
        as_of = float("-inf")
        for extent in held:
            # If the source's clock went back, only data before its present horizon are final.
            until = min(extent.final_until, final_until)
            known = crop(extent.grid, first=grid.start, last=min(grid.end, until))
            if known is not None:
                final.append(Frame.assembled(known, (extent.frame,)))
                epochs.append(extent.epochs)
            if epoch is not None and epoch not in extent.epochs:
                continue
            beside += [
                Frame.assembled(part, (extent.frame,))
                for part in history.beside(extent.grid, grid, until=until)
            ]
            # Data that were fetched at the same time of the source need no second fetch.
            last = extent.grid.end if extent.as_of == source_now else until
            part = crop(extent.grid, first=grid.start, last=min(grid.end, last))
            if part is not None:
                usable.append(Frame.assembled(part, (extent.frame,)))
                as_of = max(as_of, extent.as_of)
        shared = (
            tuple(name for name in epochs[0] if all(name in e for e in epochs)) if epochs else ()
        )
        seams = [frame.grid for frame in (*usable, *beside)]
        is_known = epoch is not None and all(extent.epochs == (epoch,) for extent in held)
        missing = tuple(
            history.with_seam(gap, seams, _seam_points(gap, held, is_known=is_known))
            for gap in gaps(grid, (part.grid for part in usable))
        )
        status = LookupStatus.PARTIAL_HIT if missing else LookupStatus.HIT
        return _Plan(
            status if usable else LookupStatus.RANGE_MISS,
            usable=tuple(usable),
            missing=missing,
            as_of=as_of,
            final=tuple(final),
            beside=tuple(beside),
            epochs=shared,
        )

    def _is_check_due(self, key: FrameKey) -> bool:
        checked_at = self._checked_at.get(key, float("-inf"))
        return not 0 <= self._clock() - checked_at < CHECK_SECONDS

    def _note_check(self, key: FrameKey) -> None:
        self._checked_at[key] = self._clock()

    async def _is_other_history(self, key: FrameKey, plan: _Plan) -> bool:
        """Whether a few of the final cached points have other values now."""
        answers = await self._fetch(
            key.query, tuple(spot for frame in plan.final for spot in history.spots(frame))
        )
        self._note_check(key)
        return history.differs(plan.final, [answer.frame for answer in answers])

    async def _fetch(self, query: str, missing: tuple[Grid, ...]) -> list[Answer]:
        tasks = [asyncio.create_task(self._source.query_range(query, g)) for g in missing]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()

    def _back_off(self, error: SourceError) -> None:
        if error.retry_after_seconds and self.backing_off_until is None:
            # The jitter keeps several dashboards from retrying at the same moment.
            wait = error.retry_after_seconds * (1 + random.uniform(0, _JITTER_RATIO))
            self._backing_off_until = self._clock() + wait
            self._back_off_error = error

    def _fallback(
        self, key: FrameKey, grid: Grid, cause: str, kind: str | None, detail: str
    ) -> Reading:
        """The last good data for ``grid``, with the reason why there are no newer ones."""
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


def state_of(frame: Frame) -> tuple[State, str]:
    """The state of a complete answer, and the cause if it is not fresh."""
    if not frame.series:
        return State.EMPTY, _NO_SERIES
    return (State.FRESH, "") if frame.has_numbers else (State.IDLE, _NO_NUMBER)


def _reading(
    frame: Frame,
    as_of: float,
    status: LookupStatus,
    warnings: tuple[str, ...] = (),
    infos: tuple[str, ...] = (),
) -> Reading:
    state, cause = (State.PARTIAL, _PARTIAL) if warnings else state_of(frame)
    return Reading(state, frame, as_of, status, cause=cause, warnings=(*warnings, *infos))


def _seam_points(gap: Grid, held: Extents, *, is_known: bool) -> int:
    """How many points beside ``gap`` are fetched with it; ``is_known``: all of ``held`` is from the
    present epoch and no other.
    """
    if not is_known:
        return history.SEAM_POINTS
    # A part that is only fetched again, since it may still change, was joined before.
    again = any(overlap(extent.grid, gap) == gap for extent in held)
    return 0 if again else history.KNOWN_SEAM_POINTS


def _with_epoch(seen: tuple[str, ...], epoch: str | None) -> tuple[str, ...]:
    if epoch is None:
        return ()
    return seen if epoch in seen else (*seen, epoch)[-_MAX_EPOCHS:]


def _of_one_history(parts: list[Extent]) -> list[Extent]:
    """The parts that share an epoch with the part that was read last."""
    newest = max(parts, key=lambda extent: extent.as_of)
    return [
        extent
        for extent in parts
        if extent.epochs == newest.epochs or not set(extent.epochs).isdisjoint(newest.epochs)
    ]


def _covering(held: Extents, grid: Grid) -> Extent | None:
    """The cached data of ``grid``, with the age of its newest part; ``None`` if there are none."""
    parts = [extent for extent in held if overlap(extent.grid, grid) is not None]
    if not parts:
        return None
    parts = _of_one_history(parts)
    first = max(grid.start, parts[0].grid.start)
    last = min(grid.end, parts[-1].grid.end)
    cropped = Grid(first, last, grid.step_seconds)
    frame = Frame.assembled(cropped, (extent.frame for extent in parts))
    return parts[-1]._replace(frame=frame)


def _newest(held: Extents, span_seconds: int) -> Extent | None:
    """The newest cached window of at most ``span_seconds``; ``None`` if nothing is cached."""
    if not held:
        return None
    newest = _of_one_history(list(held))[-1]
    step = newest.grid.step_seconds
    first = newest.grid.end - span_seconds // step * step
    parts = [extent for extent in _of_one_history(list(held)) if extent.grid.end >= first]
    window = Grid(max(first, parts[0].grid.start), newest.grid.end, step)
    return newest._replace(frame=Frame.assembled(window, (extent.frame for extent in parts)))
