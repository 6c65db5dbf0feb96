"""A circuit breaker: a source that is known to be away is not asked, but for a trial at times."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from enum import StrEnum

from queuescope.errors import SourceError, SourceErrorKind

_AWAY = frozenset(
    {
        SourceErrorKind.CANNOT_CONNECT,
        SourceErrorKind.TIMEOUT,
        SourceErrorKind.BUSY,
        SourceErrorKind.AUTHENTICATION,
        SourceErrorKind.NOT_PROMETHEUS,
    }
)
"""What says something of the source; every other failure is one of its answer to one question."""


class BreakerState(StrEnum):
    """The strings appear in metrics and logs."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class CircuitBreaker:
    """Stands before one source. While it is open every question fails at once, with the error
    that opened it, and the source is not asked.

    It opens after ``failures`` questions in a row that found the source away, or after one
    where the question was ``telling`` (it costs nothing to answer, so its failure is the
    source's) or where a busy source named a time to be left alone. After a back-off, which
    doubles from ``first_wait_seconds`` to ``longest_wait_seconds`` with jitter, it is half open:
    one question goes through as a trial, and what becomes of it closes or opens the breaker.

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
    async def guard(self, *, telling: bool = False) -> AsyncIterator[bool]:
        """Put a question inside; True says that it is a trial.

        Raises what opened the breaker, without running the block, while it is open.
        """
        if self._error is not None and (self._trial_runs or self.state is BreakerState.OPEN):
            raise _again(self._error, self._open_until - self._clock())
        trial = self._error is not None
        self._trial_runs = trial
        try:
            yield trial
        except SourceError as exc:
            if exc.kind in _AWAY or telling:
                self._failed(exc, decisive=telling or trial, trial=trial)
            else:
                self._close()
            raise
        else:
            self._close()
        finally:
            # Also for a trial that was given up by its asker: the next question is one then.
            if trial:
                self._trial_runs = False

    def _failed(self, error: SourceError, *, decisive: bool, trial: bool) -> None:
        if self._error is not None and not trial:
            return  # asked before the breaker opened: nothing new
        self._failures += 1
        wait = error.retry_after_seconds or 0.0
        if not (decisive or wait or self._failures >= self._limit):
            return
        bound = min(self._first_wait_seconds * 2**self._openings, self._longest_wait_seconds)
        self._openings = min(self._openings + 1, 30)
        # At least half of it, so that a dead source costs next to nothing; the rest at random.
        self._open_until = self._clock() + wait + bound * random.uniform(0.5, 1.0)
        self._error = error

    def _close(self) -> None:
        self._failures = 0
        self._openings = 0
        self._error = None


def _again(error: SourceError, remaining_seconds: float) -> SourceError:
    """The same failure for another question: an exception object carries its own traceback."""
    wait = max(remaining_seconds, 0.0) if error.retry_after_seconds else None
    return SourceError(error.kind, str(error), detail=error.detail, retry_after_seconds=wait)
