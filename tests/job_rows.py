"""The rows of a job history."""

from __future__ import annotations

from sqlalchemy import func, select

from queuescope.jobs.job import Job, JobStatus
from queuescope.jobs.store import JobStore
from queuescope.jobs.table import JOBS, as_job, row_moment

# For as many rows as a test may have, on a busy machine; a page gives up much earlier.
_PATIENCE_SECONDS = 120.0


def ended_jobs(store: JobStore, limit: int | None = None) -> list[Job]:
    """The jobs that ended last, newest first."""
    return _jobs(store, JOBS.c.finished_at.is_not(None), limit)


def jobs_that_are(store: JobStore, status: JobStatus) -> list[Job]:
    """The jobs of that status, newest first."""
    return _jobs(store, JOBS.c.status == status.value, None)


def count_rows(store: JobStore, status: JobStatus | None = None) -> int:
    """How many jobs the history has, of any status or of one."""
    statement = select(func.count()).select_from(JOBS)
    if status is not None:
        statement = statement.where(JOBS.c.status == status.value)
    with store.reading(within_seconds=_PATIENCE_SECONDS) as connection:
        return int(connection.execute(statement).scalar_one())


def _jobs(store: JobStore, which: object, limit: int | None) -> list[Job]:
    statement = select(*store.columns).where(which)  # type: ignore[arg-type]
    statement = statement.order_by(row_moment.desc(), JOBS.c.id.desc()).limit(limit)
    with store.reading(within_seconds=_PATIENCE_SECONDS) as connection:
        return [as_job(row) for row in connection.execute(statement)]
