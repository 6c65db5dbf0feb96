"""A broker for the view's tests: its report, and its state while it is away."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from queuescope.errors import BrokerError, BrokerErrorKind
from queuescope.known import Known
from queuescope.panels import load_dashboard
from queuescope.view.present.live_sources import FigureOrigin, LiveFigure, LiveReport, LiveSource

DEPTH = load_dashboard("ai-agents").measures[0]
# Prometheus's clock is a minute ahead of ours, and so are the times that the page shows.
AHEAD = 60.0
NOW = 1_000_000.0
REPORT = LiveReport(
    {"queue_depth": LiveFigure(42.0, out_of=50, remark="hm", notes=("As it is.",))},
    {"queue_depth": "it is not known"},
)
DOWN = BrokerError(BrokerErrorKind.DOWN, "the broker did not answer")
BROKER = LiveSource(FigureOrigin.BROKER, Known(REPORT, NOW), frozenset({"queue_depth"}))
AWAY = replace(BROKER, known=BROKER.known.failed(DOWN, NOW + 5))
NEVER = replace(BROKER, known=Known(error=DOWN, failing_since=NOW + 5))


def reporting(source: LiveSource, **report: Any) -> LiveSource:
    """``source`` with another report."""
    return replace(source, known=source.known.map(lambda known: replace(known, **report)))
