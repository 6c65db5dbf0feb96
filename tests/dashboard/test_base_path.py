"""A base path that a proxy passes on or removes, both of which work."""

from __future__ import annotations

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket

from queuescope.dashboard.base_path import WithBasePath, WithoutBasePath

BASE = "/queues"


async def _path(request: Request) -> Response:
    return PlainTextResponse(request.scope["path"])


async def _path_of_socket(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_text(socket.scope["path"])
    await socket.close()


@pytest.fixture
def client() -> TestClient:
    app = Starlette(
        routes=[WebSocketRoute("/{rest:path}", _path_of_socket), Route("/{rest:path}", _path)],
        middleware=[
            Middleware(WithoutBasePath, base=BASE),
            Middleware(WithBasePath, base=BASE, own=("/queuescope/", "/healthz")),
        ],
    )
    return TestClient(app, follow_redirects=False)


@pytest.mark.parametrize("before", ["", BASE])
@pytest.mark.parametrize(
    ("path", "seen"),
    [
        ("/", f"{BASE}/"),
        ("/_stcore/health", f"{BASE}/_stcore/health"),
        ("/static/js/a%20b.js", f"{BASE}/static/js/a b.js"),
        ("/queuescope/view", "/queuescope/view"),
        ("/healthz", "/healthz"),
        ("/healthzz", f"{BASE}/healthzz"),
        ("/queuesxyz", f"{BASE}/queuesxyz"),
    ],
)
def test_both_ways_reach_the_same(client: TestClient, before: str, path: str, seen: str) -> None:
    assert client.get(f"{before}{path}").text == seen
    with client.websocket_connect(f"{before}{path}") as socket:
        assert socket.receive_text() == seen


def test_without_its_slash_the_path_leads_to_the_one_with_it(client: TestClient) -> None:
    answer = client.get(f"{BASE}?range=7d&tz=UTC")
    assert (answer.status_code, answer.headers["location"]) == (307, f"{BASE}/?range=7d&tz=UTC")


def test_without_a_base_path_nothing_changes() -> None:
    app = Starlette(
        routes=[Route("/{rest:path}", _path)],
        middleware=[
            Middleware(WithoutBasePath, base=""),
            Middleware(WithBasePath, base="", own=()),
        ],
    )
    assert TestClient(app).get("/queues/jobs").text == "/queues/jobs"
