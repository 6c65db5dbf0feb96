"""Ends a process whose event loop is blocked, so that its supervisor restarts it.

A blocked loop answers no request, and not even the signal that should end the process.
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
"""The exit status of such a process; an internal error in sysexits.h."""


class LoopWatchdog:
    """Watches ``loop`` in a separate thread, for as long as the process lives.

    If the loop is blocked for ``limit_seconds``, the stack of every thread is written to standard
    error, and ``end`` is called with ``EXIT_STATUS``. Only time in which the watching thread itself
    ran is counted: a suspended process or machine has not stalled.
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
                # Limited, since this thread may not have run for a long time.
                stalled_seconds += min(now - before, 2 * self._look_seconds)
            before = now
            if stalled_seconds >= self._limit_seconds:
                self._give_up(stalled_seconds)
                return

    def _ask(self) -> None:
        """Ask the loop to set ``_turned`` in its next iteration."""
        self._turned.clear()
        with suppress(RuntimeError):  # it is closed: the process is about to end
            self._loop.call_soon_threadsafe(self._turned.set)

    def _give_up(self, stalled_seconds: float) -> None:
        with suppress(OSError, ValueError):
            print(
                f"queuescope: the server has not responded for {stalled_seconds:.0f} s and exits; "
                "its threads were:",
                file=sys.stderr,
                flush=True,
            )
            faulthandler.dump_traceback(sys.stderr, all_threads=True)
        self._end(EXIT_STATUS)
