"""Reads a job's message: its type, tenant, queue, attempt, and when it was due."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from celery.app.task import Context
from kombu.exceptions import KombuError

from queuescope.broker.clock import CorrectedClock
from queuescope.broker.headers import CLOCK_HEADER, DUE_HEADER
from queuescope.broker.reports import label
from queuescope.broker.requeue import KeptJob
from queuescope.instrument.due_headers import FIRST_CLOCK_HEADER, FIRST_DUE_HEADER, number_in
from queuescope.instrument.kept_jobs import keep
from queuescope.instrument.observation import Event, Observation
from queuescope.instrument.source_queue import (
    QUEUE_HEADER,
    is_broadcast,
    routing_key,
    source_queue,
)

_RETRIES_LIMIT = 2**31
# Headers that describe one message, and not its job.
_MESSAGE_HEADERS = frozenset(
    {DUE_HEADER, FIRST_DUE_HEADER, CLOCK_HEADER, FIRST_CLOCK_HEADER, QUEUE_HEADER, "redelivered"}
)

TenantOf = Callable[[Mapping[str, Any], Mapping[str, Any]], str | None]

logger = logging.getLogger(__name__)


def default_tenant(kwargs: Mapping[str, Any], headers: Mapping[str, Any]) -> str | None:
    """The header ``tenant``, or the argument ``tenant`` or ``tenant_id``."""
    for value in (headers.get("tenant"), kwargs.get("tenant"), kwargs.get("tenant_id")):
        if isinstance(value, str | int) and value != "":
            return str(value)
    return None


class MessageReader:
    """Reads the messages of one Celery ``app``. Belongs to one thread at a time."""

    def __init__(self, app: Any, clock: CorrectedClock, tenant_of: TenantOf) -> None:
        self._app = app
        self._clock = clock
        self._tenant_of = tenant_of
        self._tenant_of_failed = False
        self._tasks: Any = None

    def observation(
        self,
        event: Event,
        message: Mapping[str, Any],
        at: float,
        *,
        started_at: float | None = None,
    ) -> Observation:
        """``message`` holds the message's headers and what Celery adds to them."""
        due_at = self._due_at(message, DUE_HEADER, CLOCK_HEADER)
        return Observation(
            event=event,
            id=str(message["id"]),
            at=at,
            name=label(message.get("task")),
            tenant=self._tenant(message),
            queue=label(source_queue(message, self._app)),
            routing_key=label(routing_key(message)),
            redelivers=self._redelivers(message),
            is_redelivered=_is_redelivered(message),
            due_at=due_at,
            first_due_at=self._due_at(message, FIRST_DUE_HEADER, FIRST_CLOCK_HEADER) or due_at,
            started_at=started_at,
            attempt=_retries(message.get("retries")) + 1,
        )

    def _due_at(self, message: Mapping[str, Any], due: str, clock: str) -> float | None:
        at = number_in(message.get(due))
        if at is None or at <= 0:
            return None
        return self._clock.corrected_for_sender(at, number_in(message.get(clock)))

    def _tenant(self, message: Mapping[str, Any]) -> str:
        kwargs = message.get("kwargs") or {}
        own = message.get("headers")
        headers = {**own, **message} if isinstance(own, dict) else MappingProxyType(message)
        try:
            tenant = self._tenant_of(kwargs, headers)
        except Exception:  # a project's own function may raise anything
            if not self._tenant_of_failed:
                logger.warning(
                    "tenant_of failed; such jobs count for the tenant “default”", exc_info=True
                )
            self._tenant_of_failed = True
            tenant = None
        return label(tenant) if tenant is not None else "default"

    def kept_job(self, request: Any) -> str:
        """What is needed to send the job again, as a result of ``keep``; may be empty."""
        queue = source_queue(request.request_dict, self._app)
        if is_broadcast(request.message.channel, queue):
            # Every worker of a broadcast has a job of this id.
            return ""
        time_limit, soft_time_limit = request.time_limits
        return keep(
            KeptJob(
                id=str(request.id),
                name=str(request.task.name),
                queue=queue,
                args=list(request.args or ()),
                kwargs=dict(request.kwargs or {}),
                priority=(request.delivery_info or {}).get("priority"),
                headers=_own_headers(request.request_dict),
                time_limit=time_limit,
                soft_time_limit=soft_time_limit,
                ignore_result=request.request_dict.get("ignore_result"),
            )
        )

    def _redelivers(self, message: Mapping[str, Any]) -> bool | None:
        """Whether a job is acknowledged late: a setting for all tasks and for each one."""
        if self._tasks is None:
            # Only once there is a job: reading the tasks finalizes the app.
            self._tasks = self._app.tasks
        task = self._tasks.get(message.get("task"))
        return None if task is None else bool(task.acks_late)


def headers_of(message: Any) -> dict[str, Any]:
    """The headers of a message from which Celery makes no request."""
    headers = dict(message.headers or {})
    try:
        body = message.payload
    except (KombuError, ValueError, TypeError, LookupError):
        body = None
    if isinstance(body, dict):
        headers = {**body, **headers}
    elif isinstance(body, list | tuple) and len(body) > 1 and isinstance(body[1], dict):
        headers["kwargs"] = body[1]
    headers["delivery_info"] = dict(message.delivery_info or {})
    headers.setdefault("id", f"invalid-{uuid.uuid4()}")
    headers.setdefault("task", "(no job type)")
    return headers


def _own_headers(message: Mapping[str, Any]) -> dict[str, object]:
    """The project's own headers, such as the tenant, found as Celery's own retry does it."""
    headers = Context(message).headers
    if not isinstance(headers, dict):
        return {}
    return {name: value for name, value in headers.items() if name not in _MESSAGE_HEADERS}


def _is_redelivered(message: Mapping[str, Any]) -> bool:
    """Whether the broker marks the message as delivered before."""
    delivery = message.get("delivery_info")
    return isinstance(delivery, Mapping) and delivery.get("redelivered") is True


def _retries(value: object) -> int:
    return value if isinstance(value, int) and 0 <= value < _RETRIES_LIMIT else 0
