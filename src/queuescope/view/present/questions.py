"""Figures of now: how each is asked for, all of them in one question, and how it is read."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from queuescope.errors import ConfigurationError, SourceError, SourceErrorKind
from queuescope.figures import Bounds, curves_of, figure_words
from queuescope.panels import RANKED_QUANTILE, Dashboard, Ended, Kind, Measure, Panel, render
from queuescope.panels.native import classic_part
from queuescope.panels.template import RECENT_SECONDS
from queuescope.prometheus import PrometheusClient
from queuescope.prometheus.promql import parts_of, union
from queuescope.prometheus.wire import InstantAnswer
from queuescope.timeseries import Frame, Grid, Labels
from queuescope.view.present.quantile_buckets import WHOLE_SECONDS, Brackets
from queuescope.view.source.scrapes import Scrapes, measured_over, metrics_of

COMPLETION = "flow_completion"
"""The name of what goes through the queue: jobs per second."""

ABOUT_THE_QUESTION = (SourceErrorKind.BAD_DATA, SourceErrorKind.EXECUTION)
"""Errors that concern what was asked, not the source."""

_LABEL = "queuescope_panel"
_ENDED = "ended"
_SUCCESS, _THROUGHPUT = "success_rate", "throughput"
_UNCOUNTED_SECONDS = 600.0
_MATCHERS = re.compile(r"\$\{?matchers\b")

Samples = Sequence[tuple[Labels, float]]


@dataclass(frozen=True, slots=True)
class Present:
    """One figure as of the newest question that was answered.

    ``value`` None: the source has no sample for it; NaN: nothing happened that could be measured.
    ``as_of`` (source time) is when it was so, None before any answer. ``cause`` says why there is
    nothing newer, empty where there need not be; ``warnings`` are the source's words for an answer
    that may be incomplete. With ``bounds`` it is known only that the figure lies between these,
    and ``value`` is an estimate, which is drawn but never told. ``over_seconds`` is over how long
    it was measured; None where it is of one moment, or that is not known. ``late_seconds`` is by
    how much the source's samples arrive late, so that there can be none that is younger.
    """

    value: float | None = None
    as_of: float | None = None
    cause: str = ""
    warnings: tuple[str, ...] = ()
    bounds: Bounds | None = None
    over_seconds: float | None = None
    late_seconds: float = 0.0

    @property
    def between(self) -> Bounds | None:
        """Between what it lies, itself where it is exact; None where it is not known."""
        if self.value is None or math.isnan(self.value):
            return None
        return self.bounds or (self.value, self.value)

    def words(self, kind: Kind) -> str:
        """As it is told: never as a number that was not measured."""
        return "–" if self.value is None else figure_words(kind, self.value, self.bounds)


@dataclass(frozen=True, slots=True)
class Question:
    """``template`` under ``name``; ``panel`` reads its answer, None: it is a single number.

    With ``ended`` the figure is read from what jobs come to, where that is known.
    """

    name: str
    panel: Panel | None
    template: str
    ended: Ended | None = None

    @property
    def is_of_buckets(self) -> bool:
        """Whether the answer are the buckets of histograms, and one more matcher would choose among
        them: with several selectors it could narrow another one. A matcher of classic buckets
        leaves native histograms out, which are not read where there are such.
        """
        is_histogram = self.panel is not None and bool(self.panel.quantiles)
        return is_histogram and len(_MATCHERS.findall(classic_part(self.template))) == 1


def present_by(measure: Measure) -> str:
    """The name of the measure's figure, which is the one of the chart that is on the page."""
    return measure.panel.id if measure.on_page else f"card_{measure.id}"


def beside_by(measure: Measure) -> str:
    """The name of the figure that its card tells beside."""
    return f"card_{measure.id}_beside"


def figures_of(dashboard: Dashboard) -> tuple[Question, ...]:
    """What charts and cards show of now, each figure once; shares of a day are not among them."""
    ended = dashboard.ended
    asked = {
        panel.id: Question(panel.id, panel, panel.now, ended if panel.id == _SUCCESS else None)
        for panel in dashboard.panels
    }
    for measure in dashboard.measures:
        question = present_of(dashboard, measure)
        asked.setdefault(question.name, question)
        if measure.has_beside and measure.share is None:
            asked[beside_by(measure)] = beside_of(measure)
    return tuple(asked.values())


def present_of(dashboard: Dashboard, measure: Measure) -> Question:
    """The question for the measure's figure of now."""
    ended = dashboard.ended if measure.id in (_SUCCESS, _THROUGHPUT) else None
    return Question(present_by(measure), measure.panel, measure.panel.now, ended)


def beside_of(measure: Measure) -> Question:
    """The question for what its card tells beside."""
    return Question(beside_by(measure), measure.panel, measure.now)


def flow_of(dashboard: Dashboard) -> tuple[Question, ...]:
    """What goes through the queue."""
    flow = dashboard.flow
    if flow is None:
        return ()
    return (Question(COMPLETION, None, flow.completion),)


@dataclass(frozen=True, slots=True)
class Answers:
    """What came of several questions: the figures, by name, and what failed.

    ``at`` (source time) is the moment that they are of; None when none was answered.
    """

    at: float | None
    found: Mapping[str, Present]
    failed: Mapping[str, SourceError]


class Asker:
    """Asks several questions in one, and of histograms for no more buckets than are needed."""

    def __init__(
        self,
        client: PrometheusClient,
        *,
        matchers: str,
        clock: Callable[[], float],
        whole_seconds: float = WHOLE_SECONDS,
    ) -> None:
        """``matchers`` are rendered PromQL, ``clock`` gives our own time, epoch seconds.

        All buckets of a histogram are asked for every ``whole_seconds`` at least.
        """
        self._client = client
        self._matchers = matchers
        self._clock = clock
        self._brackets = Brackets(clock, whole_seconds=whole_seconds)
        self._uncounted_at = float("-inf")

    async def ask(
        self, questions: Sequence[Question], scrapes: Scrapes, at: float | None = None
    ) -> Answers:
        """The answers as of ``at`` (source time), or of now.

        Should the source refuse the one question, each asks its own, so that none takes the others
        along. Raises ``SourceError`` for everything else that concerns them all.
        """
        try:
            return await self._together(questions, scrapes, at)
        except SourceError as exc:
            if exc.kind not in ABOUT_THE_QUESTION:
                raise
        if _ended_of(questions):
            # It may be what was refused.
            self._uncounted_at = self._clock()
        return _merged(await asyncio.gather(*(self._whole([q], scrapes, at) for q in questions)))

    async def _whole(
        self, questions: Sequence[Question], scrapes: Scrapes, at: float | None
    ) -> Answers:
        """The answers to just what the panels ask; every error is that of all ``questions``."""
        try:
            return await self._together(questions, scrapes, at, whole=True)
        except SourceError as exc:
            return Answers(None, {}, {question.name: exc for question in questions})

    async def _together(
        self,
        questions: Sequence[Question],
        scrapes: Scrapes,
        at: float | None,
        *,
        whole: bool = False,
    ) -> Answers:
        chosen = {} if whole else self._chosen(questions)
        counted = {} if whole or self._is_uncounted() else _ended_of(questions)
        texts = {
            q.name: self._text(q.template, scrapes, chosen.get(q.name, ""))
            for q in questions
            if q.name not in counted
        }
        for common in set(counted.values()):
            texts[_ENDED] = self._text(common.now, scrapes)
        # Without labels, so that it stands beside whatever the others give, were it nothing.
        asked = [*filter(None, [union(_LABEL, texts)]), "vector(0)"]
        answer = await self._client.query(" or ".join(asked), at=at)
        answered_at = next((s.timestamp for s in answer.samples if not s.labels), None)
        if answered_at is None:
            raise SourceError(
                SourceErrorKind.DECODE,
                "Prometheus sent an answer that cannot be read",
                detail="vector(0) gave no sample",
            )
        given = parts_of(_LABEL, ((one.labels, one.value) for one in answer.samples))
        rates = given.get(_ENDED, [])
        if counted and not rates:
            self._uncounted_at = self._clock()
        found, unsure = {}, []
        for question in questions:
            samples = given.get(question.name, [])
            ended = counted.get(question.name)
            if ended is not None and rates:
                odd = next((rate for _, rate in rates if not math.isfinite(rate)), None)
                value = _of_ended(question.name, ended, rates)
                span = measured_over(texts[_ENDED], scrapes)
                found[question.name] = (
                    Present(value, answered_at, warnings=answer.warnings, over_seconds=span)
                    if odd is None
                    else _no_number(odd)
                )
            elif ended is None and self._is_enough(
                question, samples, answer, narrow=question.name in chosen
            ):
                figure = _figure(question, samples, answered_at, answer.warnings)
                span = measured_over(texts[question.name], scrapes)
                found[question.name] = replace(figure, over_seconds=span)
            else:
                unsure.append(question)
        answers = Answers(answered_at, found, {})
        if not unsure:
            return answers
        # As of the same moment, so that all figures on the page still are.
        return _merged([answers, await self._whole(unsure, scrapes, answered_at)])

    def _is_uncounted(self) -> bool:
        """Whether it was found a while ago that no jobs are counted here."""
        return 0 <= self._clock() - self._uncounted_at < _UNCOUNTED_SECONDS

    def _chosen(self, questions: Sequence[Question]) -> dict[str, str]:
        """By question the matcher of the buckets that are enough, where all are not needed."""
        found = {q.name: self._brackets.matcher(q.name) for q in questions if q.is_of_buckets}
        return {name: matcher for name, matcher in found.items() if matcher}

    def _is_enough(
        self, question: Question, samples: Samples, answer: InstantAnswer, *, narrow: bool
    ) -> bool:
        """Whether ``samples`` tell the figure; ``narrow``: not all buckets were asked for."""
        if narrow:
            return self._brackets.is_enough(question.name, samples)
        if question.is_of_buckets:
            # From part of an answer nothing is learnt.
            self._brackets.learn(question.name, () if answer.warnings else samples)
        return True

    def _text(self, template: str, scrapes: Scrapes, matcher: str = "") -> str:
        matchers = ",".join(text for text in (self._matchers, matcher) if text)
        recent = scrapes.resolution(RECENT_SECONDS, metrics_of(template))
        return render(template, recent, matchers)


def _ended_of(questions: Sequence[Question]) -> dict[str, Ended]:
    """By name, the questions that are read from what jobs come to."""
    return {question.name: question.ended for question in questions if question.ended is not None}


def _of_ended(name: str, ended: Ended, rates: Samples) -> float:
    """The success rate in percent, NaN where no job ended; or the throughput per minute."""
    total = sum(value for _, value in rates)
    if name != _SUCCESS:
        return 60 * total
    good = sum(value for labels, value in rates if (ended.label, ended.value) in labels)
    # In this order all of them are exactly 100 %.
    return 100 * (good / total) if total else math.nan


def _figure(question: Question, samples: Samples, at: float, warnings: tuple[str, ...]) -> Present:
    try:
        value, bounds = _value(question, samples)
    except ConfigurationError as exc:
        return Present(cause=str(exc))
    panel = question.panel
    if value is not None and panel is not None and not panel.quantiles:
        # A share of nothing is NaN, and so is a time that nobody waits; a number of jobs or of
        # workers that is NaN is not known.
        is_told = math.isfinite(value) or (math.isnan(value) and panel.kind is not Kind.COUNT)
        if not is_told:
            return _no_number(value)
    return Present(value, at, warnings=warnings, bounds=bounds)


def _no_number(value: float) -> Present:
    """Of samples that say nothing which could be told, or judged."""
    text = "NaN" if math.isnan(value) else f"{value:+}".replace("inf", "Inf")
    return Present(cause=f"Its newest samples come to {text}, which is no number")


def _value(question: Question, samples: Samples) -> tuple[float | None, Bounds | None]:
    """The figure, None when the source has no sample for it, and between what it lies where it is
    an estimate. Raises ``ConfigurationError`` for an answer that is no single figure.
    """
    if not samples:
        return None, None
    panel = question.panel
    if panel is None:
        if len(samples) > 1:
            raise ConfigurationError(f"{question.name}: the query gives {len(samples)} series")
        return samples[0][1], None
    values = np.array([value for _, value in samples]).reshape(-1, 1)
    frame = Frame(Grid(0, 0, 1), tuple(labels for labels, _ in samples), values)
    curves = curves_of(panel, frame, None, 1).curves
    curve = curves[panel.quantiles.index(RANKED_QUANTILE) if panel.quantiles else 0]
    return float(curve.values[0]), curve.bounds(0)


def _merged(parts: Sequence[Answers]) -> Answers:
    return Answers(
        next((part.at for part in parts if part.at is not None), None),
        {name: figure for part in parts for name, figure in part.found.items()},
        {name: error for part in parts for name, error in part.failed.items()},
    )
