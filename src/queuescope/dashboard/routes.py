"""The web application: Streamlit with Queuescope's own routes around it.

Run with ``queuescope serve`` or ``uvicorn queuescope.dashboard.routes:app``. It is configured by
the environment and the settings file (see ``queuescope.settings``).
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import streamlit as st
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send
from streamlit import config as streamlit_config

from queuescope.dashboard.assets import PREFIX, CompressedStatic
from queuescope.dashboard.auth.admission import Admission
from queuescope.dashboard.auth.hosts import AllowedHosts
from queuescope.dashboard.auth.identity import check_exposure
from queuescope.dashboard.auth.login import check_login_setup, own_host
from queuescope.dashboard.auth.security_headers import SecurityHeaders
from queuescope.dashboard.base_path import WithBasePath, WithoutBasePath
from queuescope.dashboard.jobs.export import JOBS_CSV, JobsFile
from queuescope.dashboard.operations.export import AUDIT_CSV, AUDIT_JSON, AuditFiles
from queuescope.dashboard.overview.chart_csv import CHART_CSV, ChartFile
from queuescope.dashboard.overview.endpoints import OverviewEndpoints
from queuescope.dashboard.page_requests import PROBES, asks_for_page, page_response
from queuescope.dashboard.probes import Probes
from queuescope.dashboard.script_runs import send_each_before_the_next
from queuescope.dashboard.server import STREAMLIT_STATIC, DashboardServer
from queuescope.settings import Settings, load_settings

_STREAMLIT_OPTIONS: dict[str, Any] = {
    "browser.gatherUsageStats": False,
    "client.showErrorDetails": "none",
    "client.toolbarMode": "minimal",
    "runner.postScriptGC": False,
    "server.enableAgentApi": False,
    "server.fileWatcherType": "none",
    "server.maxUploadSize": 1,
    # These override the environment, which must not decide who is trusted.
    "server.enableCORS": True,
    "server.enableXsrfProtection": True,
    "server.trustedUserHeaders": {},
    "theme.light.primaryColor": "#0b62a8",
    "theme.light.backgroundColor": "#ffffff",
    "theme.light.secondaryBackgroundColor": "#f4f6f8",
    "theme.light.textColor": "#17212b",
    "theme.dark.primaryColor": "#6db6f2",
    "theme.dark.backgroundColor": "#10161c",
    "theme.dark.secondaryBackgroundColor": "#1f2831",
    "theme.dark.textColor": "#e8edf2",
}


class IndexPage:
    """ASGI middleware that answers for Streamlit's index page with ours."""

    def __init__(self, app: ASGIApp, server: DashboardServer) -> None:
        self._app = app
        self._server = server

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not asks_for_page(scope):
            await self._app(scope, receive, send)
            return
        response = page_response(self._server.document(Request(scope)))
        await response(scope, receive, send)


def create_app(settings: Settings, *, knows_peer: bool = False) -> st.App:
    """The ASGI application. Raises ``ConfigurationError``.

    ``knows_peer`` says that the server reports the true address of its peer, whatever headers say;
    see ``Admission``.
    """
    check_exposure(settings)
    for name, value in _STREAMLIT_OPTIONS.items():
        streamlit_config.set_option(name, value)
    streamlit_config.set_option("server.baseUrlPath", settings.base_path)
    allowed_hosts = [*settings.allowed_hosts, settings.host]
    if settings.authentication == "oidc":
        check_login_setup(settings.base_path)
        allowed_hosts.append(own_host())
    send_each_before_the_next()
    server = DashboardServer(settings)
    probes, endpoints, audit = Probes(server), OverviewEndpoints(server), AuditFiles()
    return st.App(
        # Next to a folder named “pages”, Streamlit would treat the files in it as its own pages.
        Path(__file__).parent / "app.py",
        lifespan=server.lifespan,
        routes=[
            # Below "/queuescope/" and in PROBES, so that they are recognised as ours.
            Route("/healthz", probes.alive),
            Route("/readyz", probes.ready),
            Route("/metrics", probes.own_metrics),
            Route("/queuescope/view", endpoints.view),
            Route("/queuescope/overview", endpoints.overview),
            Route("/queuescope/flow", endpoints.flow),
            Route(JOBS_CSV, JobsFile().send),
            Route(AUDIT_CSV, audit.send_csv),
            Route(AUDIT_JSON, audit.send_json),
            Route(CHART_CSV, ChartFile(server.points, server.panel_ids).send),
            Route(f"{PREFIX}/{{file}}", server.assets.serve),
        ],
        middleware=[
            Middleware(SecurityHeaders, frame_ancestors=settings.frame_ancestors),
            Middleware(WithoutBasePath, base=settings.base_path),
            Middleware(AllowedHosts, allowed=allowed_hosts),
            Middleware(
                Admission,
                settings=settings,
                login_page=partial(server.shell.document, early=False, snapshot=None),
                knows_peer=knows_peer,
            ),
            Middleware(CompressedStatic, directory=STREAMLIT_STATIC),
            Middleware(IndexPage, server=server),
            Middleware(WithBasePath, base=settings.base_path, own=("/queuescope/", *PROBES)),
        ],
    )


def __getattr__(name: str) -> object:
    # `uvicorn …:app` gets it by name; a test that builds its own can import this without effect.
    if name == "app":
        return create_app(load_settings())
    raise AttributeError(name)
