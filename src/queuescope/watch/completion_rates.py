"""Computes how many attempts a minute each worker ends, from the reports of the last minutes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from queuescope.broker.reports import WorkerReport

WINDOW_SECONDS = 300.0
"""The longest time over which a rate is computed."""
SHORTEST_SECONDS = 20.0
"""The shortest time over which a rate is computed."""
_SAMPLE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class CompletionRate:
    """How many attempts a minute ended, within the last ``over_seconds``."""

    per_minute: float
    over_seconds: float


class CompletionRates:
    """Keeps the recent counts of workers. Belongs to one thread."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], deque[tuple[float, int]]] = {}

    def add(self, reports: Iterable[WorkerReport]) -> dict[tuple[str, str], CompletionRate]:
        """Add ``reports``; returns the known rates by worker and ``boot_id``.

        All times are by each worker's own clock. Each run of a worker is counted separately.
        """
        runs = {(report.worker, report.boot_id): report for report in reports}
        self._seen = {run: self._seen.get(run, deque()) for run in runs}
        rates = {}
        for run, report in runs.items():
            samples = self._seen[run]
            if samples and report.clock_at < samples[-1][0]:
                samples.clear()
            first = samples[0] if samples else None
            if first is not None:
                seconds = report.clock_at - first[0]
                if seconds >= SHORTEST_SECONDS:
                    ended = max(0, report.processed - first[1])
                    rates[run] = CompletionRate(60 * ended / seconds, seconds)
            if not samples or report.clock_at - samples[-1][0] >= _SAMPLE_SECONDS:
                samples.append((report.clock_at, report.processed))
            while len(samples) > 1 and samples[1][0] <= report.clock_at - WINDOW_SECONDS:
                samples.popleft()
        return rates
