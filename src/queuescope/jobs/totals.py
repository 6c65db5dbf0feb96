"""What became of the jobs of the last day, in numbers: cheap enough to be asked every few seconds.

Each number is a stretch of the index on status and moment, which is counted without a look at the
rows where the database can do so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from sqlalchemy import func, select

from queuescope.database import as_number
from queuescope.jobs.store import JobStore
from queuescope.jobs.table import JOBS, LATEST, JobStatus, row_moment

DAY_SECONDS = 86_400
RECENT_SECONDS = 300

_UNSUCCESSFUL = (JobStatus.FAILED, JobStatus.LOST)
_NOT_DONE = (JobStatus.REVOKED, JobStatus.EXPIRED, JobStatus.IGNORED)
_LEFT = (JobStatus.SUCCEEDED, *_UNSUCCESSFUL, *_NOT_DONE)


@dataclass(frozen=True, slots=True)
class JobTotals:
    """How many jobs ended by ``at`` (epoch seconds), within a day and within five minutes.

    Unsuccessful are those that failed or were lost. ``left`` counts all that ended for good within
    ``window_seconds``, the revoked, expired and ignored among them. ``began_at`` is when the
    history begins.
    """

    at: float
    window_seconds: float
    succeeded_in_day: int
    unsuccessful_in_day: int
    succeeded_lately: int
    unsuccessful_lately: int
    left: int
    began_at: float | None

    @property
    def ended_in_day(self) -> int:
        return self.succeeded_in_day + self.unsuccessful_in_day

    @property
    def success_percent_of_day(self) -> float:
        """NaN when no job ended."""
        return _percent(self.succeeded_in_day, self.unsuccessful_in_day)

    @property
    def success_percent_lately(self) -> float:
        """Of the last five minutes; NaN when no job ended."""
        return _percent(self.succeeded_lately, self.unsuccessful_lately)

    @property
    def ended_per_minute(self) -> float:
        """Over the last five minutes."""
        return (self.succeeded_lately + self.unsuccessful_lately) * 60 / RECENT_SECONDS

    @property
    def left_per_second(self) -> float:
        return self.left / self.window_seconds


def read_totals(store: JobStore, *, now: float, window_seconds: float) -> JobTotals:
    """As of ``now``, epoch seconds by the workers' clocks. Raises ``JobStoreError``."""
    spans = {"day": DAY_SECONDS, "lately": RECENT_SECONDS, "window": window_seconds}
    counts = [
        select(func.count())
        .select_from(JOBS)
        .where(JOBS.c.status == status.value, row_moment >= now - seconds)
        .scalar_subquery()
        .label(f"{name}_{status.value}")
        for name, seconds in spans.items()
        for status in _LEFT
    ]
    # Nobody knows when a job of moment 0 was.
    first = select(row_moment).where(row_moment > 0).order_by(row_moment).limit(1)
    with store.reading() as connection:
        found = connection.execute(select(*counts)).mappings().one()
        began_at = connection.execute(first).scalar_one_or_none()
    day, lately, window = (
        {status: int(found[f"{name}_{status.value}"]) for status in _LEFT} for name in spans
    )
    return JobTotals(
        at=now,
        window_seconds=window_seconds,
        succeeded_in_day=day[JobStatus.SUCCEEDED],
        unsuccessful_in_day=sum(day[status] for status in _UNSUCCESSFUL),
        succeeded_lately=lately[JobStatus.SUCCEEDED],
        unsuccessful_lately=sum(lately[status] for status in _UNSUCCESSFUL),
        left=sum(window.values()),
        began_at=as_number(began_at, most=LATEST),
    )


def _percent(good: int, bad: int) -> float:
    return 100 * good / (good + bad) if good + bad else math.nan
