"""A panel's curves as a Plotly figure, in plain dictionaries ready for JSON.

Plotly's Python objects are not used: building and serialising them costs a few hundred times as
much. What a trace needs beyond Plotly's own schema is resolved by the page before drawing: ``x0``
and ``dx`` (epoch milliseconds, UTC) become timestamps in the reader's zone, ``at``, if present,
selects those that have points, ``y`` becomes plain numbers, ``words`` the text of each point, and
``var(--…)`` colours become those of the reader's theme.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from queuescope.csv_cells import harmless
from queuescope.figures import theme
from queuescope.figures.curves import Curve, Curves, quantile_name
from queuescope.figures.downsample import downsample
from queuescope.figures.words import figure_words, over_words, step_words, value_words
from queuescope.panels import RANKED_QUANTILE, Kind, Panel, Threshold
from queuescope.timeseries import Floats

_EXACT_IN_FLOAT32 = 2**24
_MOST_POINTS_OF_CHART = 8_000
_FEWEST_OF_CURVE = 400
"""More than the chart has pixels, and few enough to be drawn in a tenth of a second. Each curve
keeps at least a high and a low for every other pixel.
"""
_DASHES = ("solid", "dash", "dot", "dashdot")
COLOURS = len(theme.BREAKDOWN)
SLOTS = COLOURS * len(_DASHES)
"""How many curves of a breakdown can be distinguished by colour and dash."""


def panel_figure(
    panel: Panel,
    curves: Curves,
    *,
    by: str | None = None,
    live_at: float | None = None,
    slots: Mapping[str, int] | None = None,
    point_seconds: int | None = None,
) -> dict[str, Any]:
    """``{"data": […], "layout": {…}}`` for one chart; see ``common_layout`` for the rest of it.

    Traces keep their ``uid`` and the layout its ``uirevision`` over refreshes, so that the reader's
    zoom and legend choices survive. NaN becomes ``null``: a gap that no line crosses. Values are
    sent as ``float32`` (seven digits) if that is exact enough to be drawn; their texts are made
    here, from the full numbers. For many long curves only the extremes are sent (see
    ``downsample``), and ``point`` says so.

    With ``live_at`` (epoch seconds) the figure has ``live``: the present time, within the open
    step. ``live`` of a trace is its present value, ``liveWords`` the text of that and, for an
    estimate, ``liveBetween`` its bounds; ``liveOver`` is the window that it was measured over, if
    it is not the value of one instant; ``soFar`` is its value over the open step if that is worse.
    ``slots`` are the colour numbers of a breakdown's curves, by name; without it they are given in
    order. ``point_seconds`` is the window of a point if it is not the step.
    """
    step = curves.grid.step_seconds
    point = panel.point.replace("{step}", step_words(point_seconds or step))
    if point_seconds not in (None, step):
        point += f", every {step_words(step)}"
    ranked = quantile_name(RANKED_QUANTILE) if by is not None and panel.quantiles else ""
    if ranked:
        point = f"{ranked} {point}"
    data = [_trace(panel, curves, number, by, slots) for number in range(len(curves.curves))]
    if any("at" in trace for trace in data):
        point += ", highs and lows only"
    figure = {"data": data, "layout": _layout(panel, len(data), ranked), "point": point}
    if live_at is not None and curves.has_live:
        figure["live"] = {"at": live_at, "from": curves.grid.end}
    return figure


def encode_values(values: Floats) -> dict[str, str]:
    """Base64 of the little-endian values: ``f4`` unless a value needs more digits."""
    wide = np.fmax.reduce(np.abs(values), initial=0) > _EXACT_IN_FLOAT32
    return _packed(values, "f8" if wide else "f4")


def _packed(numbers: NDArray[Any], dtype: str) -> dict[str, str]:
    content = base64.b64encode(numbers.astype(f"<{dtype}").data).decode("ascii")
    return {"dtype": dtype, "bdata": content}


def _trace(
    panel: Panel, curves: Curves, number: int, by: str | None, slots: Mapping[str, int] | None
) -> dict[str, Any]:
    curve = curves.curves[number]
    if by is not None:
        slot = number if slots is None else slots[curve.name]
        colour, dash = theme.BREAKDOWN[slot % COLOURS], _DASHES[slot // COLOURS % len(_DASHES)]
    elif panel.quantiles:
        colour, dash = theme.QUANTILE_COLOURS[number % len(theme.QUANTILE_COLOURS)], "solid"
    else:
        colour, dash = (theme.SUCCESS if panel.kind is Kind.PERCENT else theme.DEPTH), "solid"
    most = max(_FEWEST_OF_CURVE, _MOST_POINTS_OF_CHART // len(curves.curves))
    values, low, high, thinned = curve.values, curve.low, curve.high, {}
    if len(values) > most:
        kept = downsample(values, most)
        values, thinned = values[kept], {"at": _packed(kept, "u4")}
        low, high = (None if part is None else part[kept] for part in (low, high))
    cell = harmless(curve.name)
    return {
        "type": "scatter",
        "mode": "lines",
        # Plotly renders some HTML in names, so label values are escaped.
        "name": escape(curve.name, quote=False),
        "uid": curve.uid,
        # The name for a spreadsheet, escaped as well, if that could take it for a formula.
        **({} if cell == curve.name else {"cell": escape(cell, quote=False)}),
        "x0": curves.grid.start * 1000,
        "dx": curves.grid.step_seconds * 1000,
        **thinned,
        "y": encode_values(values),
        "words": _words(panel, values, low, high),
        **_live_end(panel, curve),
        "connectgaps": False,
        "line": {"color": colour, "width": 1.8, "dash": dash, "simplify": False},
        # The text of a count has no unit.
        "hovertemplate": "%{customdata}"
        + (f" {escape(panel.unit, quote=False)}" if panel.kind is Kind.COUNT else ""),
    }


def _words(panel: Panel, values: Floats, low: Floats | None, high: Floats | None) -> dict[str, Any]:
    """The text of each point: the distinct texts, formatted as on a card, and the packed index of
    each point's text. The text of an estimate shows its bounds.

    Equal points share a text: of a thousand estimates most lie in the same few buckets.
    """
    texts = np.empty(len(values), dtype=object)
    estimated = np.zeros(len(values), dtype=bool)
    if low is not None and high is not None:
        estimated = np.isfinite(values) & ~np.isnan(low)
        pairs = np.empty(np.count_nonzero(estimated), dtype=np.complex128)
        pairs.real, pairs.imag = low[estimated], high[estimated]
        texts[estimated] = _distinct_texts(
            pairs, lambda pair: figure_words(panel.kind, pair.real, (pair.real, pair.imag))
        )
    texts[~estimated] = _distinct_texts(
        values[~estimated], lambda value: value_words(panel.kind, value)
    )
    shown: list[str] = texts.tolist()
    number = {words: n for n, words in enumerate(dict.fromkeys(shown))}
    return {"of": list(number), "at": _packed(np.array([number[words] for words in shown]), "u4")}


def _distinct_texts(points: NDArray[Any], words: Callable[[Any], str]) -> NDArray[Any]:
    different, places = np.unique(points, return_inverse=True)
    texts: NDArray[Any] = np.array([words(one) for one in different.tolist()], dtype=object)[places]
    return texts


def _live_end(panel: Panel, curve: Curve) -> dict[str, Any]:
    if not np.isfinite(curve.live):
        return {}
    end: dict[str, Any] = {
        "live": _seven_digits(curve.live),
        "liveWords": figure_words(panel.kind, curve.live, curve.live_bounds),
    }
    if over := over_words(curve.live_over_seconds):
        end["liveOver"] = over
    worst = curve.live
    if curve.live_bounds is not None:
        low, high = curve.live_bounds
        end["liveBetween"] = [
            _seven_digits(low),
            _seven_digits(high) if np.isfinite(high) else None,
        ]
        worst = high
    is_worse = curve.so_far > worst if panel.up_is_bad else curve.so_far < worst
    if is_worse:
        end["soFar"] = _seven_digits(curve.so_far)
        end["soFarWords"] = value_words(panel.kind, curve.so_far)
    return end


def _seven_digits(value: float) -> float:
    return float(f"{value:.7g}")


def common_layout() -> dict[str, Any]:
    """The common part of all charts' layouts, which the page gets once.

    A figure's own ``layout`` is merged over it, and its ``yaxis`` over this one's.
    """
    return {
        "uirevision": "constant",
        "hovermode": "x unified",
        "hoverlabel": {
            "bgcolor": theme.SURFACE,
            "bordercolor": theme.BORDER,
            "font": {"color": theme.TEXT, "family": theme.FONT, "size": 12},
            "namelength": 40,
        },
        "dragmode": "zoom",
        "modebar": {
            "bgcolor": theme.SURFACE,
            "color": theme.MUTED,
            "activecolor": theme.TEXT,
        },
        "legend": {
            "orientation": "h",
            "x": 0,
            "xanchor": "left",
            "y": 1.02,
            "yanchor": "bottom",
            "font": {"size": 12},
        },
        "margin": {"l": 8, "r": 12, "t": 8, "b": 8, "pad": 0},
        "font": {"color": theme.MUTED, "family": theme.FONT, "size": 12},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "xaxis": {
            "type": "date",
            "gridcolor": theme.GRID,
            "linecolor": theme.BORDER,
            "automargin": True,
            "showspikes": False,
            "ticks": "outside",
            "tickcolor": theme.BORDER,
            "ticklen": 4,
            "nticks": 7,
            "tickangle": 0,
            "tickformatstops": [
                {"dtickrange": [None, 59_999], "value": "%H:%M:%S\n%d %b"},
                {"dtickrange": [60_000, 86_399_999], "value": "%H:%M\n%d %b"},
                {"dtickrange": [86_400_000, None], "value": "%a %d\n%b %Y"},
            ],
            "hoverformat": "%a %d %b %H:%M:%S",
        },
        "yaxis": {
            "gridcolor": theme.GRID,
            "zerolinecolor": theme.BORDER,
            "automargin": True,
            "fixedrange": False,
            "tickformat": ",.12~g",
            "nticks": 6,
        },
    }


def _layout(panel: Panel, traces: int, ranked: str) -> dict[str, Any]:
    title = f"{ranked} {panel.title.lower()}" if ranked else panel.title
    # The ticks of a duration include their units.
    unit = "" if panel.kind is Kind.LATENCY else f" ({panel.unit})"
    yaxis: dict[str, Any] = {
        "title": {
            "text": escape(f"{title}{unit}", quote=False),
            "standoff": 8,
            "font": {"size": 12},
        }
    }
    if panel.kind is Kind.PERCENT:
        # Above 100, so that the line at 100 has its full width.
        yaxis |= {"autorangeoptions": {"include": [100], "clipmax": 100.5}}
    else:
        yaxis |= {"rangemode": "tozero"}
    return {
        "showlegend": traces > 1,
        "yaxis": yaxis,
        "shapes": [shape for threshold in panel.thresholds for shape in _limit(panel, threshold)],
    }


def _limit(panel: Panel, threshold: Threshold) -> tuple[dict[str, Any], dict[str, Any]]:
    """The line of a limit, above the grid and below the curves, and its label above both."""
    place = {
        "type": "line",
        "xref": "paper",
        "x0": 0,
        "x1": 1,
        "yref": "y",
        "y0": threshold.value,
        "y1": threshold.value,
    }
    line = place | {
        "layer": "between",
        "line": {"color": theme.LIMIT, "width": 1.5, "dash": "dash"},
    }
    label = place | {
        "layer": "above",
        "line": {"width": 0},
        "label": {
            "text": escape(threshold.label, quote=False),
            "textposition": "start",
            "yanchor": "bottom" if panel.up_is_bad else "top",
            "font": {"size": 11, "color": theme.LIMIT},
        },
    }
    return line, label
