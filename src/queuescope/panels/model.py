"""Dashboards, panels, measures, and what else a panel file holds."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from queuescope.health import Limits
from queuescope.panels.layout import Rows
from queuescope.panels.native import native_metrics
from queuescope.panels.template import Resolution

_RATE_WINDOW = re.compile(r"\$\{?window\b")

RANKED_QUANTILE = 0.95
"""The quantile that a latency breakdown shows and ranks by, and that “now” shows."""


class Kind(StrEnum):
    """How values behave: it decides the axis, the direction of “worst” and how points are read."""

    COUNT = "count"
    PERCENT = "percent"
    LATENCY = "latency"


class PanelRole(StrEnum):
    """What a panel is for. At most one panel of a dashboard has each role but ``NONE``."""

    DEPTH = "depth"
    SUCCESS = "success"
    LATENCY = "latency"
    WORKERS = "workers"
    THROUGHPUT = "throughput"
    OLDEST = "oldest"
    NONE = "none"

    @property
    def kind(self) -> Kind | None:
        """How the values of a panel with this role behave; None: in any way."""
        return _KINDS.get(self)


_KINDS = {
    PanelRole.DEPTH: Kind.COUNT,
    PanelRole.SUCCESS: Kind.PERCENT,
    PanelRole.LATENCY: Kind.LATENCY,
    PanelRole.WORKERS: Kind.COUNT,
    PanelRole.THROUGHPUT: Kind.COUNT,
    PanelRole.OLDEST: Kind.LATENCY,
}


@dataclass(frozen=True, slots=True)
class Threshold:
    """A limit in the panel's unit, drawn as a line."""

    value: float
    label: str


@dataclass(frozen=True, slots=True)
class Panel:
    """One chart: a query template and how its answer is to be read.

    ``query`` gives, for every step, the numbers that are drawn; ``now`` is the instant query of
    the present value. With ``quantiles`` the answer holds histogram buckets (label ``le``,
    seconds), of which the quantiles are computed and scaled by ``scale``, and quantiles of native
    histograms (label ``quantile``). ``point`` says in words what one point is, ``{step}`` standing
    for ``point_seconds``; ``breakdowns`` are the labels it can be split by; ``metrics`` are the
    names that it reads; ``role`` is what it is for.
    """

    id: str
    title: str
    kind: Kind
    unit: str
    query: str
    now: str
    point: str
    metrics: tuple[str, ...]
    role: PanelRole = PanelRole.NONE
    breakdowns: tuple[str, ...] = ()
    thresholds: tuple[Threshold, ...] = ()
    quantiles: tuple[float, ...] = ()
    scale: float = 1.0

    @property
    def all_metrics(self) -> tuple[str, ...]:
        """``metrics``, and what their native histograms are called."""
        return (*self.metrics, *(native_metrics(self.metrics) if self.quantiles else ()))

    def point_seconds(self, resolution: Resolution) -> int:
        """Over how long one point is measured, at that resolution."""
        is_rate = _RATE_WINDOW.search(self.query) is not None
        return resolution.point_seconds if is_rate else resolution.step_seconds

    @property
    def up_is_bad(self) -> bool:
        return self.kind is not Kind.PERCENT


@dataclass(frozen=True, slots=True)
class Share:
    """A share of the last day, in percent, added up from its steps, which stay as they are once
    they are past: so only the newest of them is read with a refresh.

    ``query`` gives rates per second within each step by a label; the series that have ``label``
    with ``value`` are counted among all of them.
    """

    query: str
    label: str
    value: str


@dataclass(frozen=True, slots=True)
class Measure:
    """One present figure, on its card and, where it has limits, as a rule of the health verdict.

    ``panel`` shows how the figure got there: its answer (of panels with quantiles the
    ``RANKED_QUANTILE``) is the card's history, and its present value is what the card shows and
    what is judged. ``now`` is what the card tells beside it under the name ``note``, where that is
    something else; ``share`` is a cheaper way to the same where that is the share of something in
    a whole day. ``limits`` are in the panel's unit. ``on_page`` says that the panel is one of the
    charts.
    """

    id: str
    panel: Panel
    title: str
    now: str
    limits: Limits | None = None
    note: str = ""
    on_page: bool = False
    share: Share | None = None

    @property
    def is_rate(self) -> bool:
        """Whether it counts jobs over the last minutes."""
        return self.panel.role is PanelRole.THROUGHPUT

    @property
    def has_beside(self) -> bool:
        """Whether the card tells one more figure beside its own."""
        return bool(self.note) and self.now != self.panel.now


@dataclass(frozen=True, slots=True)
class Flow:
    """What goes through the queue, in jobs per second over the last ``window_seconds``.

    ``completion`` are the jobs that left for good. Over a range, ``waiting`` is the depth at each
    step and ``completed`` the rate of those jobs within it; empty: the file does not say.
    """

    completion: str
    window_seconds: int
    waiting: str = ""
    completed: str = ""

    @property
    def has_history(self) -> bool:
        return bool(self.waiting and self.completed)


@dataclass(frozen=True, slots=True)
class PerWorker:
    """What is asked of one worker. ``throughput`` gives the attempts that it ended within each
    step, per second; ``$worker`` stands there for its name as a string of PromQL.
    """

    throughput: str


@dataclass(frozen=True, slots=True)
class EndedJobs:
    """What jobs come to, asked for once for both figures of now that follow from it: the success
    rate, which is the share of the series that have ``label`` with ``value``, and the throughput.

    ``now`` gives jobs per second by that label over the last minutes. Where it gives nothing the
    figures are asked for as their own ``now`` says.
    """

    now: str
    label: str
    value: str


@dataclass(frozen=True, slots=True)
class Dashboard:
    """Panels and measures in the order in which they stand in the file.

    ``rows`` are the ids of the panels that stand side by side on the page, from the top.
    ``replica_labels`` tell apart what several Prometheus servers scraped of one target; the
    queries count it once.
    """

    name: str
    title: str
    panels: tuple[Panel, ...]
    rows: Rows
    measures: tuple[Measure, ...] = ()
    flow: Flow | None = None
    per_worker: PerWorker | None = None
    ended: EndedJobs | None = None
    replica_labels: tuple[str, ...] = ()

    @property
    def all_panels(self) -> tuple[Panel, ...]:
        """The charts' panels and those of the measures, of which some are charts as well."""
        return (*self.panels, *(measure.panel for measure in self.measures))

    @property
    def breakdowns(self) -> tuple[str, ...]:
        """Every label that at least one panel can be split by, in order of first mention."""
        return tuple(dict.fromkeys(label for panel in self.panels for label in panel.breakdowns))
