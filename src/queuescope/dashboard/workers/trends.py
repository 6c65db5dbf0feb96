"""The attempts that each worker ended in the last seven days, as a curve in its row."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import tzinfo

import numpy as np

from queuescope.dashboard.ui.widgets import UNKNOWN, Markup, Tone, element, joined, moment, notice
from queuescope.timeseries import Floats, Reading, State

_CHART = (168, 28)


@dataclass(frozen=True, slots=True)
class Trends:
    """The known trends, by worker; ``is_offered`` says whether the panel file provides them."""

    known: Mapping[str, Reading]
    is_offered: bool


def trend_chart(worker: str, trends: Trends) -> Markup:
    if not trends.is_offered:
        return UNKNOWN
    trend = trends.known.get(worker)
    if trend is None:
        return element("div", class_="qs-trend", data_state="asking")
    per_minute = None if trend.frame is None else trend.frame.values[0]
    if per_minute is None or not np.isfinite(per_minute).any():
        words = "no data" if trend.state is State.EMPTY else "not known"
        return element(
            "div", words, class_="qs-trend qs-muted", data_state=trend.state, title=trend.cause
        )
    peak = float(np.nanmax(per_minute))
    words = f"peak {_rate(peak)} / min" if peak else "none ended"
    return element(
        "div",
        sparkline(per_minute, peak, f"{words} in the last seven days"),
        element("div", words, class_="qs-muted"),
        class_="qs-trend",
        data_state=trend.state,
        title=trend.cause or False,
    )


def sparkline(values: Floats, peak: float, words: str) -> Markup:
    """A curve from 0 to ``peak`` with its gaps; ``words`` describe it for screen readers."""
    width, height = _CHART
    across = width / max(1, len(values) - 1)
    down = (height - 4) / peak if peak > 0 else 0.0
    parts = []
    is_drawn = False
    for index, value in enumerate(values.tolist()):
        if not math.isfinite(value):
            is_drawn = False
            continue
        parts.append(
            f"{'L' if is_drawn else 'M'}{index * across:.0f} {height - 2 - value * down:.1f}"
            # A lone point between gaps is visible by its round end.
            + ("" if is_drawn else "h.01")
        )
        is_drawn = True
    return element(
        "svg",
        element("path", d="".join(parts)),
        viewBox=f"0 0 {width} {height}",
        preserveAspectRatio="none",
        role="img",
        aria_label=words,
        class_="qs-sparkline",
    )


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 9.95 else f"{value:.1f}"


def trend_remarks(trends: Trends, zone: tzinfo, now: float) -> list[Markup]:
    """One notice below the tables why charts may be old or missing."""
    if not trends.is_offered:
        words = "The panel file has no throughput per worker, so seven days are not shown."
        return [element("p", words, class_="qs-muted")]
    troubled = [t for t in trends.known.values() if t.state in (State.STALE, State.UNAVAILABLE)]
    if not troubled:
        return []
    ends = [trend.frame.grid.end for trend in troubled if trend.frame is not None]
    when = joined("; the curves end at ", moment(min(ends), zone, now)) if ends else ""
    return [notice(joined("Seven days: ", troubled[0].cause, when, "."), tone=Tone.UNKNOWN)]
