"""Breakdowns by a label with very many values: only the worst of them are asked for."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from queuescope.errors import SourceError, SourceErrorKind
from queuescope.names import selector
from queuescope.panels import RANKED_QUANTILE, Kind, Panel, Resolution
from queuescope.panels.model import RECENT_SECONDS
from queuescope.panels.native import classic_part
from queuescope.prometheus import PrometheusClient
from queuescope.prometheus.promql import Matcher
from queuescope.timeseries import Grid, Labels

CROWD = 500
"""Up to so many values all are asked for and ranked by their worst point of the range."""

_LOOKS = 6
_COUNTED_KEPT_SECONDS = 600.0
_RANKED_KEPT_SECONDS = 60.0
_MAX_KEPT = 256
_K = TypeVar("_K")
_V = TypeVar("_V")
_TOO_MUCH = (SourceErrorKind.TIMEOUT, SourceErrorKind.EXECUTION, SourceErrorKind.TOO_LARGE)


@dataclass(frozen=True, slots=True)
class Crowd:
    """``worst`` are the values to ask for, of ``total`` that were seen in the range."""

    by: str
    worst: tuple[str, ...]
    total: int

    def matchers(self, others: str) -> str:
        """``others`` (rendered PromQL), and one that leaves only the worst."""
        pattern = "|".join(map(re.escape, self.worst))
        mine = str(Matcher(self.by, "=~", pattern))
        return f"{others},{mine}" if others else mine


@dataclass(frozen=True, slots=True)
class _Count:
    total: int
    some: tuple[str, ...]


class Crowds:
    """Finds out whether a breakdown is a crowd, and who is worst in it. Remembers both a while."""

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
        self._counted: dict[tuple[str, str, Grid], tuple[float, _Count]] = {}
        self._ranked: dict[tuple[str, str, int, int], tuple[float, Crowd]] = {}

    async def of(self, panel: Panel, by: str, grid: Grid, resolution: Resolution) -> Crowd | None:
        """The crowd that ``panel`` by label ``by`` is on ``grid``, None when it is none.

        Who is worst is judged at ``_LOOKS`` instants of the range, as “now” is; where the source
        cannot do that in time, at its end. Raises ``SourceError``.
        """
        key = (panel.id, by, len(grid), grid.step_seconds)
        kept_until, crowd = self._ranked.get(key, (float("-inf"), None))
        if crowd is not None and 0 <= kept_until - self._clock() <= _RANKED_KEPT_SECONDS:
            return crowd
        try:
            count = await self._count(panel, by, grid)
            if count.total <= CROWD:
                return None
            worst = await self._worst(panel, by, grid, resolution)
        except SourceError:
            if crowd is None:
                raise
            # In an outage the last ones are those of whom data are held.
            return crowd
        # Where none has a number just then, some at least are read, which tells their state.
        crowd = Crowd(by, worst or count.some, count.total)
        _keep(self._ranked, key, (self._clock() + _RANKED_KEPT_SECONDS, crowd))
        return crowd

    async def _count(self, panel: Panel, by: str, grid: Grid) -> _Count:
        # As long as it is counted in, a range that follows the present is one and the same.
        coarse = Grid.covering(grid.start, grid.end, int(_COUNTED_KEPT_SECONDS))
        key = (panel.id, by, coarse)
        kept_until, count = self._counted.get(key, (float("-inf"), None))
        if count is not None and 0 <= kept_until - self._clock() <= _COUNTED_KEPT_SECONDS:
            return count
        selectors = [selector(name, self._matchers) for name in panel.all_metrics]
        names = await self._client.label_values(by, selectors, grid.start, grid.end)
        count = _Count(len(names), names[: self._limit])
        _keep(self._counted, key, (self._clock() + _COUNTED_KEPT_SECONDS, count))
        return count

    async def _worst(
        self, panel: Panel, by: str, grid: Grid, resolution: Resolution
    ) -> tuple[str, ...]:
        recent = replace(resolution, step_seconds=RECENT_SECONDS, phase_seconds=None)
        value = panel.render(panel.now, recent, self._matchers, by)
        if panel.quantiles:
            buckets = panel.render(classic_part(panel.now), recent, self._matchers, by)
            value = f"histogram_quantile({RANKED_QUANTILE}, {buckets}){value[len(buckets) :]}"
        pick = "bottomk" if panel.kind is Kind.PERCENT else "topk"
        # What has no number (NaN) is not the worst.
        query = f"{pick}({self._limit}, ({value}) >= 0)"
        step = max(grid.step_seconds, (grid.end - grid.start) // _LOOKS // 60 * 60)
        last = grid.end // step * step
        try:
            looks = Grid(max(grid.start // step * step, last - (_LOOKS - 1) * step), last, step)
            found = (await self._client.query_range(query, looks)).frame.series
        except SourceError as exc:
            if exc.kind not in _TOO_MUCH:
                raise
            answer = await self._client.query(query, at=grid.end)
            found = tuple(sample.labels for sample in answer.samples)
        return tuple(sorted({_value(labels, by) for labels in found} - {""}))


def _value(labels: Labels, by: str) -> str:
    return dict(labels).get(by, "")


def _keep(kept: dict[_K, _V], key: _K, value: _V) -> None:
    kept.pop(key, None)
    kept[key] = value
    while len(kept) > _MAX_KEPT:
        del kept[next(iter(kept))]
