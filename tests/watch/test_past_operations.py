"""Past operations, from a real audit in SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from queuescope.operations.access import Actor, Origin, Role
from queuescope.operations.audit import Outcome, Result
from queuescope.operations.request import Request
from queuescope.operations.store import OperationsStore
from queuescope.watch import read_past_operations

ADA = Actor("ada", Origin.OIDC)


@pytest.fixture
def now() -> list[float]:
    return [1_000_000.0]


@pytest.fixture(params=["sqlite", "postgresql"])
def store(
    request: pytest.FixtureRequest, tmp_path: Path, now: list[float]
) -> Iterator[OperationsStore]:
    url = f"sqlite:///{tmp_path / 'operations.db'}"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgresql_url")
    opened = OperationsStore(url, timeout_seconds=30, clock=lambda: now[0])
    yield opened
    opened.close()


def begin(store: OperationsStore, request: Request) -> str:
    plan = store.plan(ADA, request, 3)
    return store.begin(plan, ADA, Role.ADMIN, 3)


def end(store: OperationsStore, act: str, request: Request, result: Result, detail: str) -> None:
    store.end(Outcome(result, detail, 3, act), ADA, Role.ADMIN, request)


def test_an_operation_is_listed_once_with_its_start_and_outcome(
    store: OperationsStore, now: list[float]
) -> None:
    purge = Request.purge("default")
    act = begin(store, purge)
    now[0] += 7
    end(store, act, purge, Result.DONE, "3 jobs were taken out.")
    pause = Request.pause("*")
    begin(store, pause)
    found = read_past_operations(store.audit)
    assert found.begin is None
    assert [(a.at, a.actor, a.words, a.result, a.detail) for a in found.operations] == [
        (1_000_000.0, "ada", "purge queue default", Result.DONE, "3 jobs were taken out."),
        (1_000_007.0, "ada", "pause all queues", Result.PENDING, ""),
    ]


def test_refused_operations_are_not_listed(store: OperationsStore) -> None:
    store.refuse(ADA, Role.VIEWER, Request.purge("default"), "You may not.")
    resume = Request.resume("default")
    end(store, begin(store, resume), resume, Result.REFUSED, "Nothing was done.")
    assert read_past_operations(store.audit).operations == ()


def test_only_the_newest_of_very_many_operations_are_listed(
    store: OperationsStore, now: list[float]
) -> None:
    for number in range(4):
        now[0] += 60
        pause = Request.pause(f"q{number}")
        end(store, begin(store, pause), pause, Result.DONE, "Paused.")
    found = read_past_operations(store.audit, limit=5)
    # Of the second only the outcome is among the newest five entries.
    assert [act.words for act in found.operations] == [f"pause queue q{n}" for n in (1, 2, 3)]
    assert found.begin == now[0] - 2 * 60
