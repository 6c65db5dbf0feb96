"""The audit: intents and outcomes of operations, append-only, each entry chained to the previous.

An entry's hash covers all of its fields and the previous hash, and the head of the chain is in a
separate table. So a changed, removed, inserted, moved or cut-off entry is detected. Someone who may
write to the database and knows this file can compute a whole new chain; only a head that was saved
elsewhere reveals that.
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
"""Replaces a time that is not a number; it is shown as unknown."""
NO_HASH = "0" * 64
_BATCH = 1000
_HEAD_MISSING = "the saved head is not in the chain: the chain was rebuilt or cut off"


class Phase(StrEnum):
    """An intent is written before its effect, the outcome after it. A refusal has only an
    outcome.
    """

    INTENT = "intent"
    OUTCOME = "outcome"


class Result(StrEnum):
    """The result of an operation; ``unknown`` if no answer says whether it happened."""

    PENDING = "pending"
    DONE = "done"
    REFUSED = "refused"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of an operation; ``detail`` is a sentence that may be shown to anyone, ``count``
    is how many things it affected. ``operation_id`` is empty if it never began. ``is_recorded`` is
    false if the audit could not be written afterwards; it will show ``unknown`` then.
    """

    result: Result
    detail: str
    count: int = 0
    operation_id: str = ""
    is_recorded: bool = True


@dataclass(frozen=True, slots=True)
class Event:
    """The content of an entry. The names of the fields are those of the table and the exports.

    ``act`` is the id of the operation, which its intent and its outcome share; ``at_ms`` is UTC
    epoch milliseconds; ``touched`` is how many jobs, queues or processes it affects, -1 if unknown.
    ``phase`` is a ``Phase`` and ``result`` a ``Result``, or text of a newer version.
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
    """An event with its place in the chain."""

    seq: int
    event: Event
    previous: str
    hash: str


@dataclass(frozen=True, slots=True)
class Verification:
    """The result of checking the chain: ``fault`` is a sentence, empty if there is none.

    A check that took too long stopped after ``entries`` and is not ``is_complete``.
    """

    entries: int
    head: str
    fault: str
    is_complete: bool = True


@dataclass(frozen=True, slots=True)
class Search:
    """A filter for entries. ``text`` is searched in every text column, ``target`` only in the
    targets.
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
    """Start the chain, and make the database refuse changes; the tables must exist."""
    for statement in _APPEND_ONLY[connection.dialect.name]:
        connection.exec_driver_sql(statement)
    if connection.execute(select(_head.c.id)).first() is None:
        connection.execute(insert(_head).values(id=1, seq=0, hash=NO_HASH))


def append(connection: Connection, event: Event) -> Entry:
    """Write ``event`` at the end of the chain; it is stored when the transaction ends."""
    # In PostgreSQL the row lock admits one writer at a time; SQLite has only one anyway.
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
    """Reads and checks the audit in the operations database; ``append`` writes to it.

    Every method raises ``AuditError`` if the database does not give a usable answer.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, search: Search, *, limit: int = 20, before: int | None = None) -> list[Entry]:
        """The newest matching entries, newest first; ``before`` is the seq where a page ended."""
        with self._database.reading() as connection:
            statement = select(_audit).where(*_conditions(search))
            if before is not None:
                statement = statement.where(_audit.c.seq < before)
            return [
                _entry(row)
                for row in connection.execute(statement.order_by(_audit.c.seq.desc()).limit(limit))
            ]

    def of_operations(self, operation_ids: Iterable[str]) -> list[Entry]:
        """Every entry of the operations with these ids, oldest first."""
        with self._database.reading() as connection:
            statement = (
                select(_audit).where(_audit.c.act.in_(list(operation_ids))).order_by(_audit.c.seq)
            )
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
        yield _csv_line(["seq", *_COLUMNS, "previous", "hash"])
        for entry in self._each(search):
            yield _csv_line([entry.seq, *astuple(entry.event), entry.previous, entry.hash])

    def export_json(self, search: Search) -> Iterator[str]:
        """The matching entries, oldest first, each as a line of JSON."""
        for entry in self._each(search):
            line = {
                "seq": entry.seq,
                **asdict(entry.event),
                "previous": entry.previous,
                "hash": entry.hash,
            }
            yield json.dumps(line, ensure_ascii=False) + "\n"

    def _each(self, search: Search) -> Iterator[Entry]:
        """The matching entries, oldest first. No transaction stays open between them, however
        slowly they are taken; since entries only ever come at the end, none is missed.
        """
        statement = select(_audit).where(*_conditions(search)).order_by(_audit.c.seq).limit(_BATCH)
        rest = statement
        while True:
            with self._database.reading() as connection:
                rows = connection.execute(rest).all()
            yield from map(_entry, rows)
            if len(rows) < _BATCH:
                return
            rest = statement.where(_audit.c.seq > rows[-1].seq)

    def prove_writable(self) -> None:
        """Use every right that ``append`` needs, without writing anything."""
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
        """Check the whole chain, or as much of it as possible in ``patience_seconds``.

        ``expected_head`` is a head (``seq:hash``) that was saved before and must still be in the
        chain. ``after`` is a head up to which the chain was verified already: only the entries
        after it are checked.
        """
        with self._database.reading() as connection:
            count, previous, fault = 0, NO_HASH, ""
            if after:
                seq, _, previous = after.partition(":")
                count = int(seq)
            wanted = expected_head.strip()
            wanted_seq = int(seq) if (seq := wanted.partition(":")[0]).isdecimal() else math.inf
            # An earlier check compared it with the entries before ``after``.
            is_found = not wanted or bool(after and wanted_seq <= count)
            until = time.monotonic() + patience_seconds
            for row in _rows(connection, count):
                fault = _fault(row, count + 1, previous)
                if fault:
                    break
                if count % _BATCH == 0 and count and time.monotonic() > until:
                    return Verification(count, f"{count}:{previous}", "", is_complete=False)
                count, previous = count + 1, row.hash
                is_found = is_found or f"{count}:{previous}" == wanted
                if not is_found and count >= wanted_seq:
                    fault = _HEAD_MISSING
                    break
            head = connection.execute(select(_head)).all()
            if not fault and len(head) != 1:
                fault = "the head of the chain is missing"
            if not fault and tuple(head[0]) != (1, count, previous):
                fault = f"the chain ends at entry {count}, but its head says entry {head[0].seq}"
                if head[0].seq == count:
                    fault = f"entry {count} does not match the head of the chain"
            if not fault and not is_found:
                fault = _HEAD_MISSING
            return Verification(count, f"{count}:{previous}", fault)


def utc_words(at_ms: float) -> str:
    """Epoch milliseconds in words, such as ``12:30:00 UTC on 01 May 2026``."""
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
        # Text that is not UTF-8 is foreign: it must show as a changed entry, not fail the read.
        driver = connection.connection.driver_connection
        assert driver is not None  # noqa: S101 - an open connection has one
        driver.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
    statement = select(_audit).order_by(_audit.c.seq)
    if after:
        statement = statement.where(_audit.c.seq > after)
    # Closed at the end: a check may stop at the first fault and use the connection again.
    with connection.execution_options(yield_per=_BATCH).execute(statement) as result:
        yield from result


def _fault(row: Row[Any], seq: int, previous: str) -> str:
    if type(row.seq) is not int or row.seq != seq:
        return f"entry {seq} is missing or was replaced"
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
    # As a JSON list, no two different entries have the same text.
    text = json.dumps([1, seq, *values, previous], ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _entry(row: Row[Any]) -> Entry:
    """The entry as stored; only ``verify`` detects changes."""
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
