"""The figure of now of each measure: card, verdict and the end of its chart all tell this one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from queuescope.errors import SourceError
from queuescope.figures import Curves, quantile_name
from queuescope.panels import RANKED_QUANTILE, Dashboard, Measure, Panel
from queuescope.timeseries import State
from queuescope.view.overview.live_words import best_figure
from queuescope.view.overview.words import Figure
from queuescope.view.present.live_sources import LiveSource, LiveSources
from queuescope.view.present.questions import Present, present_by
from queuescope.view.present.values import PresentValues
from queuescope.view.source.measured import SEARCHED_DAYS
from queuescope.view.source.scrapes import ago_words


class PresentFigures:
    """Of each measure the figure of the source that tells it best; see ``best_figure``."""

    def __init__(self, dashboard: Dashboard, present: PresentValues, live: LiveSources) -> None:
        self._measures = {one.panel.id: one for one in dashboard.measures if one.on_page}
        self._present = present
        self._live = live

    def of(
        self,
        measure: Measure,
        sources: Sequence[LiveSource],
        error: SourceError | None,
        offset_seconds: float,
        beside: Present | None = None,
        *,
        is_unmeasured: bool = False,
    ) -> Figure:
        """The figure of ``measure``. ``error`` says why Prometheus does not answer, and
        ``offset_seconds`` how far its clock is ahead of ours; ``beside`` is what it tells beside.
        ``is_unmeasured`` says that it never had the figure.
        """
        shown = self._present.of(present_by(measure))
        figure = Figure(
            shown,
            beside,
            "" if error is None else str(error),
            notes=_unmeasured_notes(measure) if is_unmeasured else (),
            is_unmeasured=is_unmeasured,
        )
        return best_figure(measure, figure, sources, offset_seconds)

    def of_panel(self, panel: Panel, error: SourceError | None, offset_seconds: float) -> Figure:
        """The figure of now of a chart."""
        measure = self._measures.get(panel.id)
        if measure is None:
            return Figure(self._present.of(panel.id), outage="" if error is None else str(error))
        return self.of(measure, self._live.sources(), error, offset_seconds)


def _unmeasured_notes(measure: Measure) -> tuple[str, ...]:
    names = " or ".join(measure.panel.metrics)
    return (f"Prometheus has had no sample of {names} in the last {SEARCHED_DAYS} days.",)


def now_content(panel: Panel, figure: Figure) -> dict[str, Any] | None:
    """The figure beside a chart's title; None when there is none."""
    shown = figure.shown
    if shown.value is None or not np.isfinite(shown.value):
        return None
    cause = figure.cause if figure.is_stale else ""
    state = State.STALE if figure.is_stale else State.PARTIAL if shown.warnings else State.FRESH
    return {
        "words": shown.words(panel.kind),
        "asOf": shown.as_of,
        "state": state,
        "cause": cause,
        "warnings": shown.warnings,
        "origin": figure.origin,
        "late": ago_words(shown.late_seconds),
    }


def live_ends(panel: Panel, figure: Figure) -> Mapping[str, Present]:
    """What the curves of ``panel`` come to now, by their names: the figure itself, and of several
    quantiles those that were measured together with it. Of a curve that is left out the chart's
    own question tells.
    """
    shown = figure.shown
    if shown.value is None or figure.is_stale or shown.warnings:
        return {}
    if not panel.quantiles:
        return {panel.title: shown}
    over = shown.over_seconds
    ends = {
        quantile: Present(value, over_seconds=over) for quantile, value in figure.quantiles.items()
    }
    if np.isnan(shown.value):
        ends = dict.fromkeys(panel.quantiles, shown)
    ends[RANKED_QUANTILE] = shown
    return {quantile_name(quantile): end for quantile, end in ends.items()}


def with_ends(curves: Curves, ends: Mapping[str, Present]) -> Curves:
    """``curves`` with ``ends`` as their values now, by name."""
    shown = tuple(
        curve
        if (end := ends.get(curve.name)) is None or end.value is None
        else replace(
            curve, live=end.value, live_bounds=end.bounds, live_over_seconds=end.over_seconds
        )
        for curve in curves.curves
    )
    return replace(curves, curves=shown)
