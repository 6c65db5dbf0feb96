"""The job history: one row per job, in SQLite or PostgreSQL.

All times are UTC epoch seconds. A row tells the newest attempt of its job: ``enqueued_at`` is when
the job first became due, ``wait_seconds`` and ``runtime_seconds`` are those of the newest attempt.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import (
    URL,
    Column,
    Connection,
    Float,
    Index,
    Integer,
    MetaData,
    NullPool,
    Row,
    String,
    Table,
    create_engine,
    event,
    func,
    make_url,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.schema import CreateIndex, CreateTable

from queuescope.errors import ConfigurationError, JobStoreError

MESSAGE_LIMIT = 1000
_LABEL_LIMIT = 255
_LOAD_BATCH = 20_000


class JobStatus(StrEnum):
    """Where a job stands. ``retrying`` waits for its next attempt; the last three are final."""

    STARTED = "started"
    RETRYING = "retrying"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    REVOKED = "revoked"


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


class JobStore:
    """The history behind ``url``, such as ``sqlite:////var/lib/queuescope/jobs.db`` or
    ``postgresql://user@host/database``.

    Nothing is opened before the first use; the table is created then if it is missing. Every
    method raises ``JobStoreError`` when the database does not give a usable answer.
    """

    def __init__(self, url: str, *, timeout_seconds: float = 5.0) -> None:
        """Raises ``ConfigurationError`` when ``url`` is not an address of SQLite or PostgreSQL."""
        parsed = _parse(url)
        self._is_sqlite = parsed.get_backend_name() == "sqlite"
        self._path = Path(parsed.database) if self._is_sqlite and parsed.database else None
        if self._is_sqlite:
            # A connection per use: a pool would be shared with the children that a worker forks.
            self._engine = create_engine(
                parsed, poolclass=NullPool, connect_args={"timeout": timeout_seconds}
            )
            event.listen(self._engine, "connect", _tune_sqlite)
        else:
            self._engine = create_engine(
                parsed,
                pool_pre_ping=True,
                pool_size=2,
                connect_args={"connect_timeout": max(2, round(timeout_seconds))},
            )
        self._is_created = False

    def record(self, jobs: Sequence[Job]) -> None:
        """Insert or update the rows of ``jobs`` in one transaction.

        News that is older than what the row already tells is ignored, so workers may deliver in
        any order. Of several entries with one id, the newest counts.
        """
        newest: dict[str, Job] = {}
        for job in jobs:
            known = newest.get(job.id)
            if known is None or _news_time(job) >= _news_time(known):
                newest[job.id] = job
        if not newest:
            return
        rows = [_as_row(job) for job in newest.values()]
        dialect = sqlite if self._is_sqlite else postgresql
        statement = dialect.insert(_jobs)
        new = statement.excluded
        statement = statement.on_conflict_do_update(
            index_elements=["id"],
            set_={name: new[name] for name in _COLUMNS if name != "id"},
            where=func.coalesce(new.finished_at, new.started_at, new.enqueued_at, 0.0)
            >= func.coalesce(_jobs.c.finished_at, _jobs.c.started_at, _jobs.c.enqueued_at, 0.0),
        )
        with self._transaction() as connection:
            connection.execute(statement, rows)

    def load(self, jobs: Iterable[Job]) -> int:
        """Insert many new jobs at once, such as a history; returns how many.

        The whole load is one transaction; an id that the store already holds makes it fail.
        """
        entries = iter(jobs)
        loaded = 0
        mark = "?" if self._is_sqlite else "%s"
        # Plain tuples to the driver: half the time of the same through insert().
        statement = (
            f"INSERT INTO {_jobs.name} ({', '.join(_COLUMNS)}) "  # noqa: S608 - own names only
            f"VALUES ({', '.join([mark] * len(_COLUMNS))})"
        )
        with self._transaction() as connection:
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
        with self._transaction() as connection:
            return int(connection.execute(statement).scalar_one())

    def get(self, job_id: str) -> Job | None:
        """The job with this id, or ``None``."""
        with self._transaction() as connection:
            row = connection.execute(select(_jobs).where(_jobs.c.id == job_id)).one_or_none()
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
            statement = statement.where(_jobs.c.tenant == tenant)
        if queue is not None:
            statement = statement.where(_jobs.c.queue == queue)
        if since is not None:
            statement = statement.where(moment >= since)
        if until is not None:
            statement = statement.where(moment < until)
        statement = statement.order_by(moment.desc()).limit(limit)
        with self._transaction() as connection:
            return [_as_job(row) for row in connection.execute(statement)]

    def abandon(self, worker: str, *, before: float, status: JobStatus) -> int:
        """End the rows that an earlier life of ``worker`` left as started; returns how many.

        ``status`` is what became of them: retrying if the broker will deliver them again,
        otherwise failed. ``before`` is when the new life began.
        """
        statement = (
            update(_jobs)
            .where(_jobs.c.worker == worker, _jobs.c.status == JobStatus.STARTED.value)
            .where(_jobs.c.started_at < before)
            .values(
                status=status.value,
                finished_at=before,
                error_class="WorkerLostError",
                error_message="The worker ended while it ran this job.",
            )
        )
        with self._transaction() as connection:
            return int(connection.execute(statement).rowcount)

    def close(self) -> None:
        """Give the connections back; the store can still be used."""
        self._engine.dispose()

    def _create(self) -> None:
        """Make the table if it is missing; several processes may try at the same moment."""
        for is_last in (False, True):
            try:
                with self._engine.begin() as connection:
                    connection.execute(CreateTable(_jobs, if_not_exists=True))
                    for index in _indexes:
                        connection.execute(CreateIndex(index, if_not_exists=True))
            except DBAPIError:
                # PostgreSQL may refuse what another has just made; then it is there now.
                if is_last:
                    raise
            else:
                return

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        try:
            if not self._is_created:
                if self._path is not None:
                    self._path.parent.mkdir(parents=True, exist_ok=True)
                self._create()
                self._is_created = True
            with self._engine.begin() as connection:
                yield connection
        except SQLAlchemyError as exc:
            raise JobStoreError(f"the job history did not answer ({type(exc).__name__})") from exc
        except OSError as exc:
            raise JobStoreError(
                f"cannot create the folder of the job history: {exc.strerror}"
            ) from exc


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
        if backend == "postgresql" and "+" not in parsed.drivername:
            parsed = parsed.set(drivername="postgresql+psycopg")
        parsed.get_dialect()
    except (ArgumentError, NoSuchModuleError, ValueError) as exc:
        # The text of the cause may hold the password.
        raise ConfigurationError(
            "job_store_url is not a database address; "
            "use sqlite:////path/to/jobs.db or postgresql://user@host/database"
        ) from exc
    if backend not in ("sqlite", "postgresql"):
        raise ConfigurationError(
            f"job_store_url names {backend!r}, which is not supported; use sqlite or postgresql"
        )
    return parsed


def _tune_sqlite(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    # Readers never wait for the writer, and a crash of the process loses nothing. The switch is
    # kept in the file; while another connection makes it, SQLite refuses instead of waiting.
    if cursor.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        with suppress(sqlite3.OperationalError):
            cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.execute("PRAGMA cache_size=-32000")
    cursor.close()


def _news_time(job: Job) -> float:
    return job.finished_at or job.started_at or job.enqueued_at or 0.0


def _clean(text: str, limit: int) -> str:
    """Cut to ``limit``; NUL is dropped because PostgreSQL refuses it."""
    return text.replace("\x00", "")[:limit]


def _as_row(job: Job) -> dict[str, Any]:
    return {
        "id": job.id[:_LABEL_LIMIT],
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
        "attempts": job.attempts,
        "error_class": _clean(job.error_class, _LABEL_LIMIT),
        "error_message": _clean(job.error_message, MESSAGE_LIMIT),
    }


def _as_job(row: Row[Any]) -> Job:
    # The columns stand in the order of the fields.
    values = dict(zip(_COLUMNS, row, strict=True))
    return Job(**{**values, "status": JobStatus(values["status"])})
