"""What a broker can do, and why it cannot do the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from queuescope.errors import RefusalReason, RefusedError


class Ability(StrEnum):
    """Something that a broker may be able to do; the page offers only what it can."""

    DEPTH = "depth"
    """To count the jobs that wait in a queue."""
    OLDEST_WAITING = "oldest_waiting"
    """To say how long the oldest job of a queue has waited."""
    UNACKNOWLEDGED = "unacknowledged"
    """To count the jobs of a queue that workers hold."""
    REPORTS = "reports"
    """To keep the workers' reports, which count reserved and scheduled jobs."""
    PAUSE = "pause"
    """To let workers read which queues are paused."""
    PURGE = "purge"
    RESTORE = "restore"
    REVOKE = "revoke"
    REQUEUE = "requeue"
    """To let a worker send failed jobs again."""
    SCALE = "scale"


@dataclass(frozen=True, slots=True)
class Capabilities:
    """All abilities except the ``missing`` ones, each with the reason: a sentence that may be shown
    to anyone.
    """

    missing: Mapping[Ability, str] = field(default_factory=dict)

    def has(self, ability: Ability) -> bool:
        return ability not in self.missing

    def why_not(self, ability: Ability) -> str:
        """Why ``ability`` is missing; empty if it is not."""
        return self.missing.get(ability, "")

    def require(self, ability: Ability) -> None:
        """Raises ``RefusedError`` with the reason if ``ability`` is missing."""
        if not self.has(ability):
            raise RefusedError(RefusalReason.NOT_POSSIBLE, self.missing[ability])


ALL_CAPABILITIES = Capabilities()
