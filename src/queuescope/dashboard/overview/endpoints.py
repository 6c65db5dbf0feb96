"""The routes with the data of the overview."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

import orjson
from starlette.requests import Request
from starlette.responses import Response

from queuescope.dashboard.assets import accepts
from queuescope.errors import ConfigurationError
from queuescope.view.charts.schedule import LONGEST_INTERVAL_SECONDS, SHORTEST_INTERVAL_SECONDS

if TYPE_CHECKING:
    from queuescope.dashboard.server import DashboardServer

_YOUNGEST_SECONDS = 1.0
_OLDEST_SECONDS = 600.0


class OverviewEndpoints:
    """Responds with JSON; an invalid address gets a 400 with the cause."""

    def __init__(self, server: DashboardServer) -> None:
        self._server = server

    async def view(self, request: Request) -> Response:
        try:
            interval = _interval(request.query_params.get("refresh"))
            usual = interval or self._server.usual_age_seconds
            age = _age(request.query_params.get("age"), usual)
            snapshot = await self._server.take(request.query_params, age)
        except ConfigurationError as exc:
            return _json(orjson.dumps({"error": str(exc)}), status_code=400)
        if interval:
            self._server.metrics.open_pages.polled(_page(request), interval)
            self._server.views.watch(snapshot.view, interval)
        self._server.metrics.viewed(snapshot)
        if accepts("br", request.headers.get("accept-encoding", "")):
            response = _json(snapshot.body_brotli, encoding="br")
        else:
            response = _json(snapshot.body)
        # In a header, since all viewers share the body: the page computes the age of the data from
        # it.
        response.headers["Queuescope-Now"] = f"{time.time():.3f}"
        return response

    async def overview(self, request: Request) -> Response:
        try:
            age = _age(request.query_params.get("age"), self._server.usual_age_seconds)
        except ConfigurationError as exc:
            return _json(orjson.dumps({"error": str(exc)}), status_code=400)
        return _json(await self._server.views.overview.get(max_age_seconds=age))

    async def flow(self, request: Request) -> Response:
        try:
            view = self._server.view_of(request.query_params)
        except ConfigurationError as exc:
            return _json(orjson.dumps({"error": str(exc)}), status_code=400)
        return _json(await self._server.views.flow_histories.get(view))


def _page(request: Request) -> str:
    """The page that asks: its random token, or else its connection."""
    peer = request.client
    return request.query_params.get("page", "")[:32] or (f"{peer.host}:{peer.port}" if peer else "")


def _age(text: str | None, default: float) -> float:
    try:
        age = float(text) if text else float(default)
    except ValueError:
        age = math.nan
    if math.isnan(age):
        raise ConfigurationError(f"age={(text or '')[:40]!r}: give seconds")
    return min(max(age, _YOUNGEST_SECONDS), _OLDEST_SECONDS)


def _interval(text: str | None) -> int | None:
    """How often a page asks, in whole seconds; None if it does not repeat."""
    if not text or text == "off":
        return None
    plain = text.isascii() and text.isdecimal() and len(text) < 10
    if not plain:
        raise ConfigurationError(f"refresh={text[:40]!r}: give whole seconds, or off")
    return (
        min(max(int(text), SHORTEST_INTERVAL_SECONDS), LONGEST_INTERVAL_SECONDS)
        if int(text)
        else None
    )


def _json(body: bytes, *, status_code: int = 200, encoding: str | None = None) -> Response:
    headers = {"Cache-Control": "no-store", "Vary": "Accept-Encoding"}
    if encoding:
        headers["Content-Encoding"] = encoding
    return Response(body, status_code, headers, media_type="application/json")
