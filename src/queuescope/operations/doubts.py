"""What makes it doubtful that a purge was not restored before: a file that came back from a backup,
and a broker, an audit or both that do not know it, or no longer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import assert_never

from queuescope.broker.purge_file import Purge
from queuescope.broker.redis.purges import Memory, Quarantine, Remembered
from queuescope.operations.audit import Entry, Phase, Result, utc_words
from queuescope.operations.request import Operation, Request
from queuescope.operations.store import OperationsStore
from queuescope.words import counted

_UNKNOWN = (
    "The broker does not know this purge, and cannot tell whether its jobs are back: it lost its "
    "data, came back from a backup, or is another one."
)
_TWICE = "If they are back already, or still waited in that backup, they run twice."


@dataclass(frozen=True, slots=True)
class _Restores:
    """What the audit has of a purge: the last restore that was surely ``done``, and the last that
    was ``begun`` and may have brought jobs back.
    """

    done: Entry | None = None
    begun: Entry | None = None


def doubts(
    quarantine: Quarantine, store: OperationsStore, purges: Sequence[Purge]
) -> Mapping[str, str]:
    """By the ids of those of ``purges`` that may have been restored already, in sentences, why.

    Raises ``BrokerError`` and ``AuditError``.
    """
    kept = [purge for purge in purges if not purge.is_restored and purge.count]
    if not kept:
        return {}
    restores = _restores(store, kept)
    known = {entry.event.act for entry in store.entries_of(purge.id for purge in kept)}
    said = {
        purge.id: _said(
            purge, remembered, restores.get(purge.id, _Restores()), is_audited=purge.id in known
        )
        for purge, remembered in zip(kept, quarantine.remembered(kept), strict=True)
    }
    return {purge_id: words for purge_id, words in said.items() if words}


def _restores(store: OperationsStore, purges: Sequence[Purge]) -> dict[str, _Restores]:
    """By the ids of those that somebody has restored, or begun to."""
    targets = {Request.restore(purge.id).target: purge.id for purge in purges}
    entries = store.entries_on(targets, Operation.RESTORE)
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


def _said(purge: Purge, remembered: Remembered, restores: _Restores, *, is_audited: bool) -> str:
    match remembered.memory:
        case Memory.RESTORED:
            return "The broker remembers that all of its jobs are back."
        case Memory.DAMAGED:
            return "Its record in the broker is damaged, so that nobody knows what is back already."
        case Memory.KNOWN:
            return _said_of_known(purge, remembered, restores)
        case Memory.NONE:
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
            assert_never(remembered.memory)


def _said_of_known(purge: Purge, remembered: Remembered, restores: _Restores) -> str:
    """Whether the broker may have forgotten jobs that came back."""
    begun = restores.begun
    if restores.done is not None:
        return (
            f"The audit says that it was restored by {_by_whom(restores.done)}, and the broker "
            "does not remember that: it came back from an older backup. Jobs that ran since then "
            "run twice."
        )
    if begun is not None and begun.event.act != remembered.act:
        return (
            f"The audit has a restore by {_by_whom(begun)} of which it is not known what it "
            "brought back, and the broker does not remember it: it never came that far, or the "
            "broker came back from an older backup. Jobs that it brought back then run twice."
        )
    if remembered.act and not remembered.same_run:
        by_whom = "" if begun is None else f" by {_by_whom(begun)}"
        return (
            f"A restore{by_whom} was cut off, and the broker has been started anew since then, is "
            f"another one, or does not tell. It remembers that {remembered.back:,} of "
            f"{counted(purge.count, 'job is', 'jobs are')} back. If it has forgotten some, those "
            "run twice."
        )
    return ""


def _by_whom(entry: Entry) -> str:
    return f"{entry.event.actor} at {utc_words(entry.event.at_ms)}"
