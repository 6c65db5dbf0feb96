"""Work that many ask for at once and that is done once: one task for each key at a time."""

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
    """A task under way, and what it was asked for."""

    asked: D
    task: asyncio.Task[T]

    async def result(self) -> T:
        """What the task gives or raises. Whoever waits may be cancelled; the task goes on."""
        return await asyncio.shield(self.task)


class SingleFlight(Generic[K, D, T]):
    """The tasks under way, by key. Belongs to one event loop.

    A task that has ended is never handed out: to wait for it does not yield, so that who asks
    again until it is gone would hold the loop for ever, and with it whatever should remove it.
    """

    def __init__(self) -> None:
        self._flights: dict[K, Flight[D, T]] = {}

    def under_way(self, key: K) -> Flight[D, T] | None:
        flight = self._flights.get(key)
        return None if flight is None or flight.task.done() else flight

    def launch(self, key: K, asked: D, work: Coroutine[Any, Any, T]) -> Flight[D, T]:
        """Begin ``work``; what was under way for ``key`` goes on, and is no longer found."""
        flight = Flight(asked, asyncio.create_task(self._fly(key, work)))
        self._flights[key] = flight
        # One that is cancelled before it began would be warned of as never awaited.
        flight.task.add_done_callback(lambda _: work.close())
        return flight

    async def aclose(self) -> None:
        """Cancel all that is under way, and wait until it has ended."""
        tasks = [flight.task for flight in self._flights.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._flights.clear()

    async def _fly(self, key: K, work: Coroutine[Any, Any, T]) -> T:
        try:
            return await work
        finally:
            # By the task itself: a callback would run only after who waits has asked again.
            flight = self._flights.get(key)
            if flight is not None and flight.task is asyncio.current_task():
                del self._flights[key]
