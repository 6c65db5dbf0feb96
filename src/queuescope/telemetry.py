"""What the parts below report of their own work, to whoever keeps the count."""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

from queuescope.errors import SourceErrorKind
from queuescope.timeseries import LookupStatus


class RequestKind(StrEnum):
    """The kinds of requests to Prometheus; the strings appear in metrics."""

    QUERY = "query"
    QUERY_RANGE = "query_range"
    SERIES = "series"
    LABELS = "labels"
    RULES = "rules"
    ALERTS = "alerts"
    BUILDINFO = "buildinfo"
    RUNTIMEINFO = "runtimeinfo"


class Occasion(StrEnum):
    """Why a snapshot was taken: its turn had come, or a viewer waited for it."""

    SCHEDULE = "schedule"
    VIEWER = "viewer"


class Telemetry(Protocol):
    """Takes note of what happened. No method may raise or wait."""

    def request_done(
        self, kind: RequestKind, error: SourceErrorKind | None, seconds: float
    ) -> None:
        """A request reached the source; ``error`` None says that it was answered."""
        ...

    def cache_read(self, status: LookupStatus) -> None:
        """A panel's series were read through the cache."""
        ...

    def snapshot_taken(self, occasion: Occasion, seconds: float) -> None:
        """A snapshot was taken."""
        ...

    def snapshot_shared(self) -> None:
        """Somebody waited for a snapshot that was being taken for another."""
        ...


class NoTelemetry:
    """Takes no note of anything."""

    def request_done(
        self, kind: RequestKind, error: SourceErrorKind | None, seconds: float
    ) -> None: ...

    def cache_read(self, status: LookupStatus) -> None: ...

    def snapshot_taken(self, occasion: Occasion, seconds: float) -> None: ...

    def snapshot_shared(self) -> None: ...
