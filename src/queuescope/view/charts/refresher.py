"""Keeps watched views fresh, in one task for the whole process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from queuescope.view.charts.schedule import Schedule
from queuescope.view.selection import View

_AT_ONCE = 2
"""How many views are taken at once, so that many views do not query the source together."""


class Refresher:
    """Calls ``take`` for each watched view when it is due. Belongs to one event loop.

    ``take`` waits for its snapshot, calls ``taken``, and does not raise for a source that fails.
    ``clock`` gives epoch seconds.
    """

    def __init__(
        self, take: Callable[[View], Awaitable[object]], clock: Callable[[], float]
    ) -> None:
        self._take = take
        self._clock = clock
        self._schedule: Schedule[View] = Schedule()
        self._changed = asyncio.Event()
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._renewals: set[asyncio.Task[None]] = set()
        self._task: asyncio.Task[None] | None = None

    @property
    def watched(self) -> tuple[View, ...]:
        """The views that are kept fresh now."""
        return self._schedule.watched(self._clock())

    def watch(self, view: View, interval_seconds: float, taken_at: float) -> None:
        """Note that a viewer looks at ``view`` every ``interval_seconds``, and saw the snapshot of
        ``taken_at``.
        """
        self._schedule.seen(view, interval_seconds, taken_at, self._clock())
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        self._changed.set()

    def taken(self, view: View, at: float, *, complete: bool) -> None:
        self._schedule.taken(view, at, complete=complete)
        self._changed.set()

    async def aclose(self) -> None:
        tasks = [*self._renewals, *([self._task] if self._task else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            self._changed.clear()
            for view in self._schedule.take_due(self._clock()):
                task = asyncio.create_task(self._renew(view))
                self._renewals.add(task)
                task.add_done_callback(self._renewals.discard)
            next_due = self._schedule.next_due()
            wait = None if next_due is None else max(0.0, next_due - self._clock())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._changed.wait()

    async def _renew(self, view: View) -> None:
        async with self._places:
            await self._take(view)
