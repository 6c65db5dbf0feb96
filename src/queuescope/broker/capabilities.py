"""What a broker can do, and why not where it cannot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from queuescope.errors import RefusalReason, RefusedError


class Ability(StrEnum):
    """Something that the page shows or does with a broker that has it."""

    DEPTH = "depth"
    """To count the jobs that wait in a queue."""
    OLDEST_WAITING = "oldest_waiting"
    """To say since when the oldest job of a queue waits."""
    UNACKNOWLEDGED = "unacknowledged"
    """To count what workers hold of a queue."""
    REPORTS = "reports"
    """To keep the workers' reports, in which reserved and scheduled jobs are counted."""
    PAUSE = "pause"
    """To tell workers which queues are paused."""
    PURGE = "purge"
    RESTORE = "restore"
    REVOKE = "revoke"
    REQUEUE = "requeue"
    """To let a worker send failed jobs again."""
    SCALE = "scale"


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Every ability is there but for the ``missing`` ones, each with the reason: a sentence that
    may be shown to anyone.
    """

    missing: Mapping[Ability, str] = field(default_factory=dict)

    def has(self, ability: Ability) -> bool:
        return ability not in self.missing

    def why_not(self, ability: Ability) -> str:
        """Why ``ability`` is missing, or nothing."""
        return self.missing.get(ability, "")

    def demand(self, ability: Ability) -> None:
        """Raises ``RefusedError`` with the reason where ``ability`` is missing."""
        if not self.has(ability):
            raise RefusedError(RefusalReason.NOT_POSSIBLE, self.missing[ability])


ALL_CAPABILITIES = Capabilities()
