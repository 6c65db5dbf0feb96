"""The forecast of whether and when the queue clears, from depth and completions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from queuescope.cache import CachedReader
from queuescope.figures import value_words
from queuescope.health import MEMORY_SECONDS, Drain, DrainState, drain, movement
from queuescope.panels import Kind, render
from queuescope.timeseries import Floats, Grid, Reading, State
from queuescope.view.overview.reason import rounded
from queuescope.view.present.figures import PresentFigure
from queuescope.view.present.live_sources import LiveSource
from queuescope.view.present.queries import COMPLETION
from queuescope.view.present.values import PresentValues
from queuescope.view.source.state import SourceState
from queuescope.words import counted, plural

_MINUTE = 60
_DEPTH_STEP_SECONDS = 15
_FEWEST_SCRAPES = 12
_BRIEF_SECONDS = 60.0
_DEPTH = "queue_depth"

DepthSamples = tuple[Floats, Floats]
"""Times (epoch seconds) and the number of waiting jobs at each."""


class Drains:
    """Computes the drain forecast from Prometheus and the live sources."""

    def __init__(self, present: PresentValues, reader: CachedReader) -> None:
        self._present = present
        self._reader = reader
        self._dashboard = present.source.dashboard
        self._matchers = present.source.matchers
        self._read: tuple[tuple[Grid, str | None], Reading] | None = None

    async def read_depths(self, state: SourceState) -> DepthSamples | None:
        """The scraped depth of the last minutes; None if it is unknown."""
        flow = self._dashboard.flow
        if flow is None or not flow.waiting or state.error is not None:
            return None
        waiting = state.resolution(_DEPTH_STEP_SECONDS, flow.waiting)
        slowest = waiting.scrape_interval_seconds
        step = max(_DEPTH_STEP_SECONDS, slowest)
        grid = Grid.ending_at(state.now, max(MEMORY_SECONDS, _FEWEST_SCRAPES * step), step)
        if self._read is None or self._read[0] != (grid, state.epoch):
            resolution = state.resolution(step, flow.waiting)
            query = render(flow.waiting, resolution, self._matchers)
            reading = await self._reader.read(
                query,
                grid,
                source_now=state.now,
                epoch=state.epoch,
                late_seconds=waiting.unsettled_seconds,
            )
            self._read = ((grid, state.epoch), reading)
        reading = self._read[1]
        frame = reading.frame
        if frame is None or reading.state is not State.FRESH or len(frame.values) != 1:
            return None
        frame = frame.until(state.now - waiting.late_seconds)
        return frame.grid.timestamps(), np.asarray(frame.values[0])

    def of(
        self,
        figures: Mapping[str, PresentFigure],
        depths: DepthSamples | None,
        state: SourceState,
        sources: Sequence[LiveSource],
    ) -> Drain:
        """The drain forecast from ``figures`` (by measure), ``depths`` and the live ``sources``. A
        source that counts what leaves the queue, or watches its depth, takes precedence.
        """
        flow = self._dashboard.flow
        known = {name: figure.whole for name, figure in figures.items()}
        workers, oldest_ms = known.get("active_workers"), known.get("oldest_waiting")
        reports = [source.report for source in sources if source.is_fresh]
        window = 600 if flow is None else flow.window_seconds
        completion = self._completion(figures.get(_DEPTH), state)
        covered: float | None = self._present.covered(state.now, window)
        counted = next((one for one in reports if one.completion_per_second is not None), None)
        if counted is not None:
            completion, covered = counted.completion_per_second, counted.completion_seconds
        depth, scraped = known.get(_DEPTH), depths if state.error is None else None
        watched = next((one.depths for one in reports if one.depths), ())
        if watched:
            depth = watched[-1][1]
            scraped = _joined(scraped, np.array(watched, dtype=float), state.offset_seconds)
        return drain(
            depth=depth,
            moves=None if scraped is None else movement(*scraped),
            completion_per_second=completion,
            workers=None if workers is None or np.isnan(workers) else int(workers),
            window_seconds=window,
            counted_seconds=covered,
            oldest_seconds=None if oldest_ms is None or np.isnan(oldest_ms) else oldest_ms / 1000,
            is_held_back=any(one.held_back for one in reports),
        )

    def _completion(self, depth: PresentFigure | None, state: SourceState) -> float | None:
        """Jobs completed per second, from Prometheus; None if that is old, partial, or of another
        time than the ``depth``: an earlier rate says nothing about the jobs that wait now.
        """
        found = self._present.of(COMPLETION)
        if depth is None or depth.shown.late_seconds != found.late_seconds:
            return None
        return None if state.error is not None else found.whole


def _joined(scraped: DepthSamples | None, watched: Floats, offset_seconds: float) -> DepthSamples:
    """The depth as ``watched`` in the broker (times and numbers, shape ``(n, 2)``), preceded by the
    scraped one if the watched period is short. ``offset_seconds`` is how far the clock of the
    scrapes is ahead.
    """
    times, depths = watched[:, 0], watched[:, 1]
    if scraped is None or times[-1] - times[0] >= _BRIEF_SECONDS:
        return times, depths
    before = scraped[0] - offset_seconds < times[0]
    return (
        np.concatenate([scraped[0][before] - offset_seconds, times]),
        np.concatenate([scraped[1][before], depths]),
    )


def drain_content(found: Drain, scheduled: int = 0) -> dict[str, Any]:
    """The drain forecast as a sentence and its numbers. ``scheduled`` is the number of scheduled
    jobs.
    """
    per_minute = None if found.growth_per_second is None else found.growth_per_second * _MINUTE
    brief, sentence = _drain_words(found, per_minute)
    if scheduled:
        # With an empty queue nothing else would mention them.
        is_empty = found.state is DrainState.EMPTY
        brief = f"{scheduled:,} scheduled" if is_empty else brief
        sentence += f" {scheduled:,} {plural(scheduled, 'is', 'are')} scheduled for later."
    return {
        "state": found.state,
        "brief": brief,
        "words": sentence,
        "seconds": found.seconds,
        "soonestSeconds": found.soonest_seconds,
        "latestSeconds": found.latest_seconds,
        "arrivalPerMinute": _per_minute(found.arrival_per_second),
        "completionPerMinute": _per_minute(found.completion_per_second),
    }


def _drain_words(found: Drain, growth_per_minute: float | None) -> tuple[str, str]:
    """A few words for a card, and a sentence."""
    state = found.state
    if state is DrainState.EMPTY:
        return "nothing waits", "Nothing waits."
    if state is DrainState.CLEARING and found.soonest_seconds is not None:
        words = f"clears in {_range_words(found.soonest_seconds, found.latest_seconds)}"
        return words, f"The queue {words} at the rate of the last minutes."
    if state is DrainState.STALLED:
        return "stalled", "Jobs are waiting and none is completed."
    if state is DrainState.WAITING:
        return (
            "none completed yet",
            "No job has been completed yet; it is not known whether the queue will clear.",
        )
    if state is DrainState.PAUSED:
        return "paused", "All waiting jobs are in queues that an operator has paused."
    if state is DrainState.UNKNOWN or growth_per_minute is None:
        yet = " yet" if found.is_early else ""
        return "", f"It is not known{yet} whether the queue will clear."
    if state is DrainState.STEADY:
        words = "is steady"
        sentence = f"The queue {words}: as many jobs arrive as are completed"
    else:
        rate = value_words(Kind.COUNT, rounded(Kind.COUNT, round(growth_per_minute, 1)))
        words = f"grows by {rate} / min"
        sentence = f"The queue is growing by {rate} a minute"
    if not found.workers or not found.workers_needed:
        return words, f"{sentence}."
    workers = counted(found.workers, "worker")
    if state is DrainState.GROWING:
        needed = found.workers_needed
        return words, f"{sentence}: it will not clear with {workers}; {needed} would."
    return words, f"{sentence}. It would clear with more than {workers}."


_RANGE_UNITS: tuple[tuple[float, int, int, str], ...] = (
    (100.0, 10, 1, "s"),
    (6_000.0, 60, 60, "min"),
    (172_800.0, 3_600, 3_600, "h"),
    (math.inf, 86_400, 86_400, "d"),
)
"""The upper limit, the rounding and the size of each unit, in seconds, and its name."""


def _range_words(soonest: float, latest: float | None) -> str:
    """The range of the forecast, rounded outward: “5–8 min”, “about 40 s”, “20 min or more”."""
    most = soonest if latest is None else latest
    rounding, size, unit = next(unit[1:] for unit in _RANGE_UNITS if most <= unit[0])
    first = math.floor(soonest / rounding) * rounding // size
    if latest is None:
        least = max(first, rounding // size)
        return f"{least} {unit} or more"
    last = math.ceil(latest / rounding) * rounding // size
    if first <= 0:
        return f"less than {last} {unit}"
    return f"about {first} {unit}" if first == last else f"{first}–{last} {unit}"


def _per_minute(rate: float | None) -> float | None:
    return None if rate is None else rate * _MINUTE
