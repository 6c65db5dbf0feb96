"""Compares the audit with the broker, the files of purges, and a worker's record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.real_broker import connection_of, layout_of

from queuescope.broker.purge_file import pieces
from queuescope.operations.audit import Entry, Phase, Result, Search
from queuescope.operations.context import OperationsContext
from queuescope.operations.request import Request

# Two clocks read one after the other, and the broker's is rounded.
_CLOCKS_MS = 1000


@dataclass
class Act:
    """One operation as recorded in the audit; the newest outcome counts."""

    intent: Entry
    result: str | None = None
    touched: int = 0

    @property
    def target(self) -> str:
        return self.intent.event.target


@dataclass
class Verdict:
    acts: int
    results: Counter[str]
    faults: list[str] = field(default_factory=list)


def judge_all(
    context: OperationsContext, fed: Sequence[str], retried: Path, queues: Sequence[str]
) -> Verdict:
    acts, faults = _read_acts(context)
    verdict = Verdict(len(acts), Counter(act.result or "open" for act in acts.values()))
    verdict.faults += faults
    if fault := context.store.audit.verify().fault:
        verdict.faults.append(fault)
    for check in (
        _purges(context, acts),
        _messages(context, fed, queues),
        _retries(acts, retried.read_text("utf-8").split()),
        _revocations(context, acts),
        _pauses(context, acts, queues),
    ):
        verdict.faults += check
    return verdict


def _read_acts(context: OperationsContext) -> tuple[dict[str, Act], list[str]]:
    acts: dict[str, Act] = {}
    faults = []
    for entry in reversed(context.store.audit.find(Search(), limit=10**9)):
        event = entry.event
        if event.phase is Phase.INTENT:
            acts[event.act] = Act(entry)
        elif event.act in acts:
            acts[event.act].result, acts[event.act].touched = event.result, event.touched
        elif event.result is not Result.REFUSED:
            faults.append(f"entry {entry.seq} is an outcome without an intent")
    faults += [f"act {name} has no outcome" for name, act in acts.items() if act.result is None]
    return acts, faults


def _of(acts: dict[str, Act], operation: str) -> Iterator[tuple[str, Act]]:
    return ((name, act) for name, act in acts.items() if act.intent.event.operation == operation)


def _purges(context: OperationsContext, acts: dict[str, Act]) -> Iterator[str]:
    purges = {purge.id: purge for purge in context.purges.kept().purges}
    for purge in purges.values():
        act = acts.get(purge.id)
        if act is None or act.intent.event.at_ms > purge.at * 1000 + _CLOCKS_MS:
            yield f"purge {purge.id} has no intent before it"
    for name, act in _of(acts, "purge"):
        found = purges.get(name)
        if act.result is Result.DONE and (found is None or found.count != act.touched):
            yield f"purge {name} is called done, and is not"
        if act.result in (Result.FAILED, Result.REFUSED) and found is not None:
            yield f"purge {name} is called {act.result}, and was done"
    restores = {act.target for _, act in _of(acts, "restore")}
    for purge in purges.values():
        if purge.is_restored and f"purge {purge.id}" not in restores:
            yield f"purge {purge.id} was restored without an intent"
    for name, act in _of(acts, "restore"):
        restored = purges.get(act.target.removeprefix("purge "))
        if act.result is Result.DONE and not (restored and restored.is_restored):
            yield f"restore {name} is called done, and is not"


def _messages(
    context: OperationsContext, fed: Sequence[str], queues: Sequence[str]
) -> Iterator[str]:
    found: Counter[str] = Counter()
    for queue in queues:
        for key in layout_of(context.broker).lists(queue):
            found.update(
                _name(raw) for raw in connection_of(context.broker).reader.lrange(key, 0, -1)
            )
    for purge in context.purges.kept().purges:
        if not purge.is_restored:
            found.update(_name(raw) for _, piece in pieces(purge.path) for _, raw in piece)
    if found != Counter(fed):
        lost, doubled = Counter(fed) - found, found - Counter(fed)
        yield f"{lost.total()} messages are lost and {doubled.total()} are there twice"


def _name(raw: object) -> str:
    return raw.decode() if isinstance(raw, bytes) else str(raw)


def _retries(acts: dict[str, Act], sent: Sequence[str]) -> Iterator[str]:
    wanted = {act.target for _, act in _of(acts, "retry")}
    for job, count in Counter(sent).items():
        if count > 1:
            yield f"{job} was sent {count} times"
        if Request.retry([job]).target not in wanted:
            yield f"{job} was sent without an intent"
    targets = {Request.retry([job]).target for job in sent}
    for name, act in _of(acts, "retry"):
        if act.result is Result.DONE and act.target not in targets:
            yield f"retry {name} is called done, and was not sent"


def _revocations(context: OperationsContext, acts: dict[str, Act]) -> Iterator[str]:
    revoked = {
        _name(raw)
        for raw in connection_of(context.broker).reader.zrange(
            connection_of(context.broker).keys.revoked, 0, -1
        )
    }
    wanted = {act.target.removeprefix("job "): act for _, act in _of(acts, "revoke")}
    yield from (f"{job} was revoked without an intent" for job in revoked - set(wanted))
    for job, act in wanted.items():
        if act.result is Result.DONE and job not in revoked:
            yield f"{job} is called revoked, and is not"


def _pauses(
    context: OperationsContext, acts: dict[str, Act], queues: Sequence[str]
) -> Iterator[str]:
    desired = context.store.desired.read()
    if context.broker.desired() != desired:
        yield "the broker's copy of the desired state differs"
    for queue in queues:
        # After an unknown outcome both are possible, until the next one that is known.
        state: bool | None = False
        for act in acts.values():
            if act.target != f"queue {queue}":
                continue
            operation = act.intent.event.operation
            if operation not in ("pause", "resume"):
                continue
            if act.result is Result.DONE:
                state = operation == "pause"
            elif act.result is Result.UNKNOWN:
                state = None
        if state is not None and desired.pauses(queue) != state:
            yield f"{queue} should be {'paused' if state else 'resumed'}, and is not"
