"""Counts the jobs of the last day by outcome, cheaply enough for every few seconds.

Each count is a range of the index on status and moment, which databases can count without reading
the rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from sqlalchemy import Connection, case, func, or_, select

from queuescope.database import as_number
from queuescope.jobs.job import LATEST, JobStatus
from queuescope.jobs.store import JobStore
from queuescope.jobs.table import JOBS, row_moment

DAY_SECONDS = 86_400
RECENT_SECONDS = 300
QUANTILES = (0.5, 0.95, 0.99)

_MEASURED = (JobStatus.SUCCEEDED, JobStatus.FAILED)
"""The statuses for which workers also measure the latency."""
_SHORTEST_SECONDS = 10.0
_MOST_MEASURED = 100_000
_UNSUCCESSFUL = (JobStatus.FAILED, JobStatus.LOST)
_NOT_DONE = (JobStatus.REVOKED, JobStatus.EXPIRED, JobStatus.IGNORED)
_LEFT = (JobStatus.SUCCEEDED, *_UNSUCCESSFUL, *_NOT_DONE)


@dataclass(frozen=True, slots=True)
class JobTotals:
    """How many jobs ended within a day and within five minutes before ``at`` (epoch seconds).

    Unsuccessful jobs failed or were lost. ``left`` counts all that reached a final status within
    ``window_seconds``, including revoked, expired and ignored ones. ``began_at`` is when the
    history begins.

    ``latencies`` are latency quantiles in seconds of the jobs that succeeded or failed within five
    minutes: each is the latency of one of these jobs. They are empty if there were no such jobs,
    or too many to sort.
    """

    at: float
    window_seconds: float
    succeeded_in_day: int
    unsuccessful_in_day: int
    succeeded_lately: int
    unsuccessful_lately: int
    left: int
    began_at: float | None
    measured_lately: int = 0
    latencies: Mapping[float, float] = field(default_factory=dict)

    @property
    def ended_in_day(self) -> int:
        return self.succeeded_in_day + self.unsuccessful_in_day

    @property
    def success_percent_of_day(self) -> float:
        """NaN if no job ended."""
        return _percent(self.succeeded_in_day, self.unsuccessful_in_day)

    @property
    def success_percent_lately(self) -> float:
        """Over the last five minutes; NaN if no job ended."""
        return _percent(self.succeeded_lately, self.unsuccessful_lately)

    @property
    def ended_per_minute(self) -> float:
        """Over the last five minutes, or since the beginning of the history."""
        ended = self.succeeded_lately + self.unsuccessful_lately
        return ended * 60 / self.covered(RECENT_SECONDS)

    @property
    def left_per_second(self) -> float:
        """Over the window, or since the beginning of the history."""
        return self.left / self.covered(self.window_seconds)

    def covered(self, seconds: float) -> float:
        """How many of the last ``seconds`` the history covers; never so few that a single job would
        make a high rate.
        """
        if self.began_at is None:
            return seconds
        return min(seconds, max(_SHORTEST_SECONDS, self.at - self.began_at))


def read_totals(
    store: JobStore,
    *,
    now: float,
    window_seconds: float,
    quantiles: Sequence[float] = QUANTILES,
) -> JobTotals:
    """The totals at ``now``, in epoch seconds by the clock of the jobs' times. Raises
    ``JobStoreError``.
    """
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
    # The time of a job with moment 0 is unknown.
    first = select(row_moment).where(row_moment > 0).order_by(row_moment).limit(1)
    with store.reading() as connection:
        found = connection.execute(select(*counts)).mappings().one()
        began_at = connection.execute(first).scalar_one_or_none()
        measured = sum(int(found[f"lately_{status.value}"]) for status in _MEASURED)
        latencies = {}
        if 0 < measured <= _MOST_MEASURED:
            latencies = _latencies(connection, now - RECENT_SECONDS, quantiles)
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
        measured_lately=measured,
        latencies=latencies,
    )


def _latencies(
    connection: Connection, since: float, quantiles: Sequence[float]
) -> dict[float, float]:
    """The latency quantiles in seconds of the jobs that ended ``since``; empty without jobs."""
    seconds = JOBS.c.finished_at - JOBS.c.enqueued_at
    took = (
        # If a worker's clock is behind the sender's, the difference is negative and counts as 0.
        select(case((seconds > 0, seconds), else_=0.0).label("seconds"))
        .where(
            JOBS.c.status.in_([status.value for status in _MEASURED]),
            row_moment >= since,
            JOBS.c.finished_at.between(0, LATEST),
            JOBS.c.enqueued_at.between(0, LATEST),
        )
        .subquery()
    )
    ranked = select(
        took.c.seconds,
        func.row_number().over(order_by=took.c.seconds).label("rank"),
        func.count().over().label("number"),
    ).subquery()
    # As fractions, so that 0.95 of 20 jobs is exactly 19.
    shares = {quantile: Fraction(str(quantile)) for quantile in quantiles}
    is_wanted = or_(
        *(
            ranked.c.rank
            == (ranked.c.number * share.numerator + share.denominator - 1) // share.denominator
            for share in shares.values()
        )
    )
    rows = connection.execute(
        select(ranked.c.rank, ranked.c.number, ranked.c.seconds).where(is_wanted)
    ).all()
    by_rank = {int(rank): float(seconds) for rank, _, seconds in rows}
    return {
        quantile: by_rank[math.ceil(share * int(rows[0].number))]
        for quantile, share in shares.items()
        if rows
    }


def _percent(good: int, bad: int) -> float:
    return 100 * good / (good + bad) if good + bad else math.nan
