"""The present value of each panel: the same for every view, so asked for once for all of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from queuescope.errors import ConfigurationError, SourceError, SourceErrorKind
from queuescope.figures import curves_of, value_words
from queuescope.panels import RANKED_QUANTILE, Dashboard, Panel, Resolution
from queuescope.prometheus import PrometheusClient
from queuescope.prometheus.wire import InstantAnswer
from queuescope.snapshot.probe import Probe
from queuescope.timeseries import Frame, Grid

_log = logging.getLogger(__name__)

_SHARED_SECONDS = 1.0
_PANEL_LABEL = "queuescope_panel"


@dataclass(frozen=True, slots=True)
class _Now:
    """The present value of a panel, and when it was so (source time)."""

    value: float
    as_of: float


class PresentValues:
    """Asks for all present values in one question, which tells the source's time besides."""

    def __init__(
        self,
        client: PrometheusClient,
        probe: Probe,
        dashboard: Dashboard,
        *,
        matchers: str,
        clock: Callable[[], float],
    ) -> None:
        self._client = client
        self._probe = probe
        self._dashboard = dashboard
        self._matchers = matchers
        self._clock = clock
        self._values: dict[str, _Now] = {}
        self._asked_at = float("-inf")
        self._task: asyncio.Task[None] | None = None

    async def renew(self, resolution: Resolution, *, patience_seconds: float | None = None) -> None:
        """Ask now, unless somebody just did; waits for the answer, or as long as ``patience``.

        Should the source refuse the one question, each panel asks its own, so that none takes the
        others along. What cannot be read stays as it was, with its time.
        """
        just_asked = 0 <= self._clock() - self._asked_at < _SHARED_SECONDS
        if self._task is None and not just_asked:
            self._asked_at = self._clock()
            self._task = asyncio.create_task(self._ask(resolution))
            self._task.add_done_callback(self._answered)
        if self._task is not None:
            await asyncio.wait([self._task], timeout=patience_seconds)

    def words(self) -> dict[str, dict[str, Any]]:
        """By panel; while the source is away the last ones, with their time (source time)."""
        return {
            panel.id: {"words": value_words(panel.kind, now.value), "asOf": now.as_of}
            for panel in self._dashboard.panels
            if (now := self._values.get(panel.id)) is not None
        }

    async def aclose(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def _answered(self, _task: asyncio.Task[None]) -> None:
        self._task = None

    async def _ask(self, resolution: Resolution) -> None:
        panels = self._dashboard.panels
        asked_at = self._clock()
        try:
            source_now = await self._ask_for(panels, resolution)
        except SourceError as exc:
            if exc.kind in (SourceErrorKind.BAD_DATA, SourceErrorKind.EXECUTION):
                await asyncio.gather(*(self._ask_alone(p, resolution) for p in panels))
            else:
                _log.warning("cannot read the present values: %s (%s)", exc, exc.detail)
        else:
            self._probe.told(source_now, asked_at, self._clock())

    async def _ask_alone(self, panel: Panel, resolution: Resolution) -> None:
        try:
            await self._ask_for((panel,), resolution)
        except SourceError as exc:
            _log.warning("cannot read the present %s: %s (%s)", panel.title, exc, exc.detail)

    async def _ask_for(self, panels: tuple[Panel, ...], resolution: Resolution) -> float:
        """Take in the values of ``panels``, and return the source's time."""
        parts = [
            f"label_replace(({panel.render(panel.now, resolution, self._matchers, None)}), "
            f'"{_PANEL_LABEL}", "{panel.id}", "", "")'
            for panel in panels
        ]
        # Without labels, so that it stands beside whatever the panels give, were it nothing.
        answer = await self._client.query(" or ".join([*parts, "vector(0)"]))
        source_now = next((s.timestamp for s in answer.samples if not s.labels), None)
        if source_now is None:
            raise SourceError(
                SourceErrorKind.DECODE,
                "Prometheus sent an answer that cannot be read",
                detail="vector(0) gave no sample",
            )
        for panel in panels:
            self._take_in(panel, answer, source_now)
        return source_now

    def _take_in(self, panel: Panel, answer: InstantAnswer, source_now: float) -> None:
        mine = [s for s in answer.samples if dict(s.labels).get(_PANEL_LABEL) == panel.id]
        labels = tuple(tuple(pair for pair in s.labels if pair[0] != _PANEL_LABEL) for s in mine)
        at = Grid(int(source_now), int(source_now), 1)
        frame = Frame(at, labels, np.array([s.value for s in mine]).reshape(-1, 1))
        try:
            curves = curves_of(panel, frame, None, 1).curves
        except ConfigurationError:
            # Its chart says why.
            self._values.pop(panel.id, None)
            return
        values = [float(curve.values[0]) for curve in curves]
        value = values[panel.quantiles.index(RANKED_QUANTILE)] if panel.quantiles else values[0]
        if np.isfinite(value):
            self._values[panel.id] = _Now(value, source_now)
        else:
            self._values.pop(panel.id, None)
