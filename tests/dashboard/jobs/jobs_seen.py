"""The page of jobs as it is drawn for a visitor without a browser."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass

from tests.browser.dashboard_process import DashboardProcess
from tests.dashboard.operations.operations_page import OperationsPage
from tests.dashboard.page_socket import PageSocket
from tests.instrument.conftest import until

_PARTS = re.compile(r'data-part="(\w+)" data-state="(\w+)"')
_ALERT = re.compile(r'role="alert">(.*?)</div></div>', re.DOTALL)
_ROWS = re.compile(r'<details[^>]* data-key="([^"]+)"')
BOTH = {"failures", "history"}


@dataclass(frozen=True)
class Seen:
    """The page as it was drawn once. By part: its state, its error notice, its jobs."""

    text: str
    states: dict[str, str]
    alerts: dict[str, str]
    ids: dict[str, list[str]]


def look(dashboard: DashboardProcess, query: str = "") -> Seen:
    with PageSocket(dashboard.port) as socket:
        said = OperationsPage(socket, "jobs", query).said
    found = list(_PARTS.finditer(said))
    ends = [one.start() for one in found[1:]] + [len(said)]
    texts = {one[1]: said[one.end() : end] for one, end in zip(found, ends, strict=False)}
    alerts = {
        name: html.unescape(re.sub("<[^>]+>", " ", alert[1])).strip()
        for name, text in texts.items()
        if (alert := _ALERT.search(text))
    }
    ids = {name: _ROWS.findall(text) for name, text in texts.items()}
    return Seen(said, {one[1]: one[2] for one in found}, alerts, ids)


def once(dashboard: DashboardProcess, state: str) -> Seen:
    """The page once both parts are in that state, since answers are shared for some seconds."""
    return until(
        lambda: look(dashboard),
        lambda seen: seen.states == dict.fromkeys(BOTH, state),
        pause_seconds=0.5,
    )
