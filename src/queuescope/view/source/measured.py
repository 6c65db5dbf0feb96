"""Which measures a source has ever had: one that it never had is not measured here, which is no
failure; losing one is.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable

from queuescope.errors import SourceError
from queuescope.panels import Measure
from queuescope.prometheus import PrometheusClient
from queuescope.prometheus.promql import selector
from queuescope.view.source.sample_extent import newest_sample
from queuescope.view.source.state import SourceState

logger = logging.getLogger(__name__)

MEASURED_WITHIN_DAYS = 30
_KEPT_SECONDS = 600.0


class MeasuredHere:
    """Finds out for which measures Prometheus has had a sample in the last
    ``MEASURED_WITHIN_DAYS``.

    Only measures without a present sample are searched, and the answer is kept for ten minutes;
    those seen since our start need no search.
    """

    def __init__(
        self, client: PrometheusClient, *, matchers: str, clock: Callable[[], float]
    ) -> None:
        self._client = client
        self._matchers = matchers
        self._clock = clock
        self._epoch: str | None = None
        self._measured: set[str] = set()
        self._never: dict[str, float] = {}

    def was_never_measured(self, measure: Measure) -> bool:
        """Whether the source is known to have never had a figure of ``measure``."""
        return measure.id in self._never

    async def renew(
        self, source: SourceState, lacking: Iterable[Measure], measured: Collection[str]
    ) -> None:
        """``measured`` are the ids of measures with a present figure, ``lacking`` the measures for
        which the source answered that there is none. Never raises for a source.
        """
        if source.epoch != self._epoch:
            # The address leads to other data now.
            self._epoch = source.epoch
            self._measured.clear()
            self._never.clear()
        self._measured.update(measured)
        for name in self._measured & self._never.keys():
            del self._never[name]
        if source.error is None:
            await asyncio.gather(*(self._look(one, source.now) for one in lacking))

    async def _look(self, measure: Measure, now: float) -> None:
        if measure.id in self._measured:
            return
        looked_at = self._never.get(measure.id, float("-inf"))
        if 0 <= self._clock() - looked_at < _KEPT_SECONDS:
            return
        try:
            is_sampled = await self._has_sample(measure, now)
        except SourceError as exc:
            # Until the search succeeds, the measure may be lost.
            logger.warning("cannot look for %s: %s (%s)", measure.id, exc, exc.detail)
            self._never.pop(measure.id, None)
            return
        if is_sampled:
            self._measured.add(measure.id)
            self._never.pop(measure.id, None)
        else:
            self._never[measure.id] = self._clock()

    async def _has_sample(self, measure: Measure, now: float) -> bool:
        """Each search may cover thirty days, so it ends with the first metric that has a sample."""
        for metric in measure.panel.all_metrics:
            where = selector(metric, self._matchers)
            if await newest_sample(self._client, where, now, MEASURED_WITHIN_DAYS) is not None:
                return True
        return False
