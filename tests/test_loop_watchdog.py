"""A process whose event loop stalls ends; one that was suspended, or is only busy, does not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from queuescope.loop_watchdog import EXIT_STATUS

_PROGRAM = """
import asyncio, sys, time
from queuescope.loop_watchdog import LoopWatchdog

async def held_up_by_what_never_yields():
    done = asyncio.get_running_loop().create_future()
    done.set_result(None)
    while True:
        await done

async def main(what):
    LoopWatchdog(asyncio.get_running_loop(), limit_seconds=1.5, look_seconds=0.05).start()
    print("watched", flush=True)
    if what == "stalls":
        await held_up_by_what_never_yields()
    elif what == "blocks":
        time.sleep(600)
    for _ in range(int(await asyncio.to_thread(sys.stdin.readline))):
        await asyncio.sleep(0.02)
    print("ended", flush=True)

asyncio.run(main(sys.argv[1]))
"""


def _start(what: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, what],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "watched\n"
    return process


@pytest.mark.parametrize(
    ("what", "culprit"), [("stalls", "held_up_by_what_never_yields"), ("blocks", "in main")]
)
def test_a_stalled_process_ends_and_says_what_it_was_doing(what: str, culprit: str) -> None:
    process = _start(what)
    _, said = process.communicate(timeout=120)
    assert process.returncode == EXIT_STATUS
    assert "the server has not responded for" in said
    assert culprit in said


def test_a_suspended_process_goes_on() -> None:
    process = _start("waits")
    os.kill(process.pid, signal.SIGSTOP)
    # Longer than the limit in the machine's time, while the process does not run.
    time.sleep(3)
    os.kill(process.pid, signal.SIGCONT)
    said, _ = process.communicate("20\n", timeout=120)
    assert (process.returncode, said) == (0, "ended\n")
