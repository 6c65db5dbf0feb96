"""What is read of audit and purges, on a real broker and real files."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import redis
from tests.real_broker import RealBroker

from queuescope.errors import AuditError, PurgeError
from queuescope.operations.access import Access, Actor, Origin, Role
from queuescope.operations.context import OperationsContext
from queuescope.operations.request import Request
from queuescope.watch import ChainVerifier, read_audit, read_purges
from queuescope.watch.operations import FULL_VERIFICATION_SECONDS

ADA = Actor("ada", Origin.OIDC)


@pytest.fixture
def context(server: RealBroker, tmp_path: Path) -> Iterator[OperationsContext]:
    with OperationsContext(
        broker_url=server.url,
        store_url=f"sqlite:///{tmp_path / 'operations.db'}",
        folder=tmp_path / "purged",
        access=Access(admins=["ada"]),
        queues=["orders"],
    ) as made:
        yield made


@pytest.fixture
def purge(context: OperationsContext, client: redis.Redis) -> Callable[[], str]:
    """A purge of one message; returns its id."""

    def purge_one() -> str:
        client.lpush("orders", "{}")
        plan = context.operations.plan(ADA, Request.purge("orders"))
        return context.operations.carry_out(ADA, plan.request, plan.token, plan.phrase).operation_id

    return purge_one


def test_the_newest_entries_and_open_operations_are_read(
    context: OperationsContext, purge: Callable[[], str]
) -> None:
    for _ in range(11):
        purge()
    plan = context.store.plan(ADA, Request.pause("orders"), 1)
    act = context.store.begin(plan, ADA, Role.ADMIN, 1)
    state = read_audit(context)
    assert [entry.seq for entry in state.entries] == list(range(23, 3, -1))
    assert [one.operation_id for one in state.unfinished] == [act]
    assert state.refusal is None


def test_a_read_only_audit_can_still_be_read(
    context: OperationsContext, purge: Callable[[], str], tmp_path: Path
) -> None:
    purge()
    with closing(sqlite3.connect(tmp_path / "operations.db")) as other:
        other.execute("BEGIN IMMEDIATE")
        state = read_audit(context)
    assert len(state.entries) == 2
    assert isinstance(state.refusal, AuditError)


def test_purges_have_their_actors(
    context: OperationsContext, purge: Callable[[], str], tmp_path: Path
) -> None:
    first, second = purge(), purge()
    (tmp_path / "purged" / f"{first}.jsonl").write_text("{")
    state = read_purges(context)
    assert [one.id for one in state.purges] == [second]
    assert state.damaged == (f"{first}.jsonl",)
    assert state.actors == {second: "ada"}
    assert state.unfinished == ()


def test_purges_are_listed_without_broker_and_audit(
    context: OperationsContext, purge: Callable[[], str], server: RealBroker, tmp_path: Path
) -> None:
    kept = purge()
    server.stop()
    (tmp_path / "operations.db").unlink()
    (tmp_path / "operations.db").mkdir()
    state = read_purges(context)
    assert [one.id for one in state.purges] == [kept]
    assert (state.actors, state.unfinished) == ({}, None)
    server.start()
    (tmp_path / "purged" / f"{kept}.jsonl").unlink()
    (tmp_path / "purged").rmdir()
    (tmp_path / "purged").write_text("no folder")
    with pytest.raises(PurgeError):
        read_purges(context)


def test_a_rebuilt_chain_is_detected_with_the_previous_head(
    context: OperationsContext, purge: Callable[[], str], tmp_path: Path
) -> None:
    now = [0.0]
    walk = ChainVerifier(context.store.audit, clock=lambda: now[0])
    assert walk().entries == 0
    purge()
    assert (walk().entries, walk().fault) == (2, "")
    context.store.close()
    for file in tmp_path.glob("operations.db*"):
        file.unlink()
    # The database that is there now has no tables yet.
    with pytest.raises(AuditError):
        walk()
    purge()
    assert "entry 2 does not match the head" in walk().fault
    now[0] = FULL_VERIFICATION_SECONDS
    assert "rebuilt or cut off" in walk().fault


def test_old_entries_are_verified_regularly_and_on_demand(
    context: OperationsContext, purge: Callable[[], str], tmp_path: Path
) -> None:
    now = [0.0]
    walk = ChainVerifier(context.store.audit, clock=lambda: now[0])
    for _ in range(2):
        purge()
    assert walk().entries == 4
    with closing(sqlite3.connect(tmp_path / "operations.db")) as other:
        other.execute("DROP TRIGGER operations_audit_no_update")
        other.execute("UPDATE operations_audit SET actor = 'eve' WHERE seq = 1")
        other.commit()
    purge()
    assert (walk().entries, walk().fault) == (6, "")
    walk.start_over()
    assert walk().fault == "entry 1 was changed"
    # It stays said until the whole is walked again.
    assert walk().fault == "entry 1 was changed"
