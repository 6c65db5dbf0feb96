"""The throughput of each worker over seven days, read in advance for the page of workers.

A trend is a reading with one row: the attempts per minute that a worker ended, for each hour, NaN
where nothing was measured. Without a frame there is nothing to show.

The page runs in threads of its own and must not wait: it requests trends on the ``TrendBoard`` and
takes those that are known. ``WorkerTrends`` reads the requested ones, on the server's loop.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from queuescope.broker.reports import label
from queuescope.cache import CachedReader
from queuescope.errors import ConfigurationError
from queuescope.panels import PerWorker, render
from queuescope.prometheus.promql import quote
from queuescope.timeseries import Frame, Grid, LookupStatus, Reading, State
from queuescope.view.present.values import PresentValues
from queuescope.view.source.state import SourceState

TREND_SPAN_SECONDS = 7 * 86_400
TREND_STEP_SECONDS = 3_600
MAX_WORKERS = 100
"""The trends of more workers are not read."""

_WANTED_SECONDS = 60.0
_LOOK_SECONDS = 1.0
_RETRY_SECONDS = 30.0
_SETTLING_SECONDS = 120.0
_AT_ONCE = 4
_YOUNG_SECONDS = 10.0


class TrendBoard:
    """The workers whose trends are shown, and the trends that are known. Thread-safe;
    never blocks.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._wanted: dict[str, float] = {}
        self._trends: dict[str, Reading] = {}

    def look(self, workers: Sequence[str]) -> dict[str, Reading]:
        """The known trends of ``workers``. They are kept up to date until no one has asked for them
        for a minute.
        """
        now = self._clock()
        with self._lock:
            self._forget(now)
            for worker in workers:
                if worker in self._wanted or len(self._wanted) < MAX_WORKERS:
                    self._wanted[worker] = now
            return {worker: self._trends[worker] for worker in workers if worker in self._trends}

    def wanted(self) -> tuple[str, ...]:
        with self._lock:
            self._forget(self._clock())
            return tuple(self._wanted)

    def put(self, worker: str, trend: Reading) -> None:
        with self._lock:
            if worker in self._wanted:
                self._trends[worker] = trend

    def _forget(self, now: float) -> None:
        # A time in the future is from before the clock was set back.
        self._wanted = {w: at for w, at in self._wanted.items() if 0 <= now - at <= _WANTED_SECONDS}
        self._trends = {w: trend for w, trend in self._trends.items() if w in self._wanted}


@dataclass(frozen=True, slots=True)
class _Read:
    """When a trend was read (our clock), up to which hour, and whether it may be kept
    for the hour.
    """

    at: float
    end: int
    is_good: bool


class WorkerTrends:
    """Reads the requested trends, each once an hour. Belongs to one event loop."""

    def __init__(
        self,
        board: TrendBoard,
        present: PresentValues,
        reader: CachedReader,
        per_worker: PerWorker,
    ) -> None:
        self._board = board
        self._reader = reader
        self._present = present
        self._per_worker = per_worker
        self._matchers = present.source.matchers
        self._clock = present.source.clock
        self._reads: dict[str, _Read] = {}
        self._places = asyncio.Semaphore(_AT_ONCE)

    async def run(self) -> None:
        """Read requested trends, forever."""
        while True:
            await self.read_due()
            await asyncio.sleep(_LOOK_SECONDS)

    async def read_due(self) -> None:
        """Read the requested trends that are not known for this hour; never raises for a source."""
        wanted = self._board.wanted()
        self._reads = {worker: read for worker, read in self._reads.items() if worker in wanted}
        due = [worker for worker in wanted if self._is_due(worker)]
        if not due:
            return
        source = await self._present.state(max_age_seconds=_YOUNG_SECONDS)
        await asyncio.gather(*(self._read(worker, source) for worker in due))

    def _is_due(self, worker: str) -> bool:
        read = self._reads.get(worker)
        if read is None:
            return True
        age = self._clock() - read.at
        if age < 0 or (not read.is_good and age >= _RETRY_SECONDS):
            return True
        # Slightly after the hour, so that its last samples have arrived.
        return age >= _RETRY_SECONDS and (
            self._clock() - read.end >= TREND_STEP_SECONDS + _SETTLING_SECONDS
        )

    async def _read(self, worker: str, source: SourceState) -> None:
        grid = Grid.ending_at(source.now, TREND_SPAN_SECONDS, TREND_STEP_SECONDS)
        resolution = source.resolution(TREND_STEP_SECONDS, self._per_worker.throughput)
        try:
            query = render(
                self._per_worker.throughput,
                resolution,
                self._matchers,
                worker=quote(label(worker)),
            )
        except ConfigurationError as exc:
            trend = _without_frame(State.UNAVAILABLE, str(exc))
        else:
            async with self._places:
                reading = await self._reader.read(
                    query,
                    grid,
                    source_now=source.now,
                    epoch=source.epoch,
                    late_seconds=resolution.unsettled_seconds,
                )
            trend = _trend(reading, grid)
        is_good = trend.state not in (State.STALE, State.UNAVAILABLE)
        self._reads[worker] = _Read(self._clock(), grid.end, is_good)
        self._board.put(worker, trend)


def _trend(reading: Reading, grid: Grid) -> Reading:
    frame = reading.frame
    if frame is None:
        return reading
    if len(frame.series) != 1:
        several = "Prometheus answers with more than one series for this worker"
        return _without_frame(State.EMPTY, reading.cause or several)
    frame = Frame.assembled(grid, [frame])
    if not frame.series:
        return _without_frame(State.EMPTY, reading.cause)
    return replace(reading, frame=replace(frame, values=60 * frame.values))


def _without_frame(state: State, cause: str) -> Reading:
    return Reading(state, None, None, LookupStatus.KEY_MISS, cause=cause)
