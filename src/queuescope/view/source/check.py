"""Checks whether a source has what the page needs, with the page's own queries."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable

from queuescope.errors import SourceError, SourceErrorKind
from queuescope.panels import Dashboard
from queuescope.prometheus import PrometheusClient
from queuescope.prometheus.promql import selector
from queuescope.view.source.facts import fetch_facts
from queuescope.view.source.replicas import find_replica_labels, replica_words
from queuescope.view.source.scrapes import metrics_read

_CLOCK_TOLERANCE_SECONDS = 5.0
_LOOK_BACK = "1h"
_NOT_ALLOWED = (
    SourceErrorKind.NOT_PROMETHEUS,
    SourceErrorKind.AUTHENTICATION,
    SourceErrorKind.BAD_DATA,
    SourceErrorKind.DECODE,
)


class SourceCheck:
    """Checks one source. After the last line, ``is_good`` says whether no chart lacks data."""

    def __init__(self, client: PrometheusClient, dashboard: Dashboard, matchers: str) -> None:
        """``matchers`` are rendered PromQL."""
        self._client = client
        self._dashboard = dashboard
        self._matchers = matchers
        self.is_good = True

    async def lines(self) -> AsyncIterator[str]:
        """The findings, one on each line. Raises ``SourceError`` for a source that does
        not answer.
        """
        asked_at = time.time()
        there = await self._client.now()
        ahead = there - (asked_at + time.time()) / 2
        yield await self._greeting()
        if abs(ahead) <= _CLOCK_TOLERANCE_SECONDS:
            yield "Its clock agrees."
        else:
            self.is_good = False
            yield f"Its clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} ours."
        async for line in self._metrics(there):
            yield line
        for line in await self._mixtures(there):
            yield line
        if labels := await find_replica_labels(
            self._client, self._dashboard, self._matchers, there
        ):
            self.is_good = False
            yield replica_words(labels)
        try:
            await self._client.alerts()
        except SourceError as exc:
            if exc.kind not in _NOT_ALLOWED:
                raise
            yield "It does not list its alerts, so the page shows none."

    async def _greeting(self) -> str:
        try:
            version = (await self._client.buildinfo()).version
        except SourceError as exc:
            # Not every server with this API knows its version, and nothing depends on it.
            if exc.kind not in _NOT_ALLOWED:
                raise
            version = ""
        return f"Prometheus {version or 'of unknown version'} answers."

    async def _metrics(self, at: float) -> AsyncIterator[str]:
        missing, empty = 0, []
        for panel in self._dashboard.panels:
            counts = [await self._count(metric, at) for metric in panel.metrics]
            for metric, count in zip(panel.metrics, counts, strict=True):
                yield f"  {panel.title}: {metric}: {_series(count)}"
            for metric in panel.all_metrics[len(panel.metrics) :]:
                if not any(counts) and (count := await self._count(metric, at)):
                    counts = [count]
                    yield f"  {panel.title}: {metric}: {_series(count)} of native histograms"
            missing += counts.count(0)
            empty += [panel.title] if not any(counts) else []
        charted = {metric for panel in self._dashboard.panels for metric in panel.metrics}
        for measure in self._dashboard.measures:
            for metric in measure.panel.metrics:
                if metric not in charted:
                    charted.add(metric)
                    count = await self._count(metric, at)
                    wanted = "" if count else " (only its card needs it)"
                    yield f"  {measure.title}: {metric}: {_series(count)}{wanted}"
        if missing:
            yield f"{missing} of the metrics have no samples in the last hour."
            if not empty:
                yield "Each chart has another metric to draw, so nothing is missing on the page."
        if empty:
            self.is_good = False
            yield f"These charts have no data: {_listed(empty)}."

    async def _mixtures(self, at: float) -> list[str]:
        """The charts whose targets are scraped at different intervals."""
        names = metrics_read(self._dashboard)
        scrapes = (await fetch_facts(self._client, names, self._matchers, at)).as_scrapes()
        found = [(panel, scrapes.of(panel.all_metrics)) for panel in self._dashboard.panels]
        return [
            f"{panel.title} is scraped {scrape.words}, so it is read over windows that hold four "
            "scrapes of the slowest target."
            for panel, scrape in found
            if scrape.is_mixed
        ]

    async def _count(self, metric: str, at: float) -> int:
        query = f"count(last_over_time({selector(metric, self._matchers)}[{_LOOK_BACK}]))"
        return int(sum(sample.value for sample in (await self._client.query(query, at=at)).samples))


def _series(count: int) -> str:
    return "nothing" if count == 0 else f"{count} series"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
