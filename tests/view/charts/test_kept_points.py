"""The points of past snapshots: which are kept, and within what."""

from __future__ import annotations

import tracemalloc

import numpy as np

from queuescope.figures import Curve, Curves
from queuescope.panels import load_dashboard
from queuescope.timeseries import Grid
from queuescope.view import Points, View
from queuescope.view.charts.kept_points import MOST_VALUES, KeptPoints

PANEL = load_dashboard("ai-agents").panels[0]
HOUR = View("1h")


def _points(curves: int, length: int, value: float) -> tuple[Points, ...]:
    grid = Grid(0, 60 * (length - 1), 60)
    row = np.full((4, length), value)
    made = tuple(Curve(f"c{n}", f"u{n}", row[0], low=row[1], high=row[2]) for n in range(curves))
    return (Points(PANEL, Curves(grid, made), None, None),)


def _value(points: tuple[Points, ...] | None) -> float:
    assert points is not None
    return float(points[0].curves.curves[0].values[0])


def test_each_answer_of_a_view_keeps_its_own_points() -> None:
    kept = KeptPoints()
    kept.keep(HOUR, 100.25, _points(1, 3, 1.0))
    kept.keep(HOUR, 160.5, _points(1, 3, 2.0))
    kept.keep(View("6h"), 100.25, _points(1, 3, 3.0))
    assert _value(kept.of(HOUR, 100.25)) == 1
    assert _value(kept.of(HOUR, 160.5)) == 2
    assert _value(kept.of(View("6h"), 100.25)) == 3
    assert kept.of(HOUR, 100.0) is None
    assert kept.of(View("1h", by="tenant"), 100.25) is None


def test_kept_points_do_not_change() -> None:
    values = np.ones(3)
    points = (Points(PANEL, Curves(Grid(0, 120, 60), (Curve("c", "u", values),)), None, None),)
    kept = KeptPoints()
    kept.keep(HOUR, 1.0, points)
    values[:] = 7
    assert _value(kept.of(HOUR, 1.0)) == 1


def test_the_oldest_are_forgotten_within_the_bound() -> None:
    kept = KeptPoints(most=1000)
    for at in range(10):
        kept.keep(HOUR, at, _points(2, 100, at))
    assert [at for at in range(10) if kept.of(HOUR, at)] == [8, 9]
    assert kept.values <= 1000
    # The same once more is no more.
    kept.keep(HOUR, 9, _points(2, 100, 9.5))
    assert _value(kept.of(HOUR, 9)) == 9.5
    assert _value(kept.of(HOUR, 8)) == 8
    # Points that are too large are not kept at all, and displace nothing.
    kept.keep(HOUR, 10, _points(2, 1000, 0.0))
    assert kept.of(HOUR, 10) is None
    assert _value(kept.of(HOUR, 9)) == 9.5


def test_many_short_curves_take_no_more_memory_than_few_long_ones() -> None:
    """They are counted by their values, and take more than those."""
    for curves, length in ((3, 61), (50, 2000)):
        kept = KeptPoints()
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        at = 0.0
        while (at := at + 1) < 3 or kept.of(HOUR, 1.0) is not None:
            kept.keep(HOUR, at, _points(curves, length, at))
        taken = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
        assert kept.values <= MOST_VALUES
        assert taken < 1.1 * 8 * MOST_VALUES, (curves, length, taken)
