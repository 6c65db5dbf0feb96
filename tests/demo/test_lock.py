from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from queuescope.demo.lock import DataLock
from queuescope.errors import DemoError


def test_a_second_start_shows_the_address_of_the_first(tmp_path: Path) -> None:
    with DataLock(tmp_path) as lock:
        lock.announce("http://127.0.0.1:8601")
        with pytest.raises(DemoError, match=r"already runs with .* at http://127\.0\.0\.1:8601;"):
            DataLock(tmp_path).__enter__()


def test_a_second_start_during_the_first_says_that_it_is_starting(tmp_path: Path) -> None:
    with DataLock(tmp_path) as lock:
        lock.announce("http://127.0.0.1:8601")
    with DataLock(tmp_path), pytest.raises(DemoError, match=r"already runs with .* still starting"):
        DataLock(tmp_path).__enter__()


def test_a_start_waits_until_the_services_of_a_killed_one_have_ended(tmp_path: Path) -> None:
    lock = DataLock(tmp_path)
    with lock:
        watchdog = subprocess.Popen(
            ["sh", "-c", "read -r end"],
            stdin=subprocess.PIPE,
            pass_fds=[lock.watchdog_descriptor],
        )
    with pytest.raises(DemoError, match="services of an earlier start still use"):
        DataLock(tmp_path, wait_seconds=0.3).__enter__()
    watchdog.communicate()
    with DataLock(tmp_path, wait_seconds=0.3):
        pass


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DemoError, match=r"cannot write to .*/file/data: .*--data-dir"):
        DataLock(tmp_path / "file" / "data").__enter__()


def test_a_refused_start_leaves_the_holders_address(tmp_path: Path) -> None:
    with DataLock(tmp_path) as lock:
        lock.announce("http://127.0.0.1:8601")
        for _ in range(2):
            with pytest.raises(DemoError, match="8601"):
                DataLock(tmp_path).__enter__()
        assert (tmp_path / "lock").stat().st_size > 0
