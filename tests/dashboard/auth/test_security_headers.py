"""Every answer carries the policy, also one that fails or refuses."""

from __future__ import annotations

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocket

from queuescope.dashboard.auth.security_headers import SecurityHeaders


async def _fail(_request: Request) -> Response:
    raise LookupError("a secret")


async def _own_policy(_request: Request) -> Response:
    return PlainTextResponse("", headers={"Content-Security-Policy": "default-src *"})


async def _refuse(socket: WebSocket) -> None:
    await socket.send_denial_response(PlainTextResponse("no", 403))


def _client(*frame_ancestors: str) -> TestClient:
    app = Starlette(
        routes=[
            Route("/fail", _fail),
            Route("/own", _own_policy),
            WebSocketRoute("/refuse", _refuse),
        ],
        middleware=[Middleware(SecurityHeaders, frame_ancestors=frame_ancestors)],
    )
    return TestClient(app, raise_server_exceptions=False)


@pytest.mark.parametrize("path", ["/fail", "/own", "/unknown"])
def test_errors_and_unknown_paths_carry_the_policy(path: str) -> None:
    answer = _client().get(path)
    assert answer.headers["content-security-policy"] == "frame-ancestors 'self'"
    assert answer.headers["x-frame-options"] == "SAMEORIGIN"


def test_an_error_is_answered_without_its_text_and_raised_for_the_log() -> None:
    answer = _client().get("/fail")
    assert (answer.status_code, answer.text) == (500, "The server failed; its log says why.\n")
    with pytest.raises(LookupError):
        TestClient(_client().app).get("/fail")


def test_a_refused_websocket_carries_the_policy() -> None:
    with pytest.raises(WebSocketDenialResponse) as refused, _client().websocket_connect("/refuse"):
        pass
    assert refused.value.headers["content-security-policy"] == "frame-ancestors 'self'"


def test_named_origins_may_frame_the_page() -> None:
    headers = _client("https://portal.example.com", "https://wiki.example.com:8443").get("/own")
    assert headers.headers["content-security-policy"] == (
        "frame-ancestors 'self' https://portal.example.com https://wiki.example.com:8443"
    )
    assert "x-frame-options" not in headers.headers
