"""The routes of the files of the audit: content, address, access and failures."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.testclient import TestClient
from tests.dashboard.conftest import RunningDashboard

from queuescope.dashboard import services as services_module
from queuescope.dashboard.operations.export import (
    AUDIT_CSV,
    AUDIT_JSON,
    TEXT_LIMIT,
    AuditFiles,
    parse_search,
    query_of,
)
from queuescope.dashboard.services import Services, open_services
from queuescope.errors import AuditError, ConfigurationError
from queuescope.operations.access import Actor, Origin, Role
from queuescope.operations.audit import Audit, Result, Search
from queuescope.operations.request import Operation, Request
from queuescope.operations.store import OperationsStore
from queuescope.settings import Settings

NOWHERE = "http://127.0.0.1:9"
# Nothing is read from it.
BROKER = "redis://127.0.0.1:9/0"
ADA = Actor("ada", Origin.OIDC)
# More than one piece.
COUNT = 230


@pytest.fixture(scope="module")
def store_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    url = f"sqlite:///{tmp_path_factory.mktemp('audit') / 'operations.db'}"
    store = OperationsStore(url)
    for number in range(COUNT):
        request = Request.pause(f"q{number}") if number % 100 else Request.purge("orders")
        store.refuse(ADA, Role.VIEWER, request, f"=1+{number}")
    store.close()
    return url


def opened(**settings: Any) -> Services:
    return open_services(Settings(**settings))


@pytest.fixture
def parts(store_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Services]:
    # More is there than is read at once.
    monkeypatch.setattr("queuescope.operations.audit._BATCH", 50)
    made = opened(broker_url=BROKER, operations_store_url=store_url, data_dir=tmp_path)
    yield made
    made.close()
    monkeypatch.setattr(services_module, "_current", None)


@pytest.fixture
def client(parts: Services) -> Iterator[TestClient]:
    files = AuditFiles()
    routes = [Route(AUDIT_CSV, files.send_csv), Route(AUDIT_JSON, files.send_json)]
    with TestClient(Starlette(routes=routes)) as made:
        yield made


def test_the_files_hold_all_entries_the_oldest_first(client: TestClient) -> None:
    answer = client.get(AUDIT_CSV)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == 'attachment; filename="queuescope-audit.csv"'
    assert answer.headers["cache-control"] == "no-store"
    rows = list(csv.DictReader(answer.text.splitlines()))
    assert [int(row["seq"]) for row in rows] == [*range(1, COUNT + 1)]
    # A spreadsheet must not take it for a formula; a program gets it as it is.
    assert rows[7]["detail"] == "'=1+7"
    answer = client.get(AUDIT_JSON)
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert answer.headers["content-disposition"] == 'attachment; filename="queuescope-audit.jsonl"'
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert [line["seq"] for line in lines] == [*range(1, COUNT + 1)]
    assert lines[7]["detail"] == "=1+7"


def test_they_hold_only_what_matches(client: TestClient) -> None:
    found = client.get(f"{AUDIT_JSON}?operation=purge&target=orders&actor=ada&result=refused")
    assert [json.loads(line)["seq"] for line in found.text.splitlines()] == [
        number + 1 for number in range(0, COUNT, 100)
    ]
    for nothing in ("find=no+such", "to=2001-01-01T00:00:00Z"):
        assert client.get(f"{AUDIT_JSON}?{nothing}").text == ""
        assert client.get(f"{AUDIT_CSV}?{nothing}").text.startswith("seq,")
        assert len(client.get(f"{AUDIT_CSV}?{nothing}").text.splitlines()) == 1


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("operation=drop", "give one of pause"),
        ("result=<script>", "give one of pending"),
        ("from=yesterday", "give a moment such as"),
        ("find=" + "a" * (TEXT_LIMIT + 1), f"find: give at most {TEXT_LIMIT} characters"),
    ],
)
def test_an_invalid_address_is_refused(client: TestClient, query: str, words: str) -> None:
    answer = client.get(f"{AUDIT_CSV}?{query}")
    assert answer.status_code == 400
    assert answer.headers["content-type"].startswith("text/plain")
    assert words in answer.text


def test_without_a_broker_there_is_no_audit(client: TestClient) -> None:
    opened()
    assert client.get(AUDIT_CSV).status_code == 404


def test_an_audit_that_fails_is_an_answer_of_its_own(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> Iterator[str]:
        raise AuditError("the audit is locked")
        yield ""

    monkeypatch.setattr(Audit, "export_csv", fails)
    answer = client.get(AUDIT_CSV)
    assert answer.status_code == 503
    assert answer.text == "The audit cannot be read: the audit is locked.\n"
    monkeypatch.undo()
    assert client.get(AUDIT_CSV).status_code == 200


def test_entries_that_are_added_on_the_way_do_not_disturb_it(tmp_path: Path) -> None:
    store = OperationsStore(f"sqlite:///{tmp_path / 'operations.db'}")
    for number in range(3):
        store.refuse(ADA, Role.VIEWER, Request.pause(f"q{number}"), "before")
    lines = store.audit.export_json(Search())
    assert json.loads(next(lines))["seq"] == 1
    # The reader is slow, and holds no lock meanwhile.
    store.refuse(ADA, Role.VIEWER, Request.pause("q3"), "meanwhile")
    assert [json.loads(line)["seq"] for line in lines][:2] == [2, 3]
    store.close()


SEARCHES = st.builds(
    Search,
    text=st.text(max_size=TEXT_LIMIT).map(str.strip),
    target=st.text(max_size=TEXT_LIMIT).map(str.strip),
    operation=st.sampled_from(["", *Operation]),
    actor=st.text(max_size=TEXT_LIMIT).map(str.strip),
    result=st.sampled_from(["", *Result]),
    since_ms=st.none() | st.integers(0, 4_000_000_000).map(lambda seconds: seconds * 1000),
    until_ms=st.none() | st.integers(0, 4_000_000_000).map(lambda seconds: seconds * 1000),
)


@given(SEARCHES)
def test_a_search_is_read_as_it_was_written(search: Search) -> None:
    assert parse_search(dict(parse_qsl(query_of(search)))) == search


@given(st.dictionaries(st.sampled_from(["find", "from", "to", "result"]), st.text()))
def test_no_address_breaks_it(params: dict[str, str]) -> None:
    with suppress(ConfigurationError):
        parse_search(params)


def test_visitors_who_may_not_view_it_get_no_file(tmp_path: Path, store_url: str) -> None:
    running = RunningDashboard(
        tmp_path,
        NOWHERE,
        broker_url=BROKER,
        operations_store_url=store_url,
        authentication="proxy",
        trusted_proxies="127.0.0.1",
        viewers="ada",
    )
    try:
        for path in (AUDIT_CSV, AUDIT_JSON):
            assert running.ask(path).status == 403
            assert running.ask(path, {"X-Forwarded-User": "mallory"}).status == 403
            answer = running.ask(path, {"X-Forwarded-User": "ada"})
            assert answer.status == 200
            assert len(answer.text.splitlines()) >= COUNT
    finally:
        running.close()
    assert "Traceback" not in running.log
