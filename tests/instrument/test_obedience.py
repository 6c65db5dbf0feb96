"""Real workers of every pool follow the desired state: they start nothing of a paused queue."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from tests.instrument.conftest import Evidence, Shop, until
from tests.real_broker import RealBroker

from queuescope.broker.desired import DesiredState
from queuescope.broker.redis.broker import RedisBroker
from queuescope.broker.reports import WorkerReport
from queuescope.errors import BrokerError

PREFORK = ("--pool", "prefork")
POOLS = pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])


@pytest.fixture
def own_shop(tmp_path: Path, server: RealBroker, python: str) -> Iterator[Shop]:
    """A shop whose broker is its own, so that it may be stopped."""
    folder = tmp_path / "shop"
    folder.mkdir()
    made = Shop(folder, server.url, python)
    yield made
    made.close()


@pytest.fixture
def broker(server: RealBroker) -> Iterator[RedisBroker]:
    made = RedisBroker(server.url, timeout_seconds=30)
    yield made
    made.close()


def report_of(broker: RedisBroker, worker: str) -> WorkerReport | None:
    return next((r for r in broker.workers().reports if r.worker == worker), None)


def reported(
    broker: RedisBroker, worker: str, is_enough: Callable[[WorkerReport], bool]
) -> WorkerReport:
    found = until(
        lambda: report_of(broker, worker), lambda report: report is not None and is_enough(report)
    )
    assert found is not None
    return found


def reported_after(broker: RedisBroker, worker: str, moment: float) -> WorkerReport:
    return reported(broker, worker, lambda report: report.at > moment)


def depth_of(broker: RedisBroker, queue: str) -> int:
    return broker.queues([queue])[0].depth


@POOLS
def test_a_paused_queue_starts_no_job_not_even_fetched_ones_and_resumes_each_once(
    pool: str, own_shop: Shop, broker: RedisBroker, evidence: Evidence
) -> None:
    """Its sibling goes on, and the old order is kept."""
    own_shop.start_worker("--pool", pool, "-c", "1", SHOP_PREFETCH="4")
    evidence.send_long(own_shop, "long")
    until(lambda: evidence.words, lambda words: words == ["long"])
    for number in range(8):
        evidence.send(own_shop, f"o{number}")
    if pool != "solo":
        # All but the one that runs have been fetched ahead.
        reported(broker, "w1@shop", lambda report: report.reserved.get("orders") == 4)
    broker.publish(DesiredState(revision=1, paused=("orders",)))
    held = reported(broker, "w1@shop", lambda report: report.revision == 1)
    assert held.paused == ("orders",)
    assert held.active_count == 1
    evidence.release()
    reported(
        broker,
        "w1@shop",
        lambda r: r.revision == 1 and r.consuming == ("express",) and not r.reserved,
    )
    evidence.send(own_shop, "sibling", queue="express")
    until(lambda: evidence.words, lambda words: words[-1] == "sibling")
    assert evidence.words == ["long", "sibling"]
    until(lambda: depth_of(broker, "orders"), lambda depth: depth == 8)
    assert report_of(broker, "w1@shop").queues == ("express", "orders")  # type: ignore[union-attr]
    broker.publish(DesiredState(revision=2))
    until(lambda: len(evidence.words), lambda count: count >= 10)
    until(lambda: broker.queues(["orders"])[0].unacknowledged, lambda count: count == 0)
    assert evidence.words[:2] == ["long", "sibling"]
    assert sorted(evidence.words[2:]) == [f"o{number}" for number in range(8)]
    if pool != "solo":
        assert evidence.words[2:6] == ["o0", "o1", "o2", "o3"]


@pytest.mark.parametrize(
    "pool",
    ["prefork", *(pytest.param(pool, marks=pytest.mark.long) for pool in ("threads", "solo"))],
)
def test_a_worker_started_later_stays_paused(
    pool: str, own_shop: Shop, broker: RedisBroker, evidence: Evidence
) -> None:
    broker.publish(DesiredState(revision=3, paused=("orders",)))
    for number in range(3):
        evidence.send(own_shop, f"o{number}")
    own_shop.start_worker("--pool", pool)
    evidence.send(own_shop, "sibling", queue="express")
    until(lambda: evidence.words, lambda words: words == ["sibling"])
    report = reported(broker, "w1@shop", lambda report: report.consuming == ("express",))
    assert (report.revision, report.paused) == (3, ("orders",))
    assert depth_of(broker, "orders") == 3
    broker.publish(DesiredState(revision=4))
    until(lambda: len(evidence.words), lambda count: count == 4)
    assert sorted(evidence.words) == ["o0", "o1", "o2", "sibling"]


def test_a_pause_of_all_queues_stops_each_and_every_worker(
    own_shop: Shop, broker: RedisBroker, evidence: Evidence
) -> None:
    own_shop.start_worker()
    broker.publish(DesiredState(revision=1, paused=("*",)))
    own_shop.start_worker("-Q", "elsewhere", beside=True)
    for worker in ("w1@shop", "w2@shop"):
        report = reported(broker, worker, lambda r: r.revision == 1 and not r.consuming)
        assert report.paused == report.queues
    for queue in ("orders", "express", "elsewhere"):
        evidence.send(own_shop, queue, queue=queue)
    broker.publish(DesiredState(revision=2, paused=("express", "orders")))
    until(lambda: evidence.words, lambda words: words == ["elsewhere"])
    broker.publish(DesiredState(revision=3))
    until(lambda: len(evidence.words), lambda count: count == 3)


def test_a_pause_survives_a_broker_that_lost_its_data(
    own_shop: Shop, server: RealBroker, client: redis.Redis, broker: RedisBroker, evidence: Evidence
) -> None:
    """The worker that knows it writes it again, also for those that start later."""
    own_shop.start_worker(*PREFORK)
    broker.publish(DesiredState(revision=7, paused=("orders",)))
    reported(broker, "w1@shop", lambda report: report.consuming == ("express",))
    client.set("lost with all others", 1)
    server.stop()
    server.start()
    # How many keys there are says nothing: the worker writes anew at once.
    assert client.get("lost with all others") is None
    until(lambda: _told(broker), lambda state: state is not None and state.revision == 7)
    for number in range(3):
        evidence.send(own_shop, f"o{number}")
    evidence.send(own_shop, "sibling", queue="express")
    until(lambda: evidence.words, lambda words: words == ["sibling"])
    own_shop.start_worker(*PREFORK)
    evidence.send(own_shop, "again", queue="express")
    until(lambda: evidence.words, lambda words: words == ["sibling", "again"])
    assert depth_of(broker, "orders") == 3
    broker.publish(DesiredState(revision=8))
    until(lambda: len(evidence.words), lambda count: count == 5)


def test_a_worker_survives_invalid_data_in_the_broker(
    own_shop: Shop, broker: RedisBroker, client: redis.Redis
) -> None:
    """It keeps reporting, the known state stays in force, and a repaired state is followed
    again.
    """
    own_shop.start_worker()
    broker.publish(DesiredState(revision=3, paused=("orders",)))
    reported(broker, "w1@shop", lambda report: report.revision == 3)
    damages: tuple[dict[Any, Any], ...] = (
        {"revision": "soon"},
        {"revision": str(2**63 - 1)},
        {"revision": str(2**53 - 1), "paused": "[]"},
        {"paused": b"[" * 20_000},
        {"revocations": "soon"},
        {"revocations": str(2**63 - 1)},
    )
    for damage in damages:
        client.hset("queuescope:desired", mapping=damage)
        report = reported_after(broker, "w1@shop", broker.now())
        assert (report.paused, report.revision) == (("orders",), 3)
    client.zadd("queuescope:revoked", {b"\xff" * 300: 9e9, b"": 9e9})
    client.delete("queuescope:workers")
    client.set("queuescope:workers", "no hash")
    until(lambda: client.type("queuescope:workers"), lambda kind: kind == b"hash")
    broker.publish(DesiredState(revision=4))
    reported(broker, "w1@shop", lambda report: report.revision == 4)


def _told(broker: RedisBroker) -> DesiredState | None:
    try:
        return broker.desired()
    except BrokerError:
        return None


def test_a_job_whose_time_comes_during_a_pause_waits(
    own_shop: Shop, broker: RedisBroker, evidence: Evidence
) -> None:
    own_shop.start_worker(*PREFORK)
    own_shop.send(
        "mark", {"queue": "orders", "countdown": 30}, path=str(evidence._path), word="late"
    )
    reported(broker, "w1@shop", lambda report: report.scheduled == 1)
    broker.publish(DesiredState(revision=1, paused=("orders",)))
    report = reported(broker, "w1@shop", lambda r: r.revision == 1 and not r.reserved)
    assert report.scheduled == 0
    assert evidence.words == []
    assert depth_of(broker, "orders") == 1
    broker.publish(DesiredState(revision=2))
    until(lambda: evidence.words, lambda words: words == ["late"])


def test_many_fetched_jobs_are_returned_in_their_order(
    own_shop: Shop, broker: RedisBroker, evidence: Evidence
) -> None:
    """More than the interpreter could recurse through."""
    limited = "__import__('sys').setrecursionlimit(500) or {}"
    own_shop.start_worker(*PREFORK, "-c", "1", SHOP_PREFETCH="600", SHOP_OPTIONS=limited)
    evidence.send_long(own_shop, "long")
    words = [f"o{number}" for number in range(550)]
    for word in words:
        evidence.send(own_shop, word)
    reported(broker, "w1@shop", lambda report: report.reserved.get("orders") == 550)
    broker.publish(DesiredState(revision=1, paused=("orders",)))
    reported(broker, "w1@shop", lambda r: r.revision == 1 and not r.reserved)
    assert depth_of(broker, "orders") == 550
    evidence.release()
    evidence.send(own_shop, "sibling", queue="express")
    until(lambda: evidence.words, lambda seen: seen == ["long", "sibling"])
    broker.publish(DesiredState(revision=2))
    until(lambda: len(evidence.words), lambda count: count == 552)
    assert evidence.words == ["long", "sibling", *words]


def test_a_revoked_job_starts_in_no_worker_now_or_later(
    own_shop: Shop, broker: RedisBroker, evidence: Evidence
) -> None:
    own_shop.start_worker(*PREFORK, "-c", "1", SHOP_PREFETCH="4")
    evidence.send_long(own_shop, "long")
    until(lambda: evidence.words, lambda words: words == ["long"])
    fetched = evidence.send(own_shop, "fetched")
    evidence.send(own_shop, "after")
    reported(broker, "w1@shop", lambda report: report.reserved.get("orders") == 2)
    broker.revoke([fetched])
    # Of the second report from now on it is certain that the worker has looked before.
    for _ in range(2):
        reported_after(broker, "w1@shop", broker.now())
    evidence.release()
    until(lambda: evidence.words, lambda words: words == ["long", "after"])
    broker.publish(DesiredState(revision=1, paused=("orders",)))
    reported(broker, "w1@shop", lambda report: report.revision == 1)
    waiting = evidence.send(own_shop, "waiting")
    broker.revoke([waiting])
    # The only worker from here on has never read the desired state.
    own_shop.start_worker(*PREFORK)
    broker.publish(DesiredState(revision=2))
    evidence.send(own_shop, "end")
    until(lambda: evidence.words, lambda words: words == ["long", "after", "end"])
    assert depth_of(broker, "orders") == 0


def test_a_worker_that_may_not_read_the_desired_state_works_on_and_logs_it(
    own_shop: Shop, server: RealBroker, evidence: Evidence
) -> None:
    allowed = ("_kombu*", "orders*", "express*", "unacked*", "*pidbox*", "celeryev*")
    with server.forbidding("resetkeys", *(f"~{name}" for name in allowed)):
        own_shop.send("nap")
        worker = own_shop.start_worker(*PREFORK)
        evidence.send(own_shop, "done")
        until(lambda: evidence.words, lambda words: words == ["done"])
        until(worker.log.read_text, lambda text: "ignores pauses" in text)


def test_a_project_may_turn_operations_off(
    own_shop: Shop, broker: RedisBroker, evidence: Evidence
) -> None:
    broker.publish(DesiredState(revision=1, paused=("orders",)))
    own_shop.start_worker(SHOP_OPTIONS="dict(operations=False)")
    evidence.send(own_shop, "done")
    until(lambda: evidence.words, lambda words: words == ["done"])
    assert broker.workers().reports == ()


def test_a_prefix_of_all_keys_is_used(
    own_shop: Shop, client: redis.Redis, evidence: Evidence
) -> None:
    options = "app.conf.broker_transport_options = {'global_keyprefix': 'shop:'}\n"
    project = own_shop.folder / "shop.py"
    text = project.read_text("utf-8")
    project.write_text(text.replace("from queuescope", options + "from queuescope", 1), "utf-8")
    broker = RedisBroker(own_shop.broker_url, key_prefix="shop:")
    broker.publish(DesiredState(revision=1, paused=("orders",)))
    own_shop.start_worker(*PREFORK)
    evidence.send(own_shop, "held")
    evidence.send(own_shop, "sibling", queue="express")
    until(lambda: evidence.words, lambda words: words == ["sibling"])
    reported(broker, "w1@shop", lambda report: report.revision == 1)
    keys = set(client.keys("*queuescope*"))
    assert keys == {b"shop:queuescope:workers", b"shop:queuescope:desired"}
    assert depth_of(broker, "orders") == 1
    broker.close()


def test_a_clean_shutdown_removes_the_report(own_shop: Shop, broker: RedisBroker) -> None:
    worker = own_shop.start_worker(*PREFORK)
    reported(broker, "w1@shop", lambda report: report.pool_size == 2)
    worker.process.send_signal(signal.SIGTERM)
    assert worker.process.wait(120) == 0
    assert broker.workers().reports == ()


def test_a_report_describes_the_worker(own_shop: Shop, broker: RedisBroker) -> None:
    worker = own_shop.start_worker(*PREFORK)
    report = reported(
        broker, "w1@shop", lambda seen: bool(seen.consuming) and seen.memory_bytes > 10_000_000
    )
    assert (report.pool, report.pool_size, report.prefetch_limit) == ("prefork", 2, 2)
    assert report.pid == worker.process.pid
    assert (report.queues, report.consuming) == (("express", "orders"), ("express", "orders"))
    assert report.priority_steps == (0, 3, 6, 9)
    assert (report.redelivers, report.retries, report.active) == (False, False, ())
