r"""Makes foreign text safe to display: invisible characters are replaced by their code.

A character that reverses text (``\u202e``), has no width (``\u200b``) or breaks a line makes a name
look like another one, and may change the text around it. The original text is still used to send
back and to compare.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection

_HIDDEN = (
    r"\x00-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f"
    r"\u2028-\u202e\u2060-\u206f\u3164\ud800-\uf8ff\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\ufffe\uffff"
    r"\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U0010ffff"
)
# Joiners and variation selectors are legitimate in some scripts and in emoji, but never between
# Latin, Greek and Cyrillic letters.
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
_INVISIBLE = re.compile(rf"(?!{_IN_PLACE})[{_HIDDEN}]")
_INVISIBLE_IN_LINES = re.compile(rf"(?!{_IN_PLACE}|[\n\t])[{_HIDDEN}]")
_NUMBER = re.compile(r"\\(?:u([0-9a-f]{4})|U([0-9a-f]{8}))")
# Escapes as orjson writes them; a backslash of the text itself is doubled.
_ESCAPED = re.compile(r"(?<!\\)((?:\\\\)*)\\(?:u([0-9a-f]{4})|([bfnrt]))")
_MAY_BE_ESCAPED = re.compile(rb"\\[ubfnrt]")
_ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_ASCII = bytes(range(0x7F))


def shown(text: str, *, in_lines: bool = False) -> str:
    r"""``text`` with invisible characters replaced by their code, such as ``\u202e``.

    With ``in_lines`` line breaks and tabs are kept.
    """
    return (_INVISIBLE_IN_LINES if in_lines else _INVISIBLE).sub(_numbered, text)


def one_line(text: str, limit: int = 255) -> str:
    """``text`` as one printable line of at most ``limit`` characters, for the audit and the log."""
    line = "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text[:limit]
    )
    return line[:limit]


def shown_apart(texts: Collection[str]) -> Callable[[str], str]:
    r"""Like ``shown``, for a choice between ``texts``: if the result would look like another one of
    them, codes are written as ``\u{202e}``.
    """
    plain = frozenset(text for text in texts if is_fully_visible(text))

    def apart(text: str) -> str:
        found = shown(text)
        if found == text or found not in plain:
            return found
        return _INVISIBLE.sub(lambda hidden: f"\\u{{{ord(hidden[0]):04x}}}", text)

    return apart


def is_fully_visible(text: str) -> bool:
    return _INVISIBLE.search(text) is None


def as_written(text: str) -> str:
    """The reverse of ``shown``; codes of visible characters are kept."""

    def character(found: re.Match[str]) -> str:
        number = int(found[1] or found[2], 16)
        hidden = chr(number) if number <= 0x10FFFF else ""
        return hidden if hidden and _INVISIBLE.fullmatch(hidden) else found[0]

    return _NUMBER.sub(character, text)


def shown_in_json(body: bytes) -> bytes:
    """``shown`` for every text in a JSON document written by ``orjson``."""
    if _MAY_BE_ESCAPED.search(body):
        body = _ESCAPED.sub(_numbered_escape, body.decode()).encode()
    # Nearly all of a document is packed numbers in ASCII, which are skipped here.
    if _MAY_BE_HIDDEN.search(body.translate(None, _ASCII).decode()):
        body = _INVISIBLE.sub(lambda found: f"\\{_numbered(found)}", body.decode()).encode()
    return body


def _numbered(found: re.Match[str]) -> str:
    number = ord(found[0])
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def _numbered_escape(found: re.Match[str]) -> str:
    number = found[2] or f"{ord(_ESCAPES[found[3]]):04x}"
    return rf"{found[1]}\\u{number}"
