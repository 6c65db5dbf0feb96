"""What the platform would have done with given jobs: the queue, the workers, the retries.

Workers serve the lowest priority step first, within a step the queue named first, within a queue
the oldest job; a job that is to be retried waits in a worker, not in the broker, and goes first
once it is due. Wait, depth and jobs in flight follow from that and are never drawn.
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
    """Attempts in the order in which they started, as arrays of one length.

    ``job`` indexes the arrivals; ``number`` counts from 1; ``due`` is when the attempt could have
    begun; ``worker`` is 0 or more; ``is_last`` tells the one that decides the job.
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
        """The attempts of the jobs that are kept."""
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
    """When the last worker was away, as (from, until), in order and without overlap."""
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
    """Run ``jobs`` through the platform; ``away`` says when the last worker takes no new ones."""
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
    held: list[tuple[float, int, int]] = []
    slots = [(0.0, slot) for slot in range(WORKERS * CONCURRENCY)]
    heapify(slots)
    gone = deque(away)
    limited_runtime = limited_runtime_seconds()
    rows: list[tuple[int, int, float, float, float, int]] = []
    next_job, count = 0, len(at)
    while True:
        free_at, slot = slots[0]
        if not waiting:
            # Nothing waits: time moves on to the next job, if that is later than the slot.
            free_at = max(
                free_at,
                min(at[next_job] if next_job < count else inf, held[0][0] if held else inf),
            )
            if free_at == inf:
                break
        worker = slot // CONCURRENCY
        if worker == WORKERS - 1 and gone:
            while gone and gone[0][1] <= free_at:
                gone.popleft()
            if gone and gone[0][0] <= free_at:
                heapreplace(slots, (gone[0][1], slot))
                continue
        while next_job < count and at[next_job] <= free_at:
            lanes[lane_of[next_job]].append(next_job)
            waiting += 1
            next_job += 1
        if held and held[0][0] <= free_at:
            due, job, number = heappop(held)
        else:
            for lane in lanes:
                if lane:
                    break
            job = lane.popleft()
            waiting -= 1
            due, number = at[job], 1
        if number <= limited[job]:
            end = free_at + limited_runtime
            heappush(held, (end + BACKOFF_SECONDS[number - 1], job, number + 1))
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
