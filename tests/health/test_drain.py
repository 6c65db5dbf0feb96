from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from queuescope.health import Drain, DrainState, drain, drain_history

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
        growth_per_second=growth,
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
    assert found.window_seconds == 300 * window_steps
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
        since = at - window_steps
        done = completed[since + 1 : at + 1].sum() * 60
        grown = waiting[at] - waiting[since]
        seconds = window_steps * 60
        assert math.isclose(found.completion_per_second[n] * seconds, done, abs_tol=1e-6)
        arrived = max(0.0, done + grown)
        assert math.isclose(found.arrival_per_second[n] * seconds, arrived, abs_tol=1e-6)
