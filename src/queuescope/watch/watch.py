"""Reads a source periodically in a separate thread, so that no source delays another."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Generic, TypeVar

from queuescope.errors import InternalError, QueuescopeError
from queuescope.known import Known

logger = logging.getLogger(__name__)
T = TypeVar("T")


class Watch(Generic[T]):
    """Calls ``read`` every ``seconds`` in a separate thread and keeps the newest answer.

    ``read`` raises a ``QueuescopeError`` if there is no usable answer, and should not take long.
    Any other exception becomes an ``InternalError`` and does not end the watch. If a call takes
    longer than ``overdue_seconds``, the last answer is returned with the error that ``hung``
    returns.
    """

    def __init__(
        self,
        name: str,
        read: Callable[[], T],
        *,
        seconds: float,
        overdue_seconds: float,
        hung: Callable[[], QueuescopeError],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._read = read
        self._seconds = seconds
        self._overdue_seconds = overdue_seconds
        self._hung = hung
        self._clock = clock
        self._known: Known[T] = Known()
        self._lock = threading.Lock()
        self._turn = threading.Condition(self._lock)
        self._asked = 0
        self._answered = 0
        self._is_closed = False
        self._began_at: float | None = None
        # A daemon, so that a source that hangs does not keep the server from ending.
        self._thread = threading.Thread(target=self._run, name=f"watch-{name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self, *, patience_seconds: float = 2.0) -> None:
        with self._turn:
            self._is_closed = True
            self._turn.notify_all()
        if self._thread.ident is not None:
            self._thread.join(patience_seconds)

    @property
    def name(self) -> str:
        return self._thread.name.removeprefix("watch-")

    @property
    def has_ended(self) -> bool:
        """Whether its thread has ended without ``close``."""
        begun = self._thread.ident is not None
        return begun and not self._is_closed and not self._thread.is_alive()

    @property
    def known(self) -> Known[T]:
        """The newest answer; never waits."""
        with self._lock:
            known, began_at = self._known, self._began_at
        if began_at is None or known.error is not None:
            return known
        if self._clock() - began_at > self._overdue_seconds:
            return replace(known, error=self._hung(), failing_since=began_at, fresh_since=None)
        return known

    def refresh(self, *, patience_seconds: float) -> Known[T]:
        """Read now, wait at most ``patience_seconds`` for that, and return the newest answer."""
        with self._turn:
            self._asked += 1
            wanted = self._asked
            self._turn.notify_all()
            self._turn.wait_for(
                lambda: self._answered >= wanted or self._is_closed, patience_seconds
            )
        return self.known

    def _run(self) -> None:
        while True:
            with self._turn:
                if self._is_closed:
                    return
                answers = self._asked
                self._began_at = self._clock()
            found = self._read_once()
            with self._turn:
                self._known = found
                self._began_at = None
                self._answered = answers
                self._turn.notify_all()
                self._turn.wait_for(
                    lambda: self._is_closed or self._asked > self._answered, self._seconds
                )

    def _read_once(self) -> Known[T]:
        began_at, last = self._clock(), self._known
        try:
            value = self._read()
        except QueuescopeError as exc:
            if last.error is None:
                logger.warning("%s: %s", self._thread.name, exc)
            return last.failed(exc, began_at)
        except Exception as exc:
            if not isinstance(last.error, InternalError):
                logger.exception("%s had an internal error", self._thread.name)
            words = f"Queuescope had an internal error while reading this ({type(exc).__name__})"
            return last.failed(InternalError(words), began_at)
        now = self._clock()
        has_hung = now - began_at > self._overdue_seconds
        return (Known() if has_hung else last).answered(value, now)
