"""Counts in words, and the install hint."""

from __future__ import annotations

import re
import tomllib

import pytest
from tests.environments import PROJECT

from queuescope.words import counted, listed, plural, to_install


@pytest.mark.parametrize(
    ("count", "words"), [(0, "0 jobs"), (1, "1 job"), (2, "2 jobs"), (12_345, "12,345 jobs")]
)
def test_a_number_has_its_word(count: int, words: str) -> None:
    assert counted(count, "job") == words


def test_a_word_may_have_a_plural_of_its_own() -> None:
    assert [counted(n, "entry", "entries") for n in (1, 2)] == ["1 entry", "2 entries"]
    assert [plural(n, "is", "are") for n in (0, 1, 1.5)] == ["are", "is", "are"]


def test_of_many_names_the_first_are_listed() -> None:
    found = [listed("abcde"[:count]) for count in (0, 1, 3, 5)]
    assert found == ["", "a", "a, b, c", "a, b, c and 2 more"]
    assert listed("abcde", 4) == "a, b, c, d and 1 more"


def test_no_other_module_makes_plurals_or_names_an_extra_by_itself() -> None:
    """An extra that the hints name is one that pyproject.toml has."""
    extras = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    named = set()
    for file in (PROJECT / "src").rglob("*.py"):
        text = file.read_text("utf-8")
        named |= set(re.findall(r"to_install\(['\"](\w+)['\"]\)", text))
        if file.name != "words.py":
            assert "queuescope[" not in text, file
            assert not re.search(r'"1 \w+" if|"(?:is|job|worker)" if .* == 1 else', text), file
    assert named
    assert named <= set(extras)
    assert to_install("auth") == "install it with `pip install 'queuescope[auth]'`"
