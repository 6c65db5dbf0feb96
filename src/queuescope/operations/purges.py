"""Purging a queue and restoring a purge, and what warns that a purge may be restored already: its
file came back from a backup, and broker, audit or both do not know it, or no longer.
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
    "The broker does not know this purge, and cannot tell whether its jobs are back: it lost its "
    "data, came back from a backup, or is another one."
)
_TWICE = "If they are back already, or still waited in that backup, they run twice."


class PurgeQueue:
    """Takes what waits in one queue into a file."""

    def __init__(self, broker: Broker, purges: Purges, named_queues: Collection[str]) -> None:
        """``named_queues`` are known besides those that workers serve."""
        self._broker = broker
        self._purges = purges
        self._named_queues = named_queues

    def count(self, request: Request) -> int:
        request.demand_known(self._broker.workers().queues.union(self._named_queues))
        depth = sum(reading.depth for reading in self._broker.queues([request.subject]))
        if depth == 0:
            raise RefusedError(
                RefusalReason.NOTHING_TO_DO, f"Nothing waits in queue {request.subject}."
            )
        return depth

    def carry_out(self, request: Request, act: str) -> Outcome:
        try:
            purged = self._purges.purge(request.subject, act)
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
        return Outcome(Result.DONE, words, count)

    def _has_taken(self, purge_id: str) -> bool | None:
        """Whether this purge has touched the queue; ``None`` if the broker does not say."""
        try:
            return self._purges.has_begun(purge_id)
        except BrokerError:
            return None


class RestorePurge:
    """Puts back what a purge took out."""

    def __init__(self, purges: Purges, audit: Audit) -> None:
        self._purges = purges
        self._audit = audit

    def warning(self, request: Request) -> str:
        """Why the purge may have been restored already, or nothing."""
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
                RefusalReason.NOTHING_TO_DO, f"Purge {request.subject} was restored already."
            )
        return purge.count

    def carry_out(self, request: Request, act: str) -> Outcome:
        try:
            self._purges.note_restore(request.subject, act)
        except BrokerError as exc:
            # Whether it was noted or not, nothing has moved.
            raise BrokerError(exc.kind, str(exc)) from exc
        try:
            restored = self._purges.restore(request.subject)
        except (BrokerError, PurgeError) as exc:
            raise OutcomeUnknownError(
                f"Not all may be back, for {exc}; restore it again, which brings back no job twice."
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
                f"The file of purge {purge_id} is damaged, and is restored as a whole or not.",
            )
        raise RefusedError(RefusalReason.NOT_POSSIBLE, f"There is no purge {purge_id} here.")


@dataclass(frozen=True, slots=True)
class _Restores:
    """What the audit has of a purge: the last restore that was surely ``done``, and the last that
    was ``begun`` and may have brought jobs back.
    """

    done: Entry | None = None
    begun: Entry | None = None


def restore_warnings(of_broker: Purges, audit: Audit, purges: Sequence[Purge]) -> Mapping[str, str]:
    """By the ids of those of ``purges`` that may have been restored already, in sentences, why.

    Raises ``BrokerError`` and ``AuditError``.
    """
    kept = [purge for purge in purges if not purge.is_restored and purge.count]
    if not kept:
        return {}
    restores = _restores(audit, kept)
    known = {entry.event.act for entry in audit.of_acts(purge.id for purge in kept)}
    said = {
        purge.id: _said(
            purge, record, restores.get(purge.id, _Restores()), is_audited=purge.id in known
        )
        for purge, record in zip(kept, of_broker.records(kept), strict=True)
    }
    return {purge_id: words for purge_id, words in said.items() if words}


def _restores(audit: Audit, purges: Sequence[Purge]) -> dict[str, _Restores]:
    """By the ids of those that somebody has restored, or begun to."""
    targets = {Request.restore(purge.id).target: purge.id for purge in purges}
    entries = audit.on_targets(targets, Operation.RESTORE)
    # Of what was refused or failed nothing has come back; what is under way cannot be planned.
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


def _said(purge: Purge, record: PurgeRecord, restores: _Restores, *, is_audited: bool) -> str:
    match record.state:
        case RecordState.RESTORED:
            return "The broker remembers that all of its jobs are back."
        case RecordState.DAMAGED:
            return (
                "Its record in the broker is damaged, so it is unknown which jobs are already back."
            )
        case RecordState.PARTIAL:
            return _said_of_known(purge, record, restores)
        case RecordState.MISSING:
            if restores.done is not None:
                audited = f"The audit says that it was restored by {_by_whom(restores.done)}."
            elif restores.begun is not None:
                audited = (
                    f"The audit says that it may have been restored by {_by_whom(restores.begun)}."
                )
            elif is_audited:
                audited = "The audit has no restore of it."
            else:
                audited = "The audit does not know this purge either."
            return f"{_UNKNOWN} {audited} {_TWICE}"
        case _:
            assert_never(record.state)


def _said_of_known(purge: Purge, record: PurgeRecord, restores: _Restores) -> str:
    """Whether the broker may have forgotten jobs that came back."""
    begun = restores.begun
    if restores.done is not None:
        return (
            f"The audit says that it was restored by {_by_whom(restores.done)}, and the broker "
            "does not remember that: it came back from an older backup. Jobs that ran since then "
            "run twice."
        )
    if begun is not None and begun.event.act != record.act:
        return (
            f"The audit has a restore by {_by_whom(begun)} of which it is not known what it "
            "brought back, and the broker does not remember it: it never came that far, or the "
            "broker came back from an older backup. Jobs that it brought back then run twice."
        )
    if record.act and not record.same_run:
        by_whom = "" if begun is None else f" by {_by_whom(begun)}"
        return (
            f"A restore{by_whom} was cut off, and the broker has been started anew since then, is "
            f"another one, or does not tell. It remembers that {record.restored:,} of "
            f"{counted(purge.count, 'job is', 'jobs are')} back. If it has forgotten some, those "
            "run twice."
        )
    return ""


def _by_whom(entry: Entry) -> str:
    return f"{entry.event.actor} at {utc_words(entry.event.at_ms)}"
