"""What one server process holds: settings, services, and the view of Prometheus."""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import orjson
import streamlit as st
from starlette.requests import Request

from queuescope.cache import FrameStore
from queuescope.connect import connect
from queuescope.dashboard.assets import Assets
from queuescope.dashboard.index import Shell
from queuescope.dashboard.live_sources.watched import WatchedSources
from queuescope.dashboard.metrics import OwnMetrics
from queuescope.dashboard.services import open_services
from queuescope.operator_key import operator_key
from queuescope.panels import count_once, load_dashboard
from queuescope.private_files import make_private_folder, open_to_others
from queuescope.prometheus.matchers import parse_matchers
from queuescope.prometheus.promql import render_matchers
from queuescope.settings import Settings
from queuescope.view import (
    RANGES,
    Address,
    Points,
    Snapshot,
    View,
    ViewService,
    parse_view,
    read_address,
)
from queuescope.view.charts.worker_trends import TrendBoard, WorkerTrends
from queuescope.view.source.alert_rules import AlertScope
from queuescope.view.source.facts import FactsFile

logger = logging.getLogger(__name__)

STREAMLIT_STATIC = Path(st.__file__).parent / "static"
OLDEST_SECONDS = 600.0
_CACHED_POINTS = 20_000_000
_WRITE_SECONDS = 30.0
_READ_AHEAD_AFTER_SECONDS = 3.0


class DashboardServer:
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
            STREAMLIT_STATIC / "index.html",
            self.assets,
            self.panels,
            default_range=settings.range,
            refresh_seconds=settings.refresh_seconds,
            base_path=settings.base_path,
            has_jobs=bool(settings.job_store_url.get_secret_value()),
        )
        self._client = connect(settings, self.metrics)
        self._cache_folder = settings.data_dir / "cache"
        self.store = FrameStore(
            self._cache_folder, max_points=_CACHED_POINTS, write_seconds=_WRITE_SECONDS
        )
        per_worker, flow = self.panels.per_worker, self.panels.flow
        self._trends = None if per_worker is None else TrendBoard(time.time)
        self.services = open_services(
            settings,
            self._trends,
            flow_seconds=600 if flow is None else flow.window_seconds,
        )
        self.trends_task: asyncio.Task[None] | None = None
        self._views: ViewService | None = None

    @property
    def views(self) -> ViewService:
        if self._views is None:
            raise RuntimeError("the application has not been started")
        return self._views

    @asynccontextmanager
    async def lifespan(self, _app: object) -> AsyncIterator[None]:
        settings = self.settings
        context = self.services.operations_context
        _keep_private(settings.data_dir, None if context is None else context.store.file)
        if settings.authentication == "none":
            # Created now, so that an operator can find it.
            _ = operator_key(settings.data_dir).value
        live = WatchedSources(self.services, is_narrowed=self.is_narrowed)
        self._views = ViewService(
            self._client,
            self.store,
            FactsFile(self._cache_folder),
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
        self.metrics.export_state_of(self._views, self.store, lambda: self._client.breaker_state)
        self.services.start()
        trends = self.trends_task = asyncio.create_task(self._read_trends())
        warm_up = asyncio.create_task(self._warm_up())
        # Imported objects need not be traversed by every garbage collection from here on.
        gc.collect()
        gc.freeze()
        try:
            yield
        finally:
            warm_up.cancel()
            trends.cancel()
            await self._views.aclose()
            await asyncio.to_thread(self.services.close)
            # After the signal that ends the server there is no other time to finish writing.
            await asyncio.to_thread(self.store.flush)

    async def _warm_up(self) -> None:
        """Read the default view, so that the first viewer finds it ready, and then the other
        ranges, so that their unchanging parts are cached. Early viewers have priority.
        """
        await self.take({}, max_age_seconds=OLDEST_SECONDS)
        await asyncio.sleep(_READ_AHEAD_AFTER_SECONDS)
        await self.views.read_ahead(View(name) for name in RANGES)

    async def _read_trends(self) -> None:
        """Read the trends that the page of workers requests."""
        if self._trends is not None and self.panels.per_worker is not None:
            await WorkerTrends(
                self._trends, self.views.present, self.views.reader, self.panels.per_worker
            ).run()

    async def take(self, params: Mapping[str, str], max_age_seconds: float) -> Snapshot:
        view = self.view_of(params)
        return await self.views.get(view, max_age_seconds=max_age_seconds)

    @property
    def usual_age_seconds(self) -> int:
        """The greatest age of an answer for a page that does not give one."""
        return self.settings.refresh_seconds or 60

    @property
    def panel_ids(self) -> tuple[str, ...]:
        return tuple(panel.id for panel in self.panels.panels)

    async def points(
        self, params: Mapping[str, str], taken_at: float | None
    ) -> tuple[Points, ...] | None:
        """The points of the answer that was taken at ``taken_at``, or of the present one; None if
        they are no longer kept.
        """
        view = self.view_of(params)
        if taken_at is None:
            age = self.usual_age_seconds
            taken_at = (await self.views.get(view, max_age_seconds=age)).taken_at
        return self.views.points(view, taken_at)

    def view_of(self, params: Mapping[str, str]) -> View:
        now = time.time() if self._views is None else self._views.source.now
        return parse_view(params, self.panels.breakdowns, self.settings.range, now)

    def document(self, request: Request) -> bytes:
        """The index page for ``request``, with its snapshot if there is one."""
        if request.scope["path"] != "/":
            return self.shell.document(early=False, snapshot=None)
        now = self.views.source.now
        address = read_address(
            request.query_params, self.panels.breakdowns, self.settings.range, now
        )
        held = self.views.held(address.view, self.usual_age_seconds)
        return self.shell.document(
            early=True,
            snapshot=None if held is None else _inline(held),
            address=_asked(address),
        )


def _keep_private(data_dir: Path, operations: Path | None) -> None:
    """Create the data directory before other parts write to it, and warn about files in an existing
    one that other users can read.
    """
    # If it cannot be created, the parts that write there report that.
    with suppress(OSError):
        make_private_folder(data_dir)
    for warning in open_to_others(data_dir, operations):
        logger.warning("%s", warning)


def _inline(snapshot: Snapshot) -> bytes:
    """The snapshot with the present server time as ``serverNow``, from which the page computes its
    age.
    """
    return b'{"serverNow":%.3f,%b' % (time.time(), snapshot.body.removeprefix(b"{"))


def _asked(address: Address) -> bytes:
    """The parsed address for the page's script, which does not parse it itself."""
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
