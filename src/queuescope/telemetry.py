"""What the parts below tell of their own work, to whoever keeps the count."""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

from queuescope.errors import SourceErrorKind
from queuescope.timeseries import LookupStatus


class Question(StrEnum):
    """The kinds of questions to Prometheus; the strings appear in metrics."""

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

    def asked(self, kind: Question, error: SourceErrorKind | None, seconds: float) -> None:
        """A question reached the source; ``error`` None says that it was answered."""
        ...

    def looked_up(self, status: LookupStatus) -> None:
        """A panel's series were read through the cache."""
        ...

    def took(self, occasion: Occasion, seconds: float) -> None:
        """A snapshot was taken."""
        ...

    def joined(self) -> None:
        """Somebody waited for a snapshot that was being taken for another."""
        ...


class Untold:
    """Takes no note of anything."""

    def asked(self, kind: Question, error: SourceErrorKind | None, seconds: float) -> None: ...

    def looked_up(self, status: LookupStatus) -> None: ...

    def took(self, occasion: Occasion, seconds: float) -> None: ...

    def joined(self) -> None: ...
