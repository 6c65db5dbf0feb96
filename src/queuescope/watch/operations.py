"""Reads the audit, verifies its chain, and lists the kept purges."""

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
FULL_VERIFICATION_SECONDS = 600.0
"""How often the whole chain is verified."""
_VERIFICATION_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class AuditState:
    """The newest entries, newest first, and the operations that have no outcome yet.

    ``refusal`` is why no intent can be written now, so that no operation can start.
    """

    entries: tuple[Entry, ...]
    unfinished: tuple[OpenOperation, ...]
    refusal: AuditError | None


@dataclass(frozen=True, slots=True)
class PurgesState:
    """The kept purges, newest first, and the names of damaged files.

    ``actors`` are the people who purged, by the purge's id, as far as known. ``unfinished`` are the
    ids of purges that are not exported yet, ``None`` if the broker does not answer. ``warnings``
    say by the purge's id why it may have been restored already.
    """

    purges: tuple[Purge, ...]
    damaged: tuple[str, ...]
    actors: Mapping[str, str]
    unfinished: tuple[str, ...] | None
    warnings: Mapping[str, str]


class ChainVerifier:
    """Verifies the chain: new entries each time, all of it regularly. Also detects a chain that was
    rebuilt since the last time. ``clock`` is monotonic, in seconds.
    """

    def __init__(self, audit: Audit, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._audit = audit
        self._clock = clock
        self._head = ""
        self._last: Verification | None = None
        self._whole_at = -math.inf

    def start_over(self) -> None:
        """Make the next call verify the whole chain."""
        self._whole_at = -math.inf

    def __call__(self) -> Verification:
        """Raises ``AuditError``."""
        now, last = self._clock(), self._last
        if last is None or now - self._whole_at >= FULL_VERIFICATION_SECONDS:
            found = self._audit.verify(
                expected_head=self._head, patience_seconds=_VERIFICATION_SECONDS
            )
            self._whole_at = now
        elif last.fault:
            return last
        else:
            # Continue where the last one ended, at the end of the chain or of its time.
            found = self._audit.verify(
                expected_head=self._head, after=last.head, patience_seconds=_VERIFICATION_SECONDS
            )
        self._last = found
        if found.is_complete and found.entries and not found.fault:
            self._head = found.head
        return found


def read_audit(context: OperationsContext) -> AuditState:
    """Raises ``AuditError`` if the audit cannot be read."""
    entries = context.store.audit.find(Search(), limit=LATEST_ENTRIES)
    unfinished = context.store.open_operations()
    refusal: AuditError | None = None
    try:
        context.store.audit.prove_writable()
    except AuditError as exc:
        refusal = exc
    return AuditState(tuple(entries), tuple(unfinished), refusal)


def read_purges(context: OperationsContext) -> PurgesState:
    """Raises ``PurgeError``; works without the audit and the broker."""
    kept = context.purges.kept()
    actors: dict[str, str] = {}
    unfinished: tuple[str, ...] | None = None
    try:
        entries = context.store.audit.of_operations(purge.id for purge in kept.purges)
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
        # Without either of them no purge can be restored anyway.
        found = {}
    return PurgesState(kept.purges, kept.damaged, actors, unfinished, found)
