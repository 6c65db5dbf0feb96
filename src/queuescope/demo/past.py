"""The demo's past: its jobs, drawn and simulated once, from which all samples and rows follow."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from queuescope.demo.simulation import Attempts, absences, simulate
from queuescope.demo.workload import Arrivals, Integers, World

FINE_STEP_SECONDS = 15
COARSE_STEP_SECONDS = 30
FINE_SPAN_SECONDS = 2 * 86_400

Booleans = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Targets:
    """The labels that Prometheus attaches when it scrapes, and the names of the workers."""

    worker_job: str = "worker"
    worker_instances: tuple[str, ...] = ("worker-1", "worker-2")
    worker_names: tuple[str, ...] = ("worker-1@demo", "worker-2@demo")
    exporter_job: str = "exporter"
    exporter_instance: str = "exporter"


DEFAULT_TARGETS = Targets()


@dataclass(frozen=True, slots=True)
class Past:
    """The jobs of a span that all came to an end within it, with their attempts."""

    start: int
    end: int
    jobs: Arrivals
    attempts: Attempts
    away: list[tuple[float, float]]


def make_past(*, days: float, end: int, seed: int) -> Past:
    """Draw and simulate the jobs of ``days`` days until ``end``, floored to the minute.

    A job that has not ended by then is left out altogether: the live platform starts empty.
    """
    end = end // 60 * 60
    start = end - round(days * 1440) * 60
    world = World()
    jobs = world.arrivals(start, end, np.random.default_rng(seed))
    away = absences(world.incidents(start, end))
    attempts = simulate(jobs, away)
    is_kept = np.zeros(len(jobs), dtype=np.bool_)
    is_kept[attempts.job[attempts.is_last & (attempts.end < end)]] = True
    return Past(start, end, jobs, attempts.of_jobs(is_kept), away)


def sample_times(past: Past) -> Integers:
    """When the past was scraped, in epoch seconds."""
    fine_from = past.end - min(FINE_SPAN_SECONDS, past.end - past.start)
    return np.unique(
        np.concatenate(
            (
                np.arange(past.start, fine_from, COARSE_STEP_SECONDS),
                np.arange(fine_from, past.end + 1, FINE_STEP_SECONDS),
            )
        )
    )


def worker_is_there(past: Past, grid: Integers) -> Booleans:
    """Where on ``grid`` the last worker is there."""
    there = np.ones(len(grid), dtype=np.bool_)
    for begin, until in past.away:
        there &= ~((grid >= begin) & (grid < until))
    return there
