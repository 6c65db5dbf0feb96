"""What a refresh of the page costs Prometheus, against five full queries of the same numbers."""

from __future__ import annotations

import argparse
import asyncio
import itertools
import re
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import orjson
import psutil
from benchmarks.report import Ratio, Results, busy_cores, versions
from benchmarks.servers import PROJECT
from tests.real_prometheus import RealPrometheus

from queuescope.cache import CachedReader, FrameStore
from queuescope.demo.backfill import write_history
from queuescope.demo.blocks import load_blocks
from queuescope.demo.past import FINE_STEP_SECONDS
from queuescope.panels import RANKED_QUANTILE, Dashboard, Panel, Resolution, load_dashboard, render
from queuescope.prometheus import PrometheusClient
from queuescope.prometheus.wire import InstantAnswer
from queuescope.timeseries import Grid, State
from queuescope.view import View, ViewService
from queuescope.view.charts.flow_history import RECHECK_SECONDS
from queuescope.view.overview.comparisons import COMPARED
from queuescope.view.overview.days import DAY_SECONDS, DAY_STEP_SECONDS
from queuescope.view.source.facts import FactsFile

PLAIN, EQUAL = "five plain queries", "five queries of the same numbers"
EQUAL_WHOLE = "the whole page by queries of the same numbers"
CHARTS, WHOLE = "Queuescope's charts", "Queuescope's whole refresh"
FINE_STEPS = {"24h": 86, "7d": 604}
"""In seconds: at them a range has 1,000 points, instead of those of its own step."""
_TARGETS = {"24h": 40, "7d": 140}
_REFRESH_SECONDS = 60
_HORIZON_SECONDS = 300
_CACHED_POINTS = 20_000_000
_QUANTILES = (0.5, 0.95, 0.99)
_RULES = PROJECT / "deploy/prometheus/rules/queuescope.rules.yml"
_BUCKETS = "ai_agents_enhancement_latency_seconds_bucket"


class ShiftedClient(PrometheusClient):
    """Queries as if it were ``present``, so that an hour of refreshes need not take an hour."""

    present = 0.0

    async def now(self) -> float:
        await super().now()
        return self.present

    async def query(self, promql: str, at: float | None = None) -> InstantAnswer:
        return await super().query(promql, self.present if at is None else at)


def plain_queries() -> tuple[str, ...]:
    """The queries that most people would write: see ``contenders/plain_streamlit.py``."""
    rates = f"sum by (le) (rate({_BUCKETS}[5m]))"
    return (
        "sum(ai_agents_queue_depth)",
        "avg(ai_agents_enhancement_success_rate)",
        *(_milliseconds(quantile, rates) for quantile in _QUANTILES),
    )


def own_queries(dashboard: Dashboard, step_seconds: int) -> tuple[str, ...]:
    """The panels' queries, for a Prometheus 2 that scraped at multiples of its interval."""
    resolution = _resolution(step_seconds)
    charts = ("queue_depth", "success_rate", "latency")
    panels = {panel.id: panel for panel in dashboard.panels}
    return tuple(render(panels[name].query, resolution) for name in charts)


def _resolution(step_seconds: int) -> Resolution:
    scrape = FINE_STEP_SECONDS
    return Resolution(step_seconds, scrape, left_open=False, phase_seconds=scrape)


def equal_queries(dashboard: Dashboard, step_seconds: int) -> tuple[str, ...]:
    """The same, but each quantile computed by Prometheus."""
    depth, success, latency = own_queries(dashboard, step_seconds)
    return (depth, success, *(_milliseconds(quantile, latency) for quantile in _QUANTILES))


def _milliseconds(quantile: float, buckets: str) -> str:
    return f"histogram_quantile({quantile}, {buckets}) * 1000"


@dataclass(frozen=True)
class Asked:
    """A query, over a range that ends now, or for a time so many seconds ago."""

    promql: str
    range_seconds: int = 0
    step_seconds: int = 0
    ago_seconds: int = 0


def page_queries(dashboard: Dashboard, step_seconds: int, range_seconds: int) -> list[Asked]:
    """The queries of a page that shows everything that Queuescope's does, figure by figure: the
    charts, the strip, the value, curve and comparisons of each card, and the drain.
    """
    day = _resolution(DAY_STEP_SECONDS)
    asked = [Asked(q, range_seconds, step_seconds) for q in equal_queries(dashboard, step_seconds)]
    for measure in dashboard.measures:
        panel = measure.panel
        shown = _figure(panel, measure.now, day)
        asked += [Asked(shown, ago_seconds=ago) for ago in (0, *COMPARED.values())]
        asked.append(Asked(_figure(panel, panel.query, day), DAY_SECONDS, DAY_STEP_SECONDS))
        if measure.share is not None:
            # The verdict uses another value of it than the card shows.
            asked.append(Asked(_figure(panel, panel.now, day)))
    flow, depth = dashboard.flow, dashboard.panels[0]
    assert flow is not None
    asked.append(Asked(_figure(depth, flow.completion, day)))
    chart = _resolution(step_seconds)
    strip = (_figure(depth, text, chart) for text in (flow.waiting, flow.completed))
    return asked + [Asked(text, range_seconds, step_seconds) for text in strip]


def _figure(panel: Panel, template: str, resolution: Resolution) -> str:
    promql = render(template, resolution)
    return _milliseconds(RANKED_QUANTILE, promql) if panel.quantiles else promql


class Measured:
    """One view of one Prometheus, for all contenders."""

    def __init__(self, prometheus: RealPrometheus, directory: Path, view: View, now: float) -> None:
        self._process = psutil.Process(prometheus.pid)
        self._view = view
        self._step = view.step(FINE_STEP_SECONDS)
        self._dashboard = load_dashboard("ai-agents")
        self._client = ShiftedClient(prometheus.url, timeout_seconds=60)
        self._client.present = now
        self._reader = CachedReader(
            self._client,
            FrameStore(None, _CACHED_POINTS),
            horizon_seconds=_HORIZON_SECONDS,
            clock=self._clock,
        )
        self._service = ViewService(
            self._client,
            FrameStore(None, _CACHED_POINTS),
            FactsFile(directory),
            self._dashboard,
            matchers="",
            scrape_interval_seconds=0,
            breakdown_limit=8,
            horizon_seconds=_HORIZON_SECONDS,
            clock=self._clock,
        )
        self._flow_of: tuple[Grid, float] | None = None

    @property
    def title(self) -> str:
        return f"{self._view.range}, {len(self._grid())} points"

    async def take_turns(self, results: Results, *, turns: int, refreshes: int) -> None:
        grid = self._grid()
        span = grid.end - grid.start
        plain = [Asked(query, span, self._step) for query in plain_queries()]
        equal = [Asked(q, span, self._step) for q in equal_queries(self._dashboard, self._step)]
        page = page_queries(self._dashboard, self._step, span)
        full = max(1, refreshes // 10)
        contenders: dict[str, tuple[Callable[[], Awaitable[object]], int]] = {
            PLAIN: (lambda: self._ask_all(plain), full),
            EQUAL: (lambda: self._ask_all(equal), full),
            EQUAL_WHOLE: (lambda: self._ask_page(page), full),
            CHARTS: (self._read_charts, refreshes),
            WHOLE: (self._refresh, refreshes),
        }
        names = list(contenders)
        taken: dict[str, list[float]] = {name: [] for name in names}
        # The first turn fills the caches and is not counted.
        for turn in range(-1, turns):
            results.load.setdefault(self.title, []).append(busy_cores())
            first = turn % len(names)
            begin = self._client.present
            for name in names[first:] + names[:first]:
                ask, times = contenders[name]
                # All are measured for the same minutes.
                self._client.present = begin
                before = self._cpu_seconds()
                for _ in range(times):
                    self._client.present += _REFRESH_SECONDS
                    await ask()
                if turn >= 0:
                    taken[name].append((self._cpu_seconds() - before) / times * 1000)
            self._client.present = begin + refreshes * _REFRESH_SECONDS
        for name, values in taken.items():
            results.add(self.title, name, "ms", values)

    async def aclose(self) -> None:
        await self._service.aclose()

    def _clock(self) -> float:
        return self._client.present

    def _cpu_seconds(self) -> float:
        return float(sum(self._process.cpu_times()[:2]))

    def _grid(self) -> Grid:
        return self._view.grid(self._client.present, FINE_STEP_SECONDS)

    async def _ask_page(self, page: list[Asked]) -> None:
        await self._ask_all(page)
        await self._client.alerts()

    async def _ask_all(self, queries: list[Asked]) -> None:
        for asked in queries:
            moment = self._client.present - asked.ago_seconds
            if asked.range_seconds:
                grid = Grid.ending_at(moment, asked.range_seconds, asked.step_seconds)
                answer = await self._client.query_range(asked.promql, grid)
                assert len(answer.frame.series) == 1, asked
                assert answer.frame.has_numbers, asked
            else:
                assert len((await self._client.query(asked.promql, moment)).samples) == 1, asked

    async def _read_charts(self) -> None:
        for query in own_queries(self._dashboard, self._step):
            reading = await self._reader.read(
                query, self._grid(), source_now=self._client.present, epoch="the same"
            )
            assert reading.state is State.FRESH

    async def _refresh(self) -> None:
        """Everything that a page queries that refreshes every minute: charts, cards and strip."""
        young = 0.95 * _REFRESH_SECONDS
        snapshot = await self._service.get(self._view, max_age_seconds=young)
        assert snapshot.complete
        assert snapshot.taken_at == self._client.present
        overview = orjson.loads(await self._service.overview.get(max_age_seconds=_REFRESH_SECONDS))
        assert overview["takenAt"] == self._client.present
        assert {card["state"] for card in overview["kpis"]} == {"fresh"}
        assert overview["alertsState"] in ("fresh", "idle")
        grid = self._grid()
        if self._flow_of is None or self._is_flow_due(*self._flow_of):
            await self._service.flow_histories.get(self._view)
            self._flow_of = grid, self._client.present

    def _is_flow_due(self, grid: Grid, asked_at: float) -> bool:
        return grid != self._grid() or self._client.present - asked_at >= RECHECK_SECONDS


async def _measure(prometheus: RealPrometheus, results: Results, given: argparse.Namespace) -> None:
    for name, step in FINE_STEPS.items():
        for view in (View(name), View(name, step_seconds=step)):
            with tempfile.TemporaryDirectory() as directory:
                measured = Measured(prometheus, Path(directory), view, given.start)
                print(f"{measured.title} …", flush=True)
                await measured.take_turns(results, turns=given.turns, refreshes=given.refreshes)
                await measured.aclose()


def _platform(directory: Path, end: int, days: int) -> RealPrometheus:
    """A Prometheus with the history of the platform that ``./run`` starts."""
    jobs = f"sqlite:///{directory / 'jobs.sqlite3'}"
    files = write_history(directory / "samples", jobs, days=days, end=end, seed=3)
    # The rules exist so that they can be listed; evaluating them is not part of a refresh.
    seldom = re.sub(
        r"^(  - name: .*)$", r"\1\n    interval: 1d", _RULES.read_text("utf-8"), flags=re.MULTILINE
    )
    rules = directory / "rules.yml"
    rules.write_text(seldom, "utf-8")
    prometheus = RealPrometheus(
        directory, scrape_interval_seconds=FINE_STEP_SECONDS, rule_files=[rules]
    )
    load_blocks(directory / "data", files)
    return prometheus


def main() -> None:
    parser = argparse.ArgumentParser(prog="./benchmarks/run upstream", description=__doc__)
    parser.add_argument("--turns", type=int, default=5, help="[%(default)s]")
    parser.add_argument(
        "--refreshes", type=int, default=60, help="refreshes in each turn [%(default)s]"
    )
    parser.add_argument(
        "--output", type=Path, default=PROJECT / "benchmarks/results", help="[%(default)s]"
    )
    given = parser.parse_args()
    options = {"turns": given.turns, "refreshes": given.refreshes}
    results = Results("upstream", "Cost to Prometheus", options, versions("numpy"))
    # The contenders move through samples that already exist.
    span = (given.turns + 1) * given.refreshes * _REFRESH_SECONDS
    end = int(time.time()) // 60 * 60
    given.start = end - span - 60
    with tempfile.TemporaryDirectory(prefix="queuescope-benchmark-") as name:
        print("Backfilling Prometheus …", flush=True)
        prometheus = _platform(Path(name), end, days=8 + span // 86_400)
        with prometheus:
            asyncio.run(_measure(prometheus, results, given))
    for title in dict.fromkeys(measure.title for measure in results.measures):
        target = _TARGETS[title.partition(",")[0]]
        pairs = [(EQUAL_WHOLE, WHOLE), *itertools.product((EQUAL, PLAIN), (WHOLE, CHARTS))]
        for other, own in pairs:
            ratio = results.times(title, other, own)
            words = f"{title}: {own}, times cheaper than {other}"
            # The plain queries do not return the page's numbers.
            least = None if other == PLAIN else target
            results.ratios.append(Ratio(words, ratio, least, at_least=True))
    results.write(given.output)
    print((given.output / "upstream.md").read_text("utf-8"))


if __name__ == "__main__":
    main()
