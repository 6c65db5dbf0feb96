"""How the metrics of a source are scraped, and the resolution to render query templates with.

The metrics of one template may be scraped at different intervals: windows must hold enough samples
of the slowest target, while peaks must be found in those of the fastest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from queuescope.errors import ConfigurationError
from queuescope.figures import duration_words, step_words
from queuescope.panels import Dashboard, Resolution, render
from queuescope.panels.template import LOOKBACK_DELTA_SECONDS
from queuescope.prometheus import promql

_LOOKBACK_SCRAPES = 5
"""How many intervals of the slowest target a plain selector has to cover."""
_ANY = Resolution(60, 60)


@dataclass(frozen=True, slots=True)
class Scrape:
    """The shortest and the longest interval among the targets of a metric, in whole seconds;
    ``phase_seconds``: see ``panels.Resolution``.
    """

    fastest_seconds: int
    slowest_seconds: int
    phase_seconds: float | None = None

    @property
    def is_mixed(self) -> bool:
        return self.fastest_seconds != self.slowest_seconds

    @property
    def words(self) -> str:
        """``every 15 s``, ``every 15 s to 5 min``."""
        slower = f" to {step_words(self.slowest_seconds)}" if self.is_mixed else ""
        return f"every {step_words(self.fastest_seconds)}{slower}"


def late_words(seconds: float) -> str:
    """A delay in words, in whole minutes unless it is short."""
    return duration_words(round(seconds) if seconds < 120 else 60 * round(seconds / 60))


def ago_words(late_seconds: float) -> str:
    """The age of the newest data because of the delay, in words; empty without a delay."""
    return f"{late_words(late_seconds)} ago" if late_seconds else ""


@dataclass(frozen=True, slots=True)
class Late:
    """How late samples are: all metrics by ``behind_seconds``, and those of ``by_metric`` by that
    much more.

    ``unsettled`` is, by metric, how far before the clock's now samples may still arrive.
    ``undecided`` are metrics for which it is unknown yet whether they are late or have ended.
    """

    behind_seconds: float = 0.0
    by_metric: Mapping[str, float] = field(default_factory=dict)
    unsettled: Mapping[str, float] = field(default_factory=dict)
    undecided: tuple[str, ...] = ()

    def more_seconds(self, metrics: Iterable[str]) -> float:
        """By how much the latest of ``metrics`` is later than ``behind_seconds``."""
        return max((self.by_metric.get(name, 0.0) for name in metrics), default=0.0)

    @property
    def longest_unsettled_seconds(self) -> float:
        """The greatest ``unsettled_seconds`` of all metrics."""
        return self.unsettled_seconds(self.unsettled)

    def unsettled_seconds(self, metrics: Iterable[str]) -> float:
        """How far before the page's now samples of ``metrics`` may still arrive."""
        most = max((self.unsettled.get(name, 0.0) for name in metrics), default=0.0)
        return max(0.0, most - self.behind_seconds)


@dataclass(frozen=True, slots=True)
class Scrapes:
    """How each metric is scraped; ``usual`` is used for a metric that was not measured.

    ``late`` is how late samples arrive. For the others see ``panels.Resolution``.
    """

    usual: Scrape
    by_metric: Mapping[str, Scrape] = field(default_factory=dict)
    left_open: bool = True
    lookback_delta_seconds: int = LOOKBACK_DELTA_SECONDS
    takes_reach: bool = False
    recent_seconds: float | None = None
    flow_seconds: float | None = None
    late: Late = field(default_factory=Late)

    @property
    def fastest_seconds(self) -> int:
        """The shortest interval of all targets."""
        known = self.by_metric.values()
        return min((one.fastest_seconds for one in known), default=self.usual.fastest_seconds)

    def of(self, metrics: Iterable[str]) -> Scrape:
        """How ``metrics`` are scraped, taken together."""
        names = tuple(metrics)
        known = [self.by_metric[name] for name in names if name in self.by_metric]
        if not known:
            return self.usual
        fastest = min(one.fastest_seconds for one in known)
        slowest = max(one.slowest_seconds for one in known)
        # The phase is that of the first metric, whose raw samples the template reads.
        first = self.by_metric.get(names[0]) if fastest == slowest else None
        return Scrape(fastest, slowest, None if first is None else first.phase_seconds)

    def resolution(self, step_seconds: int, metrics: Iterable[str]) -> Resolution:
        """The resolution for a template that reads ``metrics``, in steps of ``step_seconds``."""
        names = tuple(metrics)
        scrape = self.of(names)
        return Resolution(
            step_seconds,
            scrape.slowest_seconds,
            self.left_open,
            scrape.phase_seconds,
            fastest_seconds=scrape.fastest_seconds,
            lookback_delta_seconds=self.lookback_delta_seconds,
            takes_reach=self.takes_reach,
            recent_seconds=self.recent_seconds,
            flow_seconds=self.flow_seconds,
            late_seconds=self.late.more_seconds(names),
            unsettled_seconds=self.late.unsettled_seconds(names),
        )


def lookback_delta_for(slowest_seconds: int) -> int:
    """How long a plain selector has to find a sample, so that a lost scrape of the slowest target
    does not end its series; the usual time if that suffices.
    """
    is_enough = 2 * slowest_seconds < LOOKBACK_DELTA_SECONDS
    return LOOKBACK_DELTA_SECONDS if is_enough else _LOOKBACK_SCRAPES * slowest_seconds


@lru_cache(maxsize=256)
def metrics_of(template: str) -> tuple[str, ...]:
    """The metrics that a query template names, in order; empty if it cannot be parsed."""
    try:
        text = render(template, _ANY, worker='"w"')
        return tuple(dict.fromkeys(name for name, _ in promql.selectors(text)))
    except ConfigurationError:
        return ()


def measured_over(query: str, scrapes: Scrapes) -> float | None:
    """The window in seconds over which the rendered ``query`` measures a present value; None for
    the value of one instant, as of a gauge, or if windows differ.

    A query that falls back on a gauge has no window if its counter was never scraped.
    """
    windows = _rate_windows(query)
    known = scrapes.by_metric
    if known and not any(name in known for name, _ in windows):
        return None
    spans = {seconds for _, seconds in windows}
    return spans.pop() if len(spans) == 1 else None


@lru_cache(maxsize=256)
def _rate_windows(query: str) -> tuple[tuple[str, float], ...]:
    try:
        # For some sources windows are a millisecond shorter.
        return tuple((name, round(span, 2)) for name, span in promql.rate_windows(query))
    except ConfigurationError:
        return ()


def metrics_read(dashboard: Dashboard) -> tuple[str, ...]:
    """All metrics that are read by name, those of the charts first."""
    found = [name for panel in dashboard.all_panels for name in panel.all_metrics]
    flow, worker = dashboard.flow, dashboard.per_worker
    templates = [] if flow is None else [flow.completion, flow.waiting, flow.completed]
    templates += [] if worker is None else [worker.throughput]
    found += [name for template in templates for name in metrics_of(template)]
    return tuple(dict.fromkeys(found))
