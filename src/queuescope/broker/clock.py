"""The local machine's clock, corrected by the broker's clock if it is off.

One page shows jobs, operations and reports of many machines. Their times use one clock, the
broker's, which every worker and every dashboard can read.
"""

from __future__ import annotations

import sys
import time

CLOCK_OFF_SECONDS = 5.0
"""A clock is off if it differs from the broker's by at least this much. A report may be under way
for part of that time, and a smaller difference does not matter in any figure.
"""

SAME_CLOCK_SECONDS = 2.0
"""Two marks of one clock differ by less than this."""
_SETTINGS_LIMIT = 16
"""How many settings of this machine's clock are remembered."""


class CorrectedClock:
    """Times in epoch seconds, for any thread. Nothing is corrected before the first comparison."""

    def __init__(self) -> None:
        # The mark of each setting and its offset, the newest last. Replaced as a whole.
        self._settings: tuple[tuple[float | None, float], ...] = ()
        # The newest mark and its correction, kept since each job needs them several times.
        self._newest: tuple[float | None, float] = (None, 0.0)
        self._was_ever_off = False

    @property
    def is_compared(self) -> bool:
        """Whether the clock was compared with the broker's yet."""
        return bool(self._settings)

    @property
    def ahead(self) -> float:
        """By how many seconds times are corrected: negative if the machine's clock is behind, 0 if
        it is off by less than ``CLOCK_OFF_SECONDS``.
        """
        mark, (last, ahead) = clock_mark(), self._newest
        if mark is None or last is None or -SAME_CLOCK_SECONDS < mark - last < SAME_CLOCK_SECONDS:
            return ahead
        return self._ahead_of(mark)

    @property
    def offset_seconds(self) -> float | None:
        """By how many seconds the machine's clock is ahead of the broker's, negative if it is
        behind; ``None`` before the first comparison.
        """
        return self._offset_at(clock_mark()) if self._settings else None

    def compare(self, broker_now: float, *, asked_at: float) -> None:
        """Measure how far the machine's clock is off. The broker was asked at ``asked_at`` by that
        clock, and answered that its time was ``broker_now``.

        The answer may be late, for example because the process was stopped: the known offset
        changes only as far as the answer proves it wrong.
        """
        mark = clock_mark()
        offset_seconds = max(self._offset_at(mark), asked_at - broker_now)
        offset_seconds = min(offset_seconds, time.time() - broker_now)
        before = [one for one in self._settings if not is_same_clock(one[0], mark)]
        self._settings = (*before[1 - _SETTINGS_LIMIT :], (mark, offset_seconds))
        ahead = self._ahead_of(mark)
        self._was_ever_off = self._was_ever_off or ahead != 0.0
        self._newest = (mark, ahead)

    def now(self) -> float:
        return self.corrected(time.time())

    def corrected(self, at: float) -> float:
        """The broker's time when this machine's clock, as it is set now, showed ``at``."""
        return at - self.ahead

    def corrected_for_sender(self, at: float | None, mark: float | None) -> float | None:
        """The broker's time when the clock with this ``mark`` showed ``at``. The time of another
        machine is not corrected.
        """
        if at is None or mark is None or not (self._was_ever_off or self.ahead):
            return at
        is_own = any(is_same_clock(known, mark) for known, _ in self._settings)
        return at - self._ahead_of(mark) if is_own or is_same_clock(clock_mark(), mark) else at

    def _ahead_of(self, mark: float | None) -> float:
        return significant_offset(self._offset_at(mark))

    def _offset_at(self, mark: float | None) -> float:
        """How far this machine's clock was off when it had this ``mark``, in seconds."""
        settings = self._settings
        for known, offset_seconds in reversed(settings):
            if is_same_clock(known, mark):
                return offset_seconds
        if not settings:
            return 0.0
        last, offset_seconds = settings[-1]
        # The clock was set since; the time that it gives for the machine's start moved with it.
        return offset_seconds if mark is None or last is None else offset_seconds + mark - last


def clock_mark() -> float | None:
    """Identifies this machine's clock as it is set now: the time at which the machine started, by
    that clock. ``None`` except on Linux, which says how long a machine has been up.
    """
    if sys.platform != "linux":
        return None
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)


def significant_offset(offset_seconds: float) -> float:
    """``offset_seconds``, or 0 if it is less than ``CLOCK_OFF_SECONDS``."""
    return offset_seconds if abs(offset_seconds) >= CLOCK_OFF_SECONDS else 0.0


def is_same_clock(one: float | None, other: float | None) -> bool:
    """Whether two marks belong to one clock that was not set in between."""
    if one is None or other is None:
        return one is other
    return abs(one - other) < SAME_CLOCK_SECONDS
