"""The broker's copy of what the operators want: which queues pause, which jobs are revoked.

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
from queuescope.broker.redis.failures import is_of_other_type, is_overtaken
from queuescope.broker.redis.keys import Keys
from queuescope.broker.reports import NAME_LIMIT, Names, parse

REVOKED_SECONDS = 7 * 86_400.0
"""How long a revocation is remembered: no message should wait longer than that."""
REVOKED_LIMIT = 10_000
"""So many revoked ids are read, those that are remembered longest first."""
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
    """What stands in the broker is no desired state."""


def read_stored(client: redis.Redis, keys: Keys) -> StoredDesired:
    """Raises what redis-py raises."""
    return _stored(client, client, keys)


def read_desired(client: redis.Redis, keys: Keys) -> DesiredState:
    """What the broker holds; revision 0 when it holds nothing. Raises what redis-py raises, and
    ``DamagedDesiredError``.
    """
    state = read_stored(client, keys).state
    if state is None:
        raise DamagedDesiredError("the desired state is unreadable")
    return state


def publish(client: redis.Redis, keys: Keys, state: DesiredState) -> DesiredState:
    """Write ``state`` unless the broker holds a revision that is as high; returns what it holds.
    What is damaged or implausible is written over.

    Raises what redis-py raises; ``WatchError`` when others write all the time.
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
                # It may be no hash at all; and every worker reads the revoked ids once more.
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
                if attempt == _ATTEMPTS - 1 or not is_overtaken(exc):
                    raise
            else:
                return state
    raise AssertionError("unreachable")


def repair_revocations(client: redis.Redis, keys: Keys) -> None:
    """Give the counter a number again where it has none. Raises what redis-py raises."""
    stored = read_stored(client, keys)
    # With the rest it is written anew.
    if stored.state is not None and stored.revocations is None:
        client.hset(keys.desired, "revocations", _some_counter())


def revoke(client: redis.Redis, keys: Keys, job_ids: Iterable[str]) -> None:
    """Remember that these jobs must not start. Raises what redis-py raises."""
    now = server_time(client)
    repair_revocations(client, keys)
    with client.pipeline() as pipe:
        pipe.zremrangebyscore(keys.revoked, "-inf", now)
        pipe.zadd(keys.revoked, dict.fromkeys(job_ids, now + REVOKED_SECONDS))
        # Workers look at the counter, and at the whole only when it has moved.
        pipe.hincrby(keys.desired, "revocations", 1)
        pipe.execute()


def read_revoked(client: redis.Redis, keys: Keys) -> list[str]:
    """The ids in force, at most ``REVOKED_LIMIT``. Raises what redis-py raises, and
    ``DamagedDesiredError`` where they are more than anybody revokes.
    """
    try:
        size = client.memory_usage(keys.revoked, samples=0)
    except NoPermissionError:
        # A right that no reader of the ids needed before.
        size = 0
    if (size or 0) > _REVOKED_BYTES:
        raise DamagedDesiredError("the revoked ids are too large to be read")
    ids: list[Any] = client.zrevrange(keys.revoked, 0, REVOKED_LIMIT - 1)
    return [raw.decode("utf-8", "replace") for raw in ids if len(raw) <= NAME_LIMIT]


def _stored(sizes: redis.Redis, client: redis.Redis, keys: Keys) -> StoredDesired:
    """``client`` may be a pipeline that watches the key, which has nothing to measure it with
    beside that; ``sizes`` measures.
    """
    try:
        with sizes.pipeline(transaction=False) as pipe:
            for name in _LIMITS:
                pipe.hstrlen(keys.desired, name)
            lengths = dict(zip(_LIMITS, pipe.execute(), strict=True))
        read = [name for name, limit in _LIMITS.items() if lengths[name] <= limit]
        values = client.hmget(keys.desired, read) if read else []
    except redis.ResponseError as exc:
        if not is_of_other_type(exc):
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
    """One that is hardly the last, so that workers look at what it counts."""
    return 1 + secrets.randbelow(2**48)
