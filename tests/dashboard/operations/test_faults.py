"""The page of operations when broker or audit fail: unknown, refused, and nothing done."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import make_url
from tests.browser.crew import Crew
from tests.browser.operations_page import World
from tests.dashboard.operations.operations_page import OperationsPage
from tests.dashboard.operations.operations_seen import (
    OPERATOR,
    Seen,
    finding,
    look,
    opened,
    sources,
    words,
)
from tests.instrument.conftest import until
from tests.real_broker import RealBroker
from tests.real_postgresql import RealPostgreSQL
from tests.real_prometheus import RealPrometheus

from queuescope.operations.audit import Result
from queuescope.operations.store import OperationsStore

CANARY = "c4n4ry-Ungeheuer"
PURGE = "Purge queue orders"
Trouble = Callable[[RealBroker], AbstractContextManager[None]]


@pytest.fixture(scope="module")
def world(prometheus: RealPrometheus, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with (
        World(
            tmp_path_factory.mktemp("faults"),
            prometheus_url=prometheus.url,
            queues="orders,mail",
            # A busy machine must not look like an outage.
            prometheus_timeout_seconds="20",
            **OPERATOR,
        ) as running,
        Crew(running.server.port) as crew,
    ):
        crew.join("alive@shop")
        once(running, lambda seen: "1 of 1 worker" in words(seen.said), at="workers")
        yield running


def once(world: World, is_so: Callable[[Seen], bool], at: str = "operations") -> Seen:
    return until(lambda: look(world, at), is_so, pause_seconds=0.5)


def acts(seen: Seen) -> bool:
    return seen.states.get("Queues") == "fresh" and seen.off(PURGE) is None


def done(page: OperationsPage, operation: str, subject: str, button: str, phrase: str = "") -> str:
    """From the button to the outcome."""
    page.press(operation, subject)
    page.confirm(button, phrase)
    return page.said


@dataclass(frozen=True)
class Case:
    """``words`` are on the page; the flag says whether the broker can still be read."""

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


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_broker_that_fails_turns_the_controls_off_and_nothing_else(
    case: Case, world: World
) -> None:
    world.fill("orders", 3, anew=True)
    once(world, lambda seen: acts(seen) and seen.waiting["orders"] == "3")
    until(lambda: sources(world)["broker"]["state"], "fresh".__eq__)
    said = f"Operations are off: {case.words}"
    with case.trouble(world.server):
        state = "fresh" if case.reads else "stale"
        states = {"Queues": state, "Audit": "fresh", "Purges": "fresh"}
        seen = once(
            world, lambda seen: said in seen.notice and states.items() <= seen.states.items()
        )
        assert said in (seen.off(PURGE) or "")
        # Known values stay, old ones are marked, and nothing becomes zero.
        assert seen.waiting["orders"] == "3"
        if not case.reads:
            assert "old, as of" in seen.part("Queues")
            assert case.words in seen.part("Queues")
        # The page of workers shows the last known ones, and does not call them lost.
        if not case.reads:
            workers = once(world, lambda seen: seen.first_state == "stale", at="workers")
            assert "1 of 1 worker was alive" in words(workers.said)
            assert "alive@shop" in workers.said
            assert case.words in workers.said
        # The charts have a source of their own, and say which one they lack.
        found = until(lambda: sources(world), lambda found: found["broker"]["state"] == state)
        if not case.reads:
            assert case.words in finding(world, "broker")
        assert (found["prometheus"]["state"], found["audit"]["state"]) == ("fresh", "fresh")
    once(world, acts)


def test_an_audit_that_cannot_be_written_blocks_every_act(world: World) -> None:
    held = world.fill("orders", 3, anew=True)
    once(world, lambda seen: acts(seen) and seen.waiting["orders"] == "3")
    with opened(world) as page:
        page.press("purge", "orders")
        count = len(world.audited())
        with closing(sqlite3.connect(world.store)) as writer:
            writer.execute("BEGIN IMMEDIATE")
            page.confirm("Purge", "orders 3")
            assert (
                "Nothing was done: no operation runs without an audit, and the audit" in page.said
            )
            words = "Operations are refused because the audit cannot be written"
            seen = once(world, lambda seen: words in seen.notice)
            assert seen.off(PURGE)
            assert seen.off("Pause all queues")
            # Reading continues.
            assert world.messages("orders") == held
            world.fill("orders", 1)
            once(world, lambda seen: seen.waiting["orders"] == "4")
            assert len(world.audited()) == count
    once(world, acts)


def test_a_full_disk_blocks_every_act_until_there_is_room_again(tmp_path: Path) -> None:
    made = World(tmp_path, queues="orders,mail", **OPERATOR)
    made.dashboard.disk_kilobytes = 2048
    with made as world:
        held = world.fill("orders", 3)
        once(world, lambda seen: acts(seen) and seen.waiting["orders"] == "3")
        with opened(world) as page:
            assert "Done" in done(page, "pause", "mail", "Pause")
        with opened(world) as page:
            page.press("purge", "orders")
            with world.dashboard.full_disk():
                page.confirm("Purge", "orders 3")
                assert "Nothing was done: no operation runs without an audit, and the" in page.said
                assert "the disk is full." in page.said
                words = "Operations are refused because the audit cannot be"
                seen = once(world, lambda seen: words in seen.notice)
                assert "the disk is full" in seen.notice
                assert world.messages("orders") == held
                # Reading continues.
                world.fill("orders", 1)
                once(world, lambda seen: seen.waiting["orders"] == "4")
        once(world, acts)
        with opened(world) as page:
            assert "Removed 4 jobs" in done(page, "purge", "orders", "Purge", "orders 4")
        assert world.messages("orders") == []
        # An intent and an outcome for each operation that was run, and none for the refused one.
        with opened(world) as page:
            page.press("verify", "chain")
        once(world, lambda seen: "verified to entry 4" in seen.part("Audit"))


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
        store.audit.verify()
    made = Auditor(postgresql, make_url(postgresql_url).database or "")
    postgresql.execute(f"CREATE ROLE auditor LOGIN PASSWORD '{CANARY}'")
    tables = "ALL TABLES IN SCHEMA public"
    made.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {tables} TO auditor")
    yield made
    made.execute("DROP OWNED BY auditor CASCADE")
    made.execute("DROP ROLE auditor")


def test_acts_are_audited_in_postgresql_and_refused_without_it(
    auditor: Auditor, tmp_path: Path
) -> None:
    server = auditor.server
    settings = {"operations_store_url": auditor.url, **OPERATOR}
    with World(tmp_path, queues="orders,mail", **settings) as world:
        held, sibling = world.fill("orders", 4), world.fill("mail", 2)
        once(world, lambda seen: acts(seen) and seen.waiting["orders"] == "4")
        with opened(world) as page:
            assert "Removed 4 jobs" in done(page, "purge", "orders", "Purge", "orders 4")
        assert (world.messages("orders"), world.messages("mail")) == ([], sibling)
        purge = world.audited("purge")[0].event.act
        once(world, lambda seen: purge in seen.said)
        with opened(world) as page:
            said = done(page, "restore", purge, "Restore")
            assert "4 jobs are back in queue orders." in said
        assert (world.messages("orders"), world.messages("mail")) == (held, sibling)
        results = [e.event.result for e in world.audited()]
        assert results == [Result.PENDING, Result.DONE] * 2
        for trouble, cause, audit in (
            (auditor.without_permission(), "its user lacks a right", "fresh"),
            (auditor.read_only(), "it is read-only", "fresh"),
            (server.frozen(), "does not answer in time", "stale"),
        ):
            with trouble:
                seen = once(
                    world,
                    lambda seen, cause=cause, audit=audit: (  # type: ignore[misc]
                        cause in seen.notice and seen.states["Audit"] == audit
                    ),
                )
                assert "Operations are refused because the audit" in seen.notice
                assert seen.off(PURGE)
                # The broker goes on.
                world.client.lpush("mail", "{}")
                count = str(world.client.llen("mail"))
                once(world, lambda seen, count=count: seen.waiting["mail"] == count)  # type: ignore[misc]
            once(world, acts)
        with opened(world) as page:
            page.press("purge", "orders")
            server.kill()
            try:
                page.confirm("Purge", "orders 4")
                assert "Nothing was done: no operation runs without an audit" in page.said
                seen = once(world, lambda seen: seen.states["Audit"] == "stale")
                assert "cannot be opened" in seen.part("Audit")
                assert seen.states["Queues"] == "fresh"
                assert world.messages("orders") == held
                assert CANARY not in seen.said + world.dashboard.log
            finally:
                server.start()
        once(world, lambda seen: acts(seen) and seen.states["Audit"] == "fresh")
