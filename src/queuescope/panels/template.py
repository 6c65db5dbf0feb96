"""Query templates: their placeholders, and how they are rendered."""

from __future__ import annotations

from dataclasses import dataclass
from string import Template

from queuescope.prometheus.promql import label_text

PLACEHOLDERS = frozenset(
    {"matchers", "by", "le_by", "step", "fine", "shift", "coarse", "window", "recent"}
    | {"lookback", "alive", "reach", "ten_minutes"}
)
"""The placeholders of a query template, each written as ``$name``; see ``Resolution``."""

LOOKBACK_DELTA_SECONDS = 300
"""How long a plain selector finds a sample, by the default of Prometheus."""

_TEN_MINUTES = 600

RECENT_SECONDS = 300
"""The window of a present value that a single sample cannot give (rates, quantiles)."""


@dataclass(frozen=True, slots=True)
class Resolution:
    """The durations that a query template is rendered with, all in seconds.

    ``left_open`` says that the source excludes a range selector's left end (Prometheus 3,
    VictoriaMetrics). Prometheus 2 includes it, so there windows are shortened by a millisecond: a
    sample exactly on a grid point is then read in one step only.

    ``phase_seconds``, more than 0 and at most the scrape interval, is how long after a multiple of
    the interval samples are taken; None if unknown, or different among targets.

    With ``open_seconds`` the query is for an open step that began that long ago: windows over the
    step cover only this part of it.

    If targets are scraped at several intervals, ``scrape_interval_seconds`` is that of the slowest
    one, which windows and lookback must fit, and ``fastest_seconds`` that of the fastest, none of
    whose samples may be missed. ``lookback_delta_seconds`` is how long a plain selector finds a
    sample; with ``takes_reach`` each selector sets that itself.

    ``recent_seconds`` and ``flow_seconds`` shorten the windows of present values and of the flow if
    there is no more data than that.

    ``late_seconds`` is how long before the page's now the newest samples are, because they arrive
    late; ``unsettled_seconds`` is how far before it more samples may still arrive.
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
        """The step plus the sample before it, and at least four scrapes.

        ``rate()`` needs two samples and must survive a lost one.
        """
        scrape = self.scrape_interval_seconds
        return max(self.step_seconds + scrape, 4 * scrape)

    @property
    def point_seconds(self) -> int:
        """What a point of a rate measures: its step, or four scrapes if these are longer than the
        step and the scrape before it.
        """
        is_widened = self.rate_window_seconds > self.step_seconds + self.scrape_interval_seconds
        return self.rate_window_seconds if is_widened else self.step_seconds

    @property
    def lookback_seconds(self) -> int:
        """How long a gauge's sample is valid: one lost scrape is not a gap, more are."""
        return max(self.scrape_interval_seconds * 9 // 2, 1)

    @property
    def ends_are_seen(self) -> bool:
        """Whether a plain selector covers a lost scrape, so that a series that it does not find has
        ended.

        With slower scrapes this is unknown: a lost scrape looks like the end of a series.
        """
        return 2 * self.scrape_interval_seconds < self.lookback_delta_seconds

    @property
    def newest_after_seconds(self) -> int:
        """How soon after a step its last samples have arrived: with a known phase they are read
        half an interval later; otherwise they were scraped before it ended.
        """
        return self.fastest_seconds or self.scrape_interval_seconds

    def _sampling(self) -> tuple[str, str]:
        """The resolution of a subquery over raw samples, and the offset of its selector.

        With a known phase each sample is read once, halfway to the next one, so that jitter cannot
        hide it and it does not count in the step after its own. Otherwise the subquery reads twice
        in each interval.
        """
        scrape = self.scrape_interval_seconds
        # A subquery coarser than the step would leave steps without a point.
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
            # A subquery coarser than the step would leave steps without a point.
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


def render(
    template: str,
    resolution: Resolution,
    matchers: str = "",
    by: str | None = None,
    *,
    worker: str = "",
) -> str:
    """``template`` as PromQL. ``matchers`` is rendered PromQL, ``by`` the label to break down by;
    ``worker`` is a worker's name as a PromQL string with its quotation marks.
    """
    return Template(template).substitute(
        resolution.placeholders(),
        matchers=matchers,
        by=f" by ({label_text(by)}) " if by else "",
        le_by=f" by (le, {label_text(by)}) " if by else " by (le) ",
        worker=worker,
    )
