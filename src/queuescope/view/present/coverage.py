"""How far back the job counters reach without a gap, so that a present rate uses a window that has
data: ``rate()`` divides by its whole window, even if most of it is empty.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from queuescope.panels import Dashboard
from queuescope.panels.template import RECENT_SECONDS
from queuescope.view.present.present_value import PresentValue
from queuescope.view.present.queries import PresentQuery
from queuescope.view.source.scrapes import Scrapes

_CHECKED_SECONDS = 300.0
_FLOW_SECONDS = 600
# A scrape lost at the start of a window does not make the history short.
_SLACK_SCRAPES = 2.5


class Coverage:
    """Remembers when the counters began, if that was within the last minutes.

    This is fetched with the present values, every five minutes and whenever counters reappear, so
    that neither a first start nor a return after a gap is missed.
    """

    def __init__(self, dashboard: Dashboard, clock: Callable[[], float]) -> None:
        metrics = [m.panel.metrics[0] for m in dashboard.measures if m.is_rate]
        self._metric = metrics[0] if metrics else None
        flow = dashboard.flow
        self._windows = {
            "coverage:recent": float(RECENT_SECONDS),
            "coverage:flow": float(_FLOW_SECONDS if flow is None else flow.window_seconds),
        }
        self._clock = clock
        self._began: float | None = None
        self._lacking = True
        self._checked_at = float("-inf")

    def queries(self, scrapes: Scrapes, now: float) -> tuple[PresentQuery, ...]:
        """The queries as of ``now`` (source time) for the oldest sample in each window; none if
        they were fetched recently.
        """
        if 0 <= self._clock() - self._checked_at < _CHECKED_SECONDS:
            return ()
        return self.queries_now(scrapes, now)

    def queries_now(self, scrapes: Scrapes, now: float) -> tuple[PresentQuery, ...]:
        """The same, however recently they were fetched."""
        if self._metric is None:
            return ()
        every = max(1, scrapes.of([self._metric]).fastest_seconds // 2)
        seen = f"timestamp({self._metric}{{$matchers}})"
        return tuple(
            PresentQuery(
                name,
                None,
                # A plain selector also finds samples from before the window.
                f"min(min_over_time(({seen} > {now - seconds:.3f})[{round(seconds)}s:{every}s]))",
            )
            for name, seconds in self._windows.items()
        )

    def learn(self, found: dict[str, PresentValue], scrapes: Scrapes, at: float) -> bool:
        """Take the answers to ``queries`` out of ``found``, which is as of ``at``.

        Returns True if rates that were fetched together with them used a window without data.
        """
        answers = {name: found.pop(name) for name in self._windows if name in found}
        if not answers:
            # It could not be answered; do not ask again with every refresh.
            self._checked_at = self._clock()
            return False
        before = self._began
        self._began = None
        slack = _SLACK_SCRAPES * scrapes.of([self._metric or ""]).slowest_seconds
        for name, seconds in self._windows.items():
            oldest = answers[name].value if name in answers else None
            if self._began is None and oldest is not None and oldest > at - seconds + slack:
                self._began = oldest
        self._lacking = all(one.value is None for one in answers.values())
        self._checked_at = self._clock()
        return self._began != before

    def is_back(self, rate: PresentValue) -> bool:
        """Whether counters have reappeared; ``rate`` is the newest rate."""
        was_lacking = self._lacking
        if rate.value is None and not rate.cause:
            self._lacking = True
        return was_lacking and rate.value is not None

    def covered(self, now: float, window_seconds: float) -> float:
        """The length of the window that a rate uses at ``now`` (source time), in seconds."""
        began = self._began
        return window_seconds if began is None else max(0.0, min(window_seconds, now - began))

    def is_young(self, now: float, window_seconds: float) -> bool:
        return self.covered(now, window_seconds) < window_seconds

    def narrowed(self, scrapes: Scrapes, now: float) -> Scrapes:
        """``scrapes`` with windows cut to the time that has data."""
        recent, flow = self._windows.values()
        return replace(
            scrapes,
            recent_seconds=self._within(recent, now),
            flow_seconds=self._within(flow, now),
        )

    def _within(self, window_seconds: float, now: float) -> float | None:
        if not self.is_young(now, window_seconds):
            return None
        # Never 0, which would mean the whole window.
        return max(1.0, self.covered(now, window_seconds))
