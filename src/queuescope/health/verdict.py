"""The health verdict: what is measured against its limits, worst first.

A limit that is proven broken outranks what is not known, and what is not known outranks health:
nobody may read “healthy” off a figure that nobody saw.
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
    """From best to worst as they outrank each other; the strings appear on screen and in JSON."""

    HEALTHY = "healthy"
    UNKNOWN = "unknown"
    DEGRADED = "degraded"
    STALLED = "stalled"
    DOWN = "down"

    @property
    def rank(self) -> int:
        return list(Health).index(self)


class Worse(StrEnum):
    """On which side of its limits a measure is bad."""

    ABOVE = "above"
    BELOW = "below"


@dataclass(frozen=True, slots=True)
class Limits:
    """Where a measure turns bad, in its own unit; None: it has no such limit.

    A value that equals its limit is still within it.
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
                f"down ({self.down:g}) lies on the better side of degraded ({self.degraded:g})"
            )

    @property
    def is_set(self) -> bool:
        return (self.degraded, self.down) != (None, None)

    def broken(self, value: float) -> tuple[Health, float] | None:
        """The worst limit that ``value`` breaks and what it means; None when it breaks none."""
        for health, limit in ((Health.DOWN, self.down), (Health.DEGRADED, self.degraded)):
            if limit is not None and self.is_beyond(value, limit):
                return health, limit
        return None

    def judged(self, value: float, bounds: Bounds | None = None) -> tuple[Health, float] | None:
        """As ``broken``, of a figure of which only its ``bounds`` may be known: that it lies above
        the lower and not above the higher. Where they do not tell whether a limit is broken, it is
        unknown, with the limit in question.
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
    """The present value of a measure and how it got there.

    ``value`` None is unknown, for the reason in ``cause``; NaN is idle: there was nothing to
    measure, which breaks no limit. ``times`` (epoch seconds, ascending) and ``values`` are its
    history, which ends at or before the present; NaN is a gap. ``bounds`` are between what the
    value is known to lie, where it is an estimate.
    """

    value: float | None
    cause: str = ""
    times: npt.NDArray[np.float64] | None = None
    values: npt.NDArray[np.float64] | None = None
    bounds: Bounds | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """One measure that is not healthy. ``since`` is epoch seconds; None: not known since when.

    ``began_before`` says that the history begins beyond the limit: it began at ``since`` or
    earlier. With ``bounds`` no more is known of the value than that it lies between them; where
    it is unknown for that reason, ``limit`` lies there, too.
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
    """The worst of the findings, and all of them, worst first and in the order of the rules."""

    health: Health
    findings: tuple[Finding, ...]


def judge(
    limits: Mapping[str, Limits],
    measured: Mapping[str, Measured],
    extra: Sequence[Finding] = (),
    last: Sequence[Finding] = (),
) -> Verdict:
    """The verdict on ``measured``; a measure with limits that was not measured is unknown.

    ``extra`` are findings that no limit can express, such as a stall or a source that is away;
    ``last`` are further ones, which among equally bad ones are told after those of the limits.
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
    """When the unbroken run of values beyond ``limit`` that ends now began.

    A gap does not end the run: nothing is known of it, and the trouble on both sides is one.
    """
    times, values = measured.times, measured.values
    if times is None or values is None or not len(times):
        return None, False
    known = ~np.isnan(values)
    times, values = times[known], values[known]
    beyond = values > limit if limits.worse is Worse.ABOVE else values < limit
    if not len(beyond) or not beyond[-1]:
        # It broke after the newest point of the history.
        return None, False
    within = np.flatnonzero(~beyond)
    if not len(within):
        return float(times[0]), True
    return float(times[within[-1] + 1]), False
