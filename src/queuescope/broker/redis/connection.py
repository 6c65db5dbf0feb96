"""The connections to one Redis or Valkey server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry

from queuescope.broker.redis import bounded_replies
from queuescope.broker.redis.address import RedisAddress
from queuescope.broker.redis.failures import is_wrong_type, translated
from queuescope.broker.redis.keys import Keys

_RUN_ID = re.compile(r"[0-9a-f]{40}")


class RedisConnection:
    """Clients of one server. Reads are retried once if a connection breaks, writes never."""

    def __init__(self, address: RedisAddress, *, key_prefix: str, timeout_seconds: float) -> None:
        self._address = address
        self._timeout_seconds = timeout_seconds
        self.key_prefix = key_prefix
        self.keys = Keys(key_prefix)
        self.reader = self._client(Retry(NoBackoff(), 1, (RedisConnectionError,)))
        """For reads only, since it retries. Raises what redis-py raises."""

    @contextmanager
    def writing(self) -> Iterator[redis.Redis]:
        """A separate connection without retries. Raises what redis-py raises."""
        with self._client(Retry(NoBackoff(), 0)) as client:
            yield client

    @contextmanager
    def reading_whole(self) -> Iterator[redis.Redis]:
        """A connection without a limit for answers, for a message that must be kept. Raises what
        redis-py raises.
        """
        with self._client(Retry(NoBackoff(), 0), {}) as client:
            yield client

    def run_id(self) -> str:
        """The id of the server's current run; empty if it does not say.

        Raises ``BrokerError``.
        """
        with translated():
            try:
                found = self.reader.info("server").get("run_id")
            except redis.ResponseError:
                # The command may be forbidden or unknown.
                return ""
        return found if isinstance(found, str) and _RUN_ID.fullmatch(found) else ""

    def close(self) -> None:
        self.reader.close()

    def _client(
        self, retry: Retry, options: dict[str, Any] = bounded_replies.OPTIONS
    ) -> redis.Redis:
        return self._address.client(
            socket_timeout=self._timeout_seconds,
            socket_connect_timeout=self._timeout_seconds,
            retry=retry,
            **options,
        )


def server_time(client: redis.Redis) -> float:
    """Epoch seconds by the server's clock. Raises what redis-py raises."""
    return seconds(client.time())


def seconds(answer: tuple[int, int]) -> float:
    """Epoch seconds from the answer to the command TIME."""
    return float(answer[0]) + float(answer[1]) / 1e6


def executed(pipe: Any) -> list[Any]:
    """The answers; for a key of the wrong type the error is in the answer's place."""
    answers = pipe.execute(raise_on_error=False)
    for answer in answers:
        if isinstance(answer, Exception) and not is_wrong_type(answer):
            raise answer
    return list(answers)
