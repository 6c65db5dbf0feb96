r"""Foreign text as it may stand on a screen: what cannot be seen in it is shown by its number.

A character that turns the text around it (``\u202e``), takes no room (``\u200b``) or breaks a line
makes a name read as another one, and what stands beside it, too. The text itself stays as it is:
it is what is sent back, and compared.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection

_HIDDEN = (
    r"\x00-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f"
    r"\u2028-\u202e\u2060-\u206f\u3164\ud800-\uf8ff\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\ufffe\uffff"
    r"\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U0010ffff"
)
# What joins the letters of some scripts and the parts of an emoji, and chooses between its forms,
# is no secret where it does that. Latin, Greek and Cyrillic letters know nothing of it.
_SYMBOLS = (
    r"\xa9\xae\u203c\u2049\u2122\u2139\u2190-\u2bff\u3030\u303d\u3297\u3299\U0001f000-\U0001faff"
)
_JOINS = rf"\u0620-\u0dff\u0f00-\u109f\u1780-\u17b3\u1820-\u18aa{_SYMBOLS}"
_IDEOGRAPHS = r"\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_IN_PLACE = (
    rf"(?:(?<=[{_JOINS}])|(?<=[{_SYMBOLS}]\ufe0f))[\u200c\u200d](?=[{_JOINS}])"
    rf"|(?<=[{_SYMBOLS}])[\ufe0e\ufe0f]"
    rf"|\ufe0f(?=\u20e3)|(?<=[{_IDEOGRAPHS}])[\U000e0100-\U000e01ef]"
    r"|(?<=[\u1820-\u18aa])[\u180b-\u180d\u180f]"
)
_MAY_BE_HIDDEN = re.compile(f"[{_HIDDEN}]")
_NOT_SEEN = re.compile(rf"(?!{_IN_PLACE})[{_HIDDEN}]")
_NOT_SEEN_IN_LINES = re.compile(rf"(?!{_IN_PLACE}|[\n\t])[{_HIDDEN}]")
_NUMBER = re.compile(r"\\(?:u([0-9a-f]{4})|U([0-9a-f]{8}))")
# As orjson writes them: a backslash before it, of which each of the text's own has another one.
_ESCAPED = re.compile(r"(?<!\\)((?:\\\\)*)\\(?:u([0-9a-f]{4})|([bfnrt]))")
_MAY_BE_ESCAPED = re.compile(rb"\\[ubfnrt]")
_ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_ASCII = bytes(range(0x7F))


def shown(text: str, *, in_lines: bool = False) -> str:
    r"""``text`` with what cannot be seen in it by its number, such as ``\u202e``.

    With ``in_lines`` it stands where line breaks and tabs are seen, and keeps them.
    """
    return (_NOT_SEEN_IN_LINES if in_lines else _NOT_SEEN).sub(_numbered, text)


def one_line(text: str, limit: int = 255) -> str:
    """``text`` as one printable line of at most ``limit`` characters, for the audit and the log."""
    line = "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text[:limit]
    )
    return line[:limit]


def shown_apart(texts: Collection[str]) -> Callable[[str], str]:
    r"""``shown`` for a choice between ``texts``: none is shown as another one that is so written,
    but as ``\u{202e}``.
    """
    plain = frozenset(text for text in texts if is_shown_as_it_is(text))

    def apart(text: str) -> str:
        found = shown(text)
        if found == text or found not in plain:
            return found
        return _NOT_SEEN.sub(lambda hidden: f"\\u{{{ord(hidden[0]):04x}}}", text)

    return apart


def is_shown_as_it_is(text: str) -> bool:
    return _NOT_SEEN.search(text) is None


def as_written(text: str) -> str:
    """What ``shown`` has made ``text`` of; numbers of what would be seen stay as they are."""

    def character(found: re.Match[str]) -> str:
        number = int(found[1] or found[2], 16)
        hidden = chr(number) if number <= 0x10FFFF else ""
        return hidden if hidden and _NOT_SEEN.fullmatch(hidden) else found[0]

    return _NUMBER.sub(character, text)


def shown_in_json(body: bytes) -> bytes:
    """The same of every text in a JSON document, as ``orjson`` writes it."""
    if _MAY_BE_ESCAPED.search(body):
        body = _ESCAPED.sub(_numbered_escape, body.decode()).encode()
    # Nearly all of a document is packed numbers: what may need a look is far less.
    if _MAY_BE_HIDDEN.search(body.translate(None, _ASCII).decode()):
        body = _NOT_SEEN.sub(lambda found: f"\\{_numbered(found)}", body.decode()).encode()
    return body


def _numbered(found: re.Match[str]) -> str:
    number = ord(found[0])
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def _numbered_escape(found: re.Match[str]) -> str:
    number = found[2] or f"{ord(_ESCAPES[found[3]]):04x}"
    return rf"{found[1]}\\u{number}"
