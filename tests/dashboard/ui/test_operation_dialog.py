"""The dialog of an act whose answer is late: what it says, and how to wait for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from pydantic import SecretStr
from streamlit.testing.v1 import AppTest
from tests.real_broker import RealBroker

from queuescope.dashboard.services import Services, open_services
from queuescope.dashboard.ui.operation_dialog import VisitorOperations
from queuescope.dashboard.ui.pending_operation import PendingOperation
from queuescope.operations.access import Actor, Origin
from queuescope.operations.audit import Result, Search
from queuescope.operations.request import Request
from queuescope.settings import Settings

ADA = Actor("ada", Origin.PROXY)
PATIENT_SECONDS = 120


@pytest.fixture
def services(server: RealBroker, tmp_path: Path) -> Iterator[Services]:
    """Of an application whose broker is waited for as long as it takes."""
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
        # The plan was waited for as long as it took; for the act nobody waits.
        pending._patience_seconds = 0
        with server.frozen():
            pending.send(ADA, "orders 3")
            page.run()
            assert not page.exception
            assert _buttons(page) == ["Close", "Look again"]
            assert (len(page.text_input), mine.is_open) == (0, True)
            looking = threading.Thread(target=page.button[1].click().run)
            looking.start()
            until = time.monotonic() + PATIENT_SECONDS
            # Whoever waits for an answer holds it.
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
