"""What is going on now: verdict, cards, drain and alerts, made once for all viewers.

It does not depend on what a viewer looks at, so there is one for the whole process.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import orjson

from queuescope.cache import CachedReader
from queuescope.errors import ConfigurationError, SourceError, SourceErrorKind
from queuescope.figures import curves_of
from queuescope.health import (
    Drain,
    DrainState,
    Finding,
    Health,
    Measured,
    drain,
    judge,
)
from queuescope.panels import RANKED_QUANTILE, Dashboard, Measure, Panel, Resolution
from queuescope.panels.model import RECENT_SECONDS
from queuescope.prometheus import PrometheusClient
from queuescope.snapshot.alerts import Alerts, read_alerts
from queuescope.snapshot.live_sources import LiveSource, LiveSources, NoLiveSources, Origin
from queuescope.snapshot.live_words import (
    act_content,
    best_figure,
    failure_content,
    source_content,
    source_findings,
)
from queuescope.snapshot.present import SHARED_SECONDS, PresentValues
from queuescope.snapshot.questions import (
    COMPLETION,
    GROWTH,
    Question,
    ask_together,
    figures_of,
    judged_by,
    read_figure,
    shown_by,
)
from queuescope.snapshot.standing_words import (
    STALL,
    Figure,
    alert_content,
    card_content,
    drain_content,
    verdict_content,
)
from queuescope.timeseries import Floats, Frame, Grid, Reading, State

_log = logging.getLogger(__name__)

HISTORY_SECONDS = 86_400
HISTORY_STEP_SECONDS = 900
_COMPARED_KEPT_SECONDS = 300.0
# In an outage; the present that it is compared with goes on meanwhile.
_COMPARED_LAST_SECONDS = 900.0
_ALERTS_KEPT_SECONDS = 15.0

COMPARED = {"yesterday": 86_400, "last week": 7 * 86_400}
"""What a card compares its figure with: the same time so many seconds ago."""


@dataclass(frozen=True, slots=True)
class Bearings:
    """Where the source stands: its clock, what is known of its scrapes, and whether it answers.

    ``source_now`` is the moment that readings are of; ``offset_seconds`` is how far its clock is
    ahead of ours.
    """

    source_now: float
    scrape_interval_seconds: int
    left_open: bool
    phases: dict[str, float | None]
    epoch: str | None
    error: SourceError | None
    failing_since: float | None
    offset_seconds: float = 0.0

    def resolution(self, step_seconds: int, metric: str | None = None) -> Resolution:
        phase = None if metric is None else self.phases.get(metric)
        return Resolution(step_seconds, self.scrape_interval_seconds, self.left_open, phase)


class Surveyor(Protocol):
    """Whoever knows the bearings and the present values."""

    @property
    def present(self) -> PresentValues: ...

    async def bearings(self, *, max_age_seconds: float) -> Bearings:
        """As of present values that are not older; never raises for a source that fails."""
        ...


@dataclass(frozen=True, slots=True)
class _Flight:
    """A standing that is being made, of present values not older than ``max_age_seconds``."""

    task: asyncio.Task[None]
    max_age_seconds: float


@dataclass(frozen=True, slots=True, eq=False)
class _Made:
    """What was read of Prometheus, of which the standing is put together with what is live."""

    bearings: Bearings
    histories: Sequence[Reading]


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
        self._flight: _Flight | None = None
        self._compared: dict[str, tuple[float, dict[str, float]]] = {}
        self._alerts = Alerts()
        self._alerts_asked_at = float("-inf")

    async def get(self, *, max_age_seconds: float) -> bytes:
        """The JSON, of figures not older than ``max_age_seconds``, and of the very same as the
        charts' newest; what is live is as of the last second. Never raises for a source.
        """
        wanted = max(max_age_seconds, SHARED_SECONDS)
        while not self._is_made(wanted):
            flight = self._flight
            if flight is None:
                task = asyncio.create_task(self._make(wanted))
                task.add_done_callback(self._landed)
                self._flight = _Flight(task, wanted)
                await asyncio.shield(task)
                break
            await asyncio.shield(flight.task)
            if flight.max_age_seconds <= wanted:
                break
        return self._put_together()

    async def aclose(self) -> None:
        if self._flight is not None:
            self._flight.task.cancel()
            await asyncio.gather(self._flight.task, return_exceptions=True)

    def _is_made(self, max_age_seconds: float) -> bool:
        present = self._surveyor.present
        if self._made_of != present.asked_at:
            return False
        # In an outage there are no young ones; what was made a moment ago is shared nevertheless.
        just_made = 0 <= self._clock() - self._made_at < SHARED_SECONDS
        return just_made or present.is_young(max_age_seconds)

    def _landed(self, _task: asyncio.Task[None]) -> None:
        self._flight = None

    def _put_together(self) -> bytes:
        """What is known now; anew where there is news of Prometheus, or a second has passed."""
        made = self._made
        if made is None:
            raise RuntimeError("nothing was read")
        is_young = 0 <= self._clock() - self._body_at < SHARED_SECONDS
        if self._body_of is not made or not is_young:
            self._body = orjson.dumps(self._content(made.bearings, made.histories))
            self._body_of, self._body_at = made, self._clock()
        return self._body

    async def _make(self, max_age_seconds: float) -> None:
        bearings = await self._surveyor.bearings(max_age_seconds=max_age_seconds)
        made_of = self._surveyor.present.asked_at
        histories = await asyncio.gather(
            *(self._history(measure, bearings) for measure in self._dashboard.measures)
        )
        if bearings.error is None:
            await asyncio.gather(
                *(self._renew_compared(name, ago, bearings) for name, ago in COMPARED.items())
            )
        await self._renew_alerts(bearings, max_age_seconds)
        self._made = _Made(bearings, histories)
        self._made_at, self._made_of = self._clock(), made_of

    def _content(self, bearings: Bearings, histories: Sequence[Reading]) -> dict[str, Any]:
        measures = self._dashboard.measures
        sources, offset = self._live.sources(), bearings.offset_seconds
        figures = [
            best_figure(measure, self._figure(measure, bearings), sources, offset)
            for measure in measures
        ]
        by_id = {m.id: f for m, f in zip(measures, figures, strict=True)}
        measured, limits = {}, {}
        for measure, figure, history in zip(measures, figures, histories, strict=True):
            measured[measure.id] = Measured(
                figure.proven(measure), figure.doubt, *_series(measure.panel, history)
            )
            if measure.limits is not None:
                limits[measure.id] = measure.limits
        found = self._drain(by_id, bearings, sources)
        prometheus = self._prometheus(bearings, sources)
        extra = source_findings((prometheus, *sources), offset)
        if found.state is DrainState.STALLED:
            extra.append(Finding(STALL, Health.STALLED))
        verdict = judge(limits, measured, extra)
        depth = by_id.get("queue_depth")
        named = {measure.id: measure for measure in measures}
        return {
            "asOf": max((f.shown.as_of for f in figures if f.shown.as_of), default=None),
            "takenAt": self._clock(),
            "verdict": verdict_content(
                verdict, named, None if depth is None else depth.shown.value
            ),
            "kpis": [
                card_content(
                    measure,
                    figure,
                    self._changes(measure, figure),
                    history,
                    _series(measure.panel, history)[1],
                    outlook=found if measure.id == "queue_depth" else None,
                )
                for measure, figure, history in zip(measures, figures, histories, strict=True)
            ],
            "drain": drain_content(found),
            "sources": source_content((prometheus, *sources), named, offset),
            "acts": act_content(self._live.acts(), sources, offset),
            "failures": failure_content(self._live.failures(), offset),
            **alert_content(self._alerts),
        }

    def _prometheus(self, bearings: Bearings, sources: Sequence[LiveSource]) -> LiveSource:
        """Prometheus as one of the sources; it tells what none of the others does."""
        error = bearings.error
        told = {name for source in sources for name in source.measures}
        answered: float | None = bearings.source_now
        if error is not None:
            answered = max(
                (
                    at
                    for measure in self._dashboard.measures
                    if (at := self._surveyor.present.of(shown_by(measure)).as_of) is not None
                ),
                default=None,
            )
        return LiveSource(
            Origin.PROMETHEUS,
            as_of=None if answered is None else answered - bearings.offset_seconds,
            cause="" if error is None else str(error),
            kind="" if error is None else error.kind,
            failing_since=bearings.failing_since,
            measures=frozenset(m.id for m in self._dashboard.measures) - told,
        )

    def _figure(self, measure: Measure, bearings: Bearings) -> Figure:
        present = self._surveyor.present
        shown, judged = present.of(shown_by(measure)), present.of(judged_by(measure))
        # Where nothing is to be judged, what is shown is.
        if judged.value is None and not judged.cause:
            judged = shown
        return Figure(shown, judged, "" if bearings.error is None else str(bearings.error))

    def _changes(self, measure: Measure, figure: Figure) -> dict[str, float | None]:
        changes: dict[str, float | None] = {}
        shown = figure.shown.value
        for name in COMPARED:
            then = self._compared.get(name)
            if then is not None and self._clock() - then[0] > _COMPARED_LAST_SECONDS:
                then = None
            was = None if then is None else then[1].get(shown_by(measure))
            change = None if was is None or shown is None else shown - was
            changes[name] = change if change is None or np.isfinite(change) else None
        return changes

    def _drain(
        self, figures: dict[str, Figure], bearings: Bearings, sources: Sequence[LiveSource]
    ) -> Drain:
        flow = self._dashboard.flow
        known = {name: figure.whole for name, figure in figures.items()}
        workers, oldest_ms = known.get("active_workers"), known.get("oldest_waiting")
        fresh = [source for source in sources if source.is_fresh]
        completions = [s.completion_per_second for s in fresh]
        completion = next((rate for rate in completions if rate is not None), None)
        return drain(
            depth=known.get("queue_depth"),
            growth_per_second=self._flow(GROWTH, bearings),
            completion_per_second=(
                self._flow(COMPLETION, bearings) if completion is None else completion
            ),
            workers=None if workers is None or np.isnan(workers) else int(workers),
            window_seconds=600 if flow is None else flow.window_seconds,
            oldest_seconds=None if oldest_ms is None or np.isnan(oldest_ms) else oldest_ms / 1000,
            is_held_back=any(source.held_back for source in fresh),
        )

    def _flow(self, name: str, bearings: Bearings) -> float | None:
        """A rate of what goes through the queue; None where it is old or not all of it."""
        found = self._surveyor.present.of(name)
        certain = bearings.error is None and not found.cause and not found.warnings
        return found.value if certain else None

    async def _renew_compared(self, name: str, ago_seconds: int, bearings: Bearings) -> None:
        held = self._compared.get(name)
        if held is not None and 0 <= self._clock() - held[0] < _COMPARED_KEPT_SECONDS:
            return
        try:
            found = await self._ask(bearings, bearings.source_now - ago_seconds)
        except SourceError as exc:
            # The card says that there is nothing to compare with.
            _log.warning("cannot compare with %s: %s (%s)", name, exc, exc.detail)
            self._compared.pop(name, None)
            return
        self._compared[name] = (self._clock(), found)

    async def _ask(self, bearings: Bearings, at: float) -> dict[str, float]:
        """The figures of all cards at source time ``at``, by name; half an answer is none.

        Should the source refuse the one question, each measure asks its own, so that none takes
        the others along.
        """
        shown = {shown_by(measure) for measure in self._dashboard.measures}
        questions = [q for q in figures_of(self._dashboard) if q.name in shown]
        try:
            return await self._ask_for(questions, bearings, at)
        except SourceError as exc:
            if exc.kind not in (SourceErrorKind.BAD_DATA, SourceErrorKind.EXECUTION):
                raise
        found: dict[str, float] = {}
        for question in questions:
            try:
                found |= await self._ask_for([question], bearings, at)
            except SourceError as exc:
                _log.warning("cannot read %s: %s (%s)", question.name, exc, exc.detail)
        return found

    async def _ask_for(
        self, questions: Sequence[Question], bearings: Bearings, at: float
    ) -> dict[str, float]:
        recent = bearings.resolution(RECENT_SECONDS)
        filler = self._dashboard.panels[0]
        together = await ask_together(
            self._client,
            questions,
            lambda text: filler.render(text, recent, self._matchers, None),
            at,
        )
        found = {}
        for question in () if together.warnings else questions:
            with contextlib.suppress(ConfigurationError):
                value = read_figure(question, together)
                if value is not None:
                    found[question.name] = value
        return found

    async def _renew_alerts(self, bearings: Bearings, max_age_seconds: float) -> None:
        """Rules are seldom evaluated oftener than this; who asks for all anew gets them anew."""
        answered = self._alerts.state in (State.FRESH, State.IDLE)
        young = 0 <= self._clock() - self._alerts_asked_at < _ALERTS_KEPT_SECONDS
        by_hand = max_age_seconds <= SHARED_SECONDS
        if answered and young and not by_hand and bearings.error is None:
            return
        self._alerts_asked_at = self._clock()
        self._alerts = await read_alerts(
            self._client, self._alerts, self._dashboard.panels, bearings.error, bearings.source_now
        )

    async def _history(self, measure: Measure, bearings: Bearings) -> Reading:
        """The last day, with the very question that the chart of a day asks."""
        grid = Grid.ending_at(bearings.source_now, HISTORY_SECONDS, HISTORY_STEP_SECONDS)
        panel = measure.panel
        resolution = bearings.resolution(HISTORY_STEP_SECONDS, panel.metrics[0])
        query = panel.render(panel.query, resolution, self._matchers, None)
        return await self._reader.read(
            query, grid, source_now=bearings.source_now, epoch=bearings.epoch
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
