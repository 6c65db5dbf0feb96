"""Searches the job history: filters, pages, counts, and the values to choose from.

The cost of a search is bounded, whatever the number of rows and the filters. The filter that leaves
the fewest rows uses its index, newest first; the others are checked row by row, at most 10,000
rows for a page. An answer that stops there says how far back it searched, and the next one
continues from there.

A page starts at the place where the last one ended, not at a row number, so that new rows shift
nothing. A job that ends meanwhile moves to the time of its end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

from sqlalchemy import Column, ColumnElement, Connection, Select, func, literal, or_, select

from queuescope.database import as_number, as_text
from queuescope.jobs.job import LABEL_LIMIT, LATEST, Job, JobStatus
from queuescope.jobs.store import JobStore
from queuescope.jobs.table import FILTERED, HAS_ERROR, ID_IN_BYTES, JOBS, as_job, clean, row_moment

PAGE_LENGTH = 50
SEARCHED_LIMIT = 10_000
COUNT_LIMIT = 10_000
VALUES_LIMIT = 200
TEXT_LIMIT = 200
_PROBE_LIMIT = 2_000
_IDS_LIMIT = 200
_LAST_CHARACTER = "\U0010ffff"

# The columns that a check may use.
_CHECKED = [JOBS.c[name] for name in (*FILTERED, "error_class", "error_message")]

Condition = ColumnElement[bool]
Check = Callable[[Any], Condition]
"""Makes a condition from the columns of a subquery."""


@dataclass(frozen=True, slots=True)
class JobFilter:
    """A filter for jobs; ``None`` and empty mean all.

    ``since`` ≤ moment < ``until``, in epoch seconds, where a job's moment is when it ended or,
    while it runs, when it started. ``text`` is the beginning of a job's id or, if there is no such
    job, a part of an error's class or message, in any case.
    """

    status: JobStatus | None = None
    tenant: str = ""
    name: str = ""
    queue: str = ""
    worker: str = ""
    since: float | None = None
    until: float | None = None
    text: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """A place in the history, between a job and those older than it."""

    moment: float
    id: str

    def __str__(self) -> str:
        """The text for an address."""
        return f"{self.moment!r}~{self.id}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Parse a result of ``str``; ``None`` for any other text."""
        moment, found, job_id = text.partition("~")
        try:
            at = float(moment)
        except ValueError:
            return None
        return cls(at, job_id[:LABEL_LIMIT]) if found and math.isfinite(at) else None

    @classmethod
    def of(cls, job: Job) -> Self:
        return cls(job.moment, job.id)


@dataclass(frozen=True, slots=True)
class JobPage:
    """A page of matching jobs, newest first.

    ``older`` and ``newer`` are where the next pages start; ``None``: there is none. With
    ``searched_back_to`` (epoch seconds) the search stopped there before the page was full.
    """

    jobs: tuple[Job, ...]
    newer: Place | None
    older: Place | None
    searched_back_to: float | None = None


@dataclass(frozen=True, slots=True)
class JobCount:
    """How many jobs match: exactly ``count``, or at least that many unless it ``is_exact``."""

    count: int
    is_exact: bool


@dataclass(frozen=True, slots=True)
class Values:
    """The values of a column, in the database's order; unless it ``is_whole``, there are more."""

    values: tuple[str, ...]
    is_whole: bool


def find_jobs(
    store: JobStore,
    wanted: JobFilter,
    *,
    limit: int = PAGE_LENGTH,
    older_than: Place | None = None,
    newer_than: Place | None = None,
) -> JobPage:
    """The newest jobs, those next to ``older_than``, or those next to ``newer_than``.

    Raises ``JobStoreError``.
    """
    goes_up = newer_than is not None and older_than is None
    beyond = _beyond(older_than, newer_than)
    with store.reading() as connection:
        plan = _plan(connection, wanted)
        rows = connection.execute(
            plan.jobs(store.columns, beyond, up=goes_up).limit(limit + 1)
        ).all()
        found = [as_job(row) for row in rows]
        has_more = len(found) > limit
        end = None if has_more else plan.end(connection, beyond, up=goes_up)
    jobs = found[:limit]
    places = [_place(job, row) for job, row in zip(jobs, rows, strict=False)]
    further = places[-1] if has_more else end
    searched_back_to = None if end is None else end.moment
    if goes_up:
        # There is always a way back, to the page one came from.
        back = places[0] if jobs else newer_than
        return JobPage(tuple(jobs[::-1]), further, back, searched_back_to)
    back = places[0] if jobs else older_than
    return JobPage(tuple(jobs), back if older_than else None, further, searched_back_to)


def each_job(store: JobStore, wanted: JobFilter, *, limit: int) -> Iterator[Job]:
    """The newest ``limit`` matching jobs, however old they are, read in pieces that use the
    database only briefly. Raises ``JobStoreError``, also between two jobs.
    """
    left, place = limit, None
    while left > 0:
        page = find_jobs(store, wanted, limit=min(left, 1000), older_than=place)
        yield from page.jobs
        left -= len(page.jobs)
        place = page.older
        if place is None:
            return


def count_jobs(store: JobStore, wanted: JobFilter) -> JobCount:
    """How many jobs match, counted up to ``COUNT_LIMIT``. Raises ``JobStoreError``."""
    with store.reading() as connection:
        plan = _plan(connection, wanted)
        some = plan.to_count().limit(COUNT_LIMIT + 1).subquery()
        count = connection.execute(select(func.count()).select_from(some)).scalar_one()
        is_whole = count <= COUNT_LIMIT and plan.end(connection, (), up=False) is None
    return JobCount(min(count, COUNT_LIMIT), is_exact=is_whole)


def known_values(store: JobStore, column: str, *, limit: int = VALUES_LIMIT) -> Values:
    """The values of ``column`` (tenant, name, queue or worker), found by jumping from one value to
    the next in its index. Raises ``JobStoreError``, and ``ValueError`` for another column.
    """
    if column not in FILTERED:
        raise ValueError(f"{column!r} is not a column to filter by")
    cell = JOBS.c[column]
    value = select(func.min(cell).label("value")).cte("known", recursive=True)
    following = select(func.min(cell)).where(cell > value.c.value).scalar_subquery()
    value = value.union_all(select(following).where(value.c.value.is_not(None)))
    statement = select(value.c.value).where(value.c.value.is_not(None)).limit(limit + 1)
    with store.reading() as connection:
        found = [as_text(name) for (name,) in connection.execute(statement)]
    return Values(tuple(found[:limit]), len(found) <= limit)


@dataclass(frozen=True, slots=True)
class _Plan:
    """How the jobs are found: an index in order of time answers ``first``, and ``checks`` are made
    row by row.
    """

    first: tuple[Condition, ...]
    checks: tuple[Check, ...]

    def jobs(
        self, columns: Sequence[Column[Any]], beyond: Sequence[Condition], *, up: bool
    ) -> Select[Any]:
        """The matching rows in order of time, which the index has without sorting."""
        rows = _in_order(select(*columns).where(*self.first, *beyond), up=up)
        if not self.checks:
            return rows
        # A subquery with a limit keeps its order.
        return self._checked(rows.limit(SEARCHED_LIMIT))

    def to_count(self) -> Select[Any]:
        """The same rows for counting, without other columns."""
        if not self.checks:
            return select(literal(1)).select_from(JOBS).where(*self.first)
        rows = select(*_CHECKED).where(*self.first).order_by(row_moment.desc())
        return self._checked(rows.limit(SEARCHED_LIMIT))

    def _checked(self, rows: Select[Any]) -> Select[Any]:
        part = rows.subquery()
        return select(part).where(*(check(part.c) for check in self.checks))

    def end(self, connection: Connection, beyond: Sequence[Condition], *, up: bool) -> Place | None:
        """Where the searched part ends; ``None`` if there are no rows beyond it."""
        if not self.checks:
            return None
        rows = select(row_moment.label("moment"), JOBS.c.id).where(*self.first, *beyond)
        last = _in_order(rows, up=up).offset(SEARCHED_LIMIT - 1).limit(2)
        found = connection.execute(last).all()
        return _placed(found[0].moment, found[0].id) if len(found) == 2 else None


def _place(job: Job, row: Any) -> Place:
    """The place of a row, from the same values by which it is ordered."""
    for name in ("finished_at", "started_at", "enqueued_at"):
        value = getattr(row, name)
        if value is not None:
            return _placed(value, job.id)
    return Place(0.0, job.id)


def _placed(moment: Any, job_id: Any) -> Place:
    # SQLite orders text after every number, and PostgreSQL orders NaN so.
    at = as_number(moment, most=LATEST)
    return Place(LATEST if at is None else at, as_text(job_id))


def _plan(connection: Connection, wanted: JobFilter) -> _Plan:
    span = _span(wanted)
    equal = [
        _equals(name, clean(str(value), LABEL_LIMIT))
        for name in FILTERED
        if (value := getattr(wanted, name))
    ]
    indexed = [(check(JOBS.c), (check,)) for check in equal]
    text = clean(wanted.text.strip(), TEXT_LIMIT)
    if not text:
        return _best(connection, indexed, equal, span)
    if ids := _ids_starting_with(connection, text):
        return _Plan((JOBS.c.id.in_(ids), *span), tuple(equal))
    return _best(connection, [*indexed, (HAS_ERROR, ())], [*equal, _holds(text)], span)


def _best(
    connection: Connection,
    indexed: Sequence[tuple[Any, tuple[Check, ...]]],
    checks: Sequence[Check],
    span: tuple[Condition, ...],
) -> _Plan:
    """The plan with the index that has the fewest matching rows; ``indexed`` are the conditions
    that an index can answer, each with the checks that it replaces.
    """
    if not indexed:
        return _Plan(span, tuple(checks))
    first, done = indexed[0]
    if len(indexed) > 1:
        first, done = min(indexed, key=lambda one: _density(connection, one[0], span))
    return _Plan((first, *span), tuple(check for check in checks if check not in done))


def _density(
    connection: Connection, condition: Any, span: Sequence[Condition]
) -> tuple[int, float]:
    """How many rows an index has for ``condition`` or, if there are very many, how far back the
    newest of them reach.
    """
    moments = select(row_moment.label("moment")).where(condition, *span)
    newest = _in_order(moments, up=False, by_id=False).limit(_PROBE_LIMIT).subquery()
    count, oldest = connection.execute(
        select(func.count(), func.min(newest.c.moment)).select_from(newest)
    ).one()
    oldest = as_number(oldest, most=LATEST)
    return (count, oldest or 0.0) if count == _PROBE_LIMIT else (count, 0.0)


def _equals(name: str, value: str) -> Check:
    return lambda columns: columns[name] == value


def _holds(text: str) -> Check:
    return lambda columns: or_(
        columns.error_message.icontains(text, autoescape=True),
        columns.error_class.icontains(text, autoescape=True),
    )


def _ids_starting_with(connection: Connection, text: str) -> list[str]:
    """The ids that begin with ``text``; none if there are too many, since then it is hardly an
    id.
    """
    key: Any = JOBS.c.id if connection.dialect.name == "sqlite" else ID_IN_BYTES
    rows = connection.execute(
        select(JOBS.c.id).where(key >= text, key < text + _LAST_CHARACTER).limit(_IDS_LIMIT + 1)
    )
    ids = [str(job_id) for (job_id,) in rows]
    return ids if len(ids) <= _IDS_LIMIT else []


def _span(wanted: JobFilter) -> tuple[Condition, ...]:
    span: list[Condition] = []
    if wanted.since is not None:
        span.append(row_moment >= wanted.since)
    if wanted.until is not None:
        span.append(row_moment < wanted.until)
    return tuple(span)


def _beyond(older_than: Place | None, newer_than: Place | None) -> tuple[Condition, ...]:
    # The first condition lets the database start in the middle of an index.
    if older_than is not None:
        at, job_id = older_than.moment, clean(older_than.id, LABEL_LIMIT)
        return (row_moment <= at, or_(row_moment < at, JOBS.c.id < job_id))
    if newer_than is not None:
        at, job_id = newer_than.moment, clean(newer_than.id, LABEL_LIMIT)
        return (row_moment >= at, or_(row_moment > at, JOBS.c.id > job_id))
    return ()


def _in_order(rows: Select[Any], *, up: bool, by_id: bool = True) -> Select[Any]:
    keys = (row_moment, JOBS.c.id) if by_id else (row_moment,)
    return rows.order_by(*(key.asc() if up else key.desc() for key in keys))
