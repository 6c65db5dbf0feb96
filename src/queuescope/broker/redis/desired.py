"""The broker's copy of the desired state: which queues are paused, and which jobs are revoked.

The dashboard writes it, workers read it. Of two copies the one with the higher revision is right.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import Any

import msgspec
import redis
from redis.exceptions import NoPermissionError

from queuescope.broker.desired import (
    DESIRED_LIMIT_BYTES,
    REVISION_LIMIT,
    DesiredState,
    StoredDesired,
    is_implausible,
)
from queuescope.broker.redis.connection import server_time
from queuescope.broker.redis.failures import is_write_conflict, is_wrong_type
from queuescope.broker.redis.keys import Keys
from queuescope.broker.reports import NAME_LIMIT, Names, parse

REVOKED_SECONDS = 7 * 86_400.0
"""How long a revocation is kept: no message should wait longer than that."""
REVOKED_LIMIT = 10_000
"""The most revoked ids that are read, the newest first."""
_REVOKED_BYTES = 16 * 2**20
_NUMBER_BYTES = 16
_ATTEMPTS = 10
_LIMITS = {
    "revision": _NUMBER_BYTES,
    "paused": DESIRED_LIMIT_BYTES,
    "ledger": NAME_LIMIT,
    "revocations": _NUMBER_BYTES,
}
_DAMAGED = b"?"
_paused_decoder = msgspec.json.Decoder(Names)


class DamagedDesiredError(redis.ResponseError):
    """The value in the broker is not a desired state."""


def read_stored(client: redis.Redis, keys: Keys) -> StoredDesired:
    """Raises what redis-py raises."""
    return _stored(client, client, keys)


def read_desired(client: redis.Redis, keys: Keys) -> DesiredState:
    """The broker's copy; revision 0 if it has none. Raises what redis-py raises, and
    ``DamagedDesiredError``.
    """
    state = read_stored(client, keys).state
    if state is None:
        raise DamagedDesiredError("the desired state is unreadable")
    return state


def publish(client: redis.Redis, keys: Keys, state: DesiredState) -> DesiredState:
    """Write ``state`` unless the broker holds an equal or higher revision; returns what it holds.
    A damaged or implausible copy is overwritten.

    Raises what redis-py raises; ``WatchError`` if others keep writing.
    """
    for attempt in range(_ATTEMPTS):
        with client.pipeline() as pipe:
            pipe.watch(keys.desired)  # type: ignore[no-untyped-call]
            stored = _stored(client, pipe, keys)
            held = stored.state
            if held is not None and held.revision >= state.revision:
                if not is_implausible(held, state):
                    return held
                held = None
            pipe.multi()
            if held is None or stored.revocations is None:
                # It may not be a hash. A new counter makes every worker read the revoked ids.
                pipe.delete(keys.desired)
                pipe.hset(keys.desired, "revocations", _some_counter())
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
                if attempt == _ATTEMPTS - 1 or not is_write_conflict(exc):
                    raise
            else:
                return state
    raise AssertionError("unreachable")


def repair_revocations(client: redis.Redis, keys: Keys) -> None:
    """Reset the counter if it is not a number. Raises what redis-py raises."""
    stored = read_stored(client, keys)
    # If the state is damaged as well, ``publish`` writes both.
    if stored.state is not None and stored.revocations is None:
        client.hset(keys.desired, "revocations", _some_counter())


def revoke(client: redis.Redis, keys: Keys, job_ids: Iterable[str]) -> None:
    """Record that these jobs must not start. Raises what redis-py raises."""
    now = server_time(client)
    repair_revocations(client, keys)
    with client.pipeline() as pipe:
        pipe.zremrangebyscore(keys.revoked, "-inf", now)
        pipe.zadd(keys.revoked, dict.fromkeys(job_ids, now + REVOKED_SECONDS))
        # Workers read the ids only when the counter has changed.
        pipe.hincrby(keys.desired, "revocations", 1)
        pipe.execute()


def read_revoked(client: redis.Redis, keys: Keys) -> list[str]:
    """The revoked ids, at most ``REVOKED_LIMIT``. Raises what redis-py raises, and
    ``DamagedDesiredError`` if they are implausibly many.
    """
    try:
        size = client.memory_usage(keys.revoked, samples=0)
    except NoPermissionError:
        # Earlier versions did not need this permission.
        size = 0
    if (size or 0) > _REVOKED_BYTES:
        raise DamagedDesiredError("the revoked ids are too large to be read")
    ids: list[Any] = client.zrevrange(keys.revoked, 0, REVOKED_LIMIT - 1)
    return [raw.decode("utf-8", "replace") for raw in ids if len(raw) <= NAME_LIMIT]


def _stored(sizes: redis.Redis, client: redis.Redis, keys: Keys) -> StoredDesired:
    """Read with ``client``, which may be a pipeline that watches the key; ``sizes`` measures the
    lengths, since such a pipeline cannot.
    """
    try:
        with sizes.pipeline(transaction=False) as pipe:
            for name in _LIMITS:
                pipe.hstrlen(keys.desired, name)
            lengths = dict(zip(_LIMITS, pipe.execute(), strict=True))
        read = [name for name, limit in _LIMITS.items() if lengths[name] <= limit]
        values = client.hmget(keys.desired, read) if read else []
    except redis.ResponseError as exc:
        if not is_wrong_type(exc):
            raise
        return StoredDesired(None, None)
    found: dict[str, Any] = dict.fromkeys(_LIMITS, _DAMAGED) | dict(zip(read, values, strict=True))
    counter = found["revocations"]
    return StoredDesired(_decoded(found), 0 if counter is None else _number(counter))


def _decoded(fields: dict[str, Any]) -> DesiredState | None:
    raw, paused, ledger = fields["revision"], fields["paused"], fields["ledger"]
    if raw is None:
        return DesiredState()
    revision = _number(raw)
    try:
        names = parse(paused or b"[]", _paused_decoder, limit_bytes=DESIRED_LIMIT_BYTES)
        name = (ledger or b"").decode()
    except ValueError:
        return None
    if revision is None:
        return None
    return DesiredState(revision=revision, paused=names, ledger=name)


def _number(raw: bytes) -> int | None:
    number = int(raw) if raw.isdigit() and len(raw) <= _NUMBER_BYTES else REVISION_LIMIT
    return number if number < REVISION_LIMIT else None


def _some_counter() -> int:
    """A random counter, different from the last one, so that workers read the revoked ids."""
    return 1 + secrets.randbelow(2**48)
