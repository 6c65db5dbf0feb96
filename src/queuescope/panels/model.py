"""Dashboards, panels, measures, and the other tables of a panel file."""

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
"""The quantile that a latency breakdown shows and ranks by, and the present value of latency
panels.
"""


class Kind(StrEnum):
    """The kind of a panel's values: it decides the axis, which values are worst, and the format."""

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
        """The kind that a panel with this role must have; None for any."""
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
    """One chart: a query template, and how to interpret its answer.

    ``query`` returns the numbers to draw for every step; ``now`` is the instant query for the
    present value. With ``quantiles`` the answer holds histogram buckets (label ``le``, seconds),
    from which the quantiles are computed and multiplied by ``scale``, and quantiles of native
    histograms (label ``quantile``). ``point`` describes one point in words, with ``{step}`` for
    ``point_seconds``; ``breakdowns`` are the labels that it can be split by; ``metrics`` are the
    metrics that it reads; ``role`` is its purpose.
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
        """``metrics``, and the names of their native histograms."""
        return (*self.metrics, *(native_metrics(self.metrics) if self.quantiles else ()))

    def point_seconds(self, resolution: Resolution) -> int:
        """The window in seconds that one point measures, at that resolution."""
        is_rate = _RATE_WINDOW.search(self.query) is not None
        return resolution.point_seconds if is_rate else resolution.step_seconds

    @property
    def up_is_bad(self) -> bool:
        return self.kind is not Kind.PERCENT


@dataclass(frozen=True, slots=True)
class Share:
    """A share of the last day, in percent, summed from its steps. Past steps do not change, so a
    refresh reads only the newest one.

    ``query`` returns rates per second within each step by a label; the share is that of the series
    that have ``label`` with ``value``.
    """

    query: str
    label: str
    value: str


@dataclass(frozen=True, slots=True)
class Measure:
    """One present figure, on its card and, if it has limits, as a rule of the health verdict.

    ``panel`` provides the card's history (for panels with quantiles, the ``RANKED_QUANTILE``) and
    the present value, which is shown and judged. ``now``, if it differs, is the query for a second
    figure on the card, named ``note``; ``share`` is a cheaper way to compute that if it is a share
    of the last day. ``limits`` are in the panel's unit. ``on_page`` says that the panel is one of
    the charts.
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
        """Whether it is a rate of jobs over the last minutes."""
        return self.panel.role is PanelRole.THROUGHPUT

    @property
    def has_beside(self) -> bool:
        """Whether the card shows a second figure."""
        return bool(self.note) and self.now != self.panel.now


@dataclass(frozen=True, slots=True)
class Flow:
    """The flow through the queue, in jobs per second over the last ``window_seconds``.

    ``completion`` is the rate of jobs that left the queue for good. Over a range, ``waiting`` is
    the depth at each step and ``completed`` that rate within it; both are empty if the file lacks
    them.
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
    """The queries about one worker. ``throughput`` returns the attempts that it ended within each
    step, per second; ``$worker`` is its name as a PromQL string.
    """

    throughput: str


@dataclass(frozen=True, slots=True)
class EndedJobs:
    """The rate of ended jobs by result, fetched once for two present values: the success rate,
    which is the share of the series that have ``label`` with ``value``, and the throughput.

    ``now`` returns jobs per second by that label over the last minutes. If it has no data, the
    ``now`` of the panels is queried instead.
    """

    now: str
    label: str
    value: str


@dataclass(frozen=True, slots=True)
class Dashboard:
    """Panels and measures in the order of the file.

    ``rows`` are the ids of the panels in each row of the page, from the top. ``replica_labels``
    distinguish the series that several Prometheus servers scraped from one target; the queries
    count them once.
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
        """The panels of the charts and of the measures; some are both."""
        return (*self.panels, *(measure.panel for measure in self.measures))

    @property
    def breakdowns(self) -> tuple[str, ...]:
        """All labels that at least one panel can be split by, in order of first appearance."""
        return tuple(dict.fromkeys(label for panel in self.panels for label in panel.breakdowns))
