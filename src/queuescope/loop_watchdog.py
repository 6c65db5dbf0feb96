"""Ends a process whose event loop has stopped turning, so that whatever started it starts it anew.

A loop that is held up answers nobody, not even the signal that should end the process.
"""

from __future__ import annotations

import asyncio
import faulthandler
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress

EXIT_STATUS = 70
"""That of a process that was ended; by sysexits.h, an internal error."""


class LoopWatchdog:
    """Watches ``loop`` from a thread of its own, for as long as the process lives.

    After ``limit_seconds`` without a turn of the loop, what every thread does goes to standard
    error, and ``end`` is called with ``EXIT_STATUS``. Only time in which the watching thread
    itself ran is counted: a process or a machine that was suspended has not stalled.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        limit_seconds: float = 60.0,
        look_seconds: float = 1.0,
        end: Callable[[int], object] = os._exit,
    ) -> None:
        self._loop = loop
        self._limit_seconds = limit_seconds
        self._look_seconds = look_seconds
        self._end = end
        self._turned = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="loop-watchdog", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def _watch(self) -> None:
        stalled_seconds = 0.0
        self._ask()
        before = time.monotonic()
        while True:
            time.sleep(self._look_seconds)
            now = time.monotonic()
            if self._turned.is_set():
                stalled_seconds = 0.0
                self._ask()
            else:
                # However long it was until this thread ran again.
                stalled_seconds += min(now - before, 2 * self._look_seconds)
            before = now
            if stalled_seconds >= self._limit_seconds:
                self._give_up(stalled_seconds)
                return

    def _ask(self) -> None:
        """Let the next turn of the loop show."""
        self._turned.clear()
        with suppress(RuntimeError):  # it is closed: the process is about to end
            self._loop.call_soon_threadsafe(self._turned.set)

    def _give_up(self, stalled_seconds: float) -> None:
        with suppress(OSError, ValueError):
            print(
                f"queuescope: the server has answered nothing for {stalled_seconds:.0f} s and ends "
                "itself; what it was doing:",
                file=sys.stderr,
                flush=True,
            )
            faulthandler.dump_traceback(sys.stderr, all_threads=True)
        self._end(EXIT_STATUS)
