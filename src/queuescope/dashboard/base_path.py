"""The path below which a proxy shows the dashboard, such as ``/queues``.

Some proxies pass it on and some remove it. Both work: the dashboard handles paths without it, and
all addresses in its responses include it.
"""

from __future__ import annotations

from collections.abc import Iterable

from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send


class WithoutBasePath:
    """ASGI middleware that removes ``base`` (such as ``/queues``; empty for none) from
    each path.
    """

    def __init__(self, app: ASGIApp, base: str) -> None:
        self._app = app
        self._base = base

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = str(scope.get("path", ""))
        if self._base and path == self._base and scope["type"] == "http":
            # Relative addresses in the page need the trailing slash.
            query = scope["query_string"].decode("latin-1")
            address = f"{self._base}/{'?' if query else ''}{query}"
            await RedirectResponse(address, status_code=307)(scope, receive, send)
            return
        if self._base and path.startswith(f"{self._base}/"):
            scope = _moved(scope, path.removeprefix(self._base))
        await self._app(scope, receive, send)


class WithBasePath:
    """ASGI middleware in front of Streamlit, whose addresses begin with ``base``. The paths in
    ``own`` are ours and stay as they are: exact ones, and prefixes that end with a slash.
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
