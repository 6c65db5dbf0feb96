"""The probes for liveness and readiness, and the server's own metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

if TYPE_CHECKING:
    from queuescope.dashboard.server import DashboardServer


class Probes:
    """``/healthz``, ``/readyz`` and ``/metrics``."""

    def __init__(self, server: DashboardServer) -> None:
        self._server = server

    async def alive(self, _request: Request) -> Response:
        """503 once a background loop has ended: only a restart starts it again. A loop that fails
        but continues is named, and so is the cache while its disk fails.
        """
        ended, failing = self._server.services.troubles()
        trends = self._server.trends_task
        if trends is not None and trends.done() and not trends.cancelled() and trends.exception():
            ended.append("trends")
        if self._server.store.last_error is not None:
            failing.append("cache")
        return liveness(ended, failing)

    async def ready(self, _request: Request) -> Response:
        # The probe has to ask itself: a server that is not ready gets no viewers, and without them
        # nothing else asks.
        contact = await self._server.views.source.renew_contact()
        if contact.error is None:
            return PlainTextResponse("ready: Prometheus answers\n")
        return PlainTextResponse(f"not ready: {contact.error}\n", status_code=503)

    async def own_metrics(self, _request: Request) -> Response:
        body, content_type = self._server.metrics.render()
        return Response(body, headers={"Content-Type": content_type})


def liveness(ended: Sequence[str], failing: Sequence[str]) -> Response:
    """The response of ``/healthz`` from the parts that have ended or fail."""
    words = [f"ended: {name}\n" for name in ended] + [f"failing: {name}\n" for name in failing]
    first, status = ("not ok\n", 503) if ended else ("ok\n", 200)
    return PlainTextResponse("".join([first, *words]), status)
