"""The route of the file of jobs: its content, access, limits and failures."""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route
from starlette.testclient import TestClient
from starlette.types import Message
from tests.dashboard.conftest import RunningDashboard
from tests.jobs.conftest import FAILED, T0

from queuescope.dashboard import services as services_module
from queuescope.dashboard.jobs.export import JOBS_CSV, JobsFile
from queuescope.dashboard.overview.chart_csv import CHART_CSV
from queuescope.dashboard.services import Services, open_services
from queuescope.errors import JobStoreError
from queuescope.jobs import search
from queuescope.jobs.store import JobStore
from queuescope.settings import Settings

NOWHERE = "http://127.0.0.1:9"
JOBS = [
    replace(
        FAILED,
        id=f"j{number:05}",
        tenant=("acme", "globex")[number % 2],
        finished_at=T0 + number,
        error_message="=1+1",
    )
    for number in range(2500)
]


@pytest.fixture
def store_url(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path / 'jobs.db'}"
    store = JobStore(url)
    store.record(JOBS)
    store.close()
    return url


@pytest.fixture
def parts(store_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Services]:
    made = open_services(Settings(job_store_url=store_url))  # type: ignore[call-arg, arg-type]
    yield made
    made.close()
    monkeypatch.setattr(services_module, "_current", None)


@pytest.fixture
def client(parts: Services) -> Iterator[TestClient]:
    with TestClient(Starlette(routes=[Route(JOBS_CSV, JobsFile().send)])) as made:
        yield made


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_the_file_holds_all_that_match_the_newest_first(client: TestClient) -> None:
    answer = client.get(f"{JOBS_CSV}?tenant=acme&time=custom")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == 'attachment; filename="queuescope-jobs.csv"'
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    expected = [job.id for job in reversed(JOBS) if job.tenant == "acme"]
    assert [row["id"] for row in rows(answer.text)] == expected
    assert {row["error_message"] for row in rows(answer.text)} == {"'=1+1"}
    assert rows(client.get(f"{JOBS_CSV}?tenant=nobody").text) == []


def test_it_holds_no_more_rows_than_it_says(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("queuescope.jobs.export.ROWS_LIMIT", 1200)
    assert [row["id"] for row in rows(client.get(JOBS_CSV).text)] == [
        job.id for job in reversed(JOBS[-1200:])
    ]


def test_an_invalid_address_is_refused(client: TestClient) -> None:
    answer = client.get(f"{JOBS_CSV}?status=<script>")
    assert answer.status_code == 400
    assert answer.headers["content-type"].startswith("text/plain")
    assert "give one of started" in answer.text


def test_without_a_history_there_is_no_file(client: TestClient) -> None:
    open_services(Settings())  # type: ignore[call-arg]
    assert client.get(JOBS_CSV).status_code == 404


def test_a_history_that_fails_at_once_is_an_answer_of_its_own(
    client: TestClient, tmp_path: Path
) -> None:
    (tmp_path / "broken.db").write_bytes(b"no database" * 500)
    url = f"sqlite:///{tmp_path / 'broken.db'}"
    open_services(Settings(job_store_url=url))  # type: ignore[call-arg, arg-type]
    answer = client.get(JOBS_CSV)
    assert answer.status_code == 503
    assert "The job history cannot be read" in answer.text


def test_one_that_fails_on_the_way_breaks_off(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The partial file does not pass for the whole."""
    find_jobs, calls = search.find_jobs, 0

    def fails_later(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > 1:
            raise JobStoreError("the job history did not answer")
        return find_jobs(*arguments, **options)

    monkeypatch.setattr(search, "find_jobs", fails_later)
    with pytest.raises(JobStoreError), client.stream("GET", JOBS_CSV) as answer:
        b"".join(answer.iter_bytes())
    monkeypatch.undo()
    assert client.get(JOBS_CSV).status_code == 200


@pytest.mark.parametrize("error", [ValueError("a row"), TimeoutError("a row")])
def test_a_row_that_raises_takes_no_place(
    parts: Services, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Neither at the start nor later, however often."""

    def each_job(*_arguments: Any, **_options: Any) -> Iterator[Any]:
        yield from jobs_before
        raise error

    monkeypatch.setattr(search, "each_job", each_job)
    routes = [Route(JOBS_CSV, JobsFile().send)]
    with TestClient(Starlette(routes=routes), raise_server_exceptions=False) as client:
        jobs_before = JOBS[:0]
        statuses = {client.get(JOBS_CSV).status_code for _ in range(5)}
        assert statuses == {503 if isinstance(error, TimeoutError) else 500}
        jobs_before = JOBS[:1000]
        for _ in range(5):
            answer = client.get(JOBS_CSV)
            assert answer.status_code == 200
            assert 0 < len(rows(answer.text)) <= 1000
        monkeypatch.undo()
        assert len(rows(client.get(JOBS_CSV).text)) == len(JOBS)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("version", "limit"),
    [
        ("2.3", "_PIECE_TAKEN_WITHIN_SECONDS"),
        ("2.4", "_WHOLE_TAKEN_WITHIN_SECONDS"),
        pytest.param("2.3", "_WHOLE_TAKEN_WITHIN_SECONDS", marks=pytest.mark.long),
        pytest.param("2.4", "_PIECE_TAKEN_WITHIN_SECONDS", marks=pytest.mark.long),
    ],
)
async def test_a_reader_who_takes_too_long_frees_the_place(
    parts: Services, monkeypatch: pytest.MonkeyPatch, version: str, limit: str
) -> None:
    """Whether the reader takes nothing, or each piece in time but never the whole."""
    monkeypatch.setattr(f"queuescope.dashboard.ui.sent_file.{limit}", 0.05)
    file = JobsFile()
    scope = {
        "type": "http",
        "method": "GET",
        "path": JOBS_CSV,
        "headers": [],
        "query_string": b"",
        "asgi": {"spec_version": version},
    }
    sent: list[Message] = []

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError("the reader says nothing and stays")

    async def take(message: Message) -> None:
        if limit.startswith("_WHOLE"):
            await asyncio.sleep(0.02)
        elif message["type"] == "http.response.body":
            await asyncio.Event().wait()
        sent.append(message)

    for _ in range(5):
        response = await file.send(Request(scope))
        assert response.status_code == 200
        await response(scope, receive, take)
        # The partial file does not pass for the whole.
        assert all(message.get("more_body", True) for message in sent)


@pytest.mark.anyio
async def test_only_so_many_are_sent_at_once_and_places_are_given_back(parts: Services) -> None:
    file = JobsFile()
    scope = {
        "type": "http",
        "method": "GET",
        "path": JOBS_CSV,
        "headers": [],
        "query_string": b"",
        "asgi": {"spec_version": "2.4"},
    }
    responses = [await file.send(Request(scope)) for _ in range(5)]
    assert [response.status_code for response in responses] == [200] * 4 + [503]
    sent: list[Message] = []

    async def receive() -> Message:
        raise AssertionError("nothing is read of a file's reader")

    async def send(message: Message) -> None:
        sent.append(message)

    async def hang_up(message: Message) -> None:
        raise OSError("the reader has gone")

    await responses[0](scope, receive, send)
    assert not sent[-1]["more_body"]
    with pytest.raises(Exception, match=r".*"):
        await responses[1](scope, receive, hang_up)
    again = [await file.send(Request(scope)) for _ in range(3)]
    assert [response.status_code for response in again] == [200, 200, 503]


def test_visitors_who_may_not_view_it_get_no_file(tmp_path: Path, store_url: str) -> None:
    running = RunningDashboard(
        tmp_path,
        NOWHERE,
        job_store_url=store_url,
        authentication="proxy",
        trusted_proxies="127.0.0.1",
        viewers="ada",
    )
    try:
        refused = [
            running.ask(JOBS_CSV),
            running.ask(JOBS_CSV, {"X-Forwarded-User": "mallory"}),
            running.ask(f"{JOBS_CSV}?tenant=acme", {"X-Forwarded-User": "ada, mallory"}),
        ]
        assert [answer.status for answer in refused] == [403] * 3
        assert not any(job.id in answer.text for answer in refused for job in JOBS[:3])
        answer = running.ask(JOBS_CSV, {"X-Forwarded-User": "ada"})
        assert (answer.status, len(rows(answer.text))) == (200, len(JOBS))
        chart = f"{CHART_CSV}?panel=queue_depth"
        assert running.ask(chart).status == 403
        assert running.ask(chart, {"X-Forwarded-User": "mallory"}).status == 403
        assert running.ask(chart, {"X-Forwarded-User": "ada"}).status == 200
    finally:
        running.close()
    assert "Traceback" not in running.log
