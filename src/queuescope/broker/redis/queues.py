"""Reads queue depth, oldest age, and unacknowledged messages.

Kombu keeps one list per queue and priority step, pushed on the left and consumed from the right,
and all messages that were delivered and not yet acknowledged in one hash for all queues.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any

import redis

from queuescope.broker.clock import CorrectedClock
from queuescope.broker.protocol import QueueReading
from queuescope.broker.redis.bindings import BINDING, BINDINGS_LIMIT, Binding, destinations
from queuescope.broker.redis.bounded_replies import ReplyTooLargeError
from queuescope.broker.redis.connection import RedisConnection, executed, seconds
from queuescope.broker.redis.failures import is_wrong_type, translated
from queuescope.broker.redis.layout import QueueLayout
from queuescope.broker.redis.messages import due_of, route_of
from queuescope.broker.redis.sender_clocks import Age, SenderClocks
from queuescope.broker.reports import WorkerReport

_UNACKNOWLEDGED_LIMIT = 2000


class QueueReader:
    """Reads queues. Threads may share one."""

    def __init__(
        self, connection: RedisConnection, layout: QueueLayout, clock: CorrectedClock
    ) -> None:
        self._connection = connection
        self._reader = connection.reader
        self._layout = layout
        self._clock = clock
        self._senders = SenderClocks()

    def learn(self, reports: Collection[WorkerReport]) -> None:
        """Use the clocks and priority steps in ``reports`` for the next readings."""
        self._senders.learn(reports)
        self._layout.learn(reports)

    def read(self, queues: Sequence[str], *, with_unacknowledged: bool) -> list[QueueReading]:
        """See ``Broker.queues``. Raises ``BrokerError``."""
        self._layout.read_separator(queues)
        lists = {queue: self._layout.lists(queue) for queue in queues}
        asked_at = time.time()
        with translated():
            counts = with_unacknowledged and self._count_delivered() <= _UNACKNOWLEDGED_LIMIT
            try:
                found = self._read_at_once(lists, with_delivered=counts)
            except ReplyTooLargeError:
                # Some message is huge; the depths can still be read.
                counts = False
                found = self._read_one_by_one(lists)
        answers = iter(found)
        now = seconds(next(answers))
        self._clock.compare(now, asked_at=asked_at)
        readings = []
        for queue, keys in lists.items():
            depth, is_queue, ages = 0, True, []
            for key in keys:
                length, message = next(answers), next(answers)
                if isinstance(length, Exception):
                    is_queue = False
                    continue
                depth += length
                age = self._senders.age(key, length, due_of(message), now)
                if length:
                    ages.append(age)
            if not is_queue:
                continue
            # Ages that are all unknown still differ in their lower bound.
            oldest = max(ages, key=_seniority, default=Age(0.0))
            readings.append(
                QueueReading(
                    queue, depth, oldest.seconds, None, oldest.sender_ahead, oldest.is_doubtful
                )
            )
        if not counts:
            return readings
        entries = next(answers)
        if isinstance(entries, Exception):
            return readings
        delivered = self._delivered(entries, queues)
        return [replace(r, unacknowledged=delivered[r.queue]) for r in readings]

    def _read_at_once(self, lists: dict[str, list[str]], *, with_delivered: bool) -> list[Any]:
        with self._reader.pipeline() as pipe:
            pipe.time()
            for key in (key for keys in lists.values() for key in keys):
                pipe.llen(key)
                pipe.lindex(key, -1)
            if with_delivered:
                pipe.hvals(self._unacked)
            return executed(pipe)

    def _read_one_by_one(self, lists: dict[str, list[str]]) -> list[Any]:
        """Like ``_read_at_once``, but without the messages that are too large to be read."""
        keys = [key for keys in lists.values() for key in keys]
        with self._reader.pipeline() as pipe:
            pipe.time()
            for key in keys:
                pipe.llen(key)
            at, *lengths = executed(pipe)
        found: list[Any] = [at]
        for key, length in zip(keys, lengths, strict=True):
            message: Any = None
            if length and not isinstance(length, Exception):
                try:
                    message = self._reader.lindex(key, -1)
                except ReplyTooLargeError:
                    message = b""
            found += [length, message]
        return found

    @property
    def _unacked(self) -> str:
        return f"{self._connection.key_prefix}unacked"

    def _count_delivered(self) -> float:
        try:
            return self._reader.hlen(self._unacked)
        except redis.ResponseError as exc:
            if not is_wrong_type(exc):
                raise
            return math.inf

    def _delivered(self, entries: Iterable[bytes], queues: Sequence[str]) -> dict[str, int | None]:
        """How many of the delivered messages belong to each queue; ``None`` if that is unknown, as
        for two queues with one routing key.
        """
        routes = Counter(route for raw in entries if (route := route_of(raw)) is not None)
        counts = Counter[str]()
        unknown: set[str] = set()
        bindings: dict[str, tuple[Binding, ...] | None] = {}
        for (exchange, routing_key), count in routes.items():
            if not exchange:
                counts[routing_key] += count
                continue
            if exchange not in bindings:
                bindings[exchange] = self._bindings(exchange)
            known = bindings[exchange]
            found = frozenset(queues) if known is None else destinations(routing_key, known)
            if known is not None and len(found) == 1:
                counts.update(dict.fromkeys(found, count))
            else:
                unknown |= found
        return {queue: None if queue in unknown else counts[queue] for queue in queues}

    def _bindings(self, exchange: str) -> tuple[Binding, ...] | None:
        """The bindings of ``exchange``; ``None`` if they are too many or unreadable."""
        key = f"{self._connection.key_prefix}{BINDING % exchange}"
        with translated():
            try:
                if self._reader.scard(key) > BINDINGS_LIMIT:
                    return None
                members = self._reader.smembers(key)
            except ReplyTooLargeError:
                return None
            except redis.ResponseError as exc:
                if not is_wrong_type(exc):
                    raise
                return None
        separator = self._layout.separator
        found = (
            Binding.parse(member, separator) for member in members if isinstance(member, bytes)
        )
        return tuple(binding for binding in found if binding is not None)


def _seniority(age: Age) -> tuple[float, float]:
    return (-1.0 if age.seconds is None else age.seconds), age.sender_ahead
