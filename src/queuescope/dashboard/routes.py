"""The web application: Streamlit with Queuescope's own routes around it.

Run with ``queuescope serve`` or ``uvicorn queuescope.dashboard.routes:app``. It is configured by
the environment and the settings file (see ``queuescope.settings``).
"""

from __future__ import annotations

import asyncio
import gc
import logging
import math
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import streamlit as st
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send
from streamlit import config as streamlit_config

from queuescope.cache import FrameStore
from queuescope.connect import connect
from queuescope.dashboard.assets import PREFIX, Assets, CompressedStatic, accepts
from queuescope.dashboard.auth.admission import Admission
from queuescope.dashboard.auth.hosts import AllowedHosts
from queuescope.dashboard.auth.identity import demand_guarded
from queuescope.dashboard.auth.login import demand_login, own_host
from queuescope.dashboard.auth.security_headers import SecurityHeaders
from queuescope.dashboard.base_path import WithBasePath, WithoutBasePath
from queuescope.dashboard.index import PROBES, Shell, asks_for_page, page_response
from queuescope.dashboard.jobs.export import JOBS_CSV, JobsFile
from queuescope.dashboard.metrics import OwnMetrics
from queuescope.dashboard.overview.chart_csv import CHART_CSV, ChartFile
from queuescope.dashboard.overview.live_sources import WatchedSources
from queuescope.dashboard.services import open_services
from queuescope.errors import ConfigurationError
from queuescope.operator_key import operator_key
from queuescope.panels import count_once, load_dashboard
from queuescope.private_files import make_private_folder, open_to_others
from queuescope.prometheus.matchers import parse_matchers
from queuescope.prometheus.promql import render_matchers
from queuescope.settings import Settings, load_settings
from queuescope.view import (
    RANGES,
    Address,
    Points,
    Snapshot,
    SnapshotService,
    View,
    parse_view,
    read_address,
)
from queuescope.view.charts.flow_history import FlowHistories
from queuescope.view.charts.schedule import LONGEST_SECONDS, SHORTEST_SECONDS
from queuescope.view.charts.worker_trends import TrendBoard, WorkerTrends
from queuescope.view.overview.alerts import AlertScope
from queuescope.view.overview.overview import StandingService
from queuescope.view.source.facts import FactsFile

logger = logging.getLogger(__name__)

_STREAMLIT_STATIC = Path(st.__file__).parent / "static"
_CACHED_POINTS = 20_000_000
_WRITE_SECONDS = 30.0
_YOUNGEST_SECONDS = 1.0
_OLDEST_SECONDS = 600.0
_READ_AHEAD_AFTER_SECONDS = 3.0

_STREAMLIT_OPTIONS: dict[str, Any] = {
    "browser.gatherUsageStats": False,
    "client.showErrorDetails": "none",
    "client.toolbarMode": "minimal",
    "runner.postScriptGC": False,
    "server.enableAgentApi": False,
    "server.fileWatcherType": "none",
    "server.maxUploadSize": 1,
    # What the environment may say of these decides nothing about who is believed.
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


class Dashboard:
    """Everything one server process holds: settings, the snapshots, the files it serves."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.panels = count_once(load_dashboard(settings.preset), settings.replica_labels)
        chosen = parse_matchers(settings.selector)
        self.matchers = render_matchers(chosen)
        self.is_narrowed = any(one.name in self.panels.breakdowns for one in chosen)
        self.alert_scope = AlertScope(parse_matchers(settings.alert_selector))
        self.assets = Assets(settings.base_path)
        self.metrics = OwnMetrics()
        self.shell = Shell(
            _STREAMLIT_STATIC / "index.html",
            self.assets,
            self.panels,
            default_range=settings.range,
            refresh_seconds=settings.refresh_seconds,
            base_path=settings.base_path,
            has_jobs=bool(settings.job_store_url.get_secret_value()),
        )
        self._client = connect(settings, self.metrics)
        per_worker, flow = self.panels.per_worker, self.panels.flow
        self._trends = None if per_worker is None else TrendBoard(time.time)
        self.services = open_services(
            settings,
            self._trends,
            flow_seconds=600 if flow is None else flow.window_seconds,
        )
        self._trends_task: asyncio.Task[None] | None = None
        self._snapshots: SnapshotService | None = None
        self._standing: StandingService | None = None
        self._flows: FlowHistories | None = None

    @property
    def snapshots(self) -> SnapshotService:
        if self._snapshots is None:
            raise RuntimeError("the application has not been started")
        return self._snapshots

    @asynccontextmanager
    async def lifespan(self, _app: object) -> AsyncIterator[None]:
        settings = self.settings
        context = self.services.operations_context
        _keep_private(settings.data_dir, None if context is None else context.store.file)
        if settings.authentication == "none":
            # Made now, so that it is there for whoever looks for it.
            _ = operator_key(settings.data_dir).value
        cache = settings.data_dir / "cache"
        store = FrameStore(cache, max_points=_CACHED_POINTS, write_seconds=_WRITE_SECONDS)
        live = WatchedSources(self.services, is_narrowed=self.is_narrowed)
        self._snapshots = SnapshotService(
            self._client,
            store,
            FactsFile(cache),
            self.panels,
            matchers=self.matchers,
            scrape_interval_seconds=settings.scrape_interval_seconds,
            breakdown_limit=settings.breakdown_limit,
            horizon_seconds=settings.late_sample_horizon_seconds,
            clock=time.time,
            telemetry=self.metrics,
            live=live,
            alert_scope=self.alert_scope,
        )
        self.metrics.tell_of(self._snapshots, lambda: self._client.breaker_state)
        self._standing = StandingService(
            self._client,
            self._snapshots.reader,
            self._snapshots,
            self.panels,
            matchers=self.matchers,
            clock=time.time,
            live=live,
            alert_scope=self.alert_scope,
        )
        self._flows = FlowHistories(
            self._snapshots.reader,
            self._snapshots,
            self.panels,
            matchers=self.matchers,
            clock=time.time,
        )
        self.services.start()
        trends = self._trends_task = asyncio.create_task(self._read_trends())
        warm_up = asyncio.create_task(self._warm_up())
        # What was imported is not walked by every collection from here on.
        gc.collect()
        gc.freeze()
        try:
            yield
        finally:
            warm_up.cancel()
            trends.cancel()
            await self._standing.aclose()
            await self._flows.aclose()
            await self._snapshots.aclose()
            await asyncio.to_thread(self.services.close)
            # The signal that ends the server leaves no other moment to finish writing.
            await asyncio.to_thread(store.flush)

    async def _warm_up(self) -> None:
        """The first viewer finds the default view ready, and whoever changes the range then finds
        what does not change of the others. Viewers who come at once go first.
        """
        await self.take({}, max_age_seconds=_OLDEST_SECONDS)
        await asyncio.sleep(_READ_AHEAD_AFTER_SECONDS)
        await self.snapshots.read_ahead(View(name) for name in RANGES)

    async def _read_trends(self) -> None:
        """What the page of workers shows of each, for as long as somebody looks at it."""
        if self._trends is not None and self.panels.per_worker is not None:
            await WorkerTrends(
                self._trends,
                self.snapshots.reader,
                self.snapshots,
                self.panels.per_worker,
                matchers=self.matchers,
                clock=time.time,
            ).run()

    async def take(self, params: Mapping[str, str], max_age_seconds: float) -> Snapshot:
        view = self._view_of(params)
        return await self.snapshots.get(view, max_age_seconds=max_age_seconds)

    @property
    def panel_ids(self) -> tuple[str, ...]:
        return tuple(panel.id for panel in self.panels.panels)

    async def points(
        self, params: Mapping[str, str], taken_at: float | None
    ) -> tuple[Points, ...] | None:
        """What the answer that was taken at ``taken_at`` is drawn of, or that of now; None where
        it is no longer kept.
        """
        view = self._view_of(params)
        if taken_at is None:
            age = self.settings.refresh_seconds or 60
            taken_at = (await self.snapshots.get(view, max_age_seconds=age)).taken_at
        return self.snapshots.points(view, taken_at)

    def _view_of(self, params: Mapping[str, str]) -> View:
        now = time.time() if self._snapshots is None else self._snapshots.source_now
        return parse_view(params, self.panels.breakdowns, self.settings.range, now)

    async def view(self, request: Request) -> Response:
        try:
            interval = _interval(request.query_params.get("refresh"))
            usual = interval or self.settings.refresh_seconds or 60
            age = _age(request.query_params.get("age"), usual)
            snapshot = await self.take(request.query_params, age)
        except ConfigurationError as exc:
            return _json(orjson.dumps({"error": str(exc)}), status_code=400)
        if interval:
            self.metrics.audience.polled(_page(request), interval)
            self.snapshots.watch(snapshot.view, interval)
        self.metrics.viewed(snapshot)
        if accepts("br", request.headers.get("accept-encoding", "")):
            response = _json(snapshot.body_brotli, encoding="br")
        else:
            response = _json(snapshot.body)
        # Beside the body, which is the same for all: by it the page knows how old that is.
        response.headers["Queuescope-Now"] = f"{time.time():.3f}"
        return response

    async def standing(self, request: Request) -> Response:
        if self._standing is None:
            raise RuntimeError("the application has not been started")
        try:
            age = _age(request.query_params.get("age"), self.settings.refresh_seconds or 60)
        except ConfigurationError as exc:
            return _json(orjson.dumps({"error": str(exc)}), status_code=400)
        return _json(await self._standing.get(max_age_seconds=age))

    async def flow(self, request: Request) -> Response:
        if self._flows is None:
            raise RuntimeError("the application has not been started")
        try:
            view = self._view_of(request.query_params)
        except ConfigurationError as exc:
            return _json(orjson.dumps({"error": str(exc)}), status_code=400)
        return _json(await self._flows.get(view))

    def document(self, request: Request) -> bytes:
        """The index page for ``request``, with its snapshot when one is at hand."""
        if request.scope["path"] != "/":
            return self.shell.document(early=False, snapshot=None)
        now = self.snapshots.source_now
        address = read_address(
            request.query_params, self.panels.breakdowns, self.settings.range, now
        )
        held = self.snapshots.held(address.view, self.settings.refresh_seconds or 60)
        return self.shell.document(
            early=True,
            snapshot=None if held is None else _inline(held),
            address=_asked(address),
        )

    async def alive(self, _request: Request) -> Response:
        """503 once a loop in the background has ended: only a restart begins it again. One that
        fails goes on by itself, and is named.
        """
        ended, failing = self.services.troubles()
        trends = self._trends_task
        if trends is not None and trends.done() and not trends.cancelled() and trends.exception():
            ended.append("trends")
        return liveness(ended, failing)

    async def ready(self, _request: Request) -> Response:
        # Asked here too: who is not ready gets no viewers, and without them nobody else asks.
        contact = await self.snapshots.renew_contact()
        if contact.error is None:
            return PlainTextResponse("ready: Prometheus answers\n")
        return PlainTextResponse(f"not ready: {contact.error}\n", status_code=503)

    async def own_metrics(self, _request: Request) -> Response:
        body, content_type = self.metrics.render()
        return Response(body, headers={"Content-Type": content_type})


class IndexPage:
    """ASGI middleware that answers for Streamlit's index page with ours."""

    def __init__(self, app: ASGIApp, dashboard: Dashboard) -> None:
        self._app = app
        self._dashboard = dashboard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not asks_for_page(scope):
            await self._app(scope, receive, send)
            return
        response = page_response(self._dashboard.document(Request(scope)))
        await response(scope, receive, send)


def create_app(settings: Settings, *, knows_peer: bool = False) -> st.App:
    """The ASGI application. Raises ``ConfigurationError``.

    ``knows_peer`` says that the server tells who is at the other end of a connection, whatever
    headers say; see ``Admission``.
    """
    demand_guarded(settings)
    for name, value in _STREAMLIT_OPTIONS.items():
        streamlit_config.set_option(name, value)
    streamlit_config.set_option("server.baseUrlPath", settings.base_path)
    allowed_hosts = [*settings.allowed_hosts, settings.host]
    if settings.authentication == "oidc":
        demand_login(settings.base_path)
        allowed_hosts.append(own_host())
    dashboard = Dashboard(settings)
    return st.App(
        # Beside a folder named “pages” Streamlit would take the files in it for pages of its own.
        Path(__file__).parent / "app.py",
        lifespan=dashboard.lifespan,
        routes=[
            # Below "/queuescope/" and in PROBES, so that they are known for ours.
            Route("/healthz", dashboard.alive),
            Route("/readyz", dashboard.ready),
            Route("/metrics", dashboard.own_metrics),
            Route("/queuescope/view", dashboard.view),
            Route("/queuescope/standing", dashboard.standing),
            Route("/queuescope/flow", dashboard.flow),
            Route(JOBS_CSV, JobsFile().send),
            Route(CHART_CSV, ChartFile(dashboard.points, dashboard.panel_ids).send),
            Route(f"{PREFIX}/{{file}}", dashboard.assets.serve),
        ],
        middleware=[
            Middleware(SecurityHeaders, frame_ancestors=settings.frame_ancestors),
            Middleware(WithoutBasePath, base=settings.base_path),
            Middleware(AllowedHosts, allowed=allowed_hosts),
            Middleware(
                Admission,
                settings=settings,
                entrance=partial(dashboard.shell.document, early=False, snapshot=None),
                knows_peer=knows_peer,
            ),
            Middleware(CompressedStatic, directory=_STREAMLIT_STATIC),
            Middleware(IndexPage, dashboard=dashboard),
            Middleware(WithBasePath, base=settings.base_path, own=("/queuescope/", *PROBES)),
        ],
    )


def _keep_private(data_dir: Path, operations: Path | None) -> None:
    """Make the data directory before anything else puts its files there, and warn of what
    others may read of an earlier one.
    """
    # Where it cannot be made, whatever would be written there says so itself.
    with suppress(OSError):
        make_private_folder(data_dir)
    for warning in open_to_others(data_dir, operations):
        logger.warning("%s", warning)


def liveness(ended: Sequence[str], failing: Sequence[str]) -> Response:
    """What ``/healthz`` says of the loops in the background that have ended or meet errors."""
    words = [f"ended: {name}\n" for name in ended] + [f"failing: {name}\n" for name in failing]
    first, status = ("not ok\n", 503) if ended else ("ok\n", 200)
    return PlainTextResponse("".join([first, *words]), status)


def _inline(snapshot: Snapshot) -> bytes:
    """The snapshot as of this moment: its age is told by ``serverNow``."""
    return b'{"serverNow":%.3f,%b' % (time.time(), snapshot.body.removeprefix(b"{"))


def _asked(address: Address) -> bytes:
    """What the page's script is told of the address, which it does not read itself."""
    view = address.view
    return orjson.dumps(
        {
            "range": view.range,
            "custom": None if view.range is not None else [view.start, view.end],
            "step": view.step_seconds,
            "by": view.by,
            "zoom": address.zoom,
            "remarks": address.remarks,
        }
    )


def _page(request: Request) -> str:
    """Which open page asks: the token it made up, or else the connection it comes by."""
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
    """How often a page asks, in whole seconds; None when it does not."""
    if not text or text == "off":
        return None
    plain = text.isascii() and text.isdecimal() and len(text) < 10
    if not plain:
        raise ConfigurationError(f"refresh={text[:40]!r}: give whole seconds, or off")
    return min(max(int(text), SHORTEST_SECONDS), LONGEST_SECONDS) if int(text) else None


def _json(body: bytes, *, status_code: int = 200, encoding: str | None = None) -> Response:
    headers = {"Cache-Control": "no-store", "Vary": "Accept-Encoding"}
    if encoding:
        headers["Content-Encoding"] = encoding
    return Response(body, status_code, headers, media_type="application/json")


def __getattr__(name: str) -> object:
    # `uvicorn …:app` asks for it by name; a test that builds its own imports without effect.
    if name == "app":
        return create_app(load_settings())
    raise AttributeError(name)
