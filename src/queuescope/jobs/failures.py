"""Groups recent failures by job type, error class and message.

The cost is bounded, so that a flood of failures costs no more than a bad day: only the newest
50,000 of a range are read and, of those without a fingerprint, the newest 5,000. A report says if
it left out any.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from sqlalchemy import ColumnElement, Connection, func, select

from queuescope.database import as_number, as_text
from queuescope.jobs.fingerprint import normalise
from queuescope.jobs.job import Job
from queuescope.jobs.store import JobStore
from queuescope.jobs.table import HAS_FAILED, JOBS, as_job

READ_LIMIT = 50_000
UNMARKED_LIMIT = 5_000
IDS_LIMIT = 10_000
TENANTS_SHOWN = 10

_NEWEST_FIRST = (JOBS.c.finished_at.desc(), JOBS.c.id.desc())


class GroupOrder(StrEnum):
    """The order of groups."""

    BIGGEST = "biggest"
    NEWEST = "newest"


@dataclass(frozen=True, slots=True)
class Span:
    """``since`` ≤ time < ``until``, in epoch seconds."""

    since: float
    until: float


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """Failures with one fingerprint. ``pattern`` is their message without its variable parts.

    ``tenants`` are those with the most failures, at most ``TENANTS_SHOWN`` of ``tenant_count``;
    ``example`` is the newest of them.
    """

    fingerprint: str
    name: str
    error_class: str
    pattern: str
    count: int
    first_at: float
    last_at: float
    tenants: tuple[str, ...]
    tenant_count: int
    example: Job


@dataclass(frozen=True, slots=True)
class FailureReport:
    """The first ``groups`` of ``group_count``, made of ``failure_count`` failures.

    Unless it ``is_whole``, older failures of the range were left out.
    """

    groups: tuple[FailureGroup, ...]
    group_count: int
    failure_count: int
    is_whole: bool


@dataclass(frozen=True, slots=True)
class FailedIds:
    """Ids of failed jobs, newest first; unless it ``is_whole``, there are more."""

    ids: tuple[str, ...]
    is_whole: bool


@dataclass(slots=True)
class _Tally:
    count: int = 0
    first_at: float = float("inf")
    last_at: float = float("-inf")
    by_tenant: dict[str, int] = field(default_factory=dict)
    example: Job | None = None

    def add(self, tenant: str, count: int, first_at: float, last_at: float) -> None:
        self.count += count
        self.first_at = min(self.first_at, first_at)
        self.last_at = max(self.last_at, last_at)
        self.by_tenant[tenant] = self.by_tenant.get(tenant, 0) + count


def failure_groups(
    store: JobStore, span: Span, *, limit: int = 20, order: GroupOrder = GroupOrder.BIGGEST
) -> FailureReport:
    """The groups of the jobs that failed in ``span``. Raises ``JobStoreError``."""
    within = _within(span)
    tallies: dict[str, _Tally] = {}
    is_whole = True
    with store.reading() as connection:
        has_unmarked = True
        if store.has_fingerprint:
            marked, unmarked = _count_marked(connection, within, tallies)
            is_whole = marked + unmarked < READ_LIMIT
            has_unmarked = unmarked > 0
        if has_unmarked:
            rows = list(_unmarked(connection, store, within))
            is_whole = is_whole and len(rows) < UNMARKED_LIMIT
            for job in rows:
                tally = tallies.setdefault(job.fingerprint, _Tally())
                at = job.finished_at or 0.0
                if tally.example is None and at >= tally.last_at:
                    tally.example = job
                tally.add(job.tenant, 1, at, at)
        ranked = sorted(tallies.items(), key=lambda item: _rank(item[1], item[0], order))
        groups = []
        for mark, tally in ranked[:limit]:
            example = tally.example or _newest_marked(connection, store, mark, tally.last_at)
            if example is not None:
                groups.append(_group(mark, tally, example))
    return FailureReport(
        tuple(groups), len(tallies), sum(tally.count for tally in tallies.values()), is_whole
    )


def failed_ids(
    store: JobStore, span: Span, fingerprint: str, *, limit: int = IDS_LIMIT
) -> FailedIds:
    """The jobs of one group, for an operation on all of them; raises ``JobStoreError``."""
    limit = min(limit, IDS_LIMIT)
    within = _within(span)
    found: list[tuple[float, str]] = []
    is_whole = True
    with store.reading() as connection:
        if store.has_fingerprint:
            rows = connection.execute(
                select(JOBS.c.finished_at, JOBS.c.id)
                .where(HAS_FAILED, JOBS.c.fingerprint == fingerprint, *within)
                .order_by(*_NEWEST_FIRST)
                .limit(limit + 1)
            )
            found += [(as_number(at) or 0.0, as_text(job_id)) for at, job_id in rows]
        unmarked = list(_unmarked(connection, store, within))
        is_whole = len(unmarked) < UNMARKED_LIMIT
        found += [
            (job.finished_at or 0.0, job.id) for job in unmarked if job.fingerprint == fingerprint
        ]
    found.sort(reverse=True)
    return FailedIds(tuple(job_id for _, job_id in found[:limit]), is_whole and len(found) <= limit)


def last_failures(
    store: JobStore, span: Span, *, limit: int = 10, fingerprint: str | None = None
) -> list[Job]:
    """The last single failures, newest first, of all groups or of one. Raises ``JobStoreError``."""
    within = _within(span)
    with store.reading() as connection:
        newest = select(*store.columns).where(HAS_FAILED, *within)
        newest = newest.order_by(*_NEWEST_FIRST).limit(limit)
        if fingerprint is None:
            return [as_job(row) for row in connection.execute(newest)]
        found: list[Job] = []
        if store.has_fingerprint:
            marked = newest.where(JOBS.c.fingerprint == fingerprint)
            found += [as_job(row) for row in connection.execute(marked)]
        found += [
            job for job in _unmarked(connection, store, within) if job.fingerprint == fingerprint
        ]
    found.sort(key=lambda job: (job.finished_at or 0.0, job.id), reverse=True)
    return found[:limit]


def _within(span: Span) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return JOBS.c.finished_at >= span.since, JOBS.c.finished_at < span.until


def _count_marked(
    connection: Connection,
    within: Iterable[ColumnElement[bool]],
    tallies: dict[str, _Tally],
) -> tuple[int, int]:
    """Add the newest failures ``within`` a span to ``tallies``; returns how many had a fingerprint
    and how many had none.
    """
    newest = (
        select(JOBS.c.finished_at, JOBS.c.fingerprint, JOBS.c.tenant)
        .where(HAS_FAILED, *within)
        .order_by(JOBS.c.finished_at.desc())
        .limit(READ_LIMIT)
        .subquery()
    )
    rows = connection.execute(
        select(
            newest.c.fingerprint,
            newest.c.tenant,
            func.count(),
            func.min(newest.c.finished_at),
            func.max(newest.c.finished_at),
        ).group_by(newest.c.fingerprint, newest.c.tenant)
    )
    marked = unmarked = 0
    for raw, tenant, count, first, last in rows:
        first_at, last_at = as_number(first) or 0.0, as_number(last) or 0.0
        mark = None if raw is None else as_text(raw)
        if mark is None:
            unmarked += count
        else:
            marked += count
            tallies.setdefault(mark, _Tally()).add(as_text(tenant), count, first_at, last_at)
    return marked, unmarked


def _unmarked(
    connection: Connection, store: JobStore, within: Iterable[ColumnElement[bool]]
) -> Iterator[Job]:
    """The newest failures ``within`` a span that were written without a fingerprint."""
    statement = select(*store.columns).where(HAS_FAILED, *within)
    if store.has_fingerprint:
        statement = statement.where(JOBS.c.fingerprint.is_(None))
    statement = statement.order_by(*_NEWEST_FIRST).limit(UNMARKED_LIMIT)
    for row in connection.execute(statement):
        yield as_job(row)


def _newest_marked(
    connection: Connection, store: JobStore, fingerprint: str, at: float
) -> Job | None:
    row = connection.execute(
        select(*store.columns)
        .where(HAS_FAILED, JOBS.c.fingerprint == fingerprint, JOBS.c.finished_at == at)
        .order_by(JOBS.c.id.desc())
        .limit(1)
    ).one_or_none()
    return None if row is None else as_job(row)


def _group(mark: str, tally: _Tally, example: Job) -> FailureGroup:
    tenants = sorted(tally.by_tenant, key=lambda name: (-tally.by_tenant[name], name))
    return FailureGroup(
        fingerprint=mark,
        name=example.name,
        error_class=example.error_class,
        pattern=normalise(example.error_message),
        count=tally.count,
        first_at=tally.first_at,
        last_at=tally.last_at,
        tenants=tuple(tenants[:TENANTS_SHOWN]),
        tenant_count=len(tenants),
        example=example,
    )


def _rank(tally: _Tally, mark: str, order: GroupOrder) -> tuple[float, float, str]:
    first, second = -tally.count, -tally.last_at
    return (second, first, mark) if order is GroupOrder.NEWEST else (first, second, mark)
