"""Foreign data among the purges, in the broker and on the disk, cost no message."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from tests.real_broker import RealBroker

from queuescope.broker.purges import Purges
from queuescope.broker.redis.broker import RedisBroker
from queuescope.errors import PurgeError

PURGES = "queuescope:purges"
DEEP = b"[" * 20_000


@pytest.fixture
def purges(server: RealBroker, tmp_path: Path) -> Iterator[Purges]:
    broker = RedisBroker(server.url, timeout_seconds=30)
    yield Purges(broker, tmp_path / "purged")
    broker.close()


def cut_off(client: redis.Redis, purge_id: str, **changes: Any) -> None:
    """The state after a process was killed that had set a queue's messages aside."""
    record: dict[Any, Any] = {
        "queue": "orders",
        "at": "1000.5",
        "lists": '["orders"]',
        "stage": "taken",
    }
    client.hset(f"queuescope:purged:{purge_id}", mapping=record | changes)
    client.rpush(f"queuescope:purged:{purge_id}:0", f"message of {purge_id}")
    client.sadd(PURGES, purge_id)


def test_foreign_members_delay_no_interrupted_purge(purges: Purges, client: redis.Redis) -> None:
    cut_off(client, "a-first")
    damaged: dict[str, dict[str, Any]] = {
        "at": {"at": "soon"},
        "infinite": {"at": "inf"},
        "deep": {"lists": DEEP},
        "lists": {"lists": '{"a": 1}'},
        "elsewhere": {"lists": '["payments"]'},
        "many": {"lists": json.dumps(["orders"] * 300)},
        "queue": {"queue": b"\xff"},
        "large": {"queue": b"x" * 100_000},
    }
    for purge_id, changes in damaged.items():
        cut_off(client, purge_id, **changes)
    client.set("queuescope:purged:text", "no hash")
    client.sadd(PURGES, "text", "../../etc/passwd", b"\xff\xfe", "", "x" * 5000)
    cut_off(client, "z-last")
    for _ in range(2):
        with pytest.raises(PurgeError, match="an unfinished purge cannot be completed"):
            purges.recover()
        assert {purge.id for purge in purges.kept().purges} == {"a-first", "z-last"}
    # Nothing of the others was thrown away.
    for purge_id in damaged:
        assert client.llen(f"queuescope:purged:{purge_id}:0") == 1
    assert purges.restore("z-last").now == 1
    assert client.lrange("orders", 0, -1) == [b"message of z-last"]


def test_messages_of_any_size_are_kept(purges: Purges, client: redis.Redis) -> None:
    """More than any one answer may be long, together and each."""
    messages = [b"s" * 20, b"l" * 17 * 2**20, *(b"m" * 300_000 for _ in range(60))]
    client.rpush("orders", *messages)
    purged = purges.purge("orders", "large")
    assert purged.purge.count == len(messages)
    assert client.llen("orders") == 0
    assert purges.restore("large").now == len(messages)
    assert [client.lindex("orders", index) for index in range(len(messages))] == messages


def test_a_file_whose_head_was_edited_is_not_restored(purges: Purges, client: redis.Redis) -> None:
    """Its messages would go to another queue. One of an earlier version proves no head."""
    client.rpush("orders", "message")
    purged = purges.purge("orders", "edited").purge
    assert purged.is_proven
    whole = purged.path.read_text()
    purged.path.write_text(whole.replace('"orders"', '"payments"'))
    assert purges.kept().damaged == ("edited.jsonl",)
    with pytest.raises(PurgeError, match="the head of the file of a purge was changed"):
        purges.restore("edited")
    assert not client.exists("orders", "payments")
    head, message, tail = whole.splitlines()
    former = {key: value for key, value in json.loads(tail).items() if key != "head"}
    purged.path.write_text("\n".join((head, message, json.dumps(former), "")))
    (old,) = purges.kept().purges
    assert not old.is_proven
    assert purges.restore("edited").now == 1
    assert client.lrange("orders", 0, -1) == [b"message"]
