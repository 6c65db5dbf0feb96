"""A value that is read periodically, with its time and, if reading fails, since when and why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Generic, Self, TypeVar

from queuescope.errors import QueuescopeError
from queuescope.timeseries import State

T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True, slots=True)
class Known(Generic[T]):
    """The newest known value of a source. ``Reading`` is the same for series of a range.

    ``value`` is as of ``as_of``, and ``None`` before the first answer. With an ``error`` it is the
    last good value: the source has failed since ``failing_since``. Without one, the source has
    answered without interruption since ``fresh_since``, if that is counted. Times are epoch seconds
    of one clock, by default this machine's.
    """

    value: T | None = None
    as_of: float | None = None
    error: QueuescopeError | None = None
    failing_since: float | None = None
    fresh_since: float | None = None

    @property
    def state(self) -> State:
        """``fresh``, ``stale`` or ``unavailable``."""
        if self.value is None:
            return State.UNAVAILABLE
        return State.FRESH if self.error is None else State.STALE

    @property
    def is_fresh(self) -> bool:
        return self.state is State.FRESH

    @property
    def fresh_value(self) -> T | None:
        """The value; ``None`` if it is stale."""
        return self.value if self.error is None else None

    @property
    def cause(self) -> str:
        """Why there is no newer value, as a sentence; empty without an error."""
        return "" if self.error is None else str(self.error)

    @property
    def kind(self) -> str:
        """The stable name of the failure; empty without one."""
        return "" if self.error is None else str(self.error.kind)

    def fresh_seconds(self, now: float) -> float:
        """For how long the source has answered without interruption."""
        return 0.0 if self.fresh_since is None else max(0.0, now - self.fresh_since)

    def age_seconds(self, now: float) -> float | None:
        """How old the value is; ``None`` before the first answer."""
        return None if self.as_of is None else max(0.0, now - self.as_of)

    def answered(self, value: T, at: float) -> Known[T]:
        """The state after an answer ``at``."""
        return Known(value, at, fresh_since=at if self.fresh_since is None else self.fresh_since)

    def failed(self, error: QueuescopeError, asked_at: float) -> Self:
        """The state after a request of ``asked_at`` failed."""
        since = asked_at if self.failing_since is None else self.failing_since
        return replace(self, error=error, failing_since=since, fresh_since=None)

    def map(self, make: Callable[[T], U]) -> Known[U]:
        """The same with ``make(value)`` as the value, if there is one."""
        made = None if self.value is None else make(self.value)
        return Known(made, self.as_of, self.error, self.failing_since, self.fresh_since)
