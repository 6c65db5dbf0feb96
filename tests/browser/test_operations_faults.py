"""The page of operations when broker or audit fail: unknown, refused, and nothing done."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect
from sqlalchemy import make_url
from tests.browser.conftest import DashboardFor, Known, OpenTab
from tests.browser.operations_page import OperationsPage, World
from tests.browser.trends_page import TrendsPage
from tests.real_broker import RealBroker
from tests.real_postgresql import RealPostgreSQL

from queuescope.operations.audit import Result
from queuescope.operations.store import OperationsStore

CANARY = "c4n4ry-Ungeheuer"
OpenOperations = Callable[[World], OperationsPage]
Trouble = Callable[[RealBroker], AbstractContextManager[None]]


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
def open_operations(open_tab: OpenTab) -> OpenOperations:
    return lambda world: OperationsPage(open_tab(), world.dashboard.url, world.dashboard.key).open()


@dataclass(frozen=True)
class Auditor:
    """A user of PostgreSQL who keeps the audit in a database that is not its own."""

    server: RealPostgreSQL
    database: str

    @property
    def url(self) -> str:
        return self.server.url(self.database, user="auditor", password=CANARY)

    def execute(self, sql: str) -> None:
        self.server.execute(sql, database=self.database)

    @contextmanager
    def without_permission(self) -> Iterator[None]:
        self.execute("REVOKE INSERT ON operations_audit FROM auditor")
        yield
        self.execute("GRANT INSERT ON operations_audit TO auditor")

    @contextmanager
    def read_only(self) -> Iterator[None]:
        """While none of its transactions may write, as on a standby server."""
        self._begin_anew("SET default_transaction_read_only = on")
        yield
        self._begin_anew("RESET default_transaction_read_only")

    def _begin_anew(self, change: str) -> None:
        self.execute(f"ALTER ROLE auditor {change}")
        self.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'auditor'"
        )


@pytest.fixture
def auditor(postgresql: RealPostgreSQL, postgresql_url: str) -> Iterator[Auditor]:
    with closing(OperationsStore(postgresql_url)) as store:
        store.verify()
    made = Auditor(postgresql, make_url(postgresql_url).database or "")
    postgresql.execute(f"CREATE ROLE auditor LOGIN PASSWORD '{CANARY}'")
    tables = "ALL TABLES IN SCHEMA public"
    made.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {tables} TO auditor")
    yield made
    made.execute("DROP OWNED BY auditor CASCADE")
    made.execute("DROP ROLE auditor")


@dataclass(frozen=True)
class Case:
    """``words`` are what is said; whether the broker can still be read."""

    trouble: Trouble
    words: str
    reads: bool = False


CASES = {
    "slow": Case(RealBroker.frozen, "the broker did not answer in time"),
    "loading": Case(RealBroker.loading, "the broker is still loading its data from disk"),
    "read-only": Case(
        RealBroker.read_only, "the broker refuses to write: it is a replica", reads=True
    ),
    "no permission to write": Case(
        lambda broker: broker.forbidding("-@write"),
        "the broker forbids this to the user of",
        reads=True,
    ),
    "no permission": Case(
        lambda broker: broker.forbidding("resetkeys", "~elsewhere*"),
        "the broker forbids this to the user of",
    ),
    "down": Case(RealBroker.gone, "the broker did not answer: no connection"),
}


@pytest.fixture(scope="module")
def operator(browser: Browser, world: World) -> Iterator[OperationsPage]:
    """Whoever has the page of operations open all the while."""
    with browser.new_context(viewport={"width": 1440, "height": 1200}) as context:
        tab = context.new_page()
        yield OperationsPage(tab, world.dashboard.url, world.dashboard.key).open()


@pytest.fixture(scope="module")
def watcher(browser: Browser, world: World) -> Iterator[TrendsPage]:
    """Whoever has the charts open all the while."""
    with browser.new_context(viewport={"width": 1440, "height": 900}) as context:
        yield TrendsPage(context.new_page(), world.dashboard.url).open("?range=1h&refresh=60")


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_broker_that_fails_turns_the_controls_off_and_nothing_else(
    case: Case, world: World, operator: OperationsPage, watcher: TrendsPage
) -> None:
    world.fill("orders", 3, anew=True)
    waiting, queues = operator.cell("Queues", "orders", "Waiting"), operator.part("Queues")
    expect(waiting).to_have_text("3")
    purge = operator.button("Purge queue orders")
    expect(purge).to_be_enabled()
    revoke = operator.page.get_by_role("button", name="Revoke", exact=True)
    expect(revoke).to_be_enabled()
    watcher.refresh_until(watcher.source("broker"), "fresh")
    told_before = watcher.source("prometheus").inner_text()
    said = f"Operations are off: {case.words}"
    with case.trouble(world.server):
        expect(operator.standing).to_contain_text(said)
        expect(purge).to_be_disabled()
        expect(purge).to_have_attribute("title", re.compile(re.escape(said)))
        expect(revoke).to_be_disabled()
        # What is known stays, and what is old says so; nothing becomes zero.
        expect(waiting).to_have_text("3")
        expect(queues).to_have_attribute("data-state", "fresh" if case.reads else "stale")
        if not case.reads:
            expect(queues).to_contain_text("old, as of")
            expect(queues).to_contain_text(case.words)
        for part in ("Audit", "Purges"):
            expect(operator.part(part)).to_have_attribute("data-state", "fresh")
        # The charts have a source of their own, and say which one they lack.
        watcher.refresh_until(watcher.source("broker"), "fresh" if case.reads else "stale")
        if not case.reads:
            words = case.words[0].upper() + case.words[1:]
            expect(watcher.source("broker")).to_contain_text(words)
            depth = watcher.page.locator("[data-kpi=queue_depth]")
            expect(depth).to_have_attribute("data-origin", "prometheus")
            expect(depth).to_contain_text("from Prometheus")
        for source in ("prometheus", "audit"):
            expect(watcher.source(source)).to_have_attribute("data-state", "fresh")
        expect(watcher.source("prometheus")).not_to_have_text(told_before)
        watcher.expect_states("fresh")
    expect(purge).to_be_enabled()
    expect(queues).to_have_attribute("data-state", "fresh")
    assert operator.complaints == watcher.complaints == []


def test_an_act_that_the_broker_does_not_take_is_not_called_done(
    world: World, open_operations: OpenOperations, watcher: TrendsPage
) -> None:
    """It fails after the dialog was opened; what is known afterwards is that nothing happened."""
    held = world.fill("orders", 3, anew=True)
    page = open_operations(world)
    page.begin("Purge queue orders")
    with world.server.forbidding("-@write"):
        told = page.confirm("Purge", "orders 3")
        assert told.startswith("Failed: Nothing was done: the broker forbids this")
    assert world.messages("orders") == held
    assert world.audited("purge", "orders")[-1].event.result is Result.FAILED
    # Nor on the charts, where it stands at its time.
    mark = watcher.panel("queue_depth").locator(".qs-mark").last.get_by_role("button")
    watcher.refresh_until(
        mark, re.compile(r"local: purge queue orders, failed\. Nothing"), attribute="aria-label"
    )


def test_an_audit_that_cannot_be_written_blocks_every_act(
    world: World, open_operations: OpenOperations
) -> None:
    held = world.fill("orders", 3, anew=True)
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


def test_a_full_disk_blocks_every_act_until_there_is_room_again(
    open_operations: OpenOperations, tmp_path: Path
) -> None:
    made = World(tmp_path, queues="orders,mail")
    made.dashboard.disk_kilobytes = 2048
    with made as world:
        held = world.fill("orders", 3)
        page = open_operations(world)
        assert page.do("Pause queue mail", "Pause").startswith("Done")
        page.begin("Purge queue orders")
        with world.dashboard.full_disk():
            told = page.confirm("Purge", "orders 3")
            assert told.startswith("Refused: Nothing was done: no act without an audit, and the")
            assert told.endswith("the disk is full.")
            page.close()
            expect(page.standing).to_contain_text("Operations are refused, for the audit cannot be")
            expect(page.standing).to_contain_text("the disk is full")
            assert world.messages("orders") == held
            # Readings go on.
            world.fill("orders", 1)
            expect(page.cell("Queues", "orders", "Waiting")).to_have_text("4")
        assert page.do("Purge queue orders", "Purge", "orders 4").startswith("Done: Removed 4")
        assert world.messages("orders") == []
        # An intent and an outcome for each act that was done, and none for the refused one.
        expect(page.part("Audit").locator("tbody tr")).to_have_count(4)
        page.button("Verify the audit now").click()
        expect(page.part("Audit")).to_contain_text("verified to entry 4")


def test_acts_are_audited_in_postgresql_and_refused_without_it(
    open_operations: OpenOperations, auditor: Auditor, tmp_path: Path
) -> None:
    server = auditor.server
    with World(tmp_path, queues="orders,mail", operations_store_url=auditor.url) as world:
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
        for trouble, cause, audit in (
            (auditor.without_permission(), "its user lacks a right", "fresh"),
            (auditor.read_only(), "it is open for reading only", "fresh"),
            (server.frozen(), "does not answer in time", "stale"),
        ):
            with trouble:
                expect(page.standing).to_contain_text("Operations are refused, for the audit")
                expect(page.standing).to_contain_text(cause)
                expect(page.button("Purge queue orders")).to_be_disabled()
                expect(page.part("Audit")).to_have_attribute("data-state", audit)
                # The broker goes on.
                world.client.lpush("mail", "{}")
                expect(page.cell("Queues", "mail", "Waiting")).to_have_text(
                    str(world.client.llen("mail"))
                )
            expect(page.button("Purge queue orders")).to_be_enabled()
        page.begin("Purge queue orders")
        server.kill()
        try:
            told = page.confirm("Purge", "orders 4")
            assert told.startswith("Refused: Nothing was done: no act without an audit")
            page.close()
            expect(page.part("Audit")).to_have_attribute("data-state", "stale")
            expect(page.part("Audit")).to_contain_text("cannot be opened")
            expect(page.part("Queues")).to_have_attribute("data-state", "fresh")
            assert world.messages("orders") == held
        finally:
            server.start()
        expect(page.part("Audit")).to_have_attribute("data-state", "fresh")
        expect(page.button("Purge queue orders")).to_be_enabled()
        assert CANARY not in page.page.content() + world.dashboard.log


def test_without_a_broker_the_page_says_what_to_set(
    browser: Browser, dashboard_for: DashboardFor
) -> None:
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(f"{dashboard_for('known').url}/operations")
        expect(page.get_by_text("No broker is configured")).to_be_visible()
        expect(page.get_by_text("QUEUESCOPE_BROKER_URL")).to_be_visible()
