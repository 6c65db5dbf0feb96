"""The operations database: planned, started and ended operations, each step in one transaction.

It holds the challenges, a revision and the last operation for every target, the open operations,
the audit, and the desired state of the queues.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Row,
    String,
    Table,
    Text,
    delete,
    insert,
    inspect,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from queuescope.database import Database, as_text, as_whole
from queuescope.errors import AuditError, RefusalReason, RefusedError
from queuescope.operations import audit, pauses
from queuescope.operations.access import Actor, Role
from queuescope.operations.audit import Audit, Entry, Event, Outcome, Phase, Result
from queuescope.operations.pauses import DesiredPauses
from queuescope.operations.request import Plan, Request
from queuescope.shown_text import one_line

CHALLENGE_SECONDS = 60
"""How long a challenge is valid."""
_REMEMBERED_SECONDS = 3600
OPEN_LIMIT_SECONDS = 120
"""An operation without an outcome after this time counts as abandoned by its server."""
_REMEDIES = {
    "25006": "it is read-only; use the address of the primary server",
    "42501": "its user lacks a right; grant SELECT and INSERT on the tables operations_…, UPDATE "
    "on all of them but operations_audit, DELETE on operations_open and operations_challenges, "
    "or, where they are missing, CREATE on the schema",
    "42703": "its tables are not Queuescope's; give the audit a database or schema of its own",
    "55P03": "another transaction has locked it; try again",
}
_ENDED = "The server ended before it recorded the outcome."
# A fork shares its parent's token, but has another process id.
_HOST, _PROCESS = socket.gethostname(), secrets.token_hex(4)

_targets = Table(
    "operations_targets",
    audit.metadata,
    Column("target", String(audit.TEXT_LIMIT), primary_key=True),
    Column("revision", BigInteger, nullable=False),
    Column("actor", String(audit.TEXT_LIMIT), nullable=False),
    Column("words", String(audit.DETAIL_LIMIT), nullable=False),
    Column("at_ms", BigInteger, nullable=False),
)
_open = Table(
    "operations_open",
    audit.metadata,
    Column("act", String(audit.TEXT_LIMIT), primary_key=True),
    Column("target", String(audit.TEXT_LIMIT), nullable=False, index=True),
    Column("server", String(audit.TEXT_LIMIT), nullable=False),
    Column("at_ms", BigInteger, nullable=False),
)
_challenges = Table(
    "operations_challenges",
    audit.metadata,
    Column("token_hash", String(64), primary_key=True),
    Column("actor", String(audit.TEXT_LIMIT), nullable=False),
    Column("how", String(16), nullable=False),
    Column("request", Text, nullable=False),
    Column("planned_count", BigInteger, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("expires_at_ms", BigInteger, nullable=False, index=True),
    Column("used_at_ms", BigInteger),
)


@dataclass(frozen=True, slots=True)
class OpenOperation:
    """An operation that has started and has no outcome yet."""

    operation_id: str
    target: str
    at_ms: int


class OperationsStore:
    """The operations database behind ``url``, in SQLite or PostgreSQL.

    Every method raises ``AuditError`` if the database does not give a usable answer; then nothing
    was written. Threads and processes may share one database.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_seconds: float = 5.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Raises ``ConfigurationError`` if ``url`` cannot be used."""
        self._clock = clock
        self._database = Database(
            url,
            setting="operations_store_url",
            title="the audit",
            error=lambda message, _kind: AuditError(message),
            remedies=_REMEDIES,
            create=_create,
            # The table that was added last.
            exists=lambda connection: inspect(connection).has_table(pauses.NEWEST_TABLE),
            timeout_seconds=timeout_seconds,
            serial_writes=True,
            is_private=True,
            pool_size=5,
        )
        self.audit = Audit(self._database)
        self.desired = DesiredPauses(self._database)

    @property
    def file(self) -> Path | None:
        """The file of SQLite; ``None`` for PostgreSQL."""
        return self._database.path

    def plan(self, actor: Actor, request: Request, count: int, *, warning: str = "") -> Plan:
        """A plan of ``request``, which affects ``count`` things now, with a new challenge. Its
        token is secret and not stored anywhere.

        Raises ``RefusedError`` while another operation on the target is open.
        """
        now_ms = self.now_ms()
        with self._database.transaction() as connection:
            row = connection.execute(
                select(_open.c.act).where(_open.c.target == request.target).limit(1)
            ).one_or_none()
            last = _last(connection, request.target)
            if row is not None and last is not None:
                raise RefusedError(
                    RefusalReason.UNDERWAY, f"{_who_and_when(last)}, and that has not ended yet."
                )
            forgotten = now_ms - _REMEMBERED_SECONDS * 1000
            connection.execute(delete(_challenges).where(_challenges.c.expires_at_ms < forgotten))
            plan = Plan(
                request,
                count,
                revision=0 if last is None else int(last.revision),
                expires_at_ms=now_ms + CHALLENGE_SECONDS * 1000,
                token=secrets.token_urlsafe(32),
                warning=warning,
            )
            connection.execute(
                insert(_challenges).values(
                    token_hash=_hash(plan.token),
                    actor=actor.name,
                    how=actor.how.value,
                    request=msgspec.json.encode(request).decode(),
                    planned_count=count,
                    revision=plan.revision,
                    expires_at_ms=plan.expires_at_ms,
                )
            )
        return plan

    def planned(self, token: str, actor: Actor, request: Request) -> Plan:
        """The plan with ``token``, which is not used up. Raises ``RefusedError`` unless ``actor``
        may use it for ``request`` now.
        """
        with self._database.reading() as connection:
            return _planned(connection, token, actor, request, self.now_ms())

    def begin(self, plan: Plan, actor: Actor, role: Role, count: int) -> str:
        """Use the challenge and write the intent, both or neither; returns the operation's id.

        ``count`` is how many things it affects now; the intent contains the plan's warning. Raises
        ``RefusedError``, with the name of the other actor if the target has changed since the
        challenge was made.
        """
        now_ms = self.now_ms()
        operation_id, request = _new_id(), plan.request
        with self._database.transaction() as connection:
            planned = _planned(connection, plan.token, actor, request, now_ms)
            used = connection.execute(
                update(_challenges)
                .where(
                    _challenges.c.token_hash == _hash(plan.token),
                    _challenges.c.used_at_ms.is_(None),
                )
                .values(used_at_ms=now_ms)
            )
            if used.rowcount != 1:
                raise _used()
            intent = _event(operation_id, actor, role, request, at_ms=now_ms, count=count)
            _move(connection, intent, planned.revision)
            if plan.warning:
                detail = f"{intent.detail}, confirmed although: {plan.warning}"
                intent = replace(intent, detail=detail)
            audit.append(connection, intent)
            server = f"{_HOST}/{os.getpid()}/{_PROCESS}"
            connection.execute(
                insert(_open).values(
                    act=operation_id,
                    target=intent.target,
                    server=one_line(server),
                    at_ms=now_ms,
                )
            )
        return operation_id

    def end(self, outcome: Outcome, actor: Actor, role: Role, request: Request) -> None:
        """Write the outcome, and close the operation."""
        operation_id = outcome.operation_id
        with self._database.transaction() as connection:
            connection.execute(delete(_open).where(_open.c.act == operation_id))
            intent = _event(
                operation_id, actor, role, request, at_ms=self.now_ms(), count=outcome.count
            )
            audit.append(connection, _ended(intent, outcome.result, outcome.detail))

    def refuse(self, actor: Actor, role: Role, request: Request, detail: str) -> None:
        """Write that ``request`` was refused; there was no intent, and nothing was done."""
        with self._database.transaction() as connection:
            event = _event(_new_id(), actor, role, request, at_ms=self.now_ms(), count=-1)
            audit.append(connection, _ended(event, Result.REFUSED, detail))

    def end_abandoned(self) -> list[Entry]:
        """Write ``unknown`` for open operations whose server has ended; returns these outcomes.

        Call it at every start, and regularly: a replica may have ended.
        """
        now_ms = self.now_ms()
        with self._database.reading() as connection:
            rows = connection.execute(select(_open)).all()
        gone = [row.act for row in rows if _has_ended(row, now_ms)]
        if not gone:
            return []
        written = []
        intents = self.audit.of_operations(gone)
        with self._database.transaction() as connection:
            for intent in intents:
                event = intent.event
                # Its own outcome may have been written meanwhile, or another process was first.
                found = connection.execute(delete(_open).where(_open.c.act == event.act))
                if found.rowcount == 1:
                    written.append(
                        audit.append(
                            connection,
                            _ended(replace(event, at_ms=now_ms), Result.UNKNOWN, _ENDED),
                        )
                    )
        return written

    def open_operations(self) -> list[OpenOperation]:
        """The open operations, the oldest first."""
        statement = select(_open).order_by(_open.c.at_ms)
        with self._database.reading() as connection:
            return [
                OpenOperation(as_text(row.act), as_text(row.target), as_whole(row.at_ms) or 0)
                for row in connection.execute(statement)
            ]

    def now_ms(self) -> int:
        """UTC epoch milliseconds."""
        return int(self._clock() * 1000)

    def close(self) -> None:
        """Close the connections; the store can still be used."""
        self._database.close()


def _create(connection: Connection) -> None:
    audit.metadata.create_all(connection)
    audit.prepare(connection)
    pauses.prepare(connection)


def _planned(
    connection: Connection, token: str, actor: Actor, request: Request, now_ms: int
) -> Plan:
    row = connection.execute(
        select(_challenges).where(_challenges.c.token_hash == _hash(token))
    ).one_or_none()
    if row is None:
        raise RefusedError(
            RefusalReason.CHALLENGE_UNKNOWN, "This confirmation is unknown; start again."
        )
    if (row.actor, row.how) != (actor.name, actor.how.value):
        raise RefusedError(
            RefusalReason.CHALLENGE_FOREIGN, "This confirmation was made for somebody else."
        )
    try:
        planned = msgspec.json.decode(as_text(row.request, 1_000_000), type=Request)
    except (ValueError, RecursionError) as exc:
        raise RefusedError(
            RefusalReason.CHALLENGE_UNKNOWN, "This confirmation is damaged; start again."
        ) from exc
    if planned != request:
        raise RefusedError(
            RefusalReason.WRONG_TARGET,
            f"This confirmation was made to {planned.words()}; start again.",
        )
    if row.used_at_ms is not None:
        raise _used()
    if now_ms >= row.expires_at_ms:
        raise RefusedError(
            RefusalReason.CHALLENGE_EXPIRED,
            f"A confirmation is valid for {CHALLENGE_SECONDS} seconds; start again.",
        )
    return Plan(planned, row.planned_count, row.revision, row.expires_at_ms, token)


def _used() -> RefusedError:
    return RefusedError(
        RefusalReason.CHALLENGE_USED, "This confirmation was already used; start again."
    )


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _move(connection: Connection, intent: Event, revision: int) -> None:
    """Increase the target's ``revision``. Raises ``RefusedError`` if it is no longer that one."""
    values = {
        "revision": revision + 1,
        "actor": intent.actor,
        "words": intent.detail,
        "at_ms": intent.at_ms,
    }
    if revision == 0:
        dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
        moved = connection.execute(
            dialect.insert(_targets)
            .values(target=intent.target, **values)
            .on_conflict_do_nothing(index_elements=["target"])
            .returning(_targets.c.revision)
        )
    else:
        moved = connection.execute(
            update(_targets)
            .where(_targets.c.target == intent.target, _targets.c.revision == revision)
            .values(values)
            .returning(_targets.c.revision)
        )
    if moved.one_or_none() is None:
        last = _last(connection, intent.target)
        reason = "Somebody else was first" if last is None else _who_and_when(last)
        raise RefusedError(
            RefusalReason.OVERTAKEN, f"{reason}, after you had asked. Nothing more was done."
        )


def _last(connection: Connection, target: str) -> Row[tuple[str, int, str, str, int]] | None:
    return connection.execute(select(_targets).where(_targets.c.target == target)).one_or_none()


def _who_and_when(row: Row[tuple[str, int, str, str, int]]) -> str:
    at = audit.utc_words(row.at_ms)
    return f"{as_text(row.actor)} started to {as_text(row.words)} at {at}"


def _has_ended(row: Row[tuple[str, str, str, int]], now_ms: int) -> bool:
    at_ms = as_whole(row.at_ms)
    if at_ms is None or now_ms - at_ms > OPEN_LIMIT_SECONDS * 1000:
        return True
    host, _, rest = as_text(row.server).rpartition("/")[0].rpartition("/")
    process = as_text(row.server).rpartition("/")[2]
    # Queuescope never writes a process id in another form.
    if not rest.isdecimal() or len(rest) > 9:
        return True
    pid = int(rest)
    if host != _HOST:
        return False
    if pid == os.getpid():
        return process != _PROCESS
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _ended(intent: Event, result: Result, detail: str) -> Event:
    return replace(intent, phase=Phase.OUTCOME, result=result, detail=detail)


def _event(
    operation_id: str, actor: Actor, role: Role, request: Request, *, at_ms: int, count: int
) -> Event:
    """The intent; an outcome differs in its phase, result and detail."""
    return Event(
        at_ms=at_ms,
        act=operation_id,
        phase=Phase.INTENT,
        actor=actor.name,
        role=role.value,
        operation=request.operation.value,
        target=request.target,
        touched=count,
        result=Result.PENDING,
        detail=request.words(),
    )


def _new_id() -> str:
    return secrets.token_hex(12)
