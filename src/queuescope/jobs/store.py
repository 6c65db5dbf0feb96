"""The job history: one row per job, in SQLite or PostgreSQL.

All times are UTC epoch seconds. A row tells the newest attempt of its job: ``enqueued_at`` is when
the job first became due, ``wait_seconds`` and ``runtime_seconds`` are those of the newest attempt.
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
    bring_up_to_date,
    clean,
    columns_of_table,
    columns_to_read,
    make_table,
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
    "25006": "it is open for reading only; name the primary server",
    "42501": "its user lacks a right; grant SELECT, INSERT and UPDATE on the table jobs, "
    "or, where that table is missing, CREATE on the schema",
    "42703": _NOT_OURS,
    "55P03": "another holds the rows locked; try again",
}
"""What may be said of an SQLSTATE, the error code of the SQL standard."""

_IS_INFERRED = or_(
    JOBS.c.status == JobStatus.LOST.value,
    and_(JOBS.c.status == JobStatus.RETRYING.value, JOBS.c.error_class == LOST_WORKER),
)
"""Rows that stand as they do because their worker was silent, not because it said so."""


def _deliveries(new: Any) -> ColumnElement[Any]:
    """Of a row that ``new`` is told of. A begin counts on where the one before ended by the loss
    of its worker or not at all, and anew where its end was told.
    """
    known = func.coalesce(JOBS.c.deliveries, 1)
    begins_again = new.started_at > JOBS.c.started_at
    has_no_end = or_(JOBS.c.status == JobStatus.STARTED.value, JOBS.c.error_class == LOST_WORKER)
    return case((and_(begins_again, has_no_end), known + 1), (begins_again, 1), else_=known)


@dataclass(frozen=True, slots=True)
class UsualRuntime:
    """How long jobs of one name run: 95 % of ``count`` not longer than ``p95_seconds``."""

    p95_seconds: float
    count: int


class JobStore:
    """The history behind ``url``, such as ``sqlite:////var/lib/queuescope/jobs.db`` or
    ``postgresql://user@host/database``.

    Nothing is opened before the first use; the table is created then if it is missing, and an
    older one is brought up to date if its user may do so. Every method raises ``JobStoreError``
    when the database does not give a usable answer, and the next call tries anew. The error names
    the database and never a password. Threads, and processes that are forked later, may use the
    same store.
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
            create=self._prepare,
            timeout_seconds=timeout_seconds,
        )
        self._added: frozenset[str] = frozenset()

    @property
    def has_fingerprint(self) -> bool:
        """Whether rows hold their fingerprints; known as soon as the store is in use."""
        return "fingerprint" in self._added

    @property
    def columns(self) -> list[Column[Any]]:
        """What a job is read of; known as soon as the store is in use."""
        return columns_to_read(self._added)

    def _prepare(self, connection: Connection) -> None:
        there = columns_of_table(connection)
        if not there:
            make_table(connection)
        elif missing := [column.name for column in JOB_COLUMNS if column.name not in there]:
            raise JobStoreError(
                f"the job history ({self._database.place}) has no column {missing[0]}: {_NOT_OURS}",
                StoreErrorKind.NOT_OURS,
            )
        else:
            bring_up_to_date(connection)
        self._added = frozenset()

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with self._database.transaction() as connection:
            self._look(connection)
            yield connection

    @contextmanager
    def reading(self, *, within_seconds: float = READ_SECONDS) -> Iterator[Connection]:
        """One transaction that sees one state and waits for no writer; a statement of it that
        takes longer than ``within_seconds`` is a ``JobStoreError``. For the modules beside this.
        """
        with self._database.reading(within_seconds=within_seconds) as connection:
            self._look(connection)
            yield connection

    def _look(self, connection: Connection) -> None:
        # A table that may not be altered from here may be altered by its owner at any time.
        if len(self._added) < len(ADDED_COLUMNS):
            self._added = frozenset(ADDED_COLUMNS) & columns_of_table(connection)

    def record(self, jobs: Sequence[Job]) -> None:
        """Insert or update the rows of ``jobs`` in one transaction.

        News that is older than what the row already tells is ignored, so workers may deliver in
        any order. Of several entries with one id, the newest counts, and ``deliveries`` go on from
        what the row tells. What a row holds because
        nothing was heard yields to all that is heard of that attempt or a later one.
        """
        newest: dict[str, Job] = {}
        for job in jobs:
            job_id = clean(job.id, LABEL_LIMIT)
            known = newest.get(job_id)
            if known is None or job.moment >= known.moment:
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
                where=func.coalesce(new.finished_at, new.started_at, new.enqueued_at, 0.0)
                >= case((_IS_INFERRED, func.coalesce(JOBS.c.started_at, 0.0)), else_=row_moment),
            )
            connection.execute(statement, rows)

    def _as_row(self, job: Job) -> dict[str, Any]:
        return as_row(job, self._added)

    def load(self, jobs: Iterable[Job]) -> int:
        """Insert many new jobs at once, such as a history; returns how many.

        The whole load is one transaction; an id that the store already holds makes it fail.
        """
        entries = iter(jobs)
        loaded = 0
        mark = "?" if self._database.is_sqlite else "%s"
        with self._writing() as connection:
            # Indexes are built faster once than row by row.
            indexes = all_indexes(connection, has_fingerprint=self.has_fingerprint)
            for index in indexes:
                connection.execute(DropIndex(index, if_exists=True))
            while batch := list(islice(entries, _LOAD_BATCH)):
                rows = [self._as_row(job) for job in batch]
                # Plain tuples to the driver: half the time of the same through insert().
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
        """Give failures of before there were fingerprints theirs, at most ``limit``; returns how
        many. 0 means that none is left, or that the table cannot hold them.
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
        """The jobs that stand as started since before then, the oldest first."""
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
        """End the rows that an earlier life of ``worker`` left as started; returns how many became
        retrying, for the broker will deliver them again, and how many are lost.

        Each row says itself whether the broker does; for one that does not, ``redelivers`` holds.
        ``before`` is when the new life began. The jobs ``elsewhere`` are run by another worker of
        the same name.
        """
        left = and_(
            JOBS.c.worker == clean(worker, LABEL_LIMIT),
            JOBS.c.status == JobStatus.STARTED.value,
            JOBS.c.started_at < before,
            JOBS.c.id.not_in([clean(job_id, LABEL_LIMIT) for job_id in elsewhere]),
        )
        reason = "The worker ended while it ran this job."
        with self._writing() as connection:
            comes_again: ColumnElement[bool] = literal(redelivers)
            if "redelivers" in self._added:
                comes_again = func.coalesce(JOBS.c.redelivers, comes_again)
            return {
                status: self._end(
                    connection, and_(left, which), at=before, status=status, reason=reason
                )
                for status, which in (
                    (JobStatus.RETRYING, comes_again),
                    (JobStatus.LOST, not_(comes_again)),
                )
            }

    def end_started(self, jobs: Iterable[Job], *, at: float, status: JobStatus, reason: str) -> int:
        """End those of ``jobs`` whose rows still stand as started as they do; returns how many.

        ``reason`` is a sentence, ``at`` when this was found.
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
        """Say lost of the jobs that have been retrying since before then; returns how many."""
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
        """Let rows of ``worker`` that were ended for its silence be started again, since it runs
        these jobs after all; returns how many.
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
        """Make failed and lost jobs retrying, so that nobody else retries them; returns id → name
        of those that were so until now.
        """
        return self._move(job_ids, (JobStatus.FAILED, JobStatus.LOST), JobStatus.RETRYING)

    def queues_of(self, job_ids: Iterable[str]) -> dict[str, str]:
        """The queue of each job that is known, by id; it may be cut, and may be empty."""
        ids = sorted({clean(job_id, LABEL_LIMIT) for job_id in job_ids})
        found: dict[str, str] = {}
        with self._writing() as connection:
            for start in range(0, len(ids), _MOVE_BATCH):
                chosen = JOBS.c.id.in_(ids[start : start + _MOVE_BATCH])
                rows = connection.execute(select(JOBS.c.id, JOBS.c.queue).where(chosen))
                found |= {as_text(row.id): as_text(row.queue) for row in rows}
        return found

    def release(self, job_ids: Iterable[str]) -> dict[str, str]:
        """Make jobs failed again that were claimed and have not been sent."""
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
        """How long jobs of each name ran that ended since then, of the newest ``limit``."""
        # Not the bare status, whose index SQLite would take, and sort what it finds there.
        status = JOBS.c.status.concat("")
        ended = (
            select(JOBS.c.name, JOBS.c.runtime_seconds)
            .where(since <= row_moment)
            .where(status.in_([JobStatus.SUCCEEDED.value, JobStatus.FAILED.value]))
            # Neither unknown, nor what is no number: that would be among the longest.
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
        # The smallest runtime that at least 95 % of them did not exceed, in whole numbers.
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
        """Give the connections back; the store can still be used."""
        self._database.close()
