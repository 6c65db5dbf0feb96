"""Checks whether cached data are still the history of the source; pure.

Data of another server at the same address, or after a loss of data, must not be joined to them.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from queuescope.cache.extents import crop, overlap
from queuescope.timeseries import Frame, Grid

SEAM_POINTS = 3
"""How many cached points beside a gap are fetched again."""

KNOWN_SEAM_POINTS = 1
"""The same if all cached data are from the present epoch: the epoch shows that it is the same
history, and the seam only confirms that, when the gap is first closed.
"""


def with_seam(gap: Grid, held: Iterable[Grid], points: int = SEAM_POINTS) -> Grid:
    """``gap`` extended by up to ``points`` of the cached points on either side."""
    step = gap.step_seconds
    parts = tuple(held)
    before = next((part for part in parts if part.end == gap.start - step), None)
    after = next((part for part in parts if part.start == gap.end + step), None)
    start = gap.start if before is None else max(before.start, gap.start - points * step)
    end = gap.end if after is None else min(after.end, gap.end + points * step)
    return Grid(start, end, step)


def beside(held: Grid, grid: Grid, *, until: float) -> tuple[Grid, ...]:
    """The points of ``held`` up to ``until`` that are just before ``grid`` or just after it.

    The data of ``grid`` will be joined to them, so both must be of one history.
    """
    step, reach = grid.step_seconds, SEAM_POINTS * grid.step_seconds
    parts = (
        crop(held, first=grid.start - reach, last=min(grid.start - step, until)),
        crop(held, first=grid.end + step, last=min(grid.end + reach, until)),
    )
    return tuple(part for part in parts if part is not None)


def spots(held: Frame) -> tuple[Grid, ...]:
    """A few points of ``held`` that distinguish histories: both ends, and its largest jump."""
    grid, step = held.grid, held.grid.step_seconds
    last = len(grid) - 2
    if last < 2 * SEAM_POINTS:
        return (grid,)
    jumps = np.abs(np.diff(np.nan_to_num(held.values), axis=1)).sum(axis=0)
    starts = sorted({0, min(int(jumps.argmax()), last), last})
    return tuple(Grid(grid.start + n * step, grid.start + (n + 1) * step, step) for n in starts)


def differs(held: Iterable[Frame], fetched: Iterable[Frame]) -> bool:
    """Whether a final cached point has another value now."""
    answers = tuple(fetched)
    for part in held:
        for frame in answers:
            common = overlap(part.grid, frame.grid)
            if common is None:
                continue
            was = Frame.assembled(common, (part,))
            now = Frame.assembled(common, (frame,))
            # Sums over series may differ in the last bits after blocks are written.
            if was.series != now.series or not np.allclose(
                was.values, now.values, rtol=1e-9, atol=1e-12, equal_nan=True
            ):
                return True
    return False
