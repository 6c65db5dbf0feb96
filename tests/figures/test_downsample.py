"""A curve of fewer points keeps its extremes, its ends and its gaps."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from queuescope.figures.downsample import FEWEST_POINTS, downsample
from queuescope.timeseries import UNDEFINED, Floats

NAN = float("nan")
numbers = st.integers(-100, 100).map(float) | st.floats(allow_nan=False, allow_infinity=False)
anything = numbers | st.sampled_from([NAN, UNDEFINED, np.inf, -np.inf])
lengths = st.integers(1, 400)
points = st.integers(FEWEST_POINTS, 60)


def _curves(elements: st.SearchStrategy[float]) -> st.SearchStrategy[Floats]:
    runs = st.lists(st.tuples(elements, st.integers(1, 40)), min_size=1, max_size=30)
    return arrays(np.float64, lengths, elements=elements) | runs.map(
        lambda found: np.concatenate([np.full(length, value) for value, length in found])
    )


def _longest_stretch(values: Floats, points: int) -> int:
    """By the contract: twice as long if gaps may need the space."""
    stretches = ((points if np.isfinite(values).all() else points // 2) - 2) // 2
    return -(-len(values) // stretches)


@settings(deadline=None)
@given(_curves(anything), points)
def test_kept_points_are_in_order_and_include_both_ends(values: Floats, points: int) -> None:
    kept = downsample(values, points)
    assert 0 < len(kept) <= points
    assert (np.diff(kept) > 0).all()
    assert (kept[0], kept[-1]) == (0, len(values) - 1)


@settings(deadline=None)
@given(_curves(anything), points)
def test_short_curves_stay_as_they_are(values: Floats, points: int) -> None:
    once = values[downsample(values, points)]
    assert downsample(once, points).tolist() == list(range(len(once)))


@settings(deadline=None)
@given(_curves(anything), points)
def test_every_value_left_out_lies_between_two_of_its_stretch(values: Floats, points: int) -> None:
    kept = downsample(values, points)
    reach = _longest_stretch(values, points)
    for position in np.setdiff1d(np.flatnonzero(np.isfinite(values)), kept):
        near = values[kept[np.abs(kept - position) <= reach]]
        near = near[np.isfinite(near)]
        assert near.min() <= values[position] <= near.max()


@settings(deadline=None)
@given(_curves(anything), points)
def test_a_broken_line_stays_broken_and_an_unbroken_one_whole(values: Floats, points: int) -> None:
    kept = downsample(values, points)
    finite = np.isfinite(values)
    drawn = kept[finite[kept]]
    for left, right in itertools.pairwise(drawn.tolist()):
        between = kept[(kept > left) & (kept < right)]
        assert bool(len(between)) == (not finite[left:right].all())


@settings(deadline=None)
@given(_curves(numbers), points, st.data())
def test_a_spike_and_a_dip_side_by_side_are_both_kept(
    values: Floats, points: int, data: st.DataObject
) -> None:
    assume(len(values) > 1)
    spike = data.draw(st.integers(0, len(values) - 2))
    values = np.clip(values, -1e6, 1e6)
    values[spike], values[spike + 1] = 2e6, -2e6
    assert {spike, spike + 1} <= set(downsample(values, points).tolist())


@pytest.mark.parametrize("number", [7, 0, -1])
def test_too_few_points_are_refused(number: int) -> None:
    with pytest.raises(ValueError, match="at least 8"):
        downsample(np.zeros(100), number)


def test_a_view_into_a_frame_is_read_with_its_strides() -> None:
    frame = np.zeros((1_000, 2))
    frame[500, 0] = 3.0
    frame[:, 1] = 9.0
    assert 500 in downsample(frame[:, 0], 20)
    assert frame[downsample(frame[:, 0], 20), 0].max() == 3.0
