"""The simulated past of the demo, from which all samples and rows are derived."""

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
    """The labels that Prometheus adds to targets, and the names of the workers."""

    worker_job: str = "worker"
    worker_instances: tuple[str, ...] = ("worker-1", "worker-2")
    worker_names: tuple[str, ...] = ("worker-1@demo", "worker-2@demo")
    exporter_job: str = "exporter"
    exporter_instance: str = "exporter"


DEFAULT_TARGETS = Targets()


@dataclass(frozen=True, slots=True)
class Past:
    """The jobs that started and ended between ``start`` and ``end``, with their attempts; ``away``
    is when the last worker was absent.
    """

    start: int
    end: int
    jobs: Arrivals
    attempts: Attempts
    away: list[tuple[float, float]]


def make_past(*, days: float, end: int, seed: int) -> Past:
    """Draw and simulate the jobs of ``days`` days until ``end``, floored to the minute.

    Jobs that have not ended by then are left out: the live platform starts empty.
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
    """The scrape times of the past, in epoch seconds."""
    fine_from = past.end - min(FINE_SPAN_SECONDS, past.end - past.start)
    return np.unique(
        np.concatenate(
            (
                np.arange(past.start, fine_from, COARSE_STEP_SECONDS),
                np.arange(fine_from, past.end + 1, FINE_STEP_SECONDS),
            )
        )
    )


def worker_is_present(past: Past, grid: Integers) -> Booleans:
    """A mask of the times on ``grid`` at which the last worker is present."""
    present = np.ones(len(grid), dtype=np.bool_)
    for begin, until in past.away:
        present &= ~((grid >= begin) & (grid < until))
    return present
