"""The operations database: what must change together changes in one transaction here.

Besides the audit and the challenges it holds, for every target, a revision and who moved it
last; the acts that have begun and not ended; and what the operators want of the queues.
"""

from __future__ import annotations

import math
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Integer,
    Row,
    String,
    Table,
    Text,
    delete,
    func,
    insert,
    inspect,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from queuescope.broker.reports import DESIRED_LIMIT_BYTES, DesiredState, Names, parse
from queuescope.database import Database, as_text, as_whole
from queuescope.errors import AuditError, RefusalReason, RefusedError
from queuescope.operations import audit, challenge
from queuescope.operations.access import Actor, Role
from queuescope.operations.audit import Entry, Event, Phase, Result, Search, Verification
from queuescope.operations.challenge import Challenge
from queuescope.operations.request import Request
from queuescope.shown_text import one_line

_paused_decoder = msgspec.json.Decoder(Names)
ACT_LIMIT_SECONDS = 120
"""An act without an outcome after so long is taken for one whose server has ended."""
_REMEDIES = {
    "25006": "it is open for reading only; name the primary server",
    "42501": "its user lacks a right; grant SELECT and INSERT on the tables operations_…, UPDATE "
    "on all of them but operations_audit, DELETE on operations_open and operations_challenges, "
    "or, where they are missing, CREATE on the schema",
    "42703": "its tables are not Queuescope's; give the audit a database or schema of its own",
    "55P03": "another holds it locked; try again",
}
_ENDED = "The server ended before it wrote what became of this."
# A fork has its parent's token and a process id of its own.
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
_desired = Table(
    "operations_desired",
    audit.metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("revision", BigInteger, nullable=False),
    Column("paused", Text, nullable=False),
)
_names = Table(
    "operations_ledger",
    audit.metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("name", String(audit.TEXT_LIMIT), nullable=False),
    # In which operations database the desired state was decided.
    Column("decided_in", String(audit.TEXT_LIMIT), nullable=False),
)


@dataclass(frozen=True, slots=True)
class OpenAct:
    """An act that has begun and has no outcome yet."""

    act: str
    target: str
    at_ms: int


class OperationsStore:
    """The operations database behind ``url``, in SQLite or PostgreSQL.

    Every method raises ``AuditError`` when the database does not give a usable answer; nothing
    was written then. Threads and processes may share one database.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_seconds: float = 5.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Raises ``ConfigurationError`` when ``url`` cannot be used."""
        self._clock = clock
        self._name = ""
        self._database = Database(
            url,
            setting="operations_store_url",
            title="the audit",
            error=lambda message, _kind: AuditError(message),
            remedies=_REMEDIES,
            create=_create,
            exists=lambda connection: inspect(connection).has_table(_names.name),
            timeout_seconds=timeout_seconds,
            serial_writes=True,
            is_private=True,
            pool_size=5,
        )

    @property
    def file(self) -> Path | None:
        """The file of SQLite; None for PostgreSQL."""
        return self._database.path

    def plan(self, actor: Actor, request: Request, count: int) -> tuple[str, Challenge]:
        """A challenge for ``request`` and its token.

        Raises ``RefusedError`` while another act on the target has begun and not ended.
        """
        with self._database.transaction() as connection:
            row = connection.execute(
                select(_open.c.act).where(_open.c.target == request.target).limit(1)
            ).one_or_none()
            last = _last(connection, request.target)
            if row is not None and last is not None:
                raise RefusedError(
                    RefusalReason.UNDERWAY, f"{_who_and_when(last)}, and that has not ended yet."
                )
            revision = 0 if last is None else int(last.revision)
            return challenge.issue(
                connection, actor, request, count=count, revision=revision, now_ms=self.now_ms()
            )

    def look_up(self, token: str, actor: Actor, request: Request) -> Challenge:
        """The unused challenge of ``token``. Raises ``RefusedError``."""
        with self._database.reading() as connection:
            return challenge.look_up(connection, token, actor, request, self.now_ms())

    def begin(
        self,
        token: str,
        actor: Actor,
        role: Role,
        request: Request,
        count: int,
        *,
        doubt: str = "",
    ) -> str:
        """Use the challenge and write the intent, both or none; returns the act's id.

        ``count`` is how many it touches now, ``doubt`` what was said against it and confirmed.
        Raises ``RefusedError``, which names who was first when the target has moved since the
        challenge was made.
        """
        now_ms = self.now_ms()
        act = _act_id()
        with self._database.transaction() as connection:
            planned = challenge.look_up(connection, token, actor, request, now_ms)
            challenge.use(connection, token, now_ms)
            _move(connection, request, actor, planned.revision, now_ms)
            intent = _event(act, actor, role, request, at_ms=now_ms, count=count)
            if doubt:
                intent = replace(intent, detail=f"{intent.detail}, confirmed although: {doubt}")
            audit.append(
                connection,
                intent,
            )
            server = f"{_HOST}/{os.getpid()}/{_PROCESS}"
            connection.execute(
                insert(_open).values(
                    act=act,
                    target=request.target,
                    server=one_line(server),
                    at_ms=now_ms,
                )
            )
        return act

    def end(
        self,
        act: str,
        actor: Actor,
        role: Role,
        request: Request,
        *,
        count: int,
        result: Result,
        detail: str,
    ) -> None:
        """Write the outcome."""
        with self._database.transaction() as connection:
            connection.execute(delete(_open).where(_open.c.act == act))
            intent = _event(act, actor, role, request, at_ms=self.now_ms(), count=count)
            audit.append(connection, _outcome(intent, result, detail))

    def refuse(self, actor: Actor, role: Role, request: Request, detail: str) -> None:
        """Write that ``request`` was refused; there was no intent, and nothing was done."""
        with self._database.transaction() as connection:
            wish = _event(_act_id(), actor, role, request, at_ms=self.now_ms(), count=-1)
            audit.append(connection, _outcome(wish, Result.REFUSED, detail))

    def abandon(self) -> list[Entry]:
        """Write ``unknown`` for acts whose server has ended without an outcome; returns these."""
        now_ms = self.now_ms()
        with self._database.reading() as connection:
            rows = connection.execute(select(_open)).all()
        gone = [row.act for row in rows if _has_ended(row, now_ms)]
        if not gone:
            return []
        written = []
        with self._database.transaction() as connection:
            for intent in audit.of_acts(connection, gone):
                event = intent.event
                # Its own outcome, or another process that came here first, may have won.
                found = connection.execute(delete(_open).where(_open.c.act == event.act))
                if found.rowcount == 1:
                    written.append(
                        audit.append(
                            connection,
                            _outcome(replace(event, at_ms=now_ms), Result.UNKNOWN, _ENDED),
                        )
                    )
        return written

    def open_acts(self) -> list[OpenAct]:
        """What has begun and not ended, the oldest first."""
        statement = select(_open).order_by(_open.c.at_ms)
        with self._database.reading() as connection:
            return [
                OpenAct(as_text(row.act), as_text(row.target), as_whole(row.at_ms) or 0)
                for row in connection.execute(statement)
            ]

    def desired(self) -> DesiredState:
        """What the operators want; the broker holds a copy."""
        with self._database.reading() as connection:
            self._name, state = _decided(connection)
        return state

    @property
    def name(self) -> str:
        """Tells this database from others on the same broker; empty until it has answered."""
        return self._name

    def adopt(self, decided: DesiredState) -> None:
        """Want what another operations database decided, unless ours is as new by now."""
        with self._database.transaction() as connection:
            _, before = _decided(connection, locks=True)
            if before.revision < decided.revision:
                _decide(connection, decided)

    def change_desired(
        self,
        change: Callable[[frozenset[str]], frozenset[str]],
        publish: Callable[[DesiredState], DesiredState],
    ) -> DesiredState:
        """Apply ``change`` to the paused queues, and ``publish`` the new state; returns it.

        One at a time does this in all processes. What either raises undoes it. ``publish``
        returns what is held where it was told; a state that is no older goes before ours, which
        is then told anew with a higher revision.
        """
        with self._database.transaction() as connection:
            name, before = _decided(connection, locks=True)
            paused = tuple(sorted(change(frozenset(before.paused))))
            after = DesiredState(revision=before.revision + 1, paused=paused, ledger=name)
            while (held := publish(after)) != after:
                after = DesiredState(revision=held.revision + 1, paused=paused, ledger=name)
            _decide(connection, after)
        return after

    def find(self, search: Search, *, limit: int = 20, before: int | None = None) -> list[Entry]:
        """The newest entries that match, newest first; ``before`` is where the last page ended."""
        with self._database.reading() as connection:
            return audit.find(connection, search, limit=limit, before=before)

    def entries_of(self, acts: Iterable[str]) -> list[Entry]:
        """All that stands of these acts, oldest first."""
        with self._database.reading() as connection:
            return audit.of_acts(connection, acts)

    def entries_on(self, targets: Iterable[str], operation: str) -> list[Entry]:
        """All that stands of this operation on these targets, oldest first."""
        with self._database.reading() as connection:
            return audit.on_targets(connection, targets, operation)

    def export_csv(self, search: Search) -> Iterator[str]:
        """The matching entries as lines of CSV, oldest first."""
        with self._database.reading() as connection:
            yield from audit.export_csv(connection, search)

    def export_json(self, search: Search) -> Iterator[str]:
        """The matching entries as lines of JSON, oldest first."""
        with self._database.reading() as connection:
            yield from audit.export_json(connection, search)

    def prove_writable(self) -> None:
        """Raises ``AuditError`` when an intent could not be written now; writes nothing."""
        with self._database.transaction() as connection:
            audit.prove_writable(connection)

    def verify(
        self, *, expected_head: str = "", after: str = "", patience_seconds: float = math.inf
    ) -> Verification:
        """Whether the chain is whole, and holds a head that was noted before; or whether what
        came ``after`` a head follows it.
        """
        with self._database.reading() as connection:
            return audit.verify(
                connection,
                expected_head=expected_head,
                after=after,
                patience_seconds=patience_seconds,
            )

    def now_ms(self) -> int:
        """UTC epoch milliseconds."""
        return int(self._clock() * 1000)

    def close(self) -> None:
        """Give the connections back; the store can still be used."""
        self._database.close()


def _create(connection: Connection) -> None:
    audit.metadata.create_all(connection)
    audit.prepare(connection)
    if connection.execute(select(func.count()).select_from(_desired)).scalar_one() == 0:
        connection.execute(insert(_desired).values(id=1, revision=0, paused="[]"))
    if connection.execute(select(func.count()).select_from(_names)).scalar_one() == 0:
        name = secrets.token_hex(8)
        connection.execute(insert(_names).values(id=1, name=name, decided_in=""))


def _move(
    connection: Connection, request: Request, actor: Actor, revision: int, now_ms: int
) -> None:
    """Raise the target's revision from ``revision``. Raises ``RefusedError`` if it is another."""
    values = {
        "revision": revision + 1,
        "actor": actor.name,
        "words": request.words(),
        "at_ms": now_ms,
    }
    if revision == 0:
        dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
        moved = connection.execute(
            dialect.insert(_targets)
            .values(target=request.target, **values)
            .on_conflict_do_nothing(index_elements=["target"])
            .returning(_targets.c.revision)
        )
    else:
        moved = connection.execute(
            update(_targets)
            .where(_targets.c.target == request.target, _targets.c.revision == revision)
            .values(values)
            .returning(_targets.c.revision)
        )
    if moved.one_or_none() is None:
        last = _last(connection, request.target)
        said = "Somebody else was first" if last is None else _who_and_when(last)
        raise RefusedError(
            RefusalReason.OVERTAKEN, f"{said}, after you had asked. Nothing more was done."
        )


def _last(connection: Connection, target: str) -> Row[tuple[str, int, str, str, int]] | None:
    return connection.execute(select(_targets).where(_targets.c.target == target)).one_or_none()


def _who_and_when(row: Row[tuple[str, int, str, str, int]]) -> str:
    at = audit.utc_words(row.at_ms)
    return f"{as_text(row.actor)} began to {as_text(row.words)} at {at}"


def _has_ended(row: Row[tuple[str, str, str, int]], now_ms: int) -> bool:
    at_ms = as_whole(row.at_ms)
    if at_ms is None or now_ms - at_ms > ACT_LIMIT_SECONDS * 1000:
        return True
    host, _, rest = as_text(row.server).rpartition("/")[0].rpartition("/")
    process = as_text(row.server).rpartition("/")[2]
    # No server of ours wrote another one.
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


def _outcome(intent: Event, result: Result, detail: str) -> Event:
    return replace(intent, phase=Phase.OUTCOME, result=result, detail=detail)


def _event(
    act: str, actor: Actor, role: Role, request: Request, *, at_ms: int, count: int
) -> Event:
    """The intent; an outcome differs in its phase, result and detail."""
    return Event(
        at_ms=at_ms,
        act=act,
        phase=Phase.INTENT,
        actor=actor.name,
        role=role.value,
        operation=request.operation.value,
        target=request.target,
        touched=count,
        result=Result.PENDING,
        detail=request.words(),
    )


def _decided(connection: Connection, *, locks: bool = False) -> tuple[str, DesiredState]:
    """The name of this operations database, and what the operators want."""
    statement = select(_desired.c.revision, _desired.c.paused)
    row = connection.execute(statement.with_for_update() if locks else statement).one_or_none()
    names = connection.execute(select(_names.c.name, _names.c.decided_in)).one_or_none()
    if row is None or names is None:
        raise AuditError("the audit's database has lost what the operators want of the queues")
    try:
        paused = parse(row.paused, _paused_decoder, limit_bytes=DESIRED_LIMIT_BYTES)
        state = DesiredState(
            revision=int(row.revision), paused=paused, ledger=str(names.decided_in)
        )
    except (ValueError, TypeError) as exc:
        raise AuditError(
            "the audit's database holds something else than what the operators want of the queues"
        ) from exc
    return str(names.name), state


def _decide(connection: Connection, state: DesiredState) -> None:
    paused = msgspec.json.encode(state.paused).decode()
    connection.execute(update(_desired).values(revision=state.revision, paused=paused))
    connection.execute(update(_names).values(decided_in=state.ledger))


def _act_id() -> str:
    return secrets.token_hex(12)
