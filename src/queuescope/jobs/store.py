"""The job history: one row per job, in SQLite or PostgreSQL.

All times are UTC epoch seconds. A row tells the newest attempt of its job: ``enqueued_at`` is when
the job first became due, ``wait_seconds`` and ``runtime_seconds`` are those of the newest attempt.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from itertools import islice
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Float,
    Index,
    Integer,
    MetaData,
    Row,
    String,
    Table,
    and_,
    case,
    func,
    inspect,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.schema import CreateIndex, CreateTable

from queuescope.database import Database
from queuescope.errors import JobStoreError

MESSAGE_LIMIT = 1000
_LABEL_LIMIT = 255
_ATTEMPTS_LIMIT = 2**31 - 1
_LOAD_BATCH = 20_000
_MOVE_BATCH = 500
_REMEDIES = {
    "25006": "it is open for reading only; name the primary server",
    "42501": "its user lacks a right; grant SELECT, INSERT and UPDATE on the table jobs, "
    "or, where that table is missing, CREATE on the schema",
    "42703": "its table jobs is not Queuescope's; give the job history a database or schema "
    "of its own",
    "55P03": "another holds the rows locked; try again",
}
"""What may be said of an SQLSTATE, the error code of the SQL standard."""


class JobStatus(StrEnum):
    """Where a job stands. ``retrying`` waits for its next attempt.

    The others but ``started`` are final, ``lost`` as far as is known: nobody runs the job any
    more and nobody has told its end. News of its worker put that right.
    """

    STARTED = "started"
    RETRYING = "retrying"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    REVOKED = "revoked"
    LOST = "lost"


LOST_WORKER = "WorkerLostError"
"""The error class of an attempt whose worker ended in it, as Celery calls it, too."""


@dataclass(frozen=True, slots=True)
class Job:
    """One job as far as it is known; ``None`` means that it has not happened or was not seen."""

    id: str
    name: str
    tenant: str
    queue: str
    worker: str
    status: JobStatus
    enqueued_at: float | None = None
    started_at: float | None = None
    finished_at: float | None = None
    wait_seconds: float | None = None
    runtime_seconds: float | None = None
    attempts: int = 1
    error_class: str = ""
    error_message: str = ""


@dataclass(frozen=True, slots=True)
class UsualRuntime:
    """How long jobs of one name run: 95 % of ``count`` not longer than ``p95_seconds``."""

    p95_seconds: float
    count: int


_metadata = MetaData()
_jobs = Table(
    "jobs",
    _metadata,
    Column("id", String(_LABEL_LIMIT), primary_key=True),
    Column("name", String(_LABEL_LIMIT), nullable=False),
    Column("tenant", String(_LABEL_LIMIT), nullable=False),
    Column("queue", String(_LABEL_LIMIT), nullable=False),
    Column("worker", String(_LABEL_LIMIT), nullable=False),
    Column("status", String(16), nullable=False),
    Column("enqueued_at", Float(53)),
    Column("started_at", Float(53)),
    Column("finished_at", Float(53)),
    Column("wait_seconds", Float(53)),
    Column("runtime_seconds", Float(53)),
    Column("attempts", Integer, nullable=False),
    Column("error_class", String(_LABEL_LIMIT), nullable=False),
    Column("error_message", String(MESSAGE_LIMIT), nullable=False),
)
_indexes = (
    Index("jobs_by_finish", _jobs.c.finished_at),
    Index("jobs_by_start", _jobs.c.started_at),
    Index("jobs_by_tenant", _jobs.c.tenant, _jobs.c.finished_at),
    Index("jobs_by_status", _jobs.c.status, _jobs.c.finished_at),
)
_COLUMNS = [field.name for field in fields(Job)]
_IS_INFERRED = or_(
    _jobs.c.status == JobStatus.LOST.value,
    and_(_jobs.c.status == JobStatus.RETRYING.value, _jobs.c.error_class == LOST_WORKER),
)
"""Rows that stand as they do because their worker was silent, not because it said so."""


class JobStore:
    """The history behind ``url``, such as ``sqlite:////var/lib/queuescope/jobs.db`` or
    ``postgresql://user@host/database``.

    Nothing is opened before the first use; the table is created then if it is missing. Every
    method raises ``JobStoreError`` when the database does not give a usable answer, and the next
    call tries anew. The error names the database and never a password. Threads, and processes
    that are forked later, may use the same store.
    """

    def __init__(self, url: str, *, timeout_seconds: float = 5.0) -> None:
        """``timeout_seconds`` bounds the wait for a connection and for a lock.

        Raises ``ConfigurationError`` when ``url`` is not an address of SQLite or PostgreSQL, or
        its driver is not installed.
        """
        self._database = Database(
            url,
            setting="job_store_url",
            title="the job history",
            error=JobStoreError,
            remedies=_REMEDIES,
            create=_create,
            timeout_seconds=timeout_seconds,
        )

    def record(self, jobs: Sequence[Job]) -> None:
        """Insert or update the rows of ``jobs`` in one transaction.

        News that is older than what the row already tells is ignored, so workers may deliver in
        any order. Of several entries with one id, the newest counts. What a row holds because
        nothing was heard yields to all that is heard of that attempt or a later one.
        """
        newest: dict[str, Job] = {}
        for job in jobs:
            job_id = _clean(job.id, _LABEL_LIMIT)
            known = newest.get(job_id)
            if known is None or _news_time(job) >= _news_time(known):
                newest[job_id] = job
        if not newest:
            return
        # Always in the same order, or two writers of the same jobs would wait for each other.
        rows = [_as_row(newest[job_id]) for job_id in sorted(newest)]
        dialect = sqlite if self._database.is_sqlite else postgresql
        statement = dialect.insert(_jobs)
        new = statement.excluded
        statement = statement.on_conflict_do_update(
            index_elements=["id"],
            set_={name: new[name] for name in _COLUMNS if name != "id"},
            where=func.coalesce(new.finished_at, new.started_at, new.enqueued_at, 0.0)
            >= case(
                (_IS_INFERRED, func.coalesce(_jobs.c.started_at, 0.0)),
                else_=func.coalesce(
                    _jobs.c.finished_at, _jobs.c.started_at, _jobs.c.enqueued_at, 0.0
                ),
            ),
        )
        with self._database.transaction() as connection:
            connection.execute(statement, rows)

    def load(self, jobs: Iterable[Job]) -> int:
        """Insert many new jobs at once, such as a history; returns how many.

        The whole load is one transaction; an id that the store already holds makes it fail.
        """
        entries = iter(jobs)
        loaded = 0
        mark = "?" if self._database.is_sqlite else "%s"
        # Plain tuples to the driver: half the time of the same through insert().
        statement = (
            f"INSERT INTO {_jobs.name} ({', '.join(_COLUMNS)}) "  # noqa: S608 - own names only
            f"VALUES ({', '.join([mark] * len(_COLUMNS))})"
        )
        with self._database.transaction() as connection:
            # Indexes are built faster once than row by row.
            for index in _indexes:
                index.drop(connection, checkfirst=True)
            while batch := list(islice(entries, _LOAD_BATCH)):
                rows = [tuple(_as_row(job).values()) for job in batch]
                connection.exec_driver_sql(statement, rows)
                loaded += len(batch)
            for index in _indexes:
                index.create(connection)
        return loaded

    def count(self, *, status: JobStatus | None = None) -> int:
        """How many jobs the history holds."""
        statement = select(func.count()).select_from(_jobs)
        if status is not None:
            statement = statement.where(_jobs.c.status == status.value)
        with self._database.transaction() as connection:
            return int(connection.execute(statement).scalar_one())

    def get(self, job_id: str) -> Job | None:
        """The job with this id, or ``None``."""
        with self._database.transaction() as connection:
            row = connection.execute(
                select(_jobs).where(_jobs.c.id == _clean(job_id, _LABEL_LIMIT))
            ).one_or_none()
        return None if row is None else _as_job(row)

    def recent(
        self,
        limit: int = 50,
        *,
        status: JobStatus | None = None,
        tenant: str | None = None,
        queue: str | None = None,
        since: float | None = None,
        until: float | None = None,
    ) -> list[Job]:
        """The jobs that ended last, newest first; with ``status`` started, those started last.

        ``since`` and ``until`` bound that time, in epoch seconds (``since`` ≤ time < ``until``).
        """
        moment = _jobs.c.started_at if status is JobStatus.STARTED else _jobs.c.finished_at
        statement = select(_jobs).where(moment.is_not(None))
        if status is not None:
            statement = statement.where(_jobs.c.status == status.value)
        if tenant is not None:
            statement = statement.where(_jobs.c.tenant == _clean(tenant, _LABEL_LIMIT))
        if queue is not None:
            statement = statement.where(_jobs.c.queue == _clean(queue, _LABEL_LIMIT))
        if since is not None:
            statement = statement.where(moment >= since)
        if until is not None:
            statement = statement.where(moment < until)
        statement = statement.order_by(moment.desc(), _jobs.c.id.desc()).limit(limit)
        with self._database.transaction() as connection:
            return [_as_job(row) for row in connection.execute(statement)]

    def unfinished(self, *, before: float, limit: int = 10_000) -> list[Job]:
        """The jobs that stand as started since before then, the oldest first."""
        statement = (
            select(_jobs)
            .where(_jobs.c.status == JobStatus.STARTED.value)
            .where(_jobs.c.started_at < before)
            .order_by(_jobs.c.started_at, _jobs.c.id)
            .limit(limit)
        )
        with self._database.transaction() as connection:
            return [_as_job(row) for row in connection.execute(statement)]

    def abandon(self, worker: str, *, before: float, status: JobStatus) -> int:
        """End the rows that an earlier life of ``worker`` left as started; returns how many.

        ``status`` is what became of them: retrying if the broker will deliver them again,
        otherwise lost. ``before`` is when the new life began.
        """
        statement = (
            update(_jobs)
            .where(_jobs.c.worker == _clean(worker, _LABEL_LIMIT))
            .where(_jobs.c.status == JobStatus.STARTED.value)
            .where(_jobs.c.started_at < before)
            .values(
                status=status.value,
                finished_at=before,
                error_class=LOST_WORKER,
                error_message="The worker ended while it ran this job.",
            )
        )
        with self._database.transaction() as connection:
            return int(connection.execute(statement).rowcount)

    def give_up(self, jobs: Iterable[Job], *, at: float, status: JobStatus, reason: str) -> int:
        """End those of ``jobs`` whose rows still stand as started as they do; returns how many.

        ``reason`` is a sentence, ``at`` when this was found.
        """
        ended = 0
        with self._database.transaction() as connection:
            for job in sorted(jobs, key=lambda job: job.id):
                statement = (
                    update(_jobs)
                    .where(_jobs.c.id == _clean(job.id, _LABEL_LIMIT))
                    .where(_jobs.c.status == JobStatus.STARTED.value)
                    .where(_jobs.c.started_at == job.started_at)
                    .values(
                        status=status.value,
                        finished_at=at,
                        error_class=LOST_WORKER,
                        error_message=_clean(reason, MESSAGE_LIMIT),
                    )
                )
                ended += int(connection.execute(statement).rowcount)
        return ended

    def give_up_retries(self, *, before: float, at: float, reason: str) -> int:
        """Say lost of the jobs that have been retrying since before then; returns how many."""
        statement = (
            update(_jobs)
            .where(_jobs.c.status == JobStatus.RETRYING.value)
            .where(_jobs.c.finished_at < before)
            .values(
                status=JobStatus.LOST.value,
                finished_at=at,
                error_class="NotRetriedError",
                error_message=_clean(reason, MESSAGE_LIMIT),
            )
        )
        with self._database.transaction() as connection:
            return int(connection.execute(statement).rowcount)

    def take_back(self, worker: str, job_ids: Iterable[str]) -> int:
        """Let rows of ``worker`` that were ended for its silence be started again, since it runs
        these jobs after all; returns how many.
        """
        ids = sorted({_clean(job_id, _LABEL_LIMIT) for job_id in job_ids})
        taken = 0
        with self._database.transaction() as connection:
            for start in range(0, len(ids), _MOVE_BATCH):
                statement = (
                    update(_jobs)
                    .where(_jobs.c.id.in_(ids[start : start + _MOVE_BATCH]))
                    .where(_jobs.c.worker == _clean(worker, _LABEL_LIMIT))
                    .where(_IS_INFERRED)
                    .values(
                        status=JobStatus.STARTED.value,
                        finished_at=None,
                        error_class="",
                        error_message="",
                    )
                )
                taken += int(connection.execute(statement).rowcount)
        return taken

    def claim(self, job_ids: Iterable[str]) -> dict[str, str]:
        """Make failed and lost jobs retrying, so that nobody else retries them; returns id → name
        of those that were so until now.
        """
        return self._move(job_ids, (JobStatus.FAILED, JobStatus.LOST), JobStatus.RETRYING)

    def release(self, job_ids: Iterable[str]) -> dict[str, str]:
        """Make jobs failed again that were claimed and have not been sent."""
        return self._move(job_ids, (JobStatus.RETRYING,), JobStatus.FAILED)

    def _move(
        self, job_ids: Iterable[str], old: tuple[JobStatus, ...], new: JobStatus
    ) -> dict[str, str]:
        ids = sorted({_clean(job_id, _LABEL_LIMIT) for job_id in job_ids})
        moved: dict[str, str] = {}
        with self._database.transaction() as connection:
            for start in range(0, len(ids), _MOVE_BATCH):
                rows = connection.execute(
                    update(_jobs)
                    .where(_jobs.c.id.in_(ids[start : start + _MOVE_BATCH]))
                    .where(_jobs.c.status.in_([status.value for status in old]))
                    .values(status=new.value)
                    .returning(_jobs.c.id, _jobs.c.name)
                )
                moved |= {row.id: row.name for row in rows}
        return moved

    def usual_runtimes(self, *, since: float, limit: int = 50_000) -> dict[str, UsualRuntime]:
        """How long jobs of each name ran that ended since then, of the newest ``limit``."""
        ended = (
            select(_jobs.c.name, _jobs.c.runtime_seconds)
            .where(_jobs.c.finished_at >= since)
            .where(_jobs.c.status.in_([JobStatus.SUCCEEDED.value, JobStatus.FAILED.value]))
            .where(_jobs.c.runtime_seconds.is_not(None))
            .order_by(_jobs.c.finished_at.desc())
            .limit(limit)
            .subquery()
        )
        ranked = select(
            ended.c.name,
            ended.c.runtime_seconds,
            func.row_number()
            .over(partition_by=ended.c.name, order_by=ended.c.runtime_seconds)
            .label("rank"),
            func.count().over(partition_by=ended.c.name).label("count"),
        ).subquery()
        # The smallest runtime that at least 95 % of them did not exceed, in whole numbers.
        statement = select(ranked.c.name, ranked.c.runtime_seconds, ranked.c.count).where(
            100 * ranked.c.rank >= 95 * ranked.c.count,
            100 * (ranked.c.rank - 1) < 95 * ranked.c.count,
        )
        with self._database.transaction() as connection:
            return {
                name: UsualRuntime(float(seconds), int(count))
                for name, seconds, count in connection.execute(statement)
            }

    def close(self) -> None:
        """Give the connections back; the store can still be used."""
        self._database.close()


def _create(connection: Connection) -> None:
    """Make the table if it is missing.

    One that is there is left alone: whoever may only read or write it may not create it.
    """
    if inspect(connection).has_table(_jobs.name):
        return
    connection.execute(CreateTable(_jobs, if_not_exists=True))
    for index in _indexes:
        connection.execute(CreateIndex(index, if_not_exists=True))


def _news_time(job: Job) -> float:
    return job.finished_at or job.started_at or job.enqueued_at or 0.0


def _clean(text: str, limit: int) -> str:
    """Cut to ``limit``, without what no database takes: NUL, and surrogates of undecoded bytes."""
    text = text.replace("\x00", "")[:limit]
    return text.encode("utf-8", "backslashreplace").decode("utf-8")[:limit]


def _as_row(job: Job) -> dict[str, Any]:
    return {
        "id": _clean(job.id, _LABEL_LIMIT),
        "name": _clean(job.name, _LABEL_LIMIT),
        "tenant": _clean(job.tenant, _LABEL_LIMIT),
        "queue": _clean(job.queue, _LABEL_LIMIT),
        "worker": _clean(job.worker, _LABEL_LIMIT),
        "status": job.status.value,
        "enqueued_at": job.enqueued_at,
        "started_at": job.started_at,
        "finished_at": job.finished_at,
        "wait_seconds": job.wait_seconds,
        "runtime_seconds": job.runtime_seconds,
        "attempts": min(job.attempts, _ATTEMPTS_LIMIT),
        "error_class": _clean(job.error_class, _LABEL_LIMIT),
        "error_message": _clean(job.error_message, MESSAGE_LIMIT),
    }


def _as_job(row: Row[Any]) -> Job:
    # The columns stand in the order of the fields.
    values = dict(zip(_COLUMNS, row, strict=True))
    return Job(**{**values, "status": JobStatus(values["status"])})
