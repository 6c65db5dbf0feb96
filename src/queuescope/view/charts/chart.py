"""One chart: its curves and state, judged from what was read, and its content for the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from queuescope.errors import ConfigurationError
from queuescope.figures import (
    Curves,
    curves_of,
    panel_figure,
    quantile_name,
    value_words,
    with_open_step,
)
from queuescope.panels import RANKED_QUANTILE, Kind, Panel, Resolution
from queuescope.timeseries import Frame, State
from queuescope.view.charts.kept_points import Points
from queuescope.view.charts.live_end import LiveEnds
from queuescope.view.charts.readings import ANSWERED, ChartReading, Drawing, PanelRequest
from queuescope.view.present.figures import PresentFigure, live_ends, now_content, with_ends
from queuescope.view.source.absence import Absence
from queuescope.view.source.scrapes import Scrape, late_words


@dataclass(frozen=True, slots=True)
class JudgedChart:
    """The curves of one panel with their state and its cause.

    ``frame`` holds the closed steps and the open one; ``series`` is the number of series in the
    closed steps. ``data_start`` is when the samples begin, if that is within the range.
    """

    request: PanelRequest
    read: ChartReading
    frame: Frame
    series: int
    curves: Curves
    state: State
    cause: str
    data_start: float | None = None
    absence: Absence | None = None

    @property
    def is_unexplained(self) -> bool:
        """Whether the chart is empty and the reason is not known yet."""
        return self.state is State.EMPTY and not self.cause


@dataclass(frozen=True, slots=True)
class Chart:
    """What the page shows of a panel. ``as_of`` is when the source last answered for it and
    ``checked_at`` when newer data was last requested (source times); ``absence`` says why there are
    no series, if there are none.
    """

    content: dict[str, Any]
    state: State
    as_of: float | None
    checked_at: float
    points: Points
    absence: Absence | None = None


def judge_chart(
    request: PanelRequest,
    read: ChartReading,
    drawing: Drawing,
    live: LiveEnds | None,
    figure: PresentFigure,
    *,
    breakdown_limit: int,
) -> JudgedChart:
    """The curves of ``read``, ending with the open step of ``live`` and the present ``figure``, and
    their state.
    """
    panel, by, reading, grid = request.panel, request.by, read.reading, drawing.grid
    frame = closed = Frame.empty(grid) if reading.frame is None else reading.frame
    state, cause = reading.state, reading.cause
    late = request.resolution.late_seconds
    if late:
        # Steps whose samples have not all arrived are not drawn, and neither is the open step.
        frame = closed = closed.until(drawing.source.now - late)
        if state is State.FRESH and not closed.series:
            state, cause = State.EMPTY, _late_words(late)
    series = () if live is None else live.series.get(panel.id, ())
    has_open_step = bool(series) and state in ANSWERED and closed.grid == grid and not late
    if has_open_step:
        frame = with_open_step(closed, series)
        state = State.FRESH if state is State.EMPTY else state
    try:
        curves = curves_of(
            panel,
            frame,
            by,
            breakdown_limit,
            window_seconds=request.resolution.rate_window_seconds,
            has_open_step=has_open_step,
            live_over_seconds=request.live_over_seconds,
            so_far=() if live is None else live.so_far.get(panel.id, ()),
        )
    except ConfigurationError as exc:
        # A panel that cannot be drawn says so; the others are drawn.
        frame = closed = Frame.empty(grid)
        curves = curves_of(panel, frame, by, breakdown_limit)
        return JudgedChart(request, read, frame, 0, curves, State.UNAVAILABLE, str(exc))
    is_now = by is None and drawing.live_at == drawing.source.now
    # The present figure of another source is drawn only if Prometheus is not behind.
    if has_open_step and is_now and figure.shown.late_seconds == drawing.source.behind_seconds:
        curves = with_ends(curves, live_ends(panel, figure))
    if state in (State.FRESH, State.IDLE):
        state, cause = _state_of(panel, by, frame, curves)
    elif state is State.EMPTY and reading.state is State.EMPTY:
        # The reason is looked up later.
        cause = ""
    return JudgedChart(request, read, frame, len(closed.series), curves, state, cause)


def draw_chart(
    judged: JudgedChart, drawing: Drawing, slots: Mapping[str, int] | None, now: PresentFigure
) -> Chart:
    """The chart. ``slots`` are the colour numbers of a breakdown's values."""
    request, reading, curves = judged.request, judged.read.reading, judged.curves
    panel, by = request.panel, request.by
    figure = panel_figure(
        panel,
        curves,
        by=by,
        live_at=drawing.live_at,
        slots=None if by is None else slots,
        point_seconds=panel.point_seconds(request.resolution),
    )
    scrape = _scrape(request.resolution)
    worst = request.worst
    content = {
        "id": panel.id,
        "title": panel.title,
        "role": panel.role,
        "kind": panel.kind,
        "unit": panel.unit,
        "by": by,
        "quantile": quantile_name(RANKED_QUANTILE) if by and panel.quantiles else "",
        "quantiles": [quantile_name(quantile) for quantile in panel.quantiles],
        "state": judged.state,
        "cause": judged.cause,
        "warnings": reading.warnings,
        "asOf": reading.as_of,
        "nowLabel": f"{quantile_name(RANKED_QUANTILE)} now" if panel.quantiles else "now",
        "now": now_content(panel, now),
        "atLeast": curves.at_least and value_words(panel.kind, curves.at_least),
        "hidden": curves.hidden if worst is None else max(0, worst.total - len(curves.curves)),
        "note": ", ".join(_notes(judged, drawing)),
        "dataStart": judged.data_start,
        "relaidAt": curves.relaid_at,
        "details": {
            "query": " ".join(request.query.split()),
            "lookup": reading.lookup,
            "kind": reading.cause_kind,
            "series": judged.series,
            "scrapes": scrape.words,
        },
        "figure": figure,
    }
    points = Points(panel, curves, by, drawing.live_at)
    checked_at = judged.read.checked_at
    return Chart(content, judged.state, reading.as_of, checked_at, points, judged.absence)


def _state_of(panel: Panel, by: str | None, frame: Frame, curves: Curves) -> tuple[State, str]:
    """The state of a complete answer, and its cause."""
    if curves.has_numbers:
        return State.FRESH, ""
    if by is not None and bool(frame.series) and not curves.curves:
        return State.EMPTY, f"No series here has the label {by}. Break down by another."
    if panel.kind is Kind.COUNT:
        # A measured 0 is data, too.
        return State.EMPTY, "All samples in this range are NaN or infinite."
    return State.IDLE, "No job finished in this range, so there is nothing to measure."


def _late_words(seconds: float) -> str:
    return f"Samples arrive {late_words(seconds)} late: there are none in this range yet."


def _notes(judged: JudgedChart, drawing: Drawing) -> list[str]:
    """Notes beside the chart's title, a few words each."""
    request, by = judged.request, judged.request.by
    notes = [] if request.worst is None else ["ranked by present values"]
    if drawing.view.by is not None and by is None:
        notes.append(f"not reported by {drawing.view.by}")
    elif by is not None:
        notes += _unlabelled_words(request.panel, by, judged.curves)
    if request.resolution.late_seconds:
        late = request.resolution.late_seconds + drawing.source.behind_seconds
        notes.append(f"samples arrive {late_words(late)} late")
    scrape = _scrape(request.resolution)
    return [*notes, f"scraped {scrape.words}"] if scrape.is_mixed else notes


def _scrape(resolution: Resolution) -> Scrape:
    slowest = resolution.scrape_interval_seconds
    return Scrape(resolution.fastest_seconds or slowest, slowest)


def _unlabelled_words(panel: Panel, by: str, curves: Curves) -> list[str]:
    """Which series are not drawn because they lack the label ``by``. Success rates get no note:
    such a series is usually that of all jobs together, which the panel falls back on.
    """
    if not curves.curves or curves.unlabelled is None or panel.kind is Kind.PERCENT:
        return []
    if panel.kind is Kind.LATENCY:
        return [f"jobs without a {by} are not drawn"]
    if not curves.unlabelled > 0:
        return []
    return [f"up to {value_words(panel.kind, curves.unlabelled)} {panel.unit} have no {by}"]
