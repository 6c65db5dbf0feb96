"""Purges a queue without losing anything: from the queue into a file, and back if wanted.

A purge sets the queue's messages aside in the broker and writes them to a file on disk before it
discards them in the broker. It can be killed at any moment: each message is in the queue, set
aside, or in the file, and ``recover`` completes the purge.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from queuescope.broker.capabilities import Ability
from queuescope.broker.protocol import Broker, PurgeRecord, RecordState
from queuescope.broker.purge_file import (
    RESTORED_SUFFIX,
    SUFFIX,
    Draft,
    Head,
    Purge,
    is_begun_here,
    move,
    note_begun,
    pieces,
    purge_files,
    read_purge,
    remove_leftovers,
    remove_note,
)
from queuescope.errors import BrokerError, PurgeError
from queuescope.shown_text import one_line

ABANDONED_SECONDS = 120.0
"""A purge that was begun from another folder counts as interrupted after this time. One that is
still under way then is completed in two places: nothing is lost, but its file is only in one.
"""
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SHOWN = 64


@dataclass(frozen=True, slots=True)
class Purged:
    """The result of a purge. Workers still hold ``still_reserved`` jobs of the queue, which were
    delivered before and may run; ``None`` is unknown.
    """

    purge: Purge
    still_reserved: int | None


@dataclass(frozen=True, slots=True)
class Restored:
    """The result of a restore: ``count`` messages are back, ``now`` of them by this call."""

    purge: Purge
    count: int
    now: int


@dataclass(frozen=True, slots=True)
class KeptPurges:
    """The kept purges, newest first, and the names of damaged files."""

    purges: tuple[Purge, ...]
    damaged: tuple[str, ...]


class Purges:
    """Purges of one broker, kept in one folder.

    Methods raise ``BrokerError``, and ``PurgeError`` if a file cannot be written or read. After
    either, messages are where they were or wait for ``recover``.
    """

    def __init__(
        self, broker: Broker, folder: Path, *, abandoned_seconds: float = ABANDONED_SECONDS
    ) -> None:
        self._broker = broker
        self._steps = broker.purge_steps
        self._folder = folder
        self._abandoned_seconds = abandoned_seconds

    def purge(self, queue: str, purge_id: str) -> Purged:
        """Remove all messages that wait in ``queue`` now, of every priority, and nothing else.

        A second call with the same ``purge_id`` completes the first.
        """
        self._check(purge_id)
        capabilities = self._broker.capabilities
        capabilities.require(Ability.PURGE)
        note_begun(self._folder, purge_id)
        # The workers' reports say which lists hold the queue.
        self._broker.workers()
        self._steps.set_aside(queue, purge_id)
        purge = self._complete(purge_id)
        still_reserved = None
        if capabilities.has(Ability.UNACKNOWLEDGED):
            try:
                readings = self._broker.queues([queue])
                still_reserved = readings[0].unacknowledged if readings else None
            except BrokerError:
                still_reserved = None
        return Purged(purge, still_reserved)

    def recover(self) -> list[Purge]:
        """Complete the purges that were interrupted, here or in another process, and the restores
        that were interrupted before their last step, the renaming of the file.

        A purge from another folder is left to the dashboards that use it until it is old: its
        process may be about to write the file, and looks for it there.

        One that cannot be completed (not made by Queuescope, or with a damaged record) is left as
        it is and delays no other; it raises ``PurgeError`` at the end.
        """
        remove_leftovers(self._folder)
        completed, left = [], []
        self._rename_restored()
        for name in self.unfinished():
            try:
                if self._is_interrupted(name):
                    completed.append(self._complete(name))
            except PurgeError as exc:
                left.append((name, exc))
        if left:
            name, error = left[0]
            more = f", and {len(left) - 1:,} more" if len(left) > 1 else ""
            raise PurgeError(
                f"an unfinished purge cannot be completed ({one_line(name, _SHOWN)}: {error}){more}"
            ) from error
        return completed

    def note_restore(self, purge_id: str, operation_id: str) -> None:
        """Record in the broker that ``operation_id`` is about to restore this purge; moves
        nothing.
        """
        self._check(purge_id)
        self._steps.note_restore(self._find(purge_id), operation_id)

    def restore(self, purge_id: str) -> Restored:
        """Put the messages back where they are consumed next, in their old order.

        A call after an interrupted one continues there; after a complete one it does nothing. Each
        piece of up to 2,000 messages is put back in one step.
        """
        self._check(purge_id)
        self._broker.capabilities.require(Ability.RESTORE)
        if self._steps.is_set_aside(purge_id):
            self._complete(purge_id)
        purge = self._find(purge_id)
        if purge.is_restored:
            return Restored(purge, purge.count, 0)
        now = sum(
            self._steps.put_back(purge, offset, piece) for offset, piece in pieces(purge.path)
        )
        try:
            move(purge.path, self._path(purge_id, is_restored=True))
        except PurgeError:
            # Another process may have restored the same purge first.
            if not self._find(purge_id).is_restored:
                raise
        return Restored(self._find(purge_id), purge.count, now)

    def kept(self) -> KeptPurges:
        """The purges in the folder; an unreadable file does not hide others.

        A purge whose file was copied back beside the restored one counts as restored.
        """
        found, damaged = list[Purge](), []
        for path in purge_files(self._folder):
            try:
                found.append(read_purge(path))
            except PurgeError:
                # If it was restored in between, its name has changed.
                if path.exists():
                    damaged.append(path.name)
        restored = {purge.id for purge in found if purge.is_restored}
        found = [purge for purge in found if purge.is_restored or purge.id not in restored]
        found.sort(key=lambda purge: purge.at, reverse=True)
        return KeptPurges(tuple(found), tuple(sorted(damaged)))

    def records(self, purges: Sequence[Purge]) -> list[PurgeRecord]:
        """The broker's record of each of ``purges``."""
        return self._steps.records(purges)

    def unfinished(self) -> tuple[str, ...]:
        """The ids of purges that are not exported yet: under way, or interrupted."""
        return self._steps.unfinished()

    def has_begun(self, purge_id: str) -> bool:
        """Whether this purge has touched its queue."""
        return self._steps.is_known(purge_id)

    def _complete(self, purge_id: str) -> Purge:
        self._check(purge_id)
        path = self._path(purge_id)
        head = self._steps.head(purge_id)
        if head is None:
            return self._find(purge_id)
        if path.exists():
            if read_purge(path).at != head.at:
                raise PurgeError("the id of this purge was used before; nothing was deleted")
        else:
            self._export(head, path)
        self._steps.discard(purge_id)
        remove_note(self._folder, purge_id)
        return self._find(purge_id)

    def _is_interrupted(self, purge_id: str) -> bool:
        """Whether ``recover`` may complete this purge, which was unfinished a moment ago."""
        self._check(purge_id)
        if is_begun_here(self._folder, purge_id) or self._path(purge_id).exists():
            # Completed twice in one folder, it is one file.
            return True
        head = self._steps.head(purge_id)
        if head is None:
            # Completed meanwhile, unless it has no record at all.
            return purge_id in self.unfinished()
        # After the broker's clock was set back, the purge may seem to lie in the future.
        return abs(self._broker.now() - head.at) >= self._abandoned_seconds

    def _export(self, head: Head, path: Path) -> None:
        """Write the messages that are set aside to ``path``, completely or not at all."""
        with Draft(self._folder) as draft:
            draft.write(head, self._steps.messages(head))
            # Another process may have completed this purge and deleted its messages meanwhile.
            if self._steps.is_set_aside(head.id):
                draft.publish(path)

    def _rename_restored(self) -> None:
        kept = [purge for purge in self.kept().purges if not purge.is_restored and purge.count]
        if not kept:
            return
        for purge, record in zip(kept, self.records(kept), strict=True):
            # Another process may restore the same purge first.
            if record.state is RecordState.RESTORED and purge.path.exists():
                move(purge.path, self._path(purge.id, is_restored=True))

    def _check(self, purge_id: str) -> None:
        if not _ID.fullmatch(purge_id):
            raise PurgeError("this is not the id of a purge")

    def _path(self, purge_id: str, *, is_restored: bool = False) -> Path:
        return self._folder / f"{purge_id}{RESTORED_SUFFIX if is_restored else SUFFIX}"

    def _find(self, purge_id: str) -> Purge:
        for is_restored in (True, False):
            path = self._path(purge_id, is_restored=is_restored)
            if path.exists():
                return read_purge(path)
        raise PurgeError(
            "the file of this purge is not in the data directory of this dashboard; "
            "look for it where the purge was carried out"
        )
