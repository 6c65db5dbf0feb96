"""The recent failures of the job history."""

from __future__ import annotations

from typing import TYPE_CHECKING

from queuescope.jobs.fingerprint import words_and_variables
from queuescope.view.present.live_sources import FailedGroup, FailedJob, Failures

if TYPE_CHECKING:
    from queuescope.watch import RecentFailures


def recent_failures(state: RecentFailures, clock_ahead: float = 0.0) -> Failures:
    """The failures of the job history, whose times are the broker's; ``clock_ahead`` is how far our
    clock is ahead of the broker's.
    """
    report = state.report
    return Failures(
        tuple(
            FailedGroup(
                group.fingerprint,
                group.name,
                group.error_class,
                words_and_variables(group.pattern),
                group.count,
                group.last_at + clock_ahead,
                group.tenants,
                group.tenant_count,
            )
            for group in report.groups
        ),
        report.group_count,
        report.failure_count,
        report.is_whole,
        tuple(
            FailedJob(
                job.id,
                job.name,
                job.tenant,
                job.status,
                job.moment + clock_ahead,
                job.error_class,
                job.error_message,
            )
            for job in state.last
        ),
    )
