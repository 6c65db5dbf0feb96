"""Keeps the queue depth of the last minutes, from which its movement is computed."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from queuescope.broker.desired import DesiredState
from queuescope.broker.protocol import QueueReading
from queuescope.health import MEMORY_SECONDS

Depths = tuple[tuple[float, int], ...]
"""Times (epoch seconds of the broker's clock, ascending), each with the depth at that time."""


class RecentDepths:
    """Keeps the depth of the queues that are not paused. Belongs to one thread."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def add(self, at: float, queues: Iterable[QueueReading], desired: DesiredState) -> Depths:
        """Add the depth at ``at``, and return all that are kept."""
        if self._seen and at <= self._seen[-1][0]:
            # The clock was set back, or another server has taken over.
            self._seen.clear()
        waiting = sum(queue.depth for queue in queues if not desired.pauses(queue.queue))
        self._seen.append((at, waiting))
        while self._seen[0][0] < at - MEMORY_SECONDS:
            self._seen.popleft()
        return tuple(self._seen)
