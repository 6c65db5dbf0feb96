"""How often workers report, and how long without a report makes them stalled or lost."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from queuescope.errors import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerTimings:
    """All in seconds. Workers, exporter and dashboard of one broker must agree on them.

    Raises ``ConfigurationError`` for values that contradict each other.
    """

    report_seconds: float = 2.0
    """How often a worker reports, and the dashboard reads reports."""
    lost_seconds: float = 15.0
    """A worker without a report for this long is lost."""
    drop_seconds: float = 600.0
    """The report of a lost worker is dropped after this long."""
    stall_seconds: float = 30.0
    """A worker that could start waiting jobs, and has not for this long, is stalled."""
    connect_seconds: float = 120.0
    """How long a worker may be without a connection: Celery waits longer before each attempt."""
    settle_seconds: float = 10.0
    """A job that started within this time may be missing from a worker's report."""
    usage_seconds: float = 5.0
    """How often a worker measures its CPU and memory."""
    history_seconds: float = 1.0
    """How often a worker writes to the job history."""
    ping_seconds: float = 10.0
    """How often the exporter pings workers that do not report."""
    sweep_seconds: float = 60.0
    """How often the dashboard checks the jobs that are started in the history."""
    silence_seconds: float = 120.0
    """How long a living worker has to record the end of a job that it no longer reports."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not (math.isfinite(value) and value > 0):
                raise ConfigurationError(
                    f"timings: {field.name} is {value}, and must be more than 0 seconds"
                )
        if self.lost_seconds <= 2 * self.report_seconds:
            raise ConfigurationError(
                f"timings: lost_seconds is {self.lost_seconds:g}, and must be more than twice "
                f"report_seconds ({self.report_seconds:g}), or one late report makes a worker lost"
            )
        if self.drop_seconds < self.lost_seconds:
            raise ConfigurationError(
                f"timings: drop_seconds is {self.drop_seconds:g}, and must not be less than "
                f"lost_seconds ({self.lost_seconds:g})"
            )


DEFAULT_TIMINGS = WorkerTimings()
