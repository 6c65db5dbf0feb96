"""The last day behind the cards: the history of each figure, and the share of successful jobs.

It is read in steps of a quarter of an hour, of which all but the newest are cached, and less often
than the charts: at a card's size the difference does not show.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from cachetools import FIFOCache

from queuescope.cache import CachedReader, state_of
from queuescope.errors import SourceError, SourceErrorKind
from queuescope.panels import Dashboard, Measure, Resolution, Share, render
from queuescope.prometheus.promql import parts_of, union
from queuescope.timeseries import Frame, Grid, Reading, State
from queuescope.view.present.fetcher import PresentFetcher
from queuescope.view.present.present_value import PresentValue
from queuescope.view.present.queries import beside_query
from queuescope.view.source.state import SourceState

logger = logging.getLogger(__name__)

DAY_SECONDS = 86_400
DAY_STEP_SECONDS = 900
DAY_KEPT_SECONDS = 300.0
"""How long a day is reused, unless everything is to be read again."""

_LABEL = "queuescope_day"
_MAX_KEPT = 64
_WHOLE = (State.FRESH, State.IDLE, State.EMPTY)


@dataclass(frozen=True, slots=True)
class _Kept:
    at: float
    epoch: str | None
    reading: Reading


class Days:
    """Reads days through the cache.

    A history that a chart also draws is read with the same query as the chart of a day. All others
    are read in one query, or, for a while after the source has failed to answer that, one by one.
    """

    def __init__(
        self,
        reader: CachedReader,
        dashboard: Dashboard,
        *,
        matchers: str,
        clock: Callable[[], float],
    ) -> None:
        self._reader = reader
        self._matchers = matchers
        self._clock = clock
        self._beside = _beside_charts(dashboard)
        self._kept = FIFOCache[str, _Kept](_MAX_KEPT)
        self._apart_since = float("-inf")

    async def read(
        self, template: str, source: SourceState, metrics: Sequence[str], *, anew: bool
    ) -> Reading:
        """The reading of the last day; ``metrics`` are those of the panel."""
        alone = self.filled(template, source.scrapes.resolution(DAY_STEP_SECONDS, metrics))
        place = self._beside.get(template)
        if place is None or self._is_apart():
            return await self._read(alone, source, anew=anew)
        parts = {
            number: self.filled(one, source.scrapes.resolution(DAY_STEP_SECONDS, names))
            for one, (number, names) in self._beside.items()
        }
        together = await self._read(union(_LABEL, parts), source, anew=anew)
        if together.cause_kind is not None and source.error is None:
            # One query that fails must not make the others fail.
            reading = await self._read(alone, source, anew=anew)
            if reading.cause_kind is None:
                self._apart_since = self._clock()
                return reading
        return _part(together, place[0])

    def _is_apart(self) -> bool:
        return 0 <= self._clock() - self._apart_since < DAY_KEPT_SECONDS

    async def _read(self, query: str, source: SourceState, *, anew: bool) -> Reading:
        kept = self._kept.get(query)
        same = kept is not None and kept.epoch == source.epoch and not anew
        if kept is not None and same and 0 <= self._clock() - kept.at < DAY_KEPT_SECONDS:
            return kept.reading
        grid = Grid.ending_at(source.now, DAY_SECONDS, DAY_STEP_SECONDS)
        reading = await self._reader.read(
            query,
            grid,
            source_now=source.now,
            epoch=source.epoch,
            late_seconds=source.scrapes.late.longest_unsettled_seconds,
        )
        self._kept.pop(query, None)
        if reading.state in _WHOLE:
            self._kept[query] = _Kept(self._clock(), source.epoch, reading)
        return reading

    def filled(self, template: str, resolution: Resolution) -> str:
        return render(template, resolution, self._matchers)


def _beside_charts(dashboard: Dashboard) -> dict[str, tuple[str, tuple[str, ...]]]:
    """What only cards read, by query template: its number and its metrics."""
    found: dict[str, tuple[str, tuple[str, ...]]] = {}
    for measure in dashboard.measures:
        templates = [] if measure.on_page else [measure.panel.query]
        templates += [measure.share.query] if measure.share else []
        for template in templates:
            found.setdefault(template, (str(len(found)), measure.panel.all_metrics))
    return found


def _part(together: Reading, number: str) -> Reading:
    """The part of ``together`` that belongs to one of its queries."""
    whole = together.frame
    if whole is None:
        return together
    mine = parts_of(_LABEL, zip(whole.series, range(len(whole.series)), strict=True)).get(
        number, []
    )
    series = tuple(labels for labels, _ in mine)
    frame = Frame(whole.grid, series, whole.values[[row for _, row in mine]])
    if together.state not in _WHOLE:
        return replace(together, frame=frame)
    state, cause = state_of(frame)
    return replace(together, frame=frame, state=state, cause=cause)


class DayShares:
    """Shares of the last day, in percent."""

    def __init__(self, fetcher: PresentFetcher, days: Days, *, clock: Callable[[], float]) -> None:
        self._fetcher = fetcher
        self._days = days
        self._clock = clock
        self._asked: dict[str, tuple[float, PresentValue]] = {}

    async def now(
        self, measure: Measure, share: Share, source: SourceState, *, anew: bool
    ) -> PresentValue:
        """The share of the last day. If its steps have no data, as in the first minutes or where
        nothing is counted, ``measure.now`` is queried instead.
        """
        reading = await self._read(measure, share, source, anew=anew)
        if reading.state in (State.STALE, State.UNAVAILABLE):
            kind = SourceErrorKind(reading.cause_kind or SourceErrorKind.DECODE)
            error = SourceError(kind, reading.cause, detail=reading.detail)
            return PresentValue(_percent(share, reading), reading.as_of, error)
        value = _percent(share, reading)
        if value is None:
            return await self._asked_for(measure, source, anew=anew)
        self._asked.pop(measure.id, None)
        warnings = reading.warnings if reading.state is State.PARTIAL else ()
        return PresentValue(value, reading.as_of, warnings=warnings)

    async def _read(
        self, measure: Measure, share: Share, source: SourceState, *, anew: bool
    ) -> Reading:
        return await self._days.read(share.query, source, measure.panel.all_metrics, anew=anew)

    async def _asked_for(
        self, measure: Measure, source: SourceState, *, anew: bool
    ) -> PresentValue:
        at, held = self._asked.get(measure.id, (float("-inf"), PresentValue()))
        if source.error is not None:
            return held.failed(source.error, self._clock())
        if not anew and held.error is None and 0 <= self._clock() - at < DAY_KEPT_SECONDS:
            return held
        query = beside_query(measure)
        try:
            answers = await self._fetcher.fetch([query], source.scrapes, source.now)
            error = answers.failed.get(query.name)
            found = answers.found.get(query.name, held)
        except SourceError as exc:
            error, found = exc, held
        if error is not None:
            logger.warning("cannot read %s: %s (%s)", query.name, error, error.detail)
            found = held.failed(error, self._clock())
        self._asked[measure.id] = (self._clock(), found)
        return found


def _percent(share: Share, reading: Reading) -> float | None:
    """The share; NaN if nothing happened on that day, None if nothing is known about it."""
    frame = reading.frame
    if frame is None or not frame.has_numbers:
        return None
    # The first point belongs to the step before the day.
    rates = frame.values[:, 1:]
    mine = [row for row, labels in enumerate(frame.series) if (share.label, share.value) in labels]
    total = float(np.nansum(rates))
    return 100 * (float(np.nansum(rates[mine])) / total) if total > 0 else float("nan")
