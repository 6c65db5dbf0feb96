"""Why a panel is empty, and what to do about it."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from cachetools import FIFOCache
from rapidfuzz import process

from queuescope.errors import SourceError
from queuescope.panels import Panel, Resolution, render
from queuescope.prometheus import PrometheusClient
from queuescope.prometheus.matchers import parse_matchers
from queuescope.prometheus.promql import quote, render_matchers, selector
from queuescope.prometheus.promql import selectors as promql_selectors
from queuescope.timeseries import Grid
from queuescope.view.source.data_start import searched_days
from queuescope.view.source.sample_extent import newest_sample, oldest_sample
from queuescope.words import listed

_KEPT_SECONDS = 60
_MAX_KEPT = 256
_NAMED = 4
_NEAREST = 3
_NOTHING_AT_ALL = "Prometheus has no metrics at all yet. Check that it scrapes your workers."


@dataclass(frozen=True, slots=True)
class Absence:
    """Why a panel is empty, in words.

    With ``is_unknown`` the source has never had any metric that the panel reads; ``nearest`` are
    the most similar names. With ``is_bare`` it has no metrics at all. ``down`` names the targets
    that it cannot scrape, as a sentence after a space, or is empty.
    """

    words: str
    is_unknown: bool = False
    is_bare: bool = False
    nearest: tuple[str, ...] = ()
    down: str = ""


def unmeasured_words(panels: Iterable[Panel], absences: Sequence[Absence]) -> str:
    """What a source lacks that has never had a metric of any of ``panels``, for all of them
    together.
    """
    if any(absence.is_bare for absence in absences):
        return _NOTHING_AT_ALL
    wanted = list(dict.fromkeys(metric for panel in panels for metric in panel.metrics))
    text = f"Prometheus has none of the metrics that the charts read: {listed(wanted, _NAMED)}."
    nearest = list(dict.fromkeys(name for absence in absences for name in absence.nearest))
    down = next((absence.down for absence in absences if absence.down), "")
    return text + _nearest_words(nearest[:_NEAREST]) + down


class Absences:
    """Finds out why panels are empty, and keeps the answer for a while, since it takes a search
    through weeks of samples.
    """

    def __init__(
        self, client: PrometheusClient, *, matchers: str, clock: Callable[[], float]
    ) -> None:
        self._client = client
        self._matchers = matchers
        self._clock = clock
        self._known = FIFOCache[Hashable, tuple[float, Absence]](_MAX_KEPT)

    async def of(
        self, panel: Panel, view: Hashable, grid: Grid, now: float, live_at: float | None
    ) -> Absence:
        """Why ``panel`` is empty in ``view``, on ``grid``; never raises for a source."""
        found_at, known = self._known.get((panel.id, view), (float("-inf"), None))
        if known is not None and 0 <= self._clock() - found_at < _KEPT_SECONDS:
            return known
        try:
            why = await explain_absence(self._client, panel, self._matchers, grid, now, live_at)
        except SourceError as exc:
            words = f"Prometheus has no such series here. The reason could not be found: {exc}"
            return Absence(words)
        # Not kept while the source has no metrics: its first one changes the reason.
        if not why.is_bare:
            self._known[panel.id, view] = (self._clock(), why)
        return why


async def explain_absence(  # noqa: PLR0917
    client: PrometheusClient,
    panel: Panel,
    matchers: str,
    grid: Grid,
    now: float,
    live_at: float | None = None,
) -> Absence:
    """The first reason that applies why ``panel`` has no series on ``grid`` and up to ``live_at``.

    The metric is unknown (with the most similar names), the label filter is too narrow, the samples
    have only just begun, the range is before the first one, the panel selects none of the samples,
    or they have ended (with the targets that are down). Raises ``SourceError``.
    """
    known = await client.label_values("__name__", [_any_of(panel.all_metrics)], 0, now)
    if not known:
        return await _unknown_metric(client, panel, now)
    return Absence(await _missing_samples(client, panel, matchers, known, grid, now, live_at))


async def _missing_samples(  # noqa: PLR0917
    client: PrometheusClient,
    panel: Panel,
    matchers: str,
    known: Sequence[str],
    grid: Grid,
    now: float,
    live_at: float | None,
) -> str:
    """Why nothing is drawn although the source has some of the panel's metrics, ``known``."""
    metric = panel.metrics[0]
    selectors = [selector(name, matchers) for name in known]
    if matchers and not await client.series(selectors, 0, now):
        return (
            f"The label filter {{{matchers}}} matches no series of {known[0]}. "
            "Widen the setting “selector”."
        )
    days = searched_days(grid, now)
    oldest = [await oldest_sample(client, selector, now, days) for selector in selectors]
    newest = [await newest_sample(client, selector, now, days) for selector in selectors]
    first = min((at for at in oldest if at is not None), default=None)
    last = max((at for at in newest if at is not None), default=None)
    if first is None or last is None:
        return f"{metric} has no sample in the last {days} days."
    searched_from = now - days * 86_400
    if grid.end < searched_from:
        return f"{known[0]} has no sample in this range."
    if grid.end < first and live_at is not None:
        return f"The data start at {_moment(first)}; there are not enough to measure yet."
    if grid.end < first:
        return f"The data start at {_moment(first)}, after this range."
    until = grid.end if live_at is None else live_at
    if others := await _unselected(client, panel, matchers, known, grid, until):
        return others
    ended = f"{known[0]} has no sample in this range; the newest is from {_moment(last)}."
    return ended + await _down_targets(client)


async def _unselected(  # noqa: PLR0917
    client: PrometheusClient,
    panel: Panel,
    matchers: str,
    known: Sequence[str],
    grid: Grid,
    until: float,
) -> str:
    """Which series the panel selects and does not find although the metric has samples in the
    range; empty if the metric has none.
    """
    span = f"[{max(1, round(until - grid.start))}s]"

    async def is_there(selector: str) -> bool:
        answer = await client.query(f"group(present_over_time({selector}{span}))", at=until)
        return bool(answer.samples)

    present = [name for name in known if await is_there(selector(name, matchers))]
    if not present:
        return ""
    query = render(panel.query, Resolution(grid.step_seconds, 60), matchers)
    own = set(parse_matchers(matchers))
    for name, chosen in promql_selectors(query):
        further = render_matchers(one for one in chosen if one not in own)
        if (
            name in present
            and further
            and not await is_there(selector(name, render_matchers(chosen)))
        ):
            return f"{name} has samples in this range, but none of its series has {further}."
    return (
        f"{present[0]} has samples in this range, but the query returns nothing that can be drawn."
    )


async def _unknown_metric(client: PrometheusClient, panel: Panel, now: float) -> Absence:
    names = await client.label_values("__name__", [], 0, now)
    if not names:
        return Absence(_NOTHING_AT_ALL, is_unknown=True, is_bare=True)
    found = process.extract(panel.metrics[0], names, limit=_NEAREST, score_cutoff=55)
    nearest = tuple(name for name, *_ in found)
    text = f"Prometheus has no metric {' or '.join(panel.metrics)}."
    down = await _down_targets(client)
    words = text + _nearest_words(nearest) + down
    return Absence(words, is_unknown=True, nearest=nearest, down=down)


def _nearest_words(names: Iterable[str]) -> str:
    nearest = ", ".join(names)
    return f" The nearest names are {nearest}." if nearest else ""


async def _down_targets(client: PrometheusClient) -> str:
    answer = await client.query("up == 0")
    down = sorted(dict(sample.labels).get("instance", "?") for sample in answer.samples)
    if not down:
        return ""
    return f" Prometheus cannot scrape {listed(down)}."


def _any_of(names: tuple[str, ...]) -> str:
    return f"{{__name__=~{quote('|'.join(re.escape(name) for name in names))}}}"


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
