"""How far back the counts of jobs reach without a gap, so that a rate of the last minutes is taken
over what there is: ``rate()`` divides by its whole window, were it empty for the most part.
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
# A lost scrape at the beginning of a window is no young history.
_SLACK_SCRAPES = 2.5


class Coverage:
    """Remembers when the counts began, where that was within the last minutes.

    It is fetched beside the present values, every five minutes, and whenever there are counts
    again where there were none: so neither a first start nor the return after a gap is missed.
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
        """What is to be asked as of ``now`` (source time): when the oldest sample of each window
        was taken. Nothing where it was fetched lately.
        """
        if 0 <= self._clock() - self._checked_at < _CHECKED_SECONDS:
            return ()
        return self.queries_now(scrapes, now)

    def queries_now(self, scrapes: Scrapes, now: float) -> tuple[PresentQuery, ...]:
        """The same, however lately it was fetched."""
        if self._metric is None:
            return ()
        every = max(1, scrapes.of([self._metric]).fastest_seconds // 2)
        seen = f"timestamp({self._metric}{{$matchers}})"
        return tuple(
            PresentQuery(
                name,
                None,
                # A plain selector finds what is older than the window, too.
                f"min(min_over_time(({seen} > {now - seconds:.3f})[{round(seconds)}s:{every}s]))",
            )
            for name, seconds in self._windows.items()
        )

    def learn(self, found: dict[str, PresentValue], scrapes: Scrapes, at: float) -> bool:
        """Take the answers to ``queries`` out of ``found``, which are of ``at``.

        True: a rate that was fetched together with them was not over what there is.
        """
        answers = {name: found.pop(name) for name in self._windows if name in found}
        if not answers:
            # It could not be answered, which is no reason to ask with every refresh.
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
        """Whether there are counts again where there were none; ``rate`` is the newest one."""
        was_lacking = self._lacking
        if rate.value is None and not rate.cause:
            self._lacking = True
        return was_lacking and rate.value is not None

    def covered(self, now: float, window_seconds: float) -> float:
        """Over how many seconds up to ``now`` (source time) a rate is taken."""
        began = self._began
        return window_seconds if began is None else max(0.0, min(window_seconds, now - began))

    def is_young(self, now: float, window_seconds: float) -> bool:
        return self.covered(now, window_seconds) < window_seconds

    def narrowed(self, scrapes: Scrapes, now: float) -> Scrapes:
        """``scrapes`` with windows that hold no more than there is."""
        recent, flow = self._windows.values()
        return replace(
            scrapes,
            recent_seconds=self._within(recent, now),
            flow_seconds=self._within(flow, now),
        )

    def _within(self, window_seconds: float, now: float) -> float | None:
        if not self.is_young(now, window_seconds):
            return None
        # Never nothing, which would be the whole window.
        return max(1.0, self.covered(now, window_seconds))
