"""The headers by which a sender writes into each message when it became due."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextvars import ContextVar
from functools import partial, wraps
from typing import Any

from celery import signals
from celery._state import get_current_worker_task
from celery.utils.time import maybe_iso8601, maybe_make_aware

from queuescope.broker.clock import clock_mark
from queuescope.broker.headers import CLOCK_HEADER, DUE_HEADER
from queuescope.instrument.source_queue import QUEUE_HEADER
from queuescope.jobs.job import LATEST

FIRST_DUE_HEADER = "queuescope_first_enqueued_at"
"""When the job's first attempt became due."""
FIRST_CLOCK_HEADER = "queuescope_first_clock"

_sender: ContextVar[Any] = ContextVar("queuescope_sender", default=None)


def mark_messages_of(app: Any) -> None:
    """Add to each message that ``app`` sends the headers that say when it became due; messages of
    other apps in the process stay unchanged.

    Celery's signal covers the messages of all apps and does not say which app sends. Everything
    that an app sends goes through its ``send_task``.
    """
    # Another tool's for this app. One for the class is looked up each time: it may come later.
    replaced = vars(app).get("send_task")

    @wraps(app.send_task)
    def send_task(*args: Any, **options: Any) -> Any:
        before = _sender.set(app)
        try:
            send = replaced or partial(type(app).send_task, app)
            return send(*args, **options)
        finally:
            _sender.reset(before)

    def on_publish(headers: dict[str, Any], **_: object) -> None:
        if _sender.get() is app:
            _add_due_headers(headers, app)

    app.send_task = send_task
    signals.before_task_publish.connect(on_publish, weak=False)


def _add_due_headers(headers: dict[str, Any], app: Any) -> None:
    # A job that sends itself again passes on the headers of its own message.
    headers.pop(QUEUE_HEADER, None)
    known_due = headers.get(DUE_HEADER)
    first_due = headers.get(FIRST_DUE_HEADER, known_due)
    first_clock = headers.get(FIRST_CLOCK_HEADER, headers.get(CLOCK_HEADER))
    headers[DUE_HEADER] = max(time.time(), _eta(app, headers.get("eta")))
    headers[CLOCK_HEADER] = clock_mark()
    sent_again = _first_due_of_running_job(headers)
    if sent_again is not None:
        headers[FIRST_DUE_HEADER], headers[FIRST_CLOCK_HEADER] = sent_again
    elif headers.get("retries") and isinstance(first_due, int | float):
        headers[FIRST_DUE_HEADER], headers[FIRST_CLOCK_HEADER] = first_due, first_clock
    else:
        headers.pop(FIRST_DUE_HEADER, None)
        headers.pop(FIRST_CLOCK_HEADER, None)


def _first_due_of_running_job(headers: Mapping[str, Any]) -> tuple[float, float | None] | None:
    """When the running job first became due, and by which clock, if this message sends it again;
    otherwise ``None``. Only the id shows that: Celery 5.3 does not mark replacements.
    """
    task = get_current_worker_task()
    if task is None or task.request.id != headers.get("id"):
        return None
    request = task.request
    for due, clock in ((FIRST_DUE_HEADER, FIRST_CLOCK_HEADER), (DUE_HEADER, CLOCK_HEADER)):
        first_due = number_in(request.get(due))
        if first_due:
            return first_due, number_in(request.get(clock))
    return None


def _eta(app: Any, eta: object) -> float:
    """When a message with a countdown may run, in epoch seconds; 0 means at once. A time without
    a zone is read as Celery's worker reads it.
    """
    if not isinstance(eta, str):
        return 0.0
    try:
        at = maybe_make_aware(maybe_iso8601(eta), app.conf.timezone)
        return float(at.timestamp())
    except (ValueError, TypeError, OverflowError):
        return 0.0


def number_in(value: object) -> float | None:
    """A time of a message in seconds; ``None`` if it is no usable number. Senders may write
    anything, and one infinite wait would stay in the sum of all waits until the worker ends.
    """
    if isinstance(value, int | float) and -LATEST <= value <= LATEST:
        return float(value)
    return None
