"""Figures of now: how each is asked for, all of them in one question, and how it is read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from queuescope.errors import ConfigurationError, SourceError, SourceErrorKind
from queuescope.figures import curves_of
from queuescope.panels import RANKED_QUANTILE, Dashboard, Measure, Panel
from queuescope.prometheus import PrometheusClient
from queuescope.prometheus.wire import InstantAnswer
from queuescope.timeseries import Frame, Grid

GROWTH, COMPLETION = "flow_growth", "flow_completion"
"""The names of what goes through the queue: jobs per second."""

_LABEL = "queuescope_panel"


@dataclass(frozen=True, slots=True)
class Question:
    """``template`` under ``name``; ``panel`` reads its answer, None: it is a single number."""

    name: str
    panel: Panel | None
    template: str


def judged_by(measure: Measure) -> str:
    """The name of the figure that the verdict judges: what a chart on the page calls “now”."""
    return measure.panel.id if measure.on_page else f"card_{measure.id}"


def shown_by(measure: Measure) -> str:
    """The name of the figure that the card shows."""
    return judged_by(measure) if measure.now == measure.panel.now else f"card_{measure.id}_shown"


def figures_of(dashboard: Dashboard) -> tuple[Question, ...]:
    """What charts and cards show of now, each figure once; shares of a day are not among them."""
    asked = {panel.id: Question(panel.id, panel, panel.now) for panel in dashboard.panels}
    for measure in dashboard.measures:
        judged = Question(judged_by(measure), measure.panel, measure.panel.now)
        for question in (judged, *(() if measure.share else (shown_of(measure),))):
            asked.setdefault(question.name, question)
    return tuple(asked.values())


def shown_of(measure: Measure) -> Question:
    """The question for what the card shows."""
    return Question(shown_by(measure), measure.panel, measure.now)


def flow_of(dashboard: Dashboard) -> tuple[Question, ...]:
    """What goes through the queue."""
    flow = dashboard.flow
    if flow is None:
        return ()
    return (Question(GROWTH, None, flow.growth), Question(COMPLETION, None, flow.completion))


@dataclass(frozen=True, slots=True)
class Together:
    """The answers to several questions as of one moment ``at`` (source time)."""

    answer: InstantAnswer
    at: float

    @property
    def warnings(self) -> tuple[str, ...]:
        return self.answer.warnings


async def ask_together(
    client: PrometheusClient,
    questions: Sequence[Question],
    fill: Callable[[str], str],
    at: float | None = None,
) -> Together:
    """Ask several questions in one, as of ``at`` or now. Raises ``SourceError``."""
    parts = [
        f'label_replace(({fill(question.template)}), "{_LABEL}", "{question.name}", "", "")'
        for question in questions
    ]
    # Without labels, so that it stands beside whatever the others give, were it nothing.
    answer = await client.query(" or ".join([*parts, "vector(0)"]), at=at)
    source_now = next((s.timestamp for s in answer.samples if not s.labels), None)
    if source_now is None:
        raise SourceError(
            SourceErrorKind.DECODE,
            "Prometheus sent an answer that cannot be read",
            detail="vector(0) gave no sample",
        )
    return Together(answer, source_now)


def read_figure(question: Question, together: Together) -> float | None:
    """The figure that answers ``question``; None when the source has no sample for it.

    Raises ``ConfigurationError`` for an answer that is no single figure.
    """
    mine = [s for s in together.answer.samples if dict(s.labels).get(_LABEL) == question.name]
    if not mine:
        return None
    panel = question.panel
    if panel is None:
        if len(mine) > 1:
            raise ConfigurationError(f"{question.name}: the query gives {len(mine)} series")
        return mine[0].value
    labels = tuple(tuple(pair for pair in s.labels if pair[0] != _LABEL) for s in mine)
    at = Grid(int(together.at), int(together.at), 1)
    frame = Frame(at, labels, np.array([s.value for s in mine]).reshape(-1, 1))
    curves = curves_of(panel, frame, None, 1).curves
    curve = curves[panel.quantiles.index(RANKED_QUANTILE) if panel.quantiles else 0]
    return float(curve.values[0])
