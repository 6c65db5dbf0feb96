"""Search in the audit, on the page of operations, by the frames that a page sends."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.WidgetStates_pb2 import WidgetState
from tests.dashboard.conftest import RunningDashboard
from tests.dashboard.operations.operations_page import OperationsPage
from tests.dashboard.page_socket import PageSocket, elements, pressed

from queuescope.operations.access import Actor, Origin, Role
from queuescope.operations.request import Request
from queuescope.operations.store import OperationsStore

NOWHERE = "http://127.0.0.1:9"
BROKER = "redis://127.0.0.1:9/0"


@pytest.fixture
def dashboard(tmp_path: Path) -> Iterator[RunningDashboard]:
    """With three pages of entries in its audit, of 20, 20 and 5."""
    url = f"sqlite:///{tmp_path / 'operations.db'}"
    store = OperationsStore(url)
    for _ in range(45):
        store.refuse(Actor("ada", Origin.OIDC), Role.VIEWER, Request.pause("orders"), "no")
    store.close()
    running = RunningDashboard(
        tmp_path, NOWHERE, authentication="public", broker_url=BROKER, operations_store_url=url
    )
    yield running
    running.close()


class Search:
    def __init__(self, socket: PageSocket) -> None:
        page = OperationsPage(socket)
        self._socket, self._hash = socket, page.hash
        (self._fragment, self._expander), *_ = [
            (message.delta.fragment_id, message.delta.add_block.id)
            for message in page.first
            if message.delta.add_block.WhichOneof("type") == "expandable"
        ]
        fragments = {m.delta.fragment_id for m in page.first if m.delta.fragment_id}
        self._others = sorted(fragments - {self._fragment})
        self._drawn: list[ForwardMsg] = []

    def run(self, *states: WidgetState, other: bool = False) -> None:
        opened = WidgetState(id=self._expander, bool_value=True)
        drawn = self._socket.run(
            page=self._hash,
            widgets=[opened, *states],
            fragment=self._others[0] if other else self._fragment,
        )
        if not other:
            self._drawn = drawn

    def press(self, label: str, *, times: int = 1) -> None:
        """More than once as a page does it: if another part is drawn again at the moment of a
        press, the request for that part contains the press, too.
        """
        (button,) = [one for one in elements(self._drawn, "button") if one.label == label]
        for _ in range(times - 1):
            self.run(pressed(button.id), other=True)
        self.run(pressed(button.id))

    @property
    def numbers(self) -> list[int]:
        html = "".join(one.body for one in elements(self._drawn, "html"))
        return [int(n) for n in re.findall(r'data-title="#"[^>]*>(?:<[^>]*>)*(\d+)', html)]


def test_a_press_that_arrives_twice_moves_one_page(dashboard: RunningDashboard) -> None:
    with PageSocket(dashboard.port) as socket:
        search = Search(socket)
        search.run()
        assert search.numbers == [*range(45, 25, -1)]
        search.press("Older", times=2)
        assert search.numbers == [*range(25, 5, -1)]
        search.press("Newer")
        assert search.numbers == [*range(45, 25, -1)]
        search.press("Older")
        search.press("Older")
        assert search.numbers == [*range(5, 0, -1)]
        search.press("Newer", times=2)
        assert search.numbers == [*range(25, 5, -1)]
