"""The page of operations when broker or audit fail: unknown, refused, and nothing done."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import expect
from tests.browser.conftest import DashboardFor, KeepTab, Known, OpenTab
from tests.browser.operations_page import OperationsPage, World
from tests.browser.trends_page import TrendsPage

from queuescope.operations.audit import Result


@pytest.fixture(scope="module")
def world(known: Known, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with World(
        tmp_path_factory.mktemp("faults"),
        prometheus_url=known.prometheus.url,
        selector='scene="known"',
        # A busy machine must not look like an outage.
        prometheus_timeout_seconds="20",
        queues="orders,mail",
    ) as running:
        yield running


@pytest.fixture(scope="module")
def operator(keep_tab: KeepTab, world: World) -> OperationsPage:
    """A reader who keeps the page of operations open."""
    return OperationsPage(keep_tab(), world.dashboard.url, world.dashboard.key).open()


@pytest.fixture(scope="module")
def watcher(keep_tab: KeepTab, world: World) -> TrendsPage:
    """A reader who keeps the charts open."""
    return TrendsPage(keep_tab(), world.dashboard.url).open("?range=1h&refresh=60")


def test_a_broker_that_is_down_turns_the_controls_off_and_nothing_else(
    world: World, operator: OperationsPage, watcher: TrendsPage
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
    words = "the broker did not answer: no connection"
    said = f"Operations are off: {words}"
    with world.server.gone():
        expect(operator.standing).to_contain_text(said)
        expect(purge).to_be_disabled()
        expect(purge).to_have_attribute("title", re.compile(re.escape(said)))
        expect(revoke).to_be_disabled()
        # Known values stay, old ones are marked, and nothing becomes zero.
        expect(waiting).to_have_text("3")
        expect(queues).to_have_attribute("data-state", "stale")
        expect(queues).to_contain_text("old, as of")
        expect(queues).to_contain_text(words)
        for part in ("Audit", "Purges"):
            expect(operator.part(part)).to_have_attribute("data-state", "fresh")
        # The charts have a source of their own, and say which one they lack.
        watcher.refresh_until(watcher.source("broker"), "stale")
        expect(watcher.source("broker")).to_contain_text(words[0].upper() + words[1:])
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
    world: World, operator: OperationsPage, watcher: TrendsPage
) -> None:
    """It fails after the dialog was opened; afterwards it is known that nothing happened."""
    held = world.fill("orders", 3, anew=True)
    expect(operator.cell("Queues", "orders", "Waiting")).to_have_text("3")
    operator.begin("Purge queue orders")
    with world.server.forbidding("-@write"):
        outcome = operator.confirm("Purge", "orders 3")
        assert outcome.startswith("Failed: Nothing was done: the broker forbids this")
    assert world.messages("orders") == held
    assert world.audited("purge", "orders")[-1].event.result is Result.FAILED
    operator.close()
    # Nor on the charts, where it is marked at its time.
    mark = watcher.panel("queue_depth").locator(".qs-mark").last.get_by_role("button")
    watcher.refresh_until(
        mark, re.compile(r"local: purge queue orders, failed\. Nothing"), attribute="aria-label"
    )


def test_without_a_broker_the_page_says_what_to_set(
    open_tab: OpenTab, dashboard_for: DashboardFor
) -> None:
    page = open_tab()
    page.goto(f"{dashboard_for('known').url}/operations")
    expect(page.get_by_text("No broker is configured")).to_be_visible()
    expect(page.get_by_text("QUEUESCOPE_BROKER_URL")).to_be_visible()
