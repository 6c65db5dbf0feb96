"""Failed jobs sent again from the page of jobs, by real workers: chosen ones, and a whole group."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect
from tests.browser.jobs_page import JobsPage
from tests.browser.operations_page import OperationsPage, World
from tests.browser.trends_page import wait_until_at_rest
from tests.instrument.conftest import Shop, until
from tests.job_rows import count_rows

from queuescope.broker.connect import broker_for
from queuescope.jobs.job import JobStatus
from queuescope.jobs.store import JobStore

RETRIES = "dict(keep_arguments=True)"
_HISTORY = "jobs.db"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("retries")
    url = f"sqlite:///{folder / _HISTORY}"
    with World(folder, queues="orders", job_store_url=url) as running:
        yield running


@pytest.fixture(scope="module")
def shop(world: World) -> Iterator[Shop]:
    folder = world.directory / "shop"
    folder.mkdir()
    made = Shop(folder, world.broker_url)
    url = f"sqlite:///{world.directory / _HISTORY}"
    made.start_worker(SHOP_OPTIONS=RETRIES, QUEUESCOPE_JOB_STORE_URL=url)
    yield made
    made.close()


def test_failed_jobs_run_again_when_they_are_chosen_or_their_group_is(
    world: World, shop: Shop, tab: Page, tmp_path: Path
) -> None:
    files = [tmp_path / f"{number}.txt" for number in range(4)]
    ids = [shop.send("fail_once", path=str(file), word=f"w{n}") for n, file in enumerate(files)]
    store = JobStore(f"sqlite:///{world.directory / _HISTORY}")
    until(lambda: count_rows(store, JobStatus.FAILED), lambda count: count == 4)
    acts = OperationsPage(tab, world.dashboard.url)
    page = JobsPage(tab, world.dashboard.url).open(f"?key={world.dashboard.key}")
    expect(page.groups.first.locator("td").nth(1)).to_have_text("4")
    assert_one_selection(page, ids[0])
    for job_id in ids[:2]:
        box_of(page, "The last single failures", job_id).check()
    page.button("Retry 2 chosen").first.click()
    acts.confirm_retry("2 jobs that failed are to be sent again")
    until(lambda: [runs(file) for file in files], lambda seen: seen == [2, 2, 1, 1])
    until(lambda: count_rows(store, JobStatus.FAILED), lambda count: count == 2)
    # Answers are reused for a few seconds, so each look asks another question.
    until(lambda: in_groups(page.open("?failures=1h")), (2).__eq__, pause_seconds=1)
    page.groups.first.get_by_role("button").click()
    page.button("Retry all 2 of this group").click()
    acts.confirm_retry("2 jobs that failed are to be sent again")
    until(lambda: [runs(file) for file in files], lambda seen: seen == [2, 2, 2, 2])
    until(lambda: count_rows(store, JobStatus.SUCCEEDED), lambda count: count == 4)
    nothing = "No job failed in the last 7 days."
    until(
        lambda: page.open("?failures=7d").part("failures").inner_text(),
        lambda text: nothing in text,
        pause_seconds=1,
    )
    assert_only_what_can_be_is_asked_for(page, world, shop, store, tmp_path / "last.txt")
    targets = [entry.event.target for entry in world.audited("retry")]
    assert len(targets) == 6, "an intent and an outcome for each of the three acts"
    store.close()


def assert_only_what_can_be_is_asked_for(
    page: JobsPage, world: World, shop: Shop, store: JobStore, file: Path
) -> None:
    """Of a group of two one has kept arguments; a third job is of an unknown type."""
    kept = shop.send("fail_once", path=str(file), word="last")
    until(lambda: count_rows(store, JobStatus.FAILED), (1).__eq__)
    # The history is not read again by itself, and the worker keeps the arguments after the row.
    with closing(broker_for(world.broker_url)) as broker:
        until(lambda: broker.kept_arguments([kept]), (frozenset({kept})).__eq__)
    # A page allows a job that has just ended some seconds for that.
    with closing(sqlite3.connect(world.directory / _HISTORY)) as history:
        history.execute("UPDATE jobs SET finished_at = finished_at - 60 WHERE id = ?", (kept,))
        history.commit()
    job = store.get(kept)
    assert job is not None
    unkept = replace(job, id="unkept")
    foreign = replace(unkept, id="foreign", name="elsewhere")
    store.record([unkept, foreign, replace(unkept, id="unserved", name="nap", queue="closed")])
    why = "No running worker that can send jobs again knows type elsewhere."
    unserved = "No running worker that can send jobs of type nap again serves queue closed."
    expect(page.open("?status=failed&order=newest").groups).to_have_count(3)
    for table in ("The last single failures", "Jobs"):
        expect(box_of(page, table, kept)).to_be_enabled()
        expect(box_of(page, table, "unkept")).to_be_disabled()
        expect(box_of(page, table, "foreign")).to_have_attribute("title", why)
        expect(box_of(page, table, "unserved")).to_have_attribute("title", unserved)
    note = page.part("history").locator("[data-note=retry]")
    expect(note).to_have_text(
        re.compile(
            r"^1 of 4 failed jobs can be sent again; (?=.*1 without kept arguments)"
            r"(?=.*1 of a type that no running worker can send again)"
            r".*1 from a queue without a running worker that can send them again"
        )
    )
    group = page.groups.filter(has_text="fail_once")
    group.get_by_role("button").click()
    words = "1 of 2 failed jobs can be sent again; 1 without kept arguments."
    expect(page.card.locator("[data-note=retry]")).to_have_text(words)
    page.button("Retry 1 of 2 of this group").click()
    OperationsPage(page.page, page.base_url).confirm_retry("1 job that failed")
    until(lambda: runs(file), (2).__eq__)
    # If no job of a group can be retried, its button says why.
    page.groups.filter(has_text="elsewhere").get_by_role("button").click()
    nothing = page.button("Retry 0 of 1 of this group")
    expect(nothing).to_be_disabled()
    expect(nothing).to_have_attribute("title", re.compile("no running worker"))
    with closing(shop.app()) as app:
        app.control.shutdown()
    refusal = "No running worker can send jobs again"
    chosen = page.button("Retry chosen").last
    until(lambda: refreshed(page, chosen), lambda title: refusal in title, pause_seconds=1)
    page.page.get_by_role("radio", name="7d", exact=True).click()
    expect(page.part("failures").locator("[data-note=retry]").first).to_contain_text(refusal)


def assert_one_selection(page: JobsPage, job_id: str) -> None:
    """A job that is in several tables is chosen in all of them, and counts once."""
    page.groups.first.get_by_role("button").click()
    tables = ["The last failures of this group", "The last single failures", "Jobs"]
    boxes = [box_of(page, table, job_id) for table in tables]
    for box in boxes:
        expect(box).to_be_visible()
    # One above each of the tables.
    chosen = page.button("Retry 1 chosen")
    for box in boxes:
        box.check()
        expect(chosen).to_have_count(len(boxes))
        for twin in boxes:
            expect(twin).to_be_checked()
        twins = [twin for twin in boxes if twin is not box]
        twins[0].uncheck()
        expect(page.button("Retry chosen")).to_have_count(len(boxes))
        for twin in boxes:
            expect(twin).not_to_be_checked()
    # A table that appears later shows the existing choice.
    close = page.button("Close this group")
    close.click()
    expect(close).to_have_count(0)
    boxes[2].check()
    page.groups.first.get_by_role("button").click()
    expect(boxes[0]).to_be_checked()
    expect(chosen).to_have_count(len(boxes))
    boxes[0].uncheck()
    expect(page.button("Retry chosen")).to_have_count(len(boxes))


def in_groups(page: JobsPage) -> int:
    """How many failures the biggest group has."""
    return int(page.groups.first.locator("td").nth(1).inner_text())


def refreshed(page: JobsPage, button: Locator) -> str:
    """Why the button cannot be pressed, once the history is looked at anew."""
    page.button("Refresh").click()
    wait_until_at_rest(page.page)
    return button.get_attribute("title") or ""


def box_of(page: JobsPage, table: str, job_id: str) -> Locator:
    rows = page.table(table).locator("tbody tr")
    row = rows.filter(has=page.page.locator(f'details[data-key="{job_id}"]'))
    return row.get_by_role("checkbox")


def runs(file: Path) -> int:
    return len(file.read_text("utf-8").split()) if file.exists() else 0
