"""The jobs that a worker has fetched and not started: reserved, scheduled, or rate-limited."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from celery.worker import state
from celery.worker.request import Request

from queuescope.broker.reports import RATE_LIMITED_LIMIT, RateLimited, label


@dataclass(frozen=True, slots=True)
class Fetched:
    """Counts by queue: ``reserved`` counts all jobs, ``scheduled`` those that wait for their time.
    The first of these is due at ``next_due_at``, in epoch seconds by the worker's clock.
    """

    reserved: dict[str, int]
    scheduled: dict[str, int]
    next_due_at: float | None
    rate_limited: tuple[RateLimited, ...]


class FetchedJobs:
    """Counts such jobs in Celery's own state. Belongs to one thread."""

    def __init__(self, queue_of: Callable[[Any], str]) -> None:
        self._queue_of = queue_of
        self._buckets: dict[int, tuple[str, Any]] = {}

    def count(self, consumer: Any) -> Fetched:
        """The counts now. ``consumer`` is Celery's."""
        # list() of a plain container is atomic for other threads; that of a weak set is not.
        limited: set[Any] = set()
        held: Counter[tuple[str, float]] = Counter()
        for name, bucket in self._known_buckets(consumer):
            waiting = [request for request, _ in list(bucket.contents)]
            limited.update(waiting)
            held[label(name), float(bucket.fill_rate)] += len(waiting)
        reserved: Counter[str] = Counter()
        scheduled: Counter[str] = Counter()
        next_due: datetime | None = None
        timed = {request for request in _timed(consumer) if request not in limited}
        known = (reference() for reference in list(state.reserved_requests.data))
        # Comparing ids would miss a retry fetched here before its first attempt ended.
        for request in {*known, *timed, *limited} - {None}:
            if request in state.active_requests:
                continue
            queue = self._queue_of(request)
            reserved[queue] += 1
            if request in timed:
                scheduled[queue] += 1
                if request.eta is not None and (next_due is None or request.eta < next_due):
                    next_due = request.eta
        return Fetched(
            dict(reserved),
            dict(scheduled),
            None if next_due is None else next_due.timestamp(),
            tuple(
                RateLimited(name=name, per_second=per_second, count=count)
                for (name, per_second), count in held.most_common(RATE_LIMITED_LIMIT)
            ),
        )

    def _known_buckets(self, consumer: Any) -> list[tuple[str, Any]]:
        """The token buckets in which jobs wait. A changed limit makes a new bucket, while jobs in
        the old one still wait there, at the old rate.
        """
        now = {
            id(bucket): (str(name), bucket)
            for name, bucket in list(consumer.task_buckets.items())
            if bucket
        }
        self._buckets = {
            key: known for key, known in {**self._buckets, **now}.items() if known[1].contents
        }
        return list(self._buckets.values())


def _timed(consumer: Any) -> set[Any]:
    """The requests that wait in the timer for their time."""
    waiting = set()
    for scheduled in list(consumer.timer.schedule.queue):
        entry = scheduled.entry
        if entry.args and isinstance(entry.args[0], Request) and not entry.canceled:
            waiting.add(entry.args[0])
    return waiting
