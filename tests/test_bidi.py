"""No character turns the direction of what stands on the page."""

from __future__ import annotations

import orjson
from hypothesis import given
from hypothesis import strategies as st

from queuescope.bidi import shown, shown_in_json

TEXTS = st.text(st.sampled_from('ab"\\<é\u061c\u200e\u200f\u202a\u202e\u2066\u2069\u2070\u20ac😀'))


@given(st.dictionaries(TEXTS, st.lists(TEXTS | st.integers(0, 9) | st.none()), max_size=4))
def test_every_text_of_a_document_is_shown_as_a_text_alone_is(
    content: dict[str, list[str | int | None]],
) -> None:
    expected = {
        shown(name): [shown(one) if isinstance(one, str) else one for one in found]
        for name, found in content.items()
    }
    assert orjson.loads(shown_in_json(orjson.dumps(content))) == expected


def test_a_name_is_shown_with_the_number_of_what_would_turn_it() -> None:
    assert shown("acme\u202egpj.exe") == r"acme\u202egpj.exe"
    assert shown("שלום عليكم") == "שלום عليكم"
