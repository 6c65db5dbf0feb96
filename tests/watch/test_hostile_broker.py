"""Any client can write anything to the broker: what is read, shown and dropped of it."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis
from tests.instrument.conftest import until
from tests.real_broker import RealBroker, layout_of
from tests.worker_reports import BUSY, JOB, report

from queuescope.broker.protocol import QueueReading
from queuescope.broker.reports import (
    REPORTS_LIMIT,
    WorkerReport,
    decode_report,
    encode,
    names_in_replies,
)
from queuescope.dashboard.live_sources.broker import broker_source
from queuescope.dashboard.probes import liveness
from queuescope.dashboard.services import Services
from queuescope.known import Known
from queuescope.operations.access import Access, Actor, Origin
from queuescope.operations.audit import Result
from queuescope.operations.context import OperationsContext
from queuescope.operations.request import Operation, Request
from queuescope.settings import Settings
from queuescope.watch import BrokerState, Watch, read_broker

WORKERS = "queuescope:workers"
MEBIBYTE = 2**20
DEEP = b"[" * 20_000
MANY_DIGITS = b"1" * 400
TOO_MANY_DIGITS = b"1" * 5000


@pytest.fixture
def context(server: RealBroker, tmp_path: Path) -> Iterator[OperationsContext]:
    with OperationsContext(
        broker_url=server.url,
        store_url=f"sqlite:///{tmp_path / 'operations.db'}",
        folder=tmp_path / "purged",
        access=Access(admins=["ada"]),
        queues=("orders",),
    ) as made:
        yield made


def written(**changes: object) -> bytes:
    """A report written without any checks, as by a stranger."""
    fields = msgspec.to_builtins(report(at=time.time()))
    return msgspec.json.encode({**fields, **changes})


def with_raw(field: str, raw: bytes) -> bytes:
    """A report with ``raw`` as the JSON of one field."""
    return msgspec.json.encode(
        {**msgspec.to_builtins(report(at=time.time())), field: msgspec.Raw(raw)}
    )


def hostile_reports() -> dict[str, bytes]:
    found: dict[str, bytes] = {
        "not-utf8": b"\xff\xfe",
        "empty": b"",
        "deep": DEEP,
        "deep-objects": b'{"a":' * 20_000,
        "steps": written(priority_steps=list(range(256)) * 1000),
        "step-values": written(priority_steps=[0, 256]),
        "negative-step": written(priority_steps=[-1]),
        "separator": written(separator="x" * 1000),
        "no-separator": written(separator=""),
        "name": written(worker="w" * 10_000),
        "queues": written(queues=[f"q{n}" for n in range(5000)]),
        "queue-name": written(queues=["q" * 10_000]),
        "reserved": written(reserved={f"q{n}": 1 for n in range(5000)}),
        "active": written(active=[msgspec.to_builtins(JOB)] * 1000),
        "future": written(at=time.time() + 3600),
        "far-future": written(at=1e18),
        "begins-in-the-future": written(worker="fine@h", started_at=2e11),
        "revision": written(revision=2**63 - 1),
        "negative": written(processed=-1),
        "too-large": written(padding="x" * MEBIBYTE),
    }
    for field in msgspec.structs.fields(WorkerReport):
        for kind, raw in (("digits", MANY_DIGITS), ("deep", DEEP), ("infinite", b"1e999")):
            found[f"{field.name}-{kind}"] = with_raw(field.name, raw)
        found[f"{field.name}-of-digits"] = with_raw(field.name, TOO_MANY_DIGITS)
    return found


def names(state: BrokerState) -> list[str]:
    return [worker.name for worker in state.fleet.workers]


def test_each_report_that_cannot_be_read_is_one_row_and_hides_no_other(
    context: OperationsContext, client: redis.Redis
) -> None:
    hostile = hostile_reports()
    client.hset(WORKERS, mapping=dict[Any, Any](hostile))
    client.hset(WORKERS, "fine@h", encode(report(worker="fine@h", at=time.time(), **BUSY)))
    state = read_broker(context)
    assert names(state) == ["fine@h"]
    assert set(state.unreadable) == set(hostile)
    (finding,) = broker_source(Known(state, time.time())).report.findings
    assert f"{len(hostile):,} entries among the workers' reports are unreadable" in finding.cause
    # None was learned: only the steps that kombu knows are looked at.
    assert len(layout_of(context.broker).lists("orders")) == 10
    assert context.broker.drop_reports() == len(hostile)
    assert names(read_broker(context)) == ["fine@h"]


def test_what_a_worker_reports_is_always_within_what_is_read() -> None:
    """Ids and names may contain anything, even lone surrogates."""
    job = msgspec.structs.replace(JOB, id="i" * 10_000, name="\ud800", queue="ä" * 300)
    made = report(active=(job,) * 500, queues=("q" * 999,) * 3000, priority_steps=tuple(range(200)))
    read = decode_report(encode(made))
    assert (len(read.active), len(read.queues), len(read.priority_steps)) == (200, 1000, 10)
    assert read.active[0].name == "\\ud800"


def test_what_was_learned_is_dropped_with_the_reports(
    context: OperationsContext, client: redis.Redis
) -> None:
    """A stranger's report of the same kind does not outweigh those of the workers."""
    for number in range(3):
        known_report = report(worker=f"w{number}@h", at=time.time(), priority_steps=(0, 5))
        client.hset(WORKERS, known_report.worker, encode(known_report))
    strange = report(
        worker="x@h", at=time.time(), priority_steps=tuple(range(100, 110)), separator="#"
    )
    client.hset(WORKERS, "x@h", encode(strange))
    client.lpush("orders\x06\x165", "{}")
    assert read_broker(context).depth == 1
    client.delete(WORKERS)
    read_broker(context)
    assert layout_of(context.broker).lists("orders") == [
        "orders",
        *(f"orders\x06\x16{step}" for step in range(1, 10)),
    ]


def test_neither_many_nor_large_reports_fill_the_memory(
    context: OperationsContext, client: redis.Redis
) -> None:
    """The server holds 160 MB of them, of which few are ever in our memory."""
    client.hset(WORKERS, "fine@h", encode(report(worker="fine@h", at=time.time())))
    for number in range(10):
        client.hset(WORKERS, f"large-{number}", b"x" * 16 * MEBIBYTE)
    read_broker(context)
    tracemalloc.start()
    try:
        state = read_broker(context)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 64 * MEBIBYTE
    assert names(state) == ["fine@h"]
    assert len(state.unreadable) == 10
    assert context.broker.drop_reports() == 10
    with client.pipeline(transaction=False) as pipe:
        for number in range(REPORTS_LIMIT + 500):
            pipe.hset(WORKERS, f"many-{number}", b"x" * 5000)
        pipe.execute()
    state = read_broker(context)
    assert names(state) == ["fine@h"]
    assert (len(state.unreadable), state.unread) == (REPORTS_LIMIT - 1, 501)


@pytest.mark.parametrize(
    "message",
    [
        b'{"headers": {"queuescope_enqueued_at": ' + MANY_DIGITS + b"}}",
        b'{"headers": {"queuescope_enqueued_at": ' + TOO_MANY_DIGITS + b"}}",
        b'{"headers": {"queuescope_enqueued_at": -1e300}}',
        b'{"headers": {"queuescope_enqueued_at": 0}}',
        b'{"headers": {"queuescope_enqueued_at": 1e999}}',
        b'{"headers": {"queuescope_enqueued_at": "soon"}}',
        b'{"headers": {"other": ' + DEEP,
        DEEP,
        b"\xff" * 100,
        b"x" * 17 * MEBIBYTE,
    ],
    ids=["digits", "more", "negative", "old", "infinite", "text", "deep", "list", "raw", "large"],
)
def test_a_message_that_cannot_be_read_counts_and_says_nothing(
    context: OperationsContext, client: redis.Redis, message: bytes
) -> None:
    client.lpush("orders", message)
    client.hset("unacked", mapping={"1": message, "2": b'[{}, "", "orders"]'})
    (reading,) = context.broker.queues(["orders"])
    # What workers hold is not known where the message is too large to be read.
    held = None if len(message) > MEBIBYTE else 1
    assert reading == QueueReading("orders", 1, None, held)


def test_bindings_that_cannot_be_read_hide_nothing(
    context: OperationsContext, client: redis.Redis
) -> None:
    client.sadd("_kombu.binding.shop", b"x" * 17 * MEBIBYTE)
    client.sadd("_kombu.binding.more", *range(5000))
    client.hset("unacked", mapping={"1": '[{}, "shop", "a"]', "2": '[{}, "more", "orders"]'})
    client.lpush("orders", "{}")
    (reading,) = context.broker.queues(["orders"])
    # Delivered messages may belong to any queue, so the count is unknown, and never 0.
    assert (reading.depth, reading.unacknowledged) == (1, None)


def test_a_key_of_another_type_hides_no_other_queue(
    context: OperationsContext, client: redis.Redis
) -> None:
    client.set("orders", "no list")
    client.set("unacked", "no hash")
    known_report = report(worker="w@h", at=time.time(), queues=("express", "orders"))
    client.hset(WORKERS, known_report.worker, encode(known_report))
    client.lpush("express", "{}")
    state = read_broker(context)
    assert [(queue.queue, queue.depth) for queue in state.queues] == [("express", 1)]
    assert state.left_out_queues == 1


DAMAGE = {
    "text": {"revision": b"soon"},
    "digits": {"revision": MANY_DIGITS},
    "more digits": {"revision": TOO_MANY_DIGITS},
    "greatest": {"revision": b"9223372036854775807"},
    "made up": {"revision": b"9007199254740991", "paused": b"[]"},
    "negative": {"revision": b"-1"},
    "nothing": {"revision": b""},
    "deep": {"paused": DEEP},
    "names": {"paused": msgspec.json.encode(["q" * 1000])},
    "many": {"paused": msgspec.json.encode([f"q{n}" for n in range(5000)])},
    "large": {"paused": b"x" * 17 * MEBIBYTE},
    "other": {"paused": b'{"a": 1}'},
    "ledger": {"ledger": b"\xff"},
    "counter text": {"revocations": b"soon"},
    "counter greatest": {"revocations": b"9223372036854775807"},
    "counter digits": {"revocations": TOO_MANY_DIGITS},
}


def pause(context: OperationsContext, queue: str) -> None:
    actor, request = Actor("ada", Origin.OIDC), Request(Operation.PAUSE, queue)
    plan = context.operations.plan(actor, request)
    outcome = context.operations.carry_out(actor, request, plan.token, plan.phrase)
    assert (outcome.result, outcome.is_recorded) == (Result.DONE, True)


def test_a_damaged_desired_state_is_reported_and_repaired_from_the_store(
    context: OperationsContext, client: redis.Redis
) -> None:
    client.lpush("orders", "{}")
    pause(context, "orders")
    before = read_broker(context).desired
    for kind, fields in DAMAGE.items():
        client.hset("queuescope:desired", mapping=dict[Any, Any](fields))
        state = read_broker(context)
        is_told = kind != "made up" and not kind.startswith("counter")
        assert bool(state.desired_fault) is is_told, kind
        if is_told:
            # What was read last stays: no queue seems to be resumed.
            assert state.desired == before, kind
            causes = [f.cause for f in broker_source(Known(state, 0.0)).report.findings]
            assert any("is damaged in the broker" in cause for cause in causes), kind
        context.tidy()
        before = read_broker(context).desired
        assert before == context.store.desired.read(), kind
        assert (before.paused, before.revision < 100) == (("orders",), True), kind
        context.broker.revoke(["job"])
        assert int(client.hget("queuescope:desired", "revocations") or 0) < 2**53, kind
    client.delete("queuescope:desired")
    client.set("queuescope:desired", "no hash")
    assert read_broker(context).desired_fault
    context.tidy()
    assert read_broker(context).desired == context.store.desired.read()


def test_an_operation_on_a_damaged_state_is_carried_out(
    context: OperationsContext, client: redis.Redis
) -> None:
    """Also where nothing was ever decided."""
    client.hset("queuescope:desired", mapping={"revision": "x", "revocations": str(2**63 - 1)})
    client.hset(WORKERS, "w@h", encode(report(at=time.time(), queues=("express", "orders"))))
    pause(context, "orders")
    assert read_broker(context).desired.paused == ("orders",)
    client.hset("queuescope:desired", "revision", str(2**63 - 1))
    pause(context, "express")
    assert read_broker(context).desired.paused == ("express", "orders")


def test_malformed_replies_name_no_worker() -> None:
    assert names_in_replies([{"w@h": {"ok": "pong"}}, 3, None, {"x" * 1000: 1}, ["a"]]) == {"w@h"}
    assert names_in_replies("nonsense") == names_in_replies(None) == set()
    assert len(names_in_replies([{f"w{number}": 1 for number in range(100_000)}])) == REPORTS_LIMIT


def test_a_watch_survives_any_error_of_its_reader() -> None:
    """Also an unexpected one; it is reported, and over as soon as the data are gone."""
    failures: list[BaseException] = [
        RecursionError("deep"),
        OverflowError("large"),
        MemoryError(),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"),
        ValueError("digits"),
        KeyError("field"),
    ]

    def read() -> int:
        if failures:
            raise failures.pop()
        return 7

    watch = Watch(
        "test", read, seconds=3600, overdue_seconds=60, hung=lambda: pytest.fail("it does not hang")
    )
    watch.start()
    try:
        while failures:
            error = watch.refresh(patience_seconds=60).error
            assert error is None or "had an internal error" in str(error)
        assert watch.refresh(patience_seconds=60).fresh_value == 7
        assert not watch.has_ended
    finally:
        watch.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_loop_that_fails_or_ends_is_named_on_healthz(
    tmp_path: Path,
) -> None:
    failures: list[BaseException] = [RecursionError("deep")]

    def read() -> BrokerState:
        raise failures[0]

    watch = Watch(
        "broker", read, seconds=3600, overdue_seconds=60, hung=lambda: pytest.fail("it hangs")
    )
    settings = Settings(prometheus_url="http://127.0.0.1:1", data_dir=tmp_path)
    services = Services(settings, None, None, watch)
    services.start()
    try:
        until(lambda: watch.known.error, lambda error: error is not None)
        answer = liveness(*services.troubles())
        assert (answer.status_code, answer.body) == (200, b"ok\nfailing: broker\n")
        # Nothing that the watch can outlive.
        failures[0] = SystemExit()
        watch.refresh(patience_seconds=0)
        until(lambda: watch.has_ended, lambda has_ended: has_ended)
        answer = liveness(*services.troubles())
        assert answer.status_code == 503
        assert bytes(answer.body).startswith(b"not ok\nended: broker\n")
    finally:
        services.close()
