"""Will this queue clear by itself: what arrives against what is completed."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum

_HARDLY_SECONDS = 7 * 86_400
_BALANCE_RATIO = 0.02
_FEWEST_COMPLETIONS = 0.5


class DrainState(StrEnum):
    """``steady``: what arrives and what is completed balance, so the queue keeps its length."""

    EMPTY = "empty"
    CLEARING = "clearing"
    STEADY = "steady"
    GROWING = "growing"
    STALLED = "stalled"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Drain:
    """``seconds`` until the queue is empty (clearing only); ``workers_needed`` is the smallest
    number of workers that would make it clear (growing or steady, where it can be told).
    Rates are jobs per second; None is unknown.
    """

    state: DrainState
    arrival_per_second: float | None = None
    completion_per_second: float | None = None
    seconds: float | None = None
    workers: int | None = None
    workers_needed: int | None = None

    @property
    def growth_per_second(self) -> float | None:
        if self.arrival_per_second is None or self.completion_per_second is None:
            return None
        return self.arrival_per_second - self.completion_per_second


def drain(
    *,
    depth: float | None,
    growth_per_second: float | None,
    completion_per_second: float | None,
    workers: int | None,
    window_seconds: float,
) -> Drain:
    """The verdict on a queue of ``depth`` waiting jobs.

    ``growth_per_second`` is the slope of the depth and ``completion_per_second`` the jobs that
    left the queue for good, both over the last ``window_seconds``; what arrived is their sum (a
    job that is neither waiting nor completed is running, and few enough are).

    Within one job, or 2 % of what arrives, of the window the two balance. A forecast takes for
    granted that both rates stay as they are; one beyond a week is none. More workers are assumed
    to complete proportionally more, which holds while work waits for each of them.
    """
    if depth is None or growth_per_second is None or completion_per_second is None:
        return Drain(DrainState.UNKNOWN, completion_per_second=completion_per_second)
    if any(math.isnan(v) for v in (depth, growth_per_second, completion_per_second)):
        return Drain(DrainState.UNKNOWN)
    completion = max(0.0, completion_per_second)
    # A slope below what was completed would be a negative arrival: jobs left in another way
    # (a purge, an expiry), and they do not come into a forecast.
    arrival = max(0.0, completion + growth_per_second)
    net = arrival - completion
    rates = Drain(DrainState.UNKNOWN, arrival, completion, workers=workers)
    if depth <= 0:
        return replace(rates, state=DrainState.EMPTY)
    # Not even one whole job: the rest of a rate that is fading out.
    if completion * window_seconds < _FEWEST_COMPLETIONS:
        return replace(rates, state=DrainState.STALLED)
    balanced = abs(net) * window_seconds <= max(1.0, _BALANCE_RATIO * arrival * window_seconds)
    if net < 0 and not balanced and depth / -net <= _HARDLY_SECONDS:
        return replace(rates, state=DrainState.CLEARING, seconds=depth / -net)
    state = DrainState.GROWING if net > 0 and not balanced else DrainState.STEADY
    needed = _workers_needed(arrival, completion, workers)
    return replace(rates, state=state, workers_needed=needed)


def _workers_needed(arrival: float, completion: float, workers: int | None) -> int | None:
    if not workers:
        return None
    needed = math.floor(arrival / (completion / workers)) + 1
    return max(needed, workers + 1)
