r"""Characters that turn the direction of the text around them, shown by their number (``\u202e``).

A name that holds one reads backwards, and so does what stands beside it.
"""

from __future__ import annotations

import re

_CONTROLS = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_ENCODED = re.compile(
    rb"\xd8\x9c|\xe2\x80[\x8e\x8f\xaa-\xae]|\xe2\x81[\xa6-\xa9]",
)


def shown(text: str) -> str:
    """``text`` with these characters by their number."""
    return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def shown_in_json(body: bytes) -> bytes:
    """The same of every text in a JSON document in UTF-8, which holds them as themselves."""
    return _ENCODED.sub(lambda found: b"\\\\u%04x" % ord(found[0].decode()), body)
