"""What is going on now: verdict, cards, drain and alerts, made once for all viewers.

It does not depend on what a viewer looks at, so there is one for the whole process.
"""

from __future__ import annotations

import asyncio
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
from queuescope.prometheus.wire import InstantAnswer
from queuescope.snapshot.alerts import Alerts, read_alerts
from queuescope.snapshot.standing_words import (
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
_SHARED_SECONDS = 1.0
_LABEL = "queuescope_measure"
_GROWTH, _COMPLETION = "flow_growth", "flow_completion"

COMPARED = {"yesterday": 86_400, "last week": 7 * 86_400}
"""What a card compares its figure with: the same time so many seconds ago."""


@dataclass(frozen=True, slots=True)
class Bearings:
    """Where the source stands: its clock, what is known of its scrapes, and whether it answers."""

    source_now: float
    scrape_interval_seconds: int
    left_open: bool
    phases: dict[str, float | None]
    epoch: str | None
    error: SourceError | None
    failing_since: float | None

    def resolution(self, step_seconds: int, metric: str | None = None) -> Resolution:
        phase = None if metric is None else self.phases.get(metric)
        return Resolution(step_seconds, self.scrape_interval_seconds, self.left_open, phase)


class Surveyor(Protocol):
    """Whoever knows the bearings."""

    async def bearings(self) -> Bearings:
        """As of now; never raises for a source that fails."""
        ...


@dataclass(frozen=True, slots=True)
class _Values:
    """Answers to the present questions by name, and when the source gave them (its own time)."""

    at: float
    found: dict[str, float]


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
    ) -> None:
        self._client = client
        self._reader = reader
        self._surveyor = surveyor
        self._dashboard = dashboard
        self._matchers = matchers
        self._clock = clock
        self._body = b""
        self._taken_at = float("-inf")
        self._task: asyncio.Task[bytes] | None = None
        self._now: _Values | None = None
        self._compared: dict[str, tuple[float, _Values]] = {}
        self._alerts = Alerts()

    async def get(self, *, max_age_seconds: float) -> bytes:
        """The JSON, not older than ``max_age_seconds``; never raises for a source."""
        age = self._clock() - self._taken_at
        if 0 <= age <= max(max_age_seconds, _SHARED_SECONDS):
            return self._body
        if self._task is None:
            self._task = asyncio.create_task(self._take())
            self._task.add_done_callback(self._taken)
        return await asyncio.shield(self._task)

    async def aclose(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _taken(self, _task: asyncio.Task[bytes]) -> None:
        self._task = None

    async def _take(self) -> bytes:
        bearings = await self._surveyor.bearings()
        cause = await self._renew_present(bearings)
        histories = await asyncio.gather(
            *(self._history(measure, bearings) for measure in self._dashboard.measures)
        )
        if bearings.error is None:
            await asyncio.gather(
                *(self._renew_compared(name, ago, bearings) for name, ago in COMPARED.items())
            )
        self._alerts = await read_alerts(
            self._client, self._alerts, self._dashboard.panels, bearings.error, bearings.source_now
        )
        content = self._content(bearings, cause, histories)
        self._body = orjson.dumps(content)
        self._taken_at = self._clock()
        return self._body

    def _content(
        self, bearings: Bearings, cause: str, histories: Sequence[Reading]
    ) -> dict[str, Any]:
        measures = self._dashboard.measures
        figures = [self._figure(measure, cause) for measure in measures]
        by_id = {m.id: f for m, f in zip(measures, figures, strict=True)}
        measured, limits = {}, {}
        for measure, figure, history in zip(measures, figures, histories, strict=True):
            times, values = _series(measure.panel, history)
            # An old value is no judgement of now.
            value = None if figure.stale else figure.judged
            measured[measure.id] = Measured(value, figure.cause, times, values)
            if measure.limits is not None:
                limits[measure.id] = measure.limits
        found = self._drain(by_id, cause)
        extra = []
        if bearings.error is not None:
            extra.append(
                Finding(
                    "prometheus",
                    Health.UNKNOWN,
                    since=bearings.failing_since,
                    cause=str(bearings.error),
                )
            )
        if found.state is DrainState.STALLED:
            extra.append(Finding("stall", Health.STALLED))
        verdict = judge(limits, measured, extra)
        depth = by_id.get("queue_depth")
        return {
            "asOf": None if self._now is None else self._now.at,
            "takenAt": self._clock(),
            "verdict": verdict_content(
                verdict, {m.id: m for m in measures}, None if depth is None else depth.shown
            ),
            "kpis": [
                card_content(
                    measure,
                    figure,
                    self._changes(measure, figure),
                    history,
                    _series(measure.panel, history)[1],
                )
                for measure, figure, history in zip(measures, figures, histories, strict=True)
            ],
            "drain": drain_content(found),
            **alert_content(self._alerts),
        }

    def _figure(self, measure: Measure, cause: str) -> Figure:
        if self._now is None:
            return Figure(None, None, None, cause or "Prometheus has not answered yet")
        found = self._now.found
        shown = found.get(f"{measure.id}_shown")
        judged = found.get(f"{measure.id}_judged", shown)
        stale = bool(cause)
        if shown is None:
            why = cause or "Nothing was measured in the last minutes"
            return Figure(None, None, self._now.at, why, stale)
        return Figure(shown, judged, self._now.at, cause, stale)

    def _changes(self, measure: Measure, figure: Figure) -> dict[str, float | None]:
        changes: dict[str, float | None] = {}
        for name in COMPARED:
            then = self._compared.get(name)
            value = None if then is None else then[1].found.get(f"{measure.id}_shown")
            if value is None or figure.shown is None or not np.isfinite(figure.shown - value):
                changes[name] = None
            else:
                changes[name] = figure.shown - value
        return changes

    def _drain(self, figures: dict[str, Figure], cause: str) -> Drain:
        flow = self._dashboard.flow
        found = {} if self._now is None or cause else self._now.found
        depth, workers = figures.get("queue_depth"), figures.get("active_workers")
        count = None if workers is None or workers.stale else workers.shown
        return drain(
            depth=None if depth is None or depth.stale else depth.shown,
            growth_per_second=found.get(_GROWTH),
            completion_per_second=found.get(_COMPLETION),
            workers=None if count is None or np.isnan(count) else int(count),
            window_seconds=600 if flow is None else flow.window_seconds,
        )

    async def _renew_present(self, bearings: Bearings) -> str:
        """Ask for all present figures in one question; why it failed, empty when it did not."""
        if bearings.error is not None:
            return str(bearings.error)
        try:
            self._now = await self._ask(bearings, bearings.source_now, flow=True)
        except SourceError as exc:
            _log.warning("cannot read the present figures: %s (%s)", exc, exc.detail)
            return str(exc)
        return ""

    async def _renew_compared(self, name: str, ago_seconds: int, bearings: Bearings) -> None:
        held = self._compared.get(name)
        if held is not None and 0 <= self._clock() - held[0] < _COMPARED_KEPT_SECONDS:
            return
        try:
            values = await self._ask(bearings, bearings.source_now - ago_seconds, flow=False)
        except SourceError as exc:
            # The card says that there is nothing to compare with.
            _log.warning("cannot compare with %s: %s (%s)", name, exc, exc.detail)
            self._compared.pop(name, None)
            return
        self._compared[name] = (self._clock(), values)

    async def _ask(self, bearings: Bearings, at: float, *, flow: bool) -> _Values:
        """The figures of all measures at source time ``at``.

        Should the source refuse the one question, each measure asks its own, so that none takes
        the others along.
        """
        recent = bearings.resolution(RECENT_SECONDS)
        questions: list[tuple[str, Panel | None, str]] = []
        for measure in self._dashboard.measures:
            panel = measure.panel
            questions.append((f"{measure.id}_shown", panel, self._filled(measure.now, recent)))
            if measure.now != panel.now and flow:
                judged = self._filled(panel.now, recent)
                questions.append((f"{measure.id}_judged", panel, judged))
        if flow and self._dashboard.flow is not None:
            told = self._dashboard.flow
            questions.append((_GROWTH, None, self._filled(told.growth, recent)))
            questions.append((_COMPLETION, None, self._filled(told.completion, recent)))
        if not questions:
            return _Values(at, {})
        try:
            return await self._ask_for(questions, at)
        except SourceError as exc:
            if exc.kind not in (SourceErrorKind.BAD_DATA, SourceErrorKind.EXECUTION):
                raise
        found: dict[str, float] = {}
        for question in questions:
            try:
                found |= (await self._ask_for([question], at)).found
            except SourceError as exc:
                _log.warning("cannot read %s: %s (%s)", question[0], exc, exc.detail)
        return _Values(at, found)

    async def _ask_for(self, questions: list[tuple[str, Panel | None, str]], at: float) -> _Values:
        query = " or ".join(
            f'label_replace(({text}), "{_LABEL}", "{name}", "", "")' for name, _, text in questions
        )
        answer = await self._client.query(query, at=at)
        found = {}
        for name, panel, _ in questions:
            value = _value(panel, name, answer)
            if value is not None:
                found[name] = value
        return _Values(at, found)

    def _filled(self, template: str, resolution: Resolution) -> str:
        return self._dashboard.panels[0].render(template, resolution, self._matchers, None)

    async def _history(self, measure: Measure, bearings: Bearings) -> Reading:
        """The last day, with the very question that the chart of a day asks."""
        grid = Grid.ending_at(bearings.source_now, HISTORY_SECONDS, HISTORY_STEP_SECONDS)
        panel = measure.panel
        resolution = bearings.resolution(HISTORY_STEP_SECONDS, panel.metrics[0])
        query = panel.render(panel.query, resolution, self._matchers, None)
        return await self._reader.read(
            query, grid, source_now=bearings.source_now, epoch=bearings.epoch
        )


def _value(panel: Panel | None, name: str, answer: InstantAnswer) -> float | None:
    """The one figure that ``answer`` holds under ``name``; None when it holds none."""
    mine = [s for s in answer.samples if dict(s.labels).get(_LABEL) == name]
    if not mine:
        return None
    if panel is None:
        return mine[0].value if len(mine) == 1 else None
    labels = tuple(tuple(pair for pair in s.labels if pair[0] != _LABEL) for s in mine)
    frame = Frame(Grid(0, 0, 1), labels, np.array([s.value for s in mine]).reshape(-1, 1))
    return _last(panel, frame)


def _last(panel: Panel, frame: Frame) -> float | None:
    values = _curve(panel, frame)
    return None if values is None else float(values[-1])


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
