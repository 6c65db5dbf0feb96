"""No character on the page is invisible or changes the direction; the text itself is unchanged."""

from __future__ import annotations

import unicodedata

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuescope.shown_text import as_written, is_fully_visible, shown, shown_apart, shown_in_json

TEXTS = st.text(
    st.sampled_from(
        'abnu0"\\/<é\x00\x1b\n\t\r\b\f\x7f\x85\u00ad\u034f\u061c\u200b\u200c\u200d\u200f\u202e\u2028'
        "\u2066\u2069\u2070\u20ac\u20e3\ufe0f\ufeff\ufffd\u0915\u094d\u4e00\U000e0100\U000e0041😀"
    )
)


@given(st.dictionaries(TEXTS, st.lists(TEXTS | st.integers(0, 9) | st.none()), max_size=4))
def test_every_text_of_a_document_is_shown_as_a_text_alone_is(
    content: dict[str, list[str | int | None]],
) -> None:
    expected = {
        shown(name): [shown(one) if isinstance(one, str) else one for one in found]
        for name, found in content.items()
    }
    assert orjson.loads(shown_in_json(orjson.dumps(content))) == expected


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("acme\u202egpj.exe", r"acme\u202egpj.exe"),
        ("ac\u200bme", r"ac\u200bme"),
        ("ac\u200dme", r"ac\u200dme"),
        ("acme\ufe0f", r"acme\ufe0f"),
        ("\ufeffacme", r"\ufeffacme"),
        ("ac\u00adme", r"ac\u00adme"),
        ("acme\n", r"acme\u000a"),
        ("a\x1b[31m\x85\u2028", r"a\u001b[31m\u0085\u2028"),
        ("\u3164", r"\u3164"),
        ("acme\U000e0041", r"acme\U000e0041"),
    ],
)
def test_a_name_is_shown_with_the_number_of_what_cannot_be_seen_in_it(text: str, seen: str) -> None:
    assert shown(text) == seen
    assert as_written(seen) == text
    assert not is_fully_visible(text)


@pytest.mark.parametrize(
    "text",
    [
        "שלום عليكم",
        "می\u200cخواهم",
        "क्\u200dष",
        "👩\u200d🔧",
        "👩🏽\u200d⚕\ufe0f",
        "❤\ufe0f\u200d🔥",
        "1\ufe0f\u20e3",
        "葛\U000e0100飾",
        "non\u00a0breaking",
        r"C:\users\u0041",
    ],
)
def test_what_belongs_to_the_writing_of_a_name_stays(text: str) -> None:
    assert shown(text) == text
    assert as_written(text) == text
    assert is_fully_visible(text)


@given(st.text())
def test_nothing_is_left_that_cannot_be_seen(text: str) -> None:
    seen = shown(text)
    assert is_fully_visible(seen)
    left = {unicodedata.category(character) for character in seen} - {"Cn"}
    assert left.isdisjoint({"Cc", "Cs", "Co", "Zl", "Zp"})
    assert shown(text, in_lines=True).replace("\n", r"\u000a").replace("\t", r"\u0009") == seen


def test_no_choice_is_shown_as_another() -> None:
    """A sender of jobs can give a tenant a name that looks like another one."""
    values = ["acme", "ac\u200bme", r"ac\u200bme", "a\u202eb"]
    names = list(map(shown_apart(values), values))
    assert names == ["acme", r"ac\u{200b}me", r"ac\u200bme", r"a\u202eb"]
