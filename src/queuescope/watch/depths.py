"""How many jobs waited in the last minutes, so that it is seen how a queue moves."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from queuescope.broker.desired import DesiredState
from queuescope.broker.protocol import QueueReading
from queuescope.health import MEMORY_SECONDS

Depths = tuple[tuple[float, int], ...]
"""Moments (epoch seconds of the broker's clock, ascending) and how many jobs waited then."""


class RecentDepths:
    """Remembers what waited in the queues that nobody has paused. Belongs to one thread."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def take_in(self, at: float, queues: Iterable[QueueReading], desired: DesiredState) -> Depths:
        """Note the depth as of ``at``, and return all that is remembered."""
        if self._seen and at <= self._seen[-1][0]:
            # The clock was set back, or another server has taken over.
            self._seen.clear()
        waiting = sum(queue.depth for queue in queues if not desired.pauses(queue.queue))
        self._seen.append((at, waiting))
        while self._seen[0][0] < at - MEMORY_SECONDS:
            self._seen.popleft()
        return tuple(self._seen)
