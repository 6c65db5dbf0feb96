"""The table of the job history: its columns and indexes, and the migration of older tables.

Jobs are ordered by their moment: when they ended or, while they run, when they started. Every
column that can be filtered has an index that ends with that moment, so the newest rows of each
value are found without sorting.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import fields
from typing import Any

from sqlalchemy import (
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Float,
    Index,
    Integer,
    MetaData,
    Row,
    String,
    Table,
    collate,
    func,
    literal_column,
    text,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.schema import CreateIndex, CreateTable

from queuescope.database import as_number, as_text, as_whole, member
from queuescope.jobs.fingerprint import FINGERPRINT_LENGTH, fingerprint
from queuescope.jobs.job import LABEL_LIMIT, LATEST, MESSAGE_LIMIT, WITH_ERROR, Job, JobStatus

_TIMES = frozenset({"enqueued_at", "started_at", "finished_at"})
_SECONDS = frozenset({"wait_seconds", "runtime_seconds"})
_ATTEMPTS_LIMIT = 2**31 - 1
_LOCK_MILLISECONDS = 1000


metadata = MetaData()
JOBS = Table(
    "jobs",
    metadata,
    Column("id", String(LABEL_LIMIT), primary_key=True),
    Column("name", String(LABEL_LIMIT), nullable=False),
    Column("tenant", String(LABEL_LIMIT), nullable=False),
    Column("queue", String(LABEL_LIMIT), nullable=False),
    Column("worker", String(LABEL_LIMIT), nullable=False),
    Column("status", String(16), nullable=False),
    Column("enqueued_at", Float(53)),
    Column("started_at", Float(53)),
    Column("finished_at", Float(53)),
    Column("wait_seconds", Float(53)),
    Column("runtime_seconds", Float(53)),
    Column("attempts", Integer, nullable=False),
    Column("error_class", String(LABEL_LIMIT), nullable=False),
    Column("error_message", String(MESSAGE_LIMIT), nullable=False),
    # Empty in rows that were written before these columns existed.
    Column("fingerprint", String(FINGERPRINT_LENGTH)),
    Column("routing_key", String(LABEL_LIMIT)),
    Column("redelivers", Boolean),
    Column("deliveries", Integer),
)
ADDED_COLUMNS = ("fingerprint", "routing_key", "redelivers", "deliveries")
"""Columns of later versions. A table that may not be altered does not have them."""
JOB_COLUMNS = [JOBS.c[field.name] for field in fields(Job) if field.name not in ADDED_COLUMNS]
"""The columns of every table."""


def columns_to_read(added: Collection[str]) -> list[Column[Any]]:
    """The columns for a ``Job`` if the table has these of ``ADDED_COLUMNS``."""
    return [*JOB_COLUMNS, *(JOBS.c[f.name] for f in fields(Job) if f.name in added)]


def moment_of(row: Any) -> ColumnElement[Any]:
    """``Job.moment`` in SQL, of a row's columns."""
    # A literal, since the expression must equal that of the indexes.
    return func.coalesce(row.finished_at, row.started_at, row.enqueued_at, literal_column("0.0"))


row_moment = moment_of(JOBS.c)
# Written so that only the indexes of failures match: with the bare column SQLite would use the
# index of all statuses, and sort the result.
HAS_FAILED = text("status || '' IN ('failed', 'lost')")
HAS_ERROR = text("error_class <> ''")
FILTERED = ("status", "tenant", "name", "queue", "worker")

_INDEXES = (
    Index("jobs_by_moment", row_moment),
    *(Index(f"jobs_by_{name}_moment", JOBS.c[name], row_moment) for name in FILTERED),
    Index("jobs_with_error", row_moment, sqlite_where=HAS_ERROR, postgresql_where=HAS_ERROR),
)
# These need the fingerprint. The first has all columns for groups, in order of time; SQLite also
# needs the status.
_FAILURE_INDEXES = (
    Index(
        "jobs_failed",
        *(JOBS.c.finished_at, JOBS.c.fingerprint, JOBS.c.tenant, JOBS.c.status),
        sqlite_where=HAS_FAILED,
        postgresql_where=HAS_FAILED,
    ),
    Index(
        "jobs_by_fingerprint",
        *(JOBS.c.fingerprint, JOBS.c.finished_at),
        sqlite_where=HAS_FAILED,
        postgresql_where=HAS_FAILED,
    ),
)
# A search for the beginning of an id needs an index in byte order; in PostgreSQL the primary key
# has that order only with the locale C.
ID_IN_BYTES = collate(JOBS.c.id, "C")
_POSTGRESQL_INDEXES = (Index("jobs_by_id_in_bytes", ID_IN_BYTES),)
_FORMER_INDEXES = ("jobs_by_finish", "jobs_by_start", "jobs_by_tenant", "jobs_by_status")


def all_indexes(connection: Connection, *, has_fingerprint: bool) -> list[Index]:
    """The indexes that the table should have."""
    found = list(_INDEXES)
    if has_fingerprint:
        found += _FAILURE_INDEXES
    if connection.dialect.name == "postgresql":
        found += _POSTGRESQL_INDEXES
    return found


def columns_of_table(connection: Connection) -> set[str]:
    """The names of the table's columns; none if there is no table."""
    if connection.dialect.name == "sqlite":
        rows = connection.exec_driver_sql("SELECT name FROM pragma_table_info('jobs')")
    else:
        rows = connection.exec_driver_sql(
            "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass('jobs')"
            " AND attnum > 0 AND NOT attisdropped"
        )
    return {str(name) for (name,) in rows}


def make_table(connection: Connection) -> None:
    """Create the table and its indexes; several processes may do so at once."""
    connection.execute(CreateTable(JOBS, if_not_exists=True))
    for index in all_indexes(connection, has_fingerprint=True):
        connection.execute(CreateIndex(index, if_not_exists=True))


def migrate(connection: Connection) -> None:
    """Add what an older table lacks, if that is allowed and possible now.

    Without the right to alter the table, or if that would have to wait, nothing is changed.
    """
    columns = columns_of_table(connection)
    if missing := [name for name in ADDED_COLUMNS if name not in columns]:
        _try(connection, [_add_column(connection, name) for name in missing])
    has_fingerprint = "fingerprint" in columns_of_table(connection)
    existing = _indexes_of_table(connection)
    indexes = all_indexes(connection, has_fingerprint=has_fingerprint)
    new = [CreateIndex(one, if_not_exists=True) for one in indexes if one.name not in existing]
    former = [text(f"DROP INDEX IF EXISTS {name}") for name in _FORMER_INDEXES if name in existing]
    if new or former:
        _try(connection, [*new, *former])


def _add_column(connection: Connection, name: str) -> Any:
    unless_there = "IF NOT EXISTS " if connection.dialect.name == "postgresql" else ""
    kind = JOBS.c[name].type.compile(dialect=connection.dialect)
    # Without a default this takes no time, even for a large table.
    return text(f"ALTER TABLE jobs ADD COLUMN {unless_there}{name} {kind}")


def _try(connection: Connection, statements: Iterable[Any]) -> None:
    """Execute all ``statements`` or none. In PostgreSQL the wait for the table is limited, since it
    blocks all others meanwhile.
    """
    is_postgresql = connection.dialect.name == "postgresql"
    attempt: AbstractContextManager[Any] = (
        connection.begin_nested() if is_postgresql else nullcontext()
    )
    try:
        with attempt:
            if is_postgresql:
                connection.exec_driver_sql(f"SET LOCAL lock_timeout = {_LOCK_MILLISECONDS}")
            for statement in statements:
                connection.execute(statement)
    except DBAPIError as exc:
        if exc.connection_invalidated:
            raise


def _indexes_of_table(connection: Connection) -> set[str]:
    if connection.dialect.name == "sqlite":
        rows = connection.exec_driver_sql(
            "SELECT name FROM sqlite_master WHERE type = 'index' AND tbl_name = 'jobs'"
        )
    else:
        rows = connection.exec_driver_sql(
            "SELECT relname FROM pg_index JOIN pg_class ON oid = indexrelid"
            " WHERE indrelid = to_regclass('jobs')"
        )
    return {str(name) for (name,) in rows}


def clean(value: str, limit: int) -> str:
    """``value`` cut to ``limit``, without NUL and lone surrogates, which databases refuse."""
    value = value.replace("\x00", "")[:limit]
    return value.encode("utf-8", "backslashreplace").decode("utf-8")[:limit]


def as_row(job: Job, added: Collection[str]) -> dict[str, Any]:
    """The values of a row if the table has these of ``ADDED_COLUMNS``."""
    row: dict[str, Any] = {
        "id": clean(job.id, LABEL_LIMIT),
        "name": clean(job.name, LABEL_LIMIT),
        "tenant": clean(job.tenant, LABEL_LIMIT),
        "queue": clean(job.queue, LABEL_LIMIT),
        "worker": clean(job.worker, LABEL_LIMIT),
        "status": str(job.status),
        "enqueued_at": job.enqueued_at,
        "started_at": job.started_at,
        "finished_at": job.finished_at,
        "wait_seconds": job.wait_seconds,
        "runtime_seconds": job.runtime_seconds,
        "attempts": min(job.attempts, _ATTEMPTS_LIMIT),
        "error_class": clean(job.error_class, LABEL_LIMIT),
        "error_message": clean(job.error_message, MESSAGE_LIMIT),
    }
    mark = None
    if job.status in WITH_ERROR:
        # Computed from the stored values, so that it can be computed again from the row.
        mark = fingerprint(row["name"], row["error_class"], row["error_message"])
    later = {
        "fingerprint": mark,
        "routing_key": clean(job.routing_key, LABEL_LIMIT),
        "redelivers": job.redelivers,
        "deliveries": min(job.deliveries, _ATTEMPTS_LIMIT),
    }
    return row | {name: value for name, value in later.items() if name in added}


def as_job(row: Row[Any]) -> Job:
    """The job in a ``row`` of ``columns_to_read``; invalid values become unknown."""
    job = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's name for what everybody uses
    for name, value in job.items():
        if name in _TIMES:
            job[name] = as_number(value, most=LATEST)
        elif name in _SECONDS:
            job[name] = as_number(value)
        elif name == "attempts":
            job[name] = as_whole(value) or 0
        elif name == "deliveries":
            # Rows from before deliveries were counted have none.
            job[name] = max(1, as_whole(value) or 1)
        elif name == "redelivers":
            job[name] = bool(value) if value in {0, 1} else None
        else:
            job[name] = as_text(value)
    job["status"] = member(JobStatus, job["status"])
    return Job(**job)
