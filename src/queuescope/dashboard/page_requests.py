"""Which requests ask for a page, and how pages are sent."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Scope

PROBES = frozenset({"/healthz", "/readyz", "/metrics"})
_NO_PAGES = ("/_stcore", "/static", "/queuescope", "/media", "/auth/", "/oauth2callback")
_PAGE_HEADERS = {"Cache-Control": "no-store"}


def asks_for_page(scope: Scope) -> bool:
    """Whether the request is for a page, by any name."""
    if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD"):
        return False
    # Not `request.url`, which fails on an address that is not UTF-8.
    path = str(scope["path"])
    if path.startswith(_NO_PAGES) or path in PROBES:
        return False
    return path == "/" or "text/html" in Headers(scope=scope).get("accept", "")


def page_response(body: bytes, status_code: int = 200) -> Response:
    """The response for a page."""
    return Response(body, status_code, _PAGE_HEADERS, media_type="text/html")
