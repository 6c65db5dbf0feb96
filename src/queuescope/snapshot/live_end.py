"""The step that is still open, of all charts of a view, asked for in one question."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from queuescope.errors import SourceError
from queuescope.panels import Kind, Panel, Resolution
from queuescope.prometheus import PrometheusClient
from queuescope.prometheus.wire import InstantAnswer
from queuescope.snapshot.questions import ABOUT_THE_QUESTION
from queuescope.timeseries import UNDEFINED, Labels

_log = logging.getLogger(__name__)

_LABEL = "queuescope_live"
_NOW = "|now"

Series = Sequence[tuple[Labels, float]]


@dataclass(frozen=True, slots=True)
class OpenPanel:
    """A chart whose open step is asked for: ``matchers`` is rendered PromQL, ``resolution`` that of
    its closed steps.
    """

    panel: Panel
    by: str | None
    matchers: str
    resolution: Resolution

    def texts(self, open_seconds: float) -> Mapping[str, str]:
        """PromQL by name: the panel's own query, over the open part of the step, and, where it
        tells of samples, the value now, which stands for a part in which none was taken yet.
        """
        part = replace(self.resolution, open_seconds=open_seconds)
        panel = self.panel
        texts = {panel.id: panel.render(panel.query, part, self.matchers, self.by)}
        if not panel.quantiles:
            texts[panel.id + _NOW] = panel.render(
                panel.now, self.resolution, self.matchers, self.by
            )
        return texts


@dataclass(frozen=True, slots=True)
class LiveEnds:
    """What is known of the open step at ``at`` (source time), by panel: the series of its query.

    ``error`` says why the source did not answer; ``warnings`` are its words for an answer that may
    be incomplete, of which nothing is drawn.
    """

    at: float
    series: Mapping[str, Series] = field(default_factory=dict)
    error: SourceError | None = None
    warnings: tuple[str, ...] = ()


async def ask_live_ends(
    client: PrometheusClient,
    panels: Sequence[OpenPanel],
    begun: int,
    at: float,
    beside: Mapping[str, str] | None = None,
) -> LiveEnds:
    """The open steps of ``panels``, from ``begun`` until ``at`` (source time), and what else is
    asked ``beside`` them, PromQL by name; never raises for a source.

    Should the source refuse the one question, each chart asks its own, and those that are refused
    again have no open step.
    """
    try:
        return await _together(client, panels, begun, at, beside or {})
    except SourceError as exc:
        if exc.kind not in ABOUT_THE_QUESTION:
            return LiveEnds(at, error=exc)
    # What stands beside them is left out until the next time.
    alone = await asyncio.gather(*(_alone(client, panel, begun, at) for panel in panels))
    return LiveEnds(
        at,
        {name: series for ends in alone for name, series in ends.series.items()},
        next((ends.error for ends in alone if ends.error is not None), None),
        tuple(dict.fromkeys(text for ends in alone for text in ends.warnings)),
    )


async def _alone(client: PrometheusClient, panel: OpenPanel, begun: int, at: float) -> LiveEnds:
    try:
        return await _together(client, [panel], begun, at, {})
    except SourceError as exc:
        if exc.kind not in ABOUT_THE_QUESTION:
            return LiveEnds(at, error=exc)
        _log.warning("cannot read the open step of %s: %s (%s)", panel.panel.id, exc, exc.detail)
        return LiveEnds(at)


async def _together(
    client: PrometheusClient,
    panels: Sequence[OpenPanel],
    begun: int,
    at: float,
    beside: Mapping[str, str],
) -> LiveEnds:
    texts = {name: text for one in panels for name, text in one.texts(at - begun).items()}
    answer = await client.query(
        " or ".join(
            f'label_replace(({text}), "{_LABEL}", "{name}", "", "")'
            for name, text in {**texts, **beside}.items()
        ),
        at=at,
    )
    if answer.warnings:
        return LiveEnds(at, warnings=answer.warnings)
    series = {one.panel.id: _series(one.panel, answer) for one in panels}
    return LiveEnds(
        at, {**series, **{name: tuple(_named(answer, name).items()) for name in beside}}
    )


def _series(panel: Panel, answer: InstantAnswer) -> Series:
    """What the answer holds of one panel: the worse of its value so far and of that now."""
    found = _named(answer, panel.id)
    worst = min if panel.kind is Kind.PERCENT else max
    for labels, value in _named(answer, panel.id + _NOW).items():
        numbers = [n for n in (found.get(labels, math.nan), value) if math.isfinite(n)]
        found[labels] = worst(numbers, default=math.nan)
    # A sample that is no number is one nevertheless.
    return [(labels, n if math.isfinite(n) else UNDEFINED) for labels, n in found.items()]


def _named(answer: InstantAnswer, name: str) -> dict[Labels, float]:
    return {
        tuple(pair for pair in sample.labels if pair[0] != _LABEL): sample.value
        for sample in answer.samples
        if (_LABEL, name) in sample.labels
    }
