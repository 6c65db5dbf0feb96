"""The present values: the same for every view and card, so asked for once for all of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from queuescope.errors import ConfigurationError, SourceError, SourceErrorKind
from queuescope.panels import Dashboard, Resolution
from queuescope.prometheus import PrometheusClient
from queuescope.snapshot.probe import Probe
from queuescope.snapshot.questions import (
    Question,
    ask_together,
    figures_of,
    flow_of,
    read_figure,
)

_log = logging.getLogger(__name__)

SHARED_SECONDS = 1.0
"""Who wants nothing older still shares what somebody asked for a moment ago."""

_REFUSED_KEPT_SECONDS = 60.0
_ABOUT_THE_QUESTION = (SourceErrorKind.BAD_DATA, SourceErrorKind.EXECUTION)


@dataclass(frozen=True, slots=True)
class Present:
    """One figure as of the newest question that was answered.

    ``value`` None: the source has no sample for it; NaN: nothing happened that could be measured.
    ``as_of`` (source time) is when it was so, None before any answer. ``cause`` says why there is
    nothing newer, empty where there need not be; ``warnings`` are the source's words for an answer
    that may be incomplete.
    """

    value: float | None = None
    as_of: float | None = None
    cause: str = ""
    warnings: tuple[str, ...] = ()


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
        self._questions = (*figures_of(dashboard), *flow_of(dashboard))
        self._filler = dashboard.panels[0]
        self._matchers = matchers
        self._clock = clock
        self._found: dict[str, Present] = {}
        self._refused: dict[str, float] = {}
        self._asked_at = float("-inf")
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

    def is_young(self, max_age_seconds: float) -> bool:
        """Whether they were asked for no longer ago than that, or a moment ago."""
        age = self._clock() - self._asked_at
        return 0 <= age <= max_age_seconds or 0 <= age < SHARED_SECONDS

    async def renew(
        self,
        resolution: Resolution,
        *,
        max_age_seconds: float = SHARED_SECONDS,
        patience_seconds: float | None = None,
    ) -> None:
        """Ask now, unless they are young enough; waits for the answer, or as long as ``patience``.

        Should the source refuse the one question, each figure asks its own, so that none takes the
        others along. What cannot be read stays as it was, with its time and the cause.
        """
        if self._task is None and not self.is_young(max_age_seconds):
            self._asked_at = self._clock()
            self._task = asyncio.create_task(self._ask(resolution))
            self._task.add_done_callback(self._answered)
        if self._task is not None:
            await asyncio.wait([self._task], timeout=patience_seconds)

    async def aclose(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def _answered(self, _task: asyncio.Task[None]) -> None:
        self._task = None

    async def _ask(self, resolution: Resolution) -> None:
        asked_at = self._clock()
        self._source_now = None
        # What was refused a moment ago would only have all the others refused again.
        questions = [q for q in self._questions if not self._was_refused(q.name)]
        try:
            source_now = await self._ask_for(questions, resolution)
        except SourceError as exc:
            if exc.kind in _ABOUT_THE_QUESTION:
                await asyncio.gather(*(self._ask_alone(q, resolution) for q in questions))
            else:
                _log.warning("cannot read the present values: %s (%s)", exc, exc.detail)
                for question in self._questions:
                    self._fail(question.name, str(exc))
        else:
            self._source_now = source_now
            self._probe.told(source_now, asked_at, self._clock())

    def _was_refused(self, name: str) -> bool:
        at = self._refused.get(name, float("-inf"))
        return 0 <= self._clock() - at < _REFUSED_KEPT_SECONDS

    async def _ask_alone(self, question: Question, resolution: Resolution) -> None:
        try:
            await self._ask_for([question], resolution)
        except SourceError as exc:
            _log.warning("cannot read the present %s: %s (%s)", question.name, exc, exc.detail)
            self._fail(question.name, str(exc))
            if exc.kind in _ABOUT_THE_QUESTION:
                self._refused[question.name] = self._clock()

    def _fail(self, name: str, cause: str) -> None:
        self._found[name] = replace(self.of(name), cause=cause)

    async def _ask_for(self, questions: Sequence[Question], resolution: Resolution) -> float:
        """Take in the answers to ``questions``, and return the source's time."""
        answer = await ask_together(
            self._client, questions, lambda text: self._filled(text, resolution)
        )
        for question in questions:
            try:
                value = read_figure(question, answer)
            except ConfigurationError as exc:
                self._found[question.name] = Present(None, None, str(exc))
            else:
                self._found[question.name] = Present(value, answer.at, warnings=answer.warnings)
        return answer.at

    def _filled(self, template: str, resolution: Resolution) -> str:
        return self._filler.render(template, resolution, self._matchers, None)
