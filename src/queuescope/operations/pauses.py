"""Pausing and resuming queues: what the operators want, and how workers are told.

The operations database decides, and the broker holds a copy, which workers follow.
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


class WantedPauses:
    """What the operators want of the queues, in the operations database.

    Every method raises ``AuditError`` when the database does not give a usable answer.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._name = ""

    def read(self) -> DesiredState:
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

    def change(
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


class PauseAndResume:
    """Changes what the operators want of the queues; workers follow it.

    The operations database decides, and the broker holds a copy. A pause is done when the copy is
    written: how many workers have followed is read from their reports.
    """

    def __init__(self, wanted: WantedPauses, broker: Broker, named_queues: Collection[str]) -> None:
        self._wanted = wanted
        self._broker = broker
        self._named_queues = named_queues

    def count(self, request: Request) -> int:
        """How many queues; how much waits in them does not matter to a pause."""
        known = self._queues()
        _change(request, frozenset(self._wanted.read().paused))
        if request.is_for_all:
            return len(known)
        request.demand_known(known)
        return 1

    def carry_out(self, request: Request, act: str) -> Outcome:  # noqa: ARG002 - the same for all
        count = len(self._queues()) if request.is_for_all else 1
        self.reconcile()
        self._tell(lambda paused: _change(request, paused))
        verb = "paused" if request.operation is Operation.PAUSE else "resumed"
        thing = "All queues are" if request.is_for_all else f"Queue {request.subject} is"
        detail = f"{thing} to be {verb}; workers follow within seconds."
        return Outcome(Result.DONE, detail, count)

    def _queues(self) -> frozenset[str]:
        return self._broker.workers().queues.union(self._named_queues)

    def reconcile(self) -> bool:
        """Give the broker its copy anew where it is missing, older, or nobody's; returns whether.

        What another operations database decided later holds here, too: two dashboards that do not
        share one would otherwise pause and resume in turn. One in which nothing was ever decided
        takes over what the broker holds: a database that was lost resumes nothing.
        Raises ``BrokerError``, ``AuditError`` and ``OutcomeUnknownError``.
        """
        self._broker.repair_desired()
        is_damaged = False
        wanted = self._wanted.read()
        try:
            held = self._broker.desired()
        except DamagedError as exc:
            logger.warning("%s", exc)
            held, is_damaged = DesiredState(), True
        if held == wanted and not is_damaged:
            return False
        if is_implausible(held, wanted):
            logger.warning(
                "revision %d of what is desired was decided nowhere, and is written over",
                held.revision,
            )
            held = DesiredState()
        if held.ledger not in ("", self._wanted.name) and held.revision > wanted.revision:
            logger.warning(
                "another operations database (%s) decided what is paused: %s; give all dashboards "
                "of a broker one operations_store_url",
                held.ledger,
                ", ".join(held.paused) or "nothing",
            )
            self._wanted.adopt(held)
            return False
        kept = frozenset(held.paused) if wanted.revision == 0 else frozenset()
        self._tell(lambda paused: paused | kept)
        return True

    def _tell(self, change: Callable[[frozenset[str]], frozenset[str]]) -> None:
        is_told = False
        unanswered: BrokerError | None = None

        def publish(state: DesiredState) -> DesiredState:
            nonlocal is_told, unanswered
            try:
                held = self._broker.publish(state)
            except BrokerError as exc:
                if not exc.may_have_acted:
                    raise
                # It stays wanted, so that database and broker agree in the end.
                unanswered, held = exc, state
            is_told = True
            return held

        try:
            self._wanted.change(change, publish)
        except AuditError as exc:
            if not is_told:
                raise
            raise OutcomeUnknownError(
                f"The workers were told, but {exc}: they will be told the former state again."
            ) from exc
        if unanswered is not None:
            raise OutcomeUnknownError(
                f"It is wanted now, but {unanswered}; workers are told as soon as it answers."
            ) from unanswered


def prepare(connection: Connection) -> None:
    """Let nothing be paused, unless something is; the tables are there."""
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
            state = "paused already" if is_pause else "not paused"
            raise RefusedError(RefusalReason.NOTHING_TO_DO, f"The queues are {state}.")
        return frozenset({ALL_QUEUES}) if is_pause else frozenset()
    if ALL_QUEUES in paused:
        raise RefusedError(
            RefusalReason.NOTHING_TO_DO, "All queues are paused; they can be resumed together."
        )
    if (request.subject in paused) == is_pause:
        state = "paused already" if is_pause else "not paused"
        raise RefusedError(RefusalReason.NOTHING_TO_DO, f"Queue {request.subject} is {state}.")
    own = frozenset({request.subject})
    return paused | own if is_pause else paused - own


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
