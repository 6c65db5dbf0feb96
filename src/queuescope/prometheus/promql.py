"""PromQL text: names, quoting, selectors, matchers, unions, windows, and the names in a query.

Queries are rendered from our own templates with ``quote`` as the only escaping function; the parser
only validates and inspects, because the text that it prints is not safe to send. Prometheus 3
accepts names with any letters in quotes: ``{"service.name"="x"}``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

import promql_parser

from queuescope.errors import ConfigurationError
from queuescope.timeseries import Labels

_Value = TypeVar("_Value")
MatchOperator = Literal["=", "!=", "=~", "!~"]
_OPERATORS_PARSED: tuple[tuple[promql_parser.MatchOp, MatchOperator], ...] = (
    (promql_parser.MatchOp.Equal, "="),
    (promql_parser.MatchOp.NotEqual, "!="),
    (promql_parser.MatchOp.Re, "=~"),
    (promql_parser.MatchOp.NotRe, "!~"),
)
_PLAIN_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_PLAIN_METRIC = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
# Characters that are probably mistakes (spaces, quotes, brackets) are refused, although
# Prometheus 3 accepts them.
_NAME = re.compile(r"(?:[^\W\d]|:)[^\s\"'`\\{}()\[\],;=!~<>\x00-\x1f\x7f\ufffd]*")

_GROWTHS = frozenset({"rate", "irate", "increase", "delta"})
_UNITS = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s"), (1, "ms"))


def quote(value: str) -> str:
    """``value`` as a PromQL string literal, whatever it contains.

    Raises ``ConfigurationError`` for text that cannot be sent as UTF-8.
    """
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as exc:
        raise ConfigurationError(f"{value!a} is not valid Unicode text") from exc
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    # Prometheus reads an unescaped U+FFFD as an invalid byte.
    return '"' + re.sub(r"[\x00-\x1f\x7f\ufffd]", lambda m: f"\\u{ord(m[0]):04x}", escaped) + '"'


def is_label_name(name: str) -> bool:
    """Whether this is a valid name of a label."""
    return _NAME.fullmatch(name) is not None


def is_metric_name(name: str) -> bool:
    """Whether this is a valid name of a metric."""
    return _NAME.fullmatch(name) is not None


def is_plain_label(name: str) -> bool:
    """Whether a label of this name needs no quotes."""
    return _PLAIN_LABEL.fullmatch(name) is not None


def is_plain_metric(name: str) -> bool:
    """Whether a metric of this name needs no quotes."""
    return _PLAIN_METRIC.fullmatch(name) is not None


def label_text(name: str) -> str:
    """The name of a label as PromQL writes it."""
    return name if is_plain_label(name) else quote(name)


def selector(metric: str, matchers: str = "") -> str:
    """A selector for the series of ``metric``; ``matchers`` is rendered PromQL."""
    if is_plain_metric(metric):
        return f"{metric}{{{matchers}}}"
    return f"{{{','.join(filter(None, [quote(metric), matchers]))}}}"


@dataclass(frozen=True, slots=True)
class Matcher:
    """One label matcher: ``name``, operator and the value, unescaped."""

    name: str
    operator: MatchOperator
    value: str

    def __post_init__(self) -> None:
        if not is_label_name(self.name):
            raise ConfigurationError(
                f"{self.name!r} is not a label name: it begins with a letter and contains no "
                "spaces, quotes and brackets"
            )
        if self.operator not in get_args(MatchOperator):
            raise ConfigurationError(f"{self.operator!r} is not one of =, !=, =~ and !~")

    def __str__(self) -> str:
        return f"{label_text(self.name)}{self.operator}{quote(self.value)}"


def render_matchers(matchers: Iterable[Matcher]) -> str:
    """The text between the braces of a selector; empty for no matchers."""
    return ",".join(map(str, matchers))


def with_label(query: str, label: str, value: str) -> str:
    """``query`` with ``label`` set to ``value`` on each series."""
    # In a replacement, $1 would refer to a group of the expression.
    return f'label_replace(({query}), "{label}", {quote(value.replace("$", "$$"))}, "", "")'


def union(label: str, parts: Mapping[str, str]) -> str:
    """One query instead of several: ``parts`` are PromQL by name, and each series of the answer has
    the name of its part in ``label``. See ``parts_of``.
    """
    return " or ".join(with_label(query, label, name) for name, query in parts.items())


def parts_of(
    label: str, series: Iterable[tuple[Labels, _Value]]
) -> dict[str, list[tuple[Labels, _Value]]]:
    """The series of each part of a ``union``, by the part's name and without ``label``. A part
    without series is left out.
    """
    found: dict[str, list[tuple[Labels, _Value]]] = {}
    for labels, value in series:
        name = next((text for key, text in labels if key == label), None)
        if name is not None:
            own = tuple(pair for pair in labels if pair[0] != label)
            found.setdefault(name, []).append((own, value))
    return found


def duration(seconds: float) -> str:
    """A PromQL duration in the largest unit that is exact: ``1h``, ``90s``, ``3599999ms``."""
    milliseconds = round(seconds * 1000)
    if milliseconds <= 0:
        raise ValueError(f"a duration must be at least 1 ms, not {seconds} s")
    size, unit = next(u for u in _UNITS if milliseconds % u[0] == 0)
    return f"{milliseconds // size}{unit}"


def selectors(query: str) -> tuple[tuple[str, tuple[Matcher, ...]], ...]:
    """The selectors of ``query``: each metric name with its matchers, once, in order.

    Raises ``ConfigurationError`` if ``query`` is not valid PromQL.
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
    """Each metric whose rate or increase ``query`` measures, with the window in seconds.

    Raises ``ConfigurationError`` if ``query`` is not valid PromQL.
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
    """The metric that is selected by its name, with or without quotes."""
    quoted = (
        one.value
        for one in selected.matchers.matchers
        if one.name == "__name__" and one.op == promql_parser.MatchOp.Equal
    )
    return selected.name or next(quoted, None)


def parse(query: str) -> promql_parser.Expr:
    """The syntax tree of ``query``. Raises ``ConfigurationError`` if it is not valid PromQL."""
    try:
        return promql_parser.parse(query)
    except ValueError as exc:
        raise ConfigurationError(f"{query!r} is not valid PromQL: {exc}") from exc
