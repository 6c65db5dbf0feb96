"""Small scenes beside the known platform: hostile names, a platform at rest, many queues."""

from __future__ import annotations

import numpy as np
from tests.browser.known_samples import BOUNDS, DAY, HOUR, Floats, bound_text, scrape_times

HOSTILE = (
    "<img src=x onerror=window.hacked=1>",
    "<script>window.hacked=1</script>",
    "=1+<b>bo\u200bld</b> & <a href='javascript:window.hacked=1'>\u202elink</a>",
    "</script><script>window.hacked=1</script>",
)
CROWD = (*HOSTILE, *(f"tenant-{number:02}" for number in range(8)))
"""Twelve tenants, worst first."""

Series = dict[str, tuple[Floats, Floats]]


def crowded_scene(start: float, end: float) -> Series:
    times = scrape_times(start, end)
    found: Series = {}
    for rank, tenant in enumerate(CROWD):
        labels = f'scene="crowd",tenant="{tenant}"'
        success = f"ai_agents_enhancement_success_rate{{{labels}}}"
        found[success] = (times, np.full_like(times, 50 + rank))
        found[f'ai_agents_queue_depth{{scene="crowd",queue="{tenant}"}}'] = (
            times,
            np.full_like(times, 40 - rank),
        )
        for bound in BOUNDS:
            # All jobs of a tenant fall into one bucket; those of the worst into the slowest.
            reached = bound >= (30 if rank < 4 else 5)
            counts = np.linspace(1e6, 1e6 + len(times) if reached else 1e6, len(times))
            name = "ai_agents_enhancement_latency_seconds_bucket"
            found[f'{name}{{{labels},le="{bound_text(bound)}"}}'] = (times, counts)
    return found


def in_flight_scene(peak: float, end: float) -> Series:
    """Four jobs that run, in two queues; twelve at ``peak`` (epoch seconds) and each half hour
    from there, so that every hour has one however late a test looks."""
    times = scrape_times(peak - HOUR, end)
    found: Series = {}
    for queue, running, most in (("default", 3, 10), ("priority", 1, 2)):
        values = np.where(np.abs((times - peak + 900) % 1800 - 900) < 30, most, running)
        labels = f'scene="known",queue="{queue}"'
        found[f"ai_agents_enhancement_jobs_in_flight{{{labels}}}"] = (times, values)
    return found


def many_queues(start: float, end: float) -> dict[str, tuple[Floats, Floats]]:
    """Restless depths by queue, each once full and empty the next moment, and once not scraped."""
    rng = np.random.default_rng(22)
    times = scrape_times(start, end)
    found = {}
    for number in range(8):
        depth = np.round(rng.normal(60, 5, len(times)))
        moment = len(times) // 2 + 300 * number
        depth[moment - 4 : moment] = 900 + number
        depth[moment : moment + 8] = 1
        scraped = (times < times[moment - 960]) | (times > times[moment - 900])
        found[f"queue-{number}"] = (times[scraped], depth[scraped])
    return found


def changed_scene(now: float, end: float) -> Series:
    """Everything was small yesterday and a week ago and is large now, so that the texts of changes
    are long.
    """
    found: Series = {}
    eras = [
        (0, end, (1_234_567, 50.0, 1800.0, 1_234.0)),
        (DAY, 0, (1_211, 97.7, 68.0, 1.0)),
        (7 * DAY, 0, (998, 98.8, 0.12, 2.0)),
    ]
    parts = []
    for ago, until, figures in eras:
        times = scrape_times(now - ago - HOUR, until or now - ago + HOUR)
        parts.append((times, figures))
    times = np.concatenate([part for part, _ in reversed(parts)])

    def each(number: int) -> Floats:
        return np.concatenate(
            [np.full(len(part), figures[number], float) for part, figures in reversed(parts)]
        )

    where = 'scene="changed"'
    found[f"ai_agents_queue_depth{{{where}}}"] = (times, each(0))
    found[f"ai_agents_enhancement_success_rate{{{where}}}"] = (times, each(1))
    found[f"ai_agents_queue_oldest_age_seconds{{{where}}}"] = (times, each(3))
    found[f"ai_agents_workers_up{{{where}}}"] = (times, each(3) + 1)
    counts = np.arange(len(times), dtype=float)
    bounds = (0.1, 0.12, 56, 68, 600, 1800, np.inf)
    for bound in bounds:
        reached = np.cumsum(each(2) <= bound).astype(float)
        name = "ai_agents_enhancement_latency_seconds_bucket"
        found[f'{name}{{{where},le="{bound_text(bound)}"}}'] = (times, reached)
    outcome = f'{where},outcome="succeeded"'
    found[f"ai_agents_enhancement_jobs_total{{{outcome}}}"] = (times, np.cumsum(counts))
    return found


def idle_scene(start: float, end: float) -> Series:
    """Nothing waits and nothing finishes: depth is 0, the success rate of nothing is NaN."""
    times = scrape_times(start, end)
    zeros = np.zeros(len(times))
    found: Series = {
        'ai_agents_queue_depth{scene="idle",queue="default"}': (times, zeros),
        'ai_agents_enhancement_success_rate{scene="idle",tenant="acme"}': (times, zeros + np.nan),
    }
    for bound in BOUNDS:
        name = "ai_agents_enhancement_latency_seconds_bucket"
        found[f'{name}{{scene="idle",le="{bound_text(bound)}"}}'] = (times, zeros + 7)
    return found
