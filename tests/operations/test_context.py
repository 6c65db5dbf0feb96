"""Operations on a real broker: what is done, what is refused, and what the audit has."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from sqlalchemy import make_url
from tests.machine import MachineClock
from tests.real_broker import RealBroker, connection_of
from tests.real_postgresql import RealPostgreSQL

from queuescope.broker.desired import DesiredState
from queuescope.errors import AuditError, BrokerError, RefusalReason, RefusedError
from queuescope.operations.access import Access, Actor, Origin, Role
from queuescope.operations.audit import Outcome, Phase, Result, Search
from queuescope.operations.context import OperationsContext
from queuescope.operations.request import Request
from queuescope.operations.store import CHALLENGE_SECONDS
from queuescope.watch import read_broker, read_purges

ADA = Actor("ada", Origin.OIDC)
BOB = Actor("bob", Origin.OIDC)
QUEUES = ("express", "orders")
OpenContext = Callable[..., OperationsContext]


@pytest.fixture
def open_context(server: RealBroker, tmp_path: Path) -> Iterator[OpenContext]:
    with ExitStack() as opened:

        def open_one(store_url: str = "") -> OperationsContext:
            made = OperationsContext(
                broker_url=server.url,
                store_url=store_url or f"sqlite:///{tmp_path / 'operations.db'}",
                folder=tmp_path / "purged",
                access=Access(admins=["ada", "bob"]),
                queues=QUEUES,
            )
            return opened.enter_context(made)

        yield open_one


@pytest.fixture
def send(server: RealBroker) -> Iterator[Callable[[str, int], None]]:
    app = Celery("shop", broker=server.url, set_as_current=False)

    def send_some(queue: str, count: int) -> None:
        for number in range(count):
            app.send_task("enhance", args=[number], queue=queue)

    yield send_some
    app.close()


def depths(context: OperationsContext) -> dict[str, int]:
    return {reading.queue: reading.depth for reading in context.broker.queues(QUEUES)}


def do(context: OperationsContext, request: Request, actor: Actor = ADA) -> Outcome:
    plan = context.operations.plan(actor, request)
    return context.operations.carry_out(actor, request, plan.token, plan.phrase)


def audited(context: OperationsContext) -> list[tuple[str, str]]:
    return [
        (entry.event.phase, entry.event.result)
        for entry in reversed(context.store.audit.find(Search(), limit=1000))
    ]


def test_a_purge_takes_one_queue_and_a_restore_brings_it_back(
    open_context: OpenContext, send: Callable[[str, int], None]
) -> None:
    context = open_context()
    send("orders", 42)
    send("express", 7)
    outcome = do(context, Request.purge("orders"))
    assert (outcome.result, outcome.count) == (Result.DONE, 42)
    assert depths(context) == {"orders": 0, "express": 7}
    with pytest.raises(RefusedError, match="Nothing waits"):
        context.operations.plan(ADA, Request.purge("orders"))
    back = do(context, Request.restore(outcome.operation_id))
    assert (back.result, back.count) == (Result.DONE, 42)
    assert depths(context) == {"orders": 42, "express": 7}
    with pytest.raises(RefusedError, match="already restored"):
        context.operations.plan(ADA, Request.restore(outcome.operation_id))
    assert audited(context) == [(Phase.INTENT, Result.PENDING), (Phase.OUTCOME, Result.DONE)] * 2


def test_a_pause_is_stored_and_lasts(open_context: OpenContext) -> None:
    context = open_context()
    do(context, Request.pause("orders"))
    assert context.broker.desired() == context.store.desired.read()
    assert context.broker.desired().paused == ("orders",)
    with pytest.raises(RefusedError, match="already paused") as caught:
        context.operations.plan(BOB, Request.pause("orders"))
    assert caught.value.reason is RefusalReason.NOTHING_TO_DO
    do(context, Request.pause("*"))
    assert context.broker.desired().paused == ("*",)
    with pytest.raises(RefusedError, match="resumed together"):
        context.operations.plan(ADA, Request.resume("orders"))
    do(context, Request.resume("*"))
    assert context.broker.desired() == DesiredState(revision=3, ledger=context.store.desired.name)
    with pytest.raises(RefusedError, match="Queue ordres is not known"):
        context.operations.plan(ADA, Request.pause("ordres"))


def test_a_broker_that_lost_its_data_gets_the_desired_state_again(
    open_context: OpenContext,
) -> None:
    context = open_context()
    do(context, Request.pause("orders"))
    connection_of(context.broker).reader.flushall()
    context.tidy()
    assert context.broker.desired().paused == ("orders",)
    # Somebody wrote there by hand.
    context.broker.publish(DesiredState(revision=9, paused=("express",)))
    context.tidy()
    assert context.broker.desired().paused == ("orders",)
    assert context.broker.desired().revision > 9
    assert context.broker.desired() == context.store.desired.read()


def test_dashboards_with_databases_of_their_own_agree_on_what_was_decided_last(
    open_context: OpenContext, tmp_path: Path
) -> None:
    first, second = open_context(), open_context(f"sqlite:///{tmp_path / 'of its own.db'}")
    for context, other, request in (
        (first, second, Request.pause("orders")),
        (second, first, Request.pause("express")),
        (first, second, Request.resume("orders")),
        (second, first, Request.resume("express")),
        (second, first, Request.pause("*")),
        (first, second, Request.resume("*")),
    ):
        do(context, request)
        decided = context.broker.desired()
        for _ in range(3):
            other.tidy()
            context.tidy()
        assert context.broker.desired() == decided
        assert context.store.desired.read() == other.store.desired.read() == decided
        assert decided.ledger == context.store.desired.name != other.store.desired.name
        assert read_broker(other).is_decided_elsewhere
        assert not read_broker(context).is_decided_elsewhere
    # A broker that loses its copy gets it once, from the first dashboard that sees it.
    do(first, Request.pause("orders"))
    second.tidy()
    connection_of(first.broker).reader.flushall()
    for _ in range(3):
        second.tidy()
        first.tidy()
    assert first.broker.desired().paused == ("orders",)
    assert first.broker.desired() == first.store.desired.read() == second.store.desired.read()


def test_a_database_that_was_lost_resumes_nothing(
    open_context: OpenContext, tmp_path: Path
) -> None:
    do(open_context(), Request.pause("orders"))
    context = open_context(f"sqlite:///{tmp_path / 'new.db'}")
    do(context, Request.pause("express"))
    assert context.broker.desired().paused == ("express", "orders")


def test_pauses_at_the_same_moment_are_both_kept(open_context: OpenContext) -> None:
    first, second = open_context(), open_context()
    plans = [
        context.operations.plan(ADA, Request.pause(queue))
        for context, queue in ((first, "orders"), (second, "express"))
    ]
    for context, plan in zip((first, second), plans, strict=True):
        assert context.operations.carry_out(ADA, plan.request, plan.token).result is Result.DONE
    assert first.broker.desired().paused == ("express", "orders")


def test_a_broker_that_is_down_is_not_an_empty_queue_and_nothing_is_done(
    open_context: OpenContext, server: RealBroker, send: Callable[[str, int], None]
) -> None:
    context = open_context()
    send("orders", 3)
    plan = context.operations.plan(ADA, Request.purge("orders"))
    server.stop()
    with pytest.raises(BrokerError):
        context.operations.carry_out(ADA, plan.request, plan.token, plan.phrase)
    with pytest.raises(BrokerError):
        context.operations.plan(ADA, Request.pause("orders"))
    assert audited(context) == [(Phase.OUTCOME, Result.REFUSED)]


def test_a_read_only_broker_fails_the_operation_and_keeps_the_queue(
    open_context: OpenContext, send: Callable[[str, int], None], server: RealBroker
) -> None:
    context = open_context()
    send("orders", 3)
    plans = [
        context.operations.plan(ADA, request)
        for request in (Request.purge("orders"), Request.pause("express"))
    ]
    with server.read_only():
        for plan in plans:
            outcome = context.operations.carry_out(ADA, plan.request, plan.token, plan.phrase)
            assert outcome.result is Result.FAILED
    context.tidy()
    assert depths(context)["orders"] == 3
    assert context.broker.desired() == DesiredState()
    assert context.store.desired.read() == DesiredState()


def nothing_happens(context: OperationsContext, act: Callable[[], object]) -> str:
    """The sentence of the error of ``act``; the queue and the desired state stay as they were."""
    with pytest.raises(AuditError) as caught:
        act()
    assert depths(context) == {"orders": 3, "express": 0}
    assert context.broker.desired() == DesiredState()
    assert connection_of(context.broker).reader.keys("queuescope:*") == []
    return str(caught.value)


@pytest.mark.parametrize("request_", [Request.purge("orders"), Request.pause("orders")])
def test_a_locked_audit_blocks_the_operation(
    open_context: OpenContext, send: Callable[[str, int], None], tmp_path: Path, request_: Request
) -> None:
    context = open_context()
    send("orders", 3)
    plan = context.operations.plan(ADA, request_)
    with closing(sqlite3.connect(tmp_path / "operations.db")) as other:
        other.execute("BEGIN IMMEDIATE")
        nothing_happens(
            context, lambda: context.operations.carry_out(ADA, request_, plan.token, plan.phrase)
        )
    assert (
        context.operations.carry_out(ADA, request_, plan.token, plan.phrase).result is Result.DONE
    )


def test_a_read_only_audit_blocks_the_operation(
    open_context: OpenContext, send: Callable[[str, int], None], tmp_path: Path
) -> None:
    context = open_context()
    send("orders", 3)
    plan = context.operations.plan(ADA, Request.purge("orders"))
    reader = open_context(f"sqlite:///file:{tmp_path / 'operations.db'}?mode=ro&uri=true")
    nothing_happens(
        context, lambda: reader.operations.carry_out(ADA, plan.request, plan.token, plan.phrase)
    )


FULL_DISK = """
import sys
from contextlib import contextmanager
from pathlib import Path
from queuescope.errors import AuditError
from queuescope.operations.access import Access, Actor, Origin
from queuescope.operations.request import Request
from queuescope.operations.context import OperationsContext

broker_url, disk = sys.argv[1], Path(sys.argv[2])
ada, purge = Actor("ada", Origin.OIDC), Request.purge("orders")

@contextmanager
def full():
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 512)
        except OSError:
            pass
    yield
    filler.unlink()

def context(audit, purges):
    return OperationsContext(
        broker_url=broker_url, store_url=f"sqlite:///{audit / 'operations.db'}",
        folder=purges / "purged", access=Access(admins=["ada"]), queues=["orders"],
    )

def act(context, plan):
    try:
        outcome = context.operations.carry_out(ada, purge, plan.token, plan.phrase)
        said = f"{outcome.result}: {outcome.detail}"
    except AuditError as exc:
        said = f"refused: {exc}"
    print(context.broker.queues(["orders"])[0].depth, said, flush=True)

with context(disk.parent, disk) as purges_there:
    plan = purges_there.operations.plan(ada, purge)
    with full():
        act(purges_there, plan)
with context(disk, disk) as all_there:
    plan = all_there.operations.plan(ada, purge)
    with full():
        act(all_there, plan)
    act(all_there, plan)
    found = all_there.store.audit.verify()
    print(found.entries, repr(found.fault))
"""


def test_a_full_disk_blocks_the_operation_until_there_is_space_again(
    send: Callable[[str, int], None], server: RealBroker, tmp_path: Path
) -> None:
    """Under the audit, and under what a purge takes out."""
    send("orders", 3)
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = f'mount -t tmpfs -o size=512k none "{disk}" && exec "$@"'
    done = subprocess.run(
        [
            *("unshare", "--map-root-user", "--mount", "sh", "-c", mounted, "sh"),
            *(sys.executable, "-c", FULL_DISK, server.url, str(disk)),
        ],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    no_purges, no_audit, room_again, chain = done.stdout.splitlines()
    assert no_purges.startswith("3 failed: Nothing was done: ")
    assert no_audit.startswith("3 refused: the audit")
    assert no_audit.endswith("the disk is full")
    assert room_again.startswith("0 done: Removed 3 jobs")
    assert chain == "2 ''"


def test_postgresql_without_the_right_or_down_blocks_the_operation(
    open_context: OpenContext,
    send: Callable[[str, int], None],
    postgresql: RealPostgreSQL,
    postgresql_url: str,
) -> None:
    with closing(open_context(postgresql_url)) as owner:
        owner.store.audit.verify()
    database = make_url(postgresql_url).database
    assert database
    postgresql.execute("CREATE ROLE dashboard LOGIN PASSWORD 'canary'")
    tables = "ALL TABLES IN SCHEMA public"
    postgresql.execute(
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON {tables} TO dashboard", database=database
    )
    context = open_context(postgresql.url(database, user="dashboard", password="canary"))
    send("orders", 3)
    plan = context.operations.plan(ADA, Request.purge("orders"))

    def act() -> Outcome:
        return context.operations.carry_out(ADA, plan.request, plan.token, plan.phrase)

    postgresql.execute("REVOKE INSERT ON operations_audit FROM dashboard", database=database)
    said = nothing_happens(context, act)
    assert "42501" in said
    assert "canary" not in said
    postgresql.kill()
    try:
        assert "cannot be opened" in nothing_happens(context, act)
    finally:
        postgresql.start()
    postgresql.execute("GRANT INSERT ON operations_audit TO dashboard", database=database)
    assert act().result is Result.DONE
    context.close()
    postgresql.execute("DROP OWNED BY dashboard; DROP ROLE dashboard", database=database)


def test_no_secret_reaches_audit_log_or_error(
    server: RealBroker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    canary = "c4n4ry"
    context = OperationsContext(
        broker_url=f"redis://operator:{canary}@127.0.0.1:{server.port}/0",
        store_url=f"sqlite:///{tmp_path / 'operations.db'}",
        folder=tmp_path / "purged",
        access=Access(admins=["ada"]),
        queues=QUEUES,
    )
    caplog.set_level(0)
    with context:
        for request in (Request.pause("orders"), Request.purge("orders")):
            with pytest.raises(BrokerError) as caught:
                context.operations.plan(ADA, request)
            assert canary not in str(caught.value)
        with pytest.raises(RefusedError):
            context.operations.carry_out(ADA, Request.pause("orders"), canary, canary)
        assert audited(context) == [(Phase.OUTCOME, Result.REFUSED)]
    assert canary not in caplog.text
    for file in tmp_path.glob("operations.db*"):
        assert canary.encode() not in file.read_bytes()


_AN_HOUR_AHEAD = """
import sys
from pathlib import Path

from queuescope.operations.access import Access, Actor, Origin
from queuescope.operations.request import Request
from queuescope.operations.context import OperationsContext

broker_url, folder = sys.argv[1], Path(sys.argv[2])
with OperationsContext(
    broker_url=broker_url, store_url=f"sqlite:///{folder / 'operations.db'}",
    folder=folder / "purged", access=Access(admins=["ada"]), queues=["express", "orders"],
) as context:
    print(len(context.tidy()))
    print(context.operations.plan(Actor("ada", Origin.OIDC), Request.pause("express")).token)
"""


def test_a_second_server_whose_clock_is_ahead_ends_no_operation_and_plans_none_in_the_future(
    open_context: OpenContext, server: RealBroker, tmp_path: Path
) -> None:
    context, pause = open_context(), Request.pause("orders")
    plan = context.operations.plan(ADA, pause)
    act = context.store.begin(plan, ADA, Role.ADMIN, 1)
    done = subprocess.run(
        [sys.executable, "-c", _AN_HOUR_AHEAD, server.url, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": MachineClock(tmp_path / "clock", 3600).path},
        capture_output=True,
        text=True,
        check=True,
    )
    ended, token = done.stdout.split()
    assert ended == "0"
    assert [one.operation_id for one in context.store.open_operations()] == [act]
    # What was asked there can be confirmed here, for as long as anything else.
    express = Request.pause("express")
    now_ms = context.store.now_ms()
    until_ms = context.store.planned(token, ADA, express).expires_at_ms
    assert now_ms < until_ms <= now_ms + CHALLENGE_SECONDS * 1000
    assert context.operations.carry_out(ADA, express, token, "").result == Result.DONE


def test_a_purge_that_may_be_restored_already_says_so_first(
    open_context: OpenContext, send: Callable[[str, int], None], tmp_path: Path
) -> None:
    """Its file comes from a backup; the records of broker and audit decide the warning."""
    context = open_context()
    send("orders", 12)
    purge_id = do(context, Request.purge("orders")).operation_id
    restore = Request.restore(purge_id)
    record = connection_of(context.broker).keys.purged(purge_id)
    file = tmp_path / "purged" / f"{purge_id}.jsonl"
    restored_file = file.with_name(f"{purge_id}.restored.jsonl")
    kept = file.read_bytes()
    as_purged: dict[Any, Any] = {**connection_of(context.broker).reader.hgetall(record)}

    def said(elsewhere: OperationsContext = context) -> str:
        warning = read_purges(elsewhere).warnings.get(purge_id, "")
        plan = elsewhere.operations.plan(ADA, restore)
        assert (plan.warning, bool(plan.phrase)) == (warning, bool(warning))
        return warning

    assert said() == ""
    # The broker loses its data between the plan and the act.
    early = context.operations.plan(ADA, restore)
    connection_of(context.broker).reader.flushall()
    for typed in ("", purge_id):
        with pytest.raises(RefusedError, match="does not know this purge") as caught:
            context.operations.carry_out(ADA, restore, early.token, typed)
        assert caught.value.reason is RefusalReason.WRONG_PHRASE
    assert depths(context)["orders"] == 0
    assert "The audit has no restore of it." in said()
    # It is confirmed, and the audit has what was said.
    assert do(context, restore).count == 12
    assert depths(context)["orders"] == 12
    (intent,) = (
        entry.event.detail
        for entry in context.store.audit.find(Search(operation="restore"))
        if entry.event.phase == Phase.INTENT
    )
    assert intent.startswith(f"restore purge {purge_id}, confirmed although: The broker does not")

    # The file of before the restore lies beside, then in place of, the restored one.
    file.write_bytes(kept)
    assert [purge.is_restored for purge in read_purges(context).purges] == [True]
    restored_file.unlink()
    assert "has recorded that all of its jobs are back" in read_purges(context).warnings[purge_id]
    with pytest.raises(RefusedError, match="already restored"):
        context.operations.plan(ADA, restore)
    context.tidy()
    assert not file.exists()
    restored_file.rename(file)

    # The broker of before the restore: the audit knows better.
    connection_of(context.broker).reader.delete(record)
    connection_of(context.broker).reader.hset(record, mapping=as_purged)
    assert "restored by ada at" in said()
    assert "was restored from an older backup" in said()
    connection_of(context.broker).reader.delete(record)
    assert "According to the audit it was restored by ada at" in said()
    # The dashboard lost its database as well.
    anew = open_context(f"sqlite:///{tmp_path / 'anew.db'}")
    assert "The audit does not contain this purge either." in said(anew)
    # The record of another purge under this name says nothing of this one.
    connection_of(context.broker).reader.hset(record, mapping={"at": "1000.5", "restored": "3"})
    with pytest.raises(RefusedError, match="unknown which jobs are already back"):
        context.operations.plan(ADA, restore)
    assert depths(context)["orders"] == 12


_KILLED_RESTORE = """
import os, signal, sys
from pathlib import Path

from queuescope.operations.access import Access, Actor, Origin
from queuescope.broker.redis.purges import RedisPurgeSteps
from queuescope.operations.request import Request
from queuescope.operations.context import OperationsContext

broker_url, folder, purge_id = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
put_back = RedisPurgeSteps.put_back

def die_at_the_second_piece(self, purge, offset, piece):
    if offset:
        os.kill(os.getpid(), signal.SIGKILL)
    return put_back(self, purge, offset, piece)

RedisPurgeSteps.put_back = die_at_the_second_piece
with OperationsContext(
    broker_url=broker_url, store_url=f"sqlite:///{folder / 'operations.db'}",
    folder=folder / "purged", access=Access(admins=["ada"]), queues=["express", "orders"],
) as context:
    actor, request = Actor("ada", Origin.OIDC), Request.restore(purge_id)
    context.operations.carry_out(actor, request, context.operations.plan(actor, request).token)
"""


def test_an_interrupted_restore_warns_of_what_the_broker_may_have_lost(
    open_context: OpenContext, server: RealBroker, tmp_path: Path
) -> None:
    """Only if the broker was not restarted, its count is certain."""
    context = open_context()
    messages = [f'{{"headers": {{"id": "{number}"}}}}' for number in range(2500)]
    connection_of(context.broker).reader.rpush("orders", *messages)
    purge_id = do(context, Request.purge("orders")).operation_id
    restore, record = Request.restore(purge_id), connection_of(context.broker).keys.purged(purge_id)
    as_purged: dict[Any, Any] = {**connection_of(context.broker).reader.hgetall(record)}
    killed = subprocess.run(
        [sys.executable, "-c", _KILLED_RESTORE, server.url, str(tmp_path), purge_id], check=False
    )
    assert killed.returncode == -signal.SIGKILL

    def said(elsewhere: OperationsContext = context) -> str:
        warning = read_purges(elsewhere).warnings.get(purge_id, "")
        plan = elsewhere.operations.plan(ADA, restore)
        assert (plan.warning, bool(plan.phrase)) == (warning, bool(warning))
        return warning

    assert depths(context)["orders"] == 2000
    assert read_purges(context).warnings == {}
    context.tidy()
    assert audited(context)[-1] == (Phase.OUTCOME, Result.UNKNOWN)
    assert said() == ""
    with server.forbidding("~*", "&*", "+@all", "-info"):
        assert "or does not say. By its record 2,000 of 2,500 jobs are back" in said()
    with server.gone():
        pass
    words = said()
    assert "A restore by ada at" in words
    assert "was restarted since then" in words
    # A dashboard with another audit is warned as well.
    anew = open_context(f"sqlite:///{tmp_path / 'anew.db'}")
    assert said(anew).startswith("A restore was interrupted, and the broker was restarted")

    # The broker of before the restore.
    as_cut_off: dict[Any, Any] = {**connection_of(context.broker).reader.hgetall(record)}
    connection_of(context.broker).reader.delete(record)
    connection_of(context.broker).reader.hset(record, mapping=as_purged)
    assert "has no record of it" in said()
    connection_of(context.broker).reader.delete(record)
    assert "According to the audit it may have been restored by ada at" in said()
    connection_of(context.broker).reader.hset(record, mapping=as_cut_off)

    # It goes on where it was cut off, once that is confirmed, and all is said and done.
    outcome = do(context, restore)
    assert (outcome.result, outcome.count) == (Result.DONE, 500)
    assert depths(context)["orders"] == 2500
    assert read_purges(context).warnings == {}
    intent = context.store.audit.find(Search(operation="restore"))[1].event
    assert "confirmed although: A restore by ada at" in intent.detail


def test_a_restore_that_cannot_be_recorded_does_not_start(
    open_context: OpenContext, send: Callable[[str, int], None], server: RealBroker
) -> None:
    context = open_context()
    send("orders", 2)
    restore = Request.restore(do(context, Request.purge("orders")).operation_id)
    plan = context.operations.plan(ADA, restore)
    with server.forbidding("~*", "&*", "+@all", "-hset"):
        outcome = context.operations.carry_out(ADA, restore, plan.token)
    assert outcome.result == Result.FAILED
    assert outcome.detail.startswith("Nothing was done")
    assert read_purges(context).warnings == {}
    assert do(context, restore).count == 2
