"""Arrivals against completions over a range: the strip on the queue depth chart.

It is fetched apart from the charts, once for all viewers of a view, and again when the view has a
new step. Samples that arrive late are picked up within ``RECHECK_SECONDS``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from cachetools import FIFOCache

from queuescope.cache import CachedReader
from queuescope.figures import duration_words
from queuescope.figures.figure import encode_values
from queuescope.health import MOVEMENT_SECONDS, DrainHistory, DrainState, drain_history
from queuescope.panels import render
from queuescope.prometheus.promql import parts_of, union
from queuescope.single_flight import SingleFlight
from queuescope.timeseries import Floats, Frame, Grid, Labels, Reading, State
from queuescope.view.present.values import PresentValues
from queuescope.view.selection import View
from queuescope.view.source.state import SourceState

RECHECK_SECONDS = 300.0

_SETTLING_SECONDS = 5.0
# Old enough to share the state that was read for the charts.
_STATE_SECONDS = 60.0
_MAX_KEPT = 64
_MINUTE = 60
_LABEL = "queuescope_flow"
_WAITING, _COMPLETED = "waiting", "completed"
_NO_HISTORY = "The panel file does not say what is completed."

LETTERS = {
    DrainState.EMPTY: "e",
    DrainState.CLEARING: "c",
    DrainState.STEADY: "s",
    DrainState.GROWING: "g",
    DrainState.WAITING: "w",
    DrainState.STALLED: "x",
    DrainState.PAUSED: "p",
    DrainState.UNKNOWN: "-",
}
"""The letter that stands for each state: a range is sent as one letter for each timestamp. There is
none for *paused*, since Prometheus does not know what operators had paused.
"""


@dataclass(frozen=True, slots=True)
class _Kept:
    grid: Grid
    epoch: str | None
    read_at: float
    body: bytes


class FlowHistories:
    """Makes the history of a view on request; simultaneous requests for equal views share one
    reading.
    """

    def __init__(self, present: PresentValues, reader: CachedReader) -> None:
        source = present.source
        self._present = present
        self._reader = reader
        self._dashboard = source.dashboard
        self._matchers = source.matchers
        self._clock = source.clock
        self._kept = FIFOCache[View, _Kept](_MAX_KEPT)
        self._flights = SingleFlight[View, None, bytes]()

    async def get(self, view: View) -> bytes:
        """The JSON for ``view``, whose breakdown is ignored; never raises for a source."""
        whole = View(view.range, view.start, view.end, view.step_seconds)
        flight = self._flights.under_way(whole)
        if flight is None:
            flight = self._flights.launch(whole, None, self._take(whole))
        return await flight.result()

    async def aclose(self) -> None:
        await self._flights.aclose()

    async def _take(self, view: View) -> bytes:
        flow = self._dashboard.flow
        if flow is None or not flow.has_history:
            return orjson.dumps({"state": State.EMPTY, "cause": _NO_HISTORY, "states": ""})
        source = await self._present.state(max_age_seconds=_STATE_SECONDS)
        grid = view.grid(source.now, source.scrapes.fastest_seconds)
        kept = self._kept.get(view)
        if kept is not None and self._is_good(kept, grid, source):
            return kept.body
        step = grid.step_seconds
        window_steps = -(-flow.window_seconds // step)
        both = source.resolution(step, flow.waiting, flow.completed)
        # A depth that is scraped rarely does not move between two scrapes.
        movement_steps = -(-max(MOVEMENT_SECONDS, 2 * both.scrape_interval_seconds) // step)
        window_steps = max(window_steps, movement_steps)
        wide = Grid(grid.start - window_steps * step, grid.end, step)
        templates = {_WAITING: flow.waiting, _COMPLETED: flow.completed}
        query = union(
            _LABEL, {name: self._filled(one, source, step) for name, one in templates.items()}
        )
        reading = await self._reader.read(
            query,
            wide,
            source_now=source.now,
            epoch=source.epoch,
            late_seconds=both.unsettled_seconds,
        )
        body = orjson.dumps(_content(reading, grid, wide, window_steps, movement_steps))
        settled = source.now >= (grid.end + both.newest_after_seconds + _SETTLING_SECONDS)
        if reading.state is State.FRESH and settled:
            self._kept[view] = _Kept(grid, source.epoch, self._clock(), body)
        return body

    def _filled(self, template: str, source: SourceState, step_seconds: int) -> str:
        resolution = source.resolution(step_seconds, template)
        return render(template, resolution, self._matchers)

    def _is_good(self, kept: _Kept, grid: Grid, source: SourceState) -> bool:
        same = (kept.grid, kept.epoch) == (grid, source.epoch) and source.error is None
        return same and 0 <= self._clock() - kept.read_at < RECHECK_SECONDS


def _content(
    reading: Reading, grid: Grid, wide: Grid, window_steps: int, movement_steps: int
) -> dict[str, Any]:
    frame = Frame.empty(wide) if reading.frame is None else reading.frame
    frame = Frame.assembled(wide, [frame])
    rows = parts_of(_LABEL, zip(frame.series, frame.values, strict=True))
    waiting, completed = _only(rows.get(_WAITING, [])), _only(rows.get(_COMPLETED, []))
    if waiting is None or completed is None:
        cause = reading.cause or "Prometheus counts no jobs that are completed in this range."
        state = reading.state if reading.state is State.UNAVAILABLE else State.EMPTY
        return {"state": state, "cause": cause, "states": ""}
    found = drain_history(
        waiting,
        completed,
        step_seconds=grid.step_seconds,
        window_steps=window_steps,
        movement_steps=movement_steps,
    )
    return {
        "state": reading.state,
        "cause": reading.cause,
        "asOf": reading.as_of,
        "from": grid.start,
        "step": grid.step_seconds,
        "windows": found.window_seconds.tolist(),
        "windowWords": {
            str(seconds): duration_words(seconds)
            for seconds in np.unique(found.window_seconds).tolist()
        },
        **_packed(found),
    }


def _packed(found: DrainHistory) -> dict[str, Any]:
    return {
        "states": "".join(LETTERS[state] for state in found.states),
        "arrivedPerMinute": encode_values(found.arrival_per_second * _MINUTE),
        "completedPerMinute": encode_values(found.completion_per_second * _MINUTE),
    }


def _only(series: Sequence[tuple[Labels, Floats]]) -> Floats | None:
    """The values of the only series; None if there is none, or more than one."""
    return series[0][1] if len(series) == 1 else None
