"""What the dashboard tells Prometheus about itself."""

from __future__ import annotations

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from queuescope.snapshot import Snapshot
from queuescope.snapshot.probe import Contact


class OwnMetrics:
    """``/metrics`` of the dashboard, in a registry of its own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._views = Counter(
            "queuescope_views",
            "Answers given to pages, by whether the snapshot was complete.",
            ["complete"],
            registry=self._registry,
        )
        for complete in ("true", "false"):
            self._views.labels(complete)
        self._source_up = Gauge(
            "queuescope_source_up",
            "1 when Prometheus answered the newest question, else 0.",
            registry=self._registry,
        )
        self._source_age = Gauge(
            "queuescope_source_last_answer_age_seconds",
            "Seconds since Prometheus last answered.",
            registry=self._registry,
        )

    def viewed(self, snapshot: Snapshot) -> None:
        self._views.labels("true" if snapshot.complete else "false").inc()

    def render(self, contact: Contact) -> tuple[bytes, str]:
        """The exposition and its content type."""
        self._source_up.set(contact.error is None and contact.last_seen is not None)
        if contact.last_seen is not None:
            self._source_age.set(time.time() - contact.last_seen)
        return generate_latest(self._registry), CONTENT_TYPE_LATEST
