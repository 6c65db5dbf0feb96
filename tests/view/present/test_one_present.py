"""One present figure for card, verdict and the end of the curve, at every range."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pytest
from tests.real_prometheus import RealPrometheus, Samples
from tests.view.conftest import Clock, StartService, content

from queuescope.known import Known
from queuescope.panels import load_dashboard
from queuescope.view import View, ViewService
from queuescope.view.overview.overview import Overview
from queuescope.view.present.live_sources import (
    Failures,
    FigureOrigin,
    LiveFigure,
    LiveReport,
    LiveSource,
    LiveSources,
    NoLiveSources,
    PastOperations,
)

pytestmark = pytest.mark.anyio

SCRAPE = 15
NOW = int(time.time())
RANGES = ("1h", "6h", "24h", "7d")
CARDS = {"queue_depth": "queue_depth", "success_rate": "success_rate", "latency": "p95_latency"}
DASHBOARD = load_dashboard("ai-agents")


def incident(scene: str, ago: tuple[int, int], failing: float) -> Samples:
    """From ``ago`` seconds before now until ago: a share of the jobs fails, 388 jobs wait, of which
    360 are left since, and each takes between 10 and 30 minutes. They go on beyond now.
    """
    times = np.arange(NOW - 26 * 3600, NOW + 3 * 3600, SCRAPE, dtype=float)
    is_in = (times >= NOW - ago[0]) & (times < NOW - ago[1])
    depth = np.where(is_in, 388.0, np.where(times < NOW - ago[0], 3.0, 360.0))
    jobs = np.full(len(times), 10.0)
    failed = np.where(is_in, failing * jobs, 0.01 * jobs)
    found: dict[str, tuple[Any, Any]] = {
        f'ai_agents_queue_depth{{scene="{scene}",queue="a"}}': (times, depth),
    }
    for outcome, ended in (("succeeded", jobs - failed), ("failed", failed)):
        name = f'ai_agents_enhancement_jobs_total{{scene="{scene}",outcome="{outcome}"}}'
        found[name] = (times, ended.cumsum())
    slow = times >= NOW - ago[0]
    for le, share in (("600", ~slow), ("1800", True), ("+Inf", True)):
        name = f'ai_agents_enhancement_latency_seconds_bucket{{scene="{scene}",le="{le}"}}'
        found[name] = (times, (jobs * share).cumsum())
    return found


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealPrometheus]:
    series = {
        # Nothing has failed for six minutes; and what fails began ten minutes ago.
        **incident("over", (840, 360), 0.5),
        **incident("on", (600, -3 * 3600), 0.084),
    }
    with RealPrometheus(tmp_path_factory.mktemp("present"), series=series) as server:
        yield server


Services = tuple[ViewService, Overview]
Page = Callable[..., AbstractAsyncContextManager[Services]]


@pytest.fixture
def page(prometheus: RealPrometheus, make_service: StartService, clock: Clock) -> Page:
    """What charts and cards of one scene are made by."""

    @asynccontextmanager
    async def made(scene: str, live: LiveSources | None = None) -> AsyncIterator[Services]:
        matchers = f'scene="{scene}"'
        service = make_service(prometheus.url, matchers=matchers, live=live)
        try:
            yield service, service.overview
        finally:
            await service.aclose()

    return made


async def seen(
    made: Services, name: str, by: str | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The view of a range, and the overview of the same refresh."""
    view = content(await made[0].get(View(name, by=by), max_age_seconds=30))
    overview: dict[str, Any] = orjson.loads(await made[1].get(max_age_seconds=60))
    return view, overview


def agree(view: dict[str, Any], overview: dict[str, Any]) -> dict[str, str]:
    """By panel the words that heading, card, live end and finding have in common."""
    cards = {card["id"]: card for card in overview["kpis"]}
    findings = {f["rule"]: f["reason"][0] for f in overview["verdict"]["findings"]}
    words = {}
    for panel in view["panels"]:
        card = cards[CARDS[panel["id"]]]
        words[panel["id"]] = card["words"]
        assert panel["now"]["words"] == card["words"]
        assert panel["now"]["asOf"] == pytest.approx(card["asOf"], abs=1)
        name = "P95" if panel["id"] == "latency" else panel["title"]
        [end] = [trace for trace in panel["figure"]["data"] if trace["name"] == name]
        assert end["liveWords"] == card["words"]
        card_end = card["ends"][name]
        assert (card_end["words"], card_end["between"]) == (card["words"], end.get("liveBetween"))
        assert end["live"] == pytest.approx(card_end["value"], rel=1e-6)
        if card["level"] in ("warn", "bad"):
            assert card["words"] in findings[card["id"]]
        elif card["level"] == "good":
            assert card["id"] not in findings
    return words


@pytest.mark.parametrize(
    ("scene", "success", "found"),
    [
        ("over", "99.0 %", {"queue_depth", "p95_latency"}),
        ("on", "91.6 %", {"queue_depth", "p95_latency", "success_rate"}),
    ],
)
async def test_card_verdict_and_chart_tell_one_figure_at_every_range(
    scene: str, success: str, found: set[str], page: Page
) -> None:
    depth = "360" if scene == "over" else "388"
    async with page(scene) as made:
        for name in RANGES:
            view, overview = await seen(made, name)
            assert agree(view, overview) == {
                "queue_depth": depth,
                "success_rate": success,
                # With a wide bucket no more is known.
                "latency": "10–30 min",
            }
            rules = {one["rule"] for one in overview["verdict"]["findings"]}
            assert rules & {*CARDS.values()} == found
            [line] = view["panels"][0]["figure"]["data"]
            if scene == "over" and view["view"]["to"] < NOW - 500:
                # A worse value within the open step is shown beside it.
                assert (line["live"], line["soFar"]) == (360, 388)
            else:
                assert "soFar" not in line or line["soFar"] > line["live"]
            latency = view["panels"][2]["figure"]["data"]
            assert [trace["liveBetween"] for trace in latency] == [[600_000, 1_800_000]] * 3
        # A value of a breakdown ends with its own present figure.
        view, _ = await seen(made, "7d", by="queue")
        [line] = view["panels"][0]["figure"]["data"]
        assert (line["name"], line["liveWords"]) == ("a", depth)
    [card] = [card for card in overview["kpis"] if card["id"] == "success_rate"]
    assert card["beside"].startswith("9")


class Told(NoLiveSources):
    """The last reports of a broker and a job history."""

    def __init__(self, *sources: LiveSource) -> None:
        self._sources = sources

    def sources(self) -> tuple[LiveSource, ...]:
        return self._sources

    def past_operations(self) -> PastOperations | None:
        return None

    def failures(self) -> Known[Failures] | None:
        return None


def nearer(latency: LiveFigure) -> Told:
    rate = LiveFigure(93.3, beside=97.1)
    return Told(
        LiveSource(
            FigureOrigin.BROKER,
            Known(LiveReport({"queue_depth": LiveFigure(352.0)}), time.time()),
            frozenset({"queue_depth"}),
        ),
        LiveSource(
            FigureOrigin.JOB_HISTORY,
            Known(LiveReport({"success_rate": rate, "p95_latency": latency}), time.time()),
            frozenset({"success_rate", "p95_latency"}),
        ),
    )


async def test_the_whole_page_shows_the_exact_figures_of_broker_and_job_history(page: Page) -> None:
    exactly = {0.5: 610_000.0, 0.95: 680_000.0, 0.99: 692_000.0}
    live = nearer(LiveFigure(680_000.0, quantiles=exactly))
    async with page("on", live) as made:
        for name in RANGES:
            view, overview = await seen(made, name)
            assert agree(view, overview) == {
                "queue_depth": "352",
                "success_rate": "93.3 %",
                "latency": "11 min 20 s",
            }
            ends = {t["name"]: t["liveWords"] for t in view["panels"][2]["figure"]["data"]}
            assert ends == {"P50": "10 min 10 s", "P95": "11 min 20 s", "P99": "11 min 32 s"}
            origins = [panel["now"]["origin"] for panel in view["panels"]]
            assert origins == ["broker", "job_history", "job_history"]
    [card] = [card for card in overview["kpis"] if card["id"] == "success_rate"]
    assert card["beside"] == "97.1 % in 24 h"


async def test_without_recently_ended_jobs_there_is_no_latency_and_no_limit_is_broken(
    page: Page,
) -> None:
    live = nearer(LiveFigure(math.nan))
    async with page("on", live) as made:
        view, overview = await seen(made, "24h")
    latency = view["panels"][2]
    assert latency["now"] is None
    assert not any("live" in trace for trace in latency["figure"]["data"])
    [card] = [card for card in overview["kpis"] if card["id"] == "p95_latency"]
    assert (card["words"], card["state"]) == ("–", "idle")
    assert "p95_latency" not in {f["rule"] for f in overview["verdict"]["findings"]}


@pytest.mark.parametrize(
    ("watched_seconds", "newest", "state"),
    [
        # As the scrapes say, which reach further back than what was just begun to be watched.
        (10, (388, 388, 388), "steady"),
        # What the broker has seen and no scrape yet is no time at which the depth held.
        (10, (388, 450, 460), "unknown"),
        (90, (388, 450, 460), "unknown"),
        (90, (388, 388, 388), "steady"),
    ],
)
async def test_scrapes_do_not_contradict_what_the_broker_has_just_seen(
    watched_seconds: int, newest: tuple[int, int, int], state: str, page: Page
) -> None:
    now = time.time()
    moments = [now - ago for ago in range(watched_seconds, 4, -2)]
    depths = [*((at, 388.0) for at in moments), *zip((now - 4, now - 2, now), newest, strict=True)]
    broker, history = nearer(LiveFigure(math.nan)).sources()
    watched = broker.known.map(lambda report: replace(report, depths=tuple(depths)))
    live = Told(replace(broker, known=watched), history)
    async with page("on", live) as made:
        _, overview = await seen(made, "1h")
    assert overview["drain"]["state"] == state
