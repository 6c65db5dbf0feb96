"""Pausing and resuming queues: the desired state and how it reaches the workers.

The operations database holds the desired state, and the broker a copy, which workers follow.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Collection

import msgspec
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Integer,
    String,
    Table,
    Text,
    func,
    insert,
    select,
    update,
)

from queuescope.broker.desired import DESIRED_LIMIT_BYTES, DesiredState, is_implausible
from queuescope.broker.protocol import Broker
from queuescope.broker.reports import Names, parse
from queuescope.database import Database
from queuescope.errors import (
    AuditError,
    BrokerError,
    DamagedError,
    OutcomeUnknownError,
    RefusalReason,
    RefusedError,
)
from queuescope.operations.audit import TEXT_LIMIT, Outcome, Result, metadata
from queuescope.operations.request import ALL_QUEUES, Operation, Request

logger = logging.getLogger(__name__)

_paused_decoder = msgspec.json.Decoder(Names)
_desired = Table(
    "operations_desired",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("revision", BigInteger, nullable=False),
    Column("paused", Text, nullable=False),
)
_names = Table(
    "operations_ledger",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("name", String(TEXT_LIMIT), nullable=False),
    # In which operations database the desired state was decided.
    Column("decided_in", String(TEXT_LIMIT), nullable=False),
)
NEWEST_TABLE = _names.name


class DesiredPauses:
    """The desired state of the queues in the operations database.

    Every method raises ``AuditError`` if the database does not give a usable answer.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._name = ""

    def read(self) -> DesiredState:
        """The desired state as the operators decided it; the broker holds a copy."""
        with self._database.reading() as connection:
            self._name, state = _decided(connection)
        return state

    @property
    def name(self) -> str:
        """Identifies this database among others on the same broker; empty before the first read."""
        return self._name

    def adopt(self, decided: DesiredState) -> None:
        """Take over the state of another operations database, unless ours is at least as new."""
        with self._database.transaction() as connection:
            _, before = _decided(connection, locks=True)
            if before.revision < decided.revision:
                _decide(connection, decided)

    def change(
        self,
        change: Callable[[frozenset[str]], frozenset[str]],
        publish: Callable[[DesiredState], DesiredState],
    ) -> DesiredState:
        """Apply ``change`` to the paused queues, and ``publish`` the new state; returns it.

        Only one process does this at a time. An error of either undoes the change. ``publish``
        returns the state that the broker holds then; if that is another one of an equal or higher
        revision, ours is published again with a higher revision.
        """
        with self._database.transaction() as connection:
            name, before = _decided(connection, locks=True)
            paused = tuple(sorted(change(frozenset(before.paused))))
            after = DesiredState(revision=before.revision + 1, paused=paused, ledger=name)
            while (held := publish(after)) != after:
                after = DesiredState(revision=held.revision + 1, paused=paused, ledger=name)
            _decide(connection, after)
        return after


class PauseAndResume:
    """Changes the desired state of the queues; workers follow it.

    A pause is done when the broker's copy is written; the workers' reports show how many have
    applied it.
    """

    def __init__(
        self, desired: DesiredPauses, broker: Broker, named_queues: Collection[str]
    ) -> None:
        self._desired_pauses = desired
        self._broker = broker
        self._named_queues = named_queues

    def count(self, request: Request) -> int:
        """How many queues; their depth does not matter for a pause."""
        known = self._queues()
        _change(request, frozenset(self._desired_pauses.read().paused))
        if request.is_for_all:
            return len(known)
        request.require_known(known)
        return 1

    def carry_out(self, request: Request, operation_id: str) -> Outcome:  # noqa: ARG002 - the same for all
        count = len(self._queues()) if request.is_for_all else 1
        self.reconcile()
        self._publish(lambda paused: _change(request, paused))
        verb = "paused" if request.operation is Operation.PAUSE else "resumed"
        thing = "All queues are" if request.is_for_all else f"Queue {request.subject} is"
        detail = f"{thing} to be {verb}; workers follow within seconds."
        return Outcome(Result.DONE, detail, count)

    def _queues(self) -> frozenset[str]:
        return self._broker.workers().queues.union(self._named_queues)

    def reconcile(self) -> bool:
        """Write the broker's copy again if it is missing, older or implausible; returns whether.

        A later decision of another operations database is taken over here: two dashboards that do
        not share a database would otherwise pause and resume in turn. A database in which nothing
        was ever decided takes over the broker's copy, so that a lost database resumes nothing.
        Raises ``BrokerError``, ``AuditError`` and ``OutcomeUnknownError``.
        """
        self._broker.repair_desired()
        is_damaged = False
        desired = self._desired_pauses.read()
        try:
            held = self._broker.desired()
        except DamagedError as exc:
            logger.warning("%s", exc)
            held, is_damaged = DesiredState(), True
        if held == desired and not is_damaged:
            return False
        if is_implausible(held, desired):
            logger.warning(
                "revision %d of the desired state was decided by no dashboard; it is overwritten",
                held.revision,
            )
            held = DesiredState()
        if held.ledger not in ("", self._desired_pauses.name) and held.revision > desired.revision:
            logger.warning(
                "another operations database (%s) decided what is paused: %s; give all dashboards "
                "of a broker one operations_store_url",
                held.ledger,
                ", ".join(held.paused) or "nothing",
            )
            self._desired_pauses.adopt(held)
            return False
        kept = frozenset(held.paused) if desired.revision == 0 else frozenset()
        self._publish(lambda paused: paused | kept)
        return True

    def _publish(self, change: Callable[[frozenset[str]], frozenset[str]]) -> None:
        is_published = False
        unanswered: BrokerError | None = None

        def publish(state: DesiredState) -> DesiredState:
            nonlocal is_published, unanswered
            try:
                held = self._broker.publish(state)
            except BrokerError as exc:
                if not exc.may_have_acted:
                    raise
                # The database keeps the state, so that it and the broker agree in the end.
                unanswered, held = exc, state
            is_published = True
            return held

        try:
            self._desired_pauses.change(change, publish)
        except AuditError as exc:
            if not is_published:
                raise
            raise OutcomeUnknownError(
                f"The workers received the new state, but {exc}: they return to the former one."
            ) from exc
        if unanswered is not None:
            raise OutcomeUnknownError(
                f"It is stored, but {unanswered}; workers follow as soon as the broker answers."
            ) from unanswered


def prepare(connection: Connection) -> None:
    """Store a state with nothing paused unless there is one; the tables must exist."""
    if connection.execute(select(func.count()).select_from(_desired)).scalar_one() == 0:
        connection.execute(insert(_desired).values(id=1, revision=0, paused="[]"))
    if connection.execute(select(func.count()).select_from(_names)).scalar_one() == 0:
        name = secrets.token_hex(8)
        connection.execute(insert(_names).values(id=1, name=name, decided_in=""))


def _change(request: Request, paused: frozenset[str]) -> frozenset[str]:
    """The queues that are paused after ``request``. Raises ``RefusedError`` for no change."""
    is_pause = request.operation is Operation.PAUSE
    if request.is_for_all:
        if (ALL_QUEUES in paused) if is_pause else not paused:
            state = "already paused" if is_pause else "not paused"
            raise RefusedError(RefusalReason.NOTHING_TO_DO, f"The queues are {state}.")
        return frozenset({ALL_QUEUES}) if is_pause else frozenset()
    if ALL_QUEUES in paused:
        raise RefusedError(
            RefusalReason.NOTHING_TO_DO, "All queues are paused; they can be resumed together."
        )
    if (request.subject in paused) == is_pause:
        state = "already paused" if is_pause else "not paused"
        raise RefusedError(RefusalReason.NOTHING_TO_DO, f"Queue {request.subject} is {state}.")
    own = frozenset({request.subject})
    return paused | own if is_pause else paused - own


def _decided(connection: Connection, *, locks: bool = False) -> tuple[str, DesiredState]:
    """The name of this operations database, and its desired state."""
    statement = select(_desired.c.revision, _desired.c.paused)
    row = connection.execute(statement.with_for_update() if locks else statement).one_or_none()
    names = connection.execute(select(_names.c.name, _names.c.decided_in)).one_or_none()
    if row is None or names is None:
        raise AuditError("the audit's database has lost the desired state of the queues")
    try:
        paused = parse(row.paused, _paused_decoder, limit_bytes=DESIRED_LIMIT_BYTES)
        state = DesiredState(
            revision=int(row.revision), paused=paused, ledger=str(names.decided_in)
        )
    except (ValueError, TypeError) as exc:
        raise AuditError(
            "the desired state of the queues in the audit's database is damaged"
        ) from exc
    return str(names.name), state


def _decide(connection: Connection, state: DesiredState) -> None:
    paused = msgspec.json.encode(state.paused).decode()
    connection.execute(update(_desired).values(revision=state.revision, paused=paused))
    connection.execute(update(_names).values(decided_in=state.ledger))
