"""Compares the cards' figures with those of the same time yesterday and last week."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from queuescope.errors import SourceError
from queuescope.figures import Bounds, figure_words, value_words
from queuescope.health import Worse
from queuescope.panels import Dashboard, Kind, Measure
from queuescope.prometheus import PrometheusClient
from queuescope.view.overview.days import DAY_STEP_SECONDS
from queuescope.view.overview.reason import rounded
from queuescope.view.present.fetcher import PresentFetcher
from queuescope.view.present.figures import PresentFigure
from queuescope.view.present.present_value import PresentValue
from queuescope.view.present.queries import present_name, present_query
from queuescope.view.source.state import SourceState

logger = logging.getLogger(__name__)

COMPARED = {"yesterday": 86_400, "last week": 7 * 86_400}
"""How many seconds ago each was."""

# Past figures are fetched four times an hour; all buckets are needed only once.
_WHOLE_SECONDS = 3_600.0
_SAME_RATIO = 0.005


@dataclass(frozen=True, slots=True)
class _Then:
    """The figures as of ``at`` (source time), by name."""

    at: int
    found: dict[str, PresentValue]


class Comparisons:
    """Fetches past figures, once for each quarter of an hour, since they do not change."""

    def __init__(
        self,
        client: PrometheusClient,
        dashboard: Dashboard,
        *,
        matchers: str,
        clock: Callable[[], float],
    ) -> None:
        # One for each time, since the buckets that sufficed a quarter of an hour before do so
        # again.
        self._fetchers = {
            name: PresentFetcher(
                client, matchers=matchers, clock=clock, whole_seconds=_WHOLE_SECONDS
            )
            for name in COMPARED
        }
        self._queries = tuple(present_query(dashboard, one) for one in dashboard.measures)
        self._then: dict[str, _Then] = {}

    def changes(self, measure: Measure, figure: PresentFigure) -> list[dict[str, str]]:
        """The card's changes, in words. A partial figure is not compared: it would differ by what
        it lacks.
        """
        if figure.shown.warnings:
            return []
        between = {name: self._between(name, measure, figure) for name in COMPARED}
        return changes_content(measure, figure.shown, between)

    def _between(self, name: str, measure: Measure, figure: PresentFigure) -> Bounds | None:
        """The bounds of the change since the time that ``COMPARED`` calls ``name``; None if it is
        unknown.
        """
        held = self._then.get(name)
        then = (
            PresentValue()
            if held is None
            else held.found.get(present_name(measure), PresentValue())
        )
        was, now = then.between, figure.shown.between
        if was is None or now is None:
            return None
        least, most = now[0] - was[1], now[1] - was[0]
        # A bounded value is above its lower bound.
        least = least if figure.shown.bounds is None else math.nextafter(least, math.inf)
        most = most if then.bounds is None else math.nextafter(most, -math.inf)
        return None if math.isnan(least) or math.isnan(most) else (least, most)

    async def renew(self, source: SourceState) -> None:
        """Fetch the figures for this quarter of an hour; never raises for a source."""
        if source.error is None:
            await asyncio.gather(*(self._renew(name, source) for name in COMPARED))

    async def _renew(self, name: str, source: SourceState) -> None:
        ago = COMPARED[name]
        at = int(source.now // DAY_STEP_SECONDS) * DAY_STEP_SECONDS - ago
        held = self._then.get(name)
        if held is not None and held.at == at:
            return
        try:
            answers = await self._fetchers[name].fetch(self._queries, source.scrapes, at)
        except SourceError as exc:
            # The card says that there is nothing to compare with.
            logger.warning("cannot compare with %s: %s (%s)", name, exc, exc.detail)
            self._then.pop(name, None)
            return
        for figure, error in answers.failed.items():
            logger.warning("cannot compare %s: %s (%s)", figure, error, error.detail)
        # A partial answer is not used.
        found = {
            figure: present
            for figure, present in answers.found.items()
            if present.value is not None and not present.warnings
        }
        self._then[name] = _Then(at, found)


def changes_content(
    measure: Measure, shown: PresentValue, changes: Mapping[str, Bounds | None]
) -> list[dict[str, str]]:
    """Each change in words, from its bounds, by what it is compared with; None if it is unknown.

    A change counts as better or worse only if at least two comparisons agree: one alone may have
    been unusual itself, such as a burst yesterday.
    """
    worse = None if measure.limits is None else measure.limits.worse
    found = [
        {"against": name, **_change(measure.panel.kind, worse, between, shown)}
        for name, between in changes.items()
    ]
    tones = {change["tone"] for change in found}
    if len(found) > 1 and len(tones) == 1:
        return found
    return [{**change, "tone": "neutral"} for change in found]


def _change(
    kind: Kind, worse: Worse | None, between: Bounds | None, present: PresentValue
) -> dict[str, str]:
    """``between`` are the bounds of the change, which are equal if it is known exactly."""
    if between is None or present.value is None:
        return {"words": "no data", "direction": "none", "tone": "neutral"}
    shown, (change, most) = present.value, between
    is_exact = change == most
    if not is_exact and change <= 0 <= most:
        return {"words": "about the same", "direction": "same", "tone": "neutral"}
    if is_exact and (
        abs(change) <= _SAME_RATIO * max(abs(shown), abs(shown - change)) or _is_small(kind, change)
    ):
        return {"words": "the same", "direction": "same", "tone": "neutral"}
    direction = "up" if change > 0 else "down"
    if worse is None:
        tone = "neutral"
    else:
        tone = "worse" if (change > 0) == (worse is Worse.ABOVE) else "better"
    sign = "+" if change > 0 else "−"
    size = abs(change)
    if not is_exact:
        least, size = sorted((abs(change), abs(most)))
        if math.isinf(size) and _is_small(kind, least):
            words = "more" if change > 0 else "less"
        elif _is_small(kind, least):
            words = figure_words(kind, size, (0.0, size)).replace("up to ", f"up to {sign}")
        else:
            words = sign + figure_words(kind, least, (least, size))
        return {"words": words, "direction": direction, "tone": tone}
    words = f"{size:.1f} points" if kind is Kind.PERCENT else value_words(kind, rounded(kind, size))
    return {"words": sign + words, "direction": direction, "tone": tone}


def _is_small(kind: Kind, change: float) -> bool:
    """Whether it would be displayed as 0."""
    return abs(change) < {Kind.PERCENT: 0.05, Kind.COUNT: 0.05, Kind.LATENCY: 0.5}[kind]
