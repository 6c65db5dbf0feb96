"""What stands in the broker, read and written as a whole: queues, workers' reports, desires.

Kombu keeps one list per queue and priority step, pushed on the left and consumed from the right,
and everything that was delivered and not yet acknowledged in one hash for all queues.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import msgspec
import redis
from kombu.transport.redis import PRIORITY_STEPS, Channel
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry

from queuescope.errors import ConfigurationError
from queuescope.heartbeats import (
    DROP_SECONDS,
    DesiredState,
    Keys,
    WorkerReport,
    decode_report,
    list_key,
)
from queuescope.operations import desired
from queuescope.operations.redis_failures import is_overtaken, translated

DUE_HEADER = "queuescope_enqueued_at"
"""The header of a message that tells when it became due, in epoch seconds."""
_UNACKNOWLEDGED_LIMIT = 2000
_KEEP_SECONDS = 7 * 86_400.0
_BINDING = "_kombu.binding.%s"
_PROBE_SECONDS = 60


@dataclass(frozen=True, slots=True)
class QueueReading:
    """One queue at one instant; ``None`` is unknown.

    ``oldest_age_seconds`` is unknown when no message says since when it waits.
    ``unacknowledged`` messages were delivered to a worker that has neither finished nor given them
    back; with early acknowledgement those that run are not among them. It is unknown when there
    are too many to look at, and those of a topic exchange count by their routing key.
    """

    queue: str
    depth: int
    oldest_age_seconds: float | None
    unacknowledged: int | None


@dataclass(frozen=True, slots=True)
class WorkersReading:
    """The last report of every worker that is not forgotten yet, by the broker's time ``at``.

    ``forgotten`` are older ones that still lie in the broker.
    """

    at: float
    reports: tuple[WorkerReport, ...]
    forgotten: tuple[WorkerReport, ...] = ()


class RedisBroker:
    """A Redis or Valkey server as Celery uses it.

    Every method raises ``BrokerError`` when the broker does not give a usable answer. Reading is
    tried twice when a connection breaks, writing never. Threads may share one.
    """

    def __init__(
        self,
        broker_url: str,
        *,
        key_prefix: str = "",
        priority_steps: Iterable[int] = tuple(PRIORITY_STEPS),
        separator: str = Channel.sep,
        timeout_seconds: float = 3.0,
    ) -> None:
        """``key_prefix`` is kombu's ``global_keyprefix``; steps that workers report are used, too.

        Raises ``ConfigurationError`` when ``broker_url`` is no address of Redis.
        """
        self._url = broker_url.replace("redis+socket://", "unix://", 1)
        self._timeout_seconds = timeout_seconds
        self._reader = self._client(Retry(NoBackoff(), 1, (RedisConnectionError,)))
        self._steps = frozenset({0, *priority_steps})
        self._separator = separator
        self.key_prefix = key_prefix
        self.keys = Keys(key_prefix)

    def read(self, queues: Sequence[str], *, with_delivered: bool = True) -> list[QueueReading]:
        """The state of ``queues``, all at one instant.

        Without ``with_delivered``, ``unacknowledged`` stays unknown, and needs no right to be read.
        """
        lists = {queue: self.list_keys(queue) for queue in queues}
        with translated():
            looks = with_delivered and self._reader.hlen(self._unacked) <= _UNACKNOWLEDGED_LIMIT
            with self._reader.pipeline() as pipe:
                pipe.time()
                for key in (key for keys in lists.values() for key in keys):
                    pipe.llen(key)
                    pipe.lindex(key, -1)
                if looks:
                    pipe.hvals(self._unacked)
                answers = iter(pipe.execute())
        seconds, microseconds = next(answers)
        now = seconds + microseconds / 1e6
        readings = []
        for queue, keys in lists.items():
            depth, dues = 0, []
            for _ in keys:
                depth += next(answers)
                dues.append(_due_at(next(answers)))
            known = [due for due in dues if due is not None]
            age: float | None = 0.0 if depth == 0 else None
            if known:
                age = max(0.0, now - min(known))
            readings.append(QueueReading(queue, depth, age, None))
        if not looks:
            return readings
        delivered = self._delivered(next(answers), frozenset(queues))
        return [
            QueueReading(r.queue, r.depth, r.oldest_age_seconds, delivered[r.queue])
            for r in readings
        ]

    def now(self) -> float:
        """Epoch seconds by the broker's clock."""
        with translated():
            return desired.broker_time(self._reader)

    def workers(self) -> WorkersReading:
        """The reports of the workers; those from before ``DROP_SECONDS`` are forgotten."""
        with translated(), self._reader.pipeline() as pipe:
            pipe.time()
            pipe.hvals(self.keys.workers)
            (seconds, microseconds), raw_reports = pipe.execute()
        now = seconds + microseconds / 1e6
        reports = [report for raw in raw_reports if (report := _report(raw)) is not None]
        reports.sort(key=lambda report: report.worker)
        return WorkersReading(
            now,
            tuple(report for report in reports if now - report.at <= DROP_SECONDS),
            tuple(report for report in reports if now - report.at > DROP_SECONDS),
        )

    def drop_workers(self, *, keep: Collection[str] = ()) -> int:
        """Delete the reports of workers that were lost ``DROP_SECONDS`` ago, but for those of
        ``keep`` for a week, and those that cannot be read; returns how many.
        """
        dropped = 0
        with translated(writes=True), self.writing() as client:
            now = desired.broker_time(client)
            for name, raw in client.hgetall(self.keys.workers).items():
                report = _report(raw)
                until = _KEEP_SECONDS if report and report.worker in keep else DROP_SECONDS
                if report is not None and now - report.at <= until:
                    continue
                with client.pipeline() as pipe:
                    pipe.watch(self.keys.workers)  # type: ignore[no-untyped-call]
                    if pipe.hget(self.keys.workers, name) != raw:
                        continue
                    pipe.multi()
                    pipe.hdel(self.keys.workers, name)
                    try:
                        dropped += pipe.execute()[0]
                    except redis.WatchError as exc:
                        if not is_overtaken(exc):
                            raise
                        # Others report all the time; the next call finds it again.
                        continue
        return dropped

    def desired(self) -> DesiredState:
        """The broker's copy of what is desired; revision 0 when it has none."""
        with translated():
            return desired.read_desired(self._reader, self.keys)

    def publish(self, state: DesiredState) -> DesiredState:
        """Write ``state`` unless the broker holds a revision that is as high; returns what it
        holds then. Whoever gets another state back must go on from a higher revision.
        """
        with translated(writes=True), self.writing() as client:
            return desired.publish_desired(client, self.keys, state)

    def revoke(self, job_ids: Iterable[str]) -> None:
        """Let these jobs not start in any worker, now or started later, for seven days."""
        with translated(writes=True), self.writing() as client:
            desired.revoke(client, self.keys, job_ids)

    def prove_writable(self) -> None:
        """Write a key that means nothing and goes by itself: a broker that refuses it, such as a
        replica or one that is full, would refuse an act.
        """
        with translated(writes=True), self.writing() as client:
            client.set(self.keys.probe, "", ex=_PROBE_SECONDS)

    def list_keys(self, queue: str) -> list[str]:
        """Where the messages of ``queue`` lie, the most urgent first."""
        return [
            list_key(queue, step, key_prefix=self.key_prefix, separator=self._separator)
            for step in sorted(self._steps)
        ]

    def learn(self, reports: Iterable[WorkerReport]) -> None:
        """Look at the priority steps of these workers, too."""
        self._steps = self._steps.union(*(report.priority_steps for report in reports))
        for report in reports:
            self._separator = report.separator

    @contextmanager
    def writing(self) -> Iterator[redis.Redis]:
        """A connection of its own, on which nothing is tried twice. Raises what redis-py raises."""
        with self._client(Retry(NoBackoff(), 0)) as client:
            yield client

    @property
    def reader(self) -> redis.Redis:
        """For reading alone: what breaks here is asked again. Raises what redis-py raises."""
        return self._reader

    def close(self) -> None:
        self._reader.close()

    def _client(self, retry: Retry) -> redis.Redis:
        try:
            return redis.Redis.from_url(
                self._url,
                socket_timeout=self._timeout_seconds,
                socket_connect_timeout=self._timeout_seconds,
                retry=retry,
            )
        except ValueError as exc:
            raise ConfigurationError(
                "broker_url is not the address of a Redis or Valkey server; use redis://host:6379/0"
            ) from exc

    @property
    def _unacked(self) -> str:
        return f"{self.key_prefix}unacked"

    def _delivered(self, entries: Iterable[bytes], queues: frozenset[str]) -> Counter[str]:
        """How many of the delivered messages belong to each queue."""
        routes = Counter(route for raw in entries if (route := _route(raw)) is not None)
        counts: Counter[str] = Counter()
        bindings: dict[str, dict[str, str]] = {}
        for (exchange, routing_key), count in routes.items():
            queue = routing_key
            if queue not in queues and exchange:
                if exchange not in bindings:
                    bindings[exchange] = self._bindings(exchange)
                queue = bindings[exchange].get(routing_key, routing_key)
            counts[queue] += count
        return counts

    def _bindings(self, exchange: str) -> dict[str, str]:
        """Which queue a routing key leads to."""
        with translated():
            members = self._reader.smembers(f"{self.key_prefix}{_BINDING % exchange}")
        bound = (
            member.decode("utf-8", "replace").split(self._separator)
            for member in members
            if isinstance(member, bytes)
        )
        return {parts[0]: parts[-1] for parts in bound if len(parts) == 3}


class _Envelope(msgspec.Struct):
    headers: dict[str, object] = msgspec.field(default_factory=dict)


def _due_at(raw: bytes | None) -> float | None:
    """When a message became due, in epoch seconds; ``None`` if it does not say."""
    if raw is None:
        return None
    try:
        headers = msgspec.json.decode(raw, type=_Envelope).headers
    except ValueError:
        return None
    value = headers.get(DUE_HEADER)
    return float(value) if isinstance(value, int | float) else None


def _route(raw: bytes) -> tuple[str, str] | None:
    """Exchange and routing key of a delivered message."""
    try:
        _, exchange, routing_key = msgspec.json.decode(raw, type=tuple[msgspec.Raw, str, str])
    except ValueError:
        return None
    return exchange, routing_key


def _report(raw: bytes | str) -> WorkerReport | None:
    """``None`` for one of a version that is not understood."""
    try:
        return decode_report(raw)
    except ValueError:
        return None
