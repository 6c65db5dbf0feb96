"""The present state: verdict, cards, forecast and alerts, made once for all viewers.

It does not depend on a viewer's range, so there is one for the whole process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from queuescope.cache import CachedReader
from queuescope.errors import ConfigurationError
from queuescope.figures import curves_of
from queuescope.health import DrainState, Finding, Health, Measured, judge
from queuescope.known import Known
from queuescope.panels import RANKED_QUANTILE, Measure, Panel, PanelRole
from queuescope.shown_text import shown_in_json
from queuescope.single_flight import SingleFlight
from queuescope.timeseries import Floats, Frame, Reading, State
from queuescope.view.overview.alerts import AlertReader, Alerts, alert_content, alert_findings
from queuescope.view.overview.cards import card_content
from queuescope.view.overview.comparisons import Comparisons
from queuescope.view.overview.days import Days, DayShares
from queuescope.view.overview.drain import DepthSamples, Drains, drain_content
from queuescope.view.overview.live_content import (
    failure_content,
    operations_content,
    source_content,
    source_findings,
)
from queuescope.view.overview.verdict import STALL, UNMEASURED, verdict_content
from queuescope.view.present.fetcher import PresentFetcher
from queuescope.view.present.figures import PresentFigure, PresentFigures, live_ends
from queuescope.view.present.live_sources import FigureOrigin, LiveReport, LiveSource, LiveSources
from queuescope.view.present.present_value import PresentValue
from queuescope.view.present.queries import beside_name, present_name
from queuescope.view.present.values import SHARED_SECONDS, PresentValues
from queuescope.view.source.alert_rules import AlertRules
from queuescope.view.source.measured import MeasuredHere
from queuescope.view.source.notices import late_notices
from queuescope.view.source.state import SourceState

_DEPTH = "queue_depth"


@dataclass(frozen=True, slots=True, eq=False)
class _Read:
    """What was read from Prometheus for the overview; ``histories`` and ``beside`` are in the order
    of the measures.
    """

    source_state: SourceState
    histories: Sequence[Reading]
    beside: Sequence[PresentValue | None]
    alerts: Known[Alerts]
    depths: DepthSamples | None
    unmeasured: frozenset[str]


class Overview:
    """Makes the overview on request, at most one at a time."""

    def __init__(
        self,
        present: PresentValues,
        reader: CachedReader,
        figures: PresentFigures,
        live: LiveSources,
        alert_rules: AlertRules,
    ) -> None:
        """``live`` are the sources besides Prometheus; ``figures`` picks the best figure of each
        measure.
        """
        source = present.source
        client, dashboard, clock = source.client, source.dashboard, source.clock
        self._present = present
        self._dashboard = dashboard
        self._clock = clock
        self._live = live
        self._figures = figures
        self._read: _Read | None = None
        self._read_at = float("-inf")
        self._read_of = float("-inf")
        self._body = b""
        self._body_of: _Read | None = None
        self._body_at = float("-inf")
        # Each flight carries the greatest age that its figures may have, in seconds.
        self._flights = SingleFlight[str, float, None]()
        self._days = Days(reader, dashboard, matchers=source.matchers, clock=clock)
        fetcher = PresentFetcher(client, matchers=source.matchers, clock=clock)
        self._shares = DayShares(fetcher, self._days, clock=clock)
        self._comparisons = Comparisons(client, dashboard, matchers=source.matchers, clock=clock)
        self._drains = Drains(present, reader)
        roles = {measure.panel.role for measure in dashboard.measures}
        self._shows_queue = dashboard.flow is not None or PanelRole.DEPTH in roles
        self._measured_here = MeasuredHere(client, matchers=source.matchers, clock=clock)
        self._alerts = AlertReader(
            client, alert_rules, clock, replica_labels=dashboard.replica_labels
        )

    async def get(self, *, max_age_seconds: float) -> bytes:
        """The JSON, of figures not older than ``max_age_seconds``, which are the same as those at
        the end of the charts; live sources are at most a second old. Never raises for a source.
        """
        wanted = max(max_age_seconds, SHARED_SECONDS)
        while not self._is_read(wanted):
            flight = self._flights.under_way("")
            if flight is None:
                await self._flights.launch("", wanted, self._read_anew(wanted)).result()
                break
            await flight.result()
            if flight.asked <= wanted:
                break
        return self._put_together()

    async def aclose(self) -> None:
        await self._flights.aclose()

    def _is_read(self, max_age_seconds: float) -> bool:
        if self._read_of != self._present.asked_at:
            return False
        # In an outage there are no young figures; what was read a moment ago is shared all the
        # same.
        just_read = 0 <= self._clock() - self._read_at < SHARED_SECONDS
        return just_read or self._present.is_young(max_age_seconds)

    def _put_together(self) -> bytes:
        """The body, made again if Prometheus was read again or a second has passed."""
        read = self._read
        if read is None:
            raise RuntimeError("nothing was read")
        is_young = 0 <= self._clock() - self._body_at < SHARED_SECONDS
        if self._body_of is not read or not is_young:
            self._body = shown_in_json(orjson.dumps(self._content(read)))
            self._body_of, self._body_at = read, self._clock()
        return self._body

    async def _read_anew(self, max_age_seconds: float) -> None:
        state = await self._present.state(max_age_seconds=max_age_seconds)
        read_of = self._present.asked_at
        anew = max_age_seconds <= SHARED_SECONDS
        measures = self._dashboard.measures
        histories, beside = await asyncio.gather(
            asyncio.gather(*(self._history(measure, state, anew=anew) for measure in measures)),
            asyncio.gather(*(self._beside(measure, state, anew=anew) for measure in measures)),
        )
        await self._comparisons.renew(state)
        alerts = await self._alerts.read(state, anew=anew)
        depths = await self._drains.read_depths(state)
        unmeasured = await self._unmeasured(state)
        self._read = _Read(state, histories, beside, alerts, depths, unmeasured)
        self._read_at, self._read_of = self._clock(), read_of

    def _content(self, read: _Read) -> dict[str, Any]:
        state, measures = read.source_state, self._dashboard.measures
        sources, offset = self._live.sources(), state.offset_seconds
        shown = [
            _Shown(measure, self._figure(measure, sources, read, beside), history)
            for measure, beside, history in zip(measures, read.beside, read.histories, strict=True)
        ]
        figures = {one.measure.id: one.figure for one in shown}
        drain = self._drains.of(figures, read.depths, state, sources)
        every = (self._prometheus(state, sources), *sources)
        moves = None
        if drain.state is not DrainState.UNKNOWN or self._shows_queue:
            moves = drain_content(drain, sum(s.report.scheduled for s in sources if s.is_fresh))
        named = {measure.id: measure for measure in measures}
        return {
            "asOf": max((f.shown.as_of for f in figures.values() if f.shown.as_of), default=None),
            "takenAt": self._clock(),
            "verdict": self._verdict(shown, read, every, drain.state),
            "kpis": [
                card_content(
                    one.measure,
                    one.figure,
                    self._comparisons.changes(one.measure, one.figure),
                    one.history,
                    one.values,
                    outlook=drain if one.measure.id == _DEPTH else None,
                    drain=moves if one.measure.id == _DEPTH else None,
                    ends=live_ends(one.measure.panel, one.figure)
                    if one.measure.on_page and one.figure.shown.late_seconds == state.behind_seconds
                    else None,
                    # If no measure was ever reported, that is said once and not on each card.
                    says_why=len(read.unmeasured) < len(measures),
                )
                for one in shown
            ],
            "drain": moves,
            "sources": source_content(every, named, offset),
            "operations": operations_content(self._live.past_operations(), sources, offset),
            "failures": failure_content(self._live.failures(), offset),
            **alert_content(read.alerts),
        }

    def _verdict(
        self,
        shown: Sequence[_Shown],
        read: _Read,
        sources: Sequence[LiveSource],
        drain: DrainState,
    ) -> dict[str, Any]:
        state = read.source_state
        limits = {
            one.measure.id: one.measure.limits
            for one in shown
            if one.measure.limits is not None and not one.figure.is_unmeasured
        }
        extra = source_findings(sources, state.offset_seconds)
        if drain is DrainState.STALLED:
            extra.append(Finding(STALL, Health.STALLED))
        unmeasured = [one.measure for one in shown if one.figure.is_unmeasured]
        if not any(limit.is_set for limit in limits.values()):
            cause = "nothing is measured here yet" if unmeasured else "no card has a limit"
            extra.append(Finding(UNMEASURED, Health.UNKNOWN, cause=cause))
        alerts = alert_findings(read.alerts, source_answers=state.error is None)
        measured = {one.measure.id: one.measured for one in shown}
        depth = next((one.figure.shown.value for one in shown if one.measure.id == _DEPTH), None)
        return verdict_content(
            judge(limits, measured, extra, alerts),
            {one.measure.id: one.measure for one in shown},
            depth,
            unmeasured,
            late={
                one.measure.title: one.figure.shown.late_seconds
                for one in shown
                if one.figure.shown.value is not None
            },
            behind_seconds=state.behind_seconds,
        )

    def _prometheus(self, state: SourceState, sources: Sequence[LiveSource]) -> LiveSource:
        """Prometheus as one of the sources; it reports the measures that no other source does."""
        reported = {name for source in sources for name in source.measures}
        answered: float | None = state.now
        if state.error is not None:
            shown = [self._present.of(present_name(m)) for m in self._dashboard.measures]
            answered = max((p.as_of for p in shown if p.as_of is not None), default=None)
        known = Known(
            None if answered is None else LiveReport(),
            None if answered is None else answered - state.offset_seconds,
            state.error,
            state.contact.failing_since,
        )
        measures = frozenset(m.id for m in self._dashboard.measures) - reported
        notes = tuple(late_notices(state.scrapes.late))
        return LiveSource(FigureOrigin.PROMETHEUS, known, measures, notes)

    async def _beside(
        self, measure: Measure, state: SourceState, *, anew: bool
    ) -> PresentValue | None:
        if not measure.has_beside:
            return None
        if measure.share is None:
            return self._present.of(beside_name(measure))
        return await self._shares.now(measure, measure.share, state, anew=anew)

    async def _unmeasured(self, state: SourceState) -> frozenset[str]:
        """The measures that Prometheus is known to have never had."""
        lacking, measured = [], set()
        for measure in self._dashboard.measures:
            shown = self._present.of(present_name(measure))
            if shown.value is not None:
                measured.add(measure.id)
            elif shown.state is State.EMPTY:
                lacking.append(measure)
        await self._measured_here.renew(state, lacking, measured)
        return frozenset(m.id for m in lacking if self._measured_here.was_never_measured(m))

    def _figure(
        self,
        measure: Measure,
        sources: Sequence[LiveSource],
        read: _Read,
        beside: PresentValue | None,
    ) -> PresentFigure:
        return self._figures.of(
            measure,
            sources,
            read.source_state,
            beside,
            is_unmeasured=measure.id in read.unmeasured,
        )

    async def _history(self, measure: Measure, state: SourceState, *, anew: bool) -> Reading:
        """The last day of the measure."""
        panel = measure.panel
        reading = await self._days.read(panel.query, state, panel.all_metrics, anew=anew)
        late = state.scrapes.late.more_seconds(panel.all_metrics)
        if not late or reading.frame is None:
            return reading
        return replace(reading, frame=reading.frame.until(state.now - late))


class _Shown:
    """A measure with its present figure and its last day: ``times`` (epoch seconds) and ``values``,
    both None if there are none.
    """

    def __init__(self, measure: Measure, figure: PresentFigure, history: Reading) -> None:
        self.measure = measure
        self.figure = figure
        self.history = history
        self.times: Floats | None = None
        self.values: Floats | None = None
        is_known = history.state not in (State.UNAVAILABLE, State.EMPTY)
        if history.frame is not None and is_known:
            self.values = _curve(measure.panel, history.frame)
            self.times = None if self.values is None else history.frame.grid.timestamps()

    @property
    def measured(self) -> Measured:
        """The measure as the verdict judges it."""
        figure = self.figure
        value = figure.proven(self.measure)
        return Measured(value, figure.doubt, self.times, self.values, figure.shown.bounds)


def _curve(panel: Panel, frame: Frame) -> Floats | None:
    """The curve that the measure uses; None for an answer that the panel cannot draw."""
    try:
        curves = curves_of(panel, frame, None, 1).curves
    except ConfigurationError:
        return None
    return curves[panel.quantiles.index(RANKED_QUANTILE) if panel.quantiles else 0].values
