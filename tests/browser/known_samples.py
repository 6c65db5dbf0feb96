"""Samples whose every drawn number is known: made here, and read here, without the product.

The readers of this module (``peak_depth`` and its like) say what a chart must draw at given
timestamps. They look at every scrape within the step and share no code with the product.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SCRAPE_SECONDS = 15
# Samples lie off every grid, so that there is no doubt to which step each belongs.
SCRAPE_OFFSET_SECONDS = 8
# How long a sample that is not followed by another is valid.
SPEAKS_SECONDS = 4 * SCRAPE_SECONDS

BOUNDS = (0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 120.0, float("inf"))
TENANTS = ("acme", "globex")
QUEUES = ("default", "priority")
INSTANCES = ("host-a:9100", "host-b:9100")

HOUR = 3_600
DAY = 86_400


@dataclass(frozen=True, eq=False)
class Platform:
    """Depth, success rate and latency of one platform, scraped at ``times`` (epoch seconds).

    ``depth`` is keyed by (queue, instance), ``success`` by tenant (percent), ``buckets`` by
    tenant: cumulative counts of shape ``(len(BOUNDS), len(times))``.
    """

    times: Floats
    depth: Mapping[tuple[str, str], Floats]
    success: Mapping[str, Floats]
    buckets: Mapping[str, Floats]

    def series(self, scene: str) -> dict[str, tuple[Floats, Floats]]:
        """All of it as Prometheus series with the label ``scene``."""
        found: dict[str, tuple[Floats, Floats]] = {}
        for (queue, instance), values in self.depth.items():
            labels = f'scene="{scene}",queue="{queue}",instance="{instance}"'
            found[f"ai_agents_queue_depth{{{labels}}}"] = (self.times, values)
        for tenant, values in self.success.items():
            labels = f'scene="{scene}",tenant="{tenant}"'
            found[f"ai_agents_enhancement_success_rate{{{labels}}}"] = (self.times, values)
        for tenant, counts in self.buckets.items():
            for bound, values in zip(BOUNDS, counts, strict=True):
                labels = f'scene="{scene}",tenant="{tenant}",le="{bound_text(bound)}"'
                name = "ai_agents_enhancement_latency_seconds_bucket"
                found[f"{name}{{{labels}}}"] = (self.times, values)
        return found


@dataclass(frozen=True)
class Landmarks:
    """When the known platform has something special; epoch seconds."""

    spike: int
    dip: int
    gap: tuple[int, int]
    quiet: tuple[int, int]
    rest: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Jobs:
    """Counters of finished jobs, keyed by (tenant, outcome), scraped at ``times``."""

    times: Floats
    counts: Mapping[tuple[str, str], Floats]

    def series(self, scene: str) -> dict[str, tuple[Floats, Floats]]:
        return {
            f'ai_agents_enhancement_jobs_total{{scene="{scene}",tenant="{tenant}",'
            f'outcome="{outcome}"}}': (self.times, values)
            for (tenant, outcome), values in self.counts.items()
        }


def bound_text(bound: float) -> str:
    return "+Inf" if bound == float("inf") else f"{bound:g}"


def scrape_times(start: float, end: float) -> Floats:
    first = int(start) // SCRAPE_SECONDS * SCRAPE_SECONDS + SCRAPE_OFFSET_SECONDS
    return np.arange(first, end, SCRAPE_SECONDS, dtype=np.float64)


def known_platform(start: float, end: float, now: float) -> tuple[Platform, Landmarks]:
    """A platform with one of each thing that a chart must not lose."""
    rng = np.random.default_rng(20)
    marks = Landmarks(
        spike=int(now - 3.3 * DAY),
        dip=int(now - 2.6 * DAY),
        gap=(int(now - 16 * HOUR), int(now - 16 * HOUR + 45 * 60)),
        quiet=(int(now - 9 * HOUR), int(now - 9 * HOUR + 80 * 60)),
        rest=(int(now - 40 * 60), int(now - 20 * 60)),
    )
    times = scrape_times(start, end)
    times = times[(times < marks.gap[0]) | (times > marks.gap[1])]
    quiet = (times >= marks.quiet[0]) & (times <= marks.quiet[1])

    wave = 12 + 8 * np.sin(times / DAY * 2 * np.pi)
    depth = {}
    for queue in QUEUES:
        for instance in INSTANCES:
            depth[queue, instance] = np.maximum(0, np.round(rng.normal(wave / 4, 2)))
            depth[queue, instance][quiet] = 0
            depth[queue, instance][_one(times, marks.spike)] = 0
    depth["default", "host-b:9100"][_one(times, marks.spike)] = 500

    success = {}
    for number, tenant in enumerate(TENANTS):
        rate = np.clip(np.round(rng.normal(97.5 - number, 0.6, len(times)), 2), 0, 100)
        rate[(times >= marks.dip) & (times < marks.dip + 120)] = 41 + number
        rate[quiet] = np.nan
        if tenant == "globex":
            rate[(times >= marks.rest[0]) & (times <= marks.rest[1])] = np.nan
        success[tenant] = rate

    buckets = {}
    for number, tenant in enumerate(TENANTS):
        finished = rng.poisson(0.9, len(times))
        finished[quiet] = 0
        # More than the samples of the longest window, so that no rate is cut off at zero.
        counts = np.zeros((len(BOUNDS), len(times))) + np.arange(1, len(BOUNDS) + 1)[:, None] * 1e6
        for at in np.flatnonzero(finished):
            seconds = rng.lognormal(1.2 + number * 0.7, 0.9, finished[at])
            counts[:, at] += (seconds[:, None] <= np.array(BOUNDS)).sum(axis=0)
        base = counts - np.arange(1, len(BOUNDS) + 1)[:, None] * 1e6
        buckets[tenant] = np.cumsum(base, axis=1) + np.arange(1, len(BOUNDS) + 1)[:, None] * 1e6
    return Platform(times, depth, success, buckets), marks


def known_jobs(start: float, end: float) -> Jobs:
    """Two tenants of very different size, so that a mean of rates is not the rate of the jobs."""
    rng = np.random.default_rng(21)
    times = scrape_times(start, end)
    per_scrape = {
        ("large", "succeeded"): 9.0,
        ("large", "failed"): 0.4,
        ("small", "succeeded"): 0.2,
        ("small", "failed"): 0.6,
        ("large", "retried"): 3.0,
    }
    counts = {
        key: 1e6 + np.cumsum(rng.poisson(mean, len(times))).astype(np.float64)
        for key, mean in per_scrape.items()
    }
    return Jobs(times, counts)


def _one(times: Floats, moment: float) -> int:
    """The sample that is taken at ``moment``, or next after it."""
    return int(np.searchsorted(times, moment))


# ---- what the charts must draw


def held(times: Floats, values: Floats, at: Floats) -> Floats:
    """The last value at each instant; NaN if there was none recently."""
    newest = np.searchsorted(times, at, side="right") - 1
    known = newest >= 0
    newest = np.maximum(newest, 0)
    known &= at - times[newest] <= SPEAKS_SECONDS
    return np.where(known, values[newest], np.nan)


def peak_depth(
    platform: Platform,
    at: Floats,
    step: int,
    keys: Iterable[tuple[str, str]] | None = None,
) -> Floats:
    """The peak of the sum over the queues within ``(t - step, t]``."""
    chosen = list(platform.depth) if keys is None else list(keys)

    def total(moments: Floats) -> Floats:
        parts = np.array([held(platform.times, platform.depth[key], moments) for key in chosen])
        return np.where(np.isnan(parts).all(axis=0), np.nan, np.nansum(parts, axis=0))

    return _over_steps(total, at, step, np.nanmax)


def lowest_mean_success(platform: Platform, at: Floats, step: int) -> Floats:
    """The lowest of the mean over those tenants who have a rate, within ``(t - step, t]``."""

    def mean(moments: Floats) -> Floats:
        tenants = platform.success.values()
        parts = np.array([held(platform.times, values, moments) for values in tenants])
        some = np.count_nonzero(~np.isnan(parts), axis=0)
        return np.where(some > 0, np.nansum(parts, axis=0) / np.maximum(some, 1), np.nan)

    return _over_steps(mean, at, step, np.nanmin)


def lowest_job_success(jobs: Jobs, at: Floats, step: int) -> Floats:
    """Percent of the jobs that succeeded: the lowest within ``(t - step, t]``.

    Measured over the last five minutes (75 s at steps of a minute), looked at every minute (15 s).
    """
    window, every = (300, 60) if step >= 300 else (75, 15)
    result = []
    for t in at:
        first = (int(t) - step) // every * every + every
        moments = np.arange(first, t + 1, every, dtype=np.float64)
        good = sum(_increase(jobs.times, jobs.counts[k], moments, window) for k in _with(jobs, "s"))
        bad = sum(_increase(jobs.times, jobs.counts[k], moments, window) for k in _with(jobs, "f"))
        result.append(np.min(100 * good / (good + bad)))
    return np.array(result)


def live_depth(
    platform: Platform, begun: float, at: float, keys: Iterable[tuple[str, str]] | None = None
) -> float:
    """The peak of the sum of a step that began at ``begun`` and is still open at ``at``."""
    chosen = list(platform.depth) if keys is None else list(keys)
    moments = _so_far(platform.times, begun, at)
    parts = np.array([held(platform.times, platform.depth[key], moments) for key in chosen])
    return float(np.nanmax(np.nansum(parts, axis=0)))


def live_mean_success(platform: Platform, begun: float, at: float) -> float:
    """The lowest mean over the tenants of a step that is still open at ``at``."""
    moments = _so_far(platform.times, begun, at)
    parts = np.array(
        [held(platform.times, values, moments) for values in platform.success.values()]
    )
    return float(np.nanmin(np.nanmean(parts, axis=0)))


def live_job_success(jobs: Jobs, begun: int, at: float) -> float:
    """The lowest share of the jobs that succeeded, over five minutes, looked at every minute of a
    step of a quarter of an hour or more that is still open at ``at``, and at ``at`` itself.
    """
    moments = np.append(np.arange(begun // 60 * 60 + 60, at, 60.0), at)
    good = sum(_increase(jobs.times, jobs.counts[k], moments, 300) for k in _with(jobs, "s"))
    bad = sum(_increase(jobs.times, jobs.counts[k], moments, 300) for k in _with(jobs, "f"))
    return float(np.min(100 * good / (good + bad)))


def _so_far(times: Floats, begun: float, at: float) -> Floats:
    return np.append(times[(times > begun) & (times <= at)], at)


def _with(jobs: Jobs, initial: str) -> list[tuple[str, str]]:
    return [key for key in jobs.counts if key[1].startswith(initial)]


def latency_ms(
    platform: Platform, at: Floats, step: float, quantile: float, tenants: Iterable[str] = TENANTS
) -> Floats:
    """A quantile of the jobs that finished within the step, in milliseconds."""
    window = max(step + SCRAPE_SECONDS, 4 * SCRAPE_SECONDS)
    rows = [
        sum(_increase(platform.times, platform.buckets[name][row], at, window) for name in tenants)
        for row in range(len(BOUNDS))
    ]
    counts = np.array(rows)
    return np.array([1000 * _quantile(counts[:, n], quantile) for n in range(len(at))])


def _quantile(cumulative: Floats, quantile: float) -> float:
    total = cumulative[-1]
    if not total > 0:
        return float("nan")
    rank = quantile * total
    for number, bound in enumerate(BOUNDS):
        if cumulative[number] >= rank:
            if bound == float("inf"):
                return BOUNDS[number - 1]
            below = cumulative[number - 1] if number else 0.0
            start = BOUNDS[number - 1] if number else 0.0
            return float(start + (bound - start) * (rank - below) / (cumulative[number] - below))
    raise AssertionError("the last bucket holds all")


def _increase(times: Floats, counts: Floats, at: Floats, window: float) -> Floats:
    """Last less first sample within ``(t - window, t]``; NaN with fewer than two samples."""
    first = np.searchsorted(times, at - window, side="right")
    last = np.searchsorted(times, at, side="right") - 1
    enough = last > first
    inside = np.minimum(first, len(times) - 1)
    return np.where(enough, counts[last] - counts[inside], np.nan)


def _over_steps(
    curve: Callable[[Floats], Floats], at: Floats, step: int, pick: Callable[..., Floats]
) -> Floats:
    moments = at[:, None] + np.arange(SCRAPE_SECONDS - step, 1, SCRAPE_SECONDS)[None, :]
    values = curve(moments.ravel()).reshape(moments.shape)
    result = np.full(len(at), np.nan)
    some = ~np.isnan(values).all(axis=1)
    result[some] = pick(values[some], axis=1)
    return result
