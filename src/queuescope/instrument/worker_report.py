"""Builds a worker's report: its queues, jobs, limits and clock at one moment."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Sequence
from typing import Any

from queuescope.broker.clock import CorrectedClock, clock_mark
from queuescope.broker.protocol import WorkerConnection
from queuescope.broker.reports import (
    QUEUES_LIMIT,
    TYPES_LIMIT,
    TYPES_LIMIT_CHARACTERS,
    Pool,
    WorkerReport,
    label,
)
from queuescope.instrument import limits
from queuescope.instrument.collector import Collector
from queuescope.instrument.fetched import FetchedJobs
from queuescope.instrument.pause_enforcer import PauseEnforcer
from queuescope.instrument.source_queue import broadcasts, origins

_POOLS = {
    "celery.concurrency.prefork": Pool.PREFORK,
    "celery.concurrency.thread": Pool.THREADS,
    "celery.concurrency.solo": Pool.SOLO,
}


class ReportMaker:
    """Makes the reports of one worker process, from its start to its end."""

    def __init__(
        self,
        worker: Any,
        collector: Collector,
        pauses: PauseEnforcer,
        connection: WorkerConnection,
        *,
        clock: CorrectedClock,
        can_retry: bool,
        keeps: bool,
    ) -> None:
        self._worker = worker
        self._collector = collector
        self._pauses = pauses
        self._connection = connection
        self._clock = clock
        self._can_retry = can_retry
        self._keeps = keeps
        self._fetched = FetchedJobs(pauses.queue_of)
        self._pid = os.getpid()
        self.boot_id = uuid.uuid4().hex
        # The wall clock may be corrected while the worker runs.
        self._started = time.monotonic()

    def make(
        self,
        at: float,
        *,
        loop_at: float,
        connected_at: float | None,
        shutting_down_at: float | None,
    ) -> WorkerReport:
        """``at`` is by the broker's clock, the others are by the worker's; see ``WorkerReport``."""
        clock_at = self._clock.now()
        consumer, pool = self._worker.consumer, self._worker.pool
        desired, activity = self._pauses.desired, self._collector.activity()
        fetched = self._fetched.count(consumer)
        due = fetched.next_due_at
        # Celery starts a scheduled job by this machine's clock.
        next_due_at = None if due is None else max(0.0, self._clock.corrected(due))
        served, mark = self._pauses.served, clock_mark()
        return WorkerReport(
            worker=str(self._worker.hostname),
            boot_id=self.boot_id,
            pid=self._pid,
            at=at,
            clock_at=clock_at,
            started_at=clock_at - (time.monotonic() - self._started),
            queues=served,
            consuming=self._pauses.consuming,
            paused=tuple(queue for queue in served if desired.pauses(queue)),
            revision=desired.revision,
            revised_at=self._clock.corrected(self._pauses.set_at),
            pool=kind_of_pool(pool),
            pool_size=int(pool.num_processes or 0),
            prefetch_limit=int(consumer.qos.value if consumer.qos else 0),
            reserved=fetched.reserved,
            scheduled=sum(fetched.scheduled.values()),
            scheduled_queues=fetched.scheduled,
            next_due_at=next_due_at,
            rate_limited=fetched.rate_limited,
            shutting_down_at=shutting_down_at,
            is_connected=connected_at is not None,
            connected_at=connected_at,
            active=activity.active,
            active_count=activity.active_count,
            processed=activity.processed,
            failed=activity.failed,
            retried=activity.retried,
            last_started_at=activity.last_started_at,
            last_ended_at=activity.last_ended_at,
            loop_at=loop_at,
            cpu_ratio=activity.cpu_ratio,
            memory_bytes=activity.memory_bytes,
            memory_limit_bytes=limits.memory_limit_bytes(),
            cpu_limit=limits.cpu_limit(),
            redelivers=bool(self._worker.app.conf.task_acks_late),
            retries=self._can_retry,
            needs_arguments=self._keeps if self._can_retry else None,
            types=_types(self._worker.app) if self._can_retry else None,
            origins=_origins(self._worker.app, served) if self._can_retry else None,
            broadcasts=broadcasts(self._worker.app, served),
            scales_itself=bool(consumer.controller.autoscaler),
            priority_steps=self._connection.priority_steps,
            separator=self._connection.separator,
            clock_ahead=self._clock.ahead,
            clock_mark=mark if mark is not None and mark >= 0 else None,
        )


def _types(app: Any) -> tuple[str, ...] | None:
    """The job types of the project, within the limits of a report."""
    names = [label(name) for name in list(app.tasks)]
    if len(names) > TYPES_LIMIT or sum(map(len, names)) > TYPES_LIMIT_CHARACTERS:
        return None
    return tuple(sorted(names))


def _origins(app: Any, served: Sequence[str]) -> tuple[str, ...] | None:
    """Where its jobs come from, within the limits of a report."""
    known = origins(app, served)
    if known is None or len(known) > QUEUES_LIMIT:
        return None
    return tuple(sorted(label(key) for key in known))


def kind_of_pool(pool: Any) -> Pool:
    """The kind of Celery's ``pool``, or of the class that it extends."""
    kinds = (_POOLS.get(kind.__module__) for kind in type(pool).__mro__)
    return next((kind for kind in kinds if kind is not None), Pool.OTHER)
