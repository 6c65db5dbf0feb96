"""The samples that every contender shows: eight days of a small platform, one every 15 seconds."""

from __future__ import annotations

import numpy as np
from tests.real_prometheus import Samples

SCRAPE_SECONDS = 15
_DAY_SECONDS = 86_400
_TENANTS = ("acme", "globex", "initech")
_QUEUES = ("default", "priority")
_BOUNDS = (0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600, float("inf"))
_FAILURE_RATIO = 0.02


def platform_samples(now: float, *, days: int = 8, ahead_seconds: int = 4 * 3600) -> Samples:
    """Series by their text. They continue after ``now``, so that a long run always has samples."""
    random = np.random.default_rng(3)
    first = int(now - days * _DAY_SECONDS) // SCRAPE_SECONDS * SCRAPE_SECONDS
    at = np.arange(first, int(now) + ahead_seconds, SCRAPE_SECONDS, dtype=float)
    wave = np.sin(at / _DAY_SECONDS * 2 * np.pi)
    series: dict[str, tuple[object, object]] = {}
    for queue in _QUEUES:
        depth = np.maximum(0, np.round(12 + 10 * wave + random.normal(0, 3, len(at))))
        depth[random.integers(0, len(at), 20)] = 500
        series[f'ai_agents_queue_depth{{queue="{queue}"}}'] = (at, depth)
    for tenant in _TENANTS:
        rate = np.minimum(100, 98 + random.normal(0, 0.7, len(at)))
        series[f'ai_agents_enhancement_success_rate{{tenant="{tenant}"}}'] = (at, rate)
    jobs = {tenant: random.poisson(1.2, len(at)) for tenant in _TENANTS}
    for tenant, finished in jobs.items():
        failed = random.binomial(finished, _FAILURE_RATIO)
        for outcome, number in (("succeeded", finished - failed), ("failed", failed)):
            labels = f'{{tenant="{tenant}",outcome="{outcome}"}}'
            series[f"ai_agents_enhancement_jobs_total{labels}"] = (at, np.cumsum(number))
    for tenant, finished in jobs.items():
        scrape = np.repeat(np.arange(len(at)), finished)
        seconds = random.lognormal(2 + 0.5 * wave[scrape], 0.8)
        for bound in _BOUNDS:
            below = np.bincount(scrape[seconds <= bound], minlength=len(at))
            le = "+Inf" if bound == float("inf") else str(bound)
            labels = f'{{tenant="{tenant}",le="{le}"}}'
            name = f"ai_agents_enhancement_latency_seconds_bucket{labels}"
            series[name] = (at, np.cumsum(below))
    return series  # type: ignore[return-value]
