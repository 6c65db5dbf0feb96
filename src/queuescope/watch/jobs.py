"""The failures of the last day in the job history, grouped and one by one."""

from __future__ import annotations

from dataclasses import dataclass

from queuescope.jobs.failures import FailureReport, Span, failure_groups, last_failures
from queuescope.jobs.job import Job
from queuescope.jobs.store import JobStore

GROUPS = 5
SINGLES = 5
_DAY_SECONDS = 86_400
# Workers of earlier versions write times by their own clock, which may be ahead.
_AHEAD_SECONDS = 3_600


@dataclass(frozen=True, slots=True)
class RecentFailures:
    """The biggest groups of a day's failures, and the last single ones, newest first."""

    report: FailureReport
    last: tuple[Job, ...]


def read_failures(store: JobStore, now: float) -> RecentFailures:
    """The failures of the day that ends ``now`` (epoch seconds). Raises ``JobStoreError``."""
    span = Span(now - _DAY_SECONDS, now + _AHEAD_SECONDS)
    return RecentFailures(
        failure_groups(store, span, limit=GROUPS),
        tuple(last_failures(store, span, limit=SINGLES)),
    )
