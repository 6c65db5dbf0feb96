"""An operation on a real broker and a real audit: planned once, sent once, with its
true outcome.
"""

from __future__ import annotations

import re
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from celery import Celery
from tests.real_broker import RealBroker

from queuescope.dashboard.auth.identity import IdentityProblem, Unidentified
from queuescope.dashboard.ui.operation_words import WORDINGS
from queuescope.dashboard.ui.pending_operation import PendingOperation
from queuescope.operations.access import Access, Actor, Origin
from queuescope.operations.audit import Phase, Result, Search
from queuescope.operations.context import OperationsContext
from queuescope.operations.request import Operation, Request

ADA = Actor("ada", Origin.OIDC)
BOB = Actor("bob", Origin.OIDC)
EVE = Actor("eve", Origin.OIDC)
NOBODY = Unidentified(IdentityProblem.EXPIRED)
DOCUMENTED = Path(__file__).parents[3] / "docs" / "operations.md"
Send = Callable[[int], None]


@pytest.fixture
def now() -> list[float]:
    return [1_790_000_000.0]


@pytest.fixture
def context(server: RealBroker, tmp_path: Path, now: list[float]) -> Iterator[OperationsContext]:
    with OperationsContext(
        broker_url=f"{server.url}?socket_timeout=60",
        store_url=f"sqlite:///{tmp_path / 'operations.db'}",
        folder=tmp_path / "purged",
        access=Access(admins=["ada", "bob"]),
        queues=["orders"],
        clock=lambda: now[0],
    ) as made:
        yield made


@pytest.fixture
def send(server: RealBroker) -> Iterator[Send]:
    app = Celery("shop", broker=server.url, set_as_current=False)

    def send_some(count: int) -> None:
        for number in range(count):
            app.send_task("enhance", args=[number], queue="orders")

    yield send_some
    app.close()


def depth(context: OperationsContext) -> int:
    return context.broker.queues(["orders"])[0].depth


def results(context: OperationsContext) -> list[str]:
    """The result of every operation, oldest first."""
    entries = reversed(context.store.audit.find(Search(), limit=100))
    return [e.event.result for e in entries if e.event.phase is Phase.OUTCOME]


def planned(context: OperationsContext, request: Request, actor: Actor = ADA) -> PendingOperation:
    pending = PendingOperation(context.operations, request)
    pending.prepare(actor)
    assert pending.outcome is None
    return pending


def outcome_of(pending: PendingOperation) -> tuple[Result, str]:
    assert pending.outcome is not None
    return pending.outcome.result, pending.outcome.detail


def test_it_is_done_once_however_often_it_is_sent(context: OperationsContext, send: Send) -> None:
    send(3)
    pending = planned(context, Request.purge("orders"))
    pending.send(ADA, "orders 3")
    assert outcome_of(pending)[0] is Result.DONE
    first = pending.outcome
    send(2)
    pending.send(ADA, "orders 3")
    pending.prepare(ADA)
    pending.look()
    assert pending.outcome is first
    assert depth(context) == 2
    assert results(context) == [Result.DONE]


def test_threads_that_send_it_at_once_have_one_effect(
    context: OperationsContext, send: Send
) -> None:
    send(3)
    pending = planned(context, Request.purge("orders"))
    threads = [threading.Thread(target=pending.send, args=(ADA, "orders 3")) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcome_of(pending)[0] is Result.DONE
    assert results(context) == [Result.DONE]


def test_a_wrong_phrase_may_be_put_right(context: OperationsContext, send: Send) -> None:
    send(3)
    pending = planned(context, Request.purge("orders"))
    assert pending.plan
    assert not pending.plan.is_confirmed_by("orders 4")
    pending.send(ADA, "orders 4")
    assert pending.outcome is None
    assert pending.remark == "To confirm, type “orders 3” exactly as shown."
    assert depth(context) == 3
    assert pending.plan.is_confirmed_by(" orders 3 ")
    pending.send(ADA, "orders 3")
    assert (outcome_of(pending)[0], pending.remark) == (Result.DONE, "")


def test_the_second_of_two_operators_is_refused_with_the_first_one_named(
    context: OperationsContext, send: Send
) -> None:
    send(3)
    adas, bobs = (planned(context, Request.purge("orders"), actor) for actor in (ADA, BOB))
    adas.send(ADA, "orders 3")
    send(1)
    bobs.send(BOB, "orders 3")
    assert outcome_of(adas)[0] is Result.DONE
    state, words = outcome_of(bobs)
    assert state is Result.REFUSED
    assert words.startswith("ada started to purge queue orders at ")
    assert depth(context) == 1


def test_a_queue_that_has_grown_must_be_confirmed_again(
    context: OperationsContext, send: Send
) -> None:
    send(3)
    pending = planned(context, Request.purge("orders"))
    send(20)
    pending.send(ADA, "orders 3")
    assert outcome_of(pending) == (
        Result.REFUSED,
        "There were 3 and are now 23; check again before you confirm. Nothing was done.",
    )
    assert depth(context) == 23


def test_a_confirmation_expires(context: OperationsContext, send: Send, now: list[float]) -> None:
    send(3)
    pending = planned(context, Request.purge("orders"))
    now[0] += 61
    pending.send(ADA, "orders 3")
    state, words = outcome_of(pending)
    assert state is Result.REFUSED
    assert "valid for 60 seconds" in words
    assert depth(context) == 3


@pytest.mark.parametrize("request_", [Request.purge("orders"), Request.pause("orders")])
def test_without_the_right_plan_and_operation_are_refused(
    context: OperationsContext, send: Send, request_: Request
) -> None:
    send(3)
    for actor, words in ((EVE, "yours is viewer"), (NOBODY, "Your login has expired")):
        early = PendingOperation(context.operations, request_)
        early.prepare(actor)
        assert early.plan is None
        late = planned(context, request_)
        late.send(actor, "orders 3")
        for pending in (early, late):
            state, said = outcome_of(pending)
            assert state is Result.REFUSED
            assert words in said
    assert depth(context) == 3
    assert context.broker.desired().paused == ()


def test_no_act_without_an_audit(context: OperationsContext, send: Send, tmp_path: Path) -> None:
    send(3)
    pending = planned(context, Request.purge("orders"))
    with closing(sqlite3.connect(tmp_path / "operations.db")) as other:
        other.execute("BEGIN IMMEDIATE")
        pending.send(ADA, "orders 3")
    state, words = outcome_of(pending)
    assert state is Result.REFUSED
    assert words.startswith("Nothing was done: no operation runs without an audit, and the audit")
    assert depth(context) == 3


def test_without_a_broker_nothing_was_done(
    context: OperationsContext, send: Send, server: RealBroker
) -> None:
    send(3)
    pending = planned(context, Request.purge("orders"))
    server.stop()
    pending.send(ADA, "orders 3")
    assert outcome_of(pending)[0] is Result.FAILED
    assert outcome_of(pending)[1].startswith("Nothing was done: the broker did not answer")
    unplanned = PendingOperation(context.operations, Request.pause("orders"))
    unplanned.prepare(ADA)
    assert outcome_of(unplanned)[0] is Result.FAILED


def test_a_long_operation_is_pending_until_its_outcome(
    context: OperationsContext, send: Send, server: RealBroker
) -> None:
    send(3)
    pending = planned(context, Request.purge("orders"))
    # The plan was awaited to its end; the operation itself is not.
    pending._patience_seconds = 0
    with server.frozen():
        pending.send(ADA, "orders 3")
        assert outcome_of(pending) == (Result.PENDING, "It was sent, and there is no answer yet.")
        pending.look(patience_seconds=0)
        assert outcome_of(pending)[0] is Result.PENDING
    pending.look(patience_seconds=30)
    assert outcome_of(pending)[0] is Result.DONE
    assert results(context) == [Result.DONE]


def test_the_page_agrees_with_the_documentation() -> None:
    documented = re.sub(r"[`*]", "", DOCUMENTED.read_text("utf-8"))
    assert set(WORDINGS) == set(Operation)
    for wording in WORDINGS.values():
        assert wording.does in documented
        assert wording.does_not in documented
