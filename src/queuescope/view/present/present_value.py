"""One figure of now."""

from __future__ import annotations

import math
from dataclasses import dataclass

from queuescope.figures import Bounds, figure_words
from queuescope.known import Known
from queuescope.panels import Kind
from queuescope.timeseries import State


@dataclass(frozen=True, slots=True)
class PresentValue(Known[float]):
    """One figure as of the newest query that was answered, by the source's clock.

    ``value`` None with an ``as_of``: the source has no sample for it; NaN: nothing happened that
    could be measured. ``warnings`` are the source's words for an answer that may be incomplete.
    With ``bounds`` it is known only that the figure lies between these, and ``value`` is an
    estimate, which is drawn but never written. ``over_seconds`` is over how long it was measured;
    None where it is of one moment, or that is not known. ``late_seconds`` is by how much the
    source's samples arrive late, so that there can be none that is younger.
    """

    warnings: tuple[str, ...] = ()
    bounds: Bounds | None = None
    over_seconds: float | None = None
    late_seconds: float = 0.0

    @property
    def state(self) -> State:
        if self.value is None:
            is_known = self.as_of is not None and self.error is None and not self.warnings
            return State.EMPTY if is_known else State.UNAVAILABLE
        if self.error is not None:
            return State.STALE
        if self.warnings:
            return State.PARTIAL
        return State.IDLE if math.isnan(self.value) else State.FRESH

    @property
    def whole(self) -> float | None:
        """The value, unless it is an old one or may be only part of it."""
        return None if self.warnings else self.fresh_value

    @property
    def between(self) -> Bounds | None:
        """Between what it lies, itself where it is exact; None where it is not known."""
        if self.value is None or math.isnan(self.value):
            return None
        return self.bounds or (self.value, self.value)

    def words(self, kind: Kind) -> str:
        """As it is written: never as a number that was not measured."""
        return "–" if self.value is None else figure_words(kind, self.value, self.bounds)
