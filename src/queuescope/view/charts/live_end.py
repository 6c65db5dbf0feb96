"""The open step of all charts of a view, fetched in one query."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from queuescope.errors import SourceError
from queuescope.panels import Panel, Resolution, render
from queuescope.panels.template import RECENT_SECONDS
from queuescope.prometheus import PrometheusClient
from queuescope.prometheus.promql import parts_of, union
from queuescope.timeseries import UNDEFINED, Labels
from queuescope.view.present.fetcher import ABOUT_THE_QUERY

logger = logging.getLogger(__name__)

_LABEL = "queuescope_live"
_SO_FAR = "|so_far"

Series = Sequence[tuple[Labels, float]]


@dataclass(frozen=True, slots=True)
class OpenPanel:
    """A chart whose open step is fetched. ``matchers`` is rendered PromQL; ``resolution`` is that
    of the closed steps.
    """

    panel: Panel
    by: str | None
    matchers: str
    resolution: Resolution

    def texts(self, open_seconds: float) -> Mapping[str, str]:
        """PromQL by name: the present value, as on the card, and the panel's query over the open
        step so far, unless the present value already covers all of it.
        """
        panel = self.panel
        now = replace(self.resolution, step_seconds=RECENT_SECONDS, phase_seconds=None)
        texts = {panel.id: render(panel.now, now, self.matchers, self.by)}
        if not panel.quantiles or open_seconds > RECENT_SECONDS:
            part = replace(self.resolution, open_seconds=open_seconds)
            texts[panel.id + _SO_FAR] = render(panel.query, part, self.matchers, self.by)
        return texts


@dataclass(frozen=True, slots=True)
class LiveEnds:
    """What is known at ``at`` (source time), by panel: the series of the present value, and those
    of the panel's query over the open step ``so_far``.

    ``error`` says why the source did not answer. With ``warnings`` the source said that its answer
    may be incomplete; such an answer is not drawn.
    """

    at: float
    series: Mapping[str, Series] = field(default_factory=dict)
    so_far: Mapping[str, Series] = field(default_factory=dict)
    error: SourceError | None = None
    warnings: tuple[str, ...] = ()


async def fetch_live_ends(
    client: PrometheusClient,
    panels: Sequence[OpenPanel],
    begun: int,
    at: float,
    beside: Mapping[str, str] | None = None,
) -> LiveEnds:
    """The open steps of ``panels``, from ``begun`` to ``at`` (source time), and the further queries
    ``beside`` (PromQL by name), in one request; never raises for a source.

    If the source rejects that query, each chart is queried alone; a chart that is rejected again
    has no open step.
    """
    try:
        return await _together(client, panels, begun, at, beside or {})
    except SourceError as exc:
        if exc.kind not in ABOUT_THE_QUERY:
            return LiveEnds(at, error=exc)
    # The further queries are left out until the next time.
    alone = await asyncio.gather(*(_alone(client, panel, begun, at) for panel in panels))
    return LiveEnds(
        at,
        {name: series for ends in alone for name, series in ends.series.items()},
        {name: series for ends in alone for name, series in ends.so_far.items()},
        next((ends.error for ends in alone if ends.error is not None), None),
        tuple(dict.fromkeys(text for ends in alone for text in ends.warnings)),
    )


async def _alone(client: PrometheusClient, panel: OpenPanel, begun: int, at: float) -> LiveEnds:
    try:
        return await _together(client, [panel], begun, at, {})
    except SourceError as exc:
        if exc.kind not in ABOUT_THE_QUERY:
            return LiveEnds(at, error=exc)
        logger.warning("cannot read the open step of %s: %s (%s)", panel.panel.id, exc, exc.detail)
        return LiveEnds(at)


async def _together(
    client: PrometheusClient,
    panels: Sequence[OpenPanel],
    begun: int,
    at: float,
    beside: Mapping[str, str],
) -> LiveEnds:
    texts = {name: text for one in panels for name, text in one.texts(at - begun).items()}
    answer = await client.query(union(_LABEL, {**texts, **beside}), at=at)
    if answer.warnings:
        return LiveEnds(at, warnings=answer.warnings)
    names = [one.panel.id for one in panels]
    given = parts_of(_LABEL, ((one.labels, one.value) for one in answer.samples))
    found = {name: tuple(given.get(name, ())) for name in (*names, *beside)}
    so_far = {name: tuple(given.get(name + _SO_FAR, ())) for name in names}
    # NaN is a sample, too.
    for name in names:
        found[name] = tuple(
            (labels, value if math.isfinite(value) else UNDEFINED) for labels, value in found[name]
        )
    return LiveEnds(at, found, so_far)
