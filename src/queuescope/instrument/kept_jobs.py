"""The arguments of failed jobs, kept in the broker for an operator's retry, if a project wants it.

Arguments may hold personal data, so nothing is kept unless ``instrument(app, keep_arguments=True)``
says so. What is kept is bounded: 16 KiB a job, 10,000 jobs, seven days.
"""

from __future__ import annotations

from collections import deque

import redis

from queuescope.broker.redis.desired import broker_time
from queuescope.broker.reports import KEPT_SECONDS, KeptJob, Keys, decode_kept_job, encode

ARGUMENTS_LIMIT_BYTES = 16_384
JOBS_LIMIT = 10_000
_WAITING_LIMIT = 1000


class KeptJobs:
    """Takes in kept jobs from one thread, and writes them from another when it is told to."""

    def __init__(self) -> None:
        self._waiting: deque[KeptJob] = deque(maxlen=_WAITING_LIMIT)

    def add(self, kept: str) -> None:
        """Take in what ``keep`` gave; while the broker is down, the oldest are let go."""
        self._waiting.append(decode_kept_job(kept))

    def flush(self, client: redis.Redis, keys: Keys) -> None:
        """Write what waits. Raises what redis-py raises; then it waits on."""
        batch = [self._waiting.popleft() for _ in range(len(self._waiting))]
        if not batch:
            return
        try:
            self._write(client, keys, batch)
        except redis.RedisError:
            self._waiting.extendleft(reversed(batch))
            raise

    def _write(self, client: redis.Redis, keys: Keys, batch: list[KeptJob]) -> None:
        now = broker_time(client)
        with client.pipeline() as pipe:
            for job in batch:
                pipe.set(keys.arguments_of(job.id), encode(job), ex=KEPT_SECONDS)
                pipe.zadd(keys.arguments, {job.id: now + KEPT_SECONDS})
            pipe.zremrangebyscore(keys.arguments, "-inf", now)
            pipe.zrange(keys.arguments, 0, -JOBS_LIMIT - 1)
            *_, surplus = pipe.execute()
        if surplus:
            ids = [raw.decode("utf-8", "replace") for raw in surplus]
            with client.pipeline() as pipe:
                pipe.zrem(keys.arguments, *ids)
                pipe.unlink(*(keys.arguments_of(job_id) for job_id in ids))
                pipe.execute()


def keep(job: KeptJob) -> str:
    """A job as text to be kept, or nothing when its arguments are no JSON or too large."""
    try:
        raw = encode(job)
        # What JSON cannot hold as it is, such as a date, would come back as another thing.
        is_same = decode_kept_job(raw) == job
    except (TypeError, ValueError, OverflowError, RecursionError):
        return ""
    return raw.decode("utf-8") if is_same and len(raw) <= ARGUMENTS_LIMIT_BYTES else ""
