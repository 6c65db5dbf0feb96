"""How late the samples of a source arrive, measured by when they appear.

An old newest sample alone proves nothing: it may be the last one of a series that has ended.
Lateness is proven by a sample that appears with a timestamp at which it was not there yet.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from queuescope.errors import SourceError
from queuescope.panels.template import LOOKBACK_DELTA_SECONDS
from queuescope.prometheus import PrometheusClient
from queuescope.prometheus.promql import selector as of_name
from queuescope.prometheus.promql import union
from queuescope.view.source.scrapes import Late, Scrape, Scrapes

logger = logging.getLogger(__name__)

MOST_SECONDS = 10_800
"""The greatest delay that is taken into account."""

_METRIC = "queuescope_metric"
# Below the five minutes for which a plain selector finds a sample, so that none is missed.
_SEARCH_STEP_SECONDS = 240
_IN_REACH_SCRAPES = 3
_REMEMBERED = 3
_TOLERATED_SCRAPES = 1.5
_TOLERATED_SECONDS = 20.0
_LOOK_SECONDS = 30.0
_SEARCHED_AGAIN_SECONDS = 300.0
_REFUSED_KEPT_SECONDS = 600.0
UNDECIDED_LOOK_SECONDS = 2.0
"""The time between two checks while it is unknown whether samples are late or have ended."""

_UNDECIDED_SCRAPES = 3
_UNDECIDED_SECONDS = 10.0
_ENDED_SCRAPES = 10
_SAME_SECONDS = 60.0


def tolerated_seconds(interval_seconds: float) -> float:
    """The delay that windows and lookback cover anyway."""
    return max(_TOLERATED_SCRAPES * interval_seconds, _TOLERATED_SECONDS)


@dataclass(slots=True)
class Arrivals:
    """When the samples of one metric, which is scraped every ``interval_seconds``, arrived.

    ``late_seconds`` is their usual delay. ``at`` is the time of the last check and ``newest`` the
    newest sample at that time; ``began_at`` is the first check, and ``has_advanced`` says whether a
    newer sample has appeared since. All times are source times.
    """

    interval_seconds: float
    late_seconds: float = 0.0
    at: float | None = None
    newest: float = float("-inf")
    began_at: float = float("inf")
    has_advanced: bool = False
    _delays: deque[float] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))

    @property
    def age_seconds(self) -> float:
        return float("inf") if self.at is None else self.at - self.newest

    @property
    def is_old(self) -> bool:
        """Whether there should be a newer sample if samples were on time."""
        return self.age_seconds > self.interval_seconds + tolerated_seconds(self.interval_seconds)

    @property
    def has_ended(self) -> bool:
        """Whether there has been no new sample for so long that none is expected."""
        if self.at is None:
            return False
        quiet = max(2 * LOOKBACK_DELTA_SECONDS, _ENDED_SCRAPES * self.interval_seconds)
        return self.age_seconds > self.late_seconds + quiet and not self.is_undecided

    @property
    def is_going(self) -> bool:
        """Whether samples keep arriving, on time or late."""
        known = bool(self.late_seconds) or self.has_advanced or not self.is_old
        return known and not self.has_ended

    @property
    def is_undecided(self) -> bool:
        """Whether it is unknown yet if the samples are late or have ended."""
        if self.at is None or self.late_seconds or self.has_advanced or not self.is_old:
            return False
        waited = max(_UNDECIDED_SCRAPES * self.interval_seconds, _UNDECIDED_SECONDS)
        return self.age_seconds < MOST_SECONDS and self.at - self.began_at < waited

    @property
    def unsettled_seconds(self) -> float:
        """How far before now samples may still arrive."""
        if self.at is None or not self.is_old or self.age_seconds > MOST_SECONDS:
            return self.late_seconds
        return max(self.late_seconds, self.age_seconds)

    def must_ask_before(self, newest: float) -> bool:
        """Whether, given ``newest``, samples may have been added before the last check."""
        return self.at is not None and self.is_old and newest > self.at

    def see(self, at: float, newest: float, newest_before: float | None = None) -> None:
        """Note that at ``at`` the newest sample is ``newest``; ``newest_before`` is the newest up
        to the last check, if that was fetched.
        """
        before, was, was_old = self.at, self.newest, self.is_old
        self.at, self.newest = at, max(newest, was)
        if before is None or at < before:
            self.began_at = at
            self.newest = newest
            return
        if newest <= was:
            if self.has_ended:
                self.late_seconds = 0.0
                self._delays.clear()
            return
        self.has_advanced = True
        up_to_then = newest if newest <= before else newest_before
        if was_old and (up_to_then is None or up_to_then <= was):
            # No sample was taken in between: that is an outage and not a delay.
            return
        delay = max(0.0, before - was - self.interval_seconds) if was_old else 0.0
        self._delays.append(delay)
        self._settle(min(delay, max(0.0, at - newest - self.interval_seconds)))

    def _settle(self, surely: float) -> None:
        """The delay is what at least two of the last delays reached, or what is certain
        (``surely``): a single one may be left over from an outage.
        """
        usual = sorted(self._delays)[-2] if len(self._delays) > 1 else 0.0
        late = min(max(usual, surely), float(MOST_SECONDS))
        if len(self._delays) < _REMEMBERED:
            # One check does not override what was known before.
            late = max(late, self.late_seconds)
        if late <= tolerated_seconds(self.interval_seconds):
            self.late_seconds = 0.0
            return
        slack = max(self.interval_seconds, 15.0)
        if not self.late_seconds - slack <= late <= self.late_seconds + slack / 2:
            self.late_seconds = float(round(late))


class Lateness:
    """Checks the newest sample of each metric, and learns how late samples arrive.

    While nothing is late they are fetched in the query for the present values, and need none of
    their own.
    """

    def __init__(
        self, client: PrometheusClient, *, matchers: str, clock: Callable[[], float]
    ) -> None:
        self._client = client
        self._matchers = matchers
        self._clock = clock
        self._arrivals: dict[str, Arrivals] = {}
        self._searched: dict[str, float] = {}
        self._looked_at = float("-inf")
        self._refused_at = float("-inf")
        self._newest: tuple[Mapping[str, float], float] | None = None
        self.late = Late()

    def recall(self, by_metric: Mapping[str, float], scrapes: Mapping[str, Scrape]) -> None:
        """Start from what was known before a restart: seconds by metric."""
        for name, seconds in by_metric.items():
            if name in scrapes and name not in self._arrivals:
                interval = scrapes[name].slowest_seconds
                self._arrivals[name] = Arrivals(interval, late_seconds=seconds)
        self.late = self._summed()

    @property
    def known(self) -> dict[str, float]:
        """The seconds by which each late metric is late."""
        found = self._arrivals.items()
        return {name: one.late_seconds for name, one in found if one.late_seconds}

    @property
    def has_news(self) -> bool:
        """Whether the newest samples have been fetched, or must be, because something is late."""
        is_first = self._looked_at == float("-inf")
        must_ask = is_first or bool(self.late.undecided or self.known)
        return self._newest is not None or (must_ask and self._is_due)

    @property
    def _is_due(self) -> bool:
        """Whether it is time for another check."""
        every = UNDECIDED_LOOK_SECONDS if self.late.undecided else _LOOK_SECONDS
        fastest = [one.interval_seconds for one in self._arrivals.values() if one.late_seconds]
        every = min([every, *(max(UNDECIDED_LOOK_SECONDS, one) for one in fastest)])
        return not 0 <= self._clock() - self._looked_at < every

    def templates(self, scrapes: Scrapes) -> Mapping[str, str]:
        """The query templates by metric to fetch with the present values, for ``note_newest``. None
        if they were fetched recently, or while something is late and is fetched separately.
        """
        was_refused = 0 <= self._clock() - self._refused_at < _REFUSED_KEPT_SECONDS
        is_first = self._looked_at == float("-inf")
        if is_first or was_refused or self.known or self.late.undecided or not self._is_due:
            return {}
        return {name: _newest(_to_be_filled(name), one) for name, one in scrapes.by_metric.items()}

    def note_newest(self, newest: Mapping[str, float], at: float) -> None:
        """Take the answers to ``templates``, as of ``at``: the time of the newest sample of each
        metric that has one.
        """
        self._newest = (newest, at)

    def note_refusal(self) -> None:
        """Note that they could not be answered, so that they are not tried with every refresh."""
        self._refused_at = self._clock()

    async def look(self, scrapes: Mapping[str, Scrape], now: float) -> None:
        """Check all metrics of ``scrapes`` as of ``now`` (source time), or as of the noted answers.
        Never raises for a source: what was known stays.
        """
        self._looked_at = self._clock()
        noted, self._newest = self._newest, None
        try:
            newest: Mapping[str, float]
            if noted is None:
                newest = await self._in_reach(scrapes, now)
            else:
                newest, now = noted
            newest = {**newest, **await self._beyond(scrapes.keys() - newest.keys(), now)}
            for name, at in newest.items():
                if name not in scrapes:
                    continue
                interval = scrapes[name].slowest_seconds
                one = self._arrivals.setdefault(name, Arrivals(interval))
                one.interval_seconds = interval
                before = None
                if one.at is not None and one.must_ask_before(at):
                    before = await self._newest_before(name, one.at)
                one.see(now, at, before)
        except SourceError as exc:
            logger.warning("cannot check how late samples are: %s (%s)", exc, exc.detail)
        for name in self._arrivals.keys() - scrapes.keys():
            del self._arrivals[name]
        self.late = self._summed()

    async def _in_reach(self, metrics: Iterable[str], now: float) -> dict[str, float]:
        """By metric, the time of the newest sample up to ``now`` that a plain selector finds."""
        texts = {name: _stamp(self._selector(name)) for name in metrics}
        return await self._fetch(texts, now)

    async def _beyond(self, metrics: Iterable[str], now: float) -> dict[str, float]:
        """The same within ``MOST_SECONDS``; for ended metrics only from time to time."""
        sought = []
        for name in metrics:
            one = self._arrivals.get(name)
            is_going = one is not None and one.at is not None and not one.has_ended
            age = self._clock() - self._searched.get(name, float("-inf"))
            if is_going or not 0 <= age < _SEARCHED_AGAIN_SECONDS:
                sought.append(name)
                self._searched[name] = self._clock()
        return await self._fetch({name: self._within(name) for name in sought}, now)

    async def _newest_before(self, metric: str, at: float) -> float | None:
        """The time of the newest sample up to ``at``, within ``MOST_SECONDS``."""
        found = await self._in_reach([metric], at)
        return (found or await self._fetch({metric: self._within(metric)}, at)).get(metric)

    def _within(self, metric: str) -> str:
        return _stamp_within(self._selector(metric), MOST_SECONDS)

    async def _fetch(self, texts: Mapping[str, str], now: float) -> dict[str, float]:
        if not texts:
            return {}
        answer = await self._client.query(union(_METRIC, texts), at=now)
        return {dict(sample.labels)[_METRIC]: sample.value for sample in answer.samples}

    def _selector(self, metric: str) -> str:
        return of_name(metric, ",".join([*_one_of(metric), *filter(None, [self._matchers])]))

    def _summed(self) -> Late:
        going = {name: one.late_seconds for name, one in self._arrivals.items() if one.is_going}
        least = min(going.values(), default=0.0)
        # Metrics with similar delays share one time.
        behind = 0.0
        if least:
            behind = max(late for late in going.values() if late <= least + _SAME_SECONDS)
        return Late(
            behind,
            {name: late - behind for name, late in going.items() if late > behind},
            {name: one.unsettled_seconds for name, one in self._arrivals.items()},
            tuple(name for name, one in self._arrivals.items() if one.is_undecided),
        )


def _one_of(metric: str) -> list[str]:
    """One series of each histogram is enough: its buckets are sampled together."""
    return ['le="+Inf"'] if metric.endswith("_bucket") else []


def _stamp(selector: str) -> str:
    return f"max(timestamp({selector}))"


def _stamp_within(selector: str, seconds: float) -> str:
    return f"max_over_time({_stamp(selector)}[{seconds}s:{_SEARCH_STEP_SECONDS}s])"


def _newest(selector: str, scrape: Scrape) -> str:
    """The time of the newest sample, within some scrapes if a plain selector does not reach that
    far.
    """
    stamp = _stamp(selector)
    span = _IN_REACH_SCRAPES * scrape.slowest_seconds
    if span <= LOOKBACK_DELTA_SECONDS:
        return stamp
    return f"{stamp} or {_stamp_within(selector, span)}"


def _to_be_filled(metric: str) -> str:
    """The selector as it is written in a query template."""
    name = metric.replace("$", "$$")
    return of_name(name, ",".join([*_one_of(metric), "$matchers"]))
