"""The demo's platform: a real Celery app whose jobs do what their plan says.

    celery -A queuescope.demo.platform worker --concurrency 4 -Q priority,default -n a@%h

Settings: ``QUEUESCOPE_BROKER_URL``, ``QUEUESCOPE_METRICS_PORT`` and ``QUEUESCOPE_JOB_STORE_URL``.
"""

from __future__ import annotations

import functools
import hashlib
import re
import time
from typing import Any

from celery import Celery

from queuescope.demo.workload import (
    BACKOFF_SECONDS,
    CONCURRENCY,
    MAX_ATTEMPTS,
    PRIORITY_STEPS,
    QUEUES,
    TASKS,
    TENANTS,
    Fault,
    Plan,
    failure,
    limited_runtime_seconds,
)
from queuescope.environment import DEFAULT_BROKER_URL, read_setting
from queuescope.instrument import instrument
from queuescope.jobs.store import JobStore

app = Celery(
    "queuescope.demo.platform",
    broker=read_setting("broker_url") or DEFAULT_BROKER_URL,
)
app.conf.update(
    accept_content=["json"],
    task_serializer="json",
    result_serializer="json",
    task_ignore_result=True,
    task_default_queue="default",
    task_acks_late=True,
    task_reject_on_worker_lost=False,
    worker_prefetch_multiplier=1,
    worker_concurrency=CONCURRENCY,
    worker_hijack_root_logger=False,
    # A retry waits in its worker, so the timeout is longer than any job.
    broker_transport_options={
        "priority_steps": list(PRIORITY_STEPS),
        "queue_order_strategy": "priority",
        "visibility_timeout": 900,
        "socket_timeout": 10,
    },
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    worker_cancel_long_running_tasks_on_connection_loss=False,
)
_TICKET = re.compile(r"\bticket (\d+)")
_SECOND_RUNTIME_SECONDS = 1.0


def send_job(plan: Plan, job_id: str | None = None) -> None:
    """Send one job, with a new id unless one is given. Raises Celery's error at once if the broker
    does not answer.
    """
    app.send_task(
        plan.task,
        kwargs=plan.arguments(),
        queue=plan.queue,
        priority=plan.priority,
        task_id=job_id,
        retry=False,
    )


@functools.cache
def _history(url: str) -> JobStore:
    """The job store of this process, opened at the first use."""
    return JobStore(url)


def send_again(job_id: str, name: str) -> None:
    """Send a failed job again with its id, also one of the simulated past.

    Like a platform with its own database, it rebuilds the job from what is known about it. The
    cause of the failure is removed, so that an operator sees it succeed.
    """
    job = _history(read_setting("job_store_url")).get(job_id)
    if job is None:
        raise LookupError(f"job {job_id} is not in the job history")
    ticket = _TICKET.search(job.error_message)
    plan = Plan(
        task=name,
        tenant=job.tenant,
        queue=job.queue,
        priority=PRIORITY_STEPS[-1],
        ticket_id=0 if ticket is None else int(ticket[1]),
        runtime_seconds=_SECOND_RUNTIME_SECONDS,
        rate_limited_attempts=0,
        fault=Fault.NONE,
    )
    send_job(plan, job_id)


instrument(
    app,
    retry=send_again,
    metrics_host=read_setting("metrics_host") or "127.0.0.1",
    tenants=[tenant.name for tenant in TENANTS],
    queues=QUEUES,
)


def work(task: Any, *, tenant: str, ticket_id: int, plan: dict[str, Any]) -> str:
    """Do what ``plan`` says: run that long, be refused that often, and fail in that way."""
    attempt = int(task.request.retries)
    if attempt < int(plan["rate_limited_attempts"]):
        time.sleep(limited_runtime_seconds())
        raise task.retry(
            exc=failure(Fault.RATE_LIMITED, tenant, ticket_id),
            countdown=BACKOFF_SECONDS[attempt],
            max_retries=MAX_ATTEMPTS,
        )
    digest = hashlib.blake2b(f"{tenant}/{ticket_id}".encode()).hexdigest()
    time.sleep(float(plan["runtime_seconds"]))
    fault = Fault(int(plan["fault"]))
    if fault is not Fault.NONE:
        raise failure(fault, tenant, ticket_id)
    return digest


for kind in TASKS:
    app.task(work, name=kind.name, bind=True)
