"""One present value from Prometheus."""

from __future__ import annotations

import math
from dataclasses import dataclass

from queuescope.figures import Bounds, figure_words
from queuescope.known import Known
from queuescope.panels import Kind
from queuescope.timeseries import State


@dataclass(frozen=True, slots=True)
class PresentValue(Known[float]):
    """One value as of the newest answered query, by the source's clock.

    ``value`` is None with an ``as_of`` if the source has no sample for it, and NaN if nothing
    happened that could be measured. ``warnings`` are the source's warnings that the answer may be
    incomplete. With ``bounds`` the exact value is unknown but lies between them; ``value`` is then
    an estimate, which is drawn but never written. ``over_seconds`` is the window it was measured
    over; None for the value of one instant, or if unknown. ``late_seconds`` is how late the
    source's samples arrive, so that no newer value can exist.
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
        """The value, if it is neither old nor possibly partial; else None."""
        return None if self.warnings else self.fresh_value

    @property
    def between(self) -> Bounds | None:
        """The bounds of the value, which are equal if it is exact; None if it is unknown."""
        if self.value is None or math.isnan(self.value):
            return None
        return self.bounds or (self.value, self.value)

    def words(self, kind: Kind) -> str:
        """The value in words: never a number that was not measured."""
        return "–" if self.value is None else figure_words(kind, self.value, self.bounds)
