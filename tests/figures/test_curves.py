"""From the answer of a panel's query to the curves that are drawn."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from queuescope.errors import ConfigurationError
from queuescope.figures import Curves, curves_of, with_open_step
from queuescope.panels import Panel, load_dashboard
from queuescope.timeseries import Frame, Grid, labels_of

GRID = Grid(0, 120, 60)
NAN = float("nan")
PANELS = {panel.id: panel for panel in load_dashboard("ai-agents").panels}
DEPTH, SUCCESS, LATENCY = PANELS["queue_depth"], PANELS["success_rate"], PANELS["latency"]
Rows = list[tuple[Mapping[str, str], list[float]]]


def _frame(rows: Rows) -> Frame:
    """Series in label order, as every source gives them."""
    ordered = sorted((labels_of(labels), values) for labels, values in rows)
    names = tuple(labels for labels, _ in ordered)
    return Frame(GRID, names, np.array([values for _, values in ordered]).reshape(-1, len(GRID)))


def _drawn(curves: Curves) -> dict[str, list[float]]:
    return {curve.name: curve.values.tolist() for curve in curves.curves}


def _buckets(les: Mapping[str, float], **labels: str) -> Rows:
    return [({"le": le, **labels}, [count, count, NAN]) for le, count in les.items()]


def test_one_series_is_one_curve_under_the_panels_title() -> None:
    curves = curves_of(DEPTH, _frame([({}, [1, NAN, 0])]), None, 8)
    assert [(c.name, c.uid) for c in curves.curves] == [("Queue depth", "queue_depth")]
    np.testing.assert_array_equal(curves.curves[0].values, [1, NAN, 0])


@pytest.mark.parametrize("panel", PANELS.values(), ids=PANELS)
def test_an_empty_answer_keeps_its_curves_and_holds_no_number(panel: object) -> None:
    for shown in PANELS.values():
        curves = curves_of(shown, Frame.empty(GRID), None, 8)
        expected = ["P50", "P95", "P99"] if shown is LATENCY else [shown.title]
        assert [curve.name for curve in curves.curves] == expected
        assert not curves.has_numbers


def test_quantiles_are_named_and_scaled_to_milliseconds() -> None:
    curves = curves_of(LATENCY, _frame(_buckets({"1": 50, "2": 100, "+Inf": 100})), None, 8)
    assert [(c.name, c.uid) for c in curves.curves] == [
        ("P50", "latency-p50"),
        ("P95", "latency-p95"),
        ("P99", "latency-p99"),
    ]
    np.testing.assert_allclose(
        [c.values for c in curves.curves], [[1000, 1000, NAN], [1900, 1900, NAN], [1980, 1980, NAN]]
    )
    assert curves.at_least is None


def test_buckets_that_differ_only_in_spelling_are_one() -> None:
    whole = _buckets({"1": 30, "2": 60, "+Inf": 60})
    split = [
        *_buckets({"1": 10, "1.0": 20, "2": 20, "2.0": 40, "+Inf": 60}),
        ({"le": "Infinity"}, [NAN, NAN, NAN]),
    ]
    expected = _drawn(curves_of(LATENCY, _frame(whole), None, 8))
    assert str(_drawn(curves_of(LATENCY, _frame(split), None, 8))) == str(expected)


def test_a_bucket_with_one_spelling_missing_counts_the_other() -> None:
    rows: Rows = [
        ({"le": "1"}, [10, NAN, 10]),
        ({"le": "1.0"}, [NAN, 10, NAN]),
        ({"le": "2"}, [20, 20, 20]),
        ({"le": "+Inf"}, [20, 20, 20]),
    ]
    p50, _, _ = curves_of(LATENCY, _frame(rows), None, 8).curves
    np.testing.assert_allclose(p50.values, [1000, 1000, 1000])


def test_where_the_buckets_change_there_is_a_break_and_its_time() -> None:
    rows: Rows = [
        ({"le": "1"}, [10, NAN, NAN]),
        ({"le": "2"}, [20, 20, 20]),
        ({"le": "+Inf"}, [20, 20, 20]),
    ]
    curves = curves_of(LATENCY, _frame(rows), None, 8)
    # Without the bucket at 1 s the lowest one reaches from 0 to 2 s.
    np.testing.assert_allclose(curves.curves[1].values, [NAN, 1900, 1900])
    assert curves.relaid_at == curves.grid.start
    assert curves_of(LATENCY, _frame(rows[1:]), None, 8).relaid_at is None


@pytest.mark.parametrize("le", ["", "x", "NaN"])
def test_a_series_with_an_invalid_le_is_left_out(le: str) -> None:
    rows = _buckets({"1": 50, "2": 100, "+Inf": 100})
    expected = str(_drawn(curves_of(LATENCY, _frame(rows), None, 8)))
    assert str(_drawn(curves_of(LATENCY, _frame([*rows, ({"le": le}, [9, 9, 9])]), None, 8))) == (
        expected
    )


def test_a_value_in_the_top_bucket_is_marked_as_a_lower_limit() -> None:
    rows = [
        *_buckets({"1": 100, "8": 100, "+Inf": 100}, tenant="quick"),
        *_buckets({"1": 0, "4": 50, "+Inf": 100}, tenant="slow"),
    ]
    by_tenant = curves_of(LATENCY, _frame(rows), "tenant", 8)
    assert _drawn(by_tenant)["slow"][:2] == [4000, 4000]
    assert by_tenant.at_least == 4000
    [quick, slow] = by_tenant.curves
    assert (quick.bounds(0), slow.bounds(0)) == ((0, 1000), (4000, np.inf))


def test_every_point_and_the_live_end_of_a_quantile_have_bounds() -> None:
    rows: Rows = [
        ({"le": "600"}, [100, 0, NAN, 0]),
        ({"le": "1800"}, [100, 100, NAN, 0]),
        ({"le": "+Inf"}, [100, 100, NAN, 0]),
    ]
    frame = Frame(
        Grid(0, 3 * 60, 60),
        tuple(tuple(labels.items()) for labels, _ in rows),
        np.array([values for _, values in rows], dtype=float),
    )
    p95 = curves_of(LATENCY, frame, None, 8).curves[1]
    assert [p95.bounds(n) for n in range(4)] == [(0, 600_000), (600_000, 1_800_000), None, None]
    short = Frame(Grid(0, 60, 60), frame.series, frame.values[:, :2])
    opened = curves_of(LATENCY, short, None, 8, has_open_step=True).curves[1]
    assert (opened.bounds(0), opened.live_bounds) == ((0, 600_000), (600_000, 1_800_000))
    assert opened.low is not None
    assert len(opened.low) == 1


def test_a_breakdown_shows_the_worst_and_counts_the_others() -> None:
    rows: Rows = [({"queue": f"q{n}"}, [n, NAN, 100 - n]) for n in range(10)]
    curves = curves_of(DEPTH, _frame([*rows, ({"queue": "idle"}, [NAN] * 3)]), "queue", 3)
    assert [c.name for c in curves.curves] == ["q0", "q1", "q2"]
    assert curves.hidden == 8


def test_a_value_that_is_worst_only_in_the_open_step_is_shown() -> None:
    rows: Rows = [({"queue": f"q{n}"}, [n, n, 1]) for n in range(5)]
    so_far = [(labels_of({"queue": f"q{n}"}), 90.0 - n) for n in range(2)]

    def shown(limit: int, **options: Any) -> Curves:
        return curves_of(DEPTH, _frame(rows), "queue", limit, has_open_step=True, **options)

    assert [c.name for c in shown(3).curves] == ["q2", "q3", "q4"]
    worst = shown(3, so_far=so_far)
    assert [c.name for c in worst.curves] == ["q0", "q1", "q4"]
    assert (worst.hidden, len(shown(5, so_far=so_far).curves)) == (2, 5)


def test_an_identity_is_the_label_value_s_own_and_safe_in_a_css_selector() -> None:
    rows: Rows = [({"queue": name}, [1, 1, 1]) for name in ("a b", "</script>", "host:9100", "ü")]
    first = curves_of(DEPTH, _frame(rows), "queue", 8).curves
    again = curves_of(DEPTH, _frame(rows[1:]), "queue", 8).curves
    assert all(re.fullmatch(r"[\w-]+", curve.uid) for curve in first)
    assert len({curve.uid for curve in first}) == 4
    assert {curve.uid for curve in again} < {curve.uid for curve in first}


def test_the_worst_of_a_percentage_is_the_lowest() -> None:
    rows: Rows = [
        ({"tenant": name}, [low, 100, NAN]) for name, low in zip("abc", (90, 5, 50), strict=True)
    ]
    assert list(_drawn(curves_of(SUCCESS, _frame(rows), "tenant", 2))) == ["b", "c"]


def test_the_worst_of_a_latency_has_the_highest_p95() -> None:
    rows = [
        row
        for tenant, share in {"a": 1.0, "b": 0.5, "c": 0.9}.items()
        for row in _buckets({"1": share * 100, "9": 100, "+Inf": 100}, tenant=tenant)
    ]
    curves = curves_of(LATENCY, _frame(rows), "tenant", 2)
    assert list(_drawn(curves)) == ["b", "c"]
    assert curves.hidden == 1


@pytest.mark.parametrize("panel", [DEPTH, LATENCY], ids=["gauge", "histogram"])
def test_series_without_the_label_get_no_curve_and_their_worst_is_noted(panel: Panel) -> None:
    buckets = {"1": 50.0, "2": 100.0, "+Inf": 100.0}
    with_label: Rows = [({"instance": "a"}, [1.0] * 3)]
    without: Rows = [({}, [2.0, 7.0, 2.0])]
    if panel is LATENCY:
        with_label, without = _buckets(buckets, instance="a"), _buckets(buckets)
    both = curves_of(panel, _frame([*with_label, *without]), "instance", 8)
    assert [curve.name for curve in both.curves] == ["a"]
    assert both.hidden == 0
    assert both.unlabelled == (pytest.approx(1900) if panel is LATENCY else 7)
    assert curves_of(panel, _frame(with_label), "instance", 8).unlabelled is None
    assert curves_of(panel, _frame(without), "instance", 8).curves == ()


def test_the_open_step_is_separate_from_the_closed_ones() -> None:
    rows: Rows = [({"queue": "a"}, [1, 2, 3]), ({"queue": "b"}, [4, NAN, 4])]
    frame = with_open_step(
        _frame(rows),
        [(labels_of({"queue": name}), value) for name, value in (("a", 9), ("new", 380))],
    )
    curves = curves_of(DEPTH, frame, "queue", 2, has_open_step=True)
    # The worst are chosen by the open step, too.
    assert {curve.name: curve.live for curve in curves.curves} == {"a": 9, "new": 380}
    assert curves.grid == GRID
    assert curves.curves[0].values.tolist() == [1, 2, 3]
    assert np.isnan(curves.curves[1].values).all()
    assert curves.hidden == 1


@pytest.mark.parametrize("by", [None, "queue"])
def test_a_query_of_several_series_for_one_curve_is_refused(by: str | None) -> None:
    rows: Rows = [({"queue": "a", "pod": pod}, [1, 2, 3]) for pod in "xy"]
    with pytest.raises(ConfigurationError, match="panel 'queue_depth': its query gives 2 series"):
        curves_of(DEPTH, _frame(rows), by, 8)


@settings(deadline=None)
@given(
    st.dictionaries(
        st.text(min_size=1, max_size=6),
        st.lists(st.floats(0, 1e6) | st.just(NAN), min_size=3, max_size=3),
        max_size=12,
    ),
    st.integers(1, 12),
)
def test_nothing_that_is_hidden_is_worse_than_what_is_shown(
    series: dict[str, list[float]], limit: int
) -> None:
    rows: Rows = [({"queue": name}, values) for name, values in series.items()]
    curves = curves_of(DEPTH, _frame(rows), "queue", limit)
    assert len(curves.curves) == min(limit, len(series))
    assert len(curves.curves) + curves.hidden == len(series)
    assert len({curve.uid for curve in curves.curves}) == len(curves.curves)

    def peak(values: list[float]) -> float:
        return max((v for v in values if v == v), default=-1)  # noqa: PLR0124 - NaN is not itself

    shown = {curve.name for curve in curves.curves}
    hidden = [peak(values) for name, values in series.items() if name not in shown]
    assert max(hidden, default=-1) <= min((peak(series[name]) for name in shown), default=-1)
