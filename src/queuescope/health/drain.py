"""Whether and when a queue clears: arrivals against completions, now and over a range."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
import numpy.typing as npt

MOVEMENT_SECONDS = 180
"""The usual time over which the movement of the depth is measured."""
MEMORY_SECONDS = 600
"""How much history of the depth is used."""

_HARDLY_SECONDS = 7 * 86_400
_BALANCE_RATIO = 0.02
_FEW_JOBS = 12
# Nine of ten ranges contain the true time.
_LIKELY = 1.8
# A wider range only gives the earliest time.
_WIDEST = 6.0
_SHORTEST_SECONDS = 20.0
_SURE_SECONDS = 60.0
_FEWEST_STEPS = 3
_CHANGE = 3.5
_NEWEST_SECONDS = 45.0
_JUMP_JOBS, _JUMP_SPREADS = 8, 6
_FEWEST_COMPLETIONS = 0.5
_ROUNDING_RATIO = 1e-9

Floats = npt.NDArray[np.float64]


class DrainState(StrEnum):
    """The state of a queue. ``steady``: arrivals and completions balance. ``waiting``: jobs wait
    and none was completed, but not for long enough to call it a stall. ``paused``: all waiting jobs
    are in paused queues.
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
    """The forecast: ``seconds`` until the queue is empty (clearing only), likely not before
    ``soonest_seconds`` and not after ``latest_seconds`` (``None``: no bound is known).
    ``workers_needed`` is the smallest number of workers with which it would clear (growing or
    steady, if known). Rates are jobs per second; ``None`` is unknown. ``is_early`` means that the
    queue was not observed for long enough yet.
    """

    state: DrainState
    arrival_per_second: float | None = None
    completion_per_second: float | None = None
    seconds: float | None = None
    soonest_seconds: float | None = None
    latest_seconds: float | None = None
    workers: int | None = None
    workers_needed: int | None = None
    is_early: bool = False
    growth_per_second: float | None = None


@dataclass(frozen=True, slots=True)
class Movement:
    """The present change of the depth: ``per_second`` jobs, measured over the last ``seconds``.

    ``variance`` is that of the change within a second, in jobs². ``newest`` is the change in the
    last part of that time, in jobs. ``bursts`` counts how often many jobs arrived at once.
    ``is_even`` means that the rate was the same over the whole history.
    """

    per_second: float
    variance: float
    seconds: float
    newest: float = 0.0
    bursts: int = 0
    is_even: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class DrainHistory:
    """The state at each timestamp. Rates are jobs per second over the ``window_seconds`` (of each
    timestamp) that end there; NaN is unknown.
    """

    states: tuple[DrainState, ...]
    arrival_per_second: Floats
    completion_per_second: Floats
    window_seconds: npt.NDArray[np.int64]


def movement(times: Floats, depths: Floats) -> Movement | None:
    """The movement at the end of the depth's history; ``None`` if too little of it is known.

    ``times`` (seconds, ascending) and ``depths`` (jobs) have one shape; NaN is a gap. It is
    measured since the depth last jumped or changed its rate, since a burst or a purge is not a
    rate, over at most ``MOVEMENT_SECONDS`` unless fewer than a dozen jobs came and went in them.
    """
    known = ~(np.isnan(times) | np.isnan(depths))
    times, depths = times[known], depths[known]
    step = float(np.median(np.diff(times))) if len(times) > 1 else 0.0
    if len(times):
        recent = times >= times[-1] - max(MEMORY_SECONDS, 2 * _FEWEST_STEPS * step)
        times, depths = times[recent], depths[recent]
    later = np.diff(times, prepend=-np.inf) > 0
    times, depths = times[later], depths[later]
    if len(times) < _FEWEST_STEPS + 1:
        return None
    jumps = _jumps(np.diff(times), np.diff(depths))
    bursts = int(np.count_nonzero(np.diff(depths)[jumps] > 0))
    first = 0 if not len(jumps) else int(jumps[-1]) + 1
    even_from = _since_change(times, depths, first)
    lately = times[-1] - max(MOVEMENT_SECONDS, _FEWEST_STEPS * step)
    start = max(even_from, int(np.searchsorted(times, lately)))
    passed = np.abs(np.diff(depths))
    while start > even_from and passed[start:].sum() < _FEW_JOBS:
        start -= 1
    seconds = float(times[-1] - times[start])
    steps = len(times) - 1 - start
    if steps < _FEWEST_STEPS or seconds < _SHORTEST_SECONDS:
        return None
    rate = float(depths[-1] - depths[start]) / seconds
    # A few steps estimate the variance badly, so it is increased.
    wider = (1 + (_LIKELY**2 + 1) / (4 * steps)) ** 2
    newest = int(np.searchsorted(times, times[-1] - _NEWEST_SECONDS, side="right")) - 1
    return Movement(
        rate,
        wider * _variance(times, depths, start, rate),
        seconds,
        float(depths[-1] - depths[max(newest, start)]),
        bursts,
        is_even=even_from == 0 and not len(jumps),
    )


def _jumps(seconds: Floats, changes: Floats) -> npt.NDArray[np.intp]:
    """The steps in which the depth changed far more than the other steps explain."""
    sizes = np.abs(changes)
    found = np.zeros(len(sizes), dtype=bool)
    for _ in range(len(sizes)):
        usual = sizes[~found]
        if len(usual) < 2:
            break
        largest = int(np.argmax(np.where(found, -1.0, sizes)))
        rest = float(seconds[~found].sum() - seconds[largest])
        expected = (usual.sum() - sizes[largest]) / rest * seconds[largest]
        if sizes[largest] <= _JUMP_JOBS + expected + _JUMP_SPREADS * math.sqrt(expected):
            break
        found[largest] = True
    return np.flatnonzero(found)


def _since_change(times: Floats, depths: Floats, first: int) -> int:
    """The index since which the depth has moved at one rate; ``first`` or later."""
    while True:
        whole = float(times[-1] - times[first])
        if len(times) - 1 - first < 2 * _FEWEST_STEPS or whole < 2 * _SHORTEST_SECONDS:
            return first
        rate = (depths[-1] - depths[first]) / whole
        variance = _variance(times, depths, first, float(rate))
        before = times[first + 1 : -1] - times[first]
        moved = depths[first + 1 : -1] - depths[first]
        after = whole - before
        paces = moved / before - (depths[-1] - depths[first] - moved) / after
        # Neither part may be so short that a single job decides the result.
        long_enough = (before >= _SHORTEST_SECONDS) & (after >= _SHORTEST_SECONDS)
        long_enough[: _FEWEST_STEPS - 1] = False
        long_enough[len(long_enough) - _FEWEST_STEPS + 1 :] = False
        scores = np.where(
            long_enough, np.abs(paces) / np.sqrt(variance * (1 / before + 1 / after)), 0.0
        )
        if not len(scores) or scores.max() <= _CHANGE:
            return first
        first += int(np.argmax(scores)) + 1


def _variance(times: Floats, depths: Floats, first: int, rate: float) -> float:
    """The variance of the change within a second, from the steps since ``first``."""
    seconds, changes = np.diff(times[first:]), np.diff(depths[first:])
    found = float(np.mean((changes - rate * seconds) ** 2 / seconds))
    # Jobs are whole: even a constant rate is a job early or late.
    return max(found, 1 / float(times[-1] - times[first]))


def drain(
    *,
    depth: float | None,
    moves: Movement | None,
    completion_per_second: float | None,
    workers: int | None,
    window_seconds: float,
    counted_seconds: float | None = None,
    oldest_seconds: float | None = None,
    is_held_back: bool = False,
) -> Drain:
    """The forecast for a queue of ``depth`` waiting jobs.

    ``moves`` is the movement of the depth, and ``completion_per_second`` the rate of jobs that left
    the queue for good over the last ``window_seconds``, or over ``counted_seconds`` if they were
    not counted for longer, which is too short to find a stall. Arrivals are the sum of both
    (running jobs, neither waiting nor completed, are few). Without a completion the queue is
    stalled, unless it shrinks, or even its oldest job has waited for less than the window
    (``oldest_seconds``; ``None`` is unknown). While it ``is_held_back``, past rates say nothing
    about the future.

    The depth counts as clearing or growing only if it moves by more than chance, one job, and 2 %
    of the arrivals. The range of a forecast uses the slowest and the fastest likely rate, and
    assumes that the rate stays the same; beyond a week there is no forecast. More workers are
    assumed to complete proportionally more, which is true while jobs wait for each of them.
    """
    if is_held_back and depth is not None and depth > 0:
        return Drain(DrainState.PAUSED, completion_per_second=completion_per_second)
    if depth is None or math.isnan(depth):
        return Drain(DrainState.UNKNOWN, completion_per_second=completion_per_second)
    if completion_per_second is None or math.isnan(completion_per_second):
        return Drain(DrainState.EMPTY if depth <= 0 else DrainState.UNKNOWN)
    completion = max(0.0, completion_per_second)
    counted = window_seconds if counted_seconds is None else min(window_seconds, counted_seconds)
    if counted < window_seconds:
        # The completions before that are unknown.
        oldest_seconds = 0.0
    if moves is None or math.isnan(moves.per_second):
        if depth <= 0:
            return Drain(DrainState.EMPTY, completion_per_second=completion)
        found = Drain(DrainState.UNKNOWN, completion_per_second=completion, is_early=True)
        return (
            found
            if completion * counted >= _FEWEST_COMPLETIONS
            else _unmoved(found, window_seconds, oldest_seconds)
        )
    net = moves.per_second
    # Jobs that left in another way (a purge, an expiry) are not negative arrivals.
    arrival = max(0.0, completion + net)
    rates = Drain(DrainState.UNKNOWN, arrival, completion, workers=workers, growth_per_second=net)
    if depth <= 0:
        return replace(rates, state=DrainState.EMPTY)
    by_chance = _LIKELY * math.sqrt(moves.variance / moves.seconds)
    slack = max(1.0, _BALANCE_RATIO * arrival * moves.seconds)
    # Rates are not whole numbers; rounding must not count one job as more.
    balanced = abs(net) * moves.seconds <= slack * (1 + _ROUNDING_RATIO) or abs(net) <= by_chance
    # Less than one whole job: the remainder of a rate that is fading out.
    if completion * counted < _FEWEST_COMPLETIONS:
        if net < 0 and not balanced:
            return replace(rates, state=DrainState.WAITING)
        return _unmoved(rates, window_seconds, oldest_seconds)
    if not balanced and moves.newest * net < 0 and abs(moves.newest) > 1:
        # It has just turned, and it is too early to know for how long.
        return replace(rates, is_early=True)
    if balanced and moves.seconds < _SURE_SECONDS:
        return replace(rates, is_early=True)
    if net < 0 and not balanced and depth / -net <= _HARDLY_SECONDS:
        soonest, latest = _clears_within(depth, -net, moves)
        return replace(
            rates,
            state=DrainState.CLEARING,
            seconds=depth / -net,
            soonest_seconds=soonest,
            latest_seconds=latest,
        )
    state = DrainState.GROWING if net > 0 and not balanced else DrainState.STEADY
    if not moves.is_even:
        # The completions over the whole window do not match the present rate.
        return replace(rates, state=state)
    needed = _workers_needed(arrival, completion, workers)
    return replace(rates, state=state, workers_needed=needed)


def _unmoved(found: Drain, window_seconds: float, oldest_seconds: float | None) -> Drain:
    is_young = oldest_seconds is not None and oldest_seconds < window_seconds
    return replace(found, state=DrainState.WAITING if is_young else DrainState.STALLED)


def _clears_within(depth: float, rate: float, moves: Movement) -> tuple[float, float | None]:
    """The earliest and latest likely time until a depth that falls by ``rate`` reaches zero.

    After *t* seconds it has fallen by *rate · t*, with the variance of chance until then
    (variance · *t*) and of the measured rate (variance · *t*² / seconds). The range ends where this
    equals the depth at either edge.
    """
    chance = _LIKELY**2 * moves.variance
    square = rate**2 - chance / moves.seconds
    linear = 2 * depth * rate + chance
    if square <= 0:
        return depth**2 / linear, None
    root = math.sqrt(max(0.0, linear**2 - 4 * square * depth**2))
    soonest, latest = 2 * depth**2 / (linear + root), (linear + root) / (2 * square)
    # If jobs came in bursts more than once, another one is likely enough.
    is_open = moves.bursts > 1 or latest > min(_HARDLY_SECONDS, _WIDEST * soonest)
    return soonest, None if is_open else latest


def drain_history(
    waiting: Floats,
    completion_per_second: Floats,
    *,
    step_seconds: int,
    window_steps: int,
    movement_steps: int | None = None,
) -> DrainHistory:
    """The result of ``drain`` at each timestamp except the first ``window_steps``.

    ``waiting`` is the depth at each timestamp and ``completion_per_second`` the rate within the
    step that ends there; NaN is a gap. Whether anything was completed is checked over
    ``window_steps`` steps. Rates are over the last ``movement_steps`` of them (by default all), or
    over the last one if the depth moved against these, and for a stall over all. A gap makes each
    window that contains it unknown. A job has certainly waited for the whole window only if the
    queue was never empty in it.
    """
    moving = window_steps if movement_steps is None else min(movement_steps, window_steps)
    ended = np.lib.stride_tricks.sliding_window_view(completion_per_second[1:], window_steps)
    depths = np.lib.stride_tricks.sliding_window_view(waiting, window_steps + 1)
    completion = np.maximum(0.0, ended.mean(axis=1))
    grown = depths[:, -1] - depths[:, -1 - moving]
    newest = depths[:, -1] - depths[:, -2]
    # After a burst within the window, the depth may move the other way.
    turned = (newest * grown < 0) & (np.abs(newest) > 1)
    steps = np.where(turned, 1, moving)
    growth = np.where(turned, newest, grown) / (steps * step_seconds)
    lately = np.where(turned, ended[:, -1], ended[:, -moving:].mean(axis=1))
    is_known = ~np.isnan(completion + growth + depths[:, 0])
    was_empty: npt.NDArray[np.bool_] = np.any(depths <= 0, axis=1)
    states = tuple(
        drain(
            depth=depth,
            moves=Movement(slope, 0.0, seconds),
            completion_per_second=rate,
            workers=None,
            window_seconds=step_seconds * window_steps,
            oldest_seconds=0.0 if young else None,
        ).state
        for depth, slope, seconds, rate, young in zip(
            np.where(is_known, depths[:, -1], np.nan).tolist(),
            growth.tolist(),
            (steps * step_seconds).tolist(),
            completion.tolist(),
            was_empty.tolist(),
            strict=True,
        )
    )
    unmoved = np.array([state in (DrainState.STALLED, DrainState.WAITING) for state in states])
    steps = np.where(unmoved, window_steps, steps)
    lately = np.where(unmoved, completion, np.maximum(0.0, lately))
    whole = (depths[:, -1] - depths[:, 0]) / (window_steps * step_seconds)
    growth = np.where(unmoved, whole, growth)
    lately = np.where(is_known, lately, np.nan)
    return DrainHistory(
        states,
        np.where(is_known, np.maximum(0.0, lately + growth), np.nan),
        lately,
        steps * step_seconds,
    )


def _workers_needed(arrival: float, completion: float, workers: int | None) -> int | None:
    if not workers:
        return None
    needed = math.floor(arrival / (completion / workers)) + 1
    return max(needed, workers + 1)
