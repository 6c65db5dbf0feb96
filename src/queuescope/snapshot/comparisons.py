"""What the cards compare their figures with: the same time yesterday and last week."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from queuescope.errors import SourceError
from queuescope.panels import Dashboard, Measure
from queuescope.panels.model import RECENT_SECONDS
from queuescope.prometheus import PrometheusClient
from queuescope.snapshot.bearings import Bearings
from queuescope.snapshot.days import STEP_SECONDS, DayShares
from queuescope.snapshot.questions import Asker, shown_by, shown_of

_log = logging.getLogger(__name__)

COMPARED = {"yesterday": 86_400, "last week": 7 * 86_400}
"""How many seconds ago that was."""

# What is past is asked for four times an hour; with all buckets once is enough.
_WHOLE_SECONDS = 3_600.0


@dataclass(frozen=True, slots=True)
class _Then:
    """The figures as of ``at`` (source time), by name; ``names`` are those that were asked for."""

    at: int
    names: tuple[str, ...]
    found: dict[str, float]


class Comparisons:
    """Asks for the figures of then, once for each quarter of an hour: what is past stays so."""

    def __init__(
        self,
        client: PrometheusClient,
        shares: DayShares,
        dashboard: Dashboard,
        *,
        matchers: str,
        clock: Callable[[], float],
    ) -> None:
        # Each with its own: the buckets that were enough a quarter of an hour before are so again.
        self._askers = {
            name: Asker(
                client, dashboard, matchers=matchers, clock=clock, whole_seconds=_WHOLE_SECONDS
            )
            for name in COMPARED
        }
        self._shares = shares
        self._measures = dashboard.measures
        self._then: dict[str, _Then] = {}
        self._day_shares: dict[str, dict[str, float | None]] = {}

    def of(self, name: str, measure: Measure) -> float | None:
        """The card's figure at the time that ``COMPARED`` calls ``name``; None: not known."""
        share = self._day_shares.get(name, {}).get(measure.id)
        then = self._then.get(name)
        return share if share is not None or then is None else then.found.get(shown_by(measure))

    async def renew(self, bearings: Bearings) -> None:
        """Bring the figures up to the present quarter of an hour; never raises for a source."""
        if bearings.error is None:
            await asyncio.gather(*(self._renew(name, bearings) for name in COMPARED))

    async def _renew(self, name: str, bearings: Bearings) -> None:
        ago = COMPARED[name]
        self._day_shares[name] = {
            measure.id: await self._shares.then(measure, measure.share, bearings, ago)
            for measure in self._measures
            if measure.share is not None
        }
        at = int(bearings.source_now // STEP_SECONDS) * STEP_SECONDS - ago
        asked = [
            question
            for measure in self._measures
            for question in (shown_of(measure),)
            if measure.share is None or not self._shares.are_added_up(measure)
        ]
        questions = list({question.name: question for question in asked}.values())
        names = tuple(question.name for question in questions)
        held = self._then.get(name)
        if held is not None and (held.at, held.names) == (at, names):
            return
        try:
            recent = bearings.resolution(RECENT_SECONDS)
            answers = await self._askers[name].ask(questions, recent, at)
        except SourceError as exc:
            # The card says that there is nothing to compare with.
            _log.warning("cannot compare with %s: %s (%s)", name, exc, exc.detail)
            self._then.pop(name, None)
            return
        for figure, error in answers.failed.items():
            _log.warning("cannot compare %s: %s (%s)", figure, error, error.detail)
        # Half an answer is none.
        found = {
            figure: present.value
            for figure, present in answers.found.items()
            if present.value is not None and not present.warnings
        }
        self._then[name] = _Then(at, names, found)
