"""The dialog of an operation: its steps, and what it says about a late answer."""

from __future__ import annotations

import importlib
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest
import redis
from pydantic import SecretStr
from streamlit.testing.v1 import AppTest
from tests.real_broker import RealBroker

from queuescope.dashboard.auth.handshake import Handshake
from queuescope.dashboard.services import Services, open_services
from queuescope.dashboard.ui import visitor as ui_visitor
from queuescope.dashboard.ui.operation_dialog import VisitorOperations
from queuescope.dashboard.ui.pending_operation import PendingOperation
from queuescope.operations.access import Actor, Origin
from queuescope.operations.audit import Result, Search
from queuescope.operations.request import Request
from queuescope.settings import Settings

ADA = Actor("ada", Origin.PROXY)
PATIENT_SECONDS = 120
ROOT = Path(__file__).parents[3]
SOURCE = ROOT / "src" / "queuescope"
ARCHITECTURE = ROOT / "docs" / "architecture.md"


@pytest.fixture
def services(server: RealBroker, tmp_path: Path) -> Iterator[Services]:
    """The dialog of an application that waits for its broker without a limit."""
    made = open_services(
        Settings(
            prometheus_url="http://127.0.0.1:9",
            data_dir=tmp_path / "data",
            broker_url=SecretStr(f"{server.url}?socket_timeout={PATIENT_SECONDS}"),
            queues=["orders"],
            authentication="proxy",
            trusted_proxies=["127.0.0.1"],
            admins=["ada"],
        )
    )
    yield made
    made.close()


def _dialog() -> None:
    from queuescope.dashboard.ui.operation_dialog import show_pending

    show_pending()


def _buttons(page: AppTest) -> list[str]:
    return [button.label for button in page.button]


def test_look_again_waits_for_the_answer_that_is_late(
    services: Services, server: RealBroker
) -> None:
    context = services.operations_context
    assert context is not None
    with redis.Redis.from_url(server.url) as client:
        client.lpush("orders", "a", "b", "c")
        pending = PendingOperation(context.operations, Request.purge("orders"))
        mine = VisitorOperations("Purge a queue", pending)
        pending.prepare(ADA)
        page = AppTest.from_function(_dialog, default_timeout=PATIENT_SECONDS)
        page.session_state["queuescope_operations"] = mine
        page.run()
        assert _buttons(page) == ["Purge", "Cancel"]
        # The plan was awaited to its end; the operation itself is not.
        pending._patience_seconds = 0
        with server.frozen():
            pending.send(ADA, "orders 3")
            page.run()
            assert not page.exception
            assert _buttons(page) == ["Close", "Check again"]
            assert (len(page.text_input), mine.is_open) == (0, True)
            looking = threading.Thread(target=page.button[1].click().run)
            looking.start()
            until = time.monotonic() + PATIENT_SECONDS
            # A thread that waits for an outcome holds the lock.
            while not pending._lock.locked():
                assert time.monotonic() < until
                time.sleep(0.01)
        looking.join(PATIENT_SECONDS)
        assert not page.exception
        assert pending.outcome is not None
        assert pending.outcome.result is Result.DONE
        assert pending.outcome.detail.startswith("Removed 3 jobs")
        assert _buttons(page) == ["Close"]
        assert client.llen("orders") == 0
    results = [entry.event.result for entry in context.store.audit.find(Search(operation="purge"))]
    assert sorted(results) == sorted([Result.PENDING, Result.DONE])
    # Looking once more changes nothing.
    page.run()
    assert _buttons(page) == ["Close"]
    page.button[0].click().run()
    assert (_buttons(page), mine.is_open) == ([], False)


# General helps, and what has a way of its own: who a visitor is, and what lies behind the broker.
_ASIDE = {"database", "known", "private_files", "shown_text", "words", "dashboard/ui/widgets"}
_OWN_WAYS = ("broker/", "dashboard/auth/")


def _press_purge() -> None:
    import streamlit as st

    from queuescope.dashboard.operations import page
    from queuescope.dashboard.ui.operation_dialog import show_pending

    show_pending()
    if "pressed" not in st.session_state:
        st.session_state["pressed"] = True
        page._begin("purge", "orders")


def _documented_way() -> list[tuple[str, str]]:
    """The files of the way of a purge with those that they are reached from."""
    section = ARCHITECTURE.read_text("utf-8").partition("## The way of a command")[2]
    section = section.partition("\n## ")[0].partition("| reached from |")[2]
    rows = [row.split("|")[1:4] for row in section.splitlines() if row.startswith("| `")]
    return [(name.strip(" `"), before.strip(" `")) for name, _, before in rows]


def test_a_purge_passes_the_documented_files(
    services: Services, server: RealBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    way = _documented_way()
    for name, before in way:
        assert (SOURCE / f"{name}.py").is_file(), name
        if before:
            imported = (SOURCE / f"{before}.py").read_text("utf-8")
            package = f"queuescope.{name.replace('/', '.')}".rpartition(".")[0]
            lines = re.findall(rf"from ({re.escape(package)}[\w.]*) import", imported)
            assert lines, f"{before} does not lead to {name}"
    # A script without a connection has no handshake; what it says is identified as ever.
    handshake = Handshake((("X-Forwarded-User", "ada"),), "127.0.0.1")
    monkeypatch.setattr(ui_visitor, "session_handshake", lambda _settings: handshake)
    # What is imported meanwhile runs, too, and takes no part.
    importlib.import_module("queuescope.dashboard.operations.page")
    passed: set[str] = set()

    def note(frame: FrameType, event: str, _argument: object) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and SOURCE in path.parents and frame.f_code.co_name != "<module>":
            passed.add(path.relative_to(SOURCE).with_suffix("").as_posix())

    context = services.operations_context
    assert context is not None
    assert context.store.audit.verify().entries == 0
    with redis.Redis.from_url(server.url) as client:
        client.lpush("orders", "a", "b", "c")
        page = AppTest.from_function(_press_purge, default_timeout=PATIENT_SECONDS)
        threading.setprofile(note)
        try:
            page.run()
            page.text_input[0].input("orders 3")
            page.button[0].click().run()
            until = time.monotonic() + PATIENT_SECONDS
            # The outcome may come later than the page waits for it.
            while "Check again" in _buttons(page):
                assert time.monotonic() < until
                page.button[1].click().run()
        finally:
            threading.setprofile(None)
        assert not page.exception
        assert _buttons(page) == ["Close"]
        assert client.llen("orders") == 0
    results = [entry.event.result for entry in context.store.audit.find(Search())]
    assert results == [Result.DONE, Result.PENDING]
    own = {name for name in passed - _ASIDE if not name.startswith(_OWN_WAYS)}
    assert own == {name for name, _ in way if not name.startswith(_OWN_WAYS)}
