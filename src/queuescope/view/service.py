"""What the page shows, made once for all viewers: snapshots of views, and the overview."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import brotli
import orjson
from cachetools import FIFOCache

from queuescope.cache import CachedReader, FrameStore
from queuescope.figures import step_words
from queuescope.panels import Dashboard, Panel
from queuescope.prometheus import PrometheusClient
from queuescope.shown_text import shown_in_json
from queuescope.single_flight import Flight, SingleFlight
from queuescope.telemetry import NoTelemetry, Occasion, Telemetry
from queuescope.timeseries import State
from queuescope.view.charts.alert_history import AlertHistories, PastAlerts
from queuescope.view.charts.chart import Chart
from queuescope.view.charts.charts import Charts
from queuescope.view.charts.flow_history import FlowHistories
from queuescope.view.charts.kept_points import KeptPoints, Points
from queuescope.view.charts.readings import Drawing
from queuescope.view.charts.refresher import Refresher
from queuescope.view.overview.overview import Overview
from queuescope.view.present.figures import PresentFigure, PresentFigures
from queuescope.view.present.live_sources import LiveSources, NoLiveSources
from queuescope.view.present.values import PRESENT_PATIENCE_SECONDS, SHARED_SECONDS, PresentValues
from queuescope.view.selection import View
from queuescope.view.source.absence import unmeasured_words
from queuescope.view.source.alert_rules import AlertRules, AlertScope
from queuescope.view.source.facts import FactsFile
from queuescope.view.source.notices import clock_notices
from queuescope.view.source.source import Source
from queuescope.view.source.state import SourceState

MAX_VIEWS = 256

_SOURCE_FAILED_SECONDS = 1.0
_PANEL_FAILED_SECONDS = 5.0
_READ_AHEAD_RETRY_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The JSON of one view. ``taken_at`` is in epoch seconds by our clock; ``complete`` is False if
    something in it is stale or missing because the source did not answer.

    ``as_of`` pairs each panel with the source's time of its newest answer; ``reachable`` says
    whether the source answered at all, ``thorough`` whether every panel was read.
    """

    view: View
    taken_at: float
    complete: bool
    body: bytes
    body_brotli: bytes
    as_of: tuple[tuple[str, float | None], ...] = ()
    reachable: bool = True
    thorough: bool = True


class ViewService:
    """Makes snapshots, one at a time for equal views, and keeps watched views fresh.

    ``overview`` and ``flow_histories`` use the same readings.
    """

    def __init__(
        self,
        client: PrometheusClient,
        store: FrameStore,
        facts_file: FactsFile,
        dashboard: Dashboard,
        *,
        matchers: str,
        scrape_interval_seconds: int,
        breakdown_limit: int,
        horizon_seconds: float,
        clock: Callable[[], float],
        telemetry: Telemetry | None = None,
        live: LiveSources | None = None,
        alert_scope: AlertScope | None = None,
    ) -> None:
        """``live`` are the sources besides Prometheus, if there are any."""
        self._clock = clock
        self._telemetry = telemetry or NoTelemetry()
        self._live = live or NoLiveSources()
        rules = AlertRules(client, dashboard.panels, clock, alert_scope or AlertScope())
        self.reader = CachedReader(client, store, horizon_seconds=horizon_seconds, clock=clock)
        self.source = Source(
            client,
            facts_file,
            dashboard,
            matchers=matchers,
            scrape_interval_seconds=scrape_interval_seconds,
            clock=clock,
        )
        self.present = PresentValues(self.source)
        self._figures = PresentFigures(dashboard, self.present, self._live)
        self._charts = Charts(
            self.source,
            self.reader,
            AlertHistories(rules, self.reader, clock, replica_labels=dashboard.replica_labels),
            breakdown_limit=breakdown_limit,
            telemetry=self._telemetry,
        )
        self.overview = Overview(self.present, self.reader, self._figures, self._live, rules)
        self.flow_histories = FlowHistories(self.present, self.reader)
        self._refresher = Refresher(self._renew, clock)
        self._snapshots = FIFOCache[View, Snapshot](MAX_VIEWS)
        self._points = KeptPoints()
        # Each flight carries whether everything is read again.
        self._flights = SingleFlight[View, bool, Snapshot]()

    @property
    def watched(self) -> tuple[View, ...]:
        """The views that are kept fresh now."""
        return self._refresher.watched

    def ages_seconds(self) -> Mapping[str, float]:
        """By panel, how long ago the source last answered for it: the greatest age among watched
        views. A panel without any answer is left out.
        """
        source_now = self.source.now - self.source.lateness.late.behind_seconds
        ages: dict[str, float] = {}
        for view in self.watched:
            snapshot = self._snapshots.get(view)
            for panel, as_of in () if snapshot is None else snapshot.as_of:
                if as_of is not None:
                    ages[panel] = max(ages.get(panel, 0.0), source_now - as_of)
        return ages

    def held(self, view: View, max_age_seconds: float) -> Snapshot | None:
        """A snapshot from memory, if there is one that is complete and young enough."""
        snapshot = self._snapshots.get(view)
        if snapshot is None or not snapshot.complete:
            return None
        return snapshot if 0 <= self._age_seconds(snapshot) <= max_age_seconds else None

    async def get(self, view: View, *, max_age_seconds: float) -> Snapshot:
        """The snapshot of ``view``, not older than ``max_age_seconds``; never raises for a source.

        Simultaneous requests share one reading; an incomplete snapshot is shared for a moment. If
        ``max_age_seconds`` is at most ``SHARED_SECONDS``, everything is read again.
        """
        anew = max_age_seconds <= SHARED_SECONDS
        while True:
            held = self.held(view, max_age_seconds) or self._just_failed(view, max_age_seconds)
            if held is not None and (held.thorough or not anew):
                return held
            flight = self._flights.under_way(view)
            if flight is None:
                return await self._launch(view, Occasion.VIEWER, anew=anew).result()
            self._telemetry.snapshot_shared()
            snapshot = await flight.result()
            if flight.asked or not anew:
                return snapshot

    def points(self, view: View, taken_at: float) -> tuple[Points, ...] | None:
        """The points of the snapshot of ``view`` that was taken at ``taken_at``, one for each
        panel; None if they are no longer kept.
        """
        return self._points.of(view, taken_at)

    def watch(self, view: View, interval_seconds: float) -> None:
        """Note a viewer of ``view``, of which there is a snapshot, with this interval: from now on
        the snapshot is renewed in time, until there are no viewers.
        """
        snapshot = self._snapshots.get(view)
        if snapshot is not None:
            self._refresher.watch(view, interval_seconds, snapshot.taken_at)

    async def read_ahead(self, views: Iterable[View]) -> None:
        """Read each view once, one after another, as soon as the source answers, so that the
        unchanging parts are cached before a viewer comes.
        """
        waiting = list(views)
        while waiting:
            snapshot = await self.get(waiting[0], max_age_seconds=float("inf"))
            if snapshot.reachable:
                del waiting[0]
            else:
                await asyncio.sleep(_READ_AHEAD_RETRY_SECONDS)

    async def aclose(self) -> None:
        await self._refresher.aclose()
        await self._flights.aclose()
        await self.overview.aclose()
        await self.flow_histories.aclose()
        await self.present.aclose()
        await self.source.aclose()

    def _age_seconds(self, snapshot: Snapshot) -> float:
        """Negative after the clock was set back: a snapshot from the future does not count as
        young.
        """
        return self._clock() - snapshot.taken_at

    def _just_failed(self, view: View, max_age_seconds: float) -> Snapshot | None:
        """The newest incomplete snapshot, if it is young enough to share: a fault must not cost a
        query for each viewer.
        """
        snapshot = self._snapshots.get(view)
        if snapshot is None or snapshot.complete:
            return None
        # During an outage only the probe is queried; a panel that fails is queried in full.
        shared = (
            min(max_age_seconds, _PANEL_FAILED_SECONDS)
            if snapshot.reachable
            else _SOURCE_FAILED_SECONDS
        )
        return snapshot if 0 <= self._age_seconds(snapshot) < shared else None

    def _launch(self, view: View, occasion: Occasion, *, anew: bool) -> Flight[bool, Snapshot]:
        return self._flights.launch(view, anew, self._take(view, occasion, anew=anew))

    async def _renew(self, view: View) -> None:
        """Take a due view, unless it is already being taken for a viewer."""
        flight = self._flights.under_way(view)
        await (flight or self._launch(view, Occasion.SCHEDULE, anew=False)).result()

    async def _take(self, view: View, occasion: Occasion, *, anew: bool) -> Snapshot:
        started = asyncio.get_running_loop().time()
        contact = await self.present.renew_contact(anew=anew)
        present = asyncio.create_task(self.present.renew(contact))
        await asyncio.wait([present], timeout=PRESENT_PATIENCE_SECONDS)
        source = self.present.state_of(contact, SHARED_SECONDS)
        grid = view.grid(source.now, source.scrapes.fastest_seconds)
        reachable = contact.error is None

        async def figure_of(panel: Panel) -> PresentFigure:
            # The charts' own queries do not wait for the present values.
            await present
            return self._figures.of_panel(panel, source)

        live_at = view.live_at(grid, source.now)
        drawing = Drawing(view, grid, source, live_at, may_keep=reachable and not anew)
        charts, alerts = await self._charts.draw(drawing, figure_of)
        taken_at = self._clock()
        content = self._content(drawing, charts, alerts, taken_at)
        body = shown_in_json(orjson.dumps(content))
        snapshot = Snapshot(
            view,
            taken_at,
            reachable and all(c.state not in (State.STALE, State.UNAVAILABLE) for c in charts),
            body,
            brotli.compress(body, quality=3),
            tuple((chart.points.panel.id, chart.as_of) for chart in charts),
            reachable,
            all(chart.checked_at == source.now for chart in charts),
        )
        self._points.keep(view, taken_at, (chart.points for chart in charts))
        self._hold(snapshot)
        self._telemetry.snapshot_taken(occasion, asyncio.get_running_loop().time() - started)
        return snapshot

    def _hold(self, snapshot: Snapshot) -> None:
        self._snapshots[snapshot.view] = snapshot
        self._refresher.taken(snapshot.view, snapshot.taken_at, complete=snapshot.complete)

    def _content(
        self, drawing: Drawing, charts: Sequence[Chart], alerts: PastAlerts, taken_at: float
    ) -> dict[str, Any]:
        view, grid, source = drawing.view, drawing.grid, drawing.source
        return {
            "view": {
                "range": view.range,
                "from": grid.start,
                "to": grid.end,
                "step": grid.step_seconds,
                "stepWords": step_words(grid.step_seconds),
                "by": view.by,
                "follows": view.range is not None,
                "live": drawing.live_at,
            },
            "takenAt": taken_at,
            "scrapeInterval": source.scrapes.fastest_seconds,
            "source": self._source_content(source, charts),
            "alerts": {
                "list": [alert.content() for alert in alerts.shown],
                "more": alerts.more,
            },
            "panels": [chart.content for chart in charts],
        }

    def _source_content(self, source: SourceState, charts: Sequence[Chart]) -> dict[str, Any]:
        contact = source.contact
        reachable = contact.error is None
        ahead = source.offset_seconds if reachable else 0.0
        notices = [*self.source.notices(), *clock_notices(ahead, -self._live.clock_ahead())]
        return {
            "reachable": reachable,
            "cause": contact.cause,
            "kind": contact.kind or None,
            "failingSince": contact.failing_since,
            "lastSeen": contact.as_of,
            "offset": source.offset_seconds,
            "version": self.source.version,
            "notice": " ".join(notices),
            "unmeasured": self._unmeasured(charts) if reachable else "",
        }

    def _unmeasured(self, charts: Sequence[Chart]) -> str:
        """What the source lacks if it has never had a metric of any chart; else empty."""
        unknown = [c.absence for c in charts if c.absence is not None and c.absence.is_unknown]
        if len(unknown) < len(charts):
            return ""
        return unmeasured_words(self.source.dashboard.panels, unknown)
