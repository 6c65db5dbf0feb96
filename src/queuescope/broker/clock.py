"""The clock of this machine, corrected by the broker's where it is off.

Jobs, acts and reports of many machines meet on one page. Their times stand by one clock there, the
broker's, which every worker and every dashboard can ask.
"""

from __future__ import annotations

import sys
import time

CLOCK_OFF_SECONDS = 5.0
"""A clock is off that is so far from the broker's: a report may be under way for some of that, and
less disturbs no figure that anybody reads.
"""

SAME_CLOCK_SECONDS = 2.0
"""Two marks of one clock differ by less."""
_REMEMBERED = 16
"""So many settings of this machine's clock are remembered."""


class CorrectedClock:
    """Epoch seconds; any thread may ask. Nothing is corrected before the first comparison."""

    def __init__(self) -> None:
        # How far the clock was off, with its mark; the newest last. Replaced as one.
        self._settings: tuple[tuple[float | None, float], ...] = ()
        # The mark of the newest, and what is taken off; each job asks several times.
        self._newest: tuple[float | None, float] = (None, 0.0)
        self._was_ever_off = False

    @property
    def is_compared(self) -> bool:
        """Whether the broker has told its time yet."""
        return bool(self._settings)

    @property
    def ahead(self) -> float:
        """By how many seconds times are corrected: negative where the machine's clock is behind,
        0 where it is off by less than ``CLOCK_OFF_SECONDS``.
        """
        mark, (last, ahead) = clock_mark(), self._newest
        if mark is None or last is None or -SAME_CLOCK_SECONDS < mark - last < SAME_CLOCK_SECONDS:
            return ahead
        return self._ahead_of(mark)

    @property
    def off(self) -> float | None:
        """By how many seconds the machine's clock is ahead of the broker's, negative where it is
        behind; ``None`` before the first comparison.
        """
        return self._off_at(clock_mark()) if self._settings else None

    def compare(self, broker_now: float, *, asked_at: float) -> None:
        """Learn how far the machine's clock is off. The broker was asked at ``asked_at`` by that
        clock, and has answered by now that it was ``broker_now``.

        However long the answer took, a process that was stopped meanwhile takes its clock for
        right: what was known stays, as far as the answer allows.
        """
        mark = clock_mark()
        off = max(self._off_at(mark), asked_at - broker_now)
        off = min(off, time.time() - broker_now)
        before = [one for one in self._settings if not is_same_clock(one[0], mark)]
        self._settings = (*before[1 - _REMEMBERED :], (mark, off))
        ahead = self._ahead_of(mark)
        self._was_ever_off = self._was_ever_off or ahead != 0.0
        self._newest = (mark, ahead)

    def now(self) -> float:
        return self.corrected(time.time())

    def corrected(self, at: float) -> float:
        """When it was ``at`` by this machine's clock, as it is set now."""
        return at - self.ahead

    def corrected_for_sender(self, at: float | None, mark: float | None) -> float | None:
        """When it was ``at`` by the clock with this ``mark``. That of another machine is
        believed.
        """
        if at is None or mark is None or not (self._was_ever_off or self.ahead):
            return at
        is_own = any(is_same_clock(known, mark) for known, _ in self._settings)
        return at - self._ahead_of(mark) if is_own or is_same_clock(clock_mark(), mark) else at

    def _ahead_of(self, mark: float | None) -> float:
        return significant_offset(self._off_at(mark))

    def _off_at(self, mark: float | None) -> float:
        """How far this machine's clock was off, in seconds, when it had this ``mark``."""
        settings = self._settings
        for known, off in reversed(settings):
            if is_same_clock(known, mark):
                return off
        if not settings:
            return 0.0
        last, off = settings[-1]
        # It was set since, by as much as it tells another time of the machine's start.
        return off if mark is None or last is None else off + mark - last


def clock_mark() -> float | None:
    """What tells the clock of this process from others, and from itself before it was set: when it
    says that the machine started. ``None`` where that cannot be known: only Linux tells for how
    long a machine has been up.
    """
    if sys.platform != "linux":
        return None
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)


def significant_offset(off: float) -> float:
    """By how many seconds a clock is called off: 0 for less than ``CLOCK_OFF_SECONDS``."""
    return off if abs(off) >= CLOCK_OFF_SECONDS else 0.0


def is_same_clock(one: float | None, other: float | None) -> bool:
    """Whether two marks are of one clock, which was not set in between."""
    if one is None or other is None:
        return one is other
    return abs(one - other) < SAME_CLOCK_SECONDS
