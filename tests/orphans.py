"""No process outlives the tests that started it, however they end.

Whatever a test process starts inherits a token in its environment. A keeper, in a session of its
own, waits until the test process is gone, by an interrupt, a kill or its regular end, and then
ends what still carries the token.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil

# Of the process that the servers of the dashboard are copies of, and of its companion.
_KEPT = ("multiprocessing.forkserver", "multiprocessing.resource_tracker")
# The dashboards of the tests are not given what begins with the project's own name.
_VARIABLE = "TOKEN_OF_THE_TEST_PROCESS"


class Keeper:
    """Ends what this process leaves behind; ``close`` when all of it should have ended."""

    def __init__(self) -> None:
        self._token = secrets.token_hex(8)
        self._process = subprocess.Popen(
            [sys.executable, __file__, self._token],
            stdin=subprocess.PIPE,  # its end tells that this process is gone
            start_new_session=True,  # an interrupt at the keyboard is not meant for it
        )
        os.environ[_VARIABLE] = self._token

    def left(self, seconds: float = 10) -> list[str]:
        """The command lines of what runs on; what is about to end is given ``seconds``."""
        started = [process for process in _bearers(self._token) if not _is_kept(process)]
        _, alive = psutil.wait_procs(started, timeout=seconds)
        return [" ".join(process.info["cmdline"] or ()) for process in alive]

    def close(self) -> None:
        del os.environ[_VARIABLE]
        self._process.communicate()


def _is_kept(process: psutil.Process) -> bool:
    """Whether it is one that stays for as long as this process, and is ended with it."""
    command = " ".join(process.info["cmdline"] or ())
    return process.ppid() == os.getpid() and any(name in command for name in _KEPT)


def _bearers(token: str) -> Iterator[psutil.Process]:
    for process in psutil.process_iter(["environ", "cmdline", "status"]):
        bears = (process.info["environ"] or {}).get(_VARIABLE) == token
        if bears and process.info["status"] != psutil.STATUS_ZOMBIE:
            yield process


def _keep(token: str) -> None:
    sys.stdin.buffer.read()
    # What is ended may have started another one.
    while [process for process in list(_bearers(token)) if _ended(process)]:
        pass


def _ended(process: psutil.Process) -> bool:
    until = time.monotonic() + 10
    try:
        process.kill()
        # Its parent may not look after it before this process here has ended.
        while process.status() != psutil.STATUS_ZOMBIE:
            if time.monotonic() > until:
                return False
            time.sleep(0.01)
    except psutil.NoSuchProcess:
        return True
    except psutil.Error:
        return False
    return True


if __name__ == "__main__":
    _keep(sys.argv[1])
