from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuescope.timeseries import UNDEFINED, Floats, Frame, Grid, Labels, sampled

A: Labels = (("queue", "a"),)
B: Labels = (("queue", "b"),)
NAN = np.nan


def frame(start: int, **rows: list[float]) -> Frame:
    """Rows of single-letter queues at a step of 10."""
    length = len(next(iter(rows.values())))
    series = tuple((("queue", name),) for name in rows)
    return Frame(Grid(start, start + (length - 1) * 10, 10), series, np.array([*rows.values()]))


@pytest.mark.parametrize(
    ("grid", "reason"),
    [((0, 10, 0), "positive"), ((5, 10, 10), "not aligned"), ((20, 10, 10), "before it starts")],
)
def test_a_grid_is_aligned_and_runs_forward(grid: tuple[int, int, int], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Grid(*grid)


def test_the_newest_grid_ends_at_the_last_full_step() -> None:
    assert Grid(39_600, 43_200, 900) == Grid.ending_at(43_999.9, 3600, 900)


@given(st.floats(0, 1e10), st.floats(0, 1e6), st.integers(1, 86_400))
def test_the_covering_grid_is_the_smallest_that_holds_both_ends(
    start: float, span: float, step: int
) -> None:
    grid = Grid.covering(start, start + span, step)
    assert grid.start <= start < grid.start + step
    assert grid.end - step < start + span <= grid.end
    assert len(grid) == len(grid.timestamps())
    assert grid.end == grid.timestamps()[-1]


def test_values_must_have_the_shape_of_series_and_grid() -> None:
    with pytest.raises(ValueError, match="shape"):
        Frame(Grid(0, 10, 10), (A,), np.zeros((1, 3)))


def test_an_undefined_sample_reads_as_nan_and_is_known_to_exist() -> None:
    values: Floats = np.array([[0.0, UNDEFINED, NAN, np.inf]])
    assert np.isnan(values[0, 1])
    assert sampled(values).tolist() == [[True, True, False, False]]
    assert sampled(values[:, ::2]).tolist() == [[True, False]]


def test_parts_are_laid_onto_the_grid_and_the_later_one_wins() -> None:
    whole = Frame.assembled(
        Grid(0, 60, 10),
        [frame(-10, b=[9.0, 1, 2, 3], a=[9.0, 1, 2, 3]), frame(20, a=[20.0, 30]), frame(60, a=[6])],
    )
    assert whole.series == (A, B)
    np.testing.assert_array_equal(
        [[1, 2, 20, 30, NAN, NAN, 6], [1, 2, NAN, NAN, NAN, NAN, NAN]], whole.values
    )


def test_a_series_without_a_sample_inside_the_grid_is_left_out() -> None:
    parts = [frame(0, a=[1.0, NAN, NAN], b=[NAN, UNDEFINED, NAN])]
    assert Frame.assembled(Grid(10, 20, 10), parts).series == (B,)
    assert Frame.assembled(Grid(30, 40, 10), parts).series == ()


def test_parts_of_another_step_are_refused() -> None:
    with pytest.raises(ValueError, match="a step of 20 s"):
        Frame.assembled(Grid(0, 40, 20), [frame(0, a=[1.0])])


def test_a_frame_of_gaps_has_no_numbers() -> None:
    assert not frame(0, a=[NAN, UNDEFINED]).has_numbers
    assert frame(0, a=[NAN, 0.0]).has_numbers
    assert not Frame.empty(Grid(0, 10, 10)).has_numbers
