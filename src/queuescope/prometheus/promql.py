"""PromQL text: escaping, label matchers, windows, and the names in a query.

Queries are rendered from own templates with ``quote`` as the one escaping function; the parser
only validates and inspects, because what it prints back is not safe to send.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

import promql_parser

from queuescope.errors import ConfigurationError
from queuescope.prometheus.names import is_label_name, label_text, quote, selector

MatchOperator = Literal["=", "!=", "=~", "!~"]
_LABEL_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OPERATOR = re.compile(r"=~|!~|!=|=")
_OPERATORS_PARSED: tuple[tuple[promql_parser.MatchOp, MatchOperator], ...] = (
    (promql_parser.MatchOp.Equal, "="),
    (promql_parser.MatchOp.NotEqual, "!="),
    (promql_parser.MatchOp.Re, "=~"),
    (promql_parser.MatchOp.NotRe, "!~"),
)
_ESCAPE = re.compile(
    r"\\(?:([abfnrtv\\\"'])|x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|([0-7]{3}))"
)
_SIMPLE_ESCAPES = dict(zip("abfnrtv\\\"'", "\a\b\f\n\r\t\v\\\"'", strict=True))
__all__ = [
    "MatchOperator",
    "Matcher",
    "duration",
    "label_text",
    "parse",
    "parse_matchers",
    "quote",
    "rate_windows",
    "render_matchers",
    "selector",
    "selectors",
]

_GROWTHS = frozenset({"rate", "irate", "increase", "delta"})
_UNITS = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s"), (1, "ms"))


@dataclass(frozen=True, slots=True)
class Matcher:
    """One label matcher: ``name``, operator and the value, unescaped."""

    name: str
    operator: MatchOperator
    value: str

    def __post_init__(self) -> None:
        if not is_label_name(self.name):
            raise ConfigurationError(
                f"{self.name!r} is not a label name: it begins with a letter and holds no spaces, "
                "quotes and brackets"
            )
        if self.operator not in get_args(MatchOperator):
            raise ConfigurationError(f"{self.operator!r} is not one of =, !=, =~ and !~")

    def __str__(self) -> str:
        return f"{label_text(self.name)}{self.operator}{quote(self.value)}"


def render_matchers(matchers: Iterable[Matcher]) -> str:
    """The text between the braces of a selector; empty for no matchers."""
    return ",".join(map(str, matchers))


def parse_matchers(text: str) -> tuple[Matcher, ...]:
    """Read ``env="prod",team=~"a|b"``, with or without braces around it; a name may stand in
    quotes, and one of other than letters, digits and underscores must.

    Raises ``ConfigurationError`` that names the column where the text stops making sense.
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
            raise _misread(text, offset + at, "expected =, !=, =~ or !~")
        at = _skip_space(body, operator.end())
        value, at = _read_string(text, body, at, offset)
        matcher = Matcher(name, operator[0], value)  # type: ignore[arg-type]
        _refuse_bad_expression(text, offset + start, matcher)
        matchers.append(matcher)
        at = _skip_space(body, at)
        if at < len(body):
            if body[at] != ",":
                raise _misread(text, offset + at, "expected a comma between matchers")
            at = _skip_space(body, at + 1)
    return tuple(matchers)


def duration(seconds: float) -> str:
    """A PromQL duration in the largest unit that is exact: ``1h``, ``90s``, ``3599999ms``."""
    milliseconds = round(seconds * 1000)
    if milliseconds <= 0:
        raise ValueError(f"a duration must be at least 1 ms, not {seconds} s")
    size, unit = next(u for u in _UNITS if milliseconds % u[0] == 0)
    return f"{milliseconds // size}{unit}"


def selectors(query: str) -> tuple[tuple[str, tuple[Matcher, ...]], ...]:
    """What ``query`` selects by name: each name with its matchers, once, in order.

    Raises ``ConfigurationError`` when ``query`` is not valid PromQL.
    """
    found: dict[tuple[str, tuple[Matcher, ...]], None] = {}

    def visit(expression: promql_parser.Expr) -> None:
        if isinstance(expression, promql_parser.VectorSelector) and (name := _name(expression)):
            matchers = (
                Matcher(one.name, operator, one.value)
                for one in expression.matchers.matchers
                for op, operator in _OPERATORS_PARSED
                if one.op == op and one.name != "__name__"
            )
            found[name, tuple(matchers)] = None

    promql_parser.walk(parse(query), pre_visit=visit)
    return tuple(found)


def rate_windows(query: str) -> tuple[tuple[str, float], ...]:
    """Of each metric whose growth ``query`` measures, over how many seconds it does so.

    Raises ``ConfigurationError`` when ``query`` is not valid PromQL.
    """
    found: dict[tuple[str, float], None] = {}

    def visit(expression: promql_parser.Expr) -> None:
        if not isinstance(expression, promql_parser.Call) or expression.func.name not in _GROWTHS:
            return
        for part in expression.args:
            if isinstance(part, promql_parser.MatrixSelector):
                name = _name(part.vector_selector) or ""
                found[name, part.range.total_seconds()] = None

    promql_parser.walk(parse(query), pre_visit=visit)
    return tuple(found)


def _name(selected: promql_parser.VectorSelector) -> str | None:
    """The one metric that is selected by its name, be it in quotes."""
    quoted = (
        one.value
        for one in selected.matchers.matchers
        if one.name == "__name__" and one.op == promql_parser.MatchOp.Equal
    )
    return selected.name or next(quoted, None)


def parse(query: str) -> promql_parser.Expr:
    """The syntax tree of ``query``. Raises ``ConfigurationError`` when it is not valid PromQL."""
    try:
        return promql_parser.parse(query)
    except ValueError as exc:
        raise ConfigurationError(f"{query!r} is not valid PromQL: {exc}") from exc


def _skip_space(text: str, at: int) -> int:
    while at < len(text) and text[at].isspace():
        at += 1
    return at


def _read_name(text: str, body: str, at: int, offset: int) -> tuple[str, int]:
    found = _LABEL_NAME.match(body, at)
    if found is not None:
        if found.end() < len(body) and body[found.end()] in ".-/:":
            raise _misread(text, offset + at, "a label name with this character stands in quotes")
        return found[0], found.end()
    if body[at] not in "\"'`":
        raise _misread(text, offset + at, "expected a label name")
    name, end = _read_string(text, body, at, offset)
    if not is_label_name(name):
        raise _misread(text, offset + at, f"{name!r} is not a label name")
    return name, end


def _read_string(text: str, body: str, at: int, offset: int) -> tuple[str, int]:
    start = at
    mark = body[at : at + 1]
    if mark not in ('"', "'", "`") or not mark:
        raise _misread(text, offset + at, "expected a value in quotes")
    out: list[str] = []
    at += 1
    while at < len(body) and body[at] != mark:
        if body[at] == "\\" and mark != "`":
            escape = _ESCAPE.match(body, at)
            if escape is None:
                raise _misread(text, offset + at, "unknown escape; write a backslash as \\\\")
            try:
                out.append(_unescape(escape))
            except ValueError as exc:
                raise _misread(text, offset + at, "no such character") from exc
            at = escape.end()
        else:
            out.append(body[at])
            at += 1
    if at >= len(body):
        raise _misread(text, offset + start, "this quote is not closed")
    return "".join(out), at + 1


def _unescape(escape: re.Match[str]) -> str:
    simple, byte, short, long, octal = escape.groups()
    if simple:
        return _SIMPLE_ESCAPES[simple]
    code = int(octal, 8) if octal else int(byte or short or long, 16)
    if (octal or byte) and code > 0x7F:
        raise ValueError("a byte that is no character by itself")
    if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
        raise ValueError("a number that is no character")
    return chr(code)


def _refuse_bad_expression(text: str, at: int, matcher: Matcher) -> None:
    if matcher.operator not in ("=~", "!~"):
        return
    try:
        promql_parser.parse(f"any{{{matcher}}}")
    except ValueError as exc:
        raise _misread(text, at, f"{matcher.value!r} is not a regular expression") from exc


def _misread(text: str, at: int, what: str) -> ConfigurationError:
    return ConfigurationError(
        f'label matchers {text!r}, column {at + 1}: {what}; write env="prod",team=~"a|b"'
    )
