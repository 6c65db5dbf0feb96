"""Which points of a long curve are drawn, so that its extremes and its gaps survive."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from tsdownsample import MinMaxDownsampler, NaNMinMaxDownsampler

from queuescope.timeseries import Floats

Positions = NDArray[np.int64]

FEWEST_POINTS = 8
_WITHOUT_GAPS = MinMaxDownsampler()
_WITH_GAPS = NaNMinMaxDownsampler()


def downsample(values: Floats, points: int) -> Positions:
    """The positions of at most ``points`` of ``values``, in order; all if there are no more.

    The values are cut into ``(points - 2) // 2`` sections of equal length, and the largest and the
    smallest value of each are kept: a spike and a dip of one sample each are drawn in full even if
    both are in one section. The first and the last position are always kept.

    NaN and infinities are gaps. They hide no value of their section, and if there are some between
    two kept values, one is kept, so that a broken line stays broken; each gap takes one point from
    the sections, but at most half of the points in all. A gap may begin or end up to one section
    away from its true place.

    Raises ``ValueError`` for fewer than 8 points.
    """
    if points < FEWEST_POINTS:
        raise ValueError(f"{points} points cannot hold a curve; give at least {FEWEST_POINTS}")
    if len(values) <= points:
        return np.arange(len(values))
    values = np.ascontiguousarray(values)
    # This downsampler keeps a NaN of each section that has one, which shows without a second pass
    # over all values whether there are gaps.
    kept = _extremes(_WITH_GAPS, values, points)
    if np.isfinite(values[kept]).all():
        return kept
    is_gap = ~np.isfinite(values)
    values = np.where(is_gap, np.nan, values)
    gaps = int(np.count_nonzero(is_gap[1:] & ~is_gap[:-1]))
    # Fewer breaks than values are possible, so half of the points suffice for any gaps.
    room = max(points - gaps, points // 2)
    return _with_breaks(_extremes(_WITHOUT_GAPS, values, room), is_gap)


def _extremes(
    downsampler: MinMaxDownsampler | NaNMinMaxDownsampler, values: Floats, points: int
) -> Positions:
    inner = downsampler.downsample(values, n_out=(points - 2) // 2 * 2)
    kept: Positions = np.concatenate(([0], inner.astype(np.int64), [len(values) - 1]))
    # The positions are sorted, so duplicates are neighbours.
    return kept[np.diff(kept, prepend=-1) > 0]


def _with_breaks(kept: Positions, is_gap: NDArray[np.bool_]) -> Positions:
    """``kept``, plus the first gap between any two neighbours that are not gaps."""
    left, right = kept[:-1], kept[1:]
    gaps = np.append(np.flatnonzero(is_gap), len(is_gap))
    first = gaps[np.searchsorted(gaps, left)]
    return np.union1d(kept, first[~is_gap[left] & ~is_gap[right] & (first < right)])
