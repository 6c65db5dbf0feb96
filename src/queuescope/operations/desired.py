"""The broker's copy of what the operators want: which queues pause, which jobs are revoked.

The dashboard writes it, workers read it. Of two copies the one with the higher revision is right.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
import redis

from queuescope.heartbeats import DesiredState, Keys
from queuescope.operations.redis_failures import is_overtaken

REVOKED_SECONDS = 7 * 86_400.0
"""How long a revocation is remembered: no message should wait longer than that."""
_ATTEMPTS = 10
_FIELDS = ("revision", "paused", "ledger")


def read_desired(client: redis.Redis, keys: Keys) -> DesiredState:
    """What the broker holds; revision 0 when it holds nothing. Raises what redis-py raises."""
    return _decoded(client.hmget(keys.desired, *_FIELDS))


def publish_desired(client: redis.Redis, keys: Keys, state: DesiredState) -> DesiredState:
    """Write ``state`` unless the broker holds a revision that is as high; returns what it holds.

    Raises what redis-py raises; ``WatchError`` when others write all the time.
    """
    for attempt in range(_ATTEMPTS):
        with client.pipeline() as pipe:
            pipe.watch(keys.desired)  # type: ignore[no-untyped-call]
            held = _decoded(pipe.hmget(keys.desired, *_FIELDS))
            if held.revision >= state.revision:
                return held
            pipe.multi()
            pipe.hset(
                keys.desired,
                mapping={
                    "revision": state.revision,
                    "paused": msgspec.json.encode(state.paused),
                    "ledger": state.ledger,
                },
            )
            try:
                pipe.execute()
            except redis.WatchError as exc:
                if attempt == _ATTEMPTS - 1 or not is_overtaken(exc):
                    raise
            else:
                return state
    raise AssertionError("unreachable")


def revoke(client: redis.Redis, keys: Keys, job_ids: Iterable[str]) -> None:
    """Remember that these jobs must not start. Raises what redis-py raises."""
    now = broker_time(client)
    with client.pipeline() as pipe:
        pipe.zremrangebyscore(keys.revoked, "-inf", now)
        pipe.zadd(keys.revoked, dict.fromkeys(job_ids, now + REVOKED_SECONDS))
        # Workers look at the counter, and at the whole only when it has moved.
        pipe.hincrby(keys.desired, "revocations", 1)
        pipe.execute()


def read_revoked(client: redis.Redis, keys: Keys) -> tuple[int, list[str]]:
    """The counter of revocations, and the ids in force. Raises what redis-py raises."""
    with client.pipeline() as pipe:
        pipe.hget(keys.desired, "revocations")
        pipe.zrange(keys.revoked, 0, -1)
        counter, ids = pipe.execute()
    return int(counter or 0), [raw.decode("utf-8", "replace") for raw in ids]


def broker_time(client: redis.Redis) -> float:
    """Epoch seconds by the broker's clock. Raises what redis-py raises."""
    seconds, microseconds = client.time()
    return float(seconds) + float(microseconds) / 1e6


def _decoded(fields: Sequence[bytes | str | None]) -> DesiredState:
    revision, paused, ledger = fields
    if revision is None:
        return DesiredState()
    try:
        names = msgspec.json.decode(paused or b"[]", type=tuple[str, ...])
        name = ledger.decode() if isinstance(ledger, bytes) else ledger or ""
        return DesiredState(revision=int(revision), paused=names, ledger=name)
    except ValueError as exc:
        raise redis.ResponseError("the desired state is unreadable") from exc
