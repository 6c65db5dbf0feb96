"""How many attempts a minute each worker ends, from the reports of the last minutes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from queuescope.broker.reports import WorkerReport

WINDOW_SECONDS = 300.0
"""A rate is over the last so many seconds at most."""
SHORTEST_SECONDS = 20.0
"""Nothing is said of a shorter time."""
_SAMPLE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class CompletionRate:
    """So many attempts a minute came to an end, within the last ``over_seconds``."""

    per_minute: float
    over_seconds: float


class CompletionRates:
    """Remembers what workers reported. Belongs to one thread."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], deque[tuple[float, int]]] = {}

    def take_in(self, reports: Iterable[WorkerReport]) -> dict[tuple[str, str], CompletionRate]:
        """Note ``reports``; returns the rates that are known then, by worker and its life.

        All times are by each worker's own clock. A new life of a worker starts anew.
        """
        reports = tuple(reports)
        lives = {(report.worker, report.boot_id): report for report in reports}
        self._seen = {life: self._seen.get(life, deque()) for life in lives}
        rates = {}
        for life, report in lives.items():
            samples = self._seen[life]
            if samples and report.clock_at < samples[-1][0]:
                samples.clear()
            first = samples[0] if samples else None
            if first is not None:
                seconds = report.clock_at - first[0]
                if seconds >= SHORTEST_SECONDS:
                    ended = max(0, report.processed - first[1])
                    rates[life] = CompletionRate(60 * ended / seconds, seconds)
            if not samples or report.clock_at - samples[-1][0] >= _SAMPLE_SECONDS:
                samples.append((report.clock_at, report.processed))
            while len(samples) > 1 and samples[1][0] <= report.clock_at - WINDOW_SECONDS:
                samples.popleft()
        return rates
