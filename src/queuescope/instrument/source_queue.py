"""Records on each message which queue it was taken from.

A message itself only holds its exchange and routing key. With a topic exchange, a binding of
another name or several queues on one key, that is not the name of the queue, which only the
consumer knows.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from celery import bootsteps
from kombu.message import Message

from queuescope.broker.reports import label

QUEUE_HEADER = "queuescope_queue"
"""The header in which a worker records the queue of each message it receives."""


class SourceQueueStep(bootsteps.StartStopStep):  # type: ignore[misc]
    """After the consumer of a connection is made and before it consumes."""

    requires = ("celery.worker.consumer.tasks:Tasks",)
    name = "queuescope-source-queue"

    def include_if(self, parent: Any) -> bool:
        return getattr(parent.app, "queuescope", None) is not None

    def start(self, parent: Any) -> None:
        _mark_all(parent.task_consumer.channel)


def source_queue(message: Mapping[str, Any], app: Any) -> str:
    """The queue that a job came from; ``message`` holds the headers of its message and what Celery
    adds to them. Without any information it is the default queue of ``app``.
    """
    # Messages of Celery's first protocol keep their headers separately.
    for headers in (message, message.get("headers") or {}):
        if queue := headers.get(QUEUE_HEADER):
            return str(queue)
    # Looking up a setting costs more than all the rest.
    return routing_key(message) or str(app.conf.task_default_queue)


def routing_key(message: Mapping[str, Any]) -> str:
    """The routing key with which it was sent, empty if unknown."""
    return str((message.get("delivery_info") or {}).get("routing_key") or "")


def origins(app: Any, served: Iterable[str]) -> frozenset[str] | None:
    """What the history may name as the queue of jobs that reach a worker of ``app`` through the
    queues ``served``: names and routing keys, whole and cut. ``None`` means anything.
    """
    found: set[str] = set()
    for name in served:
        found.add(name)
        declared = app.amqp.queues.get(name)
        if declared is None:
            continue
        if declared.bindings or declared.exchange.type != "direct":
            return None  # any routing key may lead here
        found.add(declared.routing_key or "")
    return frozenset(found | {label(key) for key in found})


def broadcasts(app: Any, served: Iterable[str]) -> tuple[str, ...]:
    """Those of the queues ``served`` that only a fanout exchange leads to."""
    known = ((name, app.amqp.queues.get(name)) for name in served)
    return tuple(
        name
        for name, declared in known
        if declared is not None and not declared.bindings and declared.exchange.type == "fanout"
    )


def is_broadcast(channel: Any, queue: str) -> bool:
    """Whether ``queue`` of a Redis channel holds no waiting messages: each worker that listens at
    that moment receives a copy.
    """
    return queue in getattr(channel, "_fanout_queues", ())


def return_to_queue(channel: Any, delivery_tag: str, queue: str) -> None:
    """Return a message of a Redis channel to ``queue``, to the end that is consumed next.

    Kombu itself would use the routing key, which may lead to other queues as well. Raises what the
    connection raises.
    """
    qos = channel.qos

    def restore(pipe: Any) -> None:
        held = pipe.hget(qos.unacked_key, delivery_tag)
        pipe.multi()
        qos._remove_from_indices(delivery_tag, pipe)  # noqa: SLF001
        if held:
            message, _, _ = json.loads(held)
            # The default exchange leads to the queue of exactly this name.
            channel._do_restore_message(message, "", queue, pipe)  # noqa: SLF001

    with channel.conn_or_acquire() as client:
        client.transaction(restore, qos.unacked_key)


def _mark_all(channel: Any) -> None:
    """Record the queue on every message that ``channel`` delivers from now on."""
    consume = channel.basic_consume

    def basic_consume(queue: str, *args: Any, callback: Any, **options: Any) -> Any:
        def marked(message: Any) -> Any:
            _headers(message)[QUEUE_HEADER] = queue
            return callback(message)

        return consume(queue, *args, callback=marked, **options)

    channel.basic_consume = basic_consume


def _headers(message: Any) -> dict[str, Any]:
    if isinstance(message, Message):
        headers: dict[str, Any] = message.headers
        return headers
    # An AMQP message, from which Kombu makes its own later.
    headers = message.properties.get("application_headers") or {}
    message.properties["application_headers"] = headers
    return headers
