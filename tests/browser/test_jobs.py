"""The page of jobs: failures and their groups, filters, pages, files."""

from __future__ import annotations

import csv
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from tests.browser.dashboard_process import DashboardProcess
from tests.browser.jobs_page import NOWHERE, JobsPage, some_jobs
from tests.browser.trends_page import WAIT_MS

from queuescope.jobs.job import Job, JobStatus
from queuescope.jobs.store import JobStore

OpenJobs = Callable[..., JobsPage]


class Held:
    """A history with known jobs, and a dashboard on it."""

    def __init__(self, url: str, jobs: list[Job], dashboard: DashboardProcess) -> None:
        self.url = url
        self.jobs = sorted(jobs, key=lambda job: (job.moment, job.id), reverse=True)
        self.dashboard = dashboard

    @property
    def failed(self) -> list[Job]:
        return [job for job in self.jobs if job.error_class]


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Held]:
    folder = tmp_path_factory.mktemp("jobs")
    url = f"sqlite:///{folder / 'jobs.db'}"
    jobs = some_jobs(time.time())
    store = JobStore(url)
    store.record(jobs)
    store.close()
    with DashboardProcess(folder, NOWHERE, job_store_url=url) as running:
        yield Held(url, jobs, running)


@pytest.fixture
def open_jobs(tab: Page, held: Held) -> Iterator[OpenJobs]:
    page = JobsPage(tab, held.dashboard.url)
    yield page.open
    assert page.complaints == []


def test_failures_are_grouped_and_a_group_opens_to_its_example_and_its_jobs(
    held: Held, open_jobs: OpenJobs
) -> None:
    page = open_jobs()
    page.expect_state("failures", "fresh")
    counted = Counter(job.error_class for job in held.failed)
    expect(page.groups).to_have_count(3)
    for number, (name, count) in enumerate(counted.most_common()):
        cells = page.groups.nth(number).locator("td")
        assert cells.nth(1).inner_text() == str(count)
        assert name in counted
    biggest = page.groups.first.locator("td").first
    name = biggest.get_by_role("button").inner_text()
    mine = [job for job in held.failed if job.error_class == name]
    tenants = Counter(job.tenant for job in mine)
    assert page.groups.first.locator("td").last.inner_text() == ", ".join(
        sorted(tenants, key=lambda tenant: (-tenants[tenant], tenant))
    )
    biggest.get_by_role("button").click()
    expect(page.card).to_be_visible(timeout=WAIT_MS)
    assert page.address["group"] == mine[0].fingerprint
    expect(page.card.locator("> div > pre")).to_have_text(f"{name}: {mine[0].error_message}")
    singles = page.card.locator("tbody details")
    assert [one.get_attribute("data-key") for one in singles.all()] == [j.id for j in mine[:10]]
    linked = open_jobs(f"?group={mine[0].fingerprint}")
    expect(linked.card.locator("> div > pre")).to_have_text(f"{name}: {mine[0].error_message}")
    # No broker is configured, to send them again.
    retry = linked.card.get_by_role("button", name="Retry all")
    expect(retry).to_be_disabled()
    expect(retry).to_have_attribute("title", "No broker is configured.")
    linked.button("Close this group").click()
    expect(linked.card).to_have_count(0)
    assert "group" not in linked.address


def test_the_last_ten_failures_have_their_whole_error_and_groups_the_order_that_is_chosen(
    held: Held, open_jobs: OpenJobs
) -> None:
    page = open_jobs()
    rows = page.table("The last single failures").locator("tbody tr")
    expect(rows).to_have_count(10)
    for row, job in zip(rows.all(), held.failed[:10], strict=True):
        assert row.locator("details").get_attribute("data-key") == job.id
    broken = next(job for job in held.failed[:10] if "\n" in job.error_message)
    row = rows.filter(has=page.page.locator(f'details[data-key="{broken.id}"]'))
    row.locator("summary").click()
    expect(row.locator("pre")).to_have_text(f"{broken.error_class}: {broken.error_message}")
    expect(row.locator("pre")).to_be_visible()
    expect(row.locator("dd").first).to_have_text(broken.id)
    page.page.get_by_role("radio", name="newest", exact=True).click()
    newest = held.failed[0].error_class
    expect(page.groups.first.get_by_role("button")).to_have_text(newest)
    page.page.get_by_role("radio", name="1h", exact=True).click()
    since = time.time() - 3600
    counted = Counter(job.error_class for job in held.failed if job.moment >= since)
    cell = page.groups.first.locator("td").nth(1)
    expect(cell).to_have_text(str(counted[newest]))
    assert (page.address["order"], page.address["failures"]) == ("newest", "1h")


def test_the_history_is_filtered_and_a_link_and_a_file_hold_what_its_sender_saw(
    held: Held, open_jobs: OpenJobs
) -> None:
    page = open_jobs()
    expect(page.count).to_have_text(f"{len(held.jobs):,} jobs")
    expect(page.rows).to_have_count(50)
    assert page.ids() == [job.id for job in held.jobs[:50]]
    page.choose("Tenant", "globex")
    globex = [job for job in held.jobs if job.tenant == "globex"]
    expect(page.count).to_have_text(f"{len(globex)} jobs")
    page.choose("Status", "failed")
    failed = [job for job in globex if job.status is JobStatus.FAILED]
    expect(page.count).to_have_text(f"{len(failed)} jobs")
    page.find("missing")
    found = [job for job in failed if "missing" in job.error_message]
    expect(page.count).to_have_text(f"{len(found)} jobs")
    assert page.ids() == [job.id for job in found]
    assert page.address == {"tenant": "globex", "status": "failed", "find": "missing"}
    linked = open_jobs("?tenant=globex&status=failed&find=missing")
    expect(linked.count).to_have_text(f"{len(found)} jobs")
    assert linked.ids() == [job.id for job in found]
    with linked.page.expect_download() as download:
        linked.page.get_by_role("link", name="Download CSV").click()
    assert download.value.suggested_filename == "queuescope-jobs.csv"
    with Path(download.value.path()).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [job.id for job in found]
    assert [row["error_message"] for row in rows] == [job.error_message for job in found]
    linked.button("Clear").click()
    expect(linked.count).to_have_text(f"{len(held.jobs):,} jobs")
    assert linked.address == {}


def test_jobs_are_found_by_id_type_queue_worker_and_time(held: Held, open_jobs: OpenJobs) -> None:
    page = open_jobs("?type=classify_ticket&queue=priority")
    expected = [
        job.id for job in held.jobs if (job.name, job.queue) == ("classify_ticket", "priority")
    ]
    expect(page.count).to_have_text(f"{len(expected)} jobs")
    assert page.ids() == expected
    page.find("no job has this")
    expect(page.part("history")).to_contain_text("No job matches.")
    expect(page.count).to_have_text("0 jobs")
    wanted = next(job for job in held.jobs if job.id == expected[-1])
    page.find(wanted.id[:8])
    expect(page.count).to_have_text("1 job")
    assert page.ids() == [wanted.id]
    since, until = held.jobs[90].moment - 0.5, held.jobs[40].moment + 0.5
    stamps = [time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at)) for at in (since, until)]
    page = open_jobs(f"?from={stamps[0]}&to={stamps[1]}&worker=worker-2@shop")
    span = int(since), int(until)
    expected = [
        job.id
        for job in held.jobs
        if span[0] <= job.moment < span[1] and job.worker == "worker-2@shop"
    ]
    expect(page.count).to_have_text(f"{len(expected)} jobs")
    assert page.ids() == expected
    expect(page.page.get_by_label("From", exact=False).first).to_be_visible()


def test_pages_go_on_and_back_and_a_filter_begins_at_the_first(
    held: Held, open_jobs: OpenJobs
) -> None:
    page = open_jobs("?status=succeeded")
    done = [job.id for job in held.jobs if job.status is JobStatus.SUCCEEDED]
    assert page.ids() == done[:50]
    expect(page.button("Newer").first).to_be_disabled()
    page.turn("Older")
    assert page.ids() == done[50:100]
    link = page.page.url.partition("?")[2]
    page.turn("Older")
    assert page.ids() == done[100:150]
    page.turn("Newer")
    assert page.ids() == done[50:100]
    page.page.go_back()
    page.wait_for_other_rows(done[50:100])
    assert page.ids() == done[100:150]
    page.turn("Newest")
    assert page.ids() == done[:50]
    linked = open_jobs(f"?{link}")
    assert linked.ids() == done[50:100]
    linked.choose("Tenant", "acme")
    acme = [job.id for job in held.jobs if job.tenant == "acme" and job.id in done]
    expect(linked.count).to_have_text(f"{len(acme)} jobs")
    assert linked.ids() == acme[:50]
    assert "page" not in linked.address
