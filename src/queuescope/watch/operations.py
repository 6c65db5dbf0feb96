"""What acts need and leave behind: the audit, its chain, and what was purged."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from queuescope.broker.purge_file import Purge
from queuescope.errors import AuditError, BrokerError
from queuescope.operations.audit import Audit, Entry, Phase, Search, Verification
from queuescope.operations.context import OperationsContext
from queuescope.operations.purges import restore_warnings
from queuescope.operations.store import OpenOperation

LATEST_ENTRIES = 20
WHOLE_WALK_SECONDS = 600.0
"""How often the whole chain is walked."""
_WALK_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class AuditState:
    """The newest entries, newest first, and the acts that have no outcome yet.

    ``refusal`` is why no intent could be written now, so that no act can begin.
    """

    entries: tuple[Entry, ...]
    unfinished: tuple[OpenOperation, ...]
    refusal: AuditError | None


@dataclass(frozen=True, slots=True)
class PurgesState:
    """What was purged, the newest first, and the names of the files that are damaged.

    ``actors`` tells by a purge's id who did it, as far as that is known. ``unfinished`` are the
    ids of purges that are not exported yet, ``None`` when the broker does not say. ``warnings``
    say by a purge's id why it may have been restored already, as far as broker and audit tell.
    """

    purges: tuple[Purge, ...]
    damaged: tuple[str, ...]
    actors: Mapping[str, str]
    unfinished: tuple[str, ...] | None
    warnings: Mapping[str, str]


class ChainVerifier:
    """Walks the chain: what is new each time, all of it now and then. Finds also that it was made
    anew since it was walked last. ``clock`` is monotonic, in seconds.
    """

    def __init__(self, audit: Audit, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._audit = audit
        self._clock = clock
        self._head = ""
        self._last: Verification | None = None
        self._whole_at = -math.inf

    def start_over(self) -> None:
        """Let the next walk be of all."""
        self._whole_at = -math.inf

    def __call__(self) -> Verification:
        """Raises ``AuditError``."""
        now, last = self._clock(), self._last
        if last is None or now - self._whole_at >= WHOLE_WALK_SECONDS:
            found = self._audit.verify(expected_head=self._head, patience_seconds=_WALK_SECONDS)
            self._whole_at = now
        elif last.fault:
            return last
        else:
            # Where the last walk ended, be it at the end of the chain or of its time.
            found = self._audit.verify(
                expected_head=self._head, after=last.head, patience_seconds=_WALK_SECONDS
            )
        self._last = found
        if found.is_complete and found.entries and not found.fault:
            self._head = found.head
        return found


def read_audit(context: OperationsContext) -> AuditState:
    """Raises ``AuditError`` when it cannot even be read."""
    entries = context.store.audit.find(Search(), limit=LATEST_ENTRIES)
    unfinished = context.store.open_operations()
    refusal: AuditError | None = None
    try:
        context.store.audit.prove_writable()
    except AuditError as exc:
        refusal = exc
    return AuditState(tuple(entries), tuple(unfinished), refusal)


def read_purges(context: OperationsContext) -> PurgesState:
    """Raises ``PurgeError``; audit and broker may be away."""
    kept = context.purges.kept()
    actors: dict[str, str] = {}
    unfinished: tuple[str, ...] | None = None
    try:
        entries = context.store.audit.of_acts(purge.id for purge in kept.purges)
        actors = {e.event.act: e.event.actor for e in entries if e.event.phase == Phase.INTENT}
    except AuditError:
        actors = {}
    try:
        unfinished = context.purges.unfinished()
    except BrokerError:
        unfinished = None
    found: Mapping[str, str] = {}
    try:
        found = restore_warnings(context.purges, context.store.audit, kept.purges)
    except (AuditError, BrokerError):
        # Nothing is restored while either is away.
        found = {}
    return PurgesState(kept.purges, kept.damaged, actors, unfinished, found)
