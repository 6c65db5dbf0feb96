"""Counts series once that several Prometheus servers scraped from the same target.

Each innermost aggregation of a query first takes the maximum of a series' replicas. So nothing is
added up twice, and one replica suffices while another is away or has just started to scrape.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from queuescope.errors import ConfigurationError
from queuescope.panels.model import Dashboard, Measure, Panel
from queuescope.prometheus.promql import label_text

_WITH_PARAMETER = ("topk", "bottomk", "quantile", "count_values", "limitk", "limit_ratio")
_AGGREGATIONS = (
    *("sum", "min", "max", "avg", "count", "group", "stddev", "stdvar"),
    *_WITH_PARAMETER,
)
_AGGREGATION = re.compile(
    rf"(?<![\w:.$])(?P<name>{'|'.join(_AGGREGATIONS)})"
    r"(?:\s*(?:by|without)\s*\([^()]*\)|\s*\$(?:by|le_by)\b)?\s*\(",
    re.IGNORECASE,
)
_STRING = re.compile(r"\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'|`[^`]*`")
_OF_NATIVE = re.compile(r"histogram_quantile\([0-9.]+, sum\$by\($")
_BRACED = re.compile(r"\$\{(\w+)\}")


def count_once(dashboard: Dashboard, replica_labels: Sequence[str]) -> Dashboard:
    """``dashboard`` with queries that count series once if they differ only in ``replica_labels``.

    Raises ``ConfigurationError`` for a query that reads series outside an aggregation.
    """
    if not replica_labels:
        return dashboard
    labels = ", ".join(map(label_text, replica_labels))
    place = dashboard.name

    def once(template: str, what: str) -> str:
        return _once(template, labels, f"{place}, {what}")

    def panel_once(panel: Panel) -> Panel:
        return replace(
            panel,
            query=once(panel.query, f"{panel.id}, query"),
            now=once(panel.now, f"{panel.id}, now"),
            breakdowns=tuple(b for b in panel.breakdowns if b not in replica_labels),
        )

    panels = {panel.id: panel_once(panel) for panel in dashboard.panels}

    def measure_once(measure: Measure) -> Measure:
        share = measure.share
        return replace(
            measure,
            panel=panels[measure.panel.id] if measure.on_page else panel_once(measure.panel),
            now=once(measure.now, f"{measure.id}, now"),
            share=share and replace(share, query=once(share.query, f"{measure.id}, share")),
        )

    flow, per_worker, ended = dashboard.flow, dashboard.per_worker, dashboard.ended
    return replace(
        dashboard,
        replica_labels=tuple(replica_labels),
        panels=tuple(panels.values()),
        measures=tuple(map(measure_once, dashboard.measures)),
        flow=flow
        and replace(
            flow,
            completion=once(flow.completion, "flow, completion"),
            waiting=once(flow.waiting, "flow, waiting"),
            completed=once(flow.completed, "flow, completed"),
        ),
        per_worker=per_worker
        and replace(per_worker, throughput=once(per_worker.throughput, "worker, throughput")),
        ended=ended and replace(ended, now=once(ended.now, "ended, now")),
    )


def _once(template: str, labels: str, place: str) -> str:
    """``template`` with each innermost aggregation over the maximum of the replicas."""
    plain = _STRING.sub(lambda found: "_" * len(found[0]), template)
    plain = _BRACED.sub(lambda found: f"${found[1]}  ", plain)
    spans = [
        (found.end(), _closed(plain, found.end()), found["name"].lower())
        for found in _AGGREGATION.finditer(plain)
    ]
    innermost = [
        span
        for span, after in pairwise([*spans, (len(plain) + 1, len(plain) + 1, "")])
        if after[0] > span[1]
    ]
    text, rest, at = "", "", 0
    for start, end, name in innermost:
        begin = start
        if name in _WITH_PARAMETER:
            begin = _comma(plain, start, end) + 1
        # Native histograms have no maximum; their quantiles are those of the mean.
        pick = "avg" if _OF_NATIVE.search(plain[:start]) else "max"
        text += f"{template[at:begin]}{pick} without ({labels}) ({template[begin:end].strip()})"
        rest += plain[at:begin]
        at = end
    if "{" in rest + plain[at:]:
        raise ConfigurationError(
            f"{place}: with replica_labels each selector must be inside an aggregation, such as "
            "sum(…) or max(…)"
        )
    return text + template[at:]


def _closed(plain: str, start: int) -> int:
    """The position of the bracket that closes the one before ``start``."""
    depth = 1
    for at in range(start, len(plain)):
        depth += {"(": 1, ")": -1}.get(plain[at], 0)
        if not depth:
            return at
    return len(plain)


def _comma(plain: str, start: int, end: int) -> int:
    """The position of the comma after the first argument."""
    depth = 0
    for at in range(start, end):
        depth += {"(": 1, "{": 1, "[": 1, ")": -1, "}": -1, "]": -1}.get(plain[at], 0)
        if not depth and plain[at] == ",":
            return at
    return start - 1
