"""The page about faults tells what is tested, and all of it."""

from __future__ import annotations

from pathlib import Path

from tests.faults import documented


def test_the_page_about_faults_follows_the_tests() -> None:
    """``python -m tests.faults.documented`` writes its lists anew."""
    assert documented.written() == documented.lists()


def test_every_module_of_tests_is_on_the_page() -> None:
    here = {path.name for path in Path(__file__).parent.glob("test_*.py")}
    assert here - documented.SECTIONS.keys() == {"test_answers.py", Path(__file__).name}
