"""The job history rows of the simulated past."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from queuescope.demo.past import Past, Targets
from queuescope.demo.workload import QUEUES, TASKS, TENANTS, Fault, failure
from queuescope.jobs.job import Job, JobStatus


def job_rows(past: Past, targets: Targets) -> Iterator[Job]:
    """The history rows, in the order in which the jobs ended."""
    jobs, attempts = past.jobs, past.attempts
    rows = np.flatnonzero(attempts.is_last)
    rows = rows[np.argsort(attempts.end[rows], kind="stable")]
    job = attempts.job[rows]
    # Plain lists, since reading an element of an array takes ten times as long.
    columns = (
        *(attempts.start[rows], attempts.end[rows], attempts.due[rows]),
        *(attempts.number[rows], attempts.worker[rows], jobs.at[job], jobs.tenant[job]),
        *(jobs.queue[job], jobs.task[job], jobs.fault[job], jobs.ticket_id[job]),
    )
    tail = np.random.default_rng(len(jobs)).bytes(10 * len(rows)).hex()
    for position, (
        start,
        end,
        due,
        number,
        worker,
        at,
        tenant,
        queue,
        task,
        fault,
        ticket,
    ) in enumerate(zip(*(column.tolist() for column in columns), strict=True)):
        error = failure(Fault(fault), TENANTS[tenant].name, ticket) if fault else None
        # Ordered by time, which makes inserts fast, and still unique.
        head, rest = f"{int(end * 1000):012x}", tail[20 * position : 20 * position + 20]
        yield Job(
            id=f"{head[:8]}-{head[8:]}-7{rest[:3]}-a{rest[3:6]}-{rest[6:18]}",
            name=TASKS[task].name,
            tenant=TENANTS[tenant].name,
            queue=QUEUES[queue],
            worker=targets.worker_names[worker],
            status=JobStatus.FAILED if fault else JobStatus.SUCCEEDED,
            enqueued_at=at,
            started_at=start,
            finished_at=end,
            wait_seconds=start - due,
            runtime_seconds=end - start,
            attempts=number,
            error_class=type(error).__name__ if error else "",
            error_message=str(error) if error else "",
        )
