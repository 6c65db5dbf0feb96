"""Dashboards, panels, thresholds, and the rendering of a panel's query template."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from string import Template

from queuescope.health import Limits
from queuescope.panels.native import native_metrics
from queuescope.prometheus.names import label_text

PLACEHOLDERS = frozenset(
    {"matchers", "by", "le_by", "step", "fine", "shift", "coarse", "window", "recent"}
    | {"lookback", "alive", "reach", "ten_minutes"}
)
"""What a query template may hold, each written as ``$name``; see ``Resolution``."""

LOOKBACK_DELTA_SECONDS = 300
"""How long a plain selector finds a sample, as Prometheus is set up by default."""

_TEN_MINUTES = 600
_RATE_WINDOW = re.compile(r"\$\{?window\b")

RECENT_SECONDS = 300
"""The span that “now” is read over where a single sample says nothing (rates, quantiles)."""

RANKED_QUANTILE = 0.95
"""The quantile that a latency breakdown shows and ranks by, and that “now” shows."""


class Kind(StrEnum):
    """How values behave: it decides the axis, the direction of “worst” and how points are read."""

    COUNT = "count"
    PERCENT = "percent"
    LATENCY = "latency"


@dataclass(frozen=True, slots=True)
class Threshold:
    """A limit in the panel's unit, drawn as a line."""

    value: float
    label: str


@dataclass(frozen=True, slots=True)
class Resolution:
    """The durations that a query template is rendered with, all in seconds.

    ``left_open`` says that the source leaves out a range selector's left end (Prometheus 3,
    VictoriaMetrics). Prometheus 2 includes it, so there the windows are shortened by a
    millisecond: a sample that stands exactly on a grid point is then read in one step only.

    ``phase_seconds``, more than 0 and at most the scrape interval, is how far after a multiple of
    the interval the samples stand; None: not known, or different among targets.

    With ``open_seconds`` the query is asked of a step that is still open, so long after it began:
    what covers the step covers only this part of it.

    Where targets are scraped at several intervals, ``scrape_interval_seconds`` is that of the
    slowest one, which windows and lookback must fit, and ``fastest_seconds`` that of the fastest,
    none of whose samples may be missed. ``lookback_delta_seconds`` is how long a plain selector
    finds a sample; with ``takes_reach`` each selector says so itself.

    ``recent_seconds`` and ``flow_seconds`` shorten the spans that “now”, and what goes through the
    queue, are read over, where there is no more than that.

    ``late_seconds`` is how much later than the page's now the samples arrive, and
    ``unsettled_seconds`` for how long before it some may still come.
    """

    step_seconds: int
    scrape_interval_seconds: int
    left_open: bool = True
    phase_seconds: float | None = None
    open_seconds: float | None = None
    fastest_seconds: int | None = None
    lookback_delta_seconds: int = LOOKBACK_DELTA_SECONDS
    recent_seconds: float | None = None
    flow_seconds: float | None = None
    takes_reach: bool = False
    late_seconds: float = 0.0
    unsettled_seconds: float = 0.0

    def window(self, seconds: float) -> str:
        milliseconds = round(seconds * 1000)
        if self.left_open:
            whole = milliseconds % 1000 == 0
            return f"{milliseconds // 1000}s" if whole else f"{milliseconds}ms"
        return f"{max(1, milliseconds - 1)}ms"

    @property
    def rate_window_seconds(self) -> int:
        """Covers the step with the sample before it, and never fewer than four scrapes.

        ``rate()`` needs two samples and must survive a lost one.
        """
        scrape = self.scrape_interval_seconds
        return max(self.step_seconds + scrape, 4 * scrape)

    @property
    def point_seconds(self) -> int:
        """What a point of a rate stands for: its step, or the four scrapes that it is read over at
        least, where these are longer than the step and the scrape before it.
        """
        is_widened = self.rate_window_seconds > self.step_seconds + self.scrape_interval_seconds
        return self.rate_window_seconds if is_widened else self.step_seconds

    @property
    def lookback_seconds(self) -> int:
        """How long a gauge's sample speaks for its series: one lost scrape is no gap, more are."""
        return max(self.scrape_interval_seconds * 9 // 2, 1)

    @property
    def ends_are_seen(self) -> bool:
        """Whether a plain selector bridges a lost scrape, so that what it does not find has ended.

        Of slower scrapes it cannot be told: their silence is as long as that of a series' end.
        """
        return 2 * self.scrape_interval_seconds < self.lookback_delta_seconds

    @property
    def newest_after_seconds(self) -> int:
        """How soon after a step its last samples are there: those of a known phase are read half
        an interval later, and all others were scraped before it ended.
        """
        return self.fastest_seconds or self.scrape_interval_seconds

    def _sampling(self) -> tuple[str, str]:
        """The resolution of a subquery over raw samples, and the offset of what it reads.

        Where the phase is known each sample is read once, halfway to the next one, so that no
        jitter of the scrapes can hide it and none is counted in the step after its own. Else the
        subquery looks twice within an interval.
        """
        scrape = self.scrape_interval_seconds
        # A subquery that is coarser than the step would leave steps without a point.
        if self.phase_seconds is None or scrape > self.step_seconds:
            often = (self.fastest_seconds or scrape) // 2
            return f"{max(1, min(often, self.step_seconds))}s", ""
        offset_ms = round(scrape * 500 - self.phase_seconds * 1000)
        return f"{scrape}s", f" offset {offset_ms}ms"

    def placeholders(self) -> dict[str, str]:
        scrape = self.scrape_interval_seconds
        dip = min(self.rate_window_seconds, max(RECENT_SECONDS, 4 * scrape))
        flow = max(_TEN_MINUTES, 4 * scrape)
        fine, shift = self._sampling()
        covered = self.step_seconds if self.open_seconds is None else self.open_seconds
        return {
            "step": self.window(covered),
            "fine": fine,
            "shift": shift,
            # A subquery that is coarser than the step would leave steps without a point.
            "coarse": f"{min(60 if dip >= 120 else max(1, scrape), self.step_seconds)}s",
            "window": self.window(max(covered + scrape, 4 * scrape)),
            "recent": self.window(min(dip, self.recent_seconds or dip)),
            "ten_minutes": self.window(min(flow, self.flow_seconds or flow)),
            "lookback": f"{self.lookback_seconds}s",
            # `last_over_time(x[$lookback]) $alive x`: "or" leaves the left side as it is, because
            # a plain selector finds nothing that the longer lookback does not.
            "alive": "and" if self.ends_are_seen else "or",
            "reach": f"[{self.lookback_delta_seconds}s]" if self.takes_reach else "",
        }


@dataclass(frozen=True, slots=True)
class Panel:
    """One chart: a query template and how its answer is to be read.

    ``query`` gives, for every step, the numbers that are drawn; ``now`` is the instant query of
    the present value. With ``quantiles`` the answer holds histogram buckets (label ``le``,
    seconds), of which the quantiles are computed and scaled by ``scale``, and quantiles of native
    histograms (label ``quantile``). ``point`` says in words what one point is, ``{step}`` standing
    for ``point_seconds``; ``breakdowns`` are the labels it can be split by; ``metrics`` are the
    names that it reads.
    """

    id: str
    title: str
    kind: Kind
    unit: str
    query: str
    now: str
    point: str
    metrics: tuple[str, ...]
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

    def render(self, template: str, resolution: Resolution, matchers: str, by: str | None) -> str:
        """Fill in ``template``; ``matchers`` is rendered PromQL, ``by`` an allowed label."""
        if by is not None and by not in self.breakdowns:
            raise ValueError(f"panel {self.id} cannot be broken down by {by!r}")
        return Template(template).substitute(
            resolution.placeholders(),
            matchers=matchers,
            by=f" by ({label_text(by)}) " if by else "",
            le_by=f" by (le, {label_text(by)}) " if by else " by (le) ",
        )


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
        return self.id == "throughput"

    @property
    def has_beside(self) -> bool:
        """Whether the card tells one more figure beside its own."""
        return bool(self.note) and self.now != self.panel.now

    @property
    def id(self) -> str:
        return "p95_latency" if self.panel.id == "latency" else self.panel.id


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

    def render_throughput(self, resolution: Resolution, matchers: str, worker: str) -> str:
        """``matchers`` is rendered PromQL, and so is ``worker``, quotation marks included."""
        return Template(self.throughput).substitute(
            resolution.placeholders(), matchers=matchers, by="", le_by="", worker=worker
        )


@dataclass(frozen=True, slots=True)
class Ended:
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
    """Panels and measures in the order in which they stand.

    ``replica_labels`` tell apart what several Prometheus servers scraped of one target; the
    queries count it once.
    """

    name: str
    title: str
    panels: tuple[Panel, ...]
    measures: tuple[Measure, ...] = ()
    flow: Flow | None = None
    per_worker: PerWorker | None = None
    ended: Ended | None = None
    replica_labels: tuple[str, ...] = ()

    @property
    def all_panels(self) -> tuple[Panel, ...]:
        """The charts' panels and those of the measures, of which some are charts as well."""
        return (*self.panels, *(measure.panel for measure in self.measures))

    @property
    def breakdowns(self) -> tuple[str, ...]:
        """Every label that at least one panel can be split by, in order of first mention."""
        return tuple(dict.fromkeys(label for panel in self.panels for label in panel.breakdowns))
