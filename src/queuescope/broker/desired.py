"""The desired state: which queues operators want paused."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

ALL_QUEUES = "*"
"""Stands for every queue among the paused ones."""
REVISION_LIMIT = 2**53
"""A revision is smaller, so that every part of the system can tell it from the next."""
DESIRED_LIMIT_BYTES = 524_288
_REVISION_STEP = 2**32
"""No two copies are so many decisions apart: nobody has made the higher one."""


class DesiredState(msgspec.Struct, frozen=True, kw_only=True):
    """What the operators want; a higher ``revision`` is newer, 0 means that nothing was said.

    ``paused`` holds names of queues in alphabetical order, or ``ALL_QUEUES``; ``ledger`` names the
    operations database in which it was decided, and is empty when that is not known.
    """

    revision: int = 0
    paused: tuple[str, ...] = ()
    ledger: str = ""

    def pauses(self, queue: str) -> bool:
        return ALL_QUEUES in self.paused or queue in self.paused


@dataclass(frozen=True, slots=True)
class StoredDesired:
    """The broker's copy; ``state`` is ``None`` where it is damaged, and ``revocations``, the
    counter of changes to the revoked jobs, where it is no number.
    """

    state: DesiredState | None
    revocations: int | None


def is_implausible(state: DesiredState, known: DesiredState) -> bool:
    """Whether no operators decided ``state``, by how far its revision is beyond what is known."""
    return state.revision - known.revision >= _REVISION_STEP
