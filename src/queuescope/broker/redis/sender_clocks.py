"""Computes how long a message has waited if its sender's clock is off.

A message has the time when it became due by its sender's clock, and the mark of that clock. Workers
report the marks of their machines' clocks and how far these are off. For other senders this is
inferred from the queue: a message in a list that was empty a moment ago was sent since then, unless
it was put back, and every message was sent before now.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable
from dataclasses import dataclass

from queuescope.broker.clock import (
    CLOCK_OFF_SECONDS,
    SAME_CLOCK_SECONDS,
    is_same_clock,
    significant_offset,
)
from queuescope.broker.reports import WorkerReport

_WIDEST_SECONDS = 60.0
"""Wider bounds say too little about a clock, and are not used."""
_MARKS_LIMIT = 2_000
_LISTS_LIMIT = 50_000


@dataclass(frozen=True, slots=True)
class Due:
    """When a message became due, in epoch seconds by the clock with this ``mark``, ``None`` if
    unknown. ``is_timed``: it has a countdown or an ETA. ``is_redelivered``: it was delivered
    before.
    """

    at: float
    mark: float | None = None
    is_timed: bool = False
    is_redelivered: bool = False


@dataclass(frozen=True, slots=True)
class Age:
    """How long a message has waited; ``None`` is unknown.

    ``sender_ahead`` is how many seconds its sender's clock is ahead of the broker's, by which the
    age is corrected; negative is behind, 0 is not off or unknown. For an unknown age it is a lower
    bound. ``is_doubtful`` means that the list was empty later than the message says: it was put
    back, or its sender's clock is behind.
    """

    seconds: float | None
    sender_ahead: float = 0.0
    is_doubtful: bool = False


@dataclass(frozen=True, slots=True)
class _Bounds:
    """Bounds in seconds for how far a clock is ahead of the broker's."""

    least: float
    most: float

    @property
    def smallest_offset(self) -> float:
        """The smallest possible offset; 0 if that is less than ``CLOCK_OFF_SECONDS``."""
        return significant_offset(min(max(0.0, self.least), self.most))

    def overlap(self, other: _Bounds) -> _Bounds | None:
        least, most = max(self.least, other.least), min(self.most, other.most)
        return _Bounds(least, most) if least <= most else None


class _Sender:
    """The known bounds for one sender's clock."""

    def __init__(self, mark: float | None) -> None:
        self.mark = mark
        self.least = -math.inf
        self.proven: _Bounds | None = None
        self._seen: tuple[float, _Bounds] | None = None

    def report_offset(self, ahead: float) -> None:
        """Set the offset that a worker on its machine reports."""
        self.proven = _Bounds(ahead, ahead)

    def observe(self, emptied_at: float, span: _Bounds) -> _Bounds | None:
        """Learn from a message in a list that was empty at ``emptied_at``. Returns the bounds from
        when it was first seen, ``None`` if they are too wide. One message may have been put back;
        if two agree, both were sent.
        """
        if self._seen is not None and self._seen[0] == emptied_at:
            return self._seen[1]
        if span.most - span.least > _WIDEST_SECONDS:
            return None
        overlap = None if self._seen is None else self._seen[1].overlap(span)
        if overlap is not None:
            self.proven, self.least = overlap, overlap.least
        self._seen = (emptied_at, span)
        return span


class SenderClocks:
    """Remembers when lists were empty and the bounds that follow. Threads may share one.

    Times are epoch seconds by the broker's clock.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._empty_at: dict[str, float] = {}
        self._senders: dict[int | str, _Sender] = {}

    def learn(self, reports: Iterable[WorkerReport]) -> None:
        """Take over the clock offsets that workers report."""
        with self._lock:
            for report in reports:
                if report.clock_mark is not None:
                    self._sender(report.clock_mark, "").report_offset(report.clock_ahead)

    def age(self, key: str, length: int, due: Due | None, now: float) -> Age:
        """How long the oldest of ``length`` messages in the list ``key`` has waited."""
        with self._lock:
            emptied_at = self._empty_at.get(key)
            if not length:
                if len(self._empty_at) >= _LISTS_LIMIT:
                    self._empty_at.clear()
                self._empty_at[key] = now
                return Age(0.0)
            if due is None:
                return Age(None)
            if due.is_timed:
                return Age(max(0.0, now - due.at))
            return self._age(self._sender(due.mark, key), due, emptied_at, now)

    def _age(self, sender: _Sender, due: Due, emptied_at: float | None, now: float) -> Age:
        claimed = now - due.at
        # It was not sent later than now.
        sender.least = max(sender.least, -claimed)
        seen = None
        if emptied_at is not None and emptied_at < now and not due.is_redelivered:
            seen = sender.observe(emptied_at, _Bounds(-claimed, due.at - emptied_at))
        if sender.proven is not None and sender.least <= sender.proven.most + CLOCK_OFF_SECONDS:
            ahead = sender.proven.smallest_offset
            return Age(max(0.0, claimed + ahead), ahead)
        if sender.least >= CLOCK_OFF_SECONDS:
            # Certainly ahead; by how much is known only if the message was seen to arrive.
            if seen is None:
                return Age(None, sender.least)
            ahead = max(sender.least, seen.smallest_offset)
            return Age(max(0.0, claimed + ahead), ahead)
        is_doubtful = seen is not None and seen.most <= -CLOCK_OFF_SECONDS
        return Age(max(0.0, claimed), is_doubtful=is_doubtful)

    def _sender(self, mark: float | None, key: str) -> _Sender:
        """The sender with this clock mark; without one, senders are told apart by list only."""
        if mark is None:
            return self._kept(key, None)
        place = int(mark // SAME_CLOCK_SECONDS)
        for near in (place, place - 1, place + 1):
            found = self._senders.get(near)
            if found is not None and is_same_clock(found.mark, mark):
                return found
        return self._kept(place, mark)

    def _kept(self, place: int | str, mark: float | None) -> _Sender:
        found = self._senders.get(place)
        if found is None:
            if len(self._senders) >= _MARKS_LIMIT:
                self._senders.pop(next(iter(self._senders)))
            found = self._senders[place] = _Sender(mark)
        return found
