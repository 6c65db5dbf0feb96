"""What sources besides Prometheus report about the present, as the overview uses it.

How broker, job history and audit are read is not decided here: the application passes in an
implementation of ``LiveSources``. Times are epoch seconds by our own clock; times of jobs and
operations, which are the broker's, have been corrected to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from queuescope.health import Finding
from queuescope.known import Known


class FigureOrigin(StrEnum):
    """The source of a figure; the strings appear in JSON and as the rule of a finding."""

    PROMETHEUS = "prometheus"
    BROKER = "broker"
    JOB_HISTORY = "job_history"
    AUDIT = "audit"

    @property
    def heading(self) -> str:
        return (
            "Prometheus" if self is FigureOrigin.PROMETHEUS else self.replace("_", " ").capitalize()
        )

    @property
    def words(self) -> str:
        """The name within a sentence."""
        return "Prometheus" if self is FigureOrigin.PROMETHEUS else f"the {self.replace('_', ' ')}"


@dataclass(frozen=True, slots=True)
class LiveFigure:
    """The present figure of a measure from a live source, in the unit of its panel.

    ``shown`` is NaN if nothing happened that could be measured. ``beside`` is the second figure on
    the card. ``out_of`` is the total of which it is a part; ``remark`` is a few words to show at
    once, such as “1 lost”; ``notes`` are sentences for the details. ``quantiles`` are further ones,
    by quantile. ``over_seconds``: see ``PresentValue``.
    """

    shown: float
    beside: float | None = None
    out_of: int | None = None
    remark: str = ""
    notes: tuple[str, ...] = ()
    quantiles: Mapping[float, float] = field(default_factory=dict)
    over_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class LiveReport:
    """What a source reports about the present: ``figures`` by measure, ``why_not`` the reason if a
    measure has none, and ``findings``, which no figure can express. A missing figure of an
    ``expected`` measure is unknown; any other may never have existed.

    ``completion_per_second`` is the rate of completed jobs over the flow window of the overview, or
    over ``completion_seconds`` if there is no more data. ``held_back``: all waiting jobs are in
    paused queues. ``scheduled`` is the number of scheduled jobs, which do not count as waiting.
    ``depths`` is the number of waiting jobs in the last minutes, without those in paused queues:
    times (seconds, ascending) and numbers.
    """

    figures: Mapping[str, LiveFigure] = field(default_factory=dict)
    why_not: Mapping[str, str] = field(default_factory=dict)
    expected: frozenset[str] = frozenset()
    findings: tuple[Finding, ...] = ()
    completion_per_second: float | None = None
    completion_seconds: float | None = None
    held_back: bool = False
    scheduled: int = 0
    depths: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, slots=True)
class LiveSource:
    """One source with its newest report. ``measures`` are those that it can report; ``notes`` are
    sentences for the list of sources.
    """

    origin: FigureOrigin
    known: Known[LiveReport]
    measures: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()

    @property
    def is_fresh(self) -> bool:
        return self.known.is_fresh

    @property
    def report(self) -> LiveReport:
        """The last report, even an old one; an empty one before the first."""
        return self.known.value or LiveReport()

    @property
    def cause(self) -> str:
        """Why it is not fresh, in words; empty where it is."""
        if self.known.value is None and self.known.error is None:
            return f"{self.origin.words} has not answered yet"
        return self.known.cause


@dataclass(frozen=True, slots=True)
class PastOperation:
    """An operation that was begun, and its result; ``at`` is when it began."""

    at: float
    actor: str
    words: str
    result: str
    detail: str


@dataclass(frozen=True, slots=True)
class PastOperations:
    """The newest operations, oldest first. Before ``begin`` there are more, which are not known
    here; None: these are all.
    """

    operations: tuple[PastOperation, ...] = ()
    begin: float | None = None


@dataclass(frozen=True, slots=True)
class FailedGroup:
    """Failures with the same job type, error class and message, apart from variable parts of the
    message. ``pattern`` alternates fixed words and the name of a variable part. ``tenants`` are
    some of ``tenant_count``.
    """

    fingerprint: str
    name: str
    error_class: str
    pattern: tuple[str, ...]
    count: int
    last_at: float
    tenants: tuple[str, ...]
    tenant_count: int


@dataclass(frozen=True, slots=True)
class FailedJob:
    """One job that failed or was lost."""

    id: str
    name: str
    tenant: str
    status: str
    at: float
    error_class: str
    message: str


@dataclass(frozen=True, slots=True)
class Failures:
    """The failures of the last day.

    ``groups`` are the largest of ``group_count``, which contain ``count`` failures; unless
    ``is_whole``, older failures were not read. ``last`` are the newest single failures.
    """

    groups: tuple[FailedGroup, ...] = ()
    group_count: int = 0
    count: int = 0
    is_whole: bool = True
    last: tuple[FailedJob, ...] = ()


class LiveSources(Protocol):
    """The live sources, read from memory: no method waits or raises for a source."""

    def clock_ahead(self) -> float:
        """How many seconds our clock is ahead of the broker's, negative if it is behind; 0 if they
        agree or there is no broker.
        """
        ...

    def sources(self) -> tuple[LiveSource, ...]:
        """The configured sources, in the order in which they are shown."""
        ...

    def past_operations(self) -> PastOperations | None:
        """The newest operations; None if there is no audit or it has not answered yet."""
        ...

    def failures(self) -> Known[Failures] | None:
        """The failures of the last day; None if there is no job history."""
        ...


class NoLiveSources:
    """No live sources: Prometheus alone."""

    def clock_ahead(self) -> float:
        return 0.0

    def sources(self) -> tuple[LiveSource, ...]:
        return ()

    def past_operations(self) -> PastOperations | None:
        return None

    def failures(self) -> Known[Failures] | None:
        return None
