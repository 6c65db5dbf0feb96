"""A call that may take long, in a thread of its own, so that a page need not wait for its end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from queuescope.errors import QueuescopeError, RefusalReason, RefusedError

T = TypeVar("T")
_AT_ONCE = 32
_places = threading.BoundedSemaphore(_AT_ONCE)


class BackgroundCall(Generic[T]):
    """Calls ``do`` once, starting now, whether or not anyone waits for it. A source that never
    answers blocks the thread, but no page and not the end of the server.
    """

    def __init__(self, do: Callable[[], T]) -> None:
        """Raises ``RefusedError`` if too many other calls are still running."""
        self._do = do
        self._value: T | None = None
        self._error: QueuescopeError | None = None
        self._is_done = False
        self._ended = threading.Event()
        if not _places.acquire(blocking=False):
            raise RefusedError(
                RefusalReason.NOT_POSSIBLE,
                "This server is already waiting for too many answers; try again later.",
            )
        threading.Thread(target=self._run, name="background-call", daemon=True).start()

    def _run(self) -> None:
        try:
            self._value = self._do()
            self._is_done = True
        except QueuescopeError as exc:
            self._error = exc
        finally:
            _places.release()
            self._ended.set()

    def result(self, patience_seconds: float) -> T:
        """Its result; raises what it raised. Raises ``TimeoutError`` if it has not ended in time,
        and ``RuntimeError`` if it failed because of a fault of our own, which is in the log.
        """
        if not self._ended.wait(patience_seconds):
            raise TimeoutError
        if self._error is not None:
            raise self._error
        if not self._is_done:
            raise RuntimeError("the background call has failed")
        return self._value  # type: ignore[return-value]
