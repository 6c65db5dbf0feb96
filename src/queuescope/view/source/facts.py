"""What must be known about a Prometheus before a query can be written for it.

Kept on disk, because query text depends on it: after a restart during an outage, the same queries
must be found in the cache.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import msgspec

from queuescope.errors import SourceError, SourceErrorKind
from queuescope.panels.template import LOOKBACK_DELTA_SECONDS
from queuescope.private_files import make_private_folder, write_private
from queuescope.prometheus import PrometheusClient
from queuescope.view.source.sample_extent import newest_sample
from queuescope.view.source.scrape_intervals import (
    SCRAPED_WITHIN_DAYS,
    measure_scrape,
    scraped_selector,
    still_hold,
)
from queuescope.view.source.scrapes import Scrape, Scrapes, lookback_delta_for

logger = logging.getLogger(__name__)

DEFAULT_SCRAPE_INTERVAL_SECONDS = 15
_Interval = Annotated[int, msgspec.Meta(ge=1)]


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """``left_open``: see ``panels.Resolution``. ``scrapes`` describes the scraping of each metric
    that has samples; ``scrape_interval_seconds``, the shortest of their intervals, is used for the
    others. ``measured`` is False for defaults. ``takes_lookback``: a query may set how long a plain
    selector finds a sample; ``takes_reach``: each selector may; None: unknown. ``late`` is, by
    metric, how many seconds late its samples arrive.
    """

    version: str = ""
    left_open: bool = True
    scrape_interval_seconds: _Interval = DEFAULT_SCRAPE_INTERVAL_SECONDS
    scrapes: dict[str, Scrape] = field(default_factory=dict)
    measured: bool = False
    takes_lookback: bool = False
    takes_reach: bool | None = None
    late: dict[str, float] = field(default_factory=dict)

    @property
    def slowest_seconds(self) -> int:
        return max(
            (one.slowest_seconds for one in self.scrapes.values()),
            default=self.scrape_interval_seconds,
        )

    @property
    def lookback_delta_seconds(self) -> int | None:
        """How long plain selectors should find a sample; None for the source's own default."""
        needed = lookback_delta_for(self.slowest_seconds)
        return needed if self.takes_lookback and needed > LOOKBACK_DELTA_SECONDS else None

    def as_scrapes(self, configured_seconds: int = 0) -> Scrapes:
        """The scrapes to render queries with. ``configured_seconds``, unless it is 0, is the
        interval of all targets, and overrides what was measured.
        """
        reach = bool(self.takes_reach)
        is_settable = self.takes_lookback or reach
        delta = lookback_delta_for(self.slowest_seconds) if is_settable else LOOKBACK_DELTA_SECONDS
        if not configured_seconds:
            usual = Scrape(self.scrape_interval_seconds, self.slowest_seconds)
            return Scrapes(usual, self.scrapes, self.left_open, delta, reach)
        known = {
            metric: scrape
            for metric, scrape in self.scrapes.items()
            if scrape.fastest_seconds == scrape.slowest_seconds == configured_seconds
        }
        usual = Scrape(configured_seconds, configured_seconds)
        return Scrapes(usual, known, self.left_open, delta, reach)


async def fetch_facts(
    client: PrometheusClient,
    metrics: tuple[str, ...],
    matchers: str,
    now: float,
    known: SourceFacts | None = None,
) -> SourceFacts:
    """Fetch the version and measure how each of ``metrics`` is scraped. Raises ``SourceError``.

    For a metric without present samples, the last 7 days are searched. What cannot be measured
    stays as ``known``, and so does everything if a single query finds it unchanged.
    """
    known = known or SourceFacts()
    version = await _version(client)
    is_complete = known.measured and known.takes_reach is not None
    same_server = is_complete and known.version == version
    usual = Scrape(known.scrape_interval_seconds, known.scrape_interval_seconds)
    scrapes_known = Scrapes(usual, known.scrapes)
    if same_server and await still_hold(client, metrics, matchers, now, scrapes_known):
        return known
    left_open = await client.ranges_are_left_open()
    found = await asyncio.gather(
        *(measure_scrape(client, one, matchers, now, known.scrapes.get(one)) for one in metrics)
    )
    scrapes = {name: one for name, one in zip(metrics, found, strict=True) if one is not None}
    if not scrapes:
        return replace(known, version=version, left_open=left_open)
    fastest = min(one.fastest_seconds for one in scrapes.values())
    return SourceFacts(
        version,
        left_open,
        fastest,
        scrapes,
        measured=True,
        takes_lookback=await _takes_lookback(client, scrapes, matchers, now),
        takes_reach=await client.takes_reach(),
        late=known.late,
    )


async def _takes_lookback(
    client: PrometheusClient, scrapes: Mapping[str, Scrape], matchers: str, now: float
) -> bool:
    """Whether a query may set how long a plain selector finds a sample.

    Fetched only if it matters.
    """
    slow = [
        metric
        for metric, scrape in scrapes.items()
        if lookback_delta_for(scrape.slowest_seconds) > LOOKBACK_DELTA_SECONDS
    ]
    for metric in slow:
        selector = scraped_selector(metric, matchers)
        newest = await newest_sample(client, selector, now, SCRAPED_WITHIN_DAYS)
        if newest is not None:
            return await client.takes_lookback(selector, newest)
    return False


async def _version(client: PrometheusClient) -> str:
    try:
        return (await client.buildinfo()).version
    except SourceError as exc:
        if exc.kind in (SourceErrorKind.CANNOT_CONNECT, SourceErrorKind.TIMEOUT):
            raise
        # Not every server with this API reports its version, and nothing depends on it.
        return ""


class FactsFile:
    """The last known facts about each source, in one directory; unreadable files are ignored."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._saved: dict[str, SourceFacts] = {}
        self._is_failing = False

    def load(self, identity: str) -> SourceFacts | None:
        try:
            found = msgspec.json.decode(self._path(identity).read_bytes(), type=SourceFacts)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            return None
        self._saved[identity] = found
        return found

    def save(self, identity: str, facts: SourceFacts) -> None:
        """Save ``facts``, unless they are saved already. Never raises; after a failure the next
        call tries again.
        """
        if self._saved.get(identity) == facts:
            return
        path = self._path(identity)
        temporary = path.with_suffix(".tmp")
        try:
            make_private_folder(path.parent)
            write_private(temporary, msgspec.json.encode(facts))
            temporary.replace(path)
            self._saved[identity] = facts
            self._is_failing = False
        except OSError as exc:
            # Without the file only a restart during an outage shows less; reading must go on.
            if not self._is_failing:
                logger.warning("cannot keep what is known of the source: %s", exc)
            self._is_failing = True
            with contextlib.suppress(OSError):
                temporary.unlink()

    def _path(self, identity: str) -> Path:
        name = hashlib.sha256(identity.encode()).hexdigest()[:32]
        return self._directory / f"source-{name}.json"
