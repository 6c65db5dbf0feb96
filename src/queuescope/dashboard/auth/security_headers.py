"""Security headers on every response, whichever part of the server sends it."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from starlette.datastructures import MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger(__name__)

_STARTS = frozenset({"http.response.start", "websocket.http.response.start"})


class SecurityHeaders:
    """ASGI middleware outside all others, so that errors and refusals also pass through it.

    ``frame_ancestors`` are the origins, besides the dashboard's own, whose pages may show it in a
    frame. An error that nothing else handled gets its response here, and is raised for the server's
    log.
    """

    def __init__(self, app: ASGIApp, frame_ancestors: Iterable[str] = ()) -> None:
        self._app = app
        origins = tuple(frame_ancestors)
        self._headers = {
            # No other site may show a page in a frame and misdirect its reader's clicks.
            "Content-Security-Policy": " ".join(("frame-ancestors 'self'", *origins)),
            # The dashboard needs none of these, so injected content cannot have them either.
            "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Referrer-Policy": "same-origin",
            "X-Content-Type-Options": "nosniff",
            # For browsers without frame-ancestors; it cannot name other origins.
            **({} if origins else {"X-Frame-Options": "SAMEORIGIN"}),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        has_begun = False

        async def guarded(message: Message) -> None:
            nonlocal has_begun
            if message["type"] in _STARTS:
                has_begun = True
                headers = MutableHeaders(raw=list(message.get("headers", ())))
                for name, value in self._headers.items():
                    headers[name] = value
                message = {**message, "headers": headers.raw}
            await send(message)

        try:
            await self._app(scope, receive, guarded)
        except Exception:
            if scope["type"] == "http" and not has_begun:
                answer = PlainTextResponse("The server failed; its log says why.\n", 500)
                await answer(scope, receive, guarded)
            raise
