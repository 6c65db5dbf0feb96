"""The page of jobs as a reader sees it, and the job histories for it."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from urllib.parse import parse_qs, urlsplit

from playwright.sync_api import Locator, Page, TimeoutError, expect  # noqa: A004 - Playwright's own
from tests.browser.trends_page import WAIT_MS, wait_until_at_rest

from queuescope.jobs.job import Job, JobStatus

NOWHERE = "http://127.0.0.1:9"
"""An address without a Prometheus, which the history does not need."""

TENANTS = ("acme", "globex", "initech")
_TRIES = 5
_OPEN_MS = 5_000


def some_jobs(now: float, count: int = 260) -> list[Job]:
    """Jobs of the last hours, of which every eighth failed in one of three ways, and one runs."""
    rng = random.Random(11)
    jobs = []
    for number in range(count):
        at = now - 60 - number * 50
        job = Job(
            id=f"{rng.getrandbits(32):08x}-{number:04}-4000-8000-{rng.getrandbits(48):012x}",
            name=("enhance_ticket", "classify_ticket")[number % 2],
            tenant=TENANTS[number % 3],
            queue=("default", "priority")[number % 5 == 0],
            worker=f"worker-{number % 4}@shop",
            status=JobStatus.SUCCEEDED,
            enqueued_at=at - 9,
            started_at=at - 5,
            finished_at=at,
            wait_seconds=4.0,
            runtime_seconds=5.0,
        )
        if number % 8 == 0:
            kind = number // 8 % 3
            job = replace(
                job,
                name="enhance_ticket",
                status=(JobStatus.FAILED, JobStatus.FAILED, JobStatus.LOST)[kind],
                error_class=("UpstreamTimeoutError", "BadPayloadError", "WorkerLostError")[kind],
                error_message=(
                    f"the model did not answer within 60 s (ticket {number})",
                    f"ticket {number}: the field 'body' is missing\n  in line {number}",
                    "The worker ended while it ran this job.",
                )[kind],
            )
        jobs.append(job)
    running = replace(
        jobs[1], id="running", status=JobStatus.STARTED, finished_at=None, runtime_seconds=None
    )
    return [*jobs, replace(running, started_at=now - 20)]


@dataclass(eq=False)
class JobsPage:
    """One open page of jobs, with the complaints of its browser."""

    page: Page
    base_url: str
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def open(self, query: str = "") -> JobsPage:
        self.page.goto(f"{self.base_url}/jobs{query}", wait_until="domcontentloaded")
        self.part("failures").wait_for(timeout=WAIT_MS)
        self.part("history").wait_for(timeout=WAIT_MS)
        wait_until_at_rest(self.page)
        return self

    def part(self, name: str) -> Locator:
        """``failures`` or ``history``."""
        return self.page.locator(f"[data-part={name}]")

    def table(self, caption: str) -> Locator:
        return self.page.get_by_role("table", name=caption, exact=True)

    @property
    def groups(self) -> Locator:
        """The rows of groups, without the details below an open one."""
        table = self.page.locator("table").filter(has=self.page.get_by_text("grouped")).first
        return table.locator("> tbody > tr:not([data-key])")

    @property
    def card(self) -> Locator:
        """The open group."""
        return self.page.locator("td.qs-below")

    @property
    def rows(self) -> Locator:
        return self.table("Jobs").locator("tbody tr")

    @property
    def count(self) -> Locator:
        return self.part("history").locator(".qs-said b")

    def ids(self) -> list[str]:
        """The ids of the jobs that the history shows."""
        # One question for all: each by itself would look for the table on the whole page.
        keys: list[str] = self.rows.locator("details").evaluate_all(
            "all => all.map(one => one.dataset.key)"
        )
        return keys

    def button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name, exact=True)

    def turn(self, way: str) -> None:
        """Go to another page with the buttons above the table, and wait for it."""
        before = self.ids()
        self.part("history").get_by_role("button", name=way, exact=True).first.click()
        self.wait_for_other_rows(before)

    def wait_for_other_rows(self, before: list[str]) -> None:
        self.page.wait_for_function(
            "before => { const rows = [...document.querySelectorAll("
            "'[data-part=history] tbody details')]; return rows.length"
            " && JSON.stringify(rows.map(row => row.dataset.key)) !== before; }",
            arg=json.dumps(before, separators=(",", ":")),
            timeout=WAIT_MS,
            polling=100,
        )

    def open_choices(self, label: str) -> None:
        option = self.page.get_by_role("option").first
        self._in_choices(label, lambda: expect(option).to_be_visible(timeout=_OPEN_MS))

    def choose(self, label: str, option: str) -> None:
        wanted = self.page.get_by_role("option", name=option, exact=True)
        self._in_choices(label, lambda: wanted.click(timeout=_OPEN_MS))

    def _in_choices(self, label: str, act: Callable[[], None]) -> None:
        """Do something in the list of a field, again if a redraw of the page closes it."""
        field = self.page.get_by_role("combobox", name=label, exact=False)
        for _ in range(_TRIES):
            field.click()
            try:
                act()
            except (AssertionError, TimeoutError):
                continue
            return
        act()

    def find(self, text: str) -> None:
        field = self.page.get_by_label("Find", exact=True)
        field.fill(text)
        field.press("Enter")

    def expect_state(self, part: str, state: str) -> None:
        expect(self.part(part)).to_have_attribute("data-state", state, timeout=WAIT_MS)

    @property
    def address(self) -> dict[str, str]:
        """The parameters of the page's address."""
        return {name: values[0] for name, values in parse_qs(urlsplit(self.page.url).query).items()}
