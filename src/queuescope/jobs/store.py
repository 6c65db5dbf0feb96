"""The job history: one row per job, in SQLite or PostgreSQL.

All times are UTC epoch seconds. A row describes the newest attempt of its job: ``enqueued_at`` is
when the job first became due, ``wait_seconds`` and ``runtime_seconds`` are of the newest attempt.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    and_,
    bindparam,
    case,
    func,
    literal,
    not_,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.schema import CreateIndex, DropIndex

from queuescope.database import Database, as_number, as_text
from queuescope.errors import JobStoreError, StoreErrorKind
from queuescope.jobs.fingerprint import fingerprint
from queuescope.jobs.job import LABEL_LIMIT, LOST_WORKER, MESSAGE_LIMIT, Job, JobStatus
from queuescope.jobs.table import (
    ADDED_COLUMNS,
    HAS_FAILED,
    JOB_COLUMNS,
    JOBS,
    all_indexes,
    as_job,
    as_row,
    clean,
    columns_of_table,
    columns_to_read,
    make_table,
    migrate,
    moment_of,
    row_moment,
)

__all__ = ["Job", "JobStatus", "JobStore", "UsualRuntime"]

READ_SECONDS = 4.0
_LOAD_BATCH = 20_000
_MOVE_BATCH = 500
_FILL_BATCH = 500
_NOT_OURS = (
    "its table jobs is not Queuescope's; give the job history a database or schema of its own"
)
_REMEDIES = {
    "25006": "it is read-only; use the address of the primary server",
    "42501": "its user lacks a right; grant SELECT, INSERT and UPDATE on the table jobs, "
    "or, if that table is missing, CREATE on the schema",
    "42703": _NOT_OURS,
    "55P03": "another transaction has locked the rows; try again",
}
"""Cause and remedy by SQLSTATE, the error code of the SQL standard."""

_IS_INFERRED = or_(
    JOBS.c.status == JobStatus.LOST.value,
    and_(JOBS.c.status == JobStatus.RETRYING.value, JOBS.c.error_class == LOST_WORKER),
)
"""Rows whose status was concluded from a lost worker, not recorded by it."""


def _first_of_order(row: Any) -> ColumnElement[Any]:
    """The first part of ``Job.order`` in SQL; the second is the moment."""
    is_retrying = row.status == JobStatus.RETRYING.value
    moment = moment_of(row)
    return case((is_retrying, func.coalesce(row.started_at, moment)), else_=moment)


def _is_newer(new: Any) -> ColumnElement[bool]:
    """Whether ``new`` replaces its row: in ``Job.order``, but for a row that is a conclusion."""
    first, known = _first_of_order(new), _first_of_order(JOBS.c)
    return case(
        (_IS_INFERRED, first >= func.coalesce(JOBS.c.started_at, 0.0)),
        else_=or_(first > known, and_(first == known, moment_of(new) >= row_moment)),
    )


def _deliveries(new: Any) -> ColumnElement[Any]:
    """The deliveries of a row that ``new`` updates. A new start adds one if the last attempt has no
    end or ended with the loss of its worker; otherwise counting starts at one again. A retry may
    start before the end of the attempt that asked for it is recorded.
    """
    known = func.coalesce(JOBS.c.deliveries, 1)
    begins_again = new.started_at > JOBS.c.started_at
    has_no_end = or_(
        and_(
            JOBS.c.status == JobStatus.STARTED.value,
            new.attempts <= JOBS.c.attempts,
            new.name == JOBS.c.name,
        ),
        JOBS.c.error_class == LOST_WORKER,
    )
    return case((and_(begins_again, has_no_end), known + 1), (begins_again, 1), else_=known)


@dataclass(frozen=True, slots=True)
class UsualRuntime:
    """How long jobs of one type run: 95 % of ``count`` jobs at most ``p95_seconds``."""

    p95_seconds: float
    count: int


class JobStore:
    """The history behind ``url``, such as ``sqlite:////var/lib/queuescope/jobs.db`` or
    ``postgresql://user@host/database``.

    Nothing is opened before the first use; then a missing table is created, and an older one is
    migrated if its user may do so. Every method raises ``JobStoreError`` if the database does not
    give a usable answer, and the next call tries again. The error names the database and never a
    password. Threads, and processes that are forked later, may use the same store.
    """

    def __init__(self, url: str, *, timeout_seconds: float = 5.0) -> None:
        """``timeout_seconds`` limits the wait for a connection and for a lock.

        Raises ``ConfigurationError`` if ``url`` is not an address of SQLite or PostgreSQL, or if
        its driver is not installed.
        """
        self._database = Database(
            url,
            setting="job_store_url",
            title="the job history",
            error=JobStoreError,
            remedies=_REMEDIES,
            create=self._prepare,
            timeout_seconds=timeout_seconds,
        )
        self._added: frozenset[str] = frozenset()

    @property
    def has_fingerprint(self) -> bool:
        """Whether the table has fingerprints; known once the store is in use."""
        return "fingerprint" in self._added

    @property
    def columns(self) -> list[Column[Any]]:
        """The columns of a job; known once the store is in use."""
        return columns_to_read(self._added)

    def _prepare(self, connection: Connection) -> None:
        existing = columns_of_table(connection)
        if not existing:
            make_table(connection)
        elif missing := [column.name for column in JOB_COLUMNS if column.name not in existing]:
            raise JobStoreError(
                f"the job history ({self._database.place}) has no column {missing[0]}: {_NOT_OURS}",
                StoreErrorKind.NOT_OURS,
            )
        else:
            migrate(connection)
        self._added = frozenset()

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with self._database.transaction() as connection:
            self._find_added_columns(connection)
            yield connection

    @contextmanager
    def reading(self, *, within_seconds: float = READ_SECONDS) -> Iterator[Connection]:
        """One transaction that sees one state and waits for no writer; a statement that takes
        longer than ``within_seconds`` raises ``JobStoreError``. For the other modules of this
        package.
        """
        with self._database.reading(within_seconds=within_seconds) as connection:
            self._find_added_columns(connection)
            yield connection

    def _find_added_columns(self, connection: Connection) -> None:
        # If this user may not alter the table, its owner may do so at any time.
        if len(self._added) < len(ADDED_COLUMNS):
            self._added = frozenset(ADDED_COLUMNS) & columns_of_table(connection)

    def record(self, jobs: Sequence[Job]) -> None:
        """Insert or update the rows of ``jobs`` in one transaction.

        An entry that is older than its row (``Job.order``) is ignored, so workers may deliver in
        any order. Of several entries with one id the newest counts, and ``deliveries`` continue
        from the row. A status that was concluded from a lost worker gives way to any entry of that
        attempt or a later one.
        """
        newest: dict[str, Job] = {}
        for job in jobs:
            job_id = clean(job.id, LABEL_LIMIT)
            known = newest.get(job_id)
            if known is None or job.order >= known.order:
                newest[job_id] = job
        if not newest:
            return
        dialect = sqlite if self._database.is_sqlite else postgresql
        statement = dialect.insert(JOBS)
        new = statement.excluded
        with self._writing() as connection:
            # Always in the same order, or two writers of the same jobs would wait for each other.
            rows = [self._as_row(newest[job_id]) for job_id in sorted(newest)]
            renewed: dict[str, Any] = {name: new[name] for name in rows[0] if name != "id"}
            if "deliveries" in renewed:
                renewed["deliveries"] = _deliveries(new)
            statement = statement.on_conflict_do_update(
                index_elements=["id"],
                set_=renewed,
                where=_is_newer(new),
            )
            connection.execute(statement, rows)

    def _as_row(self, job: Job) -> dict[str, Any]:
        return as_row(job, self._added)

    def load(self, jobs: Iterable[Job]) -> int:
        """Insert many new jobs, such as a history; returns how many.

        The whole load is one transaction; it fails if an id exists already.
        """
        entries = iter(jobs)
        loaded = 0
        mark = "?" if self._database.is_sqlite else "%s"
        with self._writing() as connection:
            # Building the indexes once is faster than row by row.
            indexes = all_indexes(connection, has_fingerprint=self.has_fingerprint)
            for index in indexes:
                connection.execute(DropIndex(index, if_exists=True))
            while batch := list(islice(entries, _LOAD_BATCH)):
                rows = [self._as_row(job) for job in batch]
                # Plain tuples to the driver take half the time of insert().
                statement = (
                    f"INSERT INTO {JOBS.name} ({', '.join(rows[0])}) "  # noqa: S608 - own names
                    f"VALUES ({', '.join([mark] * len(rows[0]))})"
                )
                connection.exec_driver_sql(statement, [tuple(row.values()) for row in rows])
                loaded += len(batch)
            for index in indexes:
                connection.execute(CreateIndex(index))
        return loaded

    def fill_fingerprints(self, limit: int = _FILL_BATCH) -> int:
        """Add fingerprints to at most ``limit`` failures without one; returns how many. 0 means
        that none is left, or that the table has no such column.
        """
        with self._writing() as connection:
            if not self.has_fingerprint:
                return 0
            parts = (JOBS.c.id, JOBS.c.name, JOBS.c.error_class, JOBS.c.error_message)
            rows = connection.execute(
                select(*parts).where(HAS_FAILED, JOBS.c.fingerprint.is_(None)).limit(limit)
            ).all()
            if rows:
                values = [
                    {"of": row.id, "to": fingerprint(row.name, row.error_class, row.error_message)}
                    for row in sorted(rows)
                ]
                connection.execute(
                    update(JOBS)
                    .where(JOBS.c.id == bindparam("of"), JOBS.c.fingerprint.is_(None))
                    .values(fingerprint=bindparam("to")),
                    values,
                )
        return len(rows)

    def get(self, job_id: str) -> Job | None:
        """The job with this id, or ``None``."""
        with self._writing() as connection:
            row = connection.execute(
                select(*self.columns).where(JOBS.c.id == clean(job_id, LABEL_LIMIT))
            ).one_or_none()
        return None if row is None else as_job(row)

    def unfinished(self, *, before: float, limit: int = 10_000) -> list[Job]:
        """The started jobs that began ``before`` then, the oldest first."""
        with self._writing() as connection:
            statement = (
                select(*self.columns)
                .where(JOBS.c.status == JobStatus.STARTED.value)
                .where(JOBS.c.started_at < before)
                .order_by(JOBS.c.started_at, JOBS.c.id)
                .limit(limit)
            )
            return [as_job(row) for row in connection.execute(statement)]

    def end_lost(
        self, worker: str, *, before: float, redelivers: bool, elsewhere: Collection[str] = ()
    ) -> dict[JobStatus, int]:
        """End the rows that an earlier run of ``worker`` left as started; returns how many are
        retrying, since the broker delivers them again, and how many are lost.

        Each row says whether the broker does so; otherwise ``redelivers`` applies. ``before`` is
        when the new run began. Another worker of the same name runs the jobs ``elsewhere``.
        """
        left = and_(
            JOBS.c.worker == clean(worker, LABEL_LIMIT),
            JOBS.c.status == JobStatus.STARTED.value,
            JOBS.c.started_at < before,
            JOBS.c.id.not_in([clean(job_id, LABEL_LIMIT) for job_id in elsewhere]),
        )
        reason = "The worker ended while it ran this job."
        with self._writing() as connection:
            is_redelivered: ColumnElement[bool] = literal(redelivers)
            if "redelivers" in self._added:
                is_redelivered = func.coalesce(JOBS.c.redelivers, is_redelivered)
            return {
                status: self._end(
                    connection, and_(left, which), at=before, status=status, reason=reason
                )
                for status, which in (
                    (JobStatus.RETRYING, is_redelivered),
                    (JobStatus.LOST, not_(is_redelivered)),
                )
            }

    def end_started(self, jobs: Iterable[Job], *, at: float, status: JobStatus, reason: str) -> int:
        """End those of ``jobs`` whose rows are still started with the same start; returns how many.

        ``reason`` is a sentence, ``at`` the time of this conclusion.
        """
        ended = 0
        with self._writing() as connection:
            for job in sorted(jobs, key=lambda job: job.id):
                same = and_(
                    JOBS.c.id == clean(job.id, LABEL_LIMIT),
                    JOBS.c.status == JobStatus.STARTED.value,
                    JOBS.c.started_at == job.started_at,
                )
                ended += self._end(connection, same, at=at, status=status, reason=reason)
        return ended

    def end_old_retries(self, *, before: float, at: float, reason: str) -> int:
        """Mark jobs as lost that have been retrying since ``before`` then; returns how many."""
        waiting = and_(
            JOBS.c.status == JobStatus.RETRYING.value,
            JOBS.c.finished_at < before,
        )
        with self._writing() as connection:
            return self._end(
                connection,
                waiting,
                at=at,
                status=JobStatus.LOST,
                reason=reason,
                error_class="NotRetriedError",
            )

    def _end(
        self,
        connection: Connection,
        rows: ColumnElement[bool],
        *,
        at: float,
        status: JobStatus,
        reason: str,
        error_class: str = LOST_WORKER,
    ) -> int:
        values: dict[str, Any] = {
            "status": status.value,
            "finished_at": at,
            "error_class": error_class,
            "error_message": clean(reason, MESSAGE_LIMIT),
        }
        if not self.has_fingerprint:
            return int(connection.execute(update(JOBS).where(rows).values(values)).rowcount)
        ended = 0
        for (name,) in connection.execute(select(JOBS.c.name).where(rows).distinct()).all():
            values["fingerprint"] = fingerprint(name, error_class, values["error_message"])
            named = update(JOBS).where(rows, JOBS.c.name == name).values(values)
            ended += int(connection.execute(named).rowcount)
        return ended

    def reopen(self, worker: str, job_ids: Iterable[str]) -> int:
        """Mark rows of ``worker`` as started again that were ended because it seemed lost, since it
        runs these jobs after all; returns how many.
        """
        ids = sorted({clean(job_id, LABEL_LIMIT) for job_id in job_ids})
        values: dict[str, Any] = {
            "status": JobStatus.STARTED.value,
            "finished_at": None,
            "error_class": "",
            "error_message": "",
        }
        taken = 0
        with self._writing() as connection:
            if self.has_fingerprint:
                values["fingerprint"] = None
            for start in range(0, len(ids), _MOVE_BATCH):
                statement = (
                    update(JOBS)
                    .where(JOBS.c.id.in_(ids[start : start + _MOVE_BATCH]))
                    .where(JOBS.c.worker == clean(worker, LABEL_LIMIT))
                    .where(_IS_INFERRED)
                    .values(values)
                )
                taken += int(connection.execute(statement).rowcount)
        return taken

    def claim(self, job_ids: Iterable[str]) -> dict[str, str]:
        """Make failed and lost jobs retrying, so that only one operation retries them; returns
        id → name of those that were changed.
        """
        return self._move(job_ids, (JobStatus.FAILED, JobStatus.LOST), JobStatus.RETRYING)

    def queues_of(self, job_ids: Iterable[str]) -> dict[str, str]:
        """The queue of each known job, by id; it may be cut or empty."""
        ids = sorted({clean(job_id, LABEL_LIMIT) for job_id in job_ids})
        found: dict[str, str] = {}
        with self._writing() as connection:
            for start in range(0, len(ids), _MOVE_BATCH):
                chosen = JOBS.c.id.in_(ids[start : start + _MOVE_BATCH])
                rows = connection.execute(select(JOBS.c.id, JOBS.c.queue).where(chosen))
                found |= {as_text(row.id): as_text(row.queue) for row in rows}
        return found

    def release(self, job_ids: Iterable[str]) -> dict[str, str]:
        """Make claimed jobs failed again that were not sent."""
        return self._move(job_ids, (JobStatus.RETRYING,), JobStatus.FAILED)

    def _move(
        self, job_ids: Iterable[str], old: tuple[JobStatus, ...], new: JobStatus
    ) -> dict[str, str]:
        ids = sorted({clean(job_id, LABEL_LIMIT) for job_id in job_ids})
        moved: dict[str, str] = {}
        with self._writing() as connection:
            for start in range(0, len(ids), _MOVE_BATCH):
                rows = connection.execute(
                    update(JOBS)
                    .where(JOBS.c.id.in_(ids[start : start + _MOVE_BATCH]))
                    .where(JOBS.c.status.in_([status.value for status in old]))
                    .values(status=new.value)
                    .returning(JOBS.c.id, JOBS.c.name)
                )
                moved |= {row.id: row.name for row in rows}
        return moved

    def usual_runtimes(self, *, since: float, limit: int = 50_000) -> dict[str, UsualRuntime]:
        """The usual runtime of each job type, from the newest ``limit`` jobs that ended
        ``since``.
        """
        # With the bare status SQLite would use its index, and sort the result.
        status = JOBS.c.status.concat("")
        ended = (
            select(JOBS.c.name, JOBS.c.runtime_seconds)
            .where(since <= row_moment)
            .where(status.in_([JobStatus.SUCCEEDED.value, JobStatus.FAILED.value]))
            # Without unknown values and those that are not numbers, which sort last.
            .where(JOBS.c.runtime_seconds.between(0.0, 1e9))
            .order_by(row_moment.desc())
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
        # The smallest runtime that 95 % of the jobs did not exceed, computed with integers.
        statement = select(ranked.c.name, ranked.c.runtime_seconds, ranked.c.count).where(
            100 * ranked.c.rank >= 95 * ranked.c.count,
            100 * (ranked.c.rank - 1) < 95 * ranked.c.count,
        )
        with self._writing() as connection:
            found = connection.execute(statement).all()
        return {
            as_text(name): UsualRuntime(p95, int(count))
            for name, seconds, count in found
            if (p95 := as_number(seconds)) is not None
        }

    def close(self) -> None:
        """Close the connections; the store can still be used."""
        self._database.close()
