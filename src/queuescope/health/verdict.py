"""The health verdict: measures against their limits, worst first.

A broken limit outranks an unknown measure, and an unknown measure outranks health: “healthy” is
never shown for a figure that is unknown.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

Bounds = tuple[float, float]


class Health(StrEnum):
    """From best to worst, in order of rank; the strings appear on screen and in JSON."""

    HEALTHY = "healthy"
    UNKNOWN = "unknown"
    DEGRADED = "degraded"
    STALLED = "stalled"
    DOWN = "down"

    @property
    def rank(self) -> int:
        return list(Health).index(self)


class Worse(StrEnum):
    """The side of its limits on which a measure is bad."""

    ABOVE = "above"
    BELOW = "below"


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a measure, in its own unit; ``None``: it has no such limit.

    A value equal to its limit is within it.
    """

    worse: Worse
    degraded: float | None = None
    down: float | None = None

    def __post_init__(self) -> None:
        if self.degraded is None or self.down is None:
            return
        in_order = (
            self.degraded <= self.down if self.worse is Worse.ABOVE else self.degraded >= self.down
        )
        if not in_order:
            raise ValueError(
                f"down ({self.down:g}) is on the better side of degraded ({self.degraded:g})"
            )

    @property
    def is_set(self) -> bool:
        return (self.degraded, self.down) != (None, None)

    def broken(self, value: float) -> tuple[Health, float] | None:
        """The health and the worst limit that ``value`` breaks; ``None`` if it breaks none."""
        for health, limit in ((Health.DOWN, self.down), (Health.DEGRADED, self.degraded)):
            if limit is not None and self.is_beyond(value, limit):
                return health, limit
        return None

    def judged(self, value: float, bounds: Bounds | None = None) -> tuple[Health, float] | None:
        """Like ``broken``, for a value of which only its ``bounds`` may be known: it is above the
        lower one and not above the higher one. If they leave open whether a limit is broken, the
        health is unknown, with that limit.
        """
        if bounds is None:
            return self.broken(value)
        low, high = math.nextafter(bounds[0], math.inf), bounds[1]
        best, worst = (low, high) if self.worse is Worse.ABOVE else (high, low)
        certain, possible = self.broken(best), self.broken(worst)
        if certain is not None or possible is None:
            return certain
        return Health.UNKNOWN, (possible[1] if self.degraded is None else self.degraded)

    def is_beyond(self, value: float, limit: float) -> bool:
        return value > limit if self.worse is Worse.ABOVE else value < limit


@dataclass(frozen=True, slots=True)
class Measured:
    """The present value of a measure and its history.

    ``value`` ``None`` is unknown, for the reason in ``cause``; NaN is idle: there was nothing to
    measure, which breaks no limit. ``times`` (epoch seconds, ascending) and ``values`` are its
    history, which ends at or before the present; NaN is a gap. ``bounds`` contain the true value if
    ``value`` is an estimate.
    """

    value: float | None
    cause: str = ""
    times: npt.NDArray[np.float64] | None = None
    values: npt.NDArray[np.float64] | None = None
    bounds: Bounds | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """One measure that is not healthy. ``since`` is epoch seconds; ``None`` is unknown.

    ``began_before`` means that the history begins beyond the limit, so it began at ``since`` or
    earlier. With ``bounds`` the value is only known to be between them; if the health is unknown
    for that reason, ``limit`` is between them as well.
    """

    measure: str
    health: Health
    value: float | None = None
    limit: float | None = None
    since: float | None = None
    began_before: bool = False
    cause: str = ""
    bounds: Bounds | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """The worst health, and all findings, worst first and otherwise in the order of the rules."""

    health: Health
    findings: tuple[Finding, ...]


def judge(
    limits: Mapping[str, Limits],
    measured: Mapping[str, Measured],
    extra: Sequence[Finding] = (),
    last: Sequence[Finding] = (),
) -> Verdict:
    """The verdict on ``measured``; a measure with limits that was not measured is unknown.

    ``extra`` are findings that no limit can express, such as a stall or a source that does not
    answer; ``last`` are further ones that come after equally bad ones of the limits.
    """
    found = list(extra)
    for name, limit in limits.items():
        if not limit.is_set:
            continue
        finding = _finding(name, limit, measured.get(name, Measured(None, "It was not measured.")))
        if finding is not None:
            found.append(finding)
    found += last
    found.sort(key=lambda finding: -finding.health.rank)
    return Verdict(found[0].health if found else Health.HEALTHY, tuple(found))


def _finding(name: str, limits: Limits, measured: Measured) -> Finding | None:
    value = measured.value
    if value is None:
        return Finding(name, Health.UNKNOWN, cause=measured.cause)
    if math.isnan(value):
        return None
    broken = limits.judged(value, measured.bounds)
    if broken is None:
        return None
    health, limit = broken
    if health is Health.UNKNOWN:
        return Finding(name, health, value, limit, bounds=measured.bounds)
    since, began_before = _since(limits, limit, measured)
    return Finding(name, health, value, limit, since, began_before, measured.cause, measured.bounds)


def _since(limits: Limits, limit: float, measured: Measured) -> tuple[float | None, bool]:
    """When the present run of values beyond ``limit`` began, and whether it began even earlier.

    A gap does not end the run: nothing is known about it, and the limit is broken on both sides.
    """
    times, values = measured.times, measured.values
    if times is None or values is None or not len(times):
        return None, False
    known = ~np.isnan(values)
    times, values = times[known], values[known]
    beyond = values > limit if limits.worse is Worse.ABOVE else values < limit
    if not len(beyond) or not beyond[-1]:
        # The limit was broken after the newest point of the history.
        return None, False
    within = np.flatnonzero(~beyond)
    if not len(within):
        return float(times[0]), True
    return float(times[within[-1] + 1]), False
