from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from queuescope.health import Drain, DrainState, Movement, drain, drain_history, movement

RATES = st.floats(0, 100)


def of(
    depth: float | None = 42,
    growth: float | None = 0.0,
    completion: float | None = 0.5,
    workers: int | None = 4,
    oldest: float | None = None,
) -> Drain:
    return drain(
        depth=depth,
        moves=None if growth is None else Movement(growth, 0.0, 600),
        completion_per_second=completion,
        workers=workers,
        window_seconds=600,
        oldest_seconds=oldest,
    )


def test_a_queue_that_shrinks_clears_in_depth_over_the_difference_of_the_rates() -> None:
    found = of(depth=42, growth=-0.02, completion=0.5)
    assert found.state is DrainState.CLEARING
    assert found.seconds is not None
    assert abs(found.seconds - 42 / 0.02) < 1e-6


def test_a_growing_queue_tells_how_many_workers_would_clear_it() -> None:
    # Four workers complete 30 a minute, 42 arrive: five complete 37.5, six 45.
    found = of(growth=12 / 60, completion=30 / 60, workers=4)
    assert (found.state, found.workers_needed) == (DrainState.GROWING, 6)


def test_nothing_is_said_of_more_workers_where_none_is_known() -> None:
    assert of(growth=0.2, workers=None).workers_needed is None
    assert of(growth=0.2, workers=0).workers_needed is None


def test_balanced_rates_are_steady_and_not_an_endless_forecast() -> None:
    assert of(growth=0.0001).state is DrainState.STEADY
    assert of(depth=1_000_000, growth=-0.03, completion=0.5).state is DrainState.STEADY


def test_waiting_work_without_a_completion_is_stalled_however_it_moves() -> None:
    assert of(growth=0.2, completion=0).state is DrainState.STALLED
    assert of(growth=0.0, completion=0).state is DrainState.STALLED


def test_work_that_came_a_moment_ago_is_no_stall_before_it_has_waited_for_the_window() -> None:
    assert of(growth=0.2, completion=0, oldest=599).state is DrainState.WAITING
    assert of(growth=0.2, completion=0, oldest=600).state is DrainState.STALLED
    assert of(growth=0.2, completion=0.5, oldest=1).state is DrainState.GROWING


def test_an_empty_queue_neither_clears_nor_stalls() -> None:
    assert of(depth=0, completion=0).state is DrainState.EMPTY


def test_what_is_not_known_makes_the_verdict_unknown() -> None:
    for known in (
        of(depth=None),
        of(growth=None),
        of(completion=None),
        of(depth=float("nan")),
        of(growth=float("nan")),
    ):
        assert (known.state, known.seconds, known.workers_needed) == (
            DrainState.UNKNOWN,
            None,
            None,
        )


def test_a_purge_is_no_negative_arrival() -> None:
    assert of(growth=-5, completion=0.5).arrival_per_second == 0


@given(st.floats(0, 1e6), st.floats(-100, 100), RATES, st.none() | st.integers(0, 1000))
def test_the_workers_that_are_said_to_clear_it_would(
    depth: float, growth: float, completion: float, workers: int | None
) -> None:
    found = of(depth, growth, completion, workers)
    if found.workers_needed is None:
        return
    assert workers is not None
    assert found.arrival_per_second is not None
    per_worker = completion / workers
    assert found.workers_needed > workers
    assert found.workers_needed * per_worker >= found.arrival_per_second * (1 - 1e-9)


@given(st.integers(0, 10**6), st.floats(-100, 100), RATES)
def test_only_a_clearing_queue_has_a_time_and_it_is_within_a_week(
    depth: float, growth: float, completion: float
) -> None:
    found = of(depth, growth, completion)
    assert (found.seconds is not None) == (found.state is DrainState.CLEARING)
    if found.seconds is not None:
        assert 0 < found.seconds <= 7 * 86_400


def states(waiting: list[float], completed: list[float], window_steps: int = 2) -> list[str]:
    found = drain_history(
        np.array(waiting),
        np.array(completed) / 300,
        step_seconds=300,
        window_steps=window_steps,
    )
    assert set(found.window_seconds.tolist()) <= {300, 300 * window_steps}
    return [state.value for state in found.states]


def test_the_history_says_of_each_window_what_the_verdict_would_have_said() -> None:
    waiting = [10.0, 40, 70, 70, 70, 40, 10, 0]
    completed = [0.0, 30, 30, 30, 30, 30, 30, 30]
    assert states(waiting, completed) == [
        *("growing", "growing", "steady", "clearing", "clearing", "empty"),
    ]


def test_a_stall_in_the_history_is_work_that_waited_throughout_its_window() -> None:
    assert states([0, 5, 5, 5], [0, 0, 0, 0]) == ["waiting", "stalled"]


def test_a_gap_is_unknown_for_as_long_as_a_window_reaches_over_it() -> None:
    gap = math.nan
    assert states([9, gap, 9, 9, 9], [3, 3, 3, 3, 3]) == ["steady", "unknown", "steady"]
    assert states([9, 9, 9, 9, 9], [3, gap, 3, 3, 3]) == ["unknown", "steady", "steady"]


@given(
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 50)), min_size=4, max_size=40),
    st.integers(1, 3),
)
def test_what_arrives_in_the_history_is_what_was_completed_and_what_the_queue_grew_by(
    steps: list[tuple[int, int]], window_steps: int
) -> None:
    waiting = np.array([float(depth) for depth, _ in steps])
    completed = np.array([count / 60 for _, count in steps])
    found = drain_history(waiting, completed, step_seconds=60, window_steps=window_steps)
    for n, at in enumerate(range(window_steps, len(steps))):
        moved = waiting[at] - waiting[at - window_steps]
        newest = waiting[at] - waiting[at - 1]
        # If the depth has turned within the window, only the newest step shows its direction.
        has_turned = newest * moved < 0 and abs(newest) > 1
        has_turned &= found.states[n] not in (DrainState.STALLED, DrainState.WAITING)
        since = at - 1 if has_turned else at - window_steps
        done = completed[since + 1 : at + 1].sum() * 60
        grown = waiting[at] - waiting[since]
        seconds = (at - since) * 60
        assert found.window_seconds[n] == seconds
        assert math.isclose(found.completion_per_second[n] * seconds, done, abs_tol=1e-6)
        arrived = max(0.0, done + grown)
        assert math.isclose(found.arrival_per_second[n] * seconds, arrived, abs_tol=1e-6)


@dataclass(frozen=True)
class Queue:
    """A queue with Poisson arrivals that ``workers`` serve, each ``runtime`` seconds a job."""

    arrivals: float
    runtime: float
    workers: int
    depth: int

    def played(self, chance: np.random.Generator, seconds: int) -> list[int]:
        """The depth at every second, until it is empty or the time is over."""
        depth, found = self.depth, []
        busy = [float(chance.exponential(self.runtime)) for _ in range(self.workers)]
        for second in range(seconds):
            found.append(depth)
            if not depth:
                break
            depth += int(chance.poisson(self.arrivals))
            for n, ends in enumerate(busy):
                at = ends
                while at <= second and depth:
                    depth -= 1
                    at += float(chance.exponential(self.runtime))
                busy[n] = max(at, second)
        return found


def seen(depths: list[int], every: int, until: int) -> Movement | None:
    """The readings of ``depths`` (one per second), taken ``every`` so many seconds."""
    times = np.arange(until % every, until + 1, every, dtype=float)
    return movement(times, np.array([depths[int(at)] for at in times], dtype=float))


def forecast(moves: Movement | None, depth: int, completion: float = 1.0) -> Drain:
    return drain(
        depth=depth,
        moves=moves,
        completion_per_second=completion,
        workers=None,
        window_seconds=600,
    )


QUEUES = (
    Queue(arrivals=0.3, runtime=2, workers=2, depth=400),
    Queue(arrivals=0.0, runtime=1, workers=1, depth=500),
    Queue(arrivals=5, runtime=1, workers=8, depth=1500),
    Queue(arrivals=0.0, runtime=60, workers=2, depth=40),
)


@pytest.mark.parametrize("every", [2, 15])
def test_nine_ranges_in_ten_hold_the_moment_at_which_a_queue_is_empty(every: int) -> None:
    held = forecasts = 0
    for queue in QUEUES:
        for seed in range(40):
            depths = queue.played(np.random.default_rng(seed), 6000)
            found = forecast(seen(depths, every, 200), depths[200])
            assert found.state is not DrainState.GROWING
            if found.soonest_seconds is None or 0 not in depths:
                continue
            forecasts += 1
            latest = math.inf if found.latest_seconds is None else found.latest_seconds
            held += found.soonest_seconds <= depths.index(0) - 200 <= latest
    # The seeds are fixed, so that it is always the same share.
    assert forecasts >= 0.9 * 40 * len(QUEUES)
    assert held >= 0.88 * forecasts, (held, forecasts)


def burst(before: int, size: int, seconds: int, fall: float) -> list[int]:
    """300 s of a constant depth, ``size`` jobs at once, and then a fall of so many per second."""
    rest = [before] * 300
    return rest + [max(0, round(before + size - fall * n)) for n in range(seconds)]


@pytest.mark.parametrize("every", [2, 15])
def test_a_burst_is_no_rate_and_what_falls_after_it_does_not_grow(every: int) -> None:
    depths = burst(88, 300, 400, 0.9)
    for until in range(302, 690, 7):
        found = forecast(seen(depths, every, until), depths[until])
        assert found.state in (DrainState.CLEARING, DrainState.UNKNOWN)
    found = forecast(seen(depths, every, 400), depths[400])
    assert found.soonest_seconds is not None
    assert found.latest_seconds is not None
    assert found.soonest_seconds <= depths[400] / 0.9 <= found.latest_seconds
    assert found.latest_seconds < 1.6 * found.soonest_seconds


@pytest.mark.parametrize("every", [2, 15])
def test_bursts_that_come_again_leave_the_end_open(every: int) -> None:
    depths: list[int] = []
    for _ in range(4):
        depths += [max(0, 200 - n) for n in range(140)]
    found = forecast(seen(depths, every, 3 * 140 + 100), depths[3 * 140 + 100])
    assert found.state is DrainState.CLEARING
    assert found.latest_seconds is None


@pytest.mark.parametrize(("first", "then"), [(-1.0, 1.0), (1.0, -1.0), (-0.2, -2.0)])
@pytest.mark.parametrize("every", [2, 15])
def test_workers_that_start_or_stop_are_seen_within_a_minute(
    first: float, then: float, every: int
) -> None:
    chance = np.random.default_rng(7)
    steps = chance.poisson(3, 600) - chance.poisson(3, 600)
    slope = np.where(np.arange(600) < 400, first, then)
    depths = [int(d) for d in 2000 + np.cumsum(slope + 0.2 * steps)]
    found = forecast(seen(depths, every, 500), depths[500])
    assert found.state is (DrainState.CLEARING if then < 0 else DrainState.GROWING)
    assert found.growth_per_second is not None
    assert abs(found.growth_per_second - then) < 0.35


def test_three_completions_in_three_minutes_give_a_wide_range_or_an_open_one() -> None:
    times = np.arange(0, 602, 2.0)
    found = forecast(movement(times, 40 - np.floor(times / 60)), 30, 1 / 60)
    assert found.state is DrainState.CLEARING
    assert found.soonest_seconds is not None
    assert found.soonest_seconds < 1500
    assert found.latest_seconds is None or found.latest_seconds > 2400


@settings(deadline=None)
@given(
    st.lists(st.integers(-40, 40), min_size=5, max_size=120),
    st.integers(0, 400),
    st.sampled_from([2, 5, 15]),
)
def test_the_sign_never_contradicts_how_the_depth_moved_lately(
    changes: list[int], begin: int, every: int
) -> None:
    depths = np.maximum(0, begin + np.cumsum(changes)).astype(float)
    times = np.arange(len(depths), dtype=float) * every
    moves = movement(times, depths)
    found = forecast(moves, int(depths[-1]))
    lately = depths[-1] - depths[times <= times[-1] - 45][-1] if times[-1] >= 45 else 0
    if found.state is DrainState.GROWING:
        assert moves is not None
        assert moves.per_second > 0
        assert moves.newest >= -1
    if found.state is DrainState.CLEARING:
        assert moves is not None
        assert moves.per_second < 0
        assert moves.newest <= 1
    if moves is not None and moves.bursts == 0 and moves.seconds >= 45:
        assert moves.newest == lately
    if found.soonest_seconds is not None and found.seconds is not None:
        assert 0 < found.soonest_seconds <= found.seconds * (1 + 1e-9)
        assert found.latest_seconds is None or found.latest_seconds >= found.seconds * (1 - 1e-9)


def test_too_little_seen_is_said_and_a_purge_is_no_pace() -> None:
    assert movement(np.array([0.0, 2, 4]), np.array([9.0, 8, 7])) is None
    assert forecast(None, 9).is_early
    times = np.arange(0, 120, 2.0)
    moves = movement(times, np.where(times < 60, 900.0, 500.0))
    assert moves is not None
    assert moves.per_second == 0


def test_what_falls_without_a_completion_is_no_stall() -> None:
    found = drain(
        depth=30,
        moves=Movement(-0.5, 0.1, 180),
        completion_per_second=0.0,
        workers=2,
        window_seconds=600,
        oldest_seconds=900,
    )
    assert found.state is DrainState.WAITING


def test_the_strip_turns_with_the_depth_after_a_burst() -> None:
    assert states([9.0, 9, 9, 300, 280, 250], [0.0, 5, 5, 5, 20, 30], 3)[-1] == "clearing"


@pytest.mark.parametrize(("counted", "state"), [(600, "stalled"), (40, "waiting"), (0, "waiting")])
def test_nothing_completed_for_a_short_count_is_no_stall(counted: float, state: str) -> None:
    found = drain(
        depth=20,
        moves=Movement(0.0, 0.0, 600),
        completion_per_second=0.0,
        workers=4,
        window_seconds=600,
        counted_seconds=counted,
        oldest_seconds=900,
    )
    assert found.state == state
