"""The path below which a proxy shows the dashboard, such as ``/queues``.

Some proxies pass it on and some take it away. Both are understood: what follows it is what all of
the dashboard answers to, and what the dashboard answers names addresses below it.
"""

from __future__ import annotations

from collections.abc import Iterable

from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send


class WithoutBasePath:
    """ASGI middleware that takes ``base`` (such as ``/queues``; empty is none) off each path."""

    def __init__(self, app: ASGIApp, base: str) -> None:
        self._app = app
        self._base = base

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = str(scope.get("path", ""))
        if self._base and path == self._base and scope["type"] == "http":
            # Relative addresses in the page are those below the slash.
            query = scope["query_string"].decode("latin-1")
            address = f"{self._base}/{'?' if query else ''}{query}"
            await RedirectResponse(address, status_code=307)(scope, receive, send)
            return
        if self._base and path.startswith(f"{self._base}/"):
            scope = _moved(scope, path.removeprefix(self._base))
        await self._app(scope, receive, send)


class WithBasePath:
    """ASGI middleware before Streamlit, whose own addresses begin with ``base``. Not those of
    ``own``, which are ours: a path itself, and where it ends with a slash all below it.
    """

    def __init__(self, app: ASGIApp, base: str, own: Iterable[str]) -> None:
        self._app = app
        self._base = base
        self._own = frozenset(own)
        self._own_prefixes = tuple(path for path in self._own if path.endswith("/"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = str(scope.get("path", ""))
        is_own = path in self._own or path.startswith(self._own_prefixes)
        if self._base and scope["type"] in ("http", "websocket") and not is_own:
            scope = _moved(scope, f"{self._base}{path}")
        await self._app(scope, receive, send)


def _moved(scope: Scope, path: str) -> Scope:
    return {**scope, "path": path, "raw_path": path.encode("utf-8", "surrogateescape")}
