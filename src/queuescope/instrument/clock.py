"""The clock of a worker's machine, put right by the broker's where it is off.

Jobs meet in the history and in metrics from many machines. Their times stand by one clock there,
the broker's, which every worker can ask. What the clock of another machine gave is believed.
"""

from __future__ import annotations

import sys
import time

from queuescope.heartbeats import CLOCK_OFF_SECONDS

_SAME_SECONDS = 2.0
"""Two looks at one clock differ by less."""


class WorkerClock:
    """Epoch seconds; any thread may ask. Nothing is put right before the first comparison."""

    def __init__(self) -> None:
        self._ahead = 0.0

    @property
    def ahead(self) -> float:
        """By how many seconds times are put right: negative where the machine's clock is behind,
        0 where it is off by less than ``CLOCK_OFF_SECONDS``.
        """
        return self._ahead

    def compare(self, broker_now: float) -> None:
        """Learn how far the machine's clock is off; ``broker_now`` has only just been read."""
        off = time.time() - broker_now
        self._ahead = off if abs(off) >= CLOCK_OFF_SECONDS else 0.0

    def now(self) -> float:
        return self.right(time.time())

    def right(self, at: float) -> float:
        """When it was ``at`` by this machine's clock."""
        return at - self._ahead

    def right_of_sender(self, at: float | None, mark: float | None) -> float | None:
        """When it was ``at`` by the clock with this ``mark``."""
        if at is None or mark is None or not self._ahead:
            return at
        own = clock_mark()
        return self.right(at) if own is not None and abs(own - mark) < _SAME_SECONDS else at


def clock_mark() -> float | None:
    """What tells the clock of this process from others: when it says that the machine started.
    ``None`` where that cannot be known: only Linux tells for how long a machine has been up.
    """
    if sys.platform != "linux":
        return None
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
