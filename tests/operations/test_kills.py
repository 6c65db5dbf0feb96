"""A small part of the long run: the audit is true, also after kills."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.operations.kills import QUEUES, run
from tests.operations.oracle import judge_all
from tests.real_broker import RealBroker, connection_of

from queuescope.broker.desired import DesiredState
from queuescope.operations.access import Access, Actor, Origin
from queuescope.operations.context import OperationsContext
from queuescope.operations.request import Request


@pytest.mark.timeout(300)
def test_the_audit_is_true_through_kills(tmp_path: Path) -> None:
    verdict, site, _ = run(16, seed=3, folder=tmp_path)
    assert verdict.faults == []
    assert verdict.results["done"] > 0
    assert site.kills.total() > 0


@pytest.fixture
def context(tmp_path: Path) -> Iterator[OperationsContext]:
    """With a purge of three messages that was done, and two messages that wait."""
    with (
        RealBroker(tmp_path / "broker") as server,
        OperationsContext(
            broker_url=server.url,
            store_url=f"sqlite:///{tmp_path / 'operations.db'}",
            folder=tmp_path / "purged",
            access=Access(admins=["ada"]),
            queues=QUEUES,
        ) as made,
    ):
        connection_of(made.broker).reader.lpush("q0", "m0", "m1", "m2")
        connection_of(made.broker).reader.lpush("q1", "m3", "m4")
        for request in (Request.purge("q0"), Request.pause("q1"), Request.revoke("j1")):
            plan = made.operations.plan(ADA, request)
            made.operations.carry_out(ADA, request, plan.token, plan.phrase)
        yield made


FED = [f"m{number}" for number in range(5)]
ADA = Actor("ada", Origin.OIDC)


def faults(context: OperationsContext, folder: Path, *sent: str) -> str:
    record = folder / "retried"
    record.write_text("\n".join(sent), "utf-8")
    return "; ".join(judge_all(context, FED, record, QUEUES).faults)


def test_the_judge_finds_nothing_where_nothing_is_wrong(
    context: OperationsContext, tmp_path: Path
) -> None:
    assert faults(context, tmp_path) == ""


def test_the_judge_sees_each_kind_of_error(context: OperationsContext, tmp_path: Path) -> None:
    assert "j2 was sent without an intent" in faults(context, tmp_path, "j2")
    assert "j2 was sent 2 times" in faults(context, tmp_path, "j2", "j2")
    context.broker.revoke(["j3"])
    assert "j3 was revoked without an intent" in faults(context, tmp_path)
    connection_of(context.broker).reader.zrem(
        connection_of(context.broker).keys.revoked, "j1", "j3"
    )
    assert "j1 is called revoked, and is not" in faults(context, tmp_path)
    connection_of(context.broker).reader.lpush("q1", "m0")
    assert "0 messages are lost and 1 are there twice" in faults(context, tmp_path)
    context.broker.publish(DesiredState(revision=9))
    assert "the broker's copy" in faults(context, tmp_path)
    context.store.desired.change(lambda _: frozenset(), lambda state: state)
    assert "q1 should be paused, and is not" in faults(context, tmp_path)
    context.purges.purge("q1", "unasked")
    assert "purge unasked has no intent before it" in faults(context, tmp_path)
    for file in (tmp_path / "purged").iterdir():
        file.unlink()
    assert "is called done, and is not" in faults(context, tmp_path)
    assert "messages are lost" in faults(context, tmp_path)
