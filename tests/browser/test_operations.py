"""Operations through the page, with a real broker and real workers: done, once, and with their
outcome.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from tests.browser.conftest import OpenTab
from tests.browser.operations_page import CONFIRM, OperationsPage, World
from tests.browser.trends_page import WAIT_MS, wait_until_at_rest
from tests.instrument.conftest import Shop, until

from queuescope.operations.audit import Phase, Result

OpenOperations = Callable[[], OperationsPage]

# The page's own frames, kept so that they can be sent again.
_RECORD = """
window.sent = [];
const send = WebSocket.prototype.send;
WebSocket.prototype.send = function (frame) {
  window.socket = this;
  window.sent.push(frame);
  return send.call(this, frame);
};
window.replay = (from, words = "") => {
  const holds = frame => new TextDecoder().decode(frame).includes(words);
  const again = window.sent.slice(from).filter(holds);
  again.forEach(frame => send.call(window.socket, frame));
  return again.length;
};
"""
# However many of them run: one test may run by itself.
_ALL_CONFIRMED = re.compile(r"^paused: (\d) of \1 workers? confirmed$")
_SENT_SINCE = "began => window.sent.length > began"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with World(
        tmp_path_factory.mktemp("operations"), queues="orders,express,reports,mail"
    ) as running:
        yield running


@pytest.fixture(scope="module")
def shop(world: World) -> Iterator[Shop]:
    folder = world.directory / "shop"
    folder.mkdir()
    made = Shop(folder, world.broker_url)
    made.start_worker()
    yield made
    made.close()


def opened_in(tab: Page, world: World) -> OperationsPage:
    tab.add_init_script(_RECORD)
    return OperationsPage(tab, world.dashboard.url, world.dashboard.key).open()


@pytest.fixture(scope="module")
def kept_page(tab: Page, world: World) -> OperationsPage:
    return opened_in(tab, world)


@pytest.fixture
def page(kept_page: OperationsPage) -> Iterator[OperationsPage]:
    """The page of an operator who keeps it open, opened anew only where a dialog is left."""
    if kept_page.dialog.count():
        kept_page.open()
    yield kept_page
    assert kept_page.complaints == []


@pytest.fixture(autouse=True)
def no_jobs_left(world: World) -> Iterator[None]:
    """No test finds the jobs of another, also of one that failed, in a queue without a worker."""
    yield
    world.client.delete("reports", "mail")


@pytest.fixture
def open_another(open_tab: OpenTab, world: World) -> Iterator[OpenOperations]:
    """Opens the page of another operator, until the test is over."""
    opened: list[OperationsPage] = []

    def open_one() -> OperationsPage:
        opened.append(opened_in(open_tab(), world))
        return opened[-1]

    yield open_one
    for page in opened:
        assert page.complaints == []


def words_in(path: Path) -> list[str]:
    return path.read_text("utf-8").split() if path.exists() else []


def outcomes(world: World, operation: str, target: str) -> list[str]:
    return [
        entry.event.result
        for entry in world.audited(operation, target)
        if entry.event.phase is Phase.OUTCOME
    ]


def test_a_paused_queue_begins_nothing_also_in_a_worker_that_starts_later(
    page: OperationsPage, world: World, shop: Shop, tmp_path: Path
) -> None:
    evidence = tmp_path / "evidence"
    state = page.cell("Queues", "orders", "State")
    expect(state).to_have_text("open: 1 worker")
    outcome = page.do("Pause queue orders", "Pause")
    assert outcome == "Done: Queue orders is to be paused; workers follow within seconds."
    expect(state).to_have_text("paused: 1 of 1 worker confirmed")
    shop.send("mark", {"queue": "orders"}, path=str(evidence), word="held")
    shop.send("mark", {"queue": "express"}, path=str(evidence), word="sibling")
    shop.start_worker(beside=True)
    expect(state).to_have_text("paused: 2 of 2 workers confirmed")
    expect(page.cell("Queues", "orders", "Waiting")).to_have_text("1")
    # The worker that has just started serves both queues, and takes from the other.
    shop.send("mark", {"queue": "express"}, path=str(evidence), word="sibling")
    until(lambda: words_in(evidence), lambda words: words == ["sibling"] * 2)
    outcome = page.do("Resume queue orders", "Resume")
    assert outcome.startswith("Done: Queue orders is to be resumed")
    until(lambda: words_in(evidence), lambda words: words == ["sibling"] * 2 + ["held"])
    expect(state).to_have_text("open: 2 workers")
    expect(page.cell("Queues", "orders", "Waiting")).to_have_text("0")
    assert outcomes(world, "pause", "orders") == [Result.DONE]


def test_all_queues_are_paused_and_resumed_together(page: OperationsPage, shop: Shop) -> None:
    outcome = page.do("Pause all queues", "Pause", "all queues 4")
    assert outcome == "Done: All queues are to be paused; workers follow within seconds."
    expect(page.cell("Queues", "express", "State")).to_have_text(_ALL_CONFIRMED)
    # No worker serves it, so none can confirm the pause.
    unserved = page.cell("Queues", "reports", "State")
    expect(unserved).to_contain_text("paused: 0 of 0 workers confirmed")
    expect(unserved).to_contain_text("does not prove that its jobs wait")
    single = page.button("Resume queue orders")
    expect(single).to_be_disabled()
    expect(single).to_have_attribute(
        "title", "All queues are paused; they can be resumed together."
    )
    assert page.do("Resume all queues", "Resume").startswith("Done: All queues are to be resumed")
    expect(page.cell("Queues", "express", "State")).to_have_text(re.compile(r"^open: \d workers?$"))


def test_a_purge_takes_each_job_of_one_queue_and_its_file_brings_them_back(
    page: OperationsPage, world: World
) -> None:
    before = world.fill("reports", 10_000)
    sibling = world.fill("mail", 2)
    expect(page.cell("Queues", "reports", "Waiting")).to_have_text("10,000")
    dialog = page.begin("Purge queue reports")
    expect(dialog).to_contain_text("10,000 jobs wait in queue reports. The workers hold no others.")
    assert world.client.rpop("reports") == before.pop()
    outcome = page.confirm("Purge", "reports 10000")
    assert outcome.startswith("Done: Removed 9,999 jobs, kept as purge ")
    page.close()
    assert (world.messages("reports"), world.messages("mail")) == ([], sibling)
    assert world.audited("purge", "reports")[-1].event.touched == 9_999
    expect(page.cell("Queues", "reports", "Waiting")).to_have_text("0")
    kept = page.part("Purges").locator("tbody tr").first
    expect(kept).to_contain_text("reports")
    expect(kept).to_contain_text("local")
    expect(kept).to_contain_text("kept")
    restore = kept.locator("button")
    label = restore.get_attribute("aria-label")
    assert label
    assert page.do(label, "Restore") == "Done: 9,999 jobs are back in queue reports."
    assert (world.messages("reports"), world.messages("mail")) == (before, sibling)
    expect(kept).to_contain_text("restored")
    expect(restore).to_be_disabled()

    # The broker forgets a purge, as one does that comes back from an older backup.
    page.do("Purge queue reports", "Purge", "reports 9999")
    expect(kept).not_to_contain_text("restored")
    label = restore.get_attribute("aria-label")
    assert label
    purge_id = label.split()[2]
    world.client.delete(f"queuescope:purged:{purge_id}")
    expect(kept).to_contain_text("may be restored already")
    dialog = page.begin(label)
    expect(dialog).to_contain_text("The broker does not know this purge")
    expect(dialog).to_contain_text("The audit has no restore of it.")
    outcome = page.confirm("Restore", f"{purge_id} 9999")
    assert outcome == "Done: 9,999 jobs are back in queue reports."
    page.close()
    assert world.messages("reports") == before


def test_a_wrong_phrase_a_grown_queue_and_a_late_confirmation_do_nothing(
    page: OperationsPage, world: World
) -> None:
    world.fill("reports", 3)
    dialog = page.begin("Purge queue reports")
    dialog.get_by_label(CONFIRM).fill("reports 4")
    dialog.get_by_label(CONFIRM).press("Enter")
    expect(dialog.get_by_text("type “reports 3” exactly as shown")).to_be_visible()
    # The text can be corrected and need not be typed again.
    wait_until_at_rest(page.page)
    expect(dialog.get_by_label(CONFIRM)).to_have_value("reports 4")
    world.fill("reports", 20)
    assert page.confirm("Purge", "reports 3") == (
        "Refused: There were 3 and are now 23; check again before you confirm. Nothing was done."
    )
    # From there, *Start again* leads to a new plan.
    wait_until_at_rest(page.page)
    dialog.get_by_role("button", name="Start again").click()
    expect(dialog.get_by_text("23 jobs wait in queue")).to_be_visible()
    with closing(sqlite3.connect(world.store)) as store:
        store.execute("UPDATE operations_challenges SET expires_at_ms = 1")
        store.commit()
    assert "valid for 60 seconds; start again" in page.confirm("Purge", "reports 23")
    assert len(world.messages("reports")) == 23
    assert Result.DONE not in outcomes(world, "purge", "reports")[-3:]
    page.close()


def test_of_two_simultaneous_operations_one_takes_effect_and_the_other_is_refused(
    page: OperationsPage, open_another: OpenOperations, world: World
) -> None:
    world.fill("mail", 3)
    second = open_another()
    for one in (page, second):
        one.begin("Purge queue mail")
    assert page.confirm("Purge", "mail 3").startswith("Done: Removed 3 jobs")
    page.close()
    later = world.fill("mail", 1)
    outcome = second.confirm("Purge", "mail 3")
    assert outcome.startswith("Refused: local started to purge queue mail at ")
    assert outcome.endswith("after you had asked. Nothing more was done.")
    assert world.messages("mail") == later
    assert outcomes(world, "purge", "mail") == [Result.DONE, Result.REFUSED]
    world.client.delete("mail")


def test_a_replayed_request_has_no_second_effect(
    page: OperationsPage, open_another: OpenOperations, world: World
) -> None:
    """Every frame since the dialog was opened, the confirmation among them, as on a replay."""
    other = open_another()
    began = other.page.evaluate("window.sent.length")
    assert other.do("Pause queue mail", "Pause").startswith("Done")
    assert other.do("Resume queue mail", "Resume").startswith("Done")
    count = len(world.audited())
    # One after the other: the dialog opens, with a plan of its own, and waits for its own answer.
    for words in ('["pause","mail"]', "FormSubmitter:queuescope_confirm"):
        sent = other.page.evaluate("([from, words]) => window.replay(from, words)", [began, words])
        assert sent > 0
        expect(other.dialog.get_by_text("What it does not do")).to_be_visible()
    wait_until_at_rest(other.page)
    other.dialog.get_by_role("button", name="Cancel").click()
    expect(other.dialog).to_have_count(0)
    assert len(world.audited()) == count
    # All at once, and one more operation after all that was replayed.
    other.page.evaluate("from => window.replay(from)", began)
    assert page.do("Pause queue mail", "Pause").startswith("Done")
    assert page.do("Resume queue mail", "Resume").startswith("Done")
    done = [e for e in world.audited()[count:] if e.event.result is Result.DONE]
    assert [e.event.operation for e in done] == ["pause", "resume"]


def test_a_lost_connection_and_a_new_server_send_nothing(
    page: OperationsPage, world: World
) -> None:
    held = world.fill("reports", 2)
    page.begin("Purge queue reports")
    began = page.page.evaluate("window.sent.length")
    page.page.evaluate("window.socket.close()")
    page.page.wait_for_function(_SENT_SINCE, arg=began, timeout=WAIT_MS)
    # The page has a new connection in the same session: the visitor continues.
    expect(page.dialog.get_by_text("2 jobs wait in queue")).to_be_visible()
    assert world.messages("reports") == held
    world.dashboard.kill()
    world.dashboard.start()
    assert world.messages("reports") == held
    world.fill("reports", 1)
    # A server that knows nothing of this dialog shows none. The page looks for it at intervals
    # that grow to a quarter of a minute.
    expect(page.cell("Queues", "reports", "Waiting")).to_have_text("3", timeout=2 * WAIT_MS)
    expect(page.dialog.get_by_text("What it does not do")).to_have_count(0)
    assert page.do("Purge queue reports", "Purge", "reports 3").startswith("Done: Removed 3 jobs")


def test_a_dialog_and_what_is_typed_in_it_outlast_refreshes_and_a_reader_s_focus_does_too(
    page: OperationsPage, world: World
) -> None:
    world.fill("reports", 1)
    waiting = page.cell("Queues", "reports", "Waiting")
    expect(waiting).to_have_text("1")
    button = page.button("Purge queue reports")
    expect(button).to_be_enabled()
    button.focus()
    world.fill("reports", 1)
    expect(waiting).to_have_text("2")
    expect(button).to_be_focused()
    dialog = page.begin("Purge queue reports")
    typed = dialog.get_by_label(CONFIRM)
    typed.fill("reports")
    world.fill("reports", 1)
    # The page behind the dialog keeps refreshing.
    expect(waiting).to_have_text("3")
    expect(typed).to_have_value("reports")
    dialog.get_by_role("button", name="Cancel").click()
    expect(dialog).to_have_count(0)
    assert len(world.messages("reports")) == 3


def test_a_worker_is_scaled(page: OperationsPage, shop: Shop) -> None:
    expect(page.cell("Workers", "w1@shop", "Pool")).to_have_text("prefork, 2 places")
    page.button("Scale worker w1@shop").click()
    page.dialog.get_by_label("New number of places").fill("3")
    page.dialog.get_by_role("button", name="Continue").click()
    expect(page.dialog.get_by_text("has 2 places and is to have 3")).to_be_visible()
    assert page.confirm("Scale") == "Done: The pool went from 2 to 3 processes."
    page.close()
    expect(page.cell("Workers", "w1@shop", "Pool")).to_have_text("prefork, 3 places")


def test_a_worker_of_threads_is_neither_scaled_nor_ends_a_job(
    page: OperationsPage, shop: Shop, tmp_path: Path
) -> None:
    """The reason is shown before anything is requested."""
    worker = shop.start_worker("--pool=threads", "-Q", "mail", "-n", "threads@shop", beside=True)
    end = tmp_path / "end"
    job_id = shop.send(
        *("mark", {"queue": "mail"}), path=str(tmp_path / "ran"), word="long", until=str(end)
    )
    why = "Only a pool of processes can be scaled; this one is threads."
    expect(page.cell("Workers", "threads@shop", "Status")).to_contain_text(why)
    button = page.button("Scale worker threads@shop")
    expect(button).to_be_disabled()
    expect(button).to_have_attribute("title", why)
    expect(page.cell("Workers", "threads@shop", "Runs")).to_have_text("1")
    page.page.get_by_placeholder("Id of a job").fill(job_id)
    page.page.get_by_role("button", name="Revoke", exact=True).click()
    expect(page.dialog.get_by_role("checkbox")).to_be_disabled()
    why = "Worker threads@shop runs this job and cannot end it: its pool is threads, and only a"
    expect(page.dialog.get_by_text(why)).to_be_visible()
    page.dialog.get_by_role("button", name="Continue").click()
    assert page.outcome().startswith(f"Refused: {why}")
    page.close()
    end.touch()
    worker.process.terminate()
    worker.process.wait(120)


def test_a_revoked_job_never_starts(page: OperationsPage, shop: Shop, tmp_path: Path) -> None:
    evidence = tmp_path / "evidence"
    page.do("Pause queue orders", "Pause")
    expect(page.cell("Queues", "orders", "State")).to_have_text(_ALL_CONFIRMED)
    revoked = shop.send("mark", {"queue": "orders"}, path=str(evidence), word="revoked")
    shop.send("mark", {"queue": "orders"}, path=str(evidence), word="next")
    page.page.get_by_placeholder("Id of a job").fill(revoked)
    page.page.get_by_role("button", name="Revoke", exact=True).click()
    page.dialog.get_by_role("button", name="Continue").click()
    expect(page.dialog.get_by_text("is never to start")).to_be_visible()
    assert page.confirm("Revoke") == "Done: The job will not start in any worker."
    page.close()
    page.do("Resume queue orders", "Resume")
    until(lambda: words_in(evidence), lambda words: words == ["next"])
    expect(page.cell("Queues", "orders", "Waiting")).to_have_text("0")
    assert words_in(evidence) == ["next"]
