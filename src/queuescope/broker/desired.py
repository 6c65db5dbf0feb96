"""The desired state: which queues operators want paused."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

ALL_QUEUES = "*"
"""Means every queue among the paused ones."""
REVISION_LIMIT = 2**53
"""Revisions are smaller than this, so that JSON numbers hold them exactly."""
DESIRED_LIMIT_BYTES = 524_288
_REVISION_STEP = 2**32
"""Two true copies never differ by this many revisions; the higher one was not decided."""


class DesiredState(msgspec.Struct, frozen=True, kw_only=True):
    """What the operators want; a higher ``revision`` is newer, 0 means that nothing was decided.

    ``paused`` holds names of queues in alphabetical order, or ``ALL_QUEUES``; ``ledger`` names the
    operations database in which it was decided, empty if unknown.
    """

    revision: int = 0
    paused: tuple[str, ...] = ()
    ledger: str = ""

    def pauses(self, queue: str) -> bool:
        return ALL_QUEUES in self.paused or queue in self.paused


@dataclass(frozen=True, slots=True)
class StoredDesired:
    """The broker's copy; ``state`` is ``None`` if it is damaged, and so is ``revocations``, the
    counter of changes to the revoked jobs, if it is not a number.
    """

    state: DesiredState | None
    revocations: int | None


def is_implausible(state: DesiredState, known: DesiredState) -> bool:
    """Whether ``state`` cannot have been decided: its revision is too far above the known one."""
    return state.revision - known.revision >= _REVISION_STEP
