"""The page on faults lists everything that is tested, and nothing else."""

from __future__ import annotations

from pathlib import Path

from tests.faults import documented


def test_the_page_on_faults_follows_the_tests() -> None:
    """``python -m tests.faults.documented`` rewrites its lists."""
    assert documented.written() == documented.lists()


def test_every_module_of_tests_is_on_the_page() -> None:
    here = {path.name for path in Path(__file__).parent.glob("test_*.py")}
    assert here - documented.SECTIONS.keys() == {"test_answers.py", Path(__file__).name}
