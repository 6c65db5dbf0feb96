"""Answers of a source that may fail, shared by viewers, and its last good ones.

Each question is asked once in a few seconds, however many viewers want its answer, and a failing
one no more often; the others wait for the same answer, or get the last one with its age. If the
source is down, one question finds that out for all others.
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
    """Answers by question; the ``limit`` most recently used ones are kept.

    ``slow`` makes the error for an answer that takes longer than ``patience_seconds``; questions
    should have a limit of their own, so this means that the source is down. So does an error for
    which ``is_away`` is true; every question then gets that error for ``failing_seconds``.
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
        """The answer of ``ask``, or the one from within ``fresh_seconds``; ``ask`` raises a
        ``QueuescopeError`` if it fails.
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
