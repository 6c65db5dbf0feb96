"""Samples of a queue over nine hours in which it grows, clears and stalls, with a gap."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SCRAPE = 15
Floats = NDArray[np.float64]


class FlowSamples:
    """Two queues and two tenants over nine hours: growing, clearing, stalled, and a gap."""

    def __init__(self, end: int) -> None:
        end = end // SCRAPE * SCRAPE - 7
        rng = np.random.default_rng(30)
        self.times: Floats = np.arange(end - 9 * 3600, end + 1, SCRAPE, dtype=np.float64)
        start = self.times[0]
        self.stall = (int(start + 3 * 3600), int(start + 5 * 3600))
        self.gap = (end - 3 * 3600, end - 3 * 3600 + 1500)
        self.times = self.times[(self.times < self.gap[0]) | (self.times > self.gap[1])]
        hour = ((self.times - self.times[0]) // 3600).astype(int)
        arrives = np.array([0.5, 2.5, 1.0, 0.2, 0.0, 0.3, 2.0, 0.2, 0.5])[np.minimum(hour, 8)]
        ends = np.array([0.6, 1.0, 1.0, 0.0, 0.0, 3.0, 1.0, 3.0, 0.6])[np.minimum(hour, 8)]
        self.depth: Floats = np.zeros((2, len(self.times)))
        self.done: Floats = np.zeros((2, len(self.times)))
        waits = 0
        done = np.array([1e6, 2e6])
        for n in range(len(self.times)):
            waits += int(rng.poisson(arrives[n]))
            finished = min(waits, int(rng.poisson(ends[n])))
            waits -= finished
            done = done + np.array([finished // 2, finished - finished // 2])
            self.depth[:, n] = [waits // 3, waits - waits // 3]
            self.done[:, n] = done

    def samples(self, label: str = "") -> dict[str, tuple[Floats, Floats]]:
        """As Prometheus series, each with ``label`` (such as ``scene="flow",``) before its own."""
        found: dict[str, tuple[Floats, Floats]] = {
            f'ai_agents_queue_depth{{{label}queue="{queue}"}}': (self.times, self.depth[row])
            for row, queue in enumerate(("a", "b"))
        }
        for row, outcome in enumerate(("succeeded", "failed")):
            name = f'ai_agents_enhancement_jobs_total{{{label}outcome="{outcome}",tenant="acme"}}'
            found[name] = (self.times, self.done[row])
        # An attempt that is followed by another one has completed nothing.
        retried = f'ai_agents_enhancement_jobs_total{{{label}outcome="retried",tenant="acme"}}'
        found[retried] = (self.times, np.arange(len(self.times), dtype=np.float64))
        return found

    def waiting(self, at: float) -> float:
        """The last sample within four and a half scrapes; NaN if there was none."""
        row = int(np.searchsorted(self.times, at, side="right")) - 1
        if row < 0 or at - self.times[row] >= 4.5 * SCRAPE:
            return float("nan")
        return float(self.depth[:, row].sum())

    def completed(self, at: float, step: int) -> float:
        """Jobs per second between the first and the last scrape of the rate's window."""
        window = max(step + SCRAPE, 4 * SCRAPE)
        inside = (self.times > at - window) & (self.times <= at)
        if inside.sum() < 2:
            return float("nan")
        times, done = self.times[inside], self.done[:, inside].sum(axis=0)
        return float((done[-1] - done[0]) / (times[-1] - times[0]))
