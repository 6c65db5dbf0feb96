"""Arithmetic on extents: aligned intervals of equal step, represented as grids; pure.

Both ends belong to an extent, so ``0..20`` and ``30..50`` touch at a step of 10.
"""

from __future__ import annotations

from collections.abc import Iterable

from queuescope.timeseries import Grid


def crop(extent: Grid, *, first: float, last: float) -> Grid | None:
    """The part of ``extent`` from ``first`` to ``last``; ``None`` if there is none."""
    step = extent.step_seconds
    start = max(extent.start, int(-(-first // step)) * step)
    end = min(extent.end, int(last // step) * step)
    return Grid(start, end, step) if start <= end else None


def overlap(a: Grid, b: Grid) -> Grid | None:
    """The common part of two extents; ``None`` if there is none."""
    return crop(a, first=b.start, last=b.end)


def touches(a: Grid, b: Grid) -> bool:
    """Whether there is no gap between two extents."""
    return (
        a.start <= b.end + b.step_seconds
        and b.start <= a.end + a.step_seconds
        and a.step_seconds == b.step_seconds
    )


def gaps(wanted: Grid, held: Iterable[Grid]) -> tuple[Grid, ...]:
    """The parts of ``wanted`` that are in none of ``held``, in order of time."""
    step = wanted.step_seconds
    missing: list[Grid] = []
    at = wanted.start
    for extent in sorted(held, key=lambda extent: extent.start):
        if extent.end < at:
            continue
        if extent.start > wanted.end:
            break
        if extent.start > at:
            missing.append(Grid(at, extent.start - step, step))
        at = extent.end + step
    if at <= wanted.end:
        missing.append(Grid(at, wanted.end, step))
    return tuple(missing)
