"""Since when a message waits, where the clock of whoever sent it is off.

A message says when it became due by its sender's clock, and whose clock that is: its mark. Workers
report the marks of their machines and how far these are off. Of other senders it is learned from
the queue: what lies in a list that was empty a moment ago was sent since, unless it was put back,
and whatever lies there was sent before now.
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
"""What is known no better is no news of a clock."""
_MARKS_LIMIT = 2_000
_LISTS_LIMIT = 50_000


@dataclass(frozen=True, slots=True)
class Due:
    """When a message became due, epoch seconds by the clock with this ``mark``, if it is told.
    What ``is_timed`` has a time at which it may run; what ``was_back`` was delivered before.
    """

    at: float
    mark: float | None = None
    is_timed: bool = False
    was_back: bool = False


@dataclass(frozen=True, slots=True)
class Age:
    """How long a message has waited; None is unknown.

    ``sender_ahead`` is how many seconds its sender's clock is ahead of the broker's, which the
    age allows for; negative is behind, 0 is not off or not known. Where the age is unknown it is
    that much at least. ``is_doubtful`` says that the list was empty later than that: the message
    was put back, or the clock of its sender is behind.
    """

    seconds: float | None
    sender_ahead: float = 0.0
    is_doubtful: bool = False


@dataclass(frozen=True, slots=True)
class _Span:
    """Between what bounds, in seconds, a clock is ahead of the broker's."""

    least: float
    most: float

    @property
    def likely(self) -> float:
        """The least that it can be off; 0 for less than ``CLOCK_OFF_SECONDS``."""
        return significant_offset(min(max(0.0, self.least), self.most))

    def agreed(self, other: _Span) -> _Span | None:
        least, most = max(self.least, other.least), min(self.most, other.most)
        return _Span(least, most) if least <= most else None


class _Sender:
    """What is known of one clock."""

    def __init__(self, mark: float | None) -> None:
        self.mark = mark
        self.least = -math.inf
        self.proven: _Span | None = None
        self._seen: tuple[float, _Span] | None = None

    def report_offset(self, ahead: float) -> None:
        """By a worker of its machine."""
        self.proven = _Span(ahead, ahead)

    def observe(self, emptied_at: float, span: _Span) -> _Span | None:
        """What a message tells that lies in a list which was empty at ``emptied_at``, as of when
        it was first seen there; None where that was too late to tell much. It may have been put
        back; two that agree were both sent.
        """
        if self._seen is not None and self._seen[0] == emptied_at:
            return self._seen[1]
        if span.most - span.least > _WIDEST_SECONDS:
            return None
        agreed = None if self._seen is None else self._seen[1].agreed(span)
        if agreed is not None:
            self.proven, self.least = agreed, agreed.least
        self._seen = (emptied_at, span)
        return span


class SenderClocks:
    """Remembers when lists were empty and what that says of clocks. Threads may share one.

    Times are epoch seconds by the broker's clock.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._empty_at: dict[str, float] = {}
        self._senders: dict[int | str, _Sender] = {}

    def learn(self, reports: Iterable[WorkerReport]) -> None:
        """What workers report of their machines."""
        with self._lock:
            for report in reports:
                if report.clock_mark is not None:
                    self._sender(report.clock_mark, "").report_offset(report.clock_ahead)

    def age(self, key: str, length: int, due: Due | None, now: float) -> Age:
        """How long the oldest message of the list ``key`` has waited, which holds ``length``."""
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
        said = now - due.at
        # It was not sent later than now.
        sender.least = max(sender.least, -said)
        seen = None
        if emptied_at is not None and emptied_at < now and not due.was_back:
            seen = sender.observe(emptied_at, _Span(-said, due.at - emptied_at))
        if sender.proven is not None and sender.least <= sender.proven.most + CLOCK_OFF_SECONDS:
            ahead = sender.proven.likely
            return Age(max(0.0, said + ahead), ahead)
        if sender.least >= CLOCK_OFF_SECONDS:
            # Ahead, beyond all doubt; by how much is known where it was seen to come.
            if seen is None:
                return Age(None, sender.least)
            ahead = max(sender.least, seen.likely)
            return Age(max(0.0, said + ahead), ahead)
        is_doubtful = seen is not None and seen.most <= -CLOCK_OFF_SECONDS
        return Age(max(0.0, said), is_doubtful=is_doubtful)

    def _sender(self, mark: float | None, key: str) -> _Sender:
        """Whoever does not say by which clock is known by the list alone."""
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
