"""What is going on now: verdict, cards, drain and alerts, made once for all viewers.

It does not depend on what a viewer looks at, so there is one for the whole process.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import orjson

from queuescope.cache import CachedReader
from queuescope.errors import ConfigurationError
from queuescope.figures import Bounds, curves_of
from queuescope.health import (
    MEMORY_SECONDS,
    Drain,
    DrainState,
    Finding,
    Health,
    Measured,
    drain,
    judge,
    movement,
)
from queuescope.panels import RANKED_QUANTILE, Dashboard, Measure, Panel, render
from queuescope.prometheus import PrometheusClient
from queuescope.shown_text import shown_in_json
from queuescope.single_flight import SingleFlight
from queuescope.timeseries import Floats, Frame, Grid, Reading, State
from queuescope.view.overview.alerts import AlertReader, Alerts, AlertScope, alert_findings
from queuescope.view.overview.comparisons import COMPARED, Comparisons
from queuescope.view.overview.days import Days, DayShares
from queuescope.view.overview.live_words import (
    act_content,
    failure_content,
    source_content,
    source_findings,
)
from queuescope.view.overview.words import (
    STALL,
    UNMEASURED,
    Figure,
    alert_content,
    card_content,
    drain_content,
    verdict_content,
)
from queuescope.view.present.figures import PresentFigures, live_ends
from queuescope.view.present.live_sources import LiveSource, LiveSources, NoLiveSources, Origin
from queuescope.view.present.questions import (
    COMPLETION,
    Asker,
    Present,
    beside_by,
    present_by,
)
from queuescope.view.present.values import SHARED_SECONDS
from queuescope.view.source.measured import MeasuredHere
from queuescope.view.source.state import Bearings, Surveyor

logger = logging.getLogger(__name__)
_STANDING = "standing"
_DEPTH_STEP_SECONDS = 15
_FEWEST_SCRAPES = 12
_BRIEF_SECONDS = 60.0
_DEPTH = "queue_depth"


@dataclass(frozen=True, slots=True, eq=False)
class _Made:
    """What was read of Prometheus, of which the standing is put together with what is live."""

    bearings: Bearings
    histories: Sequence[Reading]
    beside: Sequence[Present | None]
    alerts: Alerts
    scraped: tuple[Floats, Floats] | None
    unmeasured: frozenset[str]


class StandingService:
    """Makes the standing on request, at most one at a time."""

    def __init__(
        self,
        client: PrometheusClient,
        reader: CachedReader,
        surveyor: Surveyor,
        dashboard: Dashboard,
        *,
        matchers: str,
        clock: Callable[[], float],
        live: LiveSources | None = None,
        alert_scope: AlertScope | None = None,
    ) -> None:
        """``live`` are the sources besides Prometheus, where there are any."""
        self._client = client
        self._reader = reader
        self._surveyor = surveyor
        self._dashboard = dashboard
        self._matchers = matchers
        self._clock = clock
        self._live = live or NoLiveSources()
        self._made: _Made | None = None
        self._body = b""
        self._body_of: _Made | None = None
        self._body_at = float("-inf")
        self._made_at = float("-inf")
        self._made_of = float("-inf")
        # What is asked is how old its figures may be, in seconds.
        self._flights = SingleFlight[str, float, None]()
        self._depths: tuple[tuple[Grid, str | None], Reading] | None = None
        self._days = Days(reader, dashboard, matchers=matchers, clock=clock)
        asker = Asker(client, matchers=matchers, clock=clock)
        self._shares = DayShares(asker, self._days, clock=clock)
        self._comparisons = Comparisons(client, dashboard, matchers=matchers, clock=clock)
        self._figures = PresentFigures(dashboard, surveyor.present, self._live)
        self._measured_here = MeasuredHere(client, matchers=matchers, clock=clock)
        self._alerts = AlertReader(
            client,
            dashboard.panels,
            clock,
            alert_scope or AlertScope(),
            replica_labels=dashboard.replica_labels,
        )

    async def get(self, *, max_age_seconds: float) -> bytes:
        """The JSON, of figures not older than ``max_age_seconds``, and of the very same as the
        charts' newest; what is live is as of the last second. Never raises for a source.
        """
        wanted = max(max_age_seconds, SHARED_SECONDS)
        while not self._is_made(wanted):
            flight = self._flights.under_way(_STANDING)
            if flight is None:
                await self._flights.launch(_STANDING, wanted, self._make(wanted)).result()
                break
            await flight.result()
            if flight.asked <= wanted:
                break
        return self._put_together()

    async def aclose(self) -> None:
        await self._flights.aclose()

    def _is_made(self, max_age_seconds: float) -> bool:
        present = self._surveyor.present
        if self._made_of != present.asked_at:
            return False
        # In an outage there are no young ones; what was made a moment ago is shared nevertheless.
        just_made = 0 <= self._clock() - self._made_at < SHARED_SECONDS
        return just_made or present.is_young(max_age_seconds)

    def _put_together(self) -> bytes:
        """What is known now; anew where there is news of Prometheus, or a second has passed."""
        made = self._made
        if made is None:
            raise RuntimeError("nothing was read")
        is_young = 0 <= self._clock() - self._body_at < SHARED_SECONDS
        if self._body_of is not made or not is_young:
            self._body = shown_in_json(orjson.dumps(self._content(made)))
            self._body_of, self._body_at = made, self._clock()
        return self._body

    async def _make(self, max_age_seconds: float) -> None:
        bearings = await self._surveyor.bearings(max_age_seconds=max_age_seconds)
        made_of = self._surveyor.present.asked_at
        anew = max_age_seconds <= SHARED_SECONDS
        measures = self._dashboard.measures
        histories, beside = await asyncio.gather(
            asyncio.gather(*(self._history(measure, bearings, anew=anew) for measure in measures)),
            asyncio.gather(*(self._beside(measure, bearings, anew=anew) for measure in measures)),
        )
        await self._comparisons.renew(bearings)
        alerts = await self._alerts.read(bearings.error, bearings.source_now, anew=anew)
        scraped = await self._scraped(bearings)
        unmeasured = await self._unmeasured(bearings)
        self._made = _Made(bearings, histories, beside, alerts, scraped, unmeasured)
        self._made_at, self._made_of = self._clock(), made_of

    def _content(self, made: _Made) -> dict[str, Any]:
        bearings, histories = made.bearings, made.histories
        measures = self._dashboard.measures
        sources, offset = self._live.sources(), bearings.offset_seconds
        figures = [
            self._told(measure, sources, made, beside)
            for measure, beside in zip(measures, made.beside, strict=True)
        ]
        by_id = {m.id: f for m, f in zip(measures, figures, strict=True)}
        measured, limits = {}, {}
        for measure, figure, history in zip(measures, figures, histories, strict=True):
            measured[measure.id] = Measured(
                figure.proven(measure),
                figure.doubt,
                *_series(measure.panel, history),
                figure.shown.bounds,
            )
            if measure.limits is not None and not figure.is_unmeasured:
                limits[measure.id] = measure.limits
        found = self._drain(by_id, made, sources)
        prometheus = self._prometheus(bearings, sources)
        extra = source_findings((prometheus, *sources), offset)
        if found.state is DrainState.STALLED:
            extra.append(Finding(STALL, Health.STALLED))
        alerts = alert_findings(made.alerts, source_answers=bearings.error is None)
        unmeasured = [m for m, f in zip(measures, figures, strict=True) if f.is_unmeasured]
        if unmeasured and not any(limit.is_set for limit in limits.values()):
            extra.append(Finding(UNMEASURED, Health.UNKNOWN, cause="nothing is measured here yet"))
        verdict = judge(limits, measured, extra, alerts)
        told = drain_content(found, sum(s.scheduled for s in sources if s.is_fresh))
        depth = by_id.get("queue_depth")
        named = {measure.id: measure for measure in measures}
        # Of a source that never had any of them it is said once, and not on each card.
        is_unmeasured = len(made.unmeasured) == len(measures)
        return {
            "asOf": max((f.shown.as_of for f in figures if f.shown.as_of), default=None),
            "takenAt": self._clock(),
            "verdict": verdict_content(
                verdict,
                named,
                None if depth is None else depth.shown.value,
                unmeasured,
                late={
                    m.title: f.shown.late_seconds
                    for m, f in zip(measures, figures, strict=True)
                    if f.shown.value is not None
                },
                behind_seconds=bearings.scrapes.late.behind_seconds,
            ),
            "kpis": [
                card_content(
                    measure,
                    figure,
                    self._changes(measure, figure),
                    history,
                    _series(measure.panel, history)[1],
                    outlook=found if measure.id == "queue_depth" else None,
                    drain=told if measure.id == "queue_depth" else None,
                    ends=live_ends(measure.panel, figure)
                    if measure.on_page
                    and figure.shown.late_seconds == bearings.scrapes.late.behind_seconds
                    else None,
                    says_why=not is_unmeasured,
                )
                for measure, figure, history in zip(measures, figures, histories, strict=True)
            ],
            "drain": told,
            "sources": source_content((prometheus, *sources), named, offset),
            "acts": act_content(self._live.acts(), sources, offset),
            "failures": failure_content(self._live.failures(), offset),
            **alert_content(made.alerts),
        }

    def _prometheus(self, bearings: Bearings, sources: Sequence[LiveSource]) -> LiveSource:
        """Prometheus as one of the sources; it tells what none of the others does."""
        error = bearings.error
        told = {name for source in sources for name in source.measures}
        answered: float | None = bearings.source_now
        if error is not None:
            shown = [self._surveyor.present.of(present_by(m)) for m in self._dashboard.measures]
            answered = max((p.as_of for p in shown if p.as_of is not None), default=None)
        return LiveSource(
            Origin.PROMETHEUS,
            as_of=None if answered is None else answered - bearings.offset_seconds,
            cause="" if error is None else str(error),
            kind="" if error is None else error.kind,
            failing_since=bearings.failing_since,
            measures=frozenset(m.id for m in self._dashboard.measures) - told,
        )

    async def _beside(self, measure: Measure, bearings: Bearings, *, anew: bool) -> Present | None:
        if not measure.has_beside:
            return None
        if measure.share is None:
            return self._surveyor.present.of(beside_by(measure))
        return await self._shares.now(measure, measure.share, bearings, anew=anew)

    async def _unmeasured(self, bearings: Bearings) -> frozenset[str]:
        """The measures of which Prometheus never had a figure, as far as it can tell now."""
        lacking, told = [], set()
        for measure in self._dashboard.measures:
            shown = self._surveyor.present.of(present_by(measure))
            if shown.value is not None:
                told.add(measure.id)
            elif shown.as_of and not shown.cause and not shown.warnings:
                lacking.append(measure)
        await self._measured_here.renew(bearings, lacking, told)
        return frozenset(m.id for m in lacking if self._measured_here.is_never(m))

    def _told(
        self,
        measure: Measure,
        sources: Sequence[LiveSource],
        made: _Made,
        beside: Present | None,
    ) -> Figure:
        bearings = made.bearings
        return self._figures.of(
            measure,
            sources,
            bearings.error,
            bearings.offset_seconds,
            beside,
            is_unmeasured=measure.id in made.unmeasured,
        )

    def _changes(self, measure: Measure, figure: Figure) -> dict[str, Bounds | None]:
        """By what each is compared with, between what the change lies; None: it is not known."""
        changes: dict[str, Bounds | None] = {}
        now = figure.shown.between
        for name in COMPARED:
            then = self._comparisons.of(name, measure)
            was = then.between
            if was is None or now is None:
                changes[name] = None
                continue
            least, most = now[0] - was[1], now[1] - was[0]
            # What lies between bounds is above the lower one.
            least = least if figure.shown.bounds is None else math.nextafter(least, math.inf)
            most = most if then.bounds is None else math.nextafter(most, -math.inf)
            changes[name] = None if math.isnan(least) or math.isnan(most) else (least, most)
        return changes

    def _drain(
        self, figures: dict[str, Figure], made: _Made, sources: Sequence[LiveSource]
    ) -> Drain:
        flow, bearings = self._dashboard.flow, made.bearings
        known = {name: figure.whole for name, figure in figures.items()}
        workers, oldest_ms = known.get("active_workers"), known.get("oldest_waiting")
        fresh = [source for source in sources if source.is_fresh]
        window = 600 if flow is None else flow.window_seconds
        counted = next((s for s in fresh if s.completion_per_second is not None), None)
        completion = self._flow(COMPLETION, bearings)
        waiting = figures.get(_DEPTH)
        rate_late = self._surveyor.present.of(COMPLETION).late_seconds
        if waiting is None or waiting.shown.late_seconds != rate_late:
            # A rate of then says nothing of what waits now.
            completion = None
        covered: float | None = self._surveyor.present.covered(bearings.source_now, window)
        if counted is not None:
            completion, covered = counted.completion_per_second, counted.completion_seconds
        depth, scraped = known.get(_DEPTH), made.scraped if bearings.error is None else None
        depths = next((source.depths for source in fresh if source.depths), ())
        if depths:
            depth = depths[-1][1]
            scraped = _joined(scraped, np.array(depths, dtype=float), bearings.offset_seconds)
        return drain(
            depth=depth,
            moves=None if scraped is None else movement(*scraped),
            completion_per_second=completion,
            workers=None if workers is None or np.isnan(workers) else int(workers),
            window_seconds=window,
            counted_seconds=covered,
            oldest_seconds=None if oldest_ms is None or np.isnan(oldest_ms) else oldest_ms / 1000,
            is_held_back=any(source.held_back for source in fresh),
        )

    async def _scraped(self, bearings: Bearings) -> tuple[Floats, Floats] | None:
        """The depth by the scrapes of the last minutes, as times and numbers; None: it is not
        known.
        """
        flow = self._dashboard.flow
        if flow is None or not flow.waiting or bearings.error is not None:
            return None
        waiting = bearings.resolution(_DEPTH_STEP_SECONDS, flow.waiting)
        slowest = waiting.scrape_interval_seconds
        step = max(_DEPTH_STEP_SECONDS, slowest)
        grid = Grid.ending_at(
            bearings.source_now, max(MEMORY_SECONDS, _FEWEST_SCRAPES * step), step
        )
        if self._depths is None or self._depths[0] != (grid, bearings.epoch):
            query = render(
                flow.waiting, bearings.resolution(step, flow.waiting), self._matchers, None
            )
            reading = await self._reader.read(
                query,
                grid,
                source_now=bearings.source_now,
                epoch=bearings.epoch,
                late_seconds=waiting.unsettled_seconds,
            )
            self._depths = ((grid, bearings.epoch), reading)
        reading = self._depths[1]
        frame = reading.frame
        if frame is None or reading.state is not State.FRESH or len(frame.values) != 1:
            return None
        frame = frame.until(bearings.source_now - waiting.late_seconds)
        return frame.grid.timestamps(), np.asarray(frame.values[0])

    def _flow(self, name: str, bearings: Bearings) -> float | None:
        """A rate of what goes through the queue; None where it is old or not all of it."""
        found = self._surveyor.present.of(name)
        certain = bearings.error is None and not found.cause and not found.warnings
        return found.value if certain else None

    async def _history(self, measure: Measure, bearings: Bearings, *, anew: bool) -> Reading:
        """The last day of what the measure judges."""
        panel = measure.panel
        reading = await self._days.read(panel.query, bearings, panel.all_metrics, anew=anew)
        late = bearings.scrapes.late.more_seconds(panel.all_metrics)
        if not late or reading.frame is None:
            return reading
        return replace(reading, frame=reading.frame.until(bearings.source_now - late))


def _joined(
    scraped: tuple[Floats, Floats] | None, watched: Floats, offset_seconds: float
) -> tuple[Floats, Floats]:
    """The depth as it was ``watched`` in the broker (moments and numbers, shape ``(n, 2)``), after
    the scrapes of before where that is not long enough to tell much. ``offset_seconds`` is how far
    the clock of the scrapes is ahead.
    """
    times, depths = watched[:, 0], watched[:, 1]
    if scraped is None or times[-1] - times[0] >= _BRIEF_SECONDS:
        return times, depths
    before = scraped[0] - offset_seconds < times[0]
    return (
        np.concatenate([scraped[0][before] - offset_seconds, times]),
        np.concatenate([scraped[1][before], depths]),
    )


def _curve(panel: Panel, frame: Frame) -> Floats | None:
    """The curve that the measure reads; None for an answer that the panel cannot draw."""
    try:
        curves = curves_of(panel, frame, None, 1).curves
    except ConfigurationError:
        return None
    return curves[panel.quantiles.index(RANKED_QUANTILE) if panel.quantiles else 0].values


def _series(panel: Panel, reading: Reading) -> tuple[Floats | None, Floats | None]:
    """Times (epoch seconds) and values of a day's reading; None when there is none."""
    if reading.frame is None or reading.state in (State.UNAVAILABLE, State.EMPTY):
        return None, None
    values = _curve(panel, reading.frame)
    return (None, None) if values is None else (reading.frame.grid.timestamps(), values)
