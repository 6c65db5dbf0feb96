"""What the cards compare their figures with: the same time yesterday and last week."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from queuescope.errors import SourceError
from queuescope.panels import Dashboard, Measure
from queuescope.prometheus import PrometheusClient
from queuescope.view.overview.days import STEP_SECONDS
from queuescope.view.present.questions import Asker, Present, present_by, present_of
from queuescope.view.source.state import Bearings

logger = logging.getLogger(__name__)

COMPARED = {"yesterday": 86_400, "last week": 7 * 86_400}
"""How many seconds ago that was."""

# What is past is asked for four times an hour; with all buckets once is enough.
_WHOLE_SECONDS = 3_600.0


@dataclass(frozen=True, slots=True)
class _Then:
    """The figures as of ``at`` (source time), by name."""

    at: int
    found: dict[str, Present]


class Comparisons:
    """Asks for the figures of then, once for each quarter of an hour: what is past stays so."""

    def __init__(
        self,
        client: PrometheusClient,
        dashboard: Dashboard,
        *,
        matchers: str,
        clock: Callable[[], float],
    ) -> None:
        # Each with its own: the buckets that were enough a quarter of an hour before are so again.
        self._askers = {
            name: Asker(client, matchers=matchers, clock=clock, whole_seconds=_WHOLE_SECONDS)
            for name in COMPARED
        }
        self._questions = tuple(present_of(dashboard, one) for one in dashboard.measures)
        self._then: dict[str, _Then] = {}

    def of(self, name: str, measure: Measure) -> Present:
        """The card's figure at the time that ``COMPARED`` calls ``name``."""
        then = self._then.get(name)
        return Present() if then is None else then.found.get(present_by(measure), Present())

    async def renew(self, bearings: Bearings) -> None:
        """Bring the figures up to the present quarter of an hour; never raises for a source."""
        if bearings.error is None:
            await asyncio.gather(*(self._renew(name, bearings) for name in COMPARED))

    async def _renew(self, name: str, bearings: Bearings) -> None:
        ago = COMPARED[name]
        at = int(bearings.source_now // STEP_SECONDS) * STEP_SECONDS - ago
        held = self._then.get(name)
        if held is not None and held.at == at:
            return
        try:
            answers = await self._askers[name].ask(self._questions, bearings.scrapes, at)
        except SourceError as exc:
            # The card says that there is nothing to compare with.
            logger.warning("cannot compare with %s: %s (%s)", name, exc, exc.detail)
            self._then.pop(name, None)
            return
        for figure, error in answers.failed.items():
            logger.warning("cannot compare %s: %s (%s)", figure, error, error.detail)
        # Half an answer is none.
        found = {
            figure: present
            for figure, present in answers.found.items()
            if present.value is not None and not present.warnings
        }
        self._then[name] = _Then(at, found)
