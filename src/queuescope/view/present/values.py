"""The present values: the same for every view and card, so asked for once for all of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from queuescope.errors import SourceError
from queuescope.panels import Dashboard
from queuescope.prometheus import PrometheusClient
from queuescope.view.present.coverage import Coverage
from queuescope.view.present.questions import (
    ABOUT_THE_QUESTION,
    Answers,
    Asker,
    Present,
    Question,
    figures_of,
    flow_of,
    present_by,
)
from queuescope.view.source.lateness import Lateness
from queuescope.view.source.probe import Probe
from queuescope.view.source.scrapes import Scrapes, metrics_of

logger = logging.getLogger(__name__)

SHARED_SECONDS = 1.0
"""Who wants nothing older still shares what somebody asked for a moment ago."""

_REFUSED_KEPT_SECONDS = 60.0


class PresentValues:
    """Asks for all present values in one question, which tells the source's time besides."""

    def __init__(
        self,
        client: PrometheusClient,
        probe: Probe,
        dashboard: Dashboard,
        lateness: Lateness,
        *,
        matchers: str,
        clock: Callable[[], float],
    ) -> None:
        self._coverage = Coverage(dashboard, clock)
        self._asker = Asker(client, matchers=matchers, clock=clock)
        self._probe = probe
        self._lateness = lateness
        self._questions = (*figures_of(dashboard), *flow_of(dashboard))
        self._names = frozenset(question.name for question in self._questions)
        self._rates = [present_by(m) for m in dashboard.measures if m.is_rate]
        self._clock = clock
        self._found: dict[str, Present] = {}
        self._refused: dict[str, float] = {}
        self._asked_at = float("-inf")
        self._asked_behind = 0.0
        self._source_now: float | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def asked_at(self) -> float:
        """When they were last asked for (our clock); minus infinity before that."""
        return self._asked_at

    @property
    def source_now(self) -> float | None:
        """The source's time in the newest answer; None when the newest question had none."""
        return self._source_now

    def of(self, name: str) -> Present:
        """The figure of that name; while the source is away the last one, with its time."""
        return self._found.get(name, Present())

    def covered(self, now: float, window_seconds: float) -> float:
        """Over how many seconds up to ``now`` (source time) jobs were counted, of a window."""
        return self._coverage.covered(now, window_seconds)

    def is_young(self, max_age_seconds: float) -> bool:
        """Whether they were asked for no longer ago than that, or a moment ago."""
        age = self._clock() - self._asked_at
        return 0 <= age <= max_age_seconds or 0 <= age < SHARED_SECONDS

    async def renew(
        self,
        scrapes: Scrapes,
        *,
        max_age_seconds: float = SHARED_SECONDS,
        patience_seconds: float | None = None,
    ) -> None:
        """Ask now, unless they are young enough; waits for the answer, or as long as ``patience``.

        Those of another moment than all of the page is of now are asked for again. Should the
        source refuse the one question, each figure asks its own, so that none takes the others
        along. What cannot be read stays as it was, with its time and the cause.
        """
        behind = scrapes.late.behind_seconds
        is_enough = self.is_young(max_age_seconds) and behind == self._asked_behind
        if (self._task is None or self._task.done()) and not is_enough:
            self._asked_at, self._asked_behind = self._clock(), behind
            self._task = asyncio.create_task(self._ask(scrapes))
        if self._task is not None:
            await asyncio.wait([self._task], timeout=patience_seconds)

    async def aclose(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _ask(self, scrapes: Scrapes) -> None:
        asked_at = self._clock()
        self._source_now = None
        # What was refused a moment ago would only have all the others refused again.
        questions = [q for q in self._questions if not self._was_refused(q.name)]
        try:
            answers = await self._answers(questions, scrapes)
        except SourceError as exc:
            logger.warning("cannot read the present values: %s (%s)", exc, exc.detail)
            for question in self._questions:
                self._fail(question.name, exc)
            return
        self._found.update(answers.found)
        for name, error in answers.failed.items():
            logger.warning("cannot read the present %s: %s (%s)", name, error, error.detail)
            self._fail(name, error)
            if error.kind in ABOUT_THE_QUESTION:
                self._refused[name] = self._clock()
        self._source_now = answers.at
        # A moment that was asked for is not the time that it is there.
        if answers.at is not None and not answers.failed and not scrapes.late.behind_seconds:
            self._probe.told(answers.at, asked_at, self._clock())

    async def _answers(self, questions: Sequence[Question], scrapes: Scrapes) -> Answers:
        """The answers over what there is; asked for once more where that was not known before."""
        behind = scrapes.late.behind_seconds
        now = self._clock() + self._probe.contact.offset_seconds - behind
        covered = self._coverage.questions(scrapes, now)
        newest = self._lateness.questions(scrapes)
        narrowed = self._coverage.narrowed(scrapes, now)
        on_time = [q for q in questions if not _more_late(q, scrapes)]
        later = [q for q in questions if _more_late(q, scrapes)]
        moment = now if behind else None
        answers = await self._asker.ask([*on_time, *covered, *newest], narrowed, moment)
        at, found = answers.at, dict(answers.found)
        if at is None:
            return answers
        if newest:
            self._lateness.told(found, at)
        is_news = bool(covered) and self._coverage.learn(found, scrapes, at)
        if any(self._coverage.is_back(found[name]) for name in self._rates if name in found):
            alone = self._coverage.questions_now(scrapes, at)
            told = await self._asker.ask(alone, narrowed, at)
            is_news |= self._coverage.learn(dict(told.found), scrapes, at)
        if is_news:
            narrowed = self._coverage.narrowed(scrapes, at)
            answers = await self._asker.ask(on_time, narrowed, at)
            found = dict(answers.found)
        if behind:
            found = {name: replace(one, late_seconds=behind) for name, one in found.items()}
        if later:
            late = await self._late(later, narrowed, at)
            found |= late.found
            answers = replace(answers, failed={**answers.failed, **late.failed})
        failed = {name: e for name, e in answers.failed.items() if name in self._names}
        return Answers(at, found, failed)

    async def _late(self, questions: Sequence[Question], scrapes: Scrapes, at: float) -> Answers:
        """The figures of metrics that are later than the others, each of its own moment."""
        found: dict[str, Present] = {}
        failed: dict[str, SourceError] = {}
        for more in sorted({_more_late(question, scrapes) for question in questions}):
            chosen = [q for q in questions if _more_late(q, scrapes) == more]
            answers = await self._asker.ask(chosen, scrapes, at - more)
            late = scrapes.late.behind_seconds + more
            found |= {n: replace(one, late_seconds=late) for n, one in answers.found.items()}
            failed |= answers.failed
        return Answers(at, found, failed)

    def _was_refused(self, name: str) -> bool:
        at = self._refused.get(name, float("-inf"))
        return 0 <= self._clock() - at < _REFUSED_KEPT_SECONDS

    def _fail(self, name: str, error: SourceError) -> None:
        self._found[name] = replace(self.of(name), cause=str(error))


def _more_late(question: Question, scrapes: Scrapes) -> float:
    """By how many seconds the samples of ``question`` are later than those of all the page."""
    return scrapes.late.more_seconds(metrics_of(question.template))
