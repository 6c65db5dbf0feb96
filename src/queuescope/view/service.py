"""Snapshots: everything that one view of the page needs, made once for all who look at it."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import brotli
import orjson

from queuescope.cache import CachedReader, FrameStore
from queuescope.errors import SourceError
from queuescope.figures import duration_words, step_words
from queuescope.panels import Dashboard, Panel, render
from queuescope.panels.template import RECENT_SECONDS
from queuescope.prometheus import PrometheusClient
from queuescope.shown_text import shown_in_json
from queuescope.single_flight import Flight, SingleFlight
from queuescope.telemetry import Occasion, Telemetry, Untold
from queuescope.timeseries import State
from queuescope.view.charts.alert_history import AlertHistories
from queuescope.view.charts.chart import Chart, Charts, Moment
from queuescope.view.charts.kept_points import KeptPoints, Points
from queuescope.view.charts.refresher import Refresher
from queuescope.view.overview.alerts import AlertScope
from queuescope.view.overview.words import Figure
from queuescope.view.present.figures import PresentFigures
from queuescope.view.present.live_sources import LiveSources, NoLiveSources
from queuescope.view.present.values import SHARED_SECONDS, PresentValues
from queuescope.view.selection import View
from queuescope.view.source.absence import unmeasured_words
from queuescope.view.source.facts import FactsFile, SourceFacts, ask_facts
from queuescope.view.source.lateness import UNDECIDED_LOOK_SECONDS, Lateness, late_notices
from queuescope.view.source.probe import Contact, Probe
from queuescope.view.source.replicas import find_replica_labels, replica_words
from queuescope.view.source.scrapes import Scrapes, measured_over, metrics_read
from queuescope.view.source.state import Bearings

logger = logging.getLogger(__name__)

MAX_VIEWS = 256

FRESH_SECONDS = 1.0
"""Who wants nothing older has everything asked of the source anew."""

_FACTS_KEPT_SECONDS = 600
_UNMEASURED_FACTS_KEPT_SECONDS = 30
_CLOCK_TOLERANCE_SECONDS = 5
_SOURCE_FAILED_SECONDS = 1.0
_PANEL_FAILED_SECONDS = 5.0
_PRESENT_PATIENCE_SECONDS = 0.5
_READ_AHEAD_RETRY_SECONDS = 30.0
_FACTS = "facts"
_LOOKS = "looks"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The JSON of one view. ``taken_at`` is epoch seconds of our clock; ``complete`` is False
    when something in it is stale or missing because the source did not answer.

    ``as_of`` are the panels with the source's time of their newest answer; ``reachable`` says
    whether the source answered at all, ``thorough`` whether it was asked for every panel.
    """

    view: View
    taken_at: float
    complete: bool
    body: bytes
    body_brotli: bytes
    as_of: tuple[tuple[str, float | None], ...] = ()
    reachable: bool = True
    thorough: bool = True


class SnapshotService:
    """Makes snapshots, one at a time for equal views, and keeps those that are watched fresh."""

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
        telemetry: Telemetry | None = None,
        live: LiveSources | None = None,
        alert_scope: AlertScope | None = None,
    ) -> None:
        """``live`` are the sources besides Prometheus, where there are any."""
        self._client = client
        self._probe = Probe(client, clock)
        self._facts_file = facts_file
        self._dashboard = dashboard
        self._matchers = matchers
        self._scrape_interval_seconds = scrape_interval_seconds
        self._clock = clock
        self._telemetry = telemetry or Untold()
        self._lateness = Lateness(client, matchers=matchers, clock=clock)
        self.present = PresentValues(
            client, self._probe, dashboard, self._lateness, matchers=matchers, clock=clock
        )
        self._live = live or NoLiveSources()
        self._figures = PresentFigures(dashboard, self.present, self._live)
        self.reader = CachedReader(client, store, horizon_seconds=horizon_seconds, clock=clock)
        self._charts = Charts(
            client,
            self.reader,
            AlertHistories(
                client,
                self.reader,
                dashboard.panels,
                clock,
                alert_scope or AlertScope(),
                replica_labels=dashboard.replica_labels,
            ),
            matchers=matchers,
            breakdown_limit=breakdown_limit,
            telemetry=self._telemetry,
            clock=clock,
        )
        self._refresher = Refresher(self._renew, clock)
        self._snapshots: OrderedDict[View, Snapshot] = OrderedDict()
        self._points = KeptPoints()
        # What is asked is whether all of it is read anew.
        self._flights = SingleFlight[View, bool, Snapshot]()
        self._facts: SourceFacts | None = None
        self._replicas: tuple[str, ...] = ()
        self._facts_at = float("-inf")
        self._facts_kept = 0.0
        self._facts_flights = SingleFlight[str, None, None]()
        self._looks = SingleFlight[str, None, None]()

    @property
    def dashboard(self) -> Dashboard:
        return self._dashboard

    @property
    def contact(self) -> Contact:
        return self._probe.contact

    @property
    def watched(self) -> tuple[View, ...]:
        """The views that are kept fresh now."""
        return self._refresher.watched

    @property
    def source_now(self) -> float:
        """What the source's clock says, as far as is known."""
        return self._clock() + self._probe.contact.offset_seconds

    def ages_seconds(self) -> Mapping[str, float]:
        """By panel, how long ago the source last answered for it; the oldest of all views that
        are watched. A panel without any answer is left out.
        """
        source_now = self.source_now - self._lateness.late.behind_seconds
        ages: dict[str, float] = {}
        for view in self.watched:
            snapshot = self._snapshots.get(view)
            for panel, as_of in () if snapshot is None else snapshot.as_of:
                if as_of is not None:
                    ages[panel] = max(ages.get(panel, 0.0), source_now - as_of)
        return ages

    async def renew_contact(self) -> Contact:
        """Ask whether the source is there, unless somebody just did."""
        return await self._probe.renew()

    def held(self, view: View, max_age_seconds: float) -> Snapshot | None:
        """A snapshot from memory, if it is complete and young enough."""
        snapshot = self._snapshots.get(view)
        if snapshot is None or not snapshot.complete:
            return None
        return snapshot if 0 <= self._age_seconds(snapshot) <= max_age_seconds else None

    async def get(self, view: View, *, max_age_seconds: float) -> Snapshot:
        """The snapshot of ``view``, not older than ``max_age_seconds``; never raises for a source.

        However many ask at once, the source is asked once; one that is not complete is shared
        for a moment. See ``FRESH_SECONDS``.
        """
        fresh = max_age_seconds <= FRESH_SECONDS
        while True:
            held = self.held(view, max_age_seconds) or self._just_failed(view, max_age_seconds)
            if held is not None and (held.thorough or not fresh):
                return held
            flight = self._flights.under_way(view)
            if flight is None:
                return await self._launch(view, Occasion.VIEWER, fresh=fresh).result()
            self._telemetry.joined()
            snapshot = await flight.result()
            if flight.asked or not fresh:
                return snapshot

    def points(self, view: View, taken_at: float) -> tuple[Points, ...] | None:
        """What the snapshot of ``view`` that was taken at ``taken_at`` is drawn of, by panel; None
        where that is no longer kept.
        """
        return self._points.of(view, taken_at)

    def watch(self, view: View, interval_seconds: float) -> None:
        """Somebody looks at ``view``, of which there is a snapshot, every ``interval_seconds``:
        from now on it is renewed in time for that, until nobody comes any more.
        """
        snapshot = self._snapshots.get(view)
        if snapshot is not None:
            self._refresher.watch(view, interval_seconds, snapshot.taken_at)

    async def read_ahead(self, views: Iterable[View]) -> None:
        """Read each view once, one after another, as soon as the source answers, so that what
        does not change of them is held when somebody looks.
        """
        waiting = list(views)
        while waiting:
            snapshot = await self.get(waiting[0], max_age_seconds=float("inf"))
            if snapshot.reachable:
                del waiting[0]
            else:
                await asyncio.sleep(_READ_AHEAD_RETRY_SECONDS)

    async def bearings(self, *, max_age_seconds: float) -> Bearings:
        """Where the source stands, as of the newest present values, which are not older than
        ``max_age_seconds`` when this returns, or could not be had.
        """
        contact = self._probe.contact
        known = contact.error is None and self.present.is_young(max_age_seconds)
        if not known:
            contact = await self._meet(fresh=max_age_seconds <= FRESH_SECONDS)
        facts = await self._current_facts(contact)
        await self._look_how_late(contact, facts)
        await self._renew_present(contact, facts, max_age_seconds=max_age_seconds)
        contact = self._probe.contact
        return Bearings(
            self._source_now(contact, max_age_seconds),
            self._scrapes(facts),
            contact.epoch,
            contact.error,
            contact.failing_since,
            contact.offset_seconds,
        )

    async def aclose(self) -> None:
        await self._refresher.aclose()
        await self._flights.aclose()
        await self._facts_flights.aclose()
        await self._looks.aclose()
        await self.present.aclose()
        await self._probe.aclose()
        await self._client.aclose()

    def _age_seconds(self, snapshot: Snapshot) -> float:
        """Negative after a clock was set back: a snapshot of the future is no young one."""
        return self._clock() - snapshot.taken_at

    def _just_failed(self, view: View, max_age_seconds: float) -> Snapshot | None:
        """The newest incomplete one: a fault must not cost a question for each viewer."""
        snapshot = self._snapshots.get(view)
        if snapshot is None or snapshot.complete:
            return None
        # The probe makes an outage cheap to ask about; a panel that fails is asked in full.
        shared = (
            min(max_age_seconds, _PANEL_FAILED_SECONDS)
            if snapshot.reachable
            else _SOURCE_FAILED_SECONDS
        )
        return snapshot if 0 <= self._age_seconds(snapshot) < shared else None

    def _launch(self, view: View, occasion: Occasion, *, fresh: bool) -> Flight[bool, Snapshot]:
        return self._flights.launch(view, fresh, self._take(view, occasion, fresh=fresh))

    async def _renew(self, view: View) -> None:
        """Its turn has come; what is being taken for a viewer serves as well."""
        flight = self._flights.under_way(view)
        await (flight or self._launch(view, Occasion.SCHEDULE, fresh=False)).result()

    async def _take(self, view: View, occasion: Occasion, *, fresh: bool) -> Snapshot:
        started = asyncio.get_running_loop().time()
        contact = await self._meet(fresh=fresh)
        facts = await self._current_facts(contact)
        await self._look_how_late(contact, facts)
        present = asyncio.create_task(self._renew_present(contact, facts))
        await asyncio.wait([present], timeout=_PRESENT_PATIENCE_SECONDS)
        source_now = self._source_now(contact, SHARED_SECONDS)
        scrapes = self._scrapes(facts)
        grid = view.grid(source_now, scrapes.fastest_seconds)
        reachable = contact.error is None
        live_at = view.live_at(grid, source_now)

        async def figure_of(panel: Panel) -> Figure:
            # The charts' own questions do not wait for the figures of now.
            await present
            return self._figures.of_panel(panel, contact.error, contact.offset_seconds)

        charts, alerts = await self._charts.draw(
            [
                (
                    panel,
                    scrapes.resolution(grid.step_seconds, panel.all_metrics),
                    self._live_over_seconds(panel, scrapes),
                )
                for panel in self._dashboard.panels
            ],
            view,
            grid,
            Moment(
                source_now,
                contact.epoch,
                reachable and not fresh,
                live_at,
                contact.error,
                scrapes.late.behind_seconds,
            ),
            figure_of,
        )
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
                "live": live_at,
            },
            "takenAt": taken_at,
            "scrapeInterval": scrapes.fastest_seconds,
            "source": {
                **self._source(contact, facts),
                "unmeasured": self._unmeasured(charts) if reachable else "",
            },
            "alerts": {
                "list": [alert.content() for alert in alerts.shown],
                "more": alerts.more,
            },
            "panels": [chart.content for chart in charts],
        }
        body = shown_in_json(orjson.dumps(content))
        snapshot = Snapshot(
            view,
            taken_at,
            reachable and all(c.state not in (State.STALE, State.UNAVAILABLE) for c in charts),
            body,
            brotli.compress(body, quality=3),
            tuple((p.id, c.as_of) for p, c in zip(self._dashboard.panels, charts, strict=True)),
            reachable,
            all(chart.checked_at == source_now for chart in charts),
        )
        self._points.keep(view, taken_at, (chart.points for chart in charts))
        self._hold(snapshot)
        self._telemetry.took(occasion, asyncio.get_running_loop().time() - started)
        return snapshot

    def _live_over_seconds(self, panel: Panel, scrapes: Scrapes) -> float | None:
        """Over how long the value now is measured that the panel itself asks for."""
        resolution = scrapes.resolution(RECENT_SECONDS, panel.all_metrics)
        return measured_over(render(panel.now, resolution, self._matchers), scrapes)

    def _hold(self, snapshot: Snapshot) -> None:
        self._snapshots[snapshot.view] = snapshot
        self._snapshots.move_to_end(snapshot.view)
        while len(self._snapshots) > MAX_VIEWS:
            self._snapshots.popitem(last=False)
        self._refresher.taken(snapshot.view, snapshot.taken_at, complete=snapshot.complete)

    async def _meet(self, *, fresh: bool) -> Contact:
        """The contact as of now; where nothing is unusual, from the present values' answer."""
        contact = self._probe.contact
        usual = contact.error is None and contact.last_seen is not None
        if usual and not fresh and self._facts is not None:
            # A source that hangs, or finds these hard, is asked what costs it nothing.
            patience = _PRESENT_PATIENCE_SECONDS
            await self.present.renew(self._scrapes(self._facts), patience_seconds=patience)
        return await self._probe.renew()

    async def _renew_present(
        self, contact: Contact, facts: SourceFacts, *, max_age_seconds: float = SHARED_SECONDS
    ) -> None:
        if contact.error is None:
            await self.present.renew(self._scrapes(facts), max_age_seconds=max_age_seconds)

    def _source_now(self, contact: Contact, max_age_seconds: float) -> float:
        """The source's time that a reading is of: that of the present values where they are young,
        so that whatever is read of one moment needs to be read once.
        """
        at = self.present.source_now
        if contact.error is None and at is not None and self.present.is_young(max_age_seconds):
            return at
        behind = self._lateness.late.behind_seconds
        return self._clock() + contact.offset_seconds - behind

    def _scrapes(self, facts: SourceFacts) -> Scrapes:
        scrapes = facts.as_scrapes(self._scrape_interval_seconds)
        return replace(scrapes, late=self._lateness.late)

    async def _current_facts(self, contact: Contact) -> SourceFacts:
        """What is known of the source; only the very first reader waits for it."""
        if self._facts is None:
            self._know(self._facts_file.load(self._client.identity))
        due = contact.error is None and not 0 <= self._clock() - self._facts_at < self._facts_kept
        flight = self._facts_flights.under_way(_FACTS)
        if due and flight is None:
            work = self._renew_facts(self._clock() + contact.offset_seconds)
            flight = self._facts_flights.launch(_FACTS, None, work)
        if self._facts is None and flight is not None:
            await asyncio.wait([flight.task])
        return self._facts or SourceFacts()

    async def _renew_facts(self, source_now: float) -> None:
        try:
            facts = await ask_facts(
                self._client, metrics_read(self._dashboard), self._matchers, source_now, self._facts
            )
        except SourceError as exc:
            logger.warning("cannot learn about the source: %s (%s)", exc, exc.detail)
            return
        facts = replace(facts, late=self._lateness.known)
        await asyncio.to_thread(self._facts_file.save, self._client.identity, facts)
        await self._look_for_replicas(source_now)
        self._know(facts)
        self._facts_kept = _FACTS_KEPT_SECONDS if facts.measured else _UNMEASURED_FACTS_KEPT_SECONDS
        self._facts_at = self._clock()

    async def _look_how_late(self, contact: Contact, facts: SourceFacts) -> None:
        """Where there is something to be seen, see how late samples arrive. While it is not known
        yet whether they are late or have ended, this goes on in the background.
        """
        if contact.error is not None or not facts.scrapes:
            return
        flight = self._looks.under_way(_LOOKS)
        if flight is None and self._lateness.has_news:
            await self._look(facts)
            if self._lateness.late.undecided:
                self._looks.launch(_LOOKS, None, self._keep_looking())

    async def _look(self, facts: SourceFacts) -> None:
        before = self._lateness.known
        await self._lateness.look(facts.scrapes, self.source_now)
        if self._lateness.known != before:
            kept = replace(facts, late=self._lateness.known)
            await asyncio.to_thread(self._facts_file.save, self._client.identity, kept)
            self._facts = kept if self._facts is facts else self._facts

    async def _keep_looking(self) -> None:
        while self._lateness.late.undecided and self._probe.contact.error is None:
            await asyncio.sleep(UNDECIDED_LOOK_SECONDS)
            await self._look(self._facts or SourceFacts())

    async def _look_for_replicas(self, source_now: float) -> None:
        try:
            self._replicas = await find_replica_labels(
                self._client, self._dashboard, self._matchers, source_now
            )
        except SourceError as exc:
            logger.warning("cannot look for replicas: %s (%s)", exc, exc.detail)

    def _know(self, facts: SourceFacts | None) -> None:
        self._facts = facts
        if facts is not None:
            self._client.lookback_delta_seconds = facts.lookback_delta_seconds
            self._lateness.recall(facts.late, facts.scrapes)

    def _unmeasured(self, charts: Sequence[Chart]) -> str:
        """What the source lacks, where it has never had a metric of any chart; else empty."""
        unknown = [c.absence for c in charts if c.absence is not None and c.absence.is_unknown]
        if len(unknown) < len(charts):
            return ""
        return unmeasured_words(self._dashboard.panels, unknown)

    def _source(self, contact: Contact, facts: SourceFacts) -> dict[str, Any]:
        notices = [replica_words(self._replicas)] if self._replicas else []
        notices += late_notices(self._lateness.late)
        notices += clock_notices(
            contact.offset_seconds if contact.error is None else 0.0, -self._live.clock_ahead()
        )
        return {
            "reachable": contact.error is None,
            "cause": "" if contact.error is None else str(contact.error),
            "kind": None if contact.error is None else contact.error.kind,
            "failingSince": contact.failing_since,
            "lastSeen": contact.last_seen,
            "offset": contact.offset_seconds,
            "version": facts.version,
            "notice": " ".join(notices),
        }


def clock_notices(prometheus: float, broker: float) -> list[str]:
    """What a reader should know of three clocks: by how many seconds that of Prometheus and that of
    the broker are ahead of this server's. Negative is behind, 0 is by nothing or not known.
    """
    found = []
    is_off, broker_is_off = (abs(one) > _CLOCK_TOLERANCE_SECONDS for one in (prometheus, broker))
    agree = abs(prometheus - broker) <= _CLOCK_TOLERANCE_SECONDS
    is_ours = is_off and broker_is_off and agree
    if is_off:
        whose = (
            "clocks of Prometheus and of the broker are" if is_ours else "clock of Prometheus is"
        )
        found.append(
            f"The {whose} {_apart(prometheus)} this server's. "
            "Ranges follow the clock of Prometheus."
        )
    if broker_is_off and not is_ours:
        found.append(
            f"The clock of the broker is {_apart(broker)} this server's. Times of jobs and acts "
            "are put right by that."
        )
    return found


def _apart(seconds: float) -> str:
    return f"{duration_words(abs(seconds))} {'ahead of' if seconds > 0 else 'behind'}"
