"""Plotly draws the figure, and its packed values lose nothing that is shown."""

from __future__ import annotations

import base64
import json
import re
from importlib import resources
from typing import Any

import numpy as np
import orjson
import plotly.graph_objects as go
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from queuescope.figures import (
    Curve,
    Curves,
    common_layout,
    panel_figure,
    theme,
    value_words,
)
from queuescope.figures.figure import encode_values
from queuescope.figures.words import figure_words
from queuescope.panels import Panel, load_dashboard
from queuescope.timeseries import UNDEFINED, Floats, Grid

GRID = Grid(1_700_000_400, 1_700_000_400 + 120, 60)
NAN = float("nan")
DASHBOARD = load_dashboard("ai-agents")
PANELS = {panel.id: panel for panel in DASHBOARD.panels}
STYLE = (resources.files("queuescope.dashboard") / "static" / "overview" / "page.css").read_text(
    "utf-8"
)
TOKEN = re.compile(r"var\((--qs-[\w-]+)\)")


def _tokens(theme: str) -> dict[str, str]:
    """The style sheet's variables in one theme; dark ones override the light ones."""
    light, _, rest = STYLE.partition('[data-theme="dark"]')
    found = dict(re.findall(r"(--qs-[\w-]+):\s*([^;]+);", light.partition("}")[0]))
    if theme == "dark":
        found |= dict(re.findall(r"(--qs-[\w-]+):\s*([^;]+);", rest.partition("}")[0]))
    return found


def _decoded(packed: dict[str, str]) -> Floats:
    """As the page's ``decodeValues``: seven digits of a float32, all of a float64."""
    raw = np.frombuffer(base64.b64decode(packed["bdata"]), f"<{packed['dtype']}")
    if packed["dtype"] == "f8":
        return raw.astype(np.float64)
    return np.array([v if v % 1 == 0 else float(f"{v:.7g}") for v in raw.tolist()])


def _told(trace: dict[str, Any]) -> list[str]:
    """The tooltip of each point, without the unit of a count."""
    return [trace["words"]["of"][n] for n in _positions(trace["words"]["at"])]


def _positions(packed: dict[str, str]) -> NDArray[np.int64]:
    assert packed["dtype"] == "u4"
    return np.frombuffer(base64.b64decode(packed["bdata"]), "<u4").astype(np.int64)


def _resolved(figure: dict[str, Any], theme: str) -> dict[str, Any]:
    """The figure as the page passes it to Plotly."""
    tokens = _tokens(theme)
    common, own = common_layout(), figure.get("layout", {})
    whole = {**common, **own, "yaxis": {**common["yaxis"], **own.get("yaxis", {})}}
    figure = {**figure, "layout": whole}
    sent = json.loads(TOKEN.sub(lambda m: tokens[m[1]].replace('"', "'"), json.dumps(figure)))
    for trace in sent["data"]:
        y = [None if np.isnan(v) else v for v in _decoded(trace["y"]).tolist()]
        start, step = trace.pop("x0"), trace.pop("dx")
        at = _positions(trace.pop("at")) if "at" in trace else np.arange(len(y))
        times = np.datetime64(start, "ms") + at * np.timedelta64(step, "ms")
        del trace["words"]
        trace |= {"x": [str(time) for time in times], "y": y}
    resolved: dict[str, Any] = sent
    return resolved


def _figure(panel: Panel, names: list[str], by: str | None = None) -> dict[str, Any]:
    curves = tuple(
        Curve(name, f"{panel.id}-{n}", np.array([1.5, NAN, 20.0])) for n, name in enumerate(names)
    )
    return panel_figure(panel, Curves(GRID, curves), by=by)


@pytest.mark.parametrize("colours", ["light", "dark"])
@pytest.mark.parametrize("by", [None, "queue"])
@pytest.mark.parametrize("panel", PANELS.values(), ids=PANELS)
def test_the_figure_is_valid_by_plotlys_own_schema(
    panel: Panel, by: str | None, colours: str
) -> None:
    names = [f"q{n}" for n in range(50)] if by else ["P50", "P95", "P99"]
    figure = _resolved(_figure(panel, names, by), colours)
    drawn = go.Figure(data=figure["data"], layout=figure["layout"])
    assert len(drawn.data) == len(names)
    assert drawn.data[0].y == (1.5, None, 20.0)
    assert drawn.data[0].x[0] == "2023-11-14T22:20:00.000"
    assert drawn.layout.shapes[0].y0 == panel.thresholds[0].value
    assert "var(" not in json.dumps(figure)


def test_a_schema_that_accepts_anything_would_prove_nothing() -> None:
    figure = _resolved(_figure(PANELS["latency"], ["P50"]), "light")
    figure["layout"]["hovermod"] = "x"
    with pytest.raises(ValueError, match="hovermod"):
        go.Figure(data=figure["data"], layout=figure["layout"])


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_the_colours_of_one_chart_differ_in_both_themes(colours: str) -> None:
    tokens = _tokens(colours)

    def shades(names: tuple[str, ...]) -> list[str]:
        return [tokens[name[4:-1]] for name in names]

    assert len(set(shades(theme.BREAKDOWN))) == len(theme.BREAKDOWN)
    assert len(set(shades(theme.QUANTILE_COLOURS))) == len(theme.QUANTILE_COLOURS)


def test_no_two_of_a_breakdowns_curves_look_alike() -> None:
    figure = _figure(PANELS["queue_depth"], [f"q{n}" for n in range(32)], "queue")
    looks = {(trace["line"]["color"], trace["line"]["dash"]) for trace in figure["data"]}
    assert len(looks) == 32


def test_labels_and_panel_files_are_shown_as_text_and_not_markup() -> None:
    hostile = "<a href='javascript:alert(1)'>&amp;</a><img src=x onerror=alert(1)>"
    panel = PANELS["queue_depth"]
    changed = Panel(
        panel.id, hostile, panel.kind, hostile, "q", "q", hostile, ("m",),
        thresholds=(type(panel.thresholds[0])(1.0, hostile),),
    )  # fmt: skip
    figure = _figure(changed, [hostile], "queue")
    del figure["point"]  # the page writes it as text
    assert "<" not in json.dumps(figure)
    assert figure["data"][0]["name"].count("&amp;amp;") == 1


@pytest.mark.parametrize("panel", PANELS.values(), ids=PANELS)
def test_identities_do_not_change_over_a_refresh(panel: Panel) -> None:
    before, after = (_figure(panel, ["P50", "P95"]) for _ in range(2))
    assert [trace["uid"] for trace in before["data"]] == [trace["uid"] for trace in after["data"]]
    assert before["layout"] == after["layout"]
    assert "uirevision" not in before["layout"]
    assert common_layout()["uirevision"] == "constant"


def test_the_text_of_an_estimate_shows_its_bounds() -> None:
    nan, inf = np.nan, np.inf
    low, high = np.array([nan, 6e5, 6e5, 1.8e6]), np.array([nan, 1.8e6, 1.8e6, inf])
    curve = Curve(
        "P95",
        "latency-p95",
        np.array([nan, 1.6e6, 1.7e6, 1.8e6]),
        live=1.65e6,
        low=low,
        high=high,
        live_bounds=(6e5, 1.8e6),
        live_over_seconds=1200.0,
        so_far=2e6,
    )
    figure = panel_figure(PANELS["latency"], Curves(Grid(0, 180, 60), (curve,)), live_at=200.0)
    [trace] = figure["data"]
    assert _told(trace) == ["–", "10–30 min", "10–30 min", "30 min or more"]
    assert (trace["live"], trace["liveWords"]) == (1.65e6, "10–30 min")
    assert trace["liveOver"] == "20 min"
    assert (trace["liveBetween"], trace["soFar"]) == ([6e5, 1.8e6], 2e6)


def test_a_worse_value_in_the_open_step_is_shown_beside_the_present_one() -> None:
    for name, now, worse, better in (("queue_depth", 360, 388, 300), ("success_rate", 99, 91, 100)):
        for so_far, is_told in ((worse, True), (better, False), (now, False)):
            curve = Curve("x", "x", np.array([1.0, 2.0]), live=now, so_far=so_far)
            curves = Curves(Grid(0, 60, 60), (curve,))
            [trace] = panel_figure(PANELS[name], curves, live_at=70.0)["data"]
            assert "liveOver" not in trace
            assert trace["live"] == now
            assert ("soFar" in trace) is is_told


def test_a_point_is_described_with_its_step() -> None:
    assert _figure(PANELS["queue_depth"], ["x"])["point"] == "peak within 1 min"


@pytest.mark.parametrize(("names", "points"), [(3, 2_002), (8, 2_000), (50, 2_000), (50, 400)])
def test_a_chart_of_many_long_curves_draws_the_extremes_of_each(names: int, points: int) -> None:
    grid = Grid(0, 60 * (points - 1), 60)
    noise = np.random.default_rng(1).normal(100, 9, (names, points))
    noise[:, 300], noise[:, 301] = 1_000, -1_000
    curves = tuple(Curve(f"q{n}", f"q{n}", values) for n, values in enumerate(noise))
    figure = panel_figure(PANELS["queue_depth"], Curves(grid, curves), by="queue")
    drawn = go.Figure(data=_resolved(figure, "light")["data"]).data
    assert sum(len(trace.y) for trace in drawn) <= max(8_000, 400 * names)
    is_thinned = names * points > 8_008 and points > 400
    assert figure["point"].endswith(", highs and lows only") == is_thinned
    for trace, values in zip(drawn, noise, strict=True):
        at = (np.array(trace.x, "datetime64[s]").astype(int) // 60).tolist()
        assert (len(at) < points) == is_thinned
        assert {0, 300, 301, points - 1} <= set(at)
        np.testing.assert_allclose(trace.y, values[at], rtol=6e-7)


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("success_rate", [97.14286, 99.96, 99.9996, 100.0, NAN], "97.1 % 99.9 % 99.9 % 100.0 % –"),
        ("queue_depth", [0.0, 1234.0, 2.5, NAN, 2.5], "0 1,234 2.5 – 2.5"),
        ("latency", [0.0, 840.0, 12_437.0, 1_500_000.0, NAN], "0 ms 840 ms 12.4 s 25 min –"),
    ],
)
def test_points_are_formatted_as_on_cards(name: str, values: list[float], words: str) -> None:
    grid = Grid(0, 60 * (len(values) - 1), 60)
    curves = Curves(grid, (Curve("x", "x", np.array(values)),))
    (trace,) = panel_figure(PANELS[name], curves)["data"]
    assert " ".join(_told(trace)) == words
    unit = " jobs" if name == "queue_depth" else ""
    assert trace["hovertemplate"] == f"%{{customdata}}{unit}"


@settings(deadline=None)
@given(
    st.sampled_from(["queue_depth", "success_rate", "latency"]),
    st.lists(st.floats(0, 1e8) | st.just(NAN), min_size=1, max_size=40),
)
def test_words_are_made_of_the_full_numbers(name: str, values: list[float]) -> None:
    """Drawn values have seven digits, and a tie may be rounded the other way."""
    tie = 5_312_499.9999
    curves = Curves(Grid(0, 60 * len(values), 60), (Curve("x", "x", np.array([*values, tie])),))
    panel = PANELS[name]
    (trace,) = panel_figure(panel, curves)["data"]
    assert _told(trace) == [value_words(panel.kind, value) for value in (*values, tie)]


BOUNDS = st.sampled_from([0.0, 250.0, 6e5, 1.8e6, 9e7, NAN])


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(BOUNDS, BOUNDS, st.sampled_from([1.0, 1e3, np.inf])),
        min_size=1,
        max_size=30,
    )
)
def test_equal_estimates_share_a_text(points: list[tuple[float, float, float]]) -> None:
    """Each as if it were alone: with its bounds, as a number without bounds, as a gap."""
    values = np.array([value for value, _, _ in points])
    low = np.array([low for _, low, _ in points])
    high = low + np.array([width for _, _, width in points])
    curve = Curve("P95", "p95", values, low=low, high=high)
    grid = Grid(0, 60 * (len(points) - 1), 60)
    (trace,) = panel_figure(PANELS["latency"], Curves(grid, (curve,)))["data"]
    between = [
        None if np.isnan(least) else (least, most)
        for least, most in zip(low.tolist(), high.tolist(), strict=True)
    ]
    kind = PANELS["latency"].kind
    assert _told(trace) == [
        figure_words(kind, value, bounds)
        for value, bounds in zip(values.tolist(), between, strict=True)
    ]


def test_the_figure_is_ready_for_json() -> None:
    for panel in DASHBOARD.panels:
        figure = _figure(panel, ["x"])
        assert orjson.loads(orjson.dumps(figure)) == figure


def test_a_gap_stays_a_gap_and_zero_stays_zero() -> None:
    values = np.array([0.0, NAN, UNDEFINED, np.inf, -0.0, 3.0])
    decoded = _decoded(encode_values(values))
    assert np.isfinite(decoded).tolist() == [True, False, False, False, True, True]
    assert decoded[[0, 4, 5]].tolist() == [0.0, 0.0, 3.0]


@pytest.mark.parametrize(
    ("value", "dtype"), [(2.0**24, "f4"), (2.0**24 + 1, "f8"), (-(2.0**30), "f8"), (1e300, "f8")]
)
def test_values_beyond_float32_are_sent_in_full(value: float, dtype: str) -> None:
    packed = encode_values(np.array([value, 1.0, NAN]))
    assert packed["dtype"] == dtype
    assert _decoded(packed)[0] == value


@settings(deadline=None)
@given(st.lists(st.floats(1e-6, 1e12) | st.integers(0, 2**50).map(float), min_size=1))
def test_seven_digits_survive_and_integers_are_exact(numbers: list[float]) -> None:
    values = np.array(numbers)
    decoded = _decoded(encode_values(values))
    np.testing.assert_allclose(decoded, values, rtol=6e-7)
    whole = values == np.round(values)
    assert decoded[whole].tolist() == values[whole].tolist()
