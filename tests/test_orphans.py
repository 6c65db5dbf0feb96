"""Processes that tests start end with them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from tests.orphans import Reaper

TEST_PROCESS = """
import signal, subprocess, sys, time
from tests.orphans import Reaper
# What runs in the background of a shell, as tests may, inherits that it ignores this.
signal.signal(signal.SIGINT, signal.default_int_handler)
reaper = Reaper()
server = subprocess.Popen(["sh", "-c", "sleep 1000 & echo $$ $!; wait"], start_new_session=True)
time.sleep(1000)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_what_a_test_process_started_ends_when_it_is_ended(number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", TEST_PROCESS],
        cwd=Path(__file__).parents[1],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        started = [psutil.Process(int(pid)) for pid in process.stdout.readline().split()]
        process.send_signal(number)
    gone, alive = psutil.wait_procs(started, timeout=60)
    assert (len(gone), alive) == (2, [])


def test_what_runs_on_is_named_and_ended() -> None:
    outer = dict(os.environ)
    reaper = Reaper()
    with subprocess.Popen(["sleep", "1000"]) as server:
        assert reaper.left(seconds=0) == ["sleep 1000"]
        reaper.close()
    assert server.returncode == -signal.SIGKILL
    assert reaper.left() == []
    os.environ.update(outer)
