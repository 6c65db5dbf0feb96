"""Samples that arrive late: the delay is learnt and shown, and all figures are of one time.

The samples are written to a real Prometheus while the tests run, each as late as the test says.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from tests.real_prometheus import RealPrometheus
from tests.remote_write import RemoteWriter
from tests.view.conftest import Clock, CountingProxy, StartService, content, panels
from tests.view.overview.test_overview import cards, over, read_overview

from queuescope.panels.template import LOOKBACK_DELTA_SECONDS
from queuescope.prometheus import PrometheusClient
from queuescope.timeseries import labels_of
from queuescope.view import View, ViewService
from queuescope.view.overview.overview import Overview
from queuescope.view.present.fetcher import PresentFetcher
from queuescope.view.present.queries import PresentQuery
from queuescope.view.source.lateness import Arrivals, Lateness
from queuescope.view.source.scrapes import Scrape, Scrapes

pytestmark = pytest.mark.anyio

EVERY, LATE, HISTORY = 2, 600, 3_600
PATIENCE_SECONDS = 90
QUEUE, JOBS = "queue", "jobs"
_FROM_PROMETHEUS = ("queue_depth", "success_rate", "p95_latency", "throughput")
# By how much the writer may be behind on a busy machine, beside what it holds back.
_BEHIND_SECONDS = 15


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealPrometheus]:
    with RealPrometheus(tmp_path_factory.mktemp("late"), takes_samples=True) as server:
        yield server


@dataclass
class Source:
    """Writes what is due of one environment: its depth counts the seconds, a job ends in each."""

    port: int
    env: str
    late: dict[str, float] = field(default_factory=lambda: {QUEUE: LATE, JOBS: LATE})
    written: dict[str, int] = field(default_factory=dict)

    def write(self, now: float) -> None:
        rows = []
        for part, late in self.late.items():
            first = self.written.get(part, (int(now) - LATE - HISTORY) // EVERY * EVERY)
            due = range(first + EVERY, int(now - late) + 1, EVERY)
            for at in due:
                rows += [(labels, at, value) for labels, value in self._of(part, at)]
            self.written[part] = due[-1] if due else first
        if rows:
            writer = RemoteWriter(self.port)
            writer.write(rows)
            writer.close()

    def _of(self, part: str, at: int) -> Iterator[tuple[Any, float]]:
        def named(name: str, **labels: str) -> Any:
            return labels_of({"__name__": f"ai_agents_{name}", "env": self.env, **labels})

        if part == QUEUE:
            yield named("queue_depth"), float(at % 50 + 10)
            yield named("workers_up"), 3.0
            return
        yield named("enhancement_jobs_total", outcome="succeeded"), float(at % 10**7)
        for le in ("1", "2", "+Inf"):
            yield named("enhancement_latency_seconds_bucket", le=le), float(at % 10**7)

    @contextlib.asynccontextmanager
    async def going_on(self) -> AsyncIterator[None]:
        await asyncio.to_thread(self.write, time.time())
        task = asyncio.create_task(self._go_on())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _go_on(self) -> None:
        while True:
            await asyncio.sleep(0.25)
            await asyncio.to_thread(self.write, time.time())


async def _until_behind(
    service: ViewService, least: float, most: float, view: View
) -> dict[str, Any]:
    """The view when the page is so much behind; what was said on the way is not forgotten."""
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        asked_at = time.time()
        found = content(await service.get(view, max_age_seconds=0))
        if least <= asked_at - found["view"]["live"] <= most:
            return found
        assert time.monotonic() < until, found["source"]
        await asyncio.sleep(0.5)


def _values(panel: dict[str, Any]) -> list[float]:
    packed = panel["figure"]["data"][0]["y"]
    raw = base64.b64decode(packed["bdata"])
    found: list[float] = np.frombuffer(raw, f"<{packed['dtype']}").tolist()
    return found


async def _told_all(overview: Overview) -> dict[str, Any]:
    """The overview once it has all figures, the late ones included."""
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        now = await read_overview(overview, 0)
        if {cards(now)[name]["state"] for name in _FROM_PROMETHEUS} == {"fresh"}:
            return now
        assert time.monotonic() < until, cards(now)
        await asyncio.sleep(0.5)


async def _overview(overview: Overview) -> tuple[dict[str, Any], dict[str, Any]]:
    found = await read_overview(overview, 0)
    return found, cards(found)


async def test_a_source_that_is_late_throughout_is_read_as_of_then_until_it_is_on_time(
    prometheus: RealPrometheus, make_service: StartService, clock: Clock
) -> None:
    source = Source(prometheus.port, "all")
    service = make_service(prometheus.url, matchers='env="all"')
    async with (
        source.going_on(),
        over(service) as overview,
    ):
        first = content(await service.get(View("1h"), max_age_seconds=0))
        assert "arrive late, or have ended" in first["source"]["notice"]
        found = await _until_behind(service, LATE - 20, LATE + 20, View("1h"))
        assert "Prometheus is 10 min behind" in found["source"]["notice"]
        now = await _told_all(overview)
        assert "Prometheus is 10 min behind" in now["sources"][0]["notes"][0]
        shown = cards(now)
        assert {shown[name]["state"] for name in ("queue_depth", "success_rate")} == {"fresh"}
        depth = float(shown["queue_depth"]["words"])
        as_of = shown["queue_depth"]["asOf"]
        assert (as_of - depth + 10) % 50 < 2 * EVERY + _BEHIND_SECONDS
        assert shown["queue_depth"]["note"] == shown["queue_depth"]["late"] == "10 min ago"
        assert float(shown["throughput"]["words"]) == pytest.approx(60, rel=_BEHIND_SECONDS / 300)
        assert shown["success_rate"]["words"] == "100.0 %"
        assert now["verdict"]["state"] == "healthy"
        behind = "; Prometheus is 10 min behind, so this was 10 min ago"
        assert now["verdict"]["reason"][1] == behind
        # Until now the figures of now may have been those from before the lateness was known.
        for panel in panels(await service.get(View("1h"), max_age_seconds=0)).values():
            assert panel["state"] == "fresh", panel["cause"]
            assert panel["now"]["late"] == "10 min ago"
            assert np.isfinite(_values(panel)[-12:]).all(), panel["id"]
        # It is known after a restart, at once.
        again = make_service(prometheus.url, matchers='env="all"')
        recalled = content(await again.get(View("1h"), max_age_seconds=0))
        assert "Prometheus is 10 min behind" in recalled["source"]["notice"]
        await again.aclose()

        source.late = {QUEUE: 0, JOBS: 0}
        found = await _until_behind(service, -1, 30, View("1h"))
        assert "behind" not in found["source"]["notice"]
        for panel in found["panels"]:
            assert np.isfinite(_values(panel)).all(), panel["id"]
        now = await read_overview(overview, 0)
        assert cards(now)["queue_depth"]["note"] == ""
        assert "behind" not in str(now["verdict"]["reason"])


async def test_metrics_that_are_later_than_the_others_say_so_and_leave_them_alone(
    prometheus: RealPrometheus, make_service: StartService, clock: Clock
) -> None:
    source = Source(prometheus.port, "some", late={QUEUE: 0, JOBS: LATE})
    service = make_service(prometheus.url, matchers='env="some"')
    async with (
        source.going_on(),
        over(service) as overview,
    ):
        until = time.monotonic() + PATIENCE_SECONDS
        while True:
            snapshot = await service.get(View("1h"), max_age_seconds=0)
            late, told_of = panels(snapshot)["success_rate"], content(snapshot)
            if "late" in late["note"]:
                break
            assert time.monotonic() < until, told_of["source"]
            await asyncio.sleep(0.5)
        found = panels(snapshot)
        assert "arrive 10 min late" in told_of["source"]["notice"]
        assert abs(time.time() - told_of["view"]["live"]) < 30
        assert np.isfinite(_values(found["queue_depth"])).all()
        assert "late" not in found["queue_depth"]["note"]
        ratio = np.array(_values(late))
        assert late["state"] == "fresh"
        assert np.isfinite(ratio[20:-13]).all()
        assert set(ratio[np.isfinite(ratio)].tolist()) == {100.0}
        now = await _told_all(overview)
        shown = cards(now)
        assert shown["queue_depth"]["note"] == ""
        assert float(shown["throughput"]["words"]) == pytest.approx(60, rel=_BEHIND_SECONDS / 300)
        assert "10 min ago" in shown["throughput"]["note"]
        assert abs(shown["queue_depth"]["asOf"] - shown["throughput"]["asOf"] - LATE) < 30
        assert now["verdict"]["state"] == "healthy"
        older = "; Success rate, P95 latency and Throughput were so 10 min ago"
        assert now["verdict"]["reason"][1] == older
        found = panels(await service.get(View("1h"), max_age_seconds=0))
        assert [found[name]["now"]["late"] for name in ("queue_depth", "success_rate")] == [
            "",
            "10 min ago",
        ]
        assert now["drain"]["state"] not in ("stalled", "growing")
        # What comes later corrects what was drawn.
        source.late[JOBS] = 0
        while (
            "late"
            in panels(await service.get(View("1h"), max_age_seconds=0))["success_rate"]["note"]
        ):
            assert time.monotonic() < until + PATIENCE_SECONDS
            await asyncio.sleep(0.5)
        found = panels(await service.get(View("1h"), max_age_seconds=0))
        assert np.isfinite(_values(found["success_rate"])).all()


async def test_samples_that_have_ended_are_not_late(
    prometheus: RealPrometheus, make_service: StartService
) -> None:
    await asyncio.to_thread(Source(prometheus.port, "ended").write, time.time())
    service = make_service(prometheus.url, matchers='env="ended"')
    until = time.monotonic() + PATIENCE_SECONDS
    while (
        "or have ended"
        in content(await service.get(View("1h"), max_age_seconds=0))["source"]["notice"]
    ):
        assert time.monotonic() < until
        await asyncio.sleep(0.5)
    found = content(await service.get(View("1h"), max_age_seconds=0))
    assert abs(time.time() - found["view"]["live"]) < 30
    assert found["source"]["notice"] == ""
    assert {panel["now"] for panel in found["panels"]} == {None}
    await service.aclose()


async def test_samples_that_become_late_are_noticed_without_a_question_of_their_own(
    prometheus: RealPrometheus,
) -> None:
    every, refresh, matchers = 15, 30, 'env="be$comes"'
    begin = int(time.time()) - 4 * LATE
    depth = labels_of({"__name__": "ai_agents_queue_depth", "env": "be$comes"})
    scrapes = Scrapes(Scrape(every, every), {"ai_agents_queue_depth": Scrape(every, every)})
    writer, written, now = RemoteWriter(prometheus.port), begin - every, float(begin)
    async with CountingProxy(prometheus.port) as proxy, PrometheusClient(proxy.url) as client:
        fetcher = PresentFetcher(client, matchers=matchers, clock=time.time)
        lateness = Lateness(client, matchers=matchers, clock=lambda: now)
        asked: list[int] = []
        while not lateness.late.behind_seconds:
            assert now < begin + 3 * LATE, asked
            late = 0 if now < begin + LATE else LATE
            due = [(depth, at, 7.0) for at in range(written + every, int(now - late) + 1, every)]
            writer.write(due)
            written = due[-1][1] if due else written
            proxy.asked.clear()
            if templates := lateness.templates(scrapes):
                queries = [PresentQuery(name, None, text) for name, text in templates.items()]
                found = (await fetcher.fetch(queries, scrapes, now)).found
                newest = {name: one.value for name, one in found.items() if one.value is not None}
                lateness.note_newest(newest, now)
            if lateness.has_news:
                await lateness.look(scrapes.by_metric, now)
            asked.append(proxy.asked["query"])
            now += refresh
    writer.close()
    assert lateness.late.behind_seconds == pytest.approx(LATE, abs=every + refresh)
    # What the last five minutes do not hold must be looked for; nothing else costs a question.
    assert set(asked[: LATE // refresh + LOOKBACK_DELTA_SECONDS // refresh]) == {1}


@dataclass(frozen=True)
class Case:
    """Samples are taken every 15 s; each arrives ``delay`` after it was taken, in batches of
    ``batch`` seconds. None are taken in ``outage``. ``late`` is what is to be learnt in the end.
    Those taken before ``since`` arrived at once.
    """

    late: tuple[float, float]
    delay: float = 0
    since: int = 0
    batch: int = 15
    outage: tuple[int, int] = (0, 0)


CASES = {
    "on_time": Case((0, 0)),
    "a_little_late": Case((0, 0), delay=12),
    "a_minute_late": Case((45, 75), delay=60),
    "ten_minutes_late": Case((585, 615), delay=600),
    "an_hour_late": Case((3_585, 3_615), delay=3_600),
    "becomes_late": Case((585, 615), delay=600, since=3_000),
    "batches": Case((270, 315), batch=300),
    "late_batches": Case((570, 630), delay=300, batch=300),
    "outage": Case((0, 0), outage=(4_000, 5_500)),
    "outage_of_late_samples": Case((585, 615), delay=600, outage=(4_000, 5_500)),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("look_seconds", [2, pytest.param(10, marks=pytest.mark.long), 30])
def test_lateness_is_learnt_from_samples_that_appear(name: str, look_seconds: int) -> None:
    case, every = CASES[name], 15
    taken = [t for t in range(0, 9_000, every) if not case.outage[0] <= t < case.outage[1]]
    # What was taken is sent when its batch is full.
    there = [
        (-(-t // case.batch) * case.batch + (case.delay if t >= case.since else 0), t)
        for t in taken
    ]
    arrivals = Arrivals(every)

    def newest(now: float, up_to: float) -> float | None:
        return max((t for at, t in there if at <= now and t <= up_to), default=None)

    begin = 3_700 if case.delay >= 3_600 else 1_000
    for now in range(begin, 9_000, look_seconds):
        seen = newest(now, now)
        assert seen is not None
        before = None
        if arrivals.at is not None and arrivals.must_ask_before(seen):
            before = newest(now, arrivals.at)
        arrivals.see(now, seen, before)
        if not case.outage[1]:
            continue
        if not case.delay:
            # An outage is never taken for a delay.
            assert not arrivals.late_seconds
    assert case.late[0] - look_seconds <= arrivals.late_seconds <= case.late[1] + look_seconds
    assert bool(arrivals.late_seconds) == bool(case.late[1])


def test_a_backlog_that_is_made_up_for_is_late_only_until_it_is() -> None:
    arrivals = Arrivals(15)
    for now in range(1_000, 2_000, 10):
        arrivals.see(now, now // 15 * 15)
    for now in range(2_000, 3_000, 10):
        arrivals.see(now, 1_995)
    for now in range(3_000, 3_300, 10):
        newest = now // 15 * 15
        arrivals.see(now, newest, 2_985 if arrivals.must_ask_before(newest) else None)
        assert not arrivals.late_seconds
