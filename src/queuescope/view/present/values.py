"""The present values, the same for every view and card, fetched once for all of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace

from queuescope.errors import SourceError
from queuescope.known import Known
from queuescope.view.present.coverage import Coverage
from queuescope.view.present.fetcher import ABOUT_THE_QUERY, Answers, PresentFetcher
from queuescope.view.present.present_value import PresentValue
from queuescope.view.present.queries import (
    PresentQuery,
    figure_queries,
    flow_queries,
    present_name,
)
from queuescope.view.source.scrapes import Scrapes, metrics_of
from queuescope.view.source.source import Source
from queuescope.view.source.state import Contact, SourceState, contact_of

logger = logging.getLogger(__name__)

SHARED_SECONDS = 1.0
"""Requests for the newest values still share values that are this young."""

PRESENT_PATIENCE_SECONDS = 0.5
"""How long other reads wait for the present values. After that a source that hangs, or needs long
for them, is asked a query that costs nothing.
"""

_REFUSED_KEPT_SECONDS = 60.0
_NEWEST = "newest:"


class PresentValues:
    """Fetches all present values of ``source`` in one query, which also returns its time."""

    def __init__(self, source: Source) -> None:
        dashboard, clock = source.dashboard, source.clock
        self._source = source
        self._coverage = Coverage(dashboard, clock)
        self._fetcher = PresentFetcher(source.client, matchers=source.matchers, clock=clock)
        self._queries = (*figure_queries(dashboard), *flow_queries(dashboard))
        self._names = frozenset(query.name for query in self._queries)
        self._rates = [present_name(m) for m in dashboard.measures if m.is_rate]
        self._clock = clock
        self._found: dict[str, PresentValue] = {}
        self._refused: dict[str, float] = {}
        self._asked_at = float("-inf")
        self._asked_behind = 0.0
        self._source_now: float | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def source(self) -> Source:
        return self._source

    @property
    def asked_at(self) -> float:
        """When they were last fetched (our clock); minus infinity before the first time."""
        return self._asked_at

    def of(self, name: str) -> PresentValue:
        """The value of that name; while the source is away, the last one with its time."""
        return self._found.get(name, PresentValue())

    def covered(self, now: float, window_seconds: float) -> float:
        """How many seconds of the window that ends at ``now`` (source time) have job counts."""
        return self._coverage.covered(now, window_seconds)

    def is_young(self, max_age_seconds: float) -> bool:
        """Whether they are at most ``max_age_seconds`` old, or were fetched a moment ago."""
        age = self._clock() - self._asked_at
        return 0 <= age <= max_age_seconds or 0 <= age < SHARED_SECONDS

    async def renew_contact(self, *, anew: bool) -> Known[Contact]:
        """The present contact with the source. Normally it comes from the answer with the present
        values; with ``anew`` the source is asked for it.
        """
        if self._source.contact.is_fresh and not anew and self._source.is_learnt:
            await self._renew(SHARED_SECONDS, PRESENT_PATIENCE_SECONDS)
        contact = await self._source.renew_contact()
        await self._source.learn(contact)
        return contact

    async def renew(
        self, contact: Known[Contact], *, max_age_seconds: float = SHARED_SECONDS
    ) -> None:
        """Fetch them, unless they are young enough or the source is away, and wait for
        the answer.
        """
        if contact.error is None:
            await self._renew(max_age_seconds, None)

    def state_of(self, contact: Known[Contact], max_age_seconds: float) -> SourceState:
        """The source at the time of a reading: that of the present values if they are young, so
        that everything of one instant is read once.
        """
        scrapes, now = self._source.scrapes, self._source_now
        is_of_them = contact.error is None and self.is_young(max_age_seconds)
        if now is None or not is_of_them:
            ours = self._clock() - scrapes.late.behind_seconds
            now = ours + contact_of(contact).offset_seconds
        return SourceState(now, scrapes, contact)

    async def state(self, *, max_age_seconds: float) -> SourceState:
        """The source as of the newest present values, which are at most ``max_age_seconds`` old
        when this returns, unless the source failed.
        """
        contact = self._source.contact
        if contact.error is None and self.is_young(max_age_seconds):
            await self._source.learn(contact)
        else:
            contact = await self.renew_contact(anew=max_age_seconds <= SHARED_SECONDS)
        await self.renew(contact, max_age_seconds=max_age_seconds)
        return self.state_of(self._source.contact, max_age_seconds)

    async def aclose(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _renew(self, max_age_seconds: float, patience_seconds: float | None) -> None:
        """Fetch them, unless they are young enough; wait at most ``patience_seconds`` for the
        answer.

        Values of another time than the page's are fetched again. If the source rejects the joint
        query, each value is queried alone, so that one bad query does not affect the others. A
        value that cannot be read keeps its last state, with its time and the cause.
        """
        scrapes = self._source.scrapes
        behind = scrapes.late.behind_seconds
        is_enough = self.is_young(max_age_seconds) and behind == self._asked_behind
        if (self._task is None or self._task.done()) and not is_enough:
            self._asked_at, self._asked_behind = self._clock(), behind
            self._task = asyncio.create_task(self._fetch(scrapes))
        if self._task is not None:
            await asyncio.wait([self._task], timeout=patience_seconds)

    async def _fetch(self, scrapes: Scrapes) -> None:
        asked_at = self._clock()
        self._source_now = None
        # A query that was rejected a moment ago would only get the others rejected again.
        queries = [q for q in self._queries if not self._was_refused(q.name)]
        try:
            answers = await self._answers(queries, scrapes)
        except SourceError as exc:
            logger.warning("cannot read the present values: %s (%s)", exc, exc.detail)
            for query in self._queries:
                self._fail(query.name, exc, asked_at)
            return
        self._found.update(answers.found)
        for name, error in answers.failed.items():
            logger.warning("cannot read the present %s: %s (%s)", name, error, error.detail)
            self._fail(name, error, asked_at)
            if error.kind in ABOUT_THE_QUERY:
                self._refused[name] = self._clock()
        self._source_now = answers.at
        # A time that we chose says nothing about the source's clock.
        if answers.at is not None and not answers.failed and not scrapes.late.behind_seconds:
            self._source.note_answer(answers.at, asked_at, self._clock())

    async def _answers(self, queries: Sequence[PresentQuery], scrapes: Scrapes) -> Answers:
        """The answers over windows that have data; fetched once more if these were not known
        before.
        """
        behind = scrapes.late.behind_seconds
        now = self._source.now - behind
        coverage = self._coverage.queries(scrapes, now)
        newest = self._newest_queries(scrapes)
        narrowed = self._coverage.narrowed(scrapes, now)
        on_time = [q for q in queries if not _more_late(q, scrapes)]
        later = [q for q in queries if _more_late(q, scrapes)]
        moment = now if behind else None
        answers = await self._fetcher.fetch([*on_time, *coverage, *newest], narrowed, moment)
        at, found = answers.at, dict(answers.found)
        if at is None:
            return answers
        if newest:
            self._note_newest(found, at)
        is_news = bool(coverage) and self._coverage.learn(found, scrapes, at)
        if any(self._coverage.is_back(found[name]) for name in self._rates if name in found):
            alone = self._coverage.queries_now(scrapes, at)
            again = await self._fetcher.fetch(alone, narrowed, at)
            is_news |= self._coverage.learn(dict(again.found), scrapes, at)
        if is_news:
            narrowed = self._coverage.narrowed(scrapes, at)
            answers = await self._fetcher.fetch(on_time, narrowed, at)
            found = dict(answers.found)
        if behind:
            found = {name: replace(one, late_seconds=behind) for name, one in found.items()}
        if later:
            late = await self._late(later, narrowed, at)
            found |= late.found
            answers = replace(answers, failed={**answers.failed, **late.failed})
        failed = {name: e for name, e in answers.failed.items() if name in self._names}
        return Answers(at, found, failed)

    def _newest_queries(self, scrapes: Scrapes) -> tuple[PresentQuery, ...]:
        """The queries for the time of the newest samples, which shows how late they arrive."""
        templates = self._source.lateness.templates(scrapes)
        return tuple(
            PresentQuery(f"{_NEWEST}{name}", None, text) for name, text in templates.items()
        )

    def _note_newest(self, found: dict[str, PresentValue], at: float) -> None:
        """Take the answers to ``_newest_queries``, which are as of ``at``, out of ``found``."""
        names = [name for name in found if name.startswith(_NEWEST)]
        if not names:
            self._source.lateness.note_refusal()
            return
        newest = {name.removeprefix(_NEWEST): found.pop(name).value for name in names}
        known = {name: value for name, value in newest.items() if value is not None}
        self._source.lateness.note_newest(known, at)

    async def _late(self, queries: Sequence[PresentQuery], scrapes: Scrapes, at: float) -> Answers:
        """The values of metrics that are later than the others, each at its own time."""
        found: dict[str, PresentValue] = {}
        failed: dict[str, SourceError] = {}
        for more in sorted({_more_late(query, scrapes) for query in queries}):
            chosen = [q for q in queries if _more_late(q, scrapes) == more]
            answers = await self._fetcher.fetch(chosen, scrapes, at - more)
            late = scrapes.late.behind_seconds + more
            found |= {n: replace(one, late_seconds=late) for n, one in answers.found.items()}
            failed |= answers.failed
        return Answers(at, found, failed)

    def _was_refused(self, name: str) -> bool:
        at = self._refused.get(name, float("-inf"))
        return 0 <= self._clock() - at < _REFUSED_KEPT_SECONDS

    def _fail(self, name: str, error: SourceError, asked_at: float) -> None:
        self._found[name] = self.of(name).failed(error, asked_at)


def _more_late(query: PresentQuery, scrapes: Scrapes) -> float:
    """By how many seconds the samples of ``query`` are later than those of the whole page."""
    return scrapes.late.more_seconds(metrics_of(query.template))
