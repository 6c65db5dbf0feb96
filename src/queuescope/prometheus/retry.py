"""When a question that failed is asked again: exponential back-off with full jitter."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Retry:
    """At most ``attempts`` tries of one question, counting the first.

    The waits between them are random between 0 and a bound that starts at ``base_seconds`` and
    doubles: dashboards that failed together do not come back together.
    """

    attempts: int = 3
    base_seconds: float = 0.1
    longest_seconds: float = 2.0

    def wait_seconds(
        self, failed: int, retry_after_seconds: float | None, remaining_seconds: float
    ) -> float | None:
        """How long to wait after the ``failed``-th failure; None when it is not to be asked again.

        A source that names a time is not asked before it, and not again within this call where
        that is longer than ``longest_seconds``. A wait that leaves no time for an answer is
        pointless, so the failure that is known is better told at once.
        """
        if failed >= self.attempts:
            return None
        bound = min(self.base_seconds * 2 ** (failed - 1), self.longest_seconds)
        wait = (retry_after_seconds or 0.0) + random.uniform(0, bound)
        return wait if wait < remaining_seconds and wait <= self.longest_seconds else None
