"""A worker's connection to its Redis or Valkey server."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import redis
from kombu.exceptions import KombuError

from queuescope.broker.desired import DesiredState, StoredDesired
from queuescope.broker.redis import desired
from queuescope.broker.redis.connection import server_time
from queuescope.broker.redis.desired import DamagedDesiredError
from queuescope.broker.redis.failures import is_wrong_type, raise_cause, translated
from queuescope.broker.redis.keys import Keys, report_field
from queuescope.broker.reports import WorkerReport, decode_report, encode
from queuescope.broker.requeue import (
    KEPT_JOB_LIMIT_BYTES,
    KEPT_SECONDS,
    KeptJob,
    decode_kept_job,
    encode_kept_job,
)
from queuescope.errors import BrokerError, DamagedError

TIMEOUT_SECONDS = 3.0
_REQUEUED_SECONDS = 86_400


class RedisWorkerConnection:
    """See ``queuescope.broker.protocol.WorkerConnection``; ``app`` is Celery's."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._lock = threading.RLock()
        self._connection: Any = None
        self._known_client: redis.Redis | None = None
        self._keys = Keys()
        self._priority_steps: tuple[int, ...] = ()
        self._separator = ""

    @property
    def priority_steps(self) -> tuple[int, ...]:
        return self._priority_steps

    @property
    def separator(self) -> str:
        return self._separator

    def now(self) -> float:
        with self._client() as client:
            return server_time(client)

    def close(self) -> None:
        with self._lock:
            connection, self._connection, self._known_client = self._connection, None, None
        if connection is not None:
            # Closing a broken connection may fail as well.
            with suppress(OSError, redis.RedisError, KombuError):
                connection.release()

    def write_report(self, report: WorkerReport) -> None:
        with self._client() as client:
            field = report_field(report.worker, report.boot_id)
            try:
                client.hset(self._keys.workers, field, encode(report))
            except redis.ResponseError as exc:
                if is_wrong_type(exc):
                    # The key holds something else than reports, so it is deleted.
                    client.delete(self._keys.workers)
                raise

    def remove_report(self, worker: str, boot_id: str) -> None:
        with self._client() as client:
            # Earlier versions used the bare name.
            client.hdel(self._keys.workers, report_field(worker, boot_id) if boot_id else worker)

    def reports_named(self, worker: str) -> dict[str, WorkerReport | None]:
        """A report of an earlier version has an empty ``boot_id``."""
        with self._client() as client:
            names: list[Any] = client.hkeys(self._keys.workers)
            start, bare = f"{worker} ".encode(), worker.encode()
            fields = [name for name in names if name == bare or name.startswith(start)]
            found: list[Any] = client.hmget(self._keys.workers, fields) if fields else []
        return {
            field[len(start) :].decode("utf-8", "replace"): _decoded(raw)
            for field, raw in zip(fields, found, strict=True)
        }

    def desired(self) -> StoredDesired:
        with self._client() as client:
            return desired.read_stored(client, self._keys)

    def publish(self, state: DesiredState) -> DesiredState:
        with self._client() as client:
            return desired.publish(client, self._keys, state)

    def revoked(self) -> list[str]:
        with self._client() as client:
            try:
                return desired.read_revoked(client, self._keys)
            except DamagedDesiredError as exc:
                raise DamagedError(str(exc)) from exc

    def keep_jobs(self, jobs: Sequence[KeptJob], *, limit: int) -> None:
        with self._client() as client:
            now = server_time(client)
            with client.pipeline() as pipe:
                for job in jobs:
                    key = self._keys.arguments_of(job.id)
                    pipe.set(key, encode_kept_job(job), ex=KEPT_SECONDS)
                    pipe.zadd(self._keys.arguments, {job.id: now + KEPT_SECONDS})
                pipe.zremrangebyscore(self._keys.arguments, "-inf", now)
                pipe.zrange(self._keys.arguments, 0, -limit - 1)
                *_, surplus = pipe.execute()
            if surplus:
                ids = [raw.decode("utf-8", "replace") for raw in surplus]
                with client.pipeline() as pipe:
                    pipe.zrem(self._keys.arguments, *ids)
                    pipe.unlink(*(self._keys.arguments_of(job_id) for job_id in ids))
                    pipe.execute()

    def kept_job(self, job_id: str) -> KeptJob | None:
        with self._client() as client:
            key = self._keys.arguments_of(job_id)
            is_small = client.strlen(key) <= KEPT_JOB_LIMIT_BYTES
            raw: Any = client.get(key) if is_small else None
        if raw is None:
            return None
        try:
            return decode_kept_job(raw)
        except ValueError as exc:
            raise DamagedError(f"what is kept of job {job_id} cannot be read") from exc

    def claim_requeue(self, operation_id: str, job_id: str) -> bool:
        with self._client() as client:
            key = self._keys.sent_again(operation_id, job_id)
            return bool(client.set(key, "1", nx=True, ex=_REQUEUED_SECONDS))

    def release_requeue(self, operation_id: str, job_id: str) -> None:
        with self._client() as client:
            client.delete(self._keys.sent_again(operation_id, job_id))

    @contextmanager
    def _client(self) -> Iterator[redis.Redis]:
        """Raises ``BrokerError``, after which the next call reconnects."""
        with self._lock:
            try:
                with translated(writes=True):
                    try:
                        yield self._connected()
                    except KombuError as exc:
                        raise_cause(exc)
            except DamagedError:
                raise
            except BrokerError:
                self.close()
                raise

    def _connected(self) -> redis.Redis:
        if self._known_client is None:
            self._connection = self._app.connection_for_write(
                connect_timeout=TIMEOUT_SECONDS,
                transport_options={
                    "socket_timeout": TIMEOUT_SECONDS,
                    "socket_connect_timeout": TIMEOUT_SECONDS,
                },
            )
            channel = self._connection.ensure_connection(
                max_retries=1, timeout=TIMEOUT_SECONDS
            ).default_channel
            self._keys = Keys(channel.global_keyprefix)
            self._priority_steps = tuple(int(step) for step in channel.priority_steps)
            self._separator = channel.sep
            # Kombu's own client adds the prefix to some keys and not to others.
            self._known_client = redis.Redis(connection_pool=channel.pool)
        return self._known_client


def _decoded(raw: bytes | None) -> WorkerReport | None:
    try:
        return decode_report(raw or b"")
    except ValueError:
        return None
