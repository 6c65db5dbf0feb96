"""One panel of a view: read through the cache, judged in words, and drawn."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from queuescope.cache import CachedReader
from queuescope.errors import ConfigurationError, SourceError
from queuescope.figures import curves_of, panel_figure, value_words
from queuescope.panels import Panel, Resolution
from queuescope.prometheus import PrometheusClient
from queuescope.snapshot.absence import explain_absence
from queuescope.snapshot.crowd import Crowd, Crowds
from queuescope.snapshot.data_start import DataStarts
from queuescope.snapshot.view import View
from queuescope.telemetry import Telemetry
from queuescope.timeseries import Frame, Grid, Reading, State

_CONCURRENT_QUERIES = 6
_ABSENCE_KEPT_SECONDS = 60
_MAX_ABSENCES = 256

_RECHECK_SECONDS = (30.0, 120.0)

_SETTLING_SECONDS = 5.0
_MAX_CHARTS = 96


@dataclass(frozen=True, slots=True)
class Chart:
    """What the page is told of a panel. ``as_of`` is when the source last answered for it (source
    time); ``checked_at`` when it was last asked whether there is anything newer.
    """

    content: dict[str, Any]
    state: State
    as_of: float | None
    checked_at: float


@dataclass(frozen=True, slots=True)
class _Kept:
    """A chart, and what it was made of at ``kept_at`` (our clock)."""

    query: str
    grid: Grid
    epoch: str | None
    chart: Chart
    kept_at: float


def recheck_seconds(step_seconds: int) -> float:
    """How soon samples that came late are seen, where nothing else asks for the newest points: a
    tenth of what a point stands for, within bounds.
    """
    shortest, longest = _RECHECK_SECONDS
    return min(max(step_seconds / 10, shortest), longest)


class Charts:
    """Makes the charts of all views, and keeps those that cannot have changed."""

    def __init__(
        self,
        client: PrometheusClient,
        reader: CachedReader,
        *,
        matchers: str,
        breakdown_limit: int,
        telemetry: Telemetry,
        clock: Callable[[], float],
    ) -> None:
        self._client = client
        self._reader = reader
        self._matchers = matchers
        self._breakdown_limit = breakdown_limit
        self._telemetry = telemetry
        self._clock = clock
        self._slots = asyncio.Semaphore(_CONCURRENT_QUERIES)
        self._kept: OrderedDict[tuple[str, View], _Kept] = OrderedDict()
        self._data_starts = DataStarts(client, matchers=matchers, clock=clock)
        self._crowds = Crowds(client, matchers=matchers, limit=breakdown_limit, clock=clock)
        self._absences: OrderedDict[tuple[str, View], tuple[float, str]] = OrderedDict()

    async def draw(
        self,
        panel: Panel,
        view: View,
        grid: Grid,
        resolution: Resolution,
        source_now: float,
        *,
        epoch: str | None,
        may_keep: bool,
    ) -> Chart:
        """The chart of ``panel`` on ``grid``, ``source_now`` being the source's clock.

        With ``may_keep`` the source is not asked while no new point can have come: the grid is the
        same, its newest point was read when all its samples had been scraped, and that is no
        longer ago than ``recheck_seconds``. ``epoch`` is the source's (see ``Contact``).
        """
        by = view.by if view.by in panel.breakdowns else None
        crowd = await self._crowd(panel, by, grid, resolution)
        matchers = self._matchers if crowd is None else crowd.matchers(self._matchers)
        query = panel.render(panel.query, resolution, matchers, by)
        key = (panel.id, view)
        kept = self._kept.get(key)
        same = kept is not None and (kept.query, kept.grid, kept.epoch) == (query, grid, epoch)
        if may_keep and kept is not None and same:
            settled = grid.end + resolution.scrape_interval_seconds + _SETTLING_SECONDS
            young = 0 <= self._clock() - kept.kept_at < recheck_seconds(grid.step_seconds)
            if young and settled <= kept.chart.checked_at:
                return kept.chart
        async with self._slots:
            reading = await self._reader.read(query, grid, source_now=source_now, epoch=epoch)
        self._telemetry.looked_up(reading.lookup)
        chart = await self._drawn(
            panel, view, by, grid, reading, query, resolution.rate_window_seconds, source_now
        )
        if crowd is not None:
            chart.content["hidden"] = max(0, crowd.total - len(chart.content["figure"]["data"]))
            chart.content["note"] = "ranked by their present values"
        self._kept.pop(key, None)
        # What a source remarks is not repeated longer than it says so.
        if chart.state in (State.FRESH, State.IDLE) and not reading.warnings:
            self._kept[key] = _Kept(query, grid, epoch, chart, self._clock())
            if len(self._kept) > _MAX_CHARTS:
                self._kept.popitem(last=False)
        return chart

    async def _crowd(
        self, panel: Panel, by: str | None, grid: Grid, resolution: Resolution
    ) -> Crowd | None:
        if by is None:
            return None
        try:
            async with self._slots:
                return await self._crowds.of(panel, by, grid, resolution)
        except SourceError:
            # The reading itself says what is wrong with the source.
            return None

    async def _drawn(  # noqa: PLR0917
        self,
        panel: Panel,
        view: View,
        by: str | None,
        grid: Grid,
        reading: Reading,
        query: str,
        window_seconds: int,
        source_now: float,
    ) -> Chart:
        frame = reading.frame if reading.frame is not None else Frame.empty(grid)
        try:
            curves = curves_of(
                panel, frame, by, self._breakdown_limit, window_seconds=window_seconds
            )
        except ConfigurationError as exc:
            # A panel that cannot be drawn says so; the others stand.
            reading = replace(reading, state=State.UNAVAILABLE, cause=str(exc))
            frame = Frame.empty(grid)
            curves = curves_of(panel, frame, by, self._breakdown_limit)
        state, cause = reading.state, reading.cause
        unlabelled = by is not None and bool(frame.series) and not curves.curves
        if state is State.FRESH and not curves.has_numbers:
            state = State.IDLE
        if state is State.IDLE and unlabelled:
            state, cause = State.EMPTY, f"No series here has the label {by}. Break down by another."
        elif state is State.IDLE:
            cause = "No job finished in this range, so there is nothing to measure."
        elif state is State.EMPTY:
            cause = await self._why_empty(panel, view, grid, source_now)
        note = ""
        if view.by is not None and by is None:
            note = f"not reported by {view.by}"
        data_start = None
        if state in (State.FRESH, State.PARTIAL):
            data_start = await self._data_starts.within(panel, frame, source_now)
        content = {
            "id": panel.id,
            "title": panel.title,
            "kind": panel.kind,
            "unit": panel.unit,
            "state": state,
            "cause": cause,
            "warnings": reading.warnings,
            "asOf": reading.as_of,
            "nowLabel": "P95 now" if panel.quantiles else "now",
            "atLeast": curves.at_least and value_words(panel.kind, curves.at_least),
            "hidden": curves.hidden,
            "note": note,
            "dataStart": data_start,
            "relaidAt": curves.relaid_at,
            "details": {
                "query": " ".join(query.split()),
                "lookup": reading.lookup,
                "kind": reading.cause_kind,
                "series": len(frame.series),
            },
            "figure": panel_figure(panel, curves, by=by),
        }
        return Chart(content, state, reading.as_of, source_now)

    async def _why_empty(self, panel: Panel, view: View, grid: Grid, source_now: float) -> str:
        """The reason, kept for a while: it takes a search through weeks of samples."""
        known = self._absences.get((panel.id, view))
        if known is not None and 0 <= self._clock() - known[0] < _ABSENCE_KEPT_SECONDS:
            return known[1]
        try:
            async with self._slots:
                why = await explain_absence(self._client, panel, self._matchers, grid, source_now)
        except SourceError as exc:
            return f"Prometheus has no such series here. Why could not be found out: {exc}"
        self._absences[panel.id, view] = (self._clock(), why)
        while len(self._absences) > _MAX_ABSENCES:
            self._absences.popitem(last=False)
        return why
