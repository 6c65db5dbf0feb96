"""The newest operations in the audit, for display."""

from __future__ import annotations

from dataclasses import dataclass

from queuescope.operations.audit import Audit, Entry, Phase, Result, Search

_ENTRIES = 500


@dataclass(frozen=True, slots=True)
class PastOperation:
    """An operation that was started ``at`` epoch seconds. ``result`` is pending until the audit has
    its outcome, which ``detail`` describes in a sentence.
    """

    at: float
    actor: str
    words: str
    result: str
    detail: str


@dataclass(frozen=True, slots=True)
class PastOperations:
    """The newest operations, oldest first. The audit has more before ``begin`` (epoch seconds);
    ``None``: it has none.
    """

    operations: tuple[PastOperation, ...]
    begin: float | None


def read_past_operations(audit: Audit, limit: int = _ENTRIES) -> PastOperations:
    """The operations of the newest ``limit`` entries, without refused ones, since those did
    nothing.

    Raises ``AuditError``.
    """
    entries = audit.find(Search(), limit=limit)
    begin = max(0, entries[-1].event.at_ms) / 1000 if len(entries) == limit else None
    found: dict[str, PastOperation] = {}
    for entry in reversed(entries):
        operation_id = entry.event.act
        # An operation with an unreadable time has no place on a chart.
        if entry.event.at_ms >= 0:
            found[operation_id] = _updated(found.get(operation_id), entry)
    done = [one for one in found.values() if one.result != Result.REFUSED]
    return PastOperations(tuple(sorted(done, key=lambda one: one.at)), begin)


def _updated(intent: PastOperation | None, entry: Entry) -> PastOperation:
    event = entry.event
    if event.phase == Phase.INTENT:
        return PastOperation(event.at_ms / 1000, event.actor, event.detail, event.result, "")
    at = event.at_ms / 1000 if intent is None else intent.at
    words = f"{event.operation} {event.target}" if intent is None else intent.words
    return PastOperation(at, event.actor, words, event.result, event.detail)
