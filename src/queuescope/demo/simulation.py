"""Simulates the platform for given jobs: the queue, the workers, the retries.

Workers serve the lowest priority step first, within a step the first queue, within a queue the
oldest job; a retry waits in a worker, not in the broker, and goes first once it is due. Wait times,
depth and jobs in flight follow from that and are not random.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from heapq import heapify, heappop, heappush, heapreplace
from math import inf

import numpy as np

from queuescope.demo.workload import (
    BACKOFF_SECONDS,
    CONCURRENCY,
    PRIORITY_STEPS,
    QUEUES,
    WORKERS,
    Arrivals,
    Floats,
    Incident,
    IncidentKind,
    Integers,
    limited_runtime_seconds,
)


@dataclass(frozen=True, slots=True)
class Attempts:
    """Attempts in the order of their starts, as arrays of one length.

    ``job`` indexes the arrivals; ``number`` counts from 1; ``due`` is when the attempt could have
    started; ``worker`` is 0 or more; ``is_last`` marks the last attempt of a job.
    """

    job: Integers
    number: Integers
    due: Floats
    start: Floats
    end: Floats
    worker: Integers
    is_last: np.ndarray[tuple[int], np.dtype[np.bool_]]

    def __len__(self) -> int:
        return len(self.job)

    def of_jobs(self, is_kept: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Attempts:
        """The attempts of the jobs in the mask ``is_kept``."""
        rows = is_kept[self.job]
        return Attempts(
            self.job[rows],
            self.number[rows],
            self.due[rows],
            self.start[rows],
            self.end[rows],
            self.worker[rows],
            self.is_last[rows],
        )


def absences(incidents: list[Incident]) -> list[tuple[float, float]]:
    """When the last worker was absent, as (from, until), in order and without overlap."""
    away: list[tuple[float, float]] = []
    for incident in sorted(incidents, key=lambda i: i.start):
        if incident.kind is not IncidentKind.WORKER_LOSS:
            continue
        if away and incident.start <= away[-1][1]:
            away[-1] = (away[-1][0], max(away[-1][1], incident.end))
        else:
            away.append((incident.start, incident.end))
    return away


def simulate(jobs: Arrivals, away: list[tuple[float, float]]) -> Attempts:
    """Simulate ``jobs``; while it is ``away``, the last worker starts no new ones."""
    at, runtime, limited = (
        jobs.at.tolist(),
        jobs.runtime_seconds.tolist(),
        jobs.limited.tolist(),
    )
    steps = {step: position for position, step in enumerate(PRIORITY_STEPS)}
    lane_of = [
        steps[priority] * len(QUEUES) + queue
        for priority, queue in zip(jobs.priority.tolist(), jobs.queue.tolist(), strict=True)
    ]
    lanes: list[deque[int]] = [deque() for _ in range(len(PRIORITY_STEPS) * len(QUEUES))]
    waiting = 0
    retries: list[tuple[float, int, int]] = []
    slots = [(0.0, slot) for slot in range(WORKERS * CONCURRENCY)]
    heapify(slots)
    absences_left = deque(away)
    limited_runtime = limited_runtime_seconds()
    rows: list[tuple[int, int, float, float, float, int]] = []
    next_job, count = 0, len(at)
    while True:
        free_at, slot = slots[0]
        if not waiting:
            # No job waits: time advances to the next job, if that is later than the slot.
            free_at = max(
                free_at,
                min(at[next_job] if next_job < count else inf, retries[0][0] if retries else inf),
            )
            if free_at == inf:
                break
        worker = slot // CONCURRENCY
        if worker == WORKERS - 1 and absences_left:
            while absences_left and absences_left[0][1] <= free_at:
                absences_left.popleft()
            if absences_left and absences_left[0][0] <= free_at:
                heapreplace(slots, (absences_left[0][1], slot))
                continue
        while next_job < count and at[next_job] <= free_at:
            lanes[lane_of[next_job]].append(next_job)
            waiting += 1
            next_job += 1
        if retries and retries[0][0] <= free_at:
            due, job, number = heappop(retries)
        else:
            for lane in lanes:
                if lane:
                    break
            job = lane.popleft()
            waiting -= 1
            due, number = at[job], 1
        if number <= limited[job]:
            end = free_at + limited_runtime
            heappush(retries, (end + BACKOFF_SECONDS[number - 1], job, number + 1))
        else:
            end = free_at + runtime[job]
        rows.append((job, number, due, free_at, end, worker))
        heapreplace(slots, (end, slot))
    job_of, number_of, due_of, start_of, end_of, worker_of = (
        np.array(column) for column in (zip(*rows, strict=True) if rows else [()] * 6)
    )
    jobs_index = job_of.astype(np.int64)
    numbers = number_of.astype(np.int64)
    return Attempts(
        job=jobs_index,
        number=numbers,
        due=due_of.astype(np.float64),
        start=start_of.astype(np.float64),
        end=end_of.astype(np.float64),
        worker=worker_of.astype(np.int64),
        is_last=numbers > jobs.limited[jobs_index],
    )
