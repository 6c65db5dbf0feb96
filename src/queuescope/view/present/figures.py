"""The present figure of each measure, shown alike by its card, the verdict and its chart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from queuescope.figures import Curves, quantile_name
from queuescope.health import Worse
from queuescope.panels import RANKED_QUANTILE, Dashboard, Kind, Measure, Panel
from queuescope.timeseries import State
from queuescope.view.present.live_sources import FigureOrigin, LiveSource, LiveSources
from queuescope.view.present.present_value import PresentValue
from queuescope.view.present.queries import present_name
from queuescope.view.present.values import PresentValues
from queuescope.view.source.measured import MEASURED_WITHIN_DAYS
from queuescope.view.source.scrapes import ago_words
from queuescope.view.source.state import SourceState

PARTIAL = "Prometheus warned that its answer may be incomplete"


@dataclass(frozen=True, slots=True)
class PresentFigure:
    """A measure's present figure, which card, chart and verdict share.

    ``beside`` is the second figure on the card, if it has one. ``outage`` says why the source does
    not answer, empty while it does. ``missed`` says why the figure is not from the preferred
    source. ``out_of`` is the total of which it is a part; ``remark`` is shown with it at once, and
    ``notes`` are sentences for its details. ``quantiles`` are all that were measured together with
    it. ``is_unmeasured``: no source has ever reported it.
    """

    shown: PresentValue
    beside: PresentValue | None = None
    outage: str = ""
    origin: FigureOrigin = FigureOrigin.PROMETHEUS
    missed: str = ""
    out_of: int | None = None
    remark: str = ""
    notes: tuple[str, ...] = ()
    quantiles: Mapping[float, float] = field(default_factory=dict)
    is_unmeasured: bool = False

    @property
    def state(self) -> State:
        if not self.outage:
            return self.shown.state
        return State.UNAVAILABLE if self.shown.value is None else State.STALE

    @property
    def is_stale(self) -> bool:
        """Whether ``shown`` is old and no newer value can be had."""
        return bool(self.outage or self.shown.cause)

    @property
    def whole(self) -> float | None:
        """What the card shows, if it is current and complete; else None."""
        return None if self.outage else self.shown.whole

    @property
    def cause(self) -> str:
        """Why there is no figure, or why it is old, partial or not from the preferred source."""
        own = self._own_cause
        if not self.missed:
            return own
        if self.shown.value is None or self.is_stale:
            return f"{self.missed}. {own[:1].upper()}{own[1:]}"
        return f"From {self.origin.words}: {self.missed}"

    @property
    def _own_cause(self) -> str:
        if self.is_stale:
            return self.outage or self.shown.cause
        if self.shown.as_of is None:
            return "Prometheus has not answered yet"
        if self.shown.warnings:
            return PARTIAL
        if self.is_unmeasured:
            return "Not measured here"
        return "Nothing was measured in the last minutes" if self.shown.value is None else ""

    @property
    def doubt(self) -> str:
        """Why the figure proves nothing, if it does not."""
        own = self.outage or self.shown.cause or (PARTIAL if self.shown.warnings else "")
        return own if own and not self.missed else self.cause

    def proven(self, measure: Measure) -> float | None:
        """The figure that the verdict may judge; None if it proves nothing.

        An old figure proves nothing. A partial queue depth can prove that too many jobs wait, but
        not that all is well; any other partial figure proves nothing.
        """
        value, limits = self.shown.value, measure.limits
        if value is None or self.is_stale:
            return None
        if not self.shown.warnings:
            return value
        if (
            limits is None
            or limits.worse is not Worse.ABOVE
            or measure.panel.kind is not Kind.COUNT
        ):
            return None
        return None if limits.broken(value) is None else value


class PresentFigures:
    """The figure of each measure from the preferred source; see ``best_figure``."""

    def __init__(self, dashboard: Dashboard, present: PresentValues, live: LiveSources) -> None:
        self._measures = {one.panel.id: one for one in dashboard.measures if one.on_page}
        self._present = present
        self._live = live

    def of(
        self,
        measure: Measure,
        sources: Sequence[LiveSource],
        state: SourceState,
        beside: PresentValue | None = None,
        *,
        is_unmeasured: bool = False,
    ) -> PresentFigure:
        """The figure of ``measure``. ``state`` is that of Prometheus; ``beside`` is the second
        figure on the card; ``is_unmeasured`` says that Prometheus never had the figure.
        """
        figure = PresentFigure(
            self._present.of(present_name(measure)),
            beside,
            state.contact.cause,
            notes=_unmeasured_notes(measure) if is_unmeasured else (),
            is_unmeasured=is_unmeasured,
        )
        return best_figure(measure, figure, sources, state.offset_seconds)

    def of_panel(self, panel: Panel, state: SourceState) -> PresentFigure:
        """The present figure of a chart."""
        measure = self._measures.get(panel.id)
        if measure is None:
            return PresentFigure(self._present.of(panel.id), outage=state.contact.cause)
        return self.of(measure, self._live.sources(), state)


def best_figure(
    measure: Measure, figure: PresentFigure, sources: Iterable[LiveSource], offset_seconds: float
) -> PresentFigure:
    """The figure of ``measure`` from the live source that reports it, while that answers.

    Otherwise ``figure``, that of Prometheus, with the reason; if neither has a current one, the
    newer of their last good ones. ``offset_seconds`` is how far the clock of Prometheus is ahead of
    ours.
    """
    source = next((one for one in sources if measure.id in one.measures), None)
    if source is None:
        return figure
    own = _live_figure(measure, source, offset_seconds)
    if source.is_fresh:
        if own is not None:
            return own
        why = source.report.why_not.get(measure.id, "")
        return replace(
            figure,
            notes=(f"Not from {source.origin.words}: {why}.",) if why else (),
            is_unmeasured=figure.is_unmeasured and measure.id not in source.report.expected,
        )
    shown = figure.shown
    is_known = shown.value is not None and not figure.is_stale
    if own is not None and not is_known:
        is_newer = shown.as_of is None or (own.shown.as_of or 0.0) > shown.as_of
        if shown.value is None or is_newer:
            return own
    return replace(figure, missed=source.cause, is_unmeasured=False)


def _live_figure(
    measure: Measure, source: LiveSource, offset_seconds: float
) -> PresentFigure | None:
    """The figure that ``source`` reports; None if it has none."""
    live, as_of = source.report.figures.get(measure.id), source.known.as_of
    if live is None or as_of is None:
        return None

    def present(value: float, over_seconds: float | None = None) -> PresentValue:
        known = source.known
        at, since = as_of + offset_seconds, known.failing_since
        return PresentValue(value, at, known.error, since, over_seconds=over_seconds)

    return PresentFigure(
        present(live.shown, live.over_seconds),
        None if live.beside is None else present(live.beside),
        origin=source.origin,
        out_of=live.out_of,
        remark=live.remark,
        notes=live.notes,
        quantiles=live.quantiles,
    )


def _unmeasured_notes(measure: Measure) -> tuple[str, ...]:
    names = " or ".join(measure.panel.metrics)
    return (f"Prometheus has had no sample of {names} in the last {MEASURED_WITHIN_DAYS} days.",)


def now_content(panel: Panel, figure: PresentFigure) -> dict[str, Any] | None:
    """The figure beside a chart's title; None if there is none."""
    shown = figure.shown
    if shown.value is None or not np.isfinite(shown.value):
        return None
    return {
        "words": shown.words(panel.kind),
        "asOf": shown.as_of,
        "state": figure.state,
        "cause": figure.cause if figure.is_stale else "",
        "warnings": shown.warnings,
        "origin": figure.origin,
        "late": ago_words(shown.late_seconds),
    }


def live_ends(panel: Panel, figure: PresentFigure) -> Mapping[str, PresentValue]:
    """The present values of the curves of ``panel``, by name: the figure itself, and the quantiles
    that were measured together with it. A curve that is missing here ends with the value of the
    chart's own query.
    """
    shown = figure.shown
    if shown.value is None or figure.is_stale or shown.warnings:
        return {}
    if not panel.quantiles:
        return {panel.title: shown}
    over = shown.over_seconds
    ends = {
        quantile: PresentValue(value, over_seconds=over)
        for quantile, value in figure.quantiles.items()
    }
    if np.isnan(shown.value):
        ends = dict.fromkeys(panel.quantiles, shown)
    ends[RANKED_QUANTILE] = shown
    return {quantile_name(quantile): end for quantile, end in ends.items()}


def with_ends(curves: Curves, ends: Mapping[str, PresentValue]) -> Curves:
    """``curves`` with ``ends`` as their present values, by name."""
    shown = tuple(
        curve
        if (end := ends.get(curve.name)) is None or end.value is None
        else replace(
            curve, live=end.value, live_bounds=end.bounds, live_over_seconds=end.over_seconds
        )
        for curve in curves.curves
    )
    return replace(curves, curves=shown)
