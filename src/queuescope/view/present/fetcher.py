"""Fetches present values, all of them in one instant query."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from queuescope.errors import ConfigurationError, SourceError, SourceErrorKind
from queuescope.figures import Bounds, curves_of
from queuescope.panels import RANKED_QUANTILE, EndedJobs, Kind, Panel, PanelRole, render
from queuescope.panels.template import RECENT_SECONDS
from queuescope.prometheus import PrometheusClient
from queuescope.prometheus.promql import parts_of, union
from queuescope.prometheus.wire import InstantAnswer
from queuescope.timeseries import Frame, Grid, Labels
from queuescope.view.present.present_value import PresentValue
from queuescope.view.present.quantile_buckets import WHOLE_SECONDS, QuantileBuckets
from queuescope.view.present.queries import PresentQuery
from queuescope.view.source.scrapes import Scrapes, measured_over, metrics_of

ABOUT_THE_QUERY = (SourceErrorKind.BAD_DATA, SourceErrorKind.EXECUTION)
"""Errors that concern the query, not the source."""

_LABEL = "queuescope_panel"
_ENDED = "ended:"
_UNCOUNTED_SECONDS = 600.0

Samples = Sequence[tuple[Labels, float]]


@dataclass(frozen=True, slots=True)
class Answers:
    """The results of several queries: values and errors, by name.

    ``at`` (source time) is the time of the values; None if no query was answered.
    """

    at: float | None
    found: Mapping[str, PresentValue]
    failed: Mapping[str, SourceError]


class PresentFetcher:
    """Sends several queries in one request, and fetches only the histogram buckets that
    are needed.
    """

    def __init__(
        self,
        client: PrometheusClient,
        *,
        matchers: str,
        clock: Callable[[], float],
        whole_seconds: float = WHOLE_SECONDS,
    ) -> None:
        """``matchers`` are rendered PromQL, ``clock`` gives our own time, epoch seconds.

        All buckets of a histogram are fetched every ``whole_seconds`` at least.
        """
        self._client = client
        self._matchers = matchers
        self._clock = clock
        self._buckets = QuantileBuckets(clock, whole_seconds=whole_seconds)
        self._uncounted_at = float("-inf")

    async def fetch(
        self, queries: Sequence[PresentQuery], scrapes: Scrapes, at: float | None = None
    ) -> Answers:
        """The answers as of ``at`` (source time), or of now.

        If the source rejects the joint query, each value is queried alone, so that one bad query
        does not affect the others. Raises ``SourceError`` for any other failure.
        """
        try:
            return await self._together(queries, scrapes, at)
        except SourceError as exc:
            if exc.kind not in ABOUT_THE_QUERY:
                raise
        if _ended_of(queries):
            # The count of ended jobs may be what was rejected.
            self._uncounted_at = self._clock()
        return _merged(await asyncio.gather(*(self._whole([q], scrapes, at) for q in queries)))

    async def _whole(
        self, queries: Sequence[PresentQuery], scrapes: Scrapes, at: float | None
    ) -> Answers:
        """The answers to the panels' own queries; an error counts for all ``queries``."""
        try:
            return await self._together(queries, scrapes, at, whole=True)
        except SourceError as exc:
            return Answers(None, {}, {query.name: exc for query in queries})

    async def _together(
        self,
        queries: Sequence[PresentQuery],
        scrapes: Scrapes,
        at: float | None,
        *,
        whole: bool = False,
    ) -> Answers:
        chosen = {} if whole else self._chosen(queries)
        counted = {} if whole or self._is_uncounted() else _ended_of(queries)
        texts = {
            q.name: self._text(q.template, scrapes, chosen.get(q.name, ""))
            for q in queries
            if q.name not in counted
        }
        for common in set(counted.values()):
            texts[_ENDED] = self._text(common.now, scrapes)
        # ``vector(0)`` has no labels, so it is in every answer, and carries the time.
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
        for query in queries:
            samples = given.get(query.name, [])
            ended = counted.get(query.name)
            if ended is not None and rates:
                odd = next((rate for _, rate in rates if not math.isfinite(rate)), None)
                value = _of_ended(query.panel, ended, rates)
                span = measured_over(texts[_ENDED], scrapes)
                found[query.name] = (
                    PresentValue(value, answered_at, warnings=answer.warnings, over_seconds=span)
                    if odd is None
                    else _no_number(odd)
                )
            elif ended is None and self._is_enough(
                query, samples, answer, narrow=query.name in chosen
            ):
                figure = _figure(query, samples, answered_at, answer.warnings)
                span = measured_over(texts[query.name], scrapes)
                found[query.name] = replace(figure, over_seconds=span)
            else:
                unsure.append(query)
        answers = Answers(answered_at, found, {})
        if not unsure:
            return answers
        # As of the same instant, so that all figures on the page still agree.
        return _merged([answers, await self._whole(unsure, scrapes, answered_at)])

    def _is_uncounted(self) -> bool:
        """Whether it was found recently that this source has no counter of ended jobs."""
        return 0 <= self._clock() - self._uncounted_at < _UNCOUNTED_SECONDS

    def _chosen(self, queries: Sequence[PresentQuery]) -> dict[str, str]:
        """By query, the matcher for the buckets that suffice, for queries that do not need all."""
        found = {q.name: self._buckets.matcher(q.name) for q in queries if q.is_of_buckets}
        return {name: matcher for name, matcher in found.items() if matcher}

    def _is_enough(
        self, query: PresentQuery, samples: Samples, answer: InstantAnswer, *, narrow: bool
    ) -> bool:
        """Whether ``samples`` determine the value; ``narrow`` says that not all buckets were
        fetched.
        """
        if narrow:
            return self._buckets.is_enough(query.name, samples)
        if query.is_of_buckets:
            # Nothing is learnt from a partial answer.
            self._buckets.learn(query.name, () if answer.warnings else samples)
        return True

    def _text(self, template: str, scrapes: Scrapes, matcher: str = "") -> str:
        matchers = ",".join(text for text in (self._matchers, matcher) if text)
        recent = scrapes.resolution(RECENT_SECONDS, metrics_of(template))
        return render(template, recent, matchers)


def _ended_of(queries: Sequence[PresentQuery]) -> dict[str, EndedJobs]:
    """By name, the queries that can be answered from the count of ended jobs."""
    return {query.name: query.ended for query in queries if query.ended is not None}


def _of_ended(panel: Panel | None, ended: EndedJobs, rates: Samples) -> float:
    """The success rate in percent, NaN where no job ended; or the throughput per minute."""
    total = sum(value for _, value in rates)
    if panel is None or panel.role is not PanelRole.SUCCESS:
        return 60 * total
    good = sum(value for labels, value in rates if (ended.label, ended.value) in labels)
    # In this order, all successful is exactly 100 %.
    return 100 * (good / total) if total else math.nan


def _figure(
    query: PresentQuery, samples: Samples, at: float, warnings: tuple[str, ...]
) -> PresentValue:
    try:
        value, bounds = _value(query, samples)
    except ConfigurationError as exc:
        return PresentValue(error=exc)
    panel = query.panel
    if value is not None and panel is not None and not panel.quantiles:
        # A share of no jobs is NaN, and so is the wait time of none; a NaN number of jobs or
        # workers is unknown.
        is_figure = math.isfinite(value) or (math.isnan(value) and panel.kind is not Kind.COUNT)
        if not is_figure:
            return _no_number(value)
    return PresentValue(value, at, warnings=warnings, bounds=bounds)


def _no_number(value: float) -> PresentValue:
    """A value for samples that contain no number to show or judge."""
    text = "NaN" if math.isnan(value) else f"{value:+}".replace("inf", "Inf")
    words = f"The result of its newest samples is {text}, which is not a number"
    return PresentValue(error=SourceError(SourceErrorKind.DECODE, words))


def _value(query: PresentQuery, samples: Samples) -> tuple[float | None, Bounds | None]:
    """The value, None if the source has no sample for it, and its bounds if it is an estimate.
    Raises ``ConfigurationError`` for an answer that is not a single value.
    """
    if not samples:
        return None, None
    panel = query.panel
    if panel is None:
        if len(samples) > 1:
            raise ConfigurationError(f"{query.name}: the query gives {len(samples)} series")
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
