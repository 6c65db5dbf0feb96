"""Queuescope's commands in Celery's remote control.

``queuescope_scale`` sets the size of the pool; ``queuescope_retry`` sends failed jobs again with
the project's own code. A command has an expiry time by the broker's clock, so that a busy worker
that reads it late ignores it. Any client of the broker can send commands, like Celery's own ones:
they do nothing that Celery's own commands do not allow.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from celery.worker.control import control_command
from kombu.entity import Exchange, Queue
from kombu.exceptions import KombuError

from queuescope.broker.reports import Pool, label
from queuescope.broker.requeue import KeptJob, RetryAnswer
from queuescope.errors import BrokerError, DamagedError
from queuescope.instrument.heartbeat import Heartbeat
from queuescope.instrument.source_queue import origins
from queuescope.instrument.worker_report import kind_of_pool

logger = logging.getLogger(__name__)

_SIZE_LIMIT = 1000

RetryJob = Callable[[str, str], None]
"""A project's own retry: called with the id and the name of a job, sends it again or raises."""


class Retrier:
    """Sends failed jobs again: with the project's function, or with the kept arguments."""

    def __init__(self, app: Any, heartbeat: Heartbeat, retry: RetryJob | None) -> None:
        self._app = app
        self._heartbeat = heartbeat
        self._retry = retry

    def send(self, job_id: str, name: str, queue: str, operation_id: str) -> RetryAnswer:
        """Send a job again, once for each ``operation_id`` and job. ``queue`` is where the job came
        from, empty if unknown. Raises ``BrokerError``.

        A job of another project on the same broker is not touched.
        """
        connection = self._heartbeat.connection
        job = None
        if self._retry is None:
            try:
                job = connection.kept_job(job_id)
            except DamagedError as exc:
                logger.warning("%s", exc)
                return RetryAnswer.FAILED
        if job is not None:
            # The history may have cut name and queue.
            name, queue = job.name, job.queue
        if not (self._knows(name) and self._serves(queue)):
            return RetryAnswer.NOT_MINE
        if self._retry is None and job is None:
            return RetryAnswer.NOT_KEPT
        if not connection.claim_requeue(operation_id, job_id):
            return RetryAnswer.ALREADY
        try:
            if self._retry is not None:
                self._retry(job_id, name)
            elif job is not None:
                self._send(job)
        except (KombuError, OSError):
            # The broker may have received the message all the same.
            logger.warning("it is unknown whether job %s was sent again", job_id, exc_info=True)
            return RetryAnswer.UNKNOWN
        except Exception:  # a project's own function may raise anything
            logger.warning("job %s was not sent again", job_id, exc_info=True)
            # Otherwise the same operation, repeated, would count the job as sent.
            connection.release_requeue(operation_id, job_id)
            return RetryAnswer.FAILED
        return RetryAnswer.SENT

    def _knows(self, name: str) -> bool:
        """Whether this project has the job type ``name``, which the history may have cut."""
        tasks = self._app.tasks
        return name in tasks or any(label(task) == name for task in list(tasks))

    def _serves(self, queue: str) -> bool:
        """Whether jobs of ``queue`` may reach this worker; it may be a routing key."""
        if not queue:
            return True
        known = origins(self._app, self._heartbeat.served)
        return known is None or queue in known

    def _send(self, job: KeptJob) -> None:
        options: dict[str, Any] = {} if job.priority is None else {"priority": job.priority}
        task = self._app.tasks.get(job.name)
        ignores = job.ignore_result
        if task is not None:
            # Celery does not read these options of a task that is sent by name.
            options["serializer"] = task.serializer
            ignores = task.ignore_result if ignores is None else ignores
        if ignores is not None:
            options["ignore_result"] = ignores
        # Through the default exchange to that queue alone, whatever its bindings are. It is not
        # declared: it exists, perhaps with other arguments than are known here.
        unnamed: Any = Exchange("", type="direct")  # type: ignore[no-untyped-call]
        queue: Any = Queue(job.queue, unnamed, routing_key=job.queue)  # type: ignore[no-untyped-call]
        self._app.send_task(
            job.name,
            args=job.args,
            kwargs=job.kwargs,
            task_id=job.id,
            queue=queue,
            declare=[],
            retry=False,
            headers=job.headers,
            time_limit=job.time_limit,
            soft_time_limit=job.soft_time_limit,
            **options,
        )


@control_command(name="queuescope_scale")  # type: ignore[untyped-decorator]
def scale(panel: Any, size: int = 0, until: float = 0.0, **_: Any) -> dict[str, Any]:
    """Set the size of the pool to ``size`` processes."""
    heartbeat, refusal = _heartbeat(panel, until)
    if heartbeat is None:
        return {"refused": refusal}
    consumer = panel.consumer
    pool = consumer.pool
    before = int(pool.num_processes)
    if not 1 <= int(size) <= _SIZE_LIMIT:
        return {"refused": f"the size of a pool must be from 1 to {_SIZE_LIMIT}"}
    if consumer.controller.autoscaler:
        return {"refused": "this worker scales itself (--autoscale)"}
    if kind_of_pool(pool) is not Pool.PREFORK:
        # Pools of gevent and eventlet can be resized, but not all of them report their size.
        return {"refused": "the size of this kind of pool is fixed"}
    change = int(size) - before
    if change > 0:
        pool.grow(change)
    elif change < 0:
        try:
            pool.shrink(-change)
        except ValueError:
            # Celery ends idle processes only, and raises after it has ended those.
            logger.info("some processes are busy, and the pool stays larger than requested")
    after = int(pool.num_processes)
    if after != before:
        consumer._update_prefetch_count(after - before)  # noqa: SLF001
    return {"before": before, "after": after}


@control_command(name="queuescope_retry")  # type: ignore[untyped-decorator]
def retry(
    panel: Any,
    jobs: Sequence[Sequence[str]] = (),
    act_id: str = "",
    until: float = 0.0,
    queues: Mapping[str, str] | None = None,
    **_: Any,
) -> Mapping[str, Any]:
    """Send failed jobs again; ``jobs`` are pairs of id and name, ``queues`` says by id where each
    came from, which dashboards of earlier versions do not send.
    """
    heartbeat, refusal = _heartbeat(panel, until)
    retrier: Retrier | None = getattr(panel.app.queuescope, "retrier", None)
    if heartbeat is None:
        return {"refused": refusal}
    if retrier is None:
        return {"refused": "the project has not configured how its jobs are sent again"}
    answers: dict[str, str] = {}
    for job_id, name in jobs:
        try:
            queue = str((queues or {}).get(job_id) or "")
            answers[str(job_id)] = retrier.send(str(job_id), str(name), queue, str(act_id))
        except BrokerError:
            answers[str(job_id)] = RetryAnswer.UNKNOWN
    return {"answers": answers}


def _heartbeat(panel: Any, until: float) -> tuple[Heartbeat | None, str]:
    heartbeat: Heartbeat | None = getattr(getattr(panel.app, "queuescope", None), "heartbeat", None)
    if heartbeat is None:
        return None, "operations are turned off in this worker"
    try:
        now = heartbeat.connection.now()
    except BrokerError as exc:
        return None, str(exc)
    if now > float(until):
        return None, "the command arrived too late, and nothing was done"
    return heartbeat, ""
