"""What the cards compare their figures with: the same time yesterday and last week."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from queuescope.errors import ConfigurationError, SourceError, SourceErrorKind
from queuescope.panels import Dashboard, Measure
from queuescope.panels.model import RECENT_SECONDS
from queuescope.prometheus import PrometheusClient
from queuescope.snapshot.bearings import Bearings
from queuescope.snapshot.days import STEP_SECONDS, Days, DayShares
from queuescope.snapshot.questions import (
    Question,
    ask_together,
    read_figure,
    shown_by,
    shown_of,
)

_log = logging.getLogger(__name__)

COMPARED = {"yesterday": 86_400, "last week": 7 * 86_400}
"""How many seconds ago that was."""


@dataclass(frozen=True, slots=True)
class _Then:
    """The figures as of ``at`` (source time), by name; ``names`` are those that were asked for."""

    at: int
    names: tuple[str, ...]
    found: dict[str, float]


class Comparisons:
    """Asks for the figures of then, once for each quarter of an hour: what is past stays so."""

    def __init__(
        self, client: PrometheusClient, days: Days, shares: DayShares, dashboard: Dashboard
    ) -> None:
        self._client = client
        self._days = days
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
            found = await self._ask(questions, bearings, at)
        except SourceError as exc:
            # The card says that there is nothing to compare with.
            _log.warning("cannot compare with %s: %s (%s)", name, exc, exc.detail)
            self._then.pop(name, None)
            return
        self._then[name] = _Then(at, names, found)

    async def _ask(
        self, questions: Sequence[Question], bearings: Bearings, at: float
    ) -> dict[str, float]:
        """The answers by name; half an answer is none.

        Should the source refuse the one question, each figure asks its own, so that none takes the
        others along.
        """
        try:
            return await self._ask_for(questions, bearings, at)
        except SourceError as exc:
            if exc.kind not in (SourceErrorKind.BAD_DATA, SourceErrorKind.EXECUTION):
                raise
        found: dict[str, float] = {}
        for question in questions:
            try:
                found |= await self._ask_for([question], bearings, at)
            except SourceError as exc:
                _log.warning("cannot read %s: %s (%s)", question.name, exc, exc.detail)
        return found

    async def _ask_for(
        self, questions: Sequence[Question], bearings: Bearings, at: float
    ) -> dict[str, float]:
        recent = bearings.resolution(RECENT_SECONDS)
        together = await ask_together(
            self._client, questions, lambda text: self._days.filled(text, recent), at
        )
        found = {}
        for question in () if together.warnings else questions:
            with contextlib.suppress(ConfigurationError):
                value = read_figure(question, together)
                if value is not None:
                    found[question.name] = value
        return found
