"""Snapshots: everything that one view of the page needs, made once for all who look at it."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import brotli
import numpy as np
import orjson

from queuescope.cache import CachedReader, FrameStore
from queuescope.errors import ConfigurationError, SourceError, SourceErrorKind
from queuescope.figures import curves_of, duration_words, panel_figure, step_words, value_words
from queuescope.panels import RANKED_QUANTILE, Dashboard, Panel, Resolution
from queuescope.panels.model import RECENT_SECONDS
from queuescope.prometheus import PrometheusClient
from queuescope.snapshot.absence import explain_absence
from queuescope.snapshot.probe import Contact, Probe
from queuescope.snapshot.source_facts import FactsFile, SourceFacts, ask_facts
from queuescope.snapshot.view import View
from queuescope.timeseries import Frame, Grid, State

_log = logging.getLogger(__name__)

MAX_VIEWS = 256
_CONCURRENT_QUERIES = 6
_FACTS_KEPT_SECONDS = 600
_UNMEASURED_FACTS_KEPT_SECONDS = 30
_CLOCK_TOLERANCE_SECONDS = 5
_INCOMPLETE_SECONDS = 1.0
_ABSENCE_KEPT_SECONDS = 60
_NOW_SHARED_SECONDS = 1.0
_PANEL_LABEL = "queuescope_panel"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The JSON of one view. ``taken_at`` is epoch seconds of our clock; ``complete`` is False
    when something in it is stale or missing because the source did not answer.
    """

    view: View
    taken_at: float
    complete: bool
    body: bytes
    body_brotli: bytes


@dataclass(frozen=True, slots=True)
class _Now:
    """The present value of a panel, and when it was so (source time)."""

    value: float
    as_of: float


class SnapshotService:
    """Makes snapshots on request, at most one at a time for equal views."""

    def __init__(
        self,
        client: PrometheusClient,
        store: FrameStore,
        facts_file: FactsFile,
        dashboard: Dashboard,
        *,
        matchers: str,
        scrape_interval_seconds: int,
        breakdown_limit: int,
        horizon_seconds: float,
        clock: Callable[[], float],
    ) -> None:
        self._client = client
        self._probe = Probe(client, clock)
        self._reader = CachedReader(client, store, horizon_seconds=horizon_seconds, clock=clock)
        self._facts_file = facts_file
        self._dashboard = dashboard
        self._matchers = matchers
        self._scrape_interval_seconds = scrape_interval_seconds
        self._breakdown_limit = breakdown_limit
        self._clock = clock
        self._snapshots: OrderedDict[View, Snapshot] = OrderedDict()
        self._tasks: dict[View, asyncio.Task[Snapshot]] = {}
        self._slots = asyncio.Semaphore(_CONCURRENT_QUERIES)
        self._facts: SourceFacts | None = None
        self._facts_at = float("-inf")
        self._facts_kept = 0.0
        self._facts_task: asyncio.Task[None] | None = None
        self._now: dict[str, _Now] = {}
        self._now_at = float("-inf")
        self._absences: OrderedDict[tuple[str, View], tuple[float, str]] = OrderedDict()

    @property
    def dashboard(self) -> Dashboard:
        return self._dashboard

    @property
    def contact(self) -> Contact:
        return self._probe.contact

    async def renew_contact(self) -> Contact:
        """Ask whether the source is there, unless somebody just did."""
        return await self._probe.renew()

    def held(self, view: View, max_age_seconds: float) -> Snapshot | None:
        """A snapshot from memory, if it is complete and young enough."""
        snapshot = self._snapshots.get(view)
        if snapshot is None or not snapshot.complete:
            return None
        # A clock that was set back makes a snapshot of the future: that is no young one.
        return snapshot if 0 <= self._clock() - snapshot.taken_at <= max_age_seconds else None

    async def get(self, view: View, *, max_age_seconds: float) -> Snapshot:
        """The snapshot of ``view``, not older than ``max_age_seconds``; never raises for a source.

        However many ask at once, the source is asked once; one that is not complete is shared
        for a second.
        """
        held = self.held(view, max_age_seconds) or self._just_taken(view)
        if held is not None:
            return held
        task = self._tasks.get(view)
        if task is None:
            task = asyncio.create_task(self._take(view))
            self._tasks[view] = task
            task.add_done_callback(lambda _: self._tasks.pop(view, None))
        return await asyncio.shield(task)

    def _just_taken(self, view: View) -> Snapshot | None:
        """The newest incomplete one: a fault must not cost a question for each viewer."""
        snapshot = self._snapshots.get(view)
        if snapshot is None or snapshot.complete:
            return None
        return snapshot if 0 <= self._clock() - snapshot.taken_at < _INCOMPLETE_SECONDS else None

    async def aclose(self) -> None:
        tasks: list[asyncio.Task[Any]] = list(self._tasks.values())
        if self._facts_task is not None:
            tasks.append(self._facts_task)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._probe.aclose()
        await self._client.aclose()

    async def _take(self, view: View) -> Snapshot:
        contact = await self._probe.renew()
        facts = await self._current_facts(contact)
        source_now = self._clock() + contact.offset_seconds
        scrape = self._scrape_interval_seconds or facts.scrape_interval_seconds
        grid = view.grid(source_now, scrape)
        phases = facts.phases if scrape == facts.scrape_interval_seconds else {}
        present, *panels = await asyncio.gather(
            self._present(Resolution(RECENT_SECONDS, scrape, facts.left_open), source_now),
            *(
                self._panel(
                    panel,
                    view,
                    grid,
                    Resolution(
                        grid.step_seconds, scrape, facts.left_open, phases.get(panel.metrics[0])
                    ),
                    source_now,
                )
                for panel in self._dashboard.panels
            ),
        )
        for panel in panels:
            panel["now"] = present.get(panel["id"])
        taken_at = self._clock()
        content = {
            "view": {
                "range": view.range,
                "from": grid.start,
                "to": grid.end,
                "step": grid.step_seconds,
                "stepWords": step_words(grid.step_seconds),
                "by": view.by,
                "follows": view.range is not None,
            },
            "serverNow": taken_at,
            "takenAt": taken_at,
            "scrapeInterval": scrape,
            "source": self._source(contact, facts),
            "panels": panels,
        }
        complete = contact.error is None and not any(
            panel["state"] in (State.STALE, State.UNAVAILABLE) for panel in panels
        )
        body = orjson.dumps(content)
        compressed = brotli.compress(body, quality=3)
        snapshot = Snapshot(view, taken_at, complete, body, compressed)
        self._snapshots[view] = snapshot
        self._snapshots.move_to_end(view)
        while len(self._snapshots) > MAX_VIEWS:
            self._snapshots.popitem(last=False)
        return snapshot

    async def _current_facts(self, contact: Contact) -> SourceFacts:
        """What is known of the source; only the very first reader waits for it."""
        if self._facts is None:
            self._facts = self._facts_file.load(self._client.identity)
        due = contact.error is None and not 0 <= self._clock() - self._facts_at < self._facts_kept
        if due and self._facts_task is None:
            task = asyncio.create_task(self._renew_facts(self._clock() + contact.offset_seconds))
            task.add_done_callback(self._facts_renewed)
            self._facts_task = task
        if self._facts is None and self._facts_task is not None:
            await asyncio.wait([self._facts_task])
        return self._facts or SourceFacts()

    def _facts_renewed(self, _task: asyncio.Task[None]) -> None:
        self._facts_task = None

    async def _renew_facts(self, source_now: float) -> None:
        panels = self._dashboard.panels
        # Only what reads raw samples need know when they are taken.
        shifted = tuple(p.metrics[0] for p in panels if "$shift" in p.query)
        every = tuple(dict.fromkeys(name for panel in panels for name in panel.metrics))
        names = shifted or every
        try:
            facts = await ask_facts(
                self._client,
                names,
                self._matchers,
                source_now,
                self._facts,
                otherwise=every,
            )
        except SourceError as exc:
            _log.warning("cannot learn about the source: %s (%s)", exc, exc.detail)
            return
        await asyncio.to_thread(self._facts_file.save, self._client.identity, facts)
        self._facts = facts
        self._facts_kept = _FACTS_KEPT_SECONDS if facts.measured else _UNMEASURED_FACTS_KEPT_SECONDS
        self._facts_at = self._clock()

    async def _panel(
        self, panel: Panel, view: View, grid: Grid, resolution: Resolution, source_now: float
    ) -> dict[str, Any]:
        by = view.by if view.by in panel.breakdowns else None
        query = panel.render(panel.query, resolution, self._matchers, by)
        async with self._slots:
            reading = await self._reader.read(
                query, grid, source_now=source_now, epoch=self._probe.contact.epoch
            )
        frame = reading.frame if reading.frame is not None else Frame.empty(grid)
        try:
            curves = curves_of(panel, frame, by, self._breakdown_limit)
        except ConfigurationError as exc:
            # A panel that cannot be drawn says so; the others stand.
            reading = replace(reading, state=State.UNAVAILABLE, cause=str(exc))
            frame = Frame.empty(grid)
            curves = curves_of(panel, frame, by, self._breakdown_limit)
        state, cause = reading.state, reading.cause
        unlabelled = by is not None and bool(frame.series) and not curves.curves
        if state is State.FRESH and not curves.has_numbers:
            state = State.IDLE
        if state is State.IDLE and unlabelled:
            state, cause = State.EMPTY, f"No series here has the label {by}. Break down by another."
        elif state is State.IDLE:
            cause = "No job finished in this range, so there is nothing to measure."
        elif state is State.EMPTY:
            cause = await self._why_empty(panel, view, grid, source_now)
        note = ""
        if view.by is not None and by is None:
            note = f"not reported by {view.by}"
        return {
            "id": panel.id,
            "title": panel.title,
            "kind": panel.kind,
            "unit": panel.unit,
            "state": state,
            "cause": cause,
            "warnings": reading.warnings,
            "asOf": reading.as_of,
            "nowLabel": "P95 now" if panel.quantiles else "now",
            "atLeast": curves.at_least and value_words(panel.kind, curves.at_least),
            "hidden": curves.hidden,
            "note": note,
            "figure": panel_figure(panel, curves, by=by),
        }

    async def _why_empty(self, panel: Panel, view: View, grid: Grid, source_now: float) -> str:
        """The reason, kept for a while: it takes a search through weeks of samples."""
        known = self._absences.get((panel.id, view))
        if known is not None and 0 <= self._clock() - known[0] < _ABSENCE_KEPT_SECONDS:
            return known[1]
        try:
            async with self._slots:
                why = await explain_absence(self._client, panel, self._matchers, grid, source_now)
        except SourceError as exc:
            return f"Prometheus has no such series here. Why could not be found out: {exc}"
        self._absences[panel.id, view] = (self._clock(), why)
        while len(self._absences) > MAX_VIEWS:
            self._absences.popitem(last=False)
        return why

    async def _present(
        self, resolution: Resolution, source_now: float
    ) -> dict[str, dict[str, Any]]:
        """The present values by panel; while the source is away the last ones, with their time.

        They are the same for every view. All are asked for in one question; should the source
        refuse it, each panel asks its own, so that none takes the others along.
        """
        just_asked = 0 <= self._clock() - self._now_at < _NOW_SHARED_SECONDS
        if self._probe.contact.error is None and not just_asked:
            self._now_at = self._clock()
            panels = self._dashboard.panels
            try:
                await self._ask_present(panels, resolution, source_now)
            except SourceError as exc:
                if exc.kind in (SourceErrorKind.BAD_DATA, SourceErrorKind.EXECUTION):
                    await asyncio.gather(
                        *(self._ask_present_alone(p, resolution, source_now) for p in panels)
                    )
                else:
                    _log.warning("cannot read the present values: %s (%s)", exc, exc.detail)
        return {
            panel.id: {"words": value_words(panel.kind, now.value), "asOf": now.as_of}
            for panel in self._dashboard.panels
            if (now := self._now.get(panel.id)) is not None
        }

    async def _ask_present_alone(
        self, panel: Panel, resolution: Resolution, source_now: float
    ) -> None:
        try:
            await self._ask_present((panel,), resolution, source_now)
        except SourceError as exc:
            _log.warning("cannot read the present %s: %s (%s)", panel.title, exc, exc.detail)

    async def _ask_present(
        self, panels: tuple[Panel, ...], resolution: Resolution, source_now: float
    ) -> None:
        query = " or ".join(
            f"label_replace(({panel.render(panel.now, resolution, self._matchers, None)}), "
            f'"{_PANEL_LABEL}", "{panel.id}", "", "")'
            for panel in panels
        )
        async with self._slots:
            answer = await self._client.query(query, at=source_now)
        at = Grid(int(source_now), int(source_now), 1)
        for panel in panels:
            mine = [s for s in answer.samples if dict(s.labels).get(_PANEL_LABEL) == panel.id]
            labels = tuple(
                tuple(pair for pair in s.labels if pair[0] != _PANEL_LABEL) for s in mine
            )
            frame = Frame(at, labels, np.array([s.value for s in mine]).reshape(-1, 1))
            try:
                curves = curves_of(panel, frame, None, 1).curves
            except ConfigurationError:
                # Its chart says why.
                self._now.pop(panel.id, None)
                continue
            values = [float(curve.values[0]) for curve in curves]
            value = values[panel.quantiles.index(RANKED_QUANTILE)] if panel.quantiles else values[0]
            if np.isfinite(value):
                self._now[panel.id] = _Now(value, source_now)
            else:
                self._now.pop(panel.id, None)

    def _source(self, contact: Contact, facts: SourceFacts) -> dict[str, Any]:
        banner = ""
        if contact.error is None and abs(contact.offset_seconds) > _CLOCK_TOLERANCE_SECONDS:
            side = "ahead of" if contact.offset_seconds > 0 else "behind"
            banner = (
                f"The clock of Prometheus is {duration_words(abs(contact.offset_seconds))} {side} "
                "this server's. Ranges follow the clock of Prometheus."
            )
        return {
            "reachable": contact.error is None,
            "cause": "" if contact.error is None else str(contact.error),
            "kind": None if contact.error is None else contact.error.kind,
            "failingSince": contact.failing_since,
            "lastSeen": contact.last_seen,
            "offset": contact.offset_seconds,
            "version": facts.version,
            "notice": banner,
        }
