"""The charts of a view: read through the cache, with their live ends, and drawn."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace

from queuescope.cache import CachedReader
from queuescope.errors import SourceError
from queuescope.figures import SLOTS
from queuescope.panels import Panel, Resolution, render
from queuescope.panels.template import RECENT_SECONDS
from queuescope.telemetry import Telemetry
from queuescope.timeseries import Frame, State
from queuescope.view.charts.alert_history import AlertHistories, PastAlerts
from queuescope.view.charts.chart import Chart, JudgedChart, draw_chart, judge_chart
from queuescope.view.charts.high_cardinality import HighCardinality, WorstValues
from queuescope.view.charts.live_end import LiveEnds, OpenPanel, fetch_live_ends
from queuescope.view.charts.readings import ChartReading, ChartReadings, Drawing, PanelRequest
from queuescope.view.charts.slots import ColourSlots
from queuescope.view.present.figures import PresentFigure
from queuescope.view.source.absence import Absences
from queuescope.view.source.data_start import DataStarts
from queuescope.view.source.scrapes import measured_over
from queuescope.view.source.source import Source

_CONCURRENT_QUERIES = 6


class Charts:
    """Makes the charts of all views, and reuses readings that cannot have changed."""

    def __init__(
        self,
        source: Source,
        reader: CachedReader,
        alerts: AlertHistories,
        *,
        breakdown_limit: int,
        telemetry: Telemetry,
    ) -> None:
        client, matchers, clock = source.client, source.matchers, source.clock
        self._client = client
        self._panels = source.dashboard.panels
        self._matchers = matchers
        self._breakdown_limit = breakdown_limit
        self._places = asyncio.Semaphore(_CONCURRENT_QUERIES)
        self._readings = ChartReadings(reader, telemetry=telemetry, clock=clock)
        self._slots = ColourSlots(SLOTS)
        self._alerts = alerts
        self._data_starts = DataStarts(client, matchers=matchers, clock=clock)
        self._high_cardinality = HighCardinality(
            client, matchers=matchers, limit=breakdown_limit, clock=clock
        )
        self._absences = Absences(client, matchers=matchers, clock=clock)

    async def draw(
        self, drawing: Drawing, present: Callable[[Panel], Awaitable[PresentFigure]]
    ) -> tuple[tuple[Chart, ...], PastAlerts]:
        """The charts of all panels, and the alerts that concern them. A chart that reaches the
        present ends with its present figure, which ``present`` returns.

        Closed steps are fetched again only when a new point may have arrived; the open step is
        fetched each time.
        """
        requests = await asyncio.gather(*(self._request(panel, drawing) for panel in self._panels))
        selector = await self._alerts.selector(may_ask=drawing.source.error is None)
        live, readings, recorded = await asyncio.gather(
            self._live_ends(requests, drawing, selector),
            asyncio.gather(*(self._read(one, drawing) for one in requests)),
            self._recorded(selector, requests[0], drawing),
        )
        figures = await asyncio.gather(*(present(one.panel) for one in requests))
        judged = await asyncio.gather(
            *(
                self._judged(one, read, drawing, live, figure)
                for one, read, figure in zip(requests, readings, figures, strict=True)
            )
        )
        by = drawing.view.by
        shown = [curve.name for one in judged if one.request.by for curve in one.curves.curves]
        slots = None if by is None else self._slots.of(by, shown)
        return (
            tuple(
                draw_chart(one, drawing, slots, figure)
                for one, figure in zip(judged, figures, strict=True)
            ),
            self._alerts.alerts(recorded, live),
        )

    async def _request(self, panel: Panel, drawing: Drawing) -> PanelRequest:
        scrapes = drawing.source.scrapes
        by = drawing.view.by if drawing.view.by in panel.breakdowns else None
        resolution = scrapes.resolution(drawing.grid.step_seconds, panel.all_metrics)
        worst = None if by is None else await self._worst(panel, by, drawing, resolution)
        matchers = self._matchers if worst is None else worst.matchers(self._matchers)
        recent = scrapes.resolution(RECENT_SECONDS, panel.all_metrics)
        now = render(panel.now, recent, self._matchers)
        return PanelRequest(panel, resolution, by, worst, matchers, measured_over(now, scrapes))

    async def _worst(
        self, panel: Panel, by: str, drawing: Drawing, resolution: Resolution
    ) -> WorstValues | None:
        try:
            async with self._places:
                return await self._high_cardinality.of(
                    panel,
                    by,
                    drawing.grid,
                    resolution,
                    drawing.live_at,
                    is_away=drawing.source.error is not None,
                )
        except SourceError:
            # The reading says what is wrong with the source.
            return None

    async def _live_ends(
        self, requests: Sequence[PanelRequest], drawing: Drawing, selector: str
    ) -> LiveEnds | None:
        """The open steps; None if the view does not include them, or the source is away."""
        grid, live_at = drawing.grid, drawing.live_at
        if live_at is None or drawing.source.error is not None:
            return None
        panels = [OpenPanel(one.panel, one.by, one.matchers, one.resolution) for one in requests]
        beside: Mapping[str, str] = {}
        if selector:
            resolution = requests[0].resolution
            beside = self._alerts.open_texts(selector, resolution, live_at - grid.end)
        async with self._places:
            return await fetch_live_ends(self._client, panels, grid.end, live_at, beside)

    async def _read(self, request: PanelRequest, drawing: Drawing) -> ChartReading:
        kept = self._readings.kept(request, drawing)
        if kept is not None:
            return kept
        async with self._places:
            return await self._readings.read(request, drawing)

    async def _recorded(self, selector: str, request: PanelRequest, drawing: Drawing) -> Frame:
        async with self._places:
            return await self._alerts.read(selector, drawing, request.resolution)

    async def _judged(
        self,
        request: PanelRequest,
        read: ChartReading,
        drawing: Drawing,
        live: LiveEnds | None,
        figure: PresentFigure,
    ) -> JudgedChart:
        panel, source = request.panel, drawing.source
        reading = self._readings.as_of_now(panel.id, read.reading, drawing, live)
        found = judge_chart(
            request,
            replace(read, reading=reading),
            drawing,
            live,
            figure,
            breakdown_limit=self._breakdown_limit,
        )
        if found.is_unexplained:
            async with self._places:
                why = await self._absences.of(
                    panel, drawing.view, drawing.grid, source.now, drawing.live_at
                )
            return replace(found, cause=why.words, absence=why)
        if found.state in (State.FRESH, State.PARTIAL):
            start = await self._data_starts.within(panel, found.frame, source.now)
            return replace(found, data_start=start)
        return found
