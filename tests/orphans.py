"""No process outlives the tests that started it, however they end.

Every process that a test process starts inherits a token in its environment. A reaper, in its own
session, waits until the test process is gone, by an interrupt, a kill or its regular end, and then
stops every process that still has the token.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil

# Of the process from which the dashboards are forked, and of its companion.
_KEPT = ("multiprocessing.forkserver", "multiprocessing.resource_tracker")
# Dashboards of the tests do not get variables that begin with the project's name.
_VARIABLE = "TOKEN_OF_THE_TEST_PROCESS"


class Reaper:
    """Stops processes that this one leaves behind; ``close`` when all should have ended."""

    def __init__(self) -> None:
        self._token = secrets.token_hex(8)
        self._process = subprocess.Popen(
            [sys.executable, __file__, self._token],
            stdin=subprocess.PIPE,  # its end shows that this process is gone
            start_new_session=True,  # an interrupt from the keyboard must not reach it
        )
        os.environ[_VARIABLE] = self._token

    def left(self, seconds: float = 10) -> list[str]:
        """The command lines of processes that still run; those about to end have ``seconds``."""
        started = [process for process in _bearers(self._token) if not _is_kept(process)]
        _, alive = psutil.wait_procs(started, timeout=seconds)
        return [" ".join(process.info["cmdline"] or ()) for process in alive]

    def close(self) -> None:
        del os.environ[_VARIABLE]
        self._process.communicate()


def _is_kept(process: psutil.Process) -> bool:
    """Whether it is one that runs as long as this process, and is stopped with it."""
    command = " ".join(process.info["cmdline"] or ())
    return process.ppid() == os.getpid() and any(name in command for name in _KEPT)


def _bearers(token: str) -> Iterator[psutil.Process]:
    for process in psutil.process_iter(["environ", "cmdline", "status"]):
        bears = (process.info["environ"] or {}).get(_VARIABLE) == token
        if bears and process.info["status"] != psutil.STATUS_ZOMBIE:
            yield process


def _keep(token: str) -> None:
    sys.stdin.buffer.read()
    # A stopped process may have started another one.
    while [process for process in list(_bearers(token)) if _ended(process)]:
        pass


def _ended(process: psutil.Process) -> bool:
    until = time.monotonic() + 10
    try:
        process.kill()
        # Its parent may not reap it before this process has ended.
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
