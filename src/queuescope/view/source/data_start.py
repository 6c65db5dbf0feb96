"""Where within a range the data starts, so that the time before is not taken for an idle one."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from queuescope.errors import SourceError
from queuescope.panels import Panel
from queuescope.prometheus import PrometheusClient
from queuescope.prometheus.promql import selector
from queuescope.timeseries import Frame, Grid, sampled
from queuescope.view.source.sample_extent import oldest_sample

_DAY = 86_400
_FEWEST_DAYS = 30
_MOST_DAYS = 400
_KEPT_SECONDS = 3_600.0
_FAILED_KEPT_SECONDS = 60.0


def searched_days(grid: Grid, now: float) -> int:
    """How many days before ``now`` have to be searched to include some time before ``grid``."""
    needed = math.ceil((now - grid.start) / _DAY) + 1
    return min(max(needed, _FEWEST_DAYS), _MOST_DAYS)


class DataStarts:
    """Finds the oldest samples, and keeps the result for a while, since it takes a search."""

    def __init__(
        self, client: PrometheusClient, *, matchers: str, clock: Callable[[], float]
    ) -> None:
        self._client = client
        self._matchers = matchers
        self._clock = clock
        self._known: dict[tuple[str, int], tuple[float, float | None]] = {}

    async def within(self, panel: Panel, frame: Frame, now: float) -> float | None:
        """When the samples of ``panel`` begin, if that is within the range of ``frame``.

        None if there are older samples, such as before a gap, if nothing is missing at the start of
        the range, or if the search failed. ``now`` is by the source's clock.
        """
        seen = np.flatnonzero(sampled(frame.values).any(axis=0))
        if not seen.size or seen[0] == 0:
            return None
        start = await self._start(panel, searched_days(frame.grid, now), now)
        return start if start is not None and start > frame.grid.start else None

    async def _start(self, panel: Panel, days: int, now: float) -> float | None:
        key = (panel.id, days)
        kept_until, start = self._known.get(key, (float("-inf"), None))
        if 0 <= kept_until - self._clock() <= _KEPT_SECONDS:
            return start
        try:
            found = [
                await oldest_sample(self._client, selector(name, self._matchers), now, days)
                for name in panel.all_metrics
            ]
        except SourceError:
            # The chart is shown without the note, and the search is repeated soon.
            self._known[key] = (self._clock() + _FAILED_KEPT_SECONDS, None)
            return None
        start = min((at for at in found if at is not None), default=None)
        self._known[key] = (self._clock() + _KEPT_SECONDS, start)
        return start
