"""``.ci/run`` distinguishes a flaky test from one that always fails."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]

_TESTS = """
import os
from pathlib import Path
import pytest

def test_that_finds_nothing_of_the_run_in_its_environment():
    assert not [name for name in os.environ if "FAILED_TESTS" in name]

def test_that_passes():
    with open("passes", "a") as log:
        log.write("x")

@pytest.mark.parametrize("case", ["an id with spaces [and] brackets"])
def test_that_fails_once(case):
    mark = Path("failed-before")
    if not mark.exists():
        mark.touch()
        raise AssertionError("by chance")

@pytest.fixture
def broken_once():
    yield
    mark = Path("broken-before")
    if not mark.exists():
        mark.touch()
        raise AssertionError("by chance, after the test")

def test_whose_fixture_fails_once(broken_once):
    pass
"""

_TWICE = """
def test_that_always_fails():
    raise AssertionError("always")
"""

Run = Callable[[], "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs the project's ``.ci/run`` in a small project whose ``./test`` is pytest alone."""
    (tmp_path / ".ci").mkdir()
    shutil.copy(PROJECT / ".ci/run", tmp_path / ".ci/run")
    (tmp_path / "test_small.py").write_text(_TESTS)
    _write_command(
        tmp_path,
        f"PYTHONPATH={PROJECT} exec {sys.executable} -m pytest -p tests.failed_tests"
        ' -p no:cacheprovider --rootdir . "$@"',
    )

    def start() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", tmp_path / ".ci/run"],
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    return start


def _write_command(project: Path, command: str) -> None:
    (project / "test").write_text(f"#!/bin/sh\n{command}\n")
    (project / "test").chmod(0o755)


def test_what_passes_alone_is_named_and_does_not_fail_the_run(run: Run, tmp_path: Path) -> None:
    done = run()

    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines()[-2:] == [
        "flaky: test_small.py::test_that_fails_once[an id with spaces [and] brackets]",
        "flaky: test_small.py::test_whose_fixture_fails_once",
    ]
    assert (tmp_path / "passes").read_text() == "x"


def test_what_fails_twice_fails_the_run(run: Run, tmp_path: Path) -> None:
    (tmp_path / "test_twice.py").write_text(_TWICE)

    done = run()

    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "failed twice: test_twice.py::test_that_always_fails"


def test_a_run_without_failures_is_not_repeated(run: Run, tmp_path: Path) -> None:
    (tmp_path / "failed-before").touch()
    (tmp_path / "broken-before").touch()

    done = run()

    assert done.returncode == 0
    assert "Once more" not in done.stdout


@pytest.mark.parametrize("status", [1, 2, 3])
def test_checks_that_fail_before_the_tests_fail_the_run_at_once(
    run: Run, tmp_path: Path, status: int
) -> None:
    _write_command(tmp_path, f"echo started >> starts; exit {status}")

    assert run().returncode == status
    assert (tmp_path / "starts").read_text() == "started\n"


def test_more_failures_than_chance_makes_are_not_tried_again(run: Run, tmp_path: Path) -> None:
    (tmp_path / "test_twice.py").write_text(
        "import pytest\n"
        '@pytest.mark.parametrize("number", range(40))\n'
        "def test_that_always_fails(number):\n"
        "    assert number < 0\n"
    )

    done = run()

    assert done.returncode == 1
    assert "Once more" not in done.stdout
