"""What makes it doubtful that a purge was not restored before: a file that came back from a backup,
and a broker, an audit or both that do not know it, or no longer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import assert_never

from queuescope.operations.audit import Entry, Phase, Result, utc_words
from queuescope.operations.ledger import Ledger
from queuescope.operations.purge_file import Purge
from queuescope.operations.quarantine import Memory, Quarantine
from queuescope.operations.request import Operation, Request

_UNKNOWN = (
    "The broker does not know this purge, and cannot tell whether its jobs are back: it lost its "
    "data, came back from a backup, or is another one."
)
_TWICE = "If they are back already, or still waited in that backup, they run twice."


def doubts(quarantine: Quarantine, ledger: Ledger, purges: Sequence[Purge]) -> Mapping[str, str]:
    """By the ids of those of ``purges`` that may have been restored already, in sentences, why.

    Raises ``BrokerError`` and ``AuditError``.
    """
    kept = [purge for purge in purges if not purge.is_restored]
    if not kept:
        return {}
    restores = _restores(ledger, kept)
    known = {entry.event.act for entry in ledger.entries_of(purge.id for purge in kept)}
    said = {
        purge.id: _said(memory, restores.get(purge.id), is_audited=purge.id in known)
        for purge, memory in zip(kept, quarantine.memories(kept), strict=True)
    }
    return {purge_id: words for purge_id, words in said.items() if words}


def _restores(ledger: Ledger, purges: Sequence[Purge]) -> dict[str, Entry]:
    """The last outcome of each purge's restores; one that was surely done goes before others."""
    targets = {Request.restore(purge.id).target: purge.id for purge in purges}
    found: dict[str, Entry] = {}
    for entry in ledger.entries_on(targets, Operation.RESTORE):
        event = entry.event
        if event.phase != Phase.OUTCOME or event.result not in (Result.DONE, Result.UNKNOWN):
            continue
        purge_id = targets[event.target]
        before = found.get(purge_id)
        if before is None or event.result == Result.DONE or before.event.result != Result.DONE:
            found[purge_id] = entry
    return found


def _said(memory: Memory, restore: Entry | None, *, is_audited: bool) -> str:
    is_done = restore is not None and restore.event.result == Result.DONE
    by_whom = (
        "" if restore is None else f"{restore.event.actor} at {utc_words(restore.event.at_ms)}"
    )
    match memory:
        case Memory.RESTORED:
            return "The broker remembers that all of its jobs are back."
        case Memory.DAMAGED:
            return "Its record in the broker is damaged, so that nobody knows what is back already."
        case Memory.KNOWN:
            if not is_done:
                return ""
            return (
                f"The audit says that it was restored by {by_whom}, and the broker does not "
                "remember that: it came back from an older backup. Jobs that ran since then run "
                "twice."
            )
        case Memory.NONE:
            if is_done:
                audited = f"The audit says that it was restored by {by_whom}."
            elif restore is not None:
                audited = f"The audit says that it may have been restored by {by_whom}."
            elif is_audited:
                audited = "The audit has no restore of it."
            else:
                audited = "The audit does not know this purge either."
            return f"{_UNKNOWN} {audited} {_TWICE}"
        case _:
            assert_never(memory)
