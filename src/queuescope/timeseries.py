"""Time ranges, aligned grids, frames of series, and readings with their state.

All times are UTC epoch seconds. Grids hold whole seconds, so that equal requests give equal
timestamps. Values are ``float64``; a gap is ``NaN`` and never zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_UNDEFINED_BITS = np.uint64(0x7FF8_0000_0000_0001)
UNDEFINED = float(_UNDEFINED_BITS.view(np.float64))
"""The NaN of a sample that exists but is not a number, such as a quantile of nothing.

It behaves as NaN, a gap, everywhere; ``sampled`` distinguishes it from the NaN of a missing sample,
so that an idle series does not look like one that has ended.
"""


def sampled(values: Floats) -> NDArray[np.bool_]:
    """A mask that is true where a sample exists: a number or ``UNDEFINED``."""
    bits = np.ascontiguousarray(values).view(np.uint64)
    found: NDArray[np.bool_] = np.isfinite(values) | (bits == _UNDEFINED_BITS)
    return found


@dataclass(frozen=True, slots=True)
class Grid:
    """The timestamps ``start, start + step, …, end``; both ends are multiples of the step."""

    start: int
    end: int
    step_seconds: int

    def __post_init__(self) -> None:
        if self.step_seconds <= 0:
            raise ValueError(f"step must be positive, not {self.step_seconds}")
        if self.start % self.step_seconds or self.end % self.step_seconds:
            raise ValueError(f"{self.start}..{self.end} is not aligned to {self.step_seconds} s")
        if self.end < self.start:
            raise ValueError(f"the grid ends ({self.end}) before it starts ({self.start})")

    @classmethod
    def ending_at(cls, now: float, span_seconds: int, step_seconds: int) -> Grid:
        """The newest complete grid: ``end`` is ``now`` floored to the step."""
        end = int(now // step_seconds) * step_seconds
        return cls(end - span_seconds // step_seconds * step_seconds, end, step_seconds)

    @classmethod
    def covering(cls, start: float, end: float, step_seconds: int) -> Grid:
        """The smallest aligned grid that contains ``start`` and ``end``."""
        first = int(start // step_seconds) * step_seconds
        last = -int(-end // step_seconds) * step_seconds
        return cls(first, max(first, last), step_seconds)

    def __len__(self) -> int:
        return (self.end - self.start) // self.step_seconds + 1

    def timestamps(self) -> Floats:
        """Epoch seconds, shape ``(len(self),)``."""
        return np.arange(len(self), dtype=np.float64) * self.step_seconds + self.start

    def index(self, timestamp: int) -> int:
        """The position of an aligned timestamp; it may be outside the grid."""
        return (timestamp - self.start) // self.step_seconds


Labels = tuple[tuple[str, str], ...]
"""Label pairs in the order of their names: hashable, and equal for equal label sets."""


def labels_of(pairs: Mapping[str, str]) -> Labels:
    return tuple(sorted(pairs.items()))


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """Series on one grid: ``values[i, j]`` is series ``i`` at the grid's timestamp ``j``."""

    grid: Grid
    series: tuple[Labels, ...]
    values: Floats

    def __post_init__(self) -> None:
        expected = (len(self.series), len(self.grid))
        if self.values.shape != expected:
            raise ValueError(f"values have shape {self.values.shape}, not {expected}")

    @classmethod
    def empty(cls, grid: Grid) -> Frame:
        return cls(grid, (), np.empty((0, len(grid))))

    @classmethod
    def assembled(cls, grid: Grid, parts: Iterable[Frame]) -> Frame:
        """The parts, all with the grid's step, combined on ``grid``, with the series in label
        order.

        Where parts overlap, the later one wins; what no part covers is a gap; a series without a
        sample inside ``grid`` is left out.
        """
        parts = tuple(parts)
        if any(part.grid.step_seconds != grid.step_seconds for part in parts):
            raise ValueError(f"only frames with a step of {grid.step_seconds} s fit this grid")
        inside = [p for p in parts if p.grid.end >= grid.start and p.grid.start <= grid.end]
        names = sorted({labels for part in inside for labels in part.series})
        row_of = {labels: row for row, labels in enumerate(names)}
        values = np.full((len(names), len(grid)), np.nan)
        for part in inside:
            first, last = max(grid.start, part.grid.start), min(grid.end, part.grid.end)
            target = slice(grid.index(first), grid.index(last) + 1)
            values[:, target] = np.nan
            rows = [row_of[labels] for labels in part.series]
            values[rows, target] = part.values[
                :, part.grid.index(first) : part.grid.index(last) + 1
            ]
        kept = np.flatnonzero(sampled(values).any(axis=1))
        series = tuple(names[row] for row in kept)
        return cls(grid, series, values[kept])

    def until(self, at: float) -> Frame:
        """The same frame without samples after ``at`` (epoch seconds)."""
        count = max(0, min(len(self.grid), self.grid.index(int(at)) + 1))
        if not count:
            return Frame.empty(self.grid)
        step = self.grid.step_seconds
        kept = Grid(self.grid.start, self.grid.start + (count - 1) * step, step)
        return Frame.assembled(self.grid, [Frame(kept, self.series, self.values[:, :count])])

    @property
    def has_numbers(self) -> bool:
        return bool(np.isfinite(self.values).any())


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one range query. Warnings and infos are the source's own text."""

    frame: Frame
    warnings: tuple[str, ...] = ()
    infos: tuple[str, ...] = ()


class RangeSource(Protocol):
    """A source of range queries, as the cache needs it."""

    @property
    def identity(self) -> str:
        """Identifies the source; stable over restarts and without secrets."""
        ...

    async def query_range(self, query: str, grid: Grid) -> Answer:
        """The series of ``query`` at every timestamp of ``grid``. Raises ``SourceError``."""
        ...


class LookupStatus(StrEnum):
    """How the cache answered one read."""

    HIT = "hit"
    PARTIAL_HIT = "partial_hit"
    RANGE_MISS = "range_miss"
    KEY_MISS = "key_miss"
    SOURCE_ERROR = "source_error"


class State(StrEnum):
    """How far a figure can be trusted. Zero is a value, not a state."""

    FRESH = "fresh"
    PARTIAL = "partial"
    STALE = "stale"
    EMPTY = "empty"
    IDLE = "idle"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True)
class Reading:
    """A frame with its state, age and cause.

    ``as_of`` is when the source last answered for these data (source time, epoch seconds); it and
    ``frame`` are ``None`` if there is nothing to show. ``cause`` is one sentence for every state
    except fresh, ``cause_kind`` the stable name of a source's failure.
    """

    state: State
    frame: Frame | None
    as_of: float | None
    lookup: LookupStatus
    cause: str = ""
    cause_kind: str | None = None
    detail: str = ""
    warnings: tuple[str, ...] = field(default=())
