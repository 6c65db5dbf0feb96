"""The metrics that the dashboard exports about itself."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable

from cachetools import TLRUCache
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from queuescope.cache import FrameStore
from queuescope.errors import SourceErrorKind
from queuescope.prometheus.breaker import BreakerState
from queuescope.telemetry import Occasion, RequestKind
from queuescope.timeseries import LookupStatus
from queuescope.view import Snapshot, ViewService

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_OK = "ok"
_MAX_PAGES = 10_000
_LAPSES_AFTER = 2


class OpenPages:
    """The number of viewers: pages that asked within two of their own refresh intervals.

    ``clock`` is monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._pages = TLRUCache[str, int, float](_MAX_PAGES, _lapses_at, clock)

    def polled(self, page: str, interval_seconds: int) -> None:
        """``page``, which refreshes every ``interval_seconds``, has asked."""
        self._pages[page] = interval_seconds

    def count(self) -> int:
        self._pages.expire()
        return len(self._pages)


def _lapses_at(page: str, interval_seconds: int, now: float) -> float:
    """The first moment after two intervals."""
    del page
    return math.nextafter(now + _LAPSES_AFTER * interval_seconds, math.inf)


class OwnMetrics:
    """``/metrics`` of the dashboard, in a registry of its own; implements ``Telemetry``."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.open_pages = OpenPages(time.monotonic)
        self._views = self._counter(
            "queuescope_views",
            "Responses to pages, by whether the snapshot was complete.",
            complete=("true", "false"),
        )
        self._queries = self._counter(
            "queuescope_upstream_queries",
            "Requests to Prometheus, by kind and outcome.",
            kind=RequestKind,
            outcome=(_OK, *SourceErrorKind),
        )
        self._query_seconds = Histogram(
            "queuescope_upstream_query_duration_seconds",
            "Time that Prometheus took to respond, including retries.",
            ["kind"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        for kind in RequestKind:
            self._query_seconds.labels(kind)
        self._lookups = self._counter(
            "queuescope_cache_lookups",
            "Reads of a panel's series through the cache, by what the cache had.",
            status=LookupStatus,
        )
        self._refresh_seconds = Histogram(
            "queuescope_refresh_duration_seconds",
            "Time to read and draw a view, by occasion.",
            ["occasion"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        for occasion in Occasion:
            self._refresh_seconds.labels(occasion)
        self._joins = Counter(
            "queuescope_snapshot_joins",
            "Responses that waited for a view that was already being read for another viewer.",
            registry=self._registry,
        )
        self._viewers = Gauge(
            "queuescope_viewers",
            "Pages that asked within two of their refresh intervals.",
            registry=self._registry,
        )
        self._viewers.set_function(self.open_pages.count)

    def _counter(self, name: str, text: str, **labels: Iterable[str]) -> Counter:
        """With every series at 0, so that ``rate`` sees the first event."""
        counter = Counter(name, text, list(labels), registry=self._registry)
        combined: list[tuple[str, ...]] = [()]
        for values in labels.values():
            combined = [(*before, value) for before in combined for value in values]
        for values in combined:
            counter.labels(*values)
        return counter

    def export_state_of(
        self, view: ViewService, store: FrameStore, breaker: Callable[[], BreakerState]
    ) -> None:
        """Export the state of ``view``, its cache and its source with each scrape from now on."""
        self._registry.register(_State(view, store, breaker))

    def viewed(self, snapshot: Snapshot) -> None:
        self._views.labels("true" if snapshot.complete else "false").inc()

    def request_done(
        self, kind: RequestKind, error: SourceErrorKind | None, seconds: float
    ) -> None:
        self._queries.labels(kind, error or _OK).inc()
        self._query_seconds.labels(kind).observe(seconds)

    def cache_read(self, status: LookupStatus) -> None:
        self._lookups.labels(status).inc()

    def snapshot_taken(self, occasion: Occasion, seconds: float) -> None:
        self._refresh_seconds.labels(occasion).observe(seconds)

    def snapshot_shared(self) -> None:
        self._joins.inc()

    def render(self) -> tuple[bytes, str]:
        """The exposition and its content type."""
        return generate_latest(self._registry), CONTENT_TYPE_LATEST


class _State(Collector):
    """State at the time of the scrape; an unknown value has no sample."""

    def __init__(
        self, view: ViewService, store: FrameStore, breaker: Callable[[], BreakerState]
    ) -> None:
        self._view = view
        self._store = store
        self._breaker = breaker

    def collect(self) -> Iterable[Metric]:
        contact = self._view.source.contact
        up = GaugeMetricFamily(
            "queuescope_source_up", "1 if Prometheus answered the newest request, otherwise 0."
        )
        up.add_metric([], contact.is_fresh)
        age = GaugeMetricFamily(
            "queuescope_source_last_answer_age_seconds", "Seconds since Prometheus last answered."
        )
        if contact.as_of is not None:
            age.add_metric([], time.time() - contact.as_of)
        breaker = GaugeMetricFamily(
            "queuescope_source_breaker_state",
            "1 for the state of the circuit breaker for Prometheus, 0 for the others.",
            labels=["state"],
        )
        for state in BreakerState:
            breaker.add_metric([state], self._breaker() is state)
        watched = GaugeMetricFamily(
            "queuescope_watched_views", "Views that are kept fresh because they have viewers."
        )
        watched.add_metric([], len(self._view.watched))
        data = GaugeMetricFamily(
            "queuescope_data_age_seconds",
            "Seconds since Prometheus last answered for the panel: the most of all watched views.",
            labels=["panel"],
        )
        for panel, seconds in self._view.ages_seconds().items():
            data.add_metric([panel], seconds)
        points = GaugeMetricFamily(
            "queuescope_cache_points", "Points that the cache holds in memory."
        )
        points.add_metric([], self._store.points)
        dropped = CounterMetricFamily(
            "queuescope_cache_dropped_files", "Damaged files of the cache that were dropped."
        )
        dropped.add_metric([], self._store.dropped_files)
        failures = CounterMetricFamily(
            "queuescope_cache_disk_failures",
            "Reads and writes of the cache on its disk that failed.",
        )
        failures.add_metric([], self._store.disk_failures)
        return (up, age, breaker, watched, data, points, dropped, failures)
