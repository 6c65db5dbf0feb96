"""Will this queue clear by itself: what arrives against what is completed, now and over a range."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
import numpy.typing as npt

MOVEMENT_SECONDS = 180
"""Over so long the depth's movement is looked at, unless few jobs come and go."""
MEMORY_SECONDS = 600
"""So much of the depth's history is of use."""

_HARDLY_SECONDS = 7 * 86_400
_BALANCE_RATIO = 0.02
_FEW_JOBS = 12
# Nine in ten of the ranges hold the truth.
_LIKELY = 1.8
# Beyond this a range says when at the earliest, and no more.
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
    """``seconds`` until the queue is empty (clearing only), likely not before ``soonest_seconds``
    and not after ``latest_seconds``; None: nobody can say how late. ``workers_needed`` is the
    smallest number of workers that would make it clear (growing or steady, where it can be told).
    Rates are jobs per second; None is unknown. ``is_early`` says that too little was seen yet.
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
    """How the depth moves now: ``per_second`` jobs, as seen over the last ``seconds``.

    ``variance`` is that of the depth's change within a second, jobs². ``newest`` is by how many
    jobs the depth moved in the very last part of it. ``bursts`` counts how often many jobs came
    at once. ``is_even`` says that the depth moved alike for as long as is remembered.
    """

    per_second: float
    variance: float
    seconds: float
    newest: float = 0.0
    bursts: int = 0
    is_even: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class DrainHistory:
    """What the verdict was at each timestamp. Rates are jobs per second over the
    ``window_seconds`` (of each timestamp) that end there; NaN is unknown.
    """

    states: tuple[DrainState, ...]
    arrival_per_second: Floats
    completion_per_second: Floats
    window_seconds: npt.NDArray[np.int64]


def movement(times: Floats, depths: Floats) -> Movement | None:
    """How the depth moves at the end of its history; None where too little is known of it.

    ``times`` (seconds, ascending) and ``depths`` (jobs) have one shape; NaN is a gap. Looked at is
    the time since the depth last jumped, and since it last changed its pace: a burst of jobs is
    no rate, and neither is a purge. No more than ``MOVEMENT_SECONDS`` are, unless fewer than a
    dozen jobs came and went in them.
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
    # A few steps tell their own spread badly; what was estimated so is taken for larger.
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
    """The steps in which the depth moved by far more than in all the others together it does."""
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
    """From where on the depth has moved at one pace; ``first`` or later."""
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
        # Neither part may be so short that a single job decides.
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
    """Of the change within a second, from the steps since ``first``."""
    seconds, changes = np.diff(times[first:]), np.diff(depths[first:])
    found = float(np.mean((changes - rate * seconds) ** 2 / seconds))
    # Jobs are whole: what moves like clockwork may do so a job sooner or later.
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
    """The verdict on a queue of ``depth`` waiting jobs.

    ``moves`` is how the depth moves, and ``completion_per_second`` the jobs that left the queue
    for good over the last ``window_seconds``, or over ``counted_seconds``, where they were not
    counted for longer, which is too short to call it a stall that there were none; what arrived is
    their sum (a job that is neither waiting nor completed is running, and few enough are). Without
    a completion the queue is stalled, unless it shrinks or even its oldest job is known to have
    waited for less than the window (``oldest_seconds``; None is unknown). While it ``is_held_back``
    no rate of the past says anything of what will come.

    The depth clears or grows only if it moves so by more than chance, one job, or 2 % of what
    arrives. The range of a forecast takes the pace for what it likely is at the slowest and the
    fastest, and holds while that stays so; one beyond a week is none. More workers are assumed to
    complete proportionally more, which holds while work waits for each of them.
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
        # Nobody knows what was completed before.
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
    # What left in another way (a purge, an expiry) is no negative arrival.
    arrival = max(0.0, completion + net)
    rates = Drain(DrainState.UNKNOWN, arrival, completion, workers=workers, growth_per_second=net)
    if depth <= 0:
        return replace(rates, state=DrainState.EMPTY)
    by_chance = _LIKELY * math.sqrt(moves.variance / moves.seconds)
    slack = max(1.0, _BALANCE_RATIO * arrival * moves.seconds)
    # Rates of whole jobs are not whole: one job more is one job.
    balanced = abs(net) * moves.seconds <= slack * (1 + _ROUNDING_RATIO) or abs(net) <= by_chance
    # Not even one whole job: the rest of a rate that is fading out.
    if completion * counted < _FEWEST_COMPLETIONS:
        if net < 0 and not balanced:
            return replace(rates, state=DrainState.WAITING)
        return _unmoved(rates, window_seconds, oldest_seconds)
    if not balanced and moves.newest * net < 0 and abs(moves.newest) > 1:
        # It has just turned, and nobody can say yet for how long.
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
        # What was completed over the whole window is not what is completed at this pace.
        return replace(rates, state=state)
    needed = _workers_needed(arrival, completion, workers)
    return replace(rates, state=state, workers_needed=needed)


def _unmoved(found: Drain, window_seconds: float, oldest_seconds: float | None) -> Drain:
    is_young = oldest_seconds is not None and oldest_seconds < window_seconds
    return replace(found, state=DrainState.WAITING if is_young else DrainState.STALLED)


def _clears_within(depth: float, rate: float, moves: Movement) -> tuple[float, float | None]:
    """When a depth that falls by ``rate`` is likely first at zero: not before, and not after.

    After *t* seconds it has fallen by *rate · t*, give or take what chance adds until then
    (variance · *t*) and what the pace is not known to (variance · *t*² / seconds). The range ends
    where this equals the depth at either edge.
    """
    chance = _LIKELY**2 * moves.variance
    square = rate**2 - chance / moves.seconds
    linear = 2 * depth * rate + chance
    if square <= 0:
        return depth**2 / linear, None
    root = math.sqrt(max(0.0, linear**2 - 4 * square * depth**2))
    soonest, latest = 2 * depth**2 / (linear + root), (linear + root) / (2 * square)
    # Where jobs came in bursts more than once, another is as likely as none.
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
    """What ``drain`` would have said at each timestamp but the first ``window_steps``.

    ``waiting`` is the depth at each timestamp and ``completion_per_second`` the rate within the
    step that ends there; NaN is a gap. Whether anything was completed is looked at over
    ``window_steps`` steps, the rates over the last ``movement_steps`` of them (all, unless said
    otherwise), or the very last where the depth moved against these; of a stall over all. One gap
    makes each window over it unknown. A job is known to have waited for the whole window only
    while the queue was never seen empty.
    """
    moving = window_steps if movement_steps is None else min(movement_steps, window_steps)
    ended = np.lib.stride_tricks.sliding_window_view(completion_per_second[1:], window_steps)
    depths = np.lib.stride_tricks.sliding_window_view(waiting, window_steps + 1)
    completion = np.maximum(0.0, ended.mean(axis=1))
    grown = depths[:, -1] - depths[:, -1 - moving]
    newest = depths[:, -1] - depths[:, -2]
    # A burst within the window is older than the way that the depth has taken since.
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
