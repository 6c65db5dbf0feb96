"""Ends every process group of a supervisor that has ended, in whatever way.

Runs as a separate program with the standard library only, and reads commands from standard input:
``+ID SECONDS`` adds a process group (with the grace period of its leader), ``-ID`` removes it. Only
the supervisor holds the other end of that pipe, so the end of input means that the supervisor has
ended, even by ``kill -9``. Then each leader is asked to stop, and the rest of its group is killed
after the grace period.
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
        command, _, rest = line.strip().partition(" ")
        if command.startswith("+"):
            grace_seconds[int(command[1:])] = float(rest)
        elif command.startswith("-"):
            grace_seconds.pop(int(command[1:]), None)
    end_groups(grace_seconds)


def end_groups(grace_seconds: dict[int, float]) -> None:
    """Ask the leader of each group to stop, then kill the rest of the group."""
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
        # It has ended, or on some systems is a zombie.
        return


def _exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


if __name__ == "__main__":
    main()
