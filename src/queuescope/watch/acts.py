"""What operators have done lately, as the audit has it."""

from __future__ import annotations

from dataclasses import dataclass

from queuescope.operations.audit import Audit, Entry, Phase, Result, Search

_ENTRIES = 500


@dataclass(frozen=True, slots=True)
class RecordedAct:
    """An act that was begun; ``at`` is when, in epoch seconds. ``result`` is pending until the
    audit knows what became of it, which ``detail`` says in a sentence.
    """

    at: float
    actor: str
    words: str
    result: str
    detail: str


@dataclass(frozen=True, slots=True)
class RecordedActs:
    """The newest acts, oldest first; ``begin`` is before when the audit has more, None: it has
    none.
    """

    acts: tuple[RecordedAct, ...]
    begin: float | None


def read_acts(audit: Audit, limit: int = _ENTRIES) -> RecordedActs:
    """The acts of the newest ``limit`` entries. What was refused is none: nothing was done.

    Raises ``AuditError``.
    """
    entries = audit.find(Search(), limit=limit)
    begin = max(0, entries[-1].event.at_ms) / 1000 if len(entries) == limit else None
    acts: dict[str, RecordedAct] = {}
    for entry in reversed(entries):
        known = acts.get(entry.event.act)
        # Of one whose time cannot be read nobody knows where it stands on a chart.
        if entry.event.at_ms >= 0:
            acts[entry.event.act] = _act(entry, known)
    done = [act for act in acts.values() if act.result != Result.REFUSED]
    return RecordedActs(tuple(sorted(done, key=lambda act: act.at)), begin)


def _act(entry: Entry, intent: RecordedAct | None) -> RecordedAct:
    event = entry.event
    if event.phase == Phase.INTENT:
        return RecordedAct(event.at_ms / 1000, event.actor, event.detail, event.result, "")
    at = event.at_ms / 1000 if intent is None else intent.at
    words = f"{event.operation} {event.target}" if intent is None else intent.words
    return RecordedAct(at, event.actor, words, event.result, event.detail)
