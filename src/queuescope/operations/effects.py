"""How each operation is carried out on the queues: what it touches, what it did, what is open."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from queuescope.broker.purge_file import SUFFIX, Purge
from queuescope.broker.redis.broker import RedisBroker
from queuescope.broker.redis.desired import is_made_up
from queuescope.broker.redis.failures import translated
from queuescope.broker.redis.purges import Memory, Quarantine
from queuescope.broker.reports import DesiredState
from queuescope.errors import (
    AuditError,
    BrokerError,
    DamagedError,
    OutcomeUnknownError,
    PurgeError,
    RefusalReason,
    RefusedError,
)
from queuescope.operations.control import Done
from queuescope.operations.doubts import doubts
from queuescope.operations.request import ALL_QUEUES, Operation, Request
from queuescope.operations.store import OperationsStore
from queuescope.words import counted

logger = logging.getLogger(__name__)

QueueNames = Callable[[], Sequence[str]]
"""The queues that there are; raises ``BrokerError``."""


class PauseAndResume:
    """Changes what the operators want of the queues; workers follow it.

    The operations database decides, and the broker holds a copy. A pause is done when the copy is
    written: how many workers have followed is read from their reports.
    """

    def __init__(self, store: OperationsStore, broker: RedisBroker, queues: QueueNames) -> None:
        self._store = store
        self._broker = broker
        self._queues = queues

    def count(self, request: Request) -> int:
        """How many queues; how much waits in them does not matter to a pause."""
        known = self._queues()
        _change(request, frozenset(self._store.desired().paused))
        if request.is_for_all:
            return len(known)
        _demand_known(request.subject, known)
        return 1

    def carry_out(self, request: Request, act: str) -> Done:  # noqa: ARG002 - the same for all
        count = len(self._queues()) if request.is_for_all else 1
        self.reconcile()
        self._tell(lambda paused: _change(request, paused))
        verb = "paused" if request.operation is Operation.PAUSE else "resumed"
        thing = "All queues are" if request.is_for_all else f"Queue {request.subject} is"
        return Done(count, f"{thing} to be {verb}; workers follow within seconds.")

    def reconcile(self) -> bool:
        """Give the broker its copy anew where it is missing, older, or nobody's; returns whether.

        What another operations database decided later holds here, too: two dashboards that do not
        share one would otherwise pause and resume in turn. One in which nothing was ever decided
        takes over what the broker holds: a database that was lost resumes nothing.
        Raises ``BrokerError``, ``AuditError`` and ``OutcomeUnknownError``.
        """
        self._broker.mend()
        is_damaged = False
        wanted = self._store.desired()
        try:
            held = self._broker.desired()
        except DamagedError as exc:
            logger.warning("%s", exc)
            held, is_damaged = DesiredState(), True
        if held == wanted and not is_damaged:
            return False
        if is_made_up(held, wanted):
            logger.warning(
                "revision %d of what is desired was decided nowhere, and is written over",
                held.revision,
            )
            held = DesiredState()
        if held.ledger not in ("", self._store.name) and held.revision > wanted.revision:
            logger.warning(
                "another operations database (%s) decided what is paused: %s; give all dashboards "
                "of a broker one operations_store_url",
                held.ledger,
                ", ".join(held.paused) or "nothing",
            )
            self._store.adopt(held)
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
            self._store.change_desired(change, publish)
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


class PurgeQueue:
    """Takes what waits in one queue into a file."""

    def __init__(self, broker: RedisBroker, quarantine: Quarantine, queues: QueueNames) -> None:
        self._broker = broker
        self._quarantine = quarantine
        self._queues = queues

    def count(self, request: Request) -> int:
        _demand_known(request.subject, self._queues())
        depth = sum(reading.depth for reading in self._broker.read([request.subject]))
        if depth == 0:
            raise RefusedError(
                RefusalReason.NOTHING_TO_DO, f"Nothing waits in queue {request.subject}."
            )
        return depth

    def carry_out(self, request: Request, act: str) -> Done:
        try:
            purged = self._quarantine.purge(request.subject, act)
        except (BrokerError, PurgeError) as exc:
            if self._has_taken(act) is False:
                raise
            raise OutcomeUnknownError(
                f"The queue may have been emptied, but {exc}; nothing is lost: "
                "what was taken out is kept, and is exported as soon as that is possible."
            ) from exc
        count, held = purged.purge.count, purged.still_reserved
        words = f"Removed {counted(count, 'job')}, kept as purge {act}."
        if held is None:
            words += " How many the workers hold is not known; those may still run."
        elif held:
            words += f" Workers hold {held:,} more, which may still run."
        return Done(count, words)

    def _has_taken(self, purge_id: str) -> bool | None:
        """Whether this purge has touched the queue; ``None`` if the broker does not say."""
        try:
            with translated():
                return bool(self._broker.reader.exists(self._broker.keys.purged(purge_id)))
        except BrokerError:
            return None


class RestorePurge:
    """Puts back what a purge took out."""

    def __init__(self, quarantine: Quarantine, store: OperationsStore) -> None:
        self._quarantine = quarantine
        self._store = store

    def doubt(self, request: Request) -> str:
        """Why the purge may have been restored already, or nothing."""
        purge = self._find(request.subject)
        return doubts(self._quarantine, self._store, [purge]).get(purge.id, "")

    def count(self, request: Request) -> int:
        purge = self._find(request.subject)
        memory = self._quarantine.remembered([purge])[0].memory
        if memory is Memory.DAMAGED and not purge.is_restored:
            raise RefusedError(
                RefusalReason.NOT_POSSIBLE,
                f"The record of purge {request.subject} in the broker is damaged, so that nobody "
                "knows what is back already.",
            )
        if purge.is_restored or (memory is Memory.RESTORED and purge.count):
            raise RefusedError(
                RefusalReason.NOTHING_TO_DO, f"Purge {request.subject} was restored already."
            )
        return purge.count

    def carry_out(self, request: Request, act: str) -> Done:
        try:
            self._quarantine.note_restore(request.subject, act)
        except BrokerError as exc:
            # Whether it was noted or not, nothing has moved.
            raise BrokerError(exc.kind, str(exc)) from exc
        try:
            restored = self._quarantine.restore(request.subject)
        except (BrokerError, PurgeError) as exc:
            raise OutcomeUnknownError(
                f"Not all may be back, for {exc}; restore it again, which brings back no job twice."
            ) from exc
        return Done(
            restored.now,
            f"{counted(restored.now, 'job is', 'jobs are')} back in queue {restored.purge.queue}.",
        )

    def _find(self, purge_id: str) -> Purge:
        shelf = self._quarantine.shelf()
        for purge in shelf.purges:
            if purge.id == purge_id:
                return purge
        if f"{purge_id}{SUFFIX}" in shelf.damaged:
            raise RefusedError(
                RefusalReason.NOT_POSSIBLE,
                f"The file of purge {purge_id} is damaged, and is restored as a whole or not.",
            )
        raise RefusedError(RefusalReason.NOT_POSSIBLE, f"There is no purge {purge_id} here.")


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


def _demand_known(queue: str, known: Sequence[str]) -> None:
    if queue not in known:
        raise RefusedError(
            RefusalReason.NOT_POSSIBLE, f"No worker and no setting names a queue {queue}."
        )
