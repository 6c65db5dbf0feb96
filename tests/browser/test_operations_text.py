"""The page of operations: hostile names, readers who may only view, search, size, theme."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Page, expect
from tests.browser.contrasts import CONTRASTS, THEMES, turn_to
from tests.browser.crew import Crew
from tests.browser.dashboard_process import DashboardProcess
from tests.browser.operations_page import CONFIRM, OperationsPage, World
from tests.browser.trends_page import FITS, WAIT_MS, wait_until_at_rest

from queuescope.operations.access import Actor, Origin, Role
from queuescope.operations.request import Request

IMAGE = "<img src=x onerror=window.hacked=1>"
MARKDOWN = "**b** :red[r] :smile: $x^2$ `c` [l](javascript:alert(1))"
BOTH = f"{MARKDOWN} {IMAGE}"
SCRIPT = "</script><script>window.hacked=1</script>"
OpenOperations = Callable[..., OperationsPage]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    names = f"{BOTH},{SCRIPT},orders"
    with (
        World(tmp_path_factory.mktemp("text"), queues=names) as running,
        # Anyone who may write to the broker can write such reports.
        Crew(running.server.port) as crew,
    ):
        for worker in (IMAGE, MARKDOWN):
            crew.join(worker, queues=(BOTH,), consuming=(BOTH,))
        with running.operations_store() as store:
            for name in (IMAGE, MARKDOWN, SCRIPT):
                actor = Actor(name, Origin.PROXY)
                for _ in range(10):
                    store.refuse(actor, Role.VIEWER, Request.purge(name), f"=1+1 {name}")
        yield running


@pytest.fixture(scope="module")
def looker(world: World) -> Iterator[DashboardProcess]:
    """A dashboard on the same broker and audit that everyone may view, and where no one may run
    operations.
    """
    with DashboardProcess(
        world.directory / "public",
        "http://127.0.0.1:9",
        authentication="public",
        broker_url=world.broker_url,
        operations_store_url=world.store_url,
        queues="orders",
    ) as running:
        yield running


@pytest.fixture
def open_operations(tab: Page, world: World) -> Iterator[OpenOperations]:
    opened: list[OperationsPage] = []

    def open_one(at: DashboardProcess | None = None) -> OperationsPage:
        dashboard = at or world.dashboard
        page = OperationsPage(tab, dashboard.url, dashboard.key)
        opened.append(page)
        return page.open()

    yield open_one
    for page in opened:
        assert page.complaints == []
        assert page.page.evaluate("window.hacked") is None


@pytest.mark.parametrize("name", [BOTH, pytest.param(SCRIPT, marks=pytest.mark.long)])
def test_a_name_is_only_a_name_in_every_place(
    name: str, world: World, open_operations: OpenOperations
) -> None:
    world.fill(name, 2)
    page = open_operations()
    row = page.row("Queues", name)
    expect(row.locator("td").first).to_have_text(name)
    dialog = page.begin(f"Purge queue {name}")
    expect(dialog.locator(".qs-lead")).to_contain_text(f"2 jobs wait in queue {name}.")
    dialog.get_by_label(CONFIRM).fill("something else")
    dialog.get_by_label(CONFIRM).press("Enter")
    expect(dialog.get_by_text(f"type “{name} 2” exactly as shown")).to_be_visible()
    # While the page is still drawn for the wrong phrase, the press could be lost.
    wait_until_at_rest(page.page)
    assert page.confirm("Purge", f"{name} 2").startswith("Done: Removed 2 jobs")
    page.close()
    expect(page.standing.locator("xpath=following-sibling::*[1]")).to_contain_text(
        f"Done: purge queue {name}"
    )
    expect(page.part("Purges").locator("tbody tr").first).to_contain_text(name)
    done = page.part("Audit").locator("tbody tr").first
    expect(done).to_contain_text(f"purge queue {name}")
    page.page.get_by_placeholder("Id of a job").fill(name)
    page.page.get_by_role("button", name="Revoke", exact=True).click()
    expect(page.dialog.locator("code")).to_have_text(name)
    page.dialog.get_by_role("button", name="Continue").click()
    expect(page.dialog.locator(".qs-lead")).to_have_text(f"Job {name} is never to start.")
    page.close()
    expect(page.page.locator(".qs-sheet :is(img, script, b > *, em, .katex)")).to_have_count(0)


def test_names_of_workers_and_actors_are_only_text(
    open_operations: OpenOperations,
) -> None:
    page = open_operations()
    for name in (IMAGE, MARKDOWN):
        expect(page.row("Workers", name).locator("td").first).to_have_text(name)
    page.page.get_by_text("Search and export the audit").click()
    found = page.page.get_by_test_id("stExpander").locator("tbody tr")
    page.page.get_by_label("Who (the whole name)").fill(IMAGE)
    page.page.keyboard.press("Enter")
    expect(found).to_have_count(10)
    expect(found.first).to_contain_text(f"{IMAGE} (viewer)")
    expect(found.first).to_contain_text(f"=1+1 {IMAGE}")
    expect(page.page.locator(".qs-sheet :is(img, script)")).to_have_count(0)


def test_the_audit_is_searched_page_by_page_and_exported(
    world: World, open_operations: OpenOperations
) -> None:
    page = open_operations()
    page.page.get_by_text("Search and export the audit").click()
    found = page.page.get_by_test_id("stExpander").locator("tbody tr")
    page.page.get_by_label("Words, in any column").fill("=1+1")
    page.page.keyboard.press("Enter")
    older = page.page.get_by_role("button", name="Older")
    expect(older).to_be_enabled()
    expect(found).to_have_count(20)
    # There were as many before the search, so only their content shows that it was answered.
    newest = found.first.locator("td").first
    expect(newest).to_have_text("30")
    wait_until_at_rest(page.page)
    older.click()
    expect(found).to_have_count(10)
    expect(found.last.locator("td").first).to_have_text("1")
    expect(older).to_be_disabled()
    wait_until_at_rest(page.page)
    page.page.get_by_role("button", name="Newer").click()
    expect(newest).to_have_text("30")
    files = {}
    for name in ("CSV", "JSON lines"):
        with page.page.expect_download() as download:
            page.page.get_by_role("link", name=name).click()
        files[name] = download.value.path().read_text("utf-8")
    rows = list(csv.DictReader(files["CSV"].splitlines()))
    lines = [json.loads(line) for line in files["JSON lines"].splitlines()]
    # A spreadsheet must not take it for a formula; a program gets it as it is.
    assert {row["detail"][:5] for row in rows} == {"'=1+1"}
    assert {line["detail"][:4] for line in lines} == {"=1+1"}
    assert [int(row["seq"]) for row in rows] == [line["seq"] for line in lines] == [*range(1, 31)]


def test_the_chain_is_verified_on_demand(world: World, open_operations: OpenOperations) -> None:
    page = open_operations()
    count = len(world.audited())
    page.button("Verify the audit now").click()
    expect(page.part("Audit")).to_contain_text(f"verified to entry {count:,}")
    page.page.get_by_text("What this proves").click()
    with world.operations_store() as store:
        head = store.audit.verify().head
    expect(page.page.get_by_text(head)).to_be_visible()
    # What a reader has opened stays open over refreshes.
    world.fill("orders", 1)
    expect(page.cell("Queues", "orders", "Waiting")).to_have_text("1")
    expect(page.page.get_by_text(head)).to_be_visible()
    world.client.delete("orders")


def test_a_viewer_sees_all_and_a_control_that_was_forced_open_does_nothing(
    world: World, looker: DashboardProcess, open_operations: OpenOperations
) -> None:
    held = world.fill("orders", 2)
    page = open_operations(looker)
    expect(page.standing).to_contain_text("You may view this page but not run operations")
    expect(page.cell("Queues", "orders", "Waiting")).to_have_text("2")
    expect(page.part("Audit").locator("tbody tr")).to_have_count(20)
    purge = page.button("Purge queue orders")
    expect(purge).to_be_disabled()
    expect(purge).to_have_attribute(
        "title", "To purge queue orders you need the role admin; yours is viewer."
    )
    expect(page.button("Pause queue orders")).to_be_disabled()
    expect(page.page.get_by_role("button", name="Revoke", exact=True)).to_be_disabled()
    # The server is asked all the same, and refuses.
    purge.evaluate("button => { button.disabled = false; button.click(); }")
    assert page.outcome() == (
        "Refused: To purge queue orders you need the role admin; yours is viewer. Nothing was done."
    )
    assert world.messages("orders") == held
    world.client.delete("orders")


def test_it_fits_every_width_and_can_be_read_in_both_themes(
    world: World, open_operations: OpenOperations
) -> None:
    world.fill("orders", 2)
    page = open_operations()
    expect(page.cell("Queues", "orders", "Waiting")).to_have_text("2")
    for width in (320, 390, 768, 1440):
        page.page.set_viewport_size({"width": width, "height": 1000})
        page.page.wait_for_function(FITS, timeout=WAIT_MS)
    dialog = page.begin("Purge queue orders")
    expect(dialog.get_by_label(CONFIRM)).to_be_visible()
    overlay = page.page.get_by_test_id("stDialog")
    for theme in THEMES:
        turn_to(page.page, theme)
        # An open dialog follows the theme.
        expect(overlay).to_have_css("color-scheme", theme)
        measured = page.page.evaluate(CONTRASTS, ".qs-sheet")
        assert {"What it does not do", "Queues"} <= {text for _, text in measured}
        assert [one for one in measured if one[0] < 4.5] == []
    dialog.get_by_role("button", name="Cancel").click()
    expect(dialog).to_be_hidden()
    world.client.delete("orders")
