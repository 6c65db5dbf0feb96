"""Parses label matchers as people write them in settings: ``env="prod",team=~"a|b"``."""

from __future__ import annotations

import re

import promql_parser

from queuescope.errors import ConfigurationError
from queuescope.prometheus.promql import Matcher, is_label_name

_LABEL_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OPERATOR = re.compile(r"=~|!~|!=|=")
_ESCAPE = re.compile(
    r"\\(?:([abfnrtv\\\"'])|x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|([0-7]{3}))"
)
_SIMPLE_ESCAPES = dict(zip("abfnrtv\\\"'", "\a\b\f\n\r\t\v\\\"'", strict=True))


def parse_matchers(text: str) -> tuple[Matcher, ...]:
    """Parse ``env="prod",team=~"a|b"``, with or without braces. A name may be quoted, and must be
    if it contains other characters than letters, digits and underscores.

    Raises ``ConfigurationError`` that names the column of the first error.
    """
    body, offset = text, 0
    stripped = text.strip()
    if stripped.startswith("{") and stripped.endswith("}") and len(stripped) > 1:
        offset = text.index("{") + 1
        body = text[offset : text.rindex("}")]
    matchers: list[Matcher] = []
    at = _skip_space(body, 0)
    while at < len(body):
        start = at
        name, at = _read_name(text, body, at, offset)
        at = _skip_space(body, at)
        operator = _OPERATOR.match(body, at)
        if operator is None:
            raise _syntax_error(text, offset + at, "expected =, !=, =~ or !~")
        at = _skip_space(body, operator.end())
        value, at = _read_string(text, body, at, offset)
        matcher = Matcher(name, operator[0], value)  # type: ignore[arg-type]
        _refuse_bad_expression(text, offset + start, matcher)
        matchers.append(matcher)
        at = _skip_space(body, at)
        if at < len(body):
            if body[at] != ",":
                raise _syntax_error(text, offset + at, "expected a comma between matchers")
            at = _skip_space(body, at + 1)
    return tuple(matchers)


def _skip_space(text: str, at: int) -> int:
    while at < len(text) and text[at].isspace():
        at += 1
    return at


def _read_name(text: str, body: str, at: int, offset: int) -> tuple[str, int]:
    found = _LABEL_NAME.match(body, at)
    if found is not None:
        if found.end() < len(body) and body[found.end()] in ".-/:":
            raise _syntax_error(
                text, offset + at, "a label name with this character must be quoted"
            )
        return found[0], found.end()
    if body[at] not in "\"'`":
        raise _syntax_error(text, offset + at, "expected a label name")
    name, end = _read_string(text, body, at, offset)
    if not is_label_name(name):
        raise _syntax_error(text, offset + at, f"{name!r} is not a label name")
    return name, end


def _read_string(text: str, body: str, at: int, offset: int) -> tuple[str, int]:
    start = at
    mark = body[at : at + 1]
    if mark not in ('"', "'", "`") or not mark:
        raise _syntax_error(text, offset + at, "expected a value in quotes")
    out: list[str] = []
    at += 1
    while at < len(body) and body[at] != mark:
        if body[at] == "\\" and mark != "`":
            escape = _ESCAPE.match(body, at)
            if escape is None:
                raise _syntax_error(text, offset + at, "unknown escape; write a backslash as \\\\")
            try:
                out.append(_unescape(escape))
            except ValueError as exc:
                raise _syntax_error(text, offset + at, "no such character") from exc
            at = escape.end()
        else:
            out.append(body[at])
            at += 1
    if at >= len(body):
        raise _syntax_error(text, offset + start, "this quote is not closed")
    return "".join(out), at + 1


def _unescape(escape: re.Match[str]) -> str:
    simple, byte, short, long, octal = escape.groups()
    if simple:
        return _SIMPLE_ESCAPES[simple]
    code = int(octal, 8) if octal else int(byte or short or long, 16)
    if (octal or byte) and code > 0x7F:
        raise ValueError("a byte that is not a character by itself")
    if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
        raise ValueError("a number that is not a character")
    return chr(code)


def _refuse_bad_expression(text: str, at: int, matcher: Matcher) -> None:
    if matcher.operator not in ("=~", "!~"):
        return
    try:
        promql_parser.parse(f"any{{{matcher}}}")
    except ValueError as exc:
        raise _syntax_error(text, at, f"{matcher.value!r} is not a regular expression") from exc


def _syntax_error(text: str, at: int, what: str) -> ConfigurationError:
    return ConfigurationError(
        f'label matchers {text!r}, column {at + 1}: {what}; write env="prod",team=~"a|b"'
    )
