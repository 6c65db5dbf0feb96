"""The cards, as the page shows them."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from queuescope.figures import Bounds, over_words, value_words
from queuescope.health import Drain, Health, Worse
from queuescope.panels import Kind, Measure
from queuescope.panels.template import RECENT_SECONDS
from queuescope.timeseries import Floats, Reading, State
from queuescope.view.overview.drain import drain_content
from queuescope.view.overview.reason import Reason, panel_of
from queuescope.view.present.figures import PARTIAL, PresentFigure
from queuescope.view.present.live_sources import FigureOrigin
from queuescope.view.present.present_value import PresentValue
from queuescope.view.source.scrapes import ago_words, late_words

_NOTHING = "Nothing happened that could be measured."
_NO_OLDER = "there is no older data in the last minutes"
_SCRAPED_RARELY = "it is scraped so rarely that a shorter window has too few samples"
_BETWEEN = "The buckets of the histogram only show between which bounds it lies."
_OPERATIONS = {"path": "operations", "title": "Operations"}
_WORKERS = {"path": "workers", "title": "Workers"}
_PAGES = {
    "queue_depth": [_OPERATIONS],
    "success_rate": [{"path": "jobs", "title": "Jobs"}],
    "active_workers": [_WORKERS],
    "throughput": [_WORKERS],
    "oldest_waiting": [_OPERATIONS],
}
"""The links of each card."""
_BEYOND = {Worse.ABOVE: "too high", Worse.BELOW: "too low"}


def card_content(
    measure: Measure,
    figure: PresentFigure,
    changes: list[dict[str, str]],
    history: Reading,
    spark: Floats | None,
    *,
    outlook: Drain | None = None,
    drain: Mapping[str, Any] | None = None,
    ends: Mapping[str, PresentValue] | None = None,
    says_why: bool = True,
) -> dict[str, Any]:
    """One card with its ``changes``. ``drain`` is the forecast that it shows (see
    ``drain_content``); ``ends`` are the present values of its chart's curves, by name. Without
    ``says_why``, a card that was never measured says so only in its details.
    """
    kind, limits = measure.panel.kind, measure.limits
    worse = None if limits is None else limits.worse
    state = _state(figure, history)
    level = _level(figure, measure)
    if figure.shown.warnings and level == "good":
        level = "none"
    level_words = "" if level in ("none", "good") or worse is None else _BEYOND[worse]
    if figure.remark and not level_words and state in (State.FRESH, State.PARTIAL):
        level, level_words = "warn", figure.remark
    return {
        "id": measure.id,
        "title": measure.title,
        "state": state,
        "cause": _cause(figure, state) if says_why or not figure.is_unmeasured else "",
        "warnings": figure.shown.warnings,
        "asOf": figure.shown.as_of,
        "level": level,
        "levelWords": level_words,
        "words": _words(kind, figure.shown, figure.out_of),
        "origin": figure.origin,
        "instead": f"from {figure.origin.words}" if figure.missed else "",
        "details": _details(measure, figure, history, outlook),
        "unit": measure.panel.unit if kind is Kind.COUNT else "",
        "note": _note(measure, figure),
        "late": _late_words(figure),
        "beside": _beside(measure, figure),
        "changes": changes,
        "spark": None
        if spark is None or history.frame is None
        else {
            "state": history.state,
            "values": base64.b64encode(spark.astype(np.float32).tobytes()).decode(),
            "from": history.frame.grid.start,
            "to": history.frame.grid.end,
        },
        "limit": None if limits is None else limits.degraded,
        "drain": drain,
        "panel": panel_of(measure),
        "pages": _PAGES.get(measure.id, []),
        "ends": {
            name: {
                "value": end.value,
                "words": end.words(kind),
                "between": _finite(end.bounds),
                "over": over_words(end.over_seconds),
            }
            for name, end in (ends or {}).items()
            if end.value is not None and math.isfinite(end.value)
        },
    }


def _finite(bounds: Bounds | None) -> list[float | None] | None:
    return None if bounds is None else [b if math.isfinite(b) else None for b in bounds]


def _words(kind: Kind, shown: PresentValue, out_of: int | None = None) -> str:
    if shown.value == 0 and shown.bounds is None and kind is Kind.LATENCY:
        return "0 s"
    words = shown.words(kind)
    return words if out_of is None else f"{words} of {out_of}"


def _beside(measure: Measure, figure: PresentFigure) -> str:
    """What the card shows beside its figure; empty if that is incomplete or old."""
    beside = figure.beside
    if beside is None or beside.value is None or math.isnan(beside.value):
        return ""
    is_old = beside.cause or (figure.outage and figure.origin is FigureOrigin.PROMETHEUS)
    if is_old or beside.warnings:
        return ""
    return f"{beside.words(measure.panel.kind)} in {measure.note}"


def _over_words(figure: PresentFigure) -> str:
    """The window that the figure was measured over, unless it is the usual five minutes."""
    seconds = figure.shown.over_seconds
    if seconds is None or seconds == RECENT_SECONDS or figure.shown.value is None:
        return ""
    return f"over {over_words(seconds)}"


def _note(measure: Measure, figure: PresentFigure) -> str:
    """The note beside the title: what is unusual about the figure, or else the card's own note."""
    unusual = _late_words(figure) or _over_words(figure)
    return unusual or ("" if measure.has_beside else measure.note)


def _late_words(figure: PresentFigure) -> str:
    return "" if figure.shown.value is None else ago_words(figure.shown.late_seconds)


def _details(
    measure: Measure, figure: PresentFigure, history: Reading, outlook: Drain | None
) -> list[Reason]:
    """The source and time of the figure, and remarks about it."""
    said: list[Reason] = []
    shown = figure.shown
    if shown.value is not None and shown.as_of is not None:
        said.append([f"From {figure.origin.words}, as of ", {"at": shown.as_of}, "."])
    if figure.cause:
        said.append([_sentence(figure.cause)])
    said += [[note] for note in figure.notes]
    if over := _over_words(figure):
        is_short = (shown.over_seconds or 0) < RECENT_SECONDS
        said.append([f"Measured {over}: {_NO_OLDER if is_short else _SCRAPED_RARELY}."])
    if shown.late_seconds:
        late = late_words(shown.late_seconds)
        said.append(
            [f"Samples arrive in Prometheus {late} late, so there are none that are newer."]
        )
    if beside := _beside(measure, figure):
        said.append([f"{beside}."])
    if shown.bounds is not None:
        said.append([_BETWEEN])
    if outlook is not None:
        said.append([drain_content(outlook)["words"]])
    if limits := _limit_words(measure):
        said.append([limits])
    if figure.origin is not FigureOrigin.PROMETHEUS:
        curve: Reason = ["The curve and the comparisons are from Prometheus"]
        if history.state is State.STALE and history.as_of is not None:
            curve += [", as of ", {"at": history.as_of}]
        said.append([*curve, "."])
    return said


def _limit_words(measure: Measure) -> str:
    limits, panel = measure.limits, measure.panel
    if limits is None:
        return ""
    parts = [
        f"{health} {limits.worse} {value_words(panel.kind, limit)}"
        for health, limit in (("degraded", limits.degraded), ("down", limits.down))
        if limit is not None
    ]
    return _sentence(", ".join(parts))


def _sentence(text: str) -> str:
    text = f"{text[:1].upper()}{text[1:]}"
    return text if not text or text.endswith((".", "!", "?")) else f"{text}."


def _state(figure: PresentFigure, history: Reading) -> State:
    lacks = figure.missed or history.state is State.PARTIAL
    return State.PARTIAL if figure.state is State.FRESH and lacks else figure.state


def _cause(figure: PresentFigure, state: State) -> str:
    if state is State.IDLE:
        return _NOTHING
    return figure.cause or (PARTIAL if state is State.PARTIAL else "")


def _level(figure: PresentFigure, measure: Measure) -> str:
    """``good``, ``warn`` or ``bad`` by the limits; ``none`` without limits or if the figure proves
    nothing.
    """
    limits, value = measure.limits, figure.proven(measure)
    if limits is None or not limits.is_set or value is None or math.isnan(value):
        return "none"
    broken = limits.judged(value, figure.shown.bounds)
    if broken is None:
        return "good"
    return {Health.DOWN: "bad", Health.UNKNOWN: "none"}.get(broken[0], "warn")
