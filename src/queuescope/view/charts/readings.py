"""The closed steps of charts, read through the cache only when a new point may have arrived."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from cachetools import FIFOCache

from queuescope.cache import CachedReader
from queuescope.panels import Panel, Resolution, render
from queuescope.telemetry import Telemetry
from queuescope.timeseries import Grid, LookupStatus, Reading, State
from queuescope.view.charts.high_cardinality import WorstValues
from queuescope.view.charts.live_end import LiveEnds
from queuescope.view.selection import View
from queuescope.view.source.state import SourceState

ANSWERED = (State.FRESH, State.PARTIAL, State.IDLE, State.EMPTY)
"""The states of a reading for which the source answered."""

MAX_CHARTS = 96
"""The most charts that are remembered."""

_RECHECK_SECONDS = (30.0, 120.0)
_SETTLING_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Drawing:
    """``view`` on ``grid``, drawn as of ``source``.

    ``live_at`` (source time) is the end of the open step after the grid; None if the view does not
    include it. With ``may_keep``, closed steps are not fetched while none can have changed.
    """

    view: View
    grid: Grid
    source: SourceState
    live_at: float | None
    may_keep: bool

    def settles_at(self, resolution: Resolution) -> float:
        """When (source time) the newest point is final, because all its samples have
        been scraped.
        """
        return self.grid.end + resolution.newest_after_seconds + _SETTLING_SECONDS


@dataclass(frozen=True, slots=True)
class PanelRequest:
    """What is fetched for one panel, broken down by ``by``; only the ``worst`` values if there are
    very many. The present value is measured over ``live_over_seconds``.
    """

    panel: Panel
    resolution: Resolution
    by: str | None
    worst: WorstValues | None
    matchers: str
    live_over_seconds: float | None

    @property
    def query(self) -> str:
        return render(self.panel.query, self.resolution, self.matchers, self.by)


@dataclass(frozen=True, slots=True)
class ChartReading:
    """``checked_at`` is when (source time) newer data was last requested."""

    reading: Reading
    checked_at: float


@dataclass(frozen=True, slots=True)
class _Kept:
    """A reading, what it is of, and when it was read (our clock)."""

    query: str
    grid: Grid
    epoch: str | None
    read: ChartReading
    kept_at: float


def recheck_seconds(step_seconds: int) -> float:
    """How soon late samples are picked up if nothing else fetches the newest points: a tenth of the
    step, within bounds.
    """
    shortest, longest = _RECHECK_SECONDS
    return min(max(step_seconds / 10, shortest), longest)


class ChartReadings:
    """Reads the charts of all views."""

    def __init__(
        self, reader: CachedReader, *, telemetry: Telemetry, clock: Callable[[], float]
    ) -> None:
        self._reader = reader
        self._telemetry = telemetry
        self._clock = clock
        self._kept = FIFOCache[tuple[str, View], _Kept](MAX_CHARTS)
        self._answered = FIFOCache[tuple[str, View], float](MAX_CHARTS)

    def kept(self, request: PanelRequest, drawing: Drawing) -> ChartReading | None:
        """The closed steps as they were read before, if no new point can have arrived: the grid is
        the same, its newest point was read after all its samples had been scraped, and that was
        less than ``recheck_seconds`` ago.
        """
        kept = self._kept.get((request.panel.id, drawing.view))
        if kept is None or not drawing.may_keep or request.resolution.unsettled_seconds:
            return None
        same = (request.query, drawing.grid, drawing.source.epoch)
        if (kept.query, kept.grid, kept.epoch) != same:
            return None
        age = self._clock() - kept.kept_at
        is_young = 0 <= age < recheck_seconds(drawing.grid.step_seconds)
        is_settled = drawing.settles_at(request.resolution) <= kept.read.checked_at
        return kept.read if is_young and is_settled else None

    async def read(self, request: PanelRequest, drawing: Drawing) -> ChartReading:
        """The closed steps, read through the cache; never raises for a source."""
        key, query, source = (request.panel.id, drawing.view), request.query, drawing.source
        reading = await self._reader.read(
            query,
            drawing.grid,
            source_now=source.now,
            epoch=source.epoch,
            late_seconds=request.resolution.unsettled_seconds,
        )
        self._telemetry.cache_read(reading.lookup)
        read = ChartReading(reading, source.now)
        self._kept.pop(key, None)
        # A warning is not kept: it must not be shown longer than the source repeats it.
        if reading.state in (State.FRESH, State.IDLE) and not reading.warnings:
            self._kept[key] = _Kept(query, drawing.grid, source.epoch, read, self._clock())
        return read

    def as_of_now(
        self, panel: str, reading: Reading, drawing: Drawing, live: LiveEnds | None
    ) -> Reading:
        """``reading`` with the present state of the source: closed steps that are held need no
        answer, but a chart that reaches the present does.
        """
        source, key = drawing.source, (panel, drawing.view)
        if drawing.live_at is None:
            return reading
        error = source.error if live is None else live.error
        answered_now = source.error is None and reading.as_of == source.now
        if reading.state is State.STALE and reading.frame is not None:
            # The last complete answer includes the live end, which may be newer than the closed
            # steps.
            if reading.frame.grid != drawing.grid:
                return reading
            return replace(reading, as_of=self._newest_answer(reading, key))
        if error is None or reading.state not in ANSWERED or answered_now:
            warnings = () if live is None else live.warnings
            as_of = reading.as_of
            if error is None and as_of is not None and reading.state in ANSWERED:
                as_of = max(as_of, source.now)
                self._note_answer(key, as_of)
            return replace(
                reading,
                as_of=as_of,
                warnings=tuple(dict.fromkeys((*reading.warnings, *warnings))),
            )
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
        """Note that closed steps and live end of this chart were both known ``at``
        (source time).
        """
        self._answered[key] = at

    def _newest_answer(self, reading: Reading, key: tuple[str, View]) -> float | None:
        seen = [at for at in (reading.as_of, self._answered.get(key)) if at is not None]
        return max(seen, default=None)
