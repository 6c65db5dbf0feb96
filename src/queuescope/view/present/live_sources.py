"""What is known of now besides Prometheus, as the overview takes it in.

How broker, job history and audit are read is none of this storey's business: whoever puts the
application together hands in something that follows ``LiveSources``. Times are epoch seconds of
our own clock, by which those of jobs and acts, which are the broker's, have been corrected.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from queuescope.health import Finding
from queuescope.known import Known


class FigureOrigin(StrEnum):
    """Where a figure is from; the strings appear in JSON and name the rule of a finding."""

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
        """Within a sentence."""
        return "Prometheus" if self is FigureOrigin.PROMETHEUS else f"the {self.replace('_', ' ')}"


@dataclass(frozen=True, slots=True)
class LiveFigure:
    """The present figure of a measure, in the unit of its panel.

    ``shown`` is NaN where nothing happened to be measured. ``beside`` is what its card shows beside
    it. ``out_of`` is the whole of which it counts a part, ``remark``
    a few words that should be seen at once, such as “1 lost”; ``notes`` are sentences for whoever
    looks closer. ``quantiles`` are others than the shown one, by which they are. ``over_seconds``:
    see ``PresentValue``.
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
    """What a source says of now: ``figures`` by measure, ``why_not`` why one of its measures has
    none, and ``findings``, which are what no figure can say. Of the measures that are ``expected``
    a figure that is missing is unknown; of the others it may never have been there.

    ``completion_per_second`` are the jobs that left for good, over the window that the overview
    reads its flow over, or over ``completion_seconds``, where there is no more; ``held_back`` says
    that all which waits does so because an operator wants it.
    ``scheduled`` jobs wait for their time, and are none of those that wait.
    ``depths`` are how many jobs waited in the last minutes, without those that are held back:
    moments (seconds, ascending) and numbers.
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
    """One source with its newest report; ``measures`` are those that it reports, known or not."""

    origin: FigureOrigin
    known: Known[LiveReport]
    measures: frozenset[str] = frozenset()

    @property
    def is_fresh(self) -> bool:
        return self.known.is_fresh

    @property
    def report(self) -> LiveReport:
        """The last one, were it an old one; before the first, an empty one."""
        return self.known.value or LiveReport()

    @property
    def cause(self) -> str:
        """Why it is not fresh, in words; empty where it is."""
        if self.known.value is None and self.known.error is None:
            return f"{self.origin.words} has not answered yet"
        return self.known.cause


@dataclass(frozen=True, slots=True)
class PastOperation:
    """What an operator did, and what became of it; ``at`` is when it began."""

    at: float
    actor: str
    words: str
    result: str
    detail: str


@dataclass(frozen=True, slots=True)
class PastOperations:
    """The newest acts, oldest first. ``before`` them, if there are more, nothing is known here."""

    operations: tuple[PastOperation, ...] = ()
    begin: float | None = None


@dataclass(frozen=True, slots=True)
class FailedGroup:
    """Failures that have job type, error class and message in common, but for what varies in the
    message. ``pattern`` are words, the name of what varies after them, words, and so on.
    ``tenants`` are some of ``tenant_count``.
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

    ``groups`` are the biggest of ``group_count``, made of ``count`` failures; unless it
    ``is_whole`` there are older ones that were not looked at. ``last`` are the newest single ones.
    """

    groups: tuple[FailedGroup, ...] = ()
    group_count: int = 0
    count: int = 0
    is_whole: bool = True
    last: tuple[FailedJob, ...] = ()


class LiveSources(Protocol):
    """Reads memory; never waits and never raises for a source."""

    def clock_ahead(self) -> float:
        """How many seconds our clock is ahead of the broker's, negative where it is behind; 0 where
        it is not off, or there is no broker.
        """
        ...

    def sources(self) -> tuple[LiveSource, ...]:
        """Those that are configured, in the order in which they are shown."""
        ...

    def past_operations(self) -> PastOperations | None:
        """None: there is no audit, or it has not answered yet."""
        ...

    def failures(self) -> Known[Failures] | None:
        """None: there is no job history."""
        ...


class NoLiveSources:
    """Prometheus alone."""

    def clock_ahead(self) -> float:
        return 0.0

    def sources(self) -> tuple[LiveSource, ...]:
        return ()

    def past_operations(self) -> PastOperations | None:
        return None

    def failures(self) -> Known[Failures] | None:
        return None
