"""A circuit breaker: an unavailable source gets no requests, except for a trial from time to
time.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from enum import StrEnum

from queuescope.errors import SourceError, SourceErrorKind

_UNAVAILABLE = frozenset(
    {
        SourceErrorKind.CANNOT_CONNECT,
        SourceErrorKind.TIMEOUT,
        SourceErrorKind.BUSY,
        SourceErrorKind.AUTHENTICATION,
        SourceErrorKind.NOT_PROMETHEUS,
    }
)
"""Errors of the source as a whole; all others concern one request."""


class BreakerState(StrEnum):
    """The state of a breaker; the strings appear in metrics and logs."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class CircuitBreaker:
    """Guards one source. While it is open, every request fails at once with the error that opened
    it, without being sent.

    It opens after ``failures`` requests in a row that found the source unavailable, or after one
    that is ``decisive`` (so cheap that its failure is the source's), or if a busy source named a
    time to wait. After a back-off, which doubles from ``first_wait_seconds`` to
    ``longest_wait_seconds`` with jitter, it is half open: one request is sent as a trial, and its
    result closes or opens the breaker.

    ``clock`` is monotonic seconds. Belongs to one event loop.
    """

    def __init__(
        self,
        *,
        failures: int = 5,
        first_wait_seconds: float = 0.5,
        longest_wait_seconds: float = 5.0,
        clock: Callable[[], float],
    ) -> None:
        self._limit = failures
        self._first_wait_seconds = first_wait_seconds
        self._longest_wait_seconds = longest_wait_seconds
        self._clock = clock
        self._failures = 0
        self._openings = 0
        self._error: SourceError | None = None
        self._open_until = float("-inf")
        self._trial_runs = False

    @property
    def state(self) -> BreakerState:
        if self._error is None:
            return BreakerState.CLOSED
        waited = self._clock() >= self._open_until
        return BreakerState.HALF_OPEN if waited else BreakerState.OPEN

    @asynccontextmanager
    async def guard(self, *, decisive: bool = False) -> AsyncIterator[bool]:
        """Guard the request in the block; yields true if it is a trial.

        While the breaker is open, raises the error that opened it, without running the block.
        """
        if self._error is not None and (self._trial_runs or self.state is BreakerState.OPEN):
            raise _copy_of(self._error, self._open_until - self._clock())
        trial = self._error is not None
        self._trial_runs = trial
        try:
            yield trial
        except SourceError as exc:
            if exc.kind in _UNAVAILABLE or decisive:
                self._failed(exc, decisive=decisive or trial, trial=trial)
            else:
                self._close()
            raise
        else:
            self._close()
        finally:
            # Also for a trial that was cancelled: the next request is a trial then.
            if trial:
                self._trial_runs = False

    def _failed(self, error: SourceError, *, decisive: bool, trial: bool) -> None:
        if self._error is not None and not trial:
            return  # sent before the breaker opened
        self._failures += 1
        wait = error.retry_after_seconds or 0.0
        if not (decisive or wait or self._failures >= self._limit):
            return
        bound = min(self._first_wait_seconds * 2**self._openings, self._longest_wait_seconds)
        self._openings = min(self._openings + 1, 30)
        # At least half of the bound, so that a dead source costs little; the rest is random.
        self._open_until = self._clock() + wait + bound * random.uniform(0.5, 1.0)
        self._error = error

    def _close(self) -> None:
        self._failures = 0
        self._openings = 0
        self._error = None


def _copy_of(error: SourceError, remaining_seconds: float) -> SourceError:
    """A copy of the error for another request, since an exception has its own traceback."""
    wait = max(remaining_seconds, 0.0) if error.retry_after_seconds else None
    return SourceError(error.kind, str(error), detail=error.detail, retry_after_seconds=wait)
