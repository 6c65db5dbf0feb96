"""A cache with one fault at a time, each of which the property must detect."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
import pytest

from queuescope.cache import CachedReader, Extent, disk, history, reader, store
from queuescope.cache.disk import Extents, FrameKey
from queuescope.errors import SourceError
from queuescope.timeseries import Answer, Frame, Grid, Reading, State


@dataclass(frozen=True, slots=True)
class Fault:
    """``replacement`` returns the wrong attribute of ``owner`` for the right one."""

    name: str
    owner: Any
    attribute: str
    replacement: Callable[[Any], Any]
    within_histories: int = 200

    def inject(self, monkeypatch: pytest.MonkeyPatch) -> None:
        right = getattr(self.owner, self.attribute)
        monkeypatch.setattr(self.owner, self.attribute, self.replacement(right))

    def __str__(self) -> str:
        return self.name


def _shorter_horizon(right: Any) -> Any:
    def init(self: CachedReader, *args: Any, horizon_seconds: float, **more: Any) -> None:
        right(self, *args, horizon_seconds=horizon_seconds - 10, **more)

    return init


def _final_from_the_beginning(right: Any) -> Any:
    def plan(self: CachedReader, held: Extents, *more: Any) -> Any:
        return right(self, tuple(e._replace(final_until=e.grid.end) for e in held), *more)

    return plan


def _half_answers_kept(right: Any) -> Any:
    async def read(
        self: CachedReader, key: FrameKey, grid: Grid, source_now: float, *more: Any
    ) -> Reading:
        found: Reading = await right(self, key, grid, source_now, *more)
        if found.state is State.PARTIAL and found.frame is not None:
            final_until = source_now - self._horizon_seconds
            self._store.put(key, Extent(found.frame, final_until, source_now))
        return found

    return read


def _failures_taken_for_nothing(right: Any) -> Any:
    async def fetch(self: CachedReader, query: str, missing: tuple[Grid, ...]) -> list[Answer]:
        try:
            answers: list[Answer] = await right(self, query, missing)
        except SourceError:
            return [Answer(Frame.empty(grid)) for grid in missing]
        return answers

    return fetch


def _gaps_cut_short(right: Callable[[Grid, Iterable[Grid]], tuple[Grid, ...]]) -> Any:
    def gaps(wanted: Grid, held: Iterable[Grid]) -> tuple[Grid, ...]:
        step = wanted.step_seconds
        found = right(wanted, held)
        return tuple(Grid(g.start + step, g.end, step) if len(g) > 1 else g for g in found)

    return gaps


def _cropped_beyond_the_end(right: Any) -> Any:
    def crop(extent: Grid, *, first: float, last: float) -> Grid | None:
        found: Grid | None = right(extent, first=first, last=last + extent.step_seconds)
        return found

    return crop


def _old_points_win(right: Any) -> Any:
    def laid_over(held: Extents, new: Extent) -> Extents:
        parts: Extents = right(held, new)
        frames = [extent.frame for extent in (new, *held)]
        return tuple(p._replace(frame=Frame.assembled(p.grid, (p.frame, *frames))) for p in parts)

    return laid_over


def _checksums_ignored(right: Any) -> Any:
    def decode(content: bytes, key: FrameKey) -> Extents | None:
        payload = content[len(disk._MAGIC) + disk._DIGEST_BYTES :]
        whole = disk._MAGIC + sha256(payload).digest() + payload
        found: Extents | None = right(whole, key)
        return found

    return decode


def _undefined_taken_for_missing(right: Any) -> Any:
    def save(self: disk.FrameFiles, key: FrameKey, extents: Extents) -> None:
        plain = [np.where(np.isnan(e.frame.values), np.nan, e.frame.values) for e in extents]
        frames = [Frame(e.grid, e.frame.series, v) for e, v in zip(extents, plain, strict=True)]
        right(
            self,
            key,
            tuple(e._replace(frame=f) for e, f in zip(extents, frames, strict=True)),
        )

    return save


def _new_age_for_old_data(right: Any) -> Any:
    async def read(
        self: CachedReader, key: FrameKey, grid: Grid, source_now: float, *more: Any
    ) -> Reading:
        found: Reading = await right(self, key, grid, source_now, *more)
        return Reading(
            found.state,
            found.frame,
            None if found.as_of is None else source_now + 1,
            found.lookup,
            cause=found.cause,
        )

    return read


FAULTS = (
    Fault("the horizon is a step shorter", CachedReader, "__init__", _shorter_horizon),
    Fault("the newest points are final at once", CachedReader, "_plan", _final_from_the_beginning),
    Fault("half answers are kept", CachedReader, "_read", _half_answers_kept),
    Fault("failures are answers", CachedReader, "_fetch", _failures_taken_for_nothing),
    Fault("the first point of a gap is not asked for", reader, "gaps", _gaps_cut_short),
    Fault("one point too many is taken for final", reader, "crop", _cropped_beyond_the_end),
    Fault("old points win over new ones", store, "_overlaid", _old_points_win),
    Fault("another history is not noticed", history, "differs", lambda _: lambda *_: False),
    Fault(
        "points next to a range are not compared",
        history,
        "beside",
        lambda _: lambda *_, **__: (),
    ),
    Fault("damaged files are read", disk, "_decode", _checksums_ignored),
    Fault("files forget what is undefined", disk.FrameFiles, "save", _undefined_taken_for_missing),
    Fault("old data are called new", CachedReader, "_read", _new_age_for_old_data),
)
