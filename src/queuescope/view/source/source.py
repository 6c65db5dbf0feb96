"""The Prometheus that is read, and what is known about it: whether it answers, its time, how it is
scraped, how late its samples arrive, and whether it holds each series once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace

from queuescope.errors import SourceError
from queuescope.known import Known
from queuescope.panels import Dashboard
from queuescope.prometheus import PrometheusClient
from queuescope.single_flight import SingleFlight
from queuescope.view.source.facts import FactsFile, SourceFacts, fetch_facts
from queuescope.view.source.lateness import UNDECIDED_LOOK_SECONDS, Lateness
from queuescope.view.source.notices import late_notices
from queuescope.view.source.probe import Probe
from queuescope.view.source.replicas import find_replica_labels, replica_words
from queuescope.view.source.scrapes import Scrapes, metrics_read
from queuescope.view.source.state import Contact, contact_of

logger = logging.getLogger(__name__)

_MOST_NAMED = 2
_FACTS_KEPT_SECONDS = 600
_UNMEASURED_FACTS_KEPT_SECONDS = 30


class Source:
    """Belongs to one event loop; no method raises for a source that fails.

    ``matchers`` (rendered PromQL) narrow all reads for ``dashboard``; ``clock`` gives our own time,
    epoch seconds.
    """

    def __init__(
        self,
        client: PrometheusClient,
        facts_file: FactsFile,
        dashboard: Dashboard,
        *,
        matchers: str,
        scrape_interval_seconds: int,
        clock: Callable[[], float],
    ) -> None:
        """``scrape_interval_seconds``, unless it is 0, is the interval of all targets."""
        self.client = client
        self.dashboard = dashboard
        self.matchers = matchers
        self.clock = clock
        self.lateness = Lateness(client, matchers=matchers, clock=clock)
        self._probe = Probe(client, clock)
        self._facts_file = facts_file
        self._scrape_interval_seconds = scrape_interval_seconds
        self._facts: SourceFacts | None = None
        self._facts_at = float("-inf")
        self._facts_kept_seconds = 0.0
        self._fact_flights = SingleFlight[str, None, None]()
        self._looks = SingleFlight[str, None, None]()
        self._replicas: tuple[str, ...] = ()

    @property
    def contact(self) -> Known[Contact]:
        """The last contact with it, with times by our clock."""
        return self._probe.contact

    @property
    def now(self) -> float:
        """The time by its clock, as far as is known."""
        return self.clock() + contact_of(self.contact).offset_seconds

    @property
    def scrapes(self) -> Scrapes:
        """How it is scraped, as far as is known."""
        facts = self._facts or SourceFacts()
        return replace(facts.as_scrapes(self._scrape_interval_seconds), late=self.lateness.late)

    @property
    def is_learnt(self) -> bool:
        """Whether anything is known about its scrapes."""
        return self._facts is not None

    @property
    def version(self) -> str:
        return "" if self._facts is None else self._facts.version

    def notices(self) -> list[str]:
        """Sentences that a reader should know about its data; long lists are cut."""
        replicas = [replica_words(self._replicas)] if self._replicas else []
        return replicas + late_notices(self.lateness.late, _MOST_NAMED)

    async def renew_contact(self) -> Known[Contact]:
        """Ask whether it answers, unless that was just done."""
        return await self._probe.renew()

    def note_answer(self, source_now: float, asked_at: float, answered_at: float) -> None:
        """Note that another query was answered; see ``Probe.note_answer``."""
        self._probe.note_answer(source_now, asked_at, answered_at)

    async def learn(self, contact: Known[Contact]) -> None:
        """Bring what is known about it up to date; only the very first reader waits for that."""
        await self._renew_facts(contact)
        await self._look_how_late(contact)

    async def aclose(self) -> None:
        await self._fact_flights.aclose()
        await self._looks.aclose()
        await self._probe.aclose()
        await self.client.aclose()

    async def _renew_facts(self, contact: Known[Contact]) -> None:
        if self._facts is None:
            self._take_in(self._facts_file.load(self.client.identity))
        age = self.clock() - self._facts_at
        is_due = contact.error is None and not 0 <= age < self._facts_kept_seconds
        flight = self._fact_flights.under_way("")
        if is_due and flight is None:
            now = self.clock() + contact_of(contact).offset_seconds
            flight = self._fact_flights.launch("", None, self._fetch_facts(now))
        if self._facts is None and flight is not None:
            await asyncio.wait([flight.task])

    async def _fetch_facts(self, now: float) -> None:
        try:
            facts = await fetch_facts(
                self.client, metrics_read(self.dashboard), self.matchers, now, self._facts
            )
        except SourceError as exc:
            logger.warning("cannot learn about the source: %s (%s)", exc, exc.detail)
            return
        facts = replace(facts, late=self.lateness.known)
        await asyncio.to_thread(self._facts_file.save, self.client.identity, facts)
        await self._look_for_replicas(now)
        self._take_in(facts)
        self._facts_kept_seconds = (
            _FACTS_KEPT_SECONDS if facts.measured else _UNMEASURED_FACTS_KEPT_SECONDS
        )
        self._facts_at = self.clock()

    def _take_in(self, facts: SourceFacts | None) -> None:
        self._facts = facts
        if facts is not None:
            self.client.lookback_delta_seconds = facts.lookback_delta_seconds
            self.lateness.recall(facts.late, facts.scrapes)

    async def _look_for_replicas(self, now: float) -> None:
        try:
            self._replicas = await find_replica_labels(
                self.client, self.dashboard, self.matchers, now
            )
        except SourceError as exc:
            logger.warning("cannot look for replicas: %s (%s)", exc, exc.detail)

    async def _look_how_late(self, contact: Known[Contact]) -> None:
        """Check how late samples arrive, if there is news. While it is unknown whether they are
        late or have ended, this continues in the background.
        """
        if contact.error is not None or self._facts is None or not self._facts.scrapes:
            return
        if self._looks.under_way("") is None and self.lateness.has_news:
            await self._look(self._facts)
            if self.lateness.late.undecided:
                self._looks.launch("", None, self._keep_looking())

    async def _look(self, facts: SourceFacts) -> None:
        before = self.lateness.known
        await self.lateness.look(facts.scrapes, self.now)
        if self.lateness.known != before:
            kept = replace(facts, late=self.lateness.known)
            await asyncio.to_thread(self._facts_file.save, self.client.identity, kept)
            self._facts = kept if self._facts is facts else self._facts

    async def _keep_looking(self) -> None:
        while self.lateness.late.undecided and self.contact.error is None:
            await asyncio.sleep(UNDECIDED_LOOK_SECONDS)
            await self._look(self._facts or SourceFacts())
