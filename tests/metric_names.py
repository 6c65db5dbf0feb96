"""The names of metrics: those in a query, and those that the catalogue declares."""

from __future__ import annotations

from collections.abc import Iterable

import promql_parser

from queuescope.instrument.metrics import (
    CATALOGUE,
    DEFAULT_NAMESPACE,
    DEFAULT_SUBSYSTEM,
    Kind,
    Metric,
)
from queuescope.prometheus.promql import is_plain_metric, parse


def names_in(query: str) -> set[str]:
    """The names that ``query`` selects, alone or as alternatives."""
    names: set[str] = set()

    def visit(expression: promql_parser.Expr) -> None:
        if not isinstance(expression, promql_parser.VectorSelector):
            return
        if expression.name:
            names.add(expression.name)
        groups = [expression.matchers.matchers, *expression.matchers.or_matchers]
        for matcher in (m for group in groups for m in group if m.name == "__name__"):
            alternatives = matcher.value.split("|")
            if matcher.op == promql_parser.MatchOp.Equal:
                names.add(matcher.value)
            elif matcher.op == promql_parser.MatchOp.Re and all(map(is_plain_metric, alternatives)):
                names.update(alternatives)

    promql_parser.walk(parse(query), pre_visit=visit)
    return names


def series_names(
    metrics: Iterable[Metric] = CATALOGUE,
    namespace: str = DEFAULT_NAMESPACE,
    subsystem: str = DEFAULT_SUBSYSTEM,
) -> set[str]:
    """The names under which Prometheus stores these metrics."""
    return {
        f"{metric.name(namespace, subsystem)}{suffix}"
        for metric in metrics
        for suffix in (("_bucket", "_sum", "_count") if metric.kind is Kind.HISTOGRAM else ("",))
    }
