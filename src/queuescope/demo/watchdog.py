"""Ends every process group of a supervisor that has gone, however it went.

Runs as a program of its own, on the standard library alone, and reads its orders from standard
input: ``+ID SECONDS`` takes a process group in charge (with the grace its leader gets), ``-ID``
lets it go. The supervisor holds the only other end of that pipe, so the end of input means that
the supervisor has ended, be it by ``kill -9``. Then each leader is asked to stop, and what remains
of its group after the grace is killed.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable


def main() -> None:
    for name in (signal.SIGINT, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)
    grace_seconds: dict[int, float] = {}
    for line in sys.stdin:
        order, _, rest = line.strip().partition(" ")
        if order.startswith("+"):
            grace_seconds[int(order[1:])] = float(rest)
        elif order.startswith("-"):
            grace_seconds.pop(int(order[1:]), None)
    end_groups(grace_seconds)


def end_groups(grace_seconds: dict[int, float]) -> None:
    """Ask the leader of each group to stop, then kill what is left of the group."""
    began = time.monotonic()
    for group in grace_seconds:
        _send(os.kill, group, signal.SIGTERM)
    left = dict(grace_seconds)
    while left:
        for group, grace in list(left.items()):
            if not _exists(group):
                del left[group]
            elif time.monotonic() - began >= grace:
                _send(os.killpg, group, signal.SIGKILL)
                del left[group]
        if left:
            time.sleep(0.05)


def _send(send: Callable[[int, int], None], target: int, number: signal.Signals) -> None:
    try:
        send(target, number)
    except (ProcessLookupError, PermissionError):
        # Gone, or on some systems only a zombie is left: either way nothing runs there.
        return


def _exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


if __name__ == "__main__":
    main()
