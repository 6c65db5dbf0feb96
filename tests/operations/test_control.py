"""The steps before every effect, on a real SQLite file and a real PostgreSQL."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text
from tests.operations.test_access import ACCESS, NOW, PEOPLE, REQUESTS

from queuescope.errors import (
    BrokerError,
    BrokerErrorKind,
    OutcomeUnknownError,
    RefusalReason,
    RefusedError,
)
from queuescope.operations import store as stores
from queuescope.operations.access import Access, Actor, Origin, Role
from queuescope.operations.audit import Outcome, Phase, Result, Search
from queuescope.operations.control import Operations
from queuescope.operations.request import Operation, Plan, Request
from queuescope.operations.store import OperationsStore

ADA = PEOPLE[Role.ADMIN]
BOB = Actor("bob", Origin.OIDC)
PURGE = Request.purge("default")
PAUSE = Request.pause("default")


@dataclass
class Recorder:
    """An effect that only records; ``fails`` is what it raises instead."""

    waiting: int = 42
    done: list[tuple[Request, str]] = field(default_factory=list)
    fails: BaseException | None = None
    meanwhile: Callable[[], None] = lambda: None

    def count(self, request: Request) -> int:
        return self.waiting

    def carry_out(self, request: Request, act: str) -> Outcome:
        self.meanwhile()
        if self.fails is not None:
            raise self.fails
        self.done.append((request, act))
        return Outcome(Result.DONE, f"did {request.words()}", self.waiting)


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'operations.db'}"
    found: str = request.getfixturevalue("postgresql_url")
    return found


# What is decided before anything is stored is the same on each database.
MOSTLY_SQLITE = pytest.mark.parametrize(
    "url", ["sqlite", pytest.param("postgresql", marks=pytest.mark.long)], indirect=True
)


@dataclass
class Scene:
    url: str
    store: OperationsStore
    effect: Recorder
    clock: Clock
    access: Access = ACCESS

    @property
    def operations(self) -> Operations:
        effects = dict.fromkeys(Operation, self.effect)
        return Operations(self.store, self.access, effects, clock=self.clock)

    def plan(self, request: Request = PURGE, actor: Actor = ADA) -> Plan:
        return self.operations.plan(actor, request)

    def act(self, plan: Plan, actor: Actor = ADA, typed: str | None = None) -> Outcome:
        return self.operations.carry_out(
            actor, plan.request, plan.token, plan.phrase if typed is None else typed
        )

    def results(self) -> list[tuple[str, str]]:
        """Of all entries, oldest first."""
        found = self.store.audit.find(Search(), limit=10_000)
        return [(entry.event.phase, entry.event.result) for entry in reversed(found)]


@pytest.fixture
def open_store() -> Iterator[Callable[..., OperationsStore]]:
    with ExitStack() as opened:

        def open_one(url: str, clock: Callable[[], float] = time.time) -> OperationsStore:
            made = OperationsStore(url, timeout_seconds=30, clock=clock)
            opened.callback(made.close)
            return made

        yield open_one


@pytest.fixture
def scene(url: str, open_store: Callable[..., OperationsStore]) -> Scene:
    clock = Clock()
    return Scene(url, open_store(url, clock), Recorder(), clock)


def refused(scene: Scene, reason: RefusalReason, act: Callable[[], object]) -> str:
    """The sentence of the refusal of ``act``, which had no effect."""
    before = list(scene.effect.done)
    with pytest.raises(RefusedError) as caught:
        act()
    assert caught.value.reason is reason
    assert scene.effect.done == before
    return str(caught.value)


def test_operations_that_the_broker_cannot_do_are_refused_with_the_reason(scene: Scene) -> None:
    why = "This broker cannot give a queue back."
    operations = Operations(
        scene.store, ACCESS, {Operation.PURGE: scene.effect}, missing={Operation.PURGE: why}
    )
    plan = scene.plan()
    for act in (
        lambda: operations.plan(ADA, PURGE),
        lambda: operations.carry_out(ADA, PURGE, plan.token, plan.phrase),
    ):
        assert refused(scene, RefusalReason.NOT_POSSIBLE, act) == why


def test_an_operation_is_confirmed_carried_out_once_and_audited(scene: Scene) -> None:
    plan = scene.plan()
    assert (plan.count, plan.phrase) == (42, "default 42")
    assert plan.expires_at_ms == (NOW + 60) * 1000
    outcome = scene.act(plan)
    assert (outcome.result, outcome.count, outcome.is_recorded) == (Result.DONE, 42, True)
    assert scene.effect.done == [(PURGE, outcome.operation_id)]
    assert scene.results() == [(Phase.INTENT, Result.PENDING), (Phase.OUTCOME, Result.DONE)]
    assert {entry.event.act for entry in scene.store.audit.find(Search())} == {outcome.operation_id}
    assert scene.store.open_operations() == []


def test_a_harmless_operation_needs_no_typing(scene: Scene) -> None:
    plan = scene.plan(PAUSE)
    assert plan.phrase == ""
    assert scene.act(plan).result is Result.DONE


def test_the_intent_is_on_the_disk_before_the_effect(scene: Scene, url: str) -> None:
    seen: list[tuple[str, str]] = []

    def look() -> None:
        engine = create_engine(make_url(url))
        with engine.connect() as connection:
            rows = connection.execute(text("SELECT phase, result FROM operations_audit"))
            seen.extend((row[0], row[1]) for row in rows)
        engine.dispose()

    scene.effect.meanwhile = look
    scene.act(scene.plan())
    assert seen == [("intent", "pending")]


def test_a_replayed_challenge_does_nothing(scene: Scene) -> None:
    plan = scene.plan()
    scene.act(plan)
    refused(scene, RefusalReason.CHALLENGE_USED, lambda: scene.act(plan))


def test_an_expired_challenge_does_nothing(scene: Scene) -> None:
    plan = scene.plan()
    scene.clock.now += 60
    assert "60 seconds" in refused(scene, RefusalReason.CHALLENGE_EXPIRED, lambda: scene.act(plan))


@MOSTLY_SQLITE
@pytest.mark.parametrize("token", ["", "x", "\udce9", "x" * 100_000])
def test_an_invented_challenge_does_nothing(scene: Scene, token: str) -> None:
    plan = replace(scene.plan(), token=token)
    refused(scene, RefusalReason.CHALLENGE_UNKNOWN, lambda: scene.act(plan))


def test_the_challenge_of_another_actor_does_nothing_and_stays_valid(scene: Scene) -> None:
    scene.access = Access(admins=["ada", "bob"])
    plan = scene.plan()
    for thief in (BOB, replace(ADA, how=Origin.PROXY)):
        refused(scene, RefusalReason.CHALLENGE_FOREIGN, partial(scene.act, plan, thief))
    assert scene.act(plan).result is Result.DONE


@MOSTLY_SQLITE
@pytest.mark.parametrize(
    "other",
    [Request.purge("express"), Request.pause("default"), Request.scale("default", 1)],
    ids=Request.words,
)
def test_a_challenge_is_valid_for_its_request_only(scene: Scene, other: Request) -> None:
    plan = replace(scene.plan(), request=other)
    said = refused(scene, RefusalReason.WRONG_TARGET, lambda: scene.act(plan))
    assert "purge queue default" in said


@MOSTLY_SQLITE
@pytest.mark.parametrize("typed", ["", "default", "default 41", "express 42", "42", "DEFAULT 42"])
def test_what_is_typed_is_compared_here(scene: Scene, typed: str) -> None:
    plan = scene.plan()
    said = refused(scene, RefusalReason.WRONG_PHRASE, lambda: scene.act(plan, typed=typed))
    assert "default 42" in said
    assert scene.act(plan, typed=" default 42 ").result is Result.DONE


@MOSTLY_SQLITE
@pytest.mark.parametrize(
    ("planned", "now", "passes"),
    [(42, 52, True), (42, 53, False), (1000, 1100, True), (1000, 1101, False), (42, 1, True)],
)
def test_a_queue_that_has_grown_must_be_confirmed_again(
    scene: Scene, planned: int, now: int, passes: bool
) -> None:
    scene.effect.waiting = planned
    plan = scene.plan()
    scene.effect.waiting = now
    if passes:
        assert scene.act(plan).count == now
    else:
        refused(scene, RefusalReason.GROWN, lambda: scene.act(plan))


@MOSTLY_SQLITE
@pytest.mark.parametrize("role", Role)
def test_without_the_right_there_is_no_effect(scene: Scene, role: Role) -> None:
    """Called directly, without a page; also with the challenge of another actor."""
    actor = PEOPLE[role]
    for request, needed in REQUESTS.items():
        scene.effect.done.clear()
        if ACCESS.role_of(actor).covers(needed):
            assert scene.act(scene.plan(request, actor), actor).result is Result.DONE
            assert len(scene.effect.done) == 1
            continue
        refused(scene, RefusalReason.NO_RIGHT, partial(scene.plan, request, actor))
        plan = scene.plan(request)
        refused(scene, RefusalReason.NO_RIGHT, partial(scene.act, plan, actor))
        assert scene.results()[-1] == (Phase.OUTCOME, Result.REFUSED)
        # The owner of the challenge can still use it.
        assert scene.act(plan).result is Result.DONE


def test_a_right_lost_after_the_challenge_is_gone(scene: Scene) -> None:
    plan = scene.plan()
    scene.access = Access(operators=["ada"])
    refused(scene, RefusalReason.NO_RIGHT, lambda: scene.act(plan))


def test_a_login_that_expired_after_the_challenge_is_gone(scene: Scene) -> None:
    ada = replace(ADA, expires_at=NOW + 30)
    plan = scene.plan(actor=ada)
    scene.clock.now += 30
    refused(scene, RefusalReason.IDENTITY_EXPIRED, lambda: scene.act(plan, ada))


def test_a_right_lost_while_the_broker_is_asked_is_gone(scene: Scene) -> None:
    ada = replace(ADA, expires_at=NOW + 30)
    plan = scene.plan(actor=ada)

    class Slow(Recorder):
        def count(self, request: Request) -> int:
            scene.clock.now += 30
            return 42

    scene.effect = Slow()
    refused(scene, RefusalReason.IDENTITY_EXPIRED, lambda: scene.act(plan, ada))


def test_the_second_of_two_learns_who_was_first_and_when(scene: Scene) -> None:
    scene.access = Access(admins=["ada", "bob"])
    first, second = scene.plan(), scene.plan(actor=BOB)
    scene.act(second, BOB)
    said = refused(scene, RefusalReason.OVERTAKEN, lambda: scene.act(first))
    assert said.startswith("bob started to purge queue default at ")
    assert time.strftime("%H:%M:%S", time.gmtime(NOW)) in said


def test_nothing_is_planned_while_an_operation_is_open(scene: Scene) -> None:
    scene.access = Access(admins=["ada", "bob"])

    def plan_again() -> None:
        said = refused(scene, RefusalReason.UNDERWAY, lambda: scene.plan(actor=BOB))
        assert "ada started to purge queue default" in said

    scene.effect.meanwhile = plan_again
    assert scene.act(scene.plan()).result is Result.DONE
    scene.effect.meanwhile = lambda: None
    assert scene.plan(actor=BOB).count == 42


@MOSTLY_SQLITE
@pytest.mark.parametrize(
    ("error", "result"),
    [
        (BrokerError(BrokerErrorKind.READ_ONLY, "it is read-only"), Result.FAILED),
        (BrokerError(BrokerErrorKind.SLOW, "no answer", may_have_acted=True), Result.UNKNOWN),
        (OutcomeUnknownError("the worker did not answer"), Result.UNKNOWN),
        (RefusedError(RefusalReason.NOTHING_TO_DO, "Done before."), Result.REFUSED),
    ],
)
def test_an_uncertain_outcome_is_never_called_done(
    scene: Scene, error: Exception, result: Result
) -> None:
    scene.effect.fails = error
    outcome = scene.act(scene.plan())
    assert outcome.result is result
    assert scene.results() == [(Phase.INTENT, Result.PENDING), (Phase.OUTCOME, result)]


def test_an_internal_error_leaves_an_unknown_outcome(scene: Scene) -> None:
    scene.effect.fails = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        scene.act(scene.plan())
    assert scene.results()[-1] == (Phase.OUTCOME, Result.UNKNOWN)


def test_an_outcome_that_cannot_be_written_is_reported(scene: Scene, url: str) -> None:
    def lose_the_audit() -> None:
        engine = create_engine(make_url(url))
        with engine.begin() as connection:
            connection.execute(text("ALTER TABLE operations_audit RENAME TO gone"))
        engine.dispose()

    scene.effect.meanwhile = lose_the_audit
    outcome = scene.act(scene.plan())
    assert not outcome.is_recorded
    assert "could not be written" in outcome.detail


def test_an_operation_left_open_by_a_crash_is_unknown_and_never_done(
    scene: Scene, url: str, open_store: Callable[..., OperationsStore]
) -> None:
    """The process dies between intent and outcome; the next start records it."""
    scene.plan(PAUSE)
    died = subprocess.run([sys.executable, "-c", CRASH, url], check=False, capture_output=True)
    assert died.returncode == 9, died.stderr
    (left,) = scene.store.open_operations()
    assert left.target == "queue default"
    (entry,) = scene.store.end_abandoned()
    assert (entry.event.act, entry.event.result) == (left.operation_id, Result.UNKNOWN)
    assert scene.store.open_operations() == []
    assert scene.store.end_abandoned() == []
    assert scene.results() == [(Phase.INTENT, Result.PENDING), (Phase.OUTCOME, Result.UNKNOWN)]
    assert not scene.store.audit.verify().fault


CRASH = """
import os, sys, time
from queuescope.operations.access import Access, Actor, Origin
from queuescope.operations.control import Operations
from queuescope.operations.store import OperationsStore
from queuescope.operations.request import Operation, Request

class Crash:
    def count(self, request): return 1
    def carry_out(self, request, act): os._exit(9)

store, access = OperationsStore(sys.argv[1]), Access(admins=["ada"])
operations = Operations(store, access, {Operation.PAUSE: Crash()})
ada, pause = Actor("ada", Origin.OIDC), Request.pause("default")
operations.carry_out(ada, pause, operations.plan(ada, pause).token)
"""


def test_an_operation_of_another_host_is_given_time(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(stores, "_HOST", "elsewhere")
        plan = scene.plan()
        scene.store.begin(plan, ADA, Role.ADMIN, 1)
    scene.clock.now += stores.OPEN_LIMIT_SECONDS
    assert scene.store.end_abandoned() == []
    scene.clock.now += 1
    assert len(scene.store.end_abandoned()) == 1


def test_a_late_outcome_comes_after_the_unknown_one(scene: Scene) -> None:
    def be_taken_for_dead() -> None:
        scene.clock.now += stores.OPEN_LIMIT_SECONDS + 1
        assert len(scene.store.end_abandoned()) == 1

    scene.effect.meanwhile = be_taken_for_dead
    scene.act(scene.plan())
    assert [result for _, result in scene.results()] == [
        *(Result.PENDING, Result.UNKNOWN, Result.DONE)
    ]


def test_refusals_cannot_fill_the_disk(scene: Scene) -> None:
    operations = scene.operations
    plan = scene.plan()
    for _ in range(100):
        with pytest.raises(RefusedError):
            operations.carry_out(PEOPLE[Role.NONE], PURGE, plan.token, "")
    assert len(scene.results()) == 60
    scene.clock.now += 60
    with pytest.raises(RefusedError):
        operations.carry_out(PEOPLE[Role.NONE], PURGE, plan.token, "")
    assert len(scene.results()) == 61
