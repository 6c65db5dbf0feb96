"""The audit: what was meant and what became of it, append-only, each entry chained to the last.

An entry's hash covers all of its fields and the hash before it, and the head of the chain stands
in a table of its own. So an edit, a removal, an insertion, another order and a cut tail are
found. Whoever may write to the database and knows this file can compute a whole new chain; only
a head that was noted elsewhere shows that.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, astuple, dataclass, fields, replace
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Integer,
    MetaData,
    Row,
    String,
    Table,
    false,
    func,
    insert,
    or_,
    select,
    update,
)

from queuescope.csv_cells import harmless
from queuescope.database import Database, as_text, as_whole, member
from queuescope.errors import AuditError
from queuescope.shown_text import one_line

TEXT_LIMIT = 255
DETAIL_LIMIT = 1000
UNREADABLE_TIME = -(2**62)
"""Stands for a time that is no number; it is shown as unknown."""
NO_HASH = "0" * 64
_BATCH = 1000
_NOT_THERE = "the head that was noted is not in the chain: it was made anew or cut"


class Phase(StrEnum):
    """An intent stands before its effect, its outcome after it. A refusal has only an outcome."""

    INTENT = "intent"
    OUTCOME = "outcome"


class Result(StrEnum):
    """What became of an operation. ``unknown``: no answer tells what happened."""

    PENDING = "pending"
    DONE = "done"
    REFUSED = "refused"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an operation, in ``detail`` as a sentence that may be shown to anyone;
    ``count`` is how many it touched. ``act`` is its id, empty when it never
    began.
    ``is_recorded`` is false when the audit could not be written any more: it will say ``unknown``
    there.
    """

    result: Result
    detail: str
    count: int = 0
    act: str = ""
    is_recorded: bool = True


@dataclass(frozen=True, slots=True)
class Event:
    """What is written: ``act`` is the id of the operation, which its intent and its outcome share;
    ``at_ms`` is UTC epoch
    milliseconds; ``touched`` is how many jobs, queues or places it touches, -1 when unknown.
    ``phase`` is a ``Phase`` and ``result`` a ``Result``, or what a newer version has written.
    """

    at_ms: int
    act: str
    phase: str
    actor: str
    role: str
    operation: str
    target: str
    touched: int
    result: str
    detail: str


@dataclass(frozen=True, slots=True)
class Entry:
    """An event as it stands in the chain."""

    seq: int
    event: Event
    previous: str
    hash: str


@dataclass(frozen=True, slots=True)
class Verification:
    """How the chain was found: ``fault`` is a sentence, or empty when it is whole.

    A walk that took too long was stopped after ``entries`` and is not ``is_complete``.
    """

    entries: int
    head: str
    fault: str
    is_complete: bool = True


@dataclass(frozen=True, slots=True)
class Search:
    """Which entries are meant. ``text`` is looked for in every column of text, ``target`` in that
    of the targets.
    """

    text: str = ""
    target: str = ""
    operation: str = ""
    actor: str = ""
    result: str = ""
    since_ms: int | None = None
    until_ms: int | None = None


metadata = MetaData()
_audit = Table(
    "operations_audit",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("act", String(TEXT_LIMIT), nullable=False, index=True),
    Column("phase", String(16), nullable=False),
    Column("actor", String(TEXT_LIMIT), nullable=False),
    Column("role", String(16), nullable=False),
    Column("operation", String(16), nullable=False),
    Column("target", String(TEXT_LIMIT), nullable=False),
    Column("touched", BigInteger, nullable=False),
    Column("result", String(16), nullable=False),
    Column("detail", String(DETAIL_LIMIT), nullable=False),
    Column("previous", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
)
_head = Table(
    "operations_audit_head",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("seq", BigInteger, nullable=False),
    Column("hash", String(64), nullable=False),
)
_COLUMNS = [field.name for field in fields(Event)]
_SQLITE_REFUSES = """
CREATE TRIGGER IF NOT EXISTS operations_audit_no_{verb} BEFORE {verb} ON operations_audit
BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END
"""
_POSTGRESQL_REFUSES = """
CREATE OR REPLACE FUNCTION operations_audit_refuse() RETURNS trigger LANGUAGE plpgsql
AS $$ BEGIN RAISE EXCEPTION 'the audit is append-only'; END $$;
CREATE OR REPLACE TRIGGER operations_audit_append_only
BEFORE UPDATE OR DELETE OR TRUNCATE ON operations_audit
FOR EACH STATEMENT EXECUTE FUNCTION operations_audit_refuse()
"""
_APPEND_ONLY = {
    "sqlite": [_SQLITE_REFUSES.format(verb=verb) for verb in ("update", "delete")],
    "postgresql": [_POSTGRESQL_REFUSES],
}


def prepare(connection: Connection) -> None:
    """Begin the chain, and let the database itself refuse changes; the tables are there."""
    for statement in _APPEND_ONLY[connection.dialect.name]:
        connection.exec_driver_sql(statement)
    if connection.execute(select(_head.c.id)).first() is None:
        connection.execute(insert(_head).values(id=1, seq=0, hash=NO_HASH))


def append(connection: Connection, event: Event) -> Entry:
    """Write ``event`` at the end of the chain; it is there when the transaction ends."""
    # The row lock lets only one writer of PostgreSQL continue the chain; SQLite has one anyway.
    head = connection.execute(select(_head).with_for_update()).one_or_none()
    if head is None:
        raise AuditError("the head of the audit is missing; run `queuescope audit verify`")
    event = _cleaned(event)
    seq = int(head.seq) + 1
    entry = Entry(seq, event, head.hash, _hash(seq, astuple(event), head.hash))
    row: dict[str, Any] = dict(zip(_COLUMNS, astuple(event), strict=True))
    row |= {"seq": seq, "previous": entry.previous, "hash": entry.hash}
    connection.execute(insert(_audit).values(row))
    connection.execute(update(_head).values(seq=seq, hash=entry.hash))
    return entry


class Audit:
    """The audit in the operations database: everything but writing to it, which ``append`` does.

    Every method raises ``AuditError`` when the database does not give a usable answer.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, search: Search, *, limit: int = 20, before: int | None = None) -> list[Entry]:
        """The newest entries that match, newest first; ``before`` is the seq where a page ended."""
        with self._database.reading() as connection:
            statement = select(_audit).where(*_conditions(search))
            if before is not None:
                statement = statement.where(_audit.c.seq < before)
            return [
                _entry(row)
                for row in connection.execute(statement.order_by(_audit.c.seq.desc()).limit(limit))
            ]

    def of_acts(self, acts: Iterable[str]) -> list[Entry]:
        """Every entry of the operations with these ids, oldest first."""
        with self._database.reading() as connection:
            statement = select(_audit).where(_audit.c.act.in_(list(acts))).order_by(_audit.c.seq)
            return [_entry(row) for row in connection.execute(statement)]

    def on_targets(self, targets: Iterable[str], operation: str) -> list[Entry]:
        """Every entry of this operation on these targets, oldest first."""
        with self._database.reading() as connection:
            statement = (
                select(_audit)
                .where(_audit.c.operation == operation, _audit.c.target.in_(list(targets)))
                .order_by(_audit.c.seq)
            )
            return [_entry(row) for row in connection.execute(statement)]

    def export_csv(self, search: Search) -> Iterator[str]:
        """The matching entries, oldest first, line by line; no cell starts a formula."""
        with self._database.reading() as connection:
            yield _csv_line(["seq", *_COLUMNS, "previous", "hash"])
            statement = select(_audit).where(*_conditions(search)).order_by(_audit.c.seq)
            result = connection.execution_options(yield_per=_BATCH).execute(statement)
            for row in result:
                entry = _entry(row)
                yield _csv_line([entry.seq, *astuple(entry.event), entry.previous, entry.hash])

    def export_json(self, search: Search) -> Iterator[str]:
        """The matching entries, oldest first, each as a line of JSON."""
        with self._database.reading() as connection:
            statement = select(_audit).where(*_conditions(search)).order_by(_audit.c.seq)
            for row in connection.execution_options(yield_per=_BATCH).execute(statement):
                entry = _entry(row)
                line = {
                    "seq": entry.seq,
                    **asdict(entry.event),
                    "previous": entry.previous,
                    "hash": entry.hash,
                }
                yield json.dumps(line, ensure_ascii=False) + "\n"

    def prove_writable(self) -> None:
        """Ask for all that ``append`` needs, and write nothing."""
        with self._database.transaction() as connection:
            nothing = select(_audit).where(false())
            connection.execute(insert(_audit).from_select(list(_audit.c), nothing))
            connection.execute(update(_head).where(false()).values(seq=0))
            connection.execute(select(_head.c.id).with_for_update())

    def verify(
        self,
        *,
        expected_head: str = "",
        after: str = "",
        patience_seconds: float = math.inf,
    ) -> Verification:
        """Walk the whole chain, or as much of it as can be walked in ``patience_seconds``.

        ``expected_head`` is a head (``seq:hash``) that was noted before: it must still stand in the
        chain. ``after`` is one up to which the chain was verified already: only what follows is
        walked, from the hash that was found there.
        """
        with self._database.reading() as connection:
            count, previous, fault = 0, NO_HASH, ""
            if after:
                seq, _, previous = after.partition(":")
                count = int(seq)
            wanted = expected_head.strip()
            wanted_seq = int(seq) if (seq := wanted.partition(":")[0]).isdecimal() else math.inf
            # What lies before ``after`` was held against it by an earlier walk.
            is_met = not wanted or bool(after and wanted_seq <= count)
            until = time.monotonic() + patience_seconds
            for row in _rows(connection, count):
                fault = _fault(row, count + 1, previous)
                if fault:
                    break
                if count % _BATCH == 0 and count and time.monotonic() > until:
                    return Verification(count, f"{count}:{previous}", "", is_complete=False)
                count, previous = count + 1, row.hash
                is_met = is_met or f"{count}:{previous}" == wanted
                if not is_met and count >= wanted_seq:
                    fault = _NOT_THERE
                    break
            head = connection.execute(select(_head)).all()
            if not fault and len(head) != 1:
                fault = "the head of the chain is missing"
            if not fault and tuple(head[0]) != (1, count, previous):
                fault = f"the chain ends at entry {count}, but its head says entry {head[0].seq}"
                if head[0].seq == count:
                    fault = f"entry {count} is not the one that the head of the chain was made for"
            if not fault and not is_met:
                fault = _NOT_THERE
            return Verification(count, f"{count}:{previous}", fault)


def utc_words(at_ms: float) -> str:
    """Epoch milliseconds as a sentence says them."""
    try:
        return time.strftime("%H:%M:%S UTC on %d %B %Y", time.gmtime(at_ms / 1000))
    except (TypeError, ValueError, OverflowError, OSError):
        return "a time that cannot be read"


def _cleaned(event: Event) -> Event:
    return replace(
        event,
        act=one_line(event.act),
        actor=one_line(event.actor),
        role=one_line(event.role),
        operation=one_line(event.operation),
        target=one_line(event.target),
        detail=one_line(event.detail, DETAIL_LIMIT),
    )


def _rows(connection: Connection, after: int) -> Iterator[Row[Any]]:
    if connection.dialect.name == "sqlite":
        # Text that is not UTF-8 was not written by us: it must be seen, not fail the reading.
        driver = connection.connection.driver_connection
        assert driver is not None  # noqa: S101 - an open connection has one
        driver.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
    statement = select(_audit).order_by(_audit.c.seq)
    if after:
        statement = statement.where(_audit.c.seq > after)
    # Closed at its end: a walk may stop at the first fault, and the connection is asked again.
    with connection.execution_options(yield_per=_BATCH).execute(statement) as result:
        yield from result


def _fault(row: Row[Any], seq: int, previous: str) -> str:
    if type(row.seq) is not int or row.seq != seq:
        return f"entry {seq} is missing, or another stands in its place"
    values = [getattr(row, name) for name in _COLUMNS]
    numbers = ("at_ms", "touched")
    if not all(
        type(value) is (int if name in numbers else str)
        for name, value in zip([*_COLUMNS, "previous"], [*values, row.previous], strict=True)
    ) or row.hash != _hash(seq, values, row.previous):
        return f"entry {seq} was changed"
    if row.previous != previous:
        return f"entry {seq} does not follow the entry before it"
    return ""


def _hash(seq: int, values: Iterable[object], previous: object) -> str:
    # A list in JSON: no two different entries have one text.
    text = json.dumps([1, seq, *values, previous], ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _entry(row: Row[Any]) -> Entry:
    """As it stands there; whether anybody has changed it is for ``verify`` to say."""
    values = {name: as_text(getattr(row, name)) for name in _COLUMNS}
    at_ms, touched = as_whole(row.at_ms), as_whole(row.touched)
    event = Event(
        at_ms=UNREADABLE_TIME if at_ms is None else at_ms,
        act=values["act"],
        phase=member(Phase, values["phase"]),
        actor=values["actor"],
        role=values["role"],
        operation=values["operation"],
        target=values["target"],
        touched=-1 if touched is None else touched,
        result=member(Result, values["result"]),
        detail=values["detail"],
    )
    return Entry(as_whole(row.seq) or 0, event, as_text(row.previous), as_text(row.hash))


def _conditions(search: Search) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = [
        _audit.c[name] == value
        for name in ("operation", "actor", "result")
        if (value := getattr(search, name))
    ]
    if search.since_ms is not None:
        found.append(_audit.c.at_ms >= search.since_ms)
    if search.until_ms is not None:
        found.append(_audit.c.at_ms < search.until_ms)
    if search.target:
        found.append(func.lower(_audit.c.target).contains(search.target.lower(), autoescape=True))
    if search.text:
        words = search.text.lower()
        found.append(
            or_(
                *(
                    func.lower(_audit.c[name]).contains(words, autoescape=True)
                    for name in ("act", "actor", "role", "operation", "target", "result", "detail")
                )
            )
        )
    return found


def _csv_line(cells: Iterable[object]) -> str:
    line = io.StringIO()
    csv.writer(line).writerow([harmless(cell) if isinstance(cell, str) else cell for cell in cells])
    return line.getvalue()
