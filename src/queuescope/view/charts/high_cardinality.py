"""Breakdowns by a label with very many values: only the worst values are fetched."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from cachetools import FIFOCache

from queuescope.errors import SourceError, SourceErrorKind
from queuescope.panels import RANKED_QUANTILE, Kind, Panel, Resolution, render
from queuescope.panels.native import classic_part
from queuescope.panels.template import RECENT_SECONDS
from queuescope.prometheus import PrometheusClient
from queuescope.prometheus.promql import Matcher, selector
from queuescope.timeseries import Grid, Labels

HIGH_CARDINALITY = 500
"""Up to this many values, all are fetched and ranked by their worst point in the range."""

_INSTANTS = 6
_COUNTED_KEPT_SECONDS = 600.0
_RANKED_KEPT_SECONDS = 60.0
_SHARED_SECONDS = 1.0
_MAX_KEPT = 256
_TOO_MUCH = (SourceErrorKind.TIMEOUT, SourceErrorKind.EXECUTION, SourceErrorKind.TOO_LARGE)


@dataclass(frozen=True, slots=True)
class WorstValues:
    """``worst`` are the label values to fetch, out of ``total`` in the range."""

    by: str
    worst: tuple[str, ...]
    total: int

    def matchers(self, others: str) -> str:
        """``others`` (rendered PromQL) with one more matcher, which selects only the
        worst values.
        """
        pattern = "|".join(map(re.escape, self.worst))
        mine = str(Matcher(self.by, "=~", pattern))
        return f"{others},{mine}" if others else mine


@dataclass(frozen=True, slots=True)
class _Count:
    total: int
    some: tuple[str, ...]


@dataclass(slots=True)
class _Ranking:
    """The worst values of the range that ends at ``end``. ``by_instants`` is, by name, the badness
    of the worst that was seen at some instants; ``added`` are those that became worse later or in
    between, with when (source time) and how bad they were. Higher is worse.
    """

    kept_until: float = float("-inf")
    end: int = 0
    count: _Count = _Count(0, ())
    by_instants: Mapping[str, float] = field(default_factory=dict)
    added: dict[str, tuple[float, float]] = field(default_factory=dict)


class HighCardinality:
    """Finds out whether a breakdown has very many values, and which are worst. Both are kept for a
    while.
    """

    def __init__(
        self,
        client: PrometheusClient,
        *,
        matchers: str,
        limit: int,
        clock: Callable[[], float],
    ) -> None:
        self._client = client
        self._matchers = matchers
        self._limit = limit
        self._clock = clock
        self._counted = FIFOCache[tuple[str, str, Grid], tuple[float, _Count]](_MAX_KEPT)
        self._ranked = FIFOCache[tuple[str, str, int, int, bool], _Ranking](_MAX_KEPT)
        self._now = FIFOCache[tuple[str, str], tuple[float, Mapping[str, float]]](_MAX_KEPT)
        self._too_much = FIFOCache[tuple[str, str], float](_MAX_KEPT)

    async def of(
        self,
        panel: Panel,
        by: str,
        grid: Grid,
        resolution: Resolution,
        live_at: float | None = None,
        *,
        is_away: bool = False,
    ) -> WorstValues | None:
        """The worst values of ``panel`` by label ``by`` on ``grid``; None if there are so few that
        all are fetched.

        They are ranked at ``_INSTANTS`` instants of the range, each by the query for the present
        value, and the ranking is kept for a while; if the source cannot answer that in time, only
        the end of the range is ranked. With ``live_at`` (source time, the end of a view that
        reaches the present) that instant is ranked as well, each time, unless the source
        ``is_away``: so the worst of the open step are included. Raises ``SourceError``.
        """
        key = (panel.id, by, len(grid), grid.step_seconds, live_at is not None)
        ranking = self._ranked.get(key, _Ranking())
        is_young = 0 <= ranking.kept_until - self._clock() <= _RANKED_KEPT_SECONDS
        # Only a range that follows the present is still the same a moment later.
        moved = grid.end - ranking.end
        is_same = moved == 0 or (live_at is not None and 0 < moved <= 2 * _step_of(grid))
        if not (is_young and is_same):
            try:
                count = await self._count(panel, by, grid)
                if count.total <= HIGH_CARDINALITY:
                    return None
                by_instants = await self._worst_at_instants(panel, by, grid, resolution)
            except SourceError:
                if key not in self._ranked:
                    raise
                # In an outage data is held for the last ranking.
                return self._worst_values(by, ranking)
            kept_until = self._clock() + _RANKED_KEPT_SECONDS
            ranking = _Ranking(kept_until, grid.end, count, by_instants, ranking.added)
            self._ranked[key] = ranking
        if live_at is not None and not is_away:
            now = await self._bad_now(panel, by, resolution, live_at)
            self._add_worse(ranking, now, live_at, grid.start)
        return self._worst_values(by, ranking)

    def _worst_values(self, by: str, ranking: _Ranking) -> WorstValues:
        worst = tuple(sorted({*ranking.by_instants, *ranking.added}))
        # If no value has a number just then, some are read anyway, to show their state.
        return WorstValues(by, worst or ranking.count.some, ranking.count.total)

    def _add_worse(
        self, ranking: _Ranking, now: Mapping[str, float], at: float, since: float
    ) -> None:
        """Add the values that are worse ``now``, ``at`` source time, than the worst of the range,
        which begins at ``since``. They stay as long as the range includes that instant.

        No others are added: each new name makes the whole range be read again.
        """
        added = {name: one for name, one in ranking.added.items() if one[0] >= since}
        known = dict(ranking.by_instants)
        for name, (_, bad) in added.items():
            known[name] = max(bad, known.get(name, bad))
        worst = sorted(known.values(), reverse=True)[: self._limit]
        least = worst[-1] if len(worst) == self._limit else float("-inf")
        for name, bad in now.items():
            if bad > max(least, known.get(name, float("-inf"))):
                added[name] = (at, bad)
        kept = sorted(added, key=lambda name: added[name][1], reverse=True)[: self._limit]
        ranking.added = {name: added[name] for name in kept}

    async def _count(self, panel: Panel, by: str, grid: Grid) -> _Count:
        # Rounded outward, so that a range that follows the present keeps its key for a while.
        coarse = Grid.covering(grid.start, grid.end, int(_COUNTED_KEPT_SECONDS))
        key = (panel.id, by, coarse)
        kept_until, count = self._counted.get(key, (float("-inf"), None))
        if count is not None and 0 <= kept_until - self._clock() <= _COUNTED_KEPT_SECONDS:
            return count
        selectors = [selector(name, self._matchers) for name in panel.all_metrics]
        names = await self._client.label_values(by, selectors, grid.start, grid.end)
        count = _Count(len(names), names[: self._limit])
        self._counted[key] = (self._clock() + _COUNTED_KEPT_SECONDS, count)
        return count

    def _worst_of(self, panel: Panel, by: str, resolution: Resolution) -> str:
        """The query for the worst label values with their numbers."""
        recent = replace(resolution, step_seconds=RECENT_SECONDS, phase_seconds=None)
        value = render(panel.now, recent, self._matchers, by)
        if panel.quantiles:
            buckets = render(classic_part(panel.now), recent, self._matchers, by)
            value = f"histogram_quantile({RANKED_QUANTILE}, {buckets}){value[len(buckets) :]}"
        pick = "bottomk" if panel.kind is Kind.PERCENT else "topk"
        # NaN is never the worst.
        return f"{pick}({self._limit}, ({value}) >= 0)"

    async def _worst_at_instants(
        self, panel: Panel, by: str, grid: Grid, resolution: Resolution
    ) -> Mapping[str, float]:
        query = self._worst_of(panel, by, resolution)
        step = _step_of(grid)
        last = grid.end // step * step
        try:
            by_instants = Grid(
                max(grid.start // step * step, last - (_INSTANTS - 1) * step), last, step
            )
            frame = (await self._client.query_range(query, by_instants)).frame
        except SourceError as exc:
            if exc.kind not in _TOO_MUCH:
                raise
            return await self._bad_at(panel, by, query, grid.end)
        worst = np.fmax.reduce(_badness(panel) * frame.values, axis=1, initial=-np.inf)
        return _by_name(by, zip(frame.series, worst.tolist(), strict=True))

    async def _bad_now(
        self, panel: Panel, by: str, resolution: Resolution, at: float
    ) -> Mapping[str, float]:
        """The worst values at this instant; empty if the source does not answer in time."""
        key = (panel.id, by)
        held_at, held = self._now.get(key, (float("-inf"), {}))
        if 0 <= at - held_at < _SHARED_SECONDS:
            return held
        refused_until = self._too_much.get(key, float("-inf"))
        if 0 <= refused_until - self._clock() <= _RANKED_KEPT_SECONDS:
            return {}
        try:
            found = await self._bad_at(panel, by, self._worst_of(panel, by, resolution), at)
        except SourceError as exc:
            # The reading itself says what is wrong with the source.
            if exc.kind in _TOO_MUCH:
                self._too_much[key] = self._clock() + _RANKED_KEPT_SECONDS
            return {}
        self._now[key] = (at, found)
        return found

    async def _bad_at(self, panel: Panel, by: str, query: str, at: float) -> Mapping[str, float]:
        answer = await self._client.query(query, at=at)
        sign = _badness(panel)
        return _by_name(by, ((sample.labels, sign * sample.value) for sample in answer.samples))


def _step_of(grid: Grid) -> int:
    """How far apart the instants in its range are."""
    return max(grid.step_seconds, (grid.end - grid.start) // _INSTANTS // 60 * 60)


def _badness(panel: Panel) -> float:
    """The factor that turns a value into its badness: higher is worse."""
    return -1.0 if panel.kind is Kind.PERCENT else 1.0


def _by_name(by: str, found: Iterable[tuple[Labels, float]]) -> dict[str, float]:
    return {name: value for labels, value in found if (name := _value(labels, by))}


def _value(labels: Labels, by: str) -> str:
    return dict(labels).get(by, "")
