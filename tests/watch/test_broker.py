"""The state of a real broker, and why there may be none."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis
from benchmarks.operations_page import QUEUES, WORKERS, fill, report_workers
from celery import Celery
from tests.broker.memory import MemoryBroker, MemoryServer
from tests.real_broker import RealBroker
from tests.worker_reports import BUSY, report

from queuescope.broker.capabilities import Ability, Capabilities
from queuescope.broker.desired import DesiredState
from queuescope.broker.reports import WorkerReport, encode
from queuescope.broker.timings import DEFAULT_TIMINGS
from queuescope.broker.worker import WorkerStatus
from queuescope.errors import BrokerError, BrokerErrorKind
from queuescope.operations.access import Access
from queuescope.operations.context import OperationsContext
from queuescope.operations.request import Operation
from queuescope.watch import CompletionRates, read_broker


@contextmanager
def open_context(server: RealBroker, folder: Path, *queues: str) -> Iterator[OperationsContext]:
    with OperationsContext(
        broker_url=server.url,
        store_url=f"sqlite:///{folder / 'operations.db'}",
        folder=folder / "purged",
        access=Access(admins=["ada"]),
        queues=queues,
    ) as context:
        yield context


@pytest.fixture
def context(server: RealBroker, tmp_path: Path) -> Iterator[OperationsContext]:
    with open_context(server, tmp_path, "named") as made:
        yield made


def write_report(client: redis.Redis, report: WorkerReport) -> None:
    client.hset("queuescope:workers", report.worker, encode(report))


def test_a_broker_with_few_abilities_is_read_as_far_as_possible(context: OperationsContext) -> None:
    server = MemoryServer(
        reports={("w@h", "b"): report(at=time.time())},
        queues={"named": [(b"{}", time.time() - 60)]},
    )
    broker = MemoryBroker(server)
    lacks = (Ability.REPORTS, Ability.PAUSE)
    broker.capabilities = Capabilities(dict.fromkeys(lacks, "Not in memory."))
    context.broker = broker
    state = read_broker(context)
    assert [(queue.queue, queue.depth) for queue in state.queues] == [("named", 1)]
    assert (state.fleet.workers, state.desired) == ((), DesiredState())
    assert state.capabilities.why_not(Ability.REPORTS) == "Not in memory."
    assert context.fleet().workers == ()
    assert context.missing == dict.fromkeys((Operation.PAUSE, Operation.RESUME), "Not in memory.")


def test_it_has_queues_workers_and_the_desired_state_of_one_moment(
    context: OperationsContext, client: redis.Redis, customer: Celery
) -> None:
    now = time.time()
    write_report(client, report(at=now, worker="fresh@h", **BUSY))
    write_report(client, report(at=now - 60, worker="lost@h"))
    write_report(
        client,
        report(at=now - DEFAULT_TIMINGS.drop_seconds - 60, worker="forgotten@h", queues=("old",)),
    )
    context.broker.publish(DesiredState(revision=3, paused=("express",)))
    for _ in range(3):
        customer.send_task("nap", queue="orders")
    customer.send_task("nap", queue="elsewhere")
    state = read_broker(context)
    # The named queues and those that workers serve; the keys of a broker are never listed.
    assert {queue.queue: queue.depth for queue in state.queues} == {
        "express": 0,
        "named": 0,
        "orders": 3,
    }
    assert state.depth == 3
    assert state.oldest_age_seconds is not None
    assert 0 <= state.oldest_age_seconds < 60
    assert {worker.name: worker.status for worker in state.fleet.workers} == {
        "fresh@h": WorkerStatus.ACTIVE,
        "lost@h": WorkerStatus.LOST,
    }
    assert [one.worker for one in state.fleet.expired] == ["forgotten@h"]
    assert state.desired == DesiredState(revision=3, paused=("express",))
    assert abs(state.at - now) < 60


def test_messages_in_the_steps_that_a_worker_reports_count(
    context: OperationsContext, client: redis.Redis
) -> None:
    write_report(
        client, report(at=time.time(), queues=("orders",), priority_steps=(0, 5), separator="#")
    )
    client.lpush("orders#5", "{}")
    state = read_broker(context)
    assert state.depth == 1
    assert state.oldest_age_seconds is None


def test_a_broker_without_queues_has_no_depth(server: RealBroker, tmp_path: Path) -> None:
    with open_context(server, tmp_path) as context:
        state = read_broker(context)
    assert (state.queues, state.fleet.workers) == ((), ())
    assert state.depth is None
    assert state.oldest_age_seconds is None


def test_the_depth_is_0_if_nothing_waits(context: OperationsContext) -> None:
    state = read_broker(context)
    assert (state.depth, state.oldest_age_seconds) == (0, 0.0)


def test_completion_rates_use_the_earlier_readings(
    context: OperationsContext, client: redis.Redis
) -> None:
    now, completion_rates = time.time(), CompletionRates()
    write_report(client, report(at=now, clock_at=now, processed=10))
    assert read_broker(context, completion_rates).completion_rates == {}
    write_report(client, report(at=now, clock_at=now + 60, processed=40))
    assert read_broker(context, completion_rates).completion_rates[
        "w@h", "b"
    ].per_minute == pytest.approx(30.0)


def test_a_replica_that_takes_no_writes_is_read_all_the_same(
    context: OperationsContext, client: redis.Redis, server: RealBroker
) -> None:
    write_report(client, report(at=time.time()))
    with server.read_only():
        assert [worker.name for worker in read_broker(context).fleet.workers] == ["w@h"]


def fails(context: OperationsContext) -> BrokerErrorKind:
    with pytest.raises(BrokerError) as caught:
        read_broker(context)
    return caught.value.kind


def test_a_stopped_broker_gives_no_state(context: OperationsContext, server: RealBroker) -> None:
    read_broker(context)
    server.stop()
    assert fails(context) is BrokerErrorKind.DOWN


def test_a_broker_that_hangs_gives_none_in_time(
    context: OperationsContext, server: RealBroker
) -> None:
    read_broker(context)
    with server.frozen():
        assert fails(context) is BrokerErrorKind.SLOW
    assert read_broker(context).depth == 0


@pytest.mark.parametrize("hidden", ["workers", "desired"])
def test_a_user_who_may_not_read_a_part_gets_no_partial_state(
    context: OperationsContext, server: RealBroker, hidden: str
) -> None:
    other = {"workers": "desired", "desired": "workers"}[hidden]
    with server.forbidding("resetkeys", "~named*", "~unacked", f"~queuescope:{other}"):
        assert fails(context) is BrokerErrorKind.NO_PERMISSION


def test_the_jobs_and_workers_of_the_benchmark_are_those_that_are_read(
    context: OperationsContext, server: RealBroker
) -> None:
    with redis.Redis(port=server.port) as client:
        fill(client, 12)
        report_workers(client)
    state = read_broker(context)
    assert {one.queue: one.depth for one in state.queues} == {
        "named": 0,
        **dict.fromkeys(QUEUES, 3),
    }
    assert (len(state.fleet.alive), state.unreadable) == (WORKERS, ())
