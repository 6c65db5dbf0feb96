"""The points of the newest snapshots, so that a reader can save what is on screen."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from cachetools import FIFOCache

from queuescope.figures import Curve, Curves
from queuescope.panels import Panel
from queuescope.view.selection import View

MOST_VALUES = 4 * 1024 * 1024
"""Each takes 8 bytes, so 32 MiB in all."""

_CURVE_VALUES = 128
"""The overhead of a curve, counted in values."""


@dataclass(frozen=True, slots=True)
class Points:
    """All points of a chart, before any are left out for drawing. ``by`` is the label of its
    breakdown; ``live_at`` is when its open step was read (source time).
    """

    panel: Panel
    curves: Curves
    by: str | None
    live_at: float | None


class KeptPoints:
    """The points of each snapshot, at most ``most`` values; the oldest are dropped first."""

    def __init__(self, most: int = MOST_VALUES) -> None:
        self._held = FIFOCache[tuple[View, float], tuple[Points, ...]](most, getsizeof=_size)

    @property
    def values(self) -> int:
        """The number of values that are kept."""
        return int(self._held.currsize)

    def keep(self, view: View, taken_at: float, points: Iterable[Points]) -> None:
        """Keep ``points`` for the snapshot of ``view`` that was taken at ``taken_at``."""
        kept = tuple(replace(one, curves=_values_alone(one.curves)) for one in points)
        if _size(kept) <= self._held.maxsize:
            self._held[view, taken_at] = kept

    def of(self, view: View, taken_at: float) -> tuple[Points, ...] | None:
        """The points of that snapshot, one for each panel; None if they are no longer kept."""
        return self._held.get((view, taken_at))


def _size(points: Iterable[Points]) -> int:
    return sum(len(curve.values) + _CURVE_VALUES for one in points for curve in one.curves.curves)


def _values_alone(curves: Curves) -> Curves:
    return replace(curves, curves=tuple(_value_alone(curve) for curve in curves.curves))


def _value_alone(curve: Curve) -> Curve:
    # A copy: the values may be a row of a larger array, which would be kept whole.
    return replace(curve, values=np.array(curve.values), low=None, high=None)
