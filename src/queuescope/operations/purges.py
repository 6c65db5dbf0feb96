"""Purges a queue and restores a purge; warns if a purge may have been restored already.

That is possible if its file came from a backup, and broker or audit do not know it, or no longer.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import assert_never

from queuescope.broker.protocol import Broker, PurgeRecord, RecordState
from queuescope.broker.purge_file import SUFFIX, Purge
from queuescope.broker.purges import Purges
from queuescope.errors import (
    BrokerError,
    OutcomeUnknownError,
    PurgeError,
    RefusalReason,
    RefusedError,
)
from queuescope.operations.audit import Audit, Entry, Outcome, Phase, Result, utc_words
from queuescope.operations.request import Operation, Request
from queuescope.words import counted

_UNKNOWN = (
    "The broker does not know this purge, so it is unknown whether its jobs are back: the broker "
    "lost its data, was restored from a backup, or is another one."
)
_TWICE = "If they are already back, or were still waiting in that backup, they run twice."


class PurgeQueue:
    """Moves the waiting jobs of one queue into a file."""

    def __init__(self, broker: Broker, purges: Purges, named_queues: Collection[str]) -> None:
        """``named_queues`` are known in addition to those that workers serve."""
        self._broker = broker
        self._purges = purges
        self._named_queues = named_queues

    def count(self, request: Request) -> int:
        request.require_known(self._broker.workers().queues.union(self._named_queues))
        depth = sum(reading.depth for reading in self._broker.queues([request.subject]))
        if depth == 0:
            raise RefusedError(
                RefusalReason.NOTHING_TO_DO, f"Nothing waits in queue {request.subject}."
            )
        return depth

    def carry_out(self, request: Request, operation_id: str) -> Outcome:
        try:
            purged = self._purges.purge(request.subject, operation_id)
        except (BrokerError, PurgeError) as exc:
            if self._has_taken(operation_id) is False:
                raise
            raise OutcomeUnknownError(
                f"The queue may have been emptied, but {exc}; nothing is lost: "
                "the removed jobs are kept, and are exported as soon as possible."
            ) from exc
        count, held = purged.purge.count, purged.still_reserved
        words = f"Removed {counted(count, 'job')}, kept as purge {operation_id}."
        if held is None:
            words += " It is unknown how many jobs workers hold; those may still run."
        elif held:
            words += f" Workers hold {held:,} more, which may still run."
        return Outcome(Result.DONE, words, count)

    def _has_taken(self, purge_id: str) -> bool | None:
        """Whether this purge has changed the queue; ``None`` if the broker does not answer."""
        try:
            return self._purges.has_begun(purge_id)
        except BrokerError:
            return None


class RestorePurge:
    """Puts the jobs of a purge back."""

    def __init__(self, purges: Purges, audit: Audit) -> None:
        self._purges = purges
        self._audit = audit

    def warning(self, request: Request) -> str:
        """Why the purge may have been restored already; may be empty."""
        purge = self._find(request.subject)
        return restore_warnings(self._purges, self._audit, [purge]).get(purge.id, "")

    def count(self, request: Request) -> int:
        purge = self._find(request.subject)
        state = self._purges.records([purge])[0].state
        if state is RecordState.DAMAGED and not purge.is_restored:
            raise RefusedError(
                RefusalReason.NOT_POSSIBLE,
                f"The record of purge {request.subject} in the broker is damaged, so it is "
                "unknown which jobs are already back.",
            )
        if purge.is_restored or (state is RecordState.RESTORED and purge.count):
            raise RefusedError(
                RefusalReason.NOTHING_TO_DO, f"Purge {request.subject} was already restored."
            )
        return purge.count

    def carry_out(self, request: Request, operation_id: str) -> Outcome:
        try:
            self._purges.note_restore(request.subject, operation_id)
        except BrokerError as exc:
            # Recorded or not, nothing was moved.
            raise BrokerError(exc.kind, str(exc)) from exc
        try:
            restored = self._purges.restore(request.subject)
        except (BrokerError, PurgeError) as exc:
            raise OutcomeUnknownError(
                f"Some jobs may not be back: {exc}; restore again, which puts no job back twice."
            ) from exc
        back = counted(restored.now, "job is", "jobs are")
        detail = f"{back} back in queue {restored.purge.queue}."
        return Outcome(Result.DONE, detail, restored.now)

    def _find(self, purge_id: str) -> Purge:
        kept = self._purges.kept()
        for purge in kept.purges:
            if purge.id == purge_id:
                return purge
        if f"{purge_id}{SUFFIX}" in kept.damaged:
            raise RefusedError(
                RefusalReason.NOT_POSSIBLE,
                f"The file of purge {purge_id} is damaged, so the purge cannot be restored.",
            )
        raise RefusedError(RefusalReason.NOT_POSSIBLE, f"There is no purge {purge_id} here.")


@dataclass(frozen=True, slots=True)
class _Restores:
    """A purge's restores in the audit: the last that was ``done``, and the last that was ``begun``
    and may have put jobs back.
    """

    done: Entry | None = None
    begun: Entry | None = None


def restore_warnings(of_broker: Purges, audit: Audit, purges: Sequence[Purge]) -> Mapping[str, str]:
    """Sentences that say why a purge may have been restored already, by its id; only for those of
    ``purges`` that may have been.

    Raises ``BrokerError`` and ``AuditError``.
    """
    kept = [purge for purge in purges if not purge.is_restored and purge.count]
    if not kept:
        return {}
    restores = _restores(audit, kept)
    known = {entry.event.act for entry in audit.of_operations(purge.id for purge in kept)}
    warnings = {
        purge.id: _warning(
            purge, record, restores.get(purge.id, _Restores()), is_audited=purge.id in known
        )
        for purge, record in zip(kept, of_broker.records(kept), strict=True)
    }
    return {purge_id: words for purge_id, words in warnings.items() if words}


def _restores(audit: Audit, purges: Sequence[Purge]) -> dict[str, _Restores]:
    """The restores in the audit, by the ids of the purges."""
    targets = {Request.restore(purge.id).target: purge.id for purge in purges}
    entries = audit.on_targets(targets, Operation.RESTORE)
    # A refused or failed restore put nothing back; during a restore no other can be planned.
    results = {e.event.act: e.event.result for e in entries if e.event.phase == Phase.OUTCOME}
    found: dict[str, _Restores] = {}
    for entry in entries:
        event, purge_id = entry.event, targets[entry.event.target]
        before = found.get(purge_id, _Restores())
        if event.phase == Phase.INTENT and results.get(event.act) in (Result.DONE, Result.UNKNOWN):
            found[purge_id] = _Restores(before.done, entry)
        elif event.phase == Phase.OUTCOME and event.result == Result.DONE:
            found[purge_id] = _Restores(entry, before.begun)
    return found


def _warning(purge: Purge, record: PurgeRecord, restores: _Restores, *, is_audited: bool) -> str:
    match record.state:
        case RecordState.RESTORED:
            return "The broker has recorded that all of its jobs are back."
        case RecordState.DAMAGED:
            return (
                "Its record in the broker is damaged, so it is unknown which jobs are already back."
            )
        case RecordState.PARTIAL:
            return _warning_if_recorded(purge, record, restores)
        case RecordState.MISSING:
            if restores.done is not None:
                audited = f"According to the audit it was restored by {_by_whom(restores.done)}."
            elif restores.begun is not None:
                audited = (
                    "According to the audit it may have been restored by "
                    f"{_by_whom(restores.begun)}."
                )
            elif is_audited:
                audited = "The audit has no restore of it."
            else:
                audited = "The audit does not contain this purge either."
            return f"{_UNKNOWN} {audited} {_TWICE}"
        case _:
            assert_never(record.state)


def _warning_if_recorded(purge: Purge, record: PurgeRecord, restores: _Restores) -> str:
    """Why the broker's record may miss jobs that are back; may be empty."""
    begun = restores.begun
    if restores.done is not None:
        return (
            f"According to the audit it was restored by {_by_whom(restores.done)}, but the broker "
            "has no record of that: it was restored from an older backup. Jobs that ran since then "
            "run twice."
        )
    if begun is not None and begun.event.act != record.operation_id:
        return (
            f"The audit has a restore by {_by_whom(begun)} whose outcome is unknown, and the "
            "broker has no record of it: it never reached the broker, or the broker was restored "
            "from an older backup. Jobs that it put back then run twice."
        )
    if record.operation_id and not record.same_run:
        by_whom = "" if begun is None else f" by {_by_whom(begun)}"
        return (
            f"A restore{by_whom} was interrupted, and the broker was restarted since then, is "
            f"another one, or does not say. By its record {record.restored:,} of "
            f"{counted(purge.count, 'job is', 'jobs are')} back. If it has lost some, those run "
            "twice."
        )
    return ""


def _by_whom(entry: Entry) -> str:
    return f"{entry.event.actor} at {utc_words(entry.event.at_ms)}"
