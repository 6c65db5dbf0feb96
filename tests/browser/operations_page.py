"""A broker with a dashboard, and the page of operations as an operator sees it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import redis
from playwright.sync_api import Locator, Page, expect
from tests.browser.dashboard_process import DashboardProcess
from tests.browser.trends_page import WAIT_MS, repeat_until, wait_until_at_rest
from tests.real_broker import RealBroker

from queuescope.operations.audit import Entry, Result, Search
from queuescope.operations.store import OperationsStore

NOWHERE = "http://127.0.0.1:9"
"""An address without a Prometheus, which operations do not need."""
CONFIRM = "Type it here"
_WAYS_ON = re.compile("^(Close|Start again|Check again)$")


class World:
    """A real broker and a dashboard that operates on it; a context manager."""

    def __init__(
        self, directory: Path, *, prometheus_url: str = NOWHERE, queues: str, **settings: str
    ) -> None:
        self.directory = directory
        self.server = RealBroker(directory / "broker")
        self.server.start()
        self.broker_url = self.server.url
        self.client = redis.Redis(port=self.server.port)
        self.dashboard = DashboardProcess(
            directory,
            prometheus_url,
            # The usual 3 s, and 5 s for the answer of a worker, are short for a busy machine.
            broker_url=f"{self.broker_url}?socket_timeout=15",
            queues=queues,
            **{"prometheus_timeout_seconds": "2", **settings},
        )
        self.store = directory / "data" / "operations.db"
        self.store_url = settings.get("operations_store_url", f"sqlite:///{self.store}")

    def fill(self, queue: str, count: int, *, anew: bool = False) -> list[bytes]:
        """Adds messages that no worker will run; returns all that the queue then holds.

        With ``anew`` they replace all others in one step, so that no reading sees it empty.
        """
        with self.client.pipeline() as pipe:
            if anew:
                pipe.delete(queue)
            for number in range(count):
                pipe.lpush(queue, json.dumps({"headers": {"id": f"{queue}-{number}"}}))
            pipe.execute()
        return self.messages(queue)

    def messages(self, queue: str) -> list[bytes]:
        return [m if isinstance(m, bytes) else m.encode() for m in self.client.lrange(queue, 0, -1)]

    @contextmanager
    def operations_store(self) -> Iterator[OperationsStore]:
        made = OperationsStore(self.store_url)
        try:
            yield made
        finally:
            made.close()

    def audited(self, operation: str = "", target: str = "") -> list[Entry]:
        """The entries of the audit, oldest first."""
        with self.operations_store() as store:
            search = Search(operation=operation, target=target)
            return list(reversed(store.audit.find(search, limit=1000)))

    def __enter__(self) -> Self:
        self.dashboard.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.dashboard.kill()
        self.client.close()
        self.server.stop()


@dataclass(eq=False)
class OperationsPage:
    """One open page of operations, with the complaints of its browser. With the operator's ``key``
    it may run operations.
    """

    page: Page
    base_url: str
    key: str = ""
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def open(self) -> OperationsPage:
        query = f"?key={self.key}" if self.key else ""
        self.page.goto(f"{self.base_url}/operations{query}", wait_until="domcontentloaded")
        search = self.page.locator("summary", has_text="Search and export the audit")
        expect(search).to_be_visible()
        return self

    def part(self, title: str) -> Locator:
        """A part of the page, such as Queues, by its heading."""
        heading = self.page.locator("h2").filter(has_text=re.compile(f"^{title}$"))
        return self.page.locator(".qs-part-of").filter(has=heading)

    def row(self, part: str, name: str) -> Locator:
        """The row with this name in the first column."""
        first = self.page.locator("td:first-child").filter(has_text=name)
        return self.part(part).locator("tbody tr").filter(has=first)

    def cell(self, part: str, name: str, column: str) -> Locator:
        return self.row(part, name).locator(f'td[data-title="{column}"]')

    # By attributes, since a question by role computes the role of every element of the page.

    def button(self, label: str) -> Locator:
        """The button in a table that is called ``label``."""
        return self.page.locator(f"button[aria-label={json.dumps(label)}]")

    @property
    def dialog(self) -> Locator:
        return self.page.locator("[role=dialog]")

    @property
    def standing(self) -> Locator:
        """Whether the visitor may run operations, and why not."""
        return self.page.locator(".qs-notice").first

    def begin(self, label: str) -> Locator:
        """Press the button that is called ``label`` and wait for the dialog and its plan."""
        self.button(label).click()
        expect(self.dialog.get_by_text("What it does not do")).to_be_visible()
        return self.dialog

    def confirm(self, button: str, phrase: str = "") -> str:
        """Confirm in the dialog, and wait for the outcome; returns its words."""
        if phrase:
            self.dialog.get_by_label(CONFIRM).fill(phrase)
        self.dialog.get_by_role("button", name=button, exact=True).click()
        return self.outcome()

    def confirm_retry(self, words: str) -> None:
        """Confirm the retry that the dialog describes in ``words``, and leave the dialog."""
        expect(self.dialog.locator(".qs-lead")).to_contain_text(words, timeout=WAIT_MS)
        assert self.confirm("Retry").startswith("Done")
        self.close()

    def outcome(self) -> str:
        """The outcome in the dialog: state and words. There is nothing else left in it to press."""
        said = self.dialog.locator(".qs-answer")
        said.wait_for(timeout=WAIT_MS)
        if said.get_attribute("data-state") == Result.PENDING:
            # It takes longer than the page waits for it.
            self.dialog.get_by_role("button", name="Check again", exact=True).click()
            expect(said).not_to_have_attribute("data-state", Result.PENDING, timeout=WAIT_MS)
        expect(self.dialog.locator("form, input, h3")).to_have_count(0)
        ways = self.dialog.locator("button").filter(visible=True, has_not_text=_WAYS_ON)
        expect(ways.filter(has_text=re.compile(r"\w"))).to_have_count(0)
        state, words = (line for line in said.inner_text().splitlines() if line.strip())
        return f"{state.strip()}: {words.strip()}"

    def close(self) -> None:
        """Leave the dialog. It hears the keyboard only while it has the focus, which it loses for a
        moment when what had the focus in it is replaced.
        """
        wait_until_at_rest(self.page)
        repeat_until(
            lambda: self.page.keyboard.press("Escape"),
            lambda timeout_ms: self.dialog.wait_for(state="detached", timeout=timeout_ms),
        )

    def do(self, label: str, button: str, phrase: str = "") -> str:
        """From the button to the outcome."""
        self.begin(label)
        outcome = self.confirm(button, phrase)
        self.close()
        return outcome
