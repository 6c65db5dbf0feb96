"""Shares work that several callers need at once: one task for each key at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Hashable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
D = TypeVar("D")
T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class Flight(Generic[D, T]):
    """A running task, and the request that started it."""

    asked: D
    task: asyncio.Task[T]

    async def result(self) -> T:
        """The result or error of the task. A cancelled caller does not cancel the task."""
        return await asyncio.shield(self.task)


class SingleFlight(Generic[K, D, T]):
    """The running tasks, by key. Belongs to one event loop.

    An ended task is never returned: waiting for it does not yield, so a caller that asks again
    until it is gone would block the loop for ever.
    """

    def __init__(self) -> None:
        self._flights: dict[K, Flight[D, T]] = {}

    def under_way(self, key: K) -> Flight[D, T] | None:
        flight = self._flights.get(key)
        return None if flight is None or flight.task.done() else flight

    def launch(self, key: K, asked: D, work: Coroutine[Any, Any, T]) -> Flight[D, T]:
        """Start ``work``; a running task for ``key`` continues, but is no longer returned."""
        flight = Flight(asked, asyncio.create_task(self._fly(key, work)))
        self._flights[key] = flight
        # Closed in case it is cancelled before it starts, which would warn of a missing await.
        flight.task.add_done_callback(lambda _: work.close())
        return flight

    async def aclose(self) -> None:
        """Cancel all running tasks, and wait until they have ended."""
        tasks = [flight.task for flight in self._flights.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._flights.clear()

    async def _fly(self, key: K, work: Coroutine[Any, Any, T]) -> T:
        try:
            return await work
        finally:
            # Removed by the task itself: a callback would run only after waiting callers.
            flight = self._flights.get(key)
            if flight is not None and flight.task is asyncio.current_task():
                del self._flights[key]
