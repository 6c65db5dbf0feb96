"""What was asked of a source that may fail, and its last good answers.

However many look at the same thing, it is asked once in a few seconds, and one that fails not more
often; the others wait for the same answer or are given the last one with its age. A source that is
away altogether is found so by one question, and not by each of a page in turn.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from cachetools import LRUCache

from queuescope.dashboard.ui.background_call import BackgroundCall
from queuescope.errors import QueuescopeError
from queuescope.known import Known

T = TypeVar("T")


@dataclass(slots=True)
class _Place:
    lock: threading.Lock = field(default_factory=threading.Lock)
    known: Known[Any] = field(default_factory=Known)
    asked_at: float = float("-inf")


@dataclass(frozen=True, slots=True)
class _Away:
    error: QueuescopeError
    began_at: float
    seen_at: float


class SharedAnswers:
    """Answers by the questions that they are of, the ``limit`` that were asked for last.

    ``slow`` makes the error of an answer that has not come within ``patience_seconds``; the
    question itself is to be bounded, too, so that the source is away then. So it is with an error
    that ``is_away`` says yes to; for ``failing_seconds`` every question has that error then.
    """

    def __init__(
        self,
        *,
        slow: Callable[[], QueuescopeError],
        is_away: Callable[[QueuescopeError], bool] = lambda _: False,
        patience_seconds: float,
        failing_seconds: float = 3.0,
        limit: int = 200,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._slow = slow
        self._is_away = is_away
        self._patience_seconds = patience_seconds
        self._failing_seconds = failing_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._places = LRUCache[Hashable, _Place](limit)
        self._away: _Away | None = None

    def get(self, question: Hashable, ask: Callable[[], T], *, fresh_seconds: float) -> Known[T]:
        """What ``ask`` answers or has answered within ``fresh_seconds``; it raises a
        ``QueuescopeError`` where it cannot.
        """
        place = self._place(question)
        with place.lock:
            since = self._clock() - place.asked_at
            wait = fresh_seconds if place.known.error is None else self._failing_seconds
            if 0 <= since < wait:
                return place.known
            away = self._away
            if away is not None and 0 <= self._clock() - away.seen_at < self._failing_seconds:
                return place.known.failed(away.error, away.began_at)
            place.known = self._ask(place.known, ask)
            place.asked_at = self._clock()
            return place.known

    def _ask(self, held: Known[T], ask: Callable[[], T]) -> Known[T]:
        asked_at, away = self._clock(), self._away
        try:
            value = BackgroundCall(ask).result(self._patience_seconds)
        except TimeoutError:
            error, is_away = self._slow(), True
        except QueuescopeError as exc:
            error, is_away = exc, self._is_away(exc)
        else:
            self._away = None
            return Known(value, asked_at)
        if is_away:
            began_at = asked_at if away is None else away.began_at
            self._away = _Away(error, began_at, self._clock())
        return held.failed(error, asked_at)

    def _place(self, question: Hashable) -> _Place:
        with self._lock:
            return self._places.setdefault(question, _Place())
