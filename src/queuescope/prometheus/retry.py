"""Decides when a failed request is retried: exponential back-off with full jitter."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Retry:
    """At most ``attempts`` tries of one request, including the first.

    The waits between them are random between 0 and a bound that starts at ``base_seconds`` and
    doubles, so that dashboards that failed together do not retry together.
    """

    attempts: int = 3
    base_seconds: float = 0.1
    longest_seconds: float = 2.0

    def wait_seconds(
        self, failed: int, retry_after_seconds: float | None, remaining_seconds: float
    ) -> float | None:
        """How long to wait after the ``failed``-th failure; ``None`` for no retry.

        If the source names a time to wait, it is respected; if that is longer than
        ``longest_seconds``, there is no retry. There is none either if the wait would leave no time
        for an answer.
        """
        if failed >= self.attempts:
            return None
        bound = min(self.base_seconds * 2 ** (failed - 1), self.longest_seconds)
        wait = (retry_after_seconds or 0.0) + random.uniform(0, bound)
        return wait if wait < remaining_seconds and wait <= self.longest_seconds else None
