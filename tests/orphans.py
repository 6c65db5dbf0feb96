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
from collections.abc import Iterator

import psutil

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
        _, alive = psutil.wait_procs(list(_bearers(self._token)), timeout=seconds)
        return [" ".join(process.info["cmdline"] or ()) for process in alive]

    def close(self) -> None:
        del os.environ[_VARIABLE]
        self._process.communicate()


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
    try:
        process.kill()
        process.wait(10)
    except psutil.Error:
        return False
    return True


if __name__ == "__main__":
    _keep(sys.argv[1])
