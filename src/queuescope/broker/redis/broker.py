"""Redis and Valkey as a broker, composed of the other modules of this package."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

from queuescope.broker.capabilities import ALL_CAPABILITIES, Capabilities
from queuescope.broker.clock import CorrectedClock
from queuescope.broker.desired import DesiredState
from queuescope.broker.protocol import QueueReading, Scaled, WorkersReading
from queuescope.broker.redis import desired
from queuescope.broker.redis.address import RedisAddress
from queuescope.broker.redis.bounded_replies import ReplyTooLargeError
from queuescope.broker.redis.connection import RedisConnection, server_time
from queuescope.broker.redis.desired import DamagedDesiredError
from queuescope.broker.redis.failures import translated
from queuescope.broker.redis.layout import KOMBU_STEPS, QueueLayout, checked_options
from queuescope.broker.redis.purges import RedisPurgeSteps
from queuescope.broker.redis.queues import QueueReader
from queuescope.broker.redis.remote_control import RemoteControl
from queuescope.broker.redis.worker_reports import ReportReader
from queuescope.broker.requeue import RetryAnswer
from queuescope.broker.timings import DEFAULT_TIMINGS, WorkerTimings
from queuescope.errors import DamagedError

_DAMAGED = (
    "the desired state of the queues is damaged in the broker; workers keep the state they know, "
    "and the dashboard writes it again"
)
_PROBE_SECONDS = 60
_KEPT_BATCH = 1000


class RedisBroker:
    """A Redis or Valkey server as Celery uses it: a ``queuescope.broker.protocol.Broker``."""

    def __init__(
        self,
        broker_url: str,
        *,
        key_prefix: str = "",
        priority_steps: Iterable[int] = KOMBU_STEPS,
        separator: str | None = None,
        timeout_seconds: float = 3.0,
        answer_seconds: float = 5.0,
        transport_options: Mapping[str, Any] | None = None,
        timings: WorkerTimings = DEFAULT_TIMINGS,
    ) -> None:
        """``key_prefix`` is kombu's ``global_keyprefix``. Of ``transport_options`` those are used
        that locate the server and its messages: ``master_name``, ``global_keyprefix``, ``sep``,
        ``priority_steps``. A worker has ``answer_seconds`` to answer a command. A
        ``socket_timeout`` in the address applies instead; to a command only if it is longer.

        Raises ``ConfigurationError`` if ``broker_url`` is not an address of Redis, or if an option
        is invalid.
        """
        options = checked_options(transport_options or {})
        address = RedisAddress(broker_url, transport_options)
        self._url = address.for_celery
        self._options = transport_options
        self._answer_seconds = max(answer_seconds, address.timeout_seconds)
        self._timings = timings
        self.connection = RedisConnection(
            address,
            key_prefix=key_prefix or options.get("global_keyprefix", ""),
            timeout_seconds=timeout_seconds,
        )
        self._clock = CorrectedClock()
        self.layout = QueueLayout(
            self.connection,
            steps=(*priority_steps, *options.get("priority_steps", ())),
            separator=separator or options.get("sep"),
        )
        self._queues = QueueReader(self.connection, self.layout, self._clock)
        self._reports = ReportReader(self.connection, self._clock, timings)
        self._purge_steps = RedisPurgeSteps(self.connection, self.layout)
        self._last_desired = DesiredState()

    @property
    def capabilities(self) -> Capabilities:
        return ALL_CAPABILITIES

    @property
    def timings(self) -> WorkerTimings:
        return self._timings

    @property
    def clock(self) -> CorrectedClock:
        return self._clock

    @property
    def purge_steps(self) -> RedisPurgeSteps:
        return self._purge_steps

    def now(self) -> float:
        asked_at = time.time()
        with translated():
            now = server_time(self.connection.reader)
        self._clock.compare(now, asked_at=asked_at)
        return now

    def check_writable(self) -> None:
        """Write a key that expires."""
        with translated(writes=True), self.connection.writing() as client:
            client.set(self.connection.keys.probe, "", ex=_PROBE_SECONDS)

    def close(self) -> None:
        control = self.__dict__.pop("_control", None)
        if control is not None:
            control.close()
        self.connection.close()

    def queues(
        self, names: Sequence[str], *, with_unacknowledged: bool = True
    ) -> list[QueueReading]:
        return self._queues.read(names, with_unacknowledged=with_unacknowledged)

    def workers(self) -> WorkersReading:
        """Priorities and clocks in the reports are used when queues are read next."""
        reading = self._reports.read()
        self._queues.learn(reading.reports)
        return reading

    def drop_reports(self, *, keep: Collection[str] = ()) -> int:
        return self._reports.drop(keep=keep)

    def desired(self) -> DesiredState:
        with translated():
            try:
                self._last_desired = desired.read_desired(
                    self.connection.reader, self.connection.keys
                )
            except (DamagedDesiredError, ReplyTooLargeError) as exc:
                raise DamagedError(_DAMAGED) from exc
            return self._last_desired

    @property
    def last_desired(self) -> DesiredState:
        return self._last_desired

    def publish(self, state: DesiredState) -> DesiredState:
        with translated(writes=True), self.connection.writing() as client:
            return desired.publish(client, self.connection.keys, state)

    def repair_desired(self) -> None:
        with translated(writes=True), self.connection.writing() as client:
            desired.repair_revocations(client, self.connection.keys)

    def revoke(self, job_ids: Iterable[str]) -> None:
        with translated(writes=True), self.connection.writing() as client:
            desired.revoke(client, self.connection.keys, job_ids)

    def announce_revoked(
        self, job_ids: Iterable[str], *, terminate: bool = False
    ) -> tuple[str, ...]:
        return self._control.announce_revoked(job_ids, terminate=terminate)

    def requeue(
        self,
        worker: str,
        jobs: Sequence[tuple[str, str]],
        operation_id: str,
        *,
        queues: Mapping[str, str] | None = None,
        same_name_count: int = 1,
    ) -> dict[str, RetryAnswer]:
        return self._control.requeue(
            worker, jobs, operation_id, queues=queues, same_name_count=same_name_count
        )

    def kept_arguments(self, job_ids: Iterable[str]) -> frozenset[str]:
        ids, found = list(job_ids), set[str]()
        with translated():
            for start in range(0, len(ids), _KEPT_BATCH):
                part = ids[start : start + _KEPT_BATCH]
                with self.connection.reader.pipeline(transaction=False) as pipe:
                    for job_id in part:
                        pipe.exists(self.connection.keys.arguments_of(job_id))
                    answers = pipe.execute()
                found.update(job for job, exists in zip(part, answers, strict=True) if exists)
        return frozenset(found)

    def scale(self, worker: str, size: int) -> Scaled:
        return self._control.scale(worker, size)

    @cached_property
    def _control(self) -> RemoteControl:
        return RemoteControl(
            self._url,
            self.now,
            key_prefix=self.connection.key_prefix,
            answer_seconds=self._answer_seconds,
            transport_options=self._options,
        )
