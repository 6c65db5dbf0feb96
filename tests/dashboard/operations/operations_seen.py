"""The page of operations as it is drawn for an operator without a browser."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.browser.dashboard_process import get
from tests.browser.operations_page import World
from tests.dashboard.operations.operations_page import OperationsPage
from tests.dashboard.page_socket import PageSocket

OPERATOR = {"authentication": "proxy", "trusted_proxies": "127.0.0.1", "admins": "ada"}
"""Settings with which ``opened`` is the page of an admin."""

_PART = re.compile(r'<section class="qs-part-of" data-state="(\w+)">.*?<h2>(\w+)</h2>', re.DOTALL)
_NOTICE = re.compile(r'class="qs-notice"[^>]*>(.*?)</div></div>', re.DOTALL)


class Seen:
    """The page as it was drawn once."""

    def __init__(self, said: str) -> None:
        self.said = said
        part = re.search(r'<section class="qs-part-of" data-state="(\w+)">', said)
        self.first_state = part[1] if part else ""
        self.states = {one[2]: one[1] for one in _PART.finditer(said)}

    @property
    def notice(self) -> str:
        """Whether the visitor may run operations, and why not."""
        found = _NOTICE.search(self.said)
        return words(found[1]) if found else ""

    @property
    def waiting(self) -> dict[str, str]:
        """The number of waiting jobs by queue."""
        rows = re.findall(
            r'data-title="Queue">([^<]*)</td><td[^>]* data-title="Waiting">(.*?)</td>', self.said
        )
        return {queue: words(cell) for queue, cell in rows}

    def off(self, label: str) -> str | None:
        """Why a button is disabled; None if it is not."""
        (button,) = re.findall(f'<button[^>]* aria-label="{label}"[^>]*>', self.said)
        title = re.search(r' disabled title="([^"]*)"', button)
        return html.unescape(title[1]) if title else None

    def part(self, title: str) -> str:
        """The text of a part."""
        text = self.said.partition(f"<h2>{title}</h2>")[2]
        return words(text.partition("</section>")[0])


def words(markup: str) -> str:
    return re.sub(r"\s+", " ", html.unescape(re.sub("<[^>]+>", " ", markup))).strip()


@contextmanager
def opened(world: World, at: str = "operations") -> Iterator[OperationsPage]:
    """The page of an admin, that of operations or another."""
    headers = [("X-Forwarded-User", "ada")]
    with PageSocket(world.dashboard.port, headers=headers) as socket:
        yield OperationsPage(socket, at)


def look(world: World, at: str = "operations") -> Seen:
    with opened(world, at) as page:
        return Seen(page.said)


def sources(world: World) -> dict[str, dict[str, Any]]:
    """The state of each source on the charts, by id."""
    return {one["id"]: one for one in _overview(world)["sources"]}


def finding(world: World, source: str) -> str:
    """Why the verdict on the charts counts a source as away, in small letters."""
    findings = _overview(world)["verdict"]["findings"]
    (reason,) = [one["reason"] for one in findings if one["rule"] == source]
    return "".join(part for part in reason if isinstance(part, str)).lower()


def _overview(world: World) -> dict[str, Any]:
    status, body = get(world.dashboard.port, "/queuescope/overview?age=1", user="ada")
    assert status == 200, body
    found: dict[str, Any] = json.loads(body)
    return found
