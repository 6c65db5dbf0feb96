"""The interface through which parts report their own work, for metrics."""

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
    """Why a snapshot was taken: on schedule, or because a viewer waited for it."""

    SCHEDULE = "schedule"
    VIEWER = "viewer"


class Telemetry(Protocol):
    """Receives events. No method may raise or block."""

    def request_done(
        self, kind: RequestKind, error: SourceErrorKind | None, seconds: float
    ) -> None:
        """A request was sent to the source; ``error`` is ``None`` if it was answered."""
        ...

    def cache_read(self, status: LookupStatus) -> None:
        """A panel's series were read through the cache."""
        ...

    def snapshot_taken(self, occasion: Occasion, seconds: float) -> None:
        """A snapshot was taken."""
        ...

    def snapshot_shared(self) -> None:
        """A caller shared a snapshot that was being taken for another one."""
        ...


class NoTelemetry:
    """Ignores all events."""

    def request_done(
        self, kind: RequestKind, error: SourceErrorKind | None, seconds: float
    ) -> None: ...

    def cache_read(self, status: LookupStatus) -> None: ...

    def snapshot_taken(self, occasion: Occasion, seconds: float) -> None: ...

    def snapshot_shared(self) -> None: ...
