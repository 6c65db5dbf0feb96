"""What every answer tells a browser not to do with it, whichever part of the server gives it."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from starlette.datastructures import MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger(__name__)

_STARTS = frozenset({"http.response.start", "websocket.http.response.start"})


class SecurityHeaders:
    """ASGI middleware, outside of all others: also errors and refusals pass through it.

    ``frame_ancestors`` are the origins, besides the dashboard's own, whose pages may show it in a
    frame. An error that nobody has answered is answered here, and raised for the server's log.
    """

    def __init__(self, app: ASGIApp, frame_ancestors: Iterable[str] = ()) -> None:
        self._app = app
        origins = tuple(frame_ancestors)
        self._headers = {
            # No other site may show a page in a frame and lead its reader's clicks.
            "Content-Security-Policy": " ".join(("frame-ancestors 'self'", *origins)),
            # Nothing of it is asked for, so that what slips into a page cannot have it either.
            "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Referrer-Policy": "same-origin",
            "X-Content-Type-Options": "nosniff",
            # For browsers that do not know frame-ancestors; it cannot name other origins.
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
