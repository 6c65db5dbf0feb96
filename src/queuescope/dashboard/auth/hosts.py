"""Which ``Host`` a request may name: without this check, DNS rebinding reaches the dashboard.

It also allows websockets only from the dashboard's own pages. Streamlit alone would accept a page
of any other server on this machine.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})


class AllowedHosts:
    """ASGI middleware. IP addresses pass (rebinding needs a name); names must be allowed."""

    def __init__(self, app: ASGIApp, allowed: Iterable[str]) -> None:
        self._app = app
        self._allowed = _LOCAL | {name.lower() for name in allowed}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        is_socket = scope["type"] == "websocket"
        if self._passes(headers) and not (is_socket and _is_foreign(headers)):
            await self._app(scope, receive, send)
            return
        if is_socket:
            await send({"type": "websocket.close", "code": 1008})
            return
        response = PlainTextResponse(
            "This host name is not allowed. Add it to the setting “allowed_hosts” "
            "(QUEUESCOPE_ALLOWED_HOSTS).\n",
            status_code=400,
        )
        await response(scope, receive, send)

    def _passes(self, headers: Headers) -> bool:
        if "*" in self._allowed:
            return True
        named = headers.getlist("host")
        if len(named) != 1:
            return False
        name = named[0].lower()
        name = name[1:].partition("]")[0] if name.startswith("[") else name.partition(":")[0]
        if name in self._allowed:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def _is_foreign(headers: Headers) -> bool:
    """Whether a page of another site asks. A client that sends no origin is not a browser, so it
    has no visitor's cookies.
    """
    origins = headers.getlist("origin")
    if not origins:
        return False
    return [urlsplit(origin).netloc for origin in origins] != [headers["host"]]
