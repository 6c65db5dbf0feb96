"""Will this queue clear by itself: what arrives against what is completed, now and over a range."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
import numpy.typing as npt

_HARDLY_SECONDS = 7 * 86_400
_BALANCE_RATIO = 0.02
_FEWEST_COMPLETIONS = 0.5
_ROUNDING_RATIO = 1e-9

Floats = npt.NDArray[np.float64]


class DrainState(StrEnum):
    """``steady``: what arrives and what is completed balance, so the queue keeps its length.
    ``waiting``: work waits and none was completed, but it has not waited for long enough to call
    that a stall. ``paused``: all that waits does so because an operator wants it.
    """

    EMPTY = "empty"
    CLEARING = "clearing"
    STEADY = "steady"
    GROWING = "growing"
    WAITING = "waiting"
    STALLED = "stalled"
    PAUSED = "paused"
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


@dataclass(frozen=True, slots=True, eq=False)
class DrainHistory:
    """What the verdict was at each timestamp. Rates are jobs per second over the window that ends
    there; NaN is unknown.
    """

    states: tuple[DrainState, ...]
    arrival_per_second: Floats
    completion_per_second: Floats
    window_seconds: int


def drain(
    *,
    depth: float | None,
    growth_per_second: float | None,
    completion_per_second: float | None,
    workers: int | None,
    window_seconds: float,
    oldest_seconds: float | None = None,
    is_held_back: bool = False,
) -> Drain:
    """The verdict on a queue of ``depth`` waiting jobs.

    ``growth_per_second`` is the slope of the depth and ``completion_per_second`` the jobs that
    left the queue for good, both over the last ``window_seconds``; what arrived is their sum (a
    job that is neither waiting nor completed is running, and few enough are). Without a
    completion the queue is stalled, unless even its oldest job is known to have waited for less
    than the window (``oldest_seconds``; None is unknown). While it ``is_held_back`` no rate of
    the past says anything of what will come.

    Within one job, or 2 % of what arrives, of the window the two balance. A forecast takes for
    granted that both rates stay as they are; one beyond a week is none. More workers are assumed
    to complete proportionally more, which holds while work waits for each of them.
    """
    if is_held_back and depth is not None and depth > 0:
        return Drain(DrainState.PAUSED, completion_per_second=completion_per_second)
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
        is_young = oldest_seconds is not None and oldest_seconds < window_seconds
        return replace(rates, state=DrainState.WAITING if is_young else DrainState.STALLED)
    slack = max(1.0, _BALANCE_RATIO * arrival * window_seconds)
    # Rates of whole jobs are not whole: one job more is one job.
    balanced = abs(net) * window_seconds <= slack * (1 + _ROUNDING_RATIO)
    if net < 0 and not balanced and depth / -net <= _HARDLY_SECONDS:
        return replace(rates, state=DrainState.CLEARING, seconds=depth / -net)
    state = DrainState.GROWING if net > 0 and not balanced else DrainState.STEADY
    needed = _workers_needed(arrival, completion, workers)
    return replace(rates, state=state, workers_needed=needed)


def drain_history(
    waiting: Floats, completion_per_second: Floats, *, step_seconds: int, window_steps: int
) -> DrainHistory:
    """What ``drain`` would have said at each timestamp but the first ``window_steps``.

    ``waiting`` is the depth at each timestamp and ``completion_per_second`` the rate within the
    step that ends there; NaN is a gap. Both are looked at over ``window_steps`` steps: the depth
    at its two ends, and every step of completions, so one gap makes each window over it unknown.
    A job is known to have waited for the whole window only while the queue was never seen empty.
    """
    window_seconds = step_seconds * window_steps
    ended = np.lib.stride_tricks.sliding_window_view(completion_per_second[1:], window_steps)
    depths = np.lib.stride_tricks.sliding_window_view(waiting, window_steps + 1)
    completion = np.maximum(0.0, ended.mean(axis=1))
    growth = (depths[:, -1] - depths[:, 0]) / window_seconds
    was_empty: npt.NDArray[np.bool_] = np.any(depths <= 0, axis=1)
    found = [
        drain(
            depth=depth,
            growth_per_second=slope,
            completion_per_second=rate,
            workers=None,
            window_seconds=window_seconds,
            oldest_seconds=0.0 if young else None,
        )
        for depth, slope, rate, young in zip(
            depths[:, -1].tolist(),
            growth.tolist(),
            completion.tolist(),
            was_empty.tolist(),
            strict=True,
        )
    ]
    return DrainHistory(
        tuple(one.state for one in found),
        np.array([np.nan if (rate := d.arrival_per_second) is None else rate for d in found]),
        np.array([np.nan if (rate := d.completion_per_second) is None else rate for d in found]),
        window_seconds,
    )


def _workers_needed(arrival: float, completion: float, workers: int | None) -> int | None:
    if not workers:
        return None
    needed = math.floor(arrival / (completion / workers)) + 1
    return max(needed, workers + 1)
