"""The charts of a view: read through the cache, with their live ends, judged and drawn."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from queuescope.cache import CachedReader
from queuescope.errors import ConfigurationError, SourceError
from queuescope.figures import (
    SLOTS,
    Curves,
    curves_of,
    panel_figure,
    quantile_name,
    value_words,
    with_open_step,
)
from queuescope.panels import RANKED_QUANTILE, Kind, Panel, Resolution, render
from queuescope.prometheus import PrometheusClient
from queuescope.telemetry import Telemetry
from queuescope.timeseries import Frame, Grid, LookupStatus, Reading, State
from queuescope.view.charts.alert_history import AlertHistories, PastAlerts
from queuescope.view.charts.high_cardinality import Crowd, Crowds
from queuescope.view.charts.kept_points import Points
from queuescope.view.charts.live_end import LiveEnds, OpenPanel, ask_live_ends
from queuescope.view.charts.slots import Slots
from queuescope.view.overview.words import Figure
from queuescope.view.present.figures import live_ends, now_content, with_ends
from queuescope.view.selection import View
from queuescope.view.source.absence import Absence, explain_absence
from queuescope.view.source.data_start import DataStarts
from queuescope.view.source.scrapes import Scrape, late_words

_CONCURRENT_QUERIES = 6
_ABSENCE_KEPT_SECONDS = 60
_MAX_ABSENCES = 256

_RECHECK_SECONDS = (30.0, 120.0)

_SETTLING_SECONDS = 5.0
_MAX_CHARTS = 96

_ANSWERED = (State.FRESH, State.PARTIAL, State.IDLE, State.EMPTY)


@dataclass(frozen=True, slots=True)
class Chart:
    """What the page is told of a panel. ``as_of`` is when the source last answered for it (source
    time); ``checked_at`` when it was last asked whether there is anything newer; ``absence`` why
    there are no series, where that is so.
    """

    content: dict[str, Any]
    state: State
    as_of: float | None
    checked_at: float
    points: Points
    absence: Absence | None = None


@dataclass(frozen=True, slots=True)
class Moment:
    """What a view is drawn of: ``source_now`` is the source's clock, ``epoch`` the source's (see
    ``Contact``) and ``error`` why it is away.

    With ``may_keep`` the source is not asked for closed steps while none can have changed.
    ``live_at`` is until when (source time) the step after the grid is open; None where the view
    does not reach it. ``source_now`` is ``behind_seconds`` before the source's clock, where all
    samples arrive so late.
    """

    source_now: float
    epoch: str | None
    may_keep: bool
    live_at: float | None = None
    error: SourceError | None = None
    behind_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is asked for one panel."""

    panel: Panel
    resolution: Resolution
    by: str | None
    crowd: Crowd | None
    matchers: str
    live_over_seconds: float | None

    @property
    def query(self) -> str:
        return render(self.panel.query, self.resolution, self.matchers, self.by)


@dataclass(frozen=True, slots=True)
class _Kept:
    """An answer about closed steps, and what it was made of at ``kept_at`` (our clock); for
    ``checked_at`` see ``Chart``.
    """

    query: str
    grid: Grid
    epoch: str | None
    reading: Reading
    checked_at: float
    kept_at: float


@dataclass(frozen=True, slots=True)
class _Judged:
    """The curves of one panel, and what is said of them; ``frame`` are the closed steps alone."""

    asked: _Asked
    reading: Reading
    checked_at: float
    frame: Frame
    curves: Curves
    state: State
    cause: str
    data_start: float | None = None
    absence: Absence | None = None


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
        alerts: AlertHistories,
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
        self._places = asyncio.Semaphore(_CONCURRENT_QUERIES)
        self._kept: OrderedDict[tuple[str, View], _Kept] = OrderedDict()
        self._answered: OrderedDict[tuple[str, View], float] = OrderedDict()
        self._slots = Slots(SLOTS)
        self._alerts = alerts
        self._kept_alerts: OrderedDict[tuple[str, Grid, str | None], tuple[Frame, float, float]] = (
            OrderedDict()
        )
        self._data_starts = DataStarts(client, matchers=matchers, clock=clock)
        self._crowds = Crowds(client, matchers=matchers, limit=breakdown_limit, clock=clock)
        self._absences: OrderedDict[tuple[str, View], tuple[float, Absence]] = OrderedDict()

    async def draw(
        self,
        panels: Sequence[tuple[Panel, Resolution, float | None]],
        view: View,
        grid: Grid,
        moment: Moment,
        present: Callable[[Panel], Awaitable[Figure]],
    ) -> tuple[tuple[Chart, ...], PastAlerts]:
        """The charts of ``panels`` on ``grid``, as of ``moment``, and the alerts about them: each
        panel with its resolution, and over how many seconds its value now is measured. A
        chart that reaches now ends with its figure of now, for which ``present`` is asked.

        A panel is not asked for anew while no new point can have come: the grid is the same, its
        newest point was read when all its samples had been scraped, and that is no longer ago than
        ``recheck_seconds``. The open step is asked for each time.
        """
        asked = await asyncio.gather(
            *(self._asked(panel, view, grid, how, over, moment) for panel, how, over in panels)
        )
        selector = await self._alerts.selector(may_ask=moment.error is None)
        live, readings, recorded = await asyncio.gather(
            self._live_ends(asked, grid, moment, selector),
            asyncio.gather(*(self._read(one, view, grid, moment) for one in asked)),
            self._recorded(selector, asked[0].resolution, grid, moment),
        )
        figures = await asyncio.gather(*(present(one.panel) for one in asked))
        judged = await asyncio.gather(
            *(
                self._judged(one, view, grid, read, live, moment, figure)
                for one, read, figure in zip(asked, readings, figures, strict=True)
            )
        )
        shown = [curve.name for one in judged if one.asked.by for curve in one.curves.curves]
        slots = None if view.by is None else self._slots.of(view.by, shown)
        begun = {} if live is None else live.series
        of_alerts = {name: series for name, series in begun.items() if name.startswith("alerts_")}
        alerts = self._alerts.alerts(recorded, of_alerts, None if live is None else live.at)
        return tuple(
            self._drawn(one, view, moment, slots, figure)
            for one, figure in zip(judged, figures, strict=True)
        ), alerts

    async def _recorded(
        self, selector: str, resolution: Resolution, grid: Grid, moment: Moment
    ) -> Frame:
        """What was recorded of alerts at the closed steps, kept as the charts are."""
        if not selector:
            return Frame.empty(grid)
        key = (selector, grid, moment.epoch)
        settled = grid.end + resolution.newest_after_seconds + _SETTLING_SECONDS
        if moment.may_keep and (kept := self._kept_alerts.get(key)) is not None:
            young = 0 <= self._clock() - kept[1] < recheck_seconds(grid.step_seconds)
            if young and settled <= kept[2]:
                return kept[0]
        async with self._places:
            frame = await self._alerts.read(
                selector, grid, resolution, moment.source_now, moment.epoch
            )
        self._kept_alerts[key] = (frame, self._clock(), moment.source_now)
        self._kept_alerts.move_to_end(key)
        while len(self._kept_alerts) > _MAX_CHARTS:
            self._kept_alerts.popitem(last=False)
        return frame

    async def _asked(  # noqa: PLR0917
        self,
        panel: Panel,
        view: View,
        grid: Grid,
        resolution: Resolution,
        over: float | None,
        moment: Moment,
    ) -> _Asked:
        by = view.by if view.by in panel.breakdowns else None
        crowd = await self._crowd(panel, by, grid, resolution, moment)
        matchers = self._matchers if crowd is None else crowd.matchers(self._matchers)
        return _Asked(panel, resolution, by, crowd, matchers, over)

    async def _live_ends(
        self, asked: Sequence[_Asked], grid: Grid, moment: Moment, selector: str
    ) -> LiveEnds | None:
        """The open steps; None where the view does not reach them, or the source is away."""
        if moment.live_at is None or moment.error is not None:
            return None
        panels = [OpenPanel(one.panel, one.by, one.matchers, one.resolution) for one in asked]
        async with self._places:
            beside: Mapping[str, str] = {}
            if selector:
                beside = self._alerts.open_texts(
                    selector, asked[0].resolution, moment.live_at - grid.end
                )
            return await ask_live_ends(self._client, panels, grid.end, moment.live_at, beside)

    async def _read(
        self, asked: _Asked, view: View, grid: Grid, moment: Moment
    ) -> tuple[Reading, float]:
        """The closed steps, and when the source was last asked whether there is anything newer."""
        query = asked.query
        key = (asked.panel.id, view)
        kept = self._kept.get(key)
        same = kept is not None and (kept.query, kept.grid, kept.epoch) == (
            query,
            grid,
            moment.epoch,
        )
        may_keep = moment.may_keep and not asked.resolution.unsettled_seconds
        if may_keep and kept is not None and same:
            settled = grid.end + asked.resolution.newest_after_seconds + _SETTLING_SECONDS
            young = 0 <= self._clock() - kept.kept_at < recheck_seconds(grid.step_seconds)
            if young and settled <= kept.checked_at:
                return kept.reading, kept.checked_at
        async with self._places:
            reading = await self._reader.read(
                query,
                grid,
                source_now=moment.source_now,
                epoch=moment.epoch,
                late_seconds=asked.resolution.unsettled_seconds,
            )
        self._telemetry.looked_up(reading.lookup)
        self._kept.pop(key, None)
        # What a source remarks is not repeated longer than it says so.
        if reading.state in (State.FRESH, State.IDLE) and not reading.warnings:
            self._kept[key] = _Kept(
                query, grid, moment.epoch, reading, moment.source_now, self._clock()
            )
            if len(self._kept) > _MAX_CHARTS:
                self._kept.popitem(last=False)
        return reading, moment.source_now

    async def _crowd(
        self, panel: Panel, by: str | None, grid: Grid, resolution: Resolution, moment: Moment
    ) -> Crowd | None:
        if by is None:
            return None
        is_away = moment.error is not None
        try:
            async with self._places:
                return await self._crowds.of(
                    panel, by, grid, resolution, moment.live_at, is_away=is_away
                )
        except SourceError:
            # The reading itself says what is wrong with the source.
            return None

    async def _judged(  # noqa: PLR0917
        self,
        asked: _Asked,
        view: View,
        grid: Grid,
        read: tuple[Reading, float],
        live: LiveEnds | None,
        moment: Moment,
        figure: Figure,
    ) -> _Judged:
        panel, by = asked.panel, asked.by
        reading = self._as_of_now(read[0], (panel.id, view), grid, live, moment)
        frame = closed = reading.frame if reading.frame is not None else Frame.empty(grid)
        late = asked.resolution.late_seconds
        if late:
            # Of what has come only in part nothing is drawn, nor of the open step.
            frame = closed = closed.until(moment.source_now - late)
        state, cause = reading.state, reading.cause
        if late and state is State.FRESH and not closed.series:
            state = State.EMPTY
        series = () if live is None else live.series.get(panel.id, ())
        has_open_step = bool(series) and state in _ANSWERED and closed.grid == grid and not late
        if has_open_step:
            frame = with_open_step(closed, series)
            state = State.FRESH if state is State.EMPTY else state
        so_far = () if live is None else live.so_far.get(panel.id, ())
        try:
            curves = curves_of(
                panel,
                frame,
                by,
                self._breakdown_limit,
                window_seconds=asked.resolution.rate_window_seconds,
                has_open_step=has_open_step,
                live_over_seconds=asked.live_over_seconds,
                so_far=so_far,
            )
            if has_open_step:
                # What another source knows now is nothing that Prometheus is still behind.
                same_age = figure.shown.late_seconds == moment.behind_seconds
                if by is None and moment.live_at == moment.source_now and same_age:
                    curves = with_ends(curves, live_ends(panel, figure))
        except ConfigurationError as exc:
            # A panel that cannot be drawn says so; the others stand.
            state, cause = State.UNAVAILABLE, str(exc)
            frame = closed = Frame.empty(grid)
            curves = curves_of(panel, frame, by, self._breakdown_limit)
        if state in (State.FRESH, State.IDLE):
            state = State.FRESH if curves.has_numbers else State.IDLE
            cause = ""
        absence = None
        if state is State.IDLE and by is not None and bool(frame.series) and not curves.curves:
            state, cause = State.EMPTY, f"No series here has the label {by}. Break down by another."
        elif state is State.IDLE and panel.kind is Kind.COUNT:
            # A number that was measured is one, were it 0.
            state, cause = State.EMPTY, "Its samples in this range are NaN or infinite."
        elif state is State.IDLE:
            cause = "No job finished in this range, so there is nothing to measure."
        elif state is State.EMPTY and late and reading.state is State.FRESH:
            cause = f"Its samples arrive {late_words(late)} late: none of this range are there."
        elif state is State.EMPTY:
            absence = await self._why_empty(panel, view, grid, moment)
            cause = absence.words
        data_start = None
        if state in (State.FRESH, State.PARTIAL):
            data_start = await self._data_starts.within(panel, frame, moment.source_now)
        return _Judged(asked, reading, read[1], closed, curves, state, cause, data_start, absence)

    def _as_of_now(
        self,
        reading: Reading,
        key: tuple[str, View],
        grid: Grid,
        live: LiveEnds | None,
        moment: Moment,
    ) -> Reading:
        """``reading`` with the state that the source is in now: what is held of closed steps needs
        no answer, but a chart that reaches the present does.
        """
        if moment.live_at is None:
            return reading
        error = moment.error if live is None else live.error
        answered_now = moment.error is None and reading.as_of == moment.source_now
        if reading.state is State.STALE and reading.frame is not None:
            # It was last answered whole with its live end, which may be after its closed steps.
            if reading.frame.grid != grid:
                return reading
            return replace(reading, as_of=self._newest_answer(reading, key))
        if error is None or reading.state not in _ANSWERED or answered_now:
            told = () if live is None else live.warnings
            as_of = reading.as_of
            if error is None and as_of is not None and reading.state in _ANSWERED:
                as_of = max(as_of, moment.source_now)
                self._note_answer(key, as_of)
            warnings = tuple(dict.fromkeys((*reading.warnings, *told)))
            return replace(reading, as_of=as_of, warnings=warnings)
        return replace(
            reading,
            state=State.STALE,
            cause=str(error),
            cause_kind=error.kind,
            detail=error.detail,
            as_of=self._newest_answer(reading, key),
            lookup=LookupStatus.SOURCE_ERROR,
        )

    def _note_answer(self, key: tuple[str, View], at: float) -> None:
        """Closed steps and live end of this chart were both known ``at`` (source time)."""
        self._answered[key] = at
        self._answered.move_to_end(key)
        while len(self._answered) > _MAX_CHARTS:
            self._answered.popitem(last=False)

    def _newest_answer(self, reading: Reading, key: tuple[str, View]) -> float | None:
        seen = [at for at in (reading.as_of, self._answered.get(key)) if at is not None]
        return max(seen, default=None)

    def _drawn(
        self,
        judged: _Judged,
        view: View,
        moment: Moment,
        slots: Mapping[str, int] | None,
        now: Figure,
    ) -> Chart:
        asked, reading, curves = judged.asked, judged.reading, judged.curves
        panel, by = asked.panel, asked.by
        figure = panel_figure(
            panel,
            curves,
            by=by,
            live_at=moment.live_at,
            slots=None if by is None else slots,
            point_seconds=panel.point_seconds(asked.resolution),
        )
        notes = []
        hidden = curves.hidden
        if asked.crowd is not None:
            hidden = max(0, asked.crowd.total - len(curves.curves))
            notes.append("ranked by their present values")
        if view.by is not None and by is None:
            notes.append(f"not reported by {view.by}")
        elif by is not None:
            notes += _unlabelled_words(panel, by, curves)
        resolution = asked.resolution
        slowest = resolution.scrape_interval_seconds
        scrape = Scrape(resolution.fastest_seconds or slowest, slowest)
        if resolution.late_seconds:
            late = resolution.late_seconds + moment.behind_seconds
            notes.append(f"its samples arrive {late_words(late)} late")
        if scrape.is_mixed:
            notes.append(f"scraped {scrape.words}")
        content = {
            "id": panel.id,
            "title": panel.title,
            "role": "depth" if panel.id == "queue_depth" else "",
            "kind": panel.kind,
            "unit": panel.unit,
            "by": by,
            "quantile": quantile_name(RANKED_QUANTILE) if by and panel.quantiles else "",
            "state": judged.state,
            "cause": judged.cause,
            "warnings": reading.warnings,
            "asOf": reading.as_of,
            "nowLabel": f"{quantile_name(RANKED_QUANTILE)} now" if panel.quantiles else "now",
            "now": now_content(panel, now),
            "atLeast": curves.at_least and value_words(panel.kind, curves.at_least),
            "hidden": hidden,
            "note": ", ".join(notes),
            "dataStart": judged.data_start,
            "relaidAt": curves.relaid_at,
            "details": {
                "query": " ".join(asked.query.split()),
                "lookup": reading.lookup,
                "kind": reading.cause_kind,
                "series": len(judged.frame.series),
                "scrapes": scrape.words,
            },
            "figure": figure,
        }
        points = Points(panel, curves, by, moment.live_at)
        return Chart(
            content, judged.state, reading.as_of, judged.checked_at, points, judged.absence
        )

    async def _why_empty(self, panel: Panel, view: View, grid: Grid, moment: Moment) -> Absence:
        """The reason, kept for a while: it takes a search through weeks of samples."""
        known = self._absences.get((panel.id, view))
        if known is not None and 0 <= self._clock() - known[0] < _ABSENCE_KEPT_SECONDS:
            return known[1]
        try:
            async with self._places:
                why = await explain_absence(
                    self._client,
                    panel,
                    self._matchers,
                    grid,
                    moment.source_now,
                    moment.live_at,
                )
        except SourceError as exc:
            words = f"Prometheus has no such series here. Why could not be found out: {exc}"
            return Absence(words)
        # A source without anything is asked for nothing, and its first metric tells another reason.
        if not why.is_bare:
            self._absences[panel.id, view] = (self._clock(), why)
        while len(self._absences) > _MAX_ABSENCES:
            self._absences.popitem(last=False)
        return why


def _unlabelled_words(panel: Panel, by: str, curves: Curves) -> list[str]:
    """What is not drawn because it has no label ``by``. A rate without it is silent: it is mostly
    that of all jobs together, which the panel falls back on.
    """
    if not curves.curves or curves.unlabelled is None or panel.kind is Kind.PERCENT:
        return []
    if panel.kind is Kind.LATENCY:
        return [f"jobs without a {by} are not drawn"]
    if not curves.unlabelled > 0:
        return []
    return [f"up to {value_words(panel.kind, curves.unlabelled)} {panel.unit} have no {by}"]
