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
    """The positions of at most ``points`` of ``values``, in order; all, if there are no more.

    The values are cut into ``(points - 2) // 2`` stretches of equal length, of each of which the
    largest and the smallest are kept: a spike and a dip of one sample each are drawn whole even
    where both fall into one stretch. The first and the last position are always kept.

    NaN and infinities are gaps. They hide no value of their stretch, and wherever there is one
    between two kept values, one is kept, so that a line that is broken stays broken; for each gap
    there is a point less for the stretches, but never less than half of them. A gap may begin or
    end up to a stretch beside its place.

    Raises ``ValueError`` for fewer than 8 points.
    """
    if points < FEWEST_POINTS:
        raise ValueError(f"{points} points cannot hold a curve; give at least {FEWEST_POINTS}")
    if len(values) <= points:
        return np.arange(len(values))
    values = np.ascontiguousarray(values)
    # It keeps a NaN of each stretch that has one, and so tells without a second walk through all
    # values that there is no gap.
    kept = _extremes(_WITH_GAPS, values, points)
    if np.isfinite(values[kept]).all():
        return kept
    is_gap = ~np.isfinite(values)
    values = np.where(is_gap, np.nan, values)
    gaps = int(np.count_nonzero(is_gap[1:] & ~is_gap[:-1]))
    # Among n values there are fewer than n breaks, so that half of the points do for any gaps.
    room = max(points - gaps, points // 2)
    return _with_breaks(_extremes(_WITHOUT_GAPS, values, room), is_gap)


def _extremes(
    downsampler: MinMaxDownsampler | NaNMinMaxDownsampler, values: Floats, points: int
) -> Positions:
    inner = downsampler.downsample(values, n_out=(points - 2) // 2 * 2)
    kept: Positions = np.concatenate(([0], inner.astype(np.int64), [len(values) - 1]))
    # In order already: what stands twice stands beside itself.
    return kept[np.diff(kept, prepend=-1) > 0]


def _with_breaks(kept: Positions, is_gap: NDArray[np.bool_]) -> Positions:
    """``kept``, and the first of the gaps that lie between two neighbours that are none."""
    left, right = kept[:-1], kept[1:]
    gaps = np.append(np.flatnonzero(is_gap), len(is_gap))
    first = gaps[np.searchsorted(gaps, left)]
    return np.union1d(kept, first[~is_gap[left] & ~is_gap[right] & (first < right)])
