"""Quantiles of classic histograms, computed here so that the buckets are fetched only once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from queuescope.timeseries import Floats


@dataclass(frozen=True, slots=True, eq=False)
class Quantiles:
    """Quantiles from buckets. ``values`` are the estimates of ``histogram_quantile``; the true
    value is above ``low`` and not above ``high``, which is infinite beyond the highest finite
    bound. All have shape ``(q, n)`` and the unit of the bounds.
    """

    values: Floats
    low: Floats
    high: Floats


def bucket_quantiles(upper_bounds: Floats, counts: Floats, quantiles: Sequence[float]) -> Quantiles:
    """The quantiles of cumulative bucket counts, as ``histogram_quantile`` defines them.

    ``upper_bounds`` has shape ``(b,)``, ascending, its last value ``+Inf``; ``counts`` has shape
    ``(b, n)``: cumulative counts or rates per step, NaN where a step lacks a bucket. NaN where
    nothing was observed, where the ``+Inf`` bucket is missing, or where there is no finite bucket.
    A quantile that falls into the ``+Inf`` bucket is estimated as the highest finite bound: the
    true value is at least that.

    The algorithm is ``bucketQuantile`` of Prometheus (promql/quantile.go): linear interpolation
    within the bucket, the first bucket starting at 0 unless its bound is not positive.
    """
    result = np.full((3, len(quantiles), counts.shape[1]), np.nan)
    if not len(upper_bounds) or not np.isposinf(upper_bounds[-1]):
        return Quantiles(*result)
    # Steps with the same buckets are computed together; usually these are all steps.
    present = ~np.isnan(counts)
    open_steps = np.flatnonzero(present[-1])
    while open_steps.size:
        held = present[:, open_steps[0]]
        alike = (present[:, open_steps] == held[:, None]).all(axis=0)
        steps = open_steps[alike]
        if held.sum() > 1:
            result[:, :, steps] = _interpolated(
                upper_bounds[held], counts[np.ix_(held, steps)], quantiles
            )
        open_steps = open_steps[~alike]
    return Quantiles(*result)


def layout_breaks(counts: Floats, window_steps: int) -> NDArray[np.bool_]:
    """The steps whose counts mix two bucket layouts, so that a quantile of them would be wrong.

    ``counts`` are those of ``bucket_quantiles``; returns shape ``(n,)``. The window of a rate
    reaches back ``window_steps`` steps: for that long after a bucket appeared, and before one
    disappeared, some buckets include observations that others lack. Between an appearance and the
    next disappearance everything is mixed, as when workers are replaced one by one.
    """
    present = ~np.isnan(counts)
    broken = np.zeros(counts.shape[1], dtype=bool)
    # Next to a step without any bucket there is a gap already.
    some: NDArray[np.bool_] = np.logical_or.reduce(present, axis=0)
    beside = some[:-1] & some[1:]
    came = (present[:, 1:] & ~present[:, :-1]).any(axis=0) & beside
    gone = (present[:, :-1] & ~present[:, 1:]).any(axis=0) & beside
    appeared: int | None = None
    for before in np.flatnonzero(came | gone):
        after = int(before) + 1
        if gone[before]:
            first = max(0, after - window_steps)
            broken[first if appeared is None else min(first, appeared) : after] = True
            appeared = None
        if came[before]:
            broken[after : after + window_steps] = True
            appeared = after
    broken &= some
    return broken


def _interpolated(upper_bounds: Floats, counts: Floats, quantiles: Sequence[float]) -> Floats:
    """Values, low and high, for at least two buckets, all of them present at every step."""
    cumulative = np.maximum.accumulate(counts, axis=0)
    total = cumulative[-1]
    columns = np.arange(counts.shape[1])
    last = len(upper_bounds) - 1
    result = np.empty((3, len(quantiles), counts.shape[1]))
    with np.errstate(divide="ignore", invalid="ignore"):
        for row, quantile in enumerate(quantiles):
            rank = quantile * total
            bucket = (cumulative[:-1] < rank).sum(axis=0)
            inside = np.minimum(bucket, last - 1)
            lower_count = np.where(inside > 0, cumulative[np.maximum(inside - 1, 0), columns], 0.0)
            start = np.where(inside > 0, upper_bounds[np.maximum(inside - 1, 0)], 0.0)
            end = upper_bounds[inside]
            share = (rank - lower_count) / (cumulative[inside, columns] - lower_count)
            value = start + (end - start) * share
            value = np.where((inside == 0) & (end <= 0), end, value)
            value = np.where(bucket == last, upper_bounds[last - 1], value)
            low = np.where(bucket == last, end, np.minimum(start, end))
            high = upper_bounds[bucket]
            result[:, row] = np.where(total > 0, (value, low, high), np.nan)
    return result
