"""A partial query gives the same answer as the whole one, whatever has happened to the source
since.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.fault_server import http_response
from tests.faults.proxy import FaultProxy, alter, say
from tests.real_prometheus import RealPrometheus

from queuescope.panels import load_dashboard
from queuescope.prometheus import PrometheusClient
from queuescope.view.present.fetcher import Answers, PresentFetcher
from queuescope.view.present.present_value import PresentValue
from queuescope.view.present.quantile_buckets import WHOLE_SECONDS
from queuescope.view.present.queries import PresentQuery, figure_queries, flow_queries
from queuescope.view.source.scrapes import Scrape, Scrapes

pytestmark = pytest.mark.anyio

SCRAPE = 30
PIECE_SECONDS = 3_600
BEGIN = 1_700_000_000 // PIECE_SECONDS * PIECE_SECONDS
LAYOUT = ("0.1", "0.5", "1.0", "2.0", "5.0", "10.0", "20.0", "60.0", "120.0", "300.0", "+Inf")
OTHER_LAYOUT = ("0.2", "0.7", "1.5", "3.0", "7.0", "15.0", "40.0", "90.0", "200.0", "+Inf")
FINER_LAYOUT = (*LAYOUT[:4], "3.0", *LAYOUT[4:])

PIECES: tuple[tuple[str, tuple[str, ...], float, float], ...] = (
    # A name, the buckets, how long jobs take (seconds), and how many fail of ten.
    ("usual", LAYOUT, 3.0, 1),
    ("alike", LAYOUT, 3.4, 2),
    ("next bucket", LAYOUT, 7.0, 1),
    ("much slower", LAYOUT, 100.0, 9),
    ("beyond all buckets", LAYOUT, 1_000.0, 9),
    ("much faster", LAYOUT, 0.05, 0),
    ("no job", LAYOUT, -1.0, 0),
    ("other buckets", OTHER_LAYOUT, 3.0, 1),
    ("finer buckets", FINER_LAYOUT, 3.0, 1),
    ("fewer buckets", ("2.0", "300.0", "+Inf"), 3.0, 1),
    ("no buckets", (), 3.0, 1),
)
NAMES = [name for name, *_ in PIECES]
DASHBOARD = load_dashboard("ai-agents")
QUERIES = (*figure_queries(DASHBOARD), *flow_queries(DASHBOARD))
SCRAPES = Scrapes(Scrape(SCRAPE, SCRAPE), left_open=False)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def middle_of(piece: str) -> float:
    return float(BEGIN + (NAMES.index(piece) + 0.5) * PIECE_SECONDS)


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealPrometheus]:
    """An hour of each of ``PIECES``, one after another."""
    series: dict[str, tuple[list[float], list[float]]] = {}

    def add(text: str, times: Any, values: Any) -> None:
        at, what = series.setdefault(text, ([], []))
        at.extend(times)
        what.extend(values)

    for number, (_, buckets, seconds, failed) in enumerate(PIECES):
        start = BEGIN + number * PIECE_SECONDS
        times = np.arange(start, start + PIECE_SECONDS, SCRAPE, dtype=float)
        jobs = np.arange(len(times), dtype=float) * (10 if seconds >= 0 else 0)
        for le in buckets:
            below = float(le) >= seconds
            add(f'ai_agents_enhancement_latency_seconds_bucket{{le="{le}"}}', times, jobs * below)
        for outcome, of_ten in (("succeeded", 10 - failed), ("failed", failed)):
            # As clients do, who make a series with its first sample.
            if of_ten:
                name = f'ai_agents_enhancement_jobs_total{{outcome="{outcome}"}}'
                add(name, times, jobs * of_ten / 10)
        add('ai_agents_queue_depth{queue="a"}', times, np.arange(len(times)) % 7)
    directory = tmp_path_factory.mktemp("questions")
    with RealPrometheus(directory, series=series) as server:
        yield server


@pytest.fixture
async def proxy(prometheus: RealPrometheus) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(prometheus.port) as proxy:
        yield proxy


@pytest.fixture
async def client(proxy: FaultProxy) -> AsyncIterator[PrometheusClient]:
    async with PrometheusClient(f"http://127.0.0.1:{proxy.port}") as client:
        yield client


def fetcher(client: PrometheusClient, clock: Clock | None = None) -> PresentFetcher:
    return PresentFetcher(client, matchers="", clock=clock or Clock())


async def each_by_itself(
    client: PrometheusClient, piece: str, scrapes: Scrapes = SCRAPES
) -> dict[str, PresentValue]:
    """The answer of a source to the whole query."""
    found: dict[str, PresentValue] = {}
    for question in QUERIES:
        alone = replace(question, ended=None)
        answers = await fetcher(client).fetch([alone], scrapes, middle_of(piece))
        found |= answers.found
    return found


def same(found: Answers, expected: dict[str, PresentValue]) -> bool:
    assert not found.failed
    assert found.found.keys() == expected.keys()
    for name, figure in expected.items():
        mine = found.found[name]
        assert (mine.as_of, mine.cause, mine.warnings) == (figure.as_of, "", ())
        if figure.value is None:
            assert mine.value is None, name
        else:
            assert mine.value == pytest.approx(figure.value, rel=1e-12, nan_ok=True), name
    return True


def narrow(proxy: FaultProxy) -> list[bool]:
    """For each latency query, whether it selected buckets."""
    return ["le=~" in r.query for r in proxy.seen if "latency_seconds_bucket" in r.query]


@pytest.mark.parametrize(
    ("piece", "asked"),
    [
        ("usual", [True]),
        ("alike", [True]),
        # The choice has one more bucket on each side.
        ("next bucket", [True]),
        ("much slower", [True, False]),
        ("beyond all buckets", [True, False]),
        ("much faster", [True, False]),
        ("no job", [True]),
        ("other buckets", [True, False]),
        ("fewer buckets", [True, False]),
        ("no buckets", [True, False]),
    ],
)
async def test_every_figure_is_the_one_that_all_questions_would_give(
    client: PrometheusClient, proxy: FaultProxy, piece: str, asked: list[bool]
) -> None:
    expected = await each_by_itself(client, piece)
    made = fetcher(client)
    await made.fetch(QUERIES, SCRAPES, middle_of("usual"))
    proxy.forget()
    found = await made.fetch(QUERIES, SCRAPES, middle_of(piece))
    assert narrow(proxy) == asked
    assert same(found, expected)
    # And so it goes on from what was learnt there.
    assert same(await made.fetch(QUERIES, SCRAPES, middle_of(piece)), expected)


async def test_finer_buckets_are_seen_when_all_are_asked_for_again(
    client: PrometheusClient, proxy: FaultProxy
) -> None:
    clock = Clock()
    made = fetcher(client, clock)
    await made.fetch(QUERIES, SCRAPES, middle_of("usual"))
    coarse = (await made.fetch(QUERIES, SCRAPES, middle_of("finer buckets"))).found["latency"]
    clock.now += WHOLE_SECONDS
    proxy.forget()
    found = await made.fetch(QUERIES, SCRAPES, middle_of("finer buckets"))
    assert narrow(proxy) == [False]
    assert same(found, await each_by_itself(client, "finer buckets"))
    # Until then it is what the known buckets tell: 95 % of the way from 2 s to 5 s, not to 3 s.
    assert coarse.value == pytest.approx(4_850)
    assert found.found["latency"].value == pytest.approx(2_950)


async def test_from_part_of_an_answer_no_buckets_are_chosen(
    client: PrometheusClient, proxy: FaultProxy
) -> None:
    def half(body: bytes) -> bytes:
        return http_response(body.rstrip()[:-1] + b',"warnings":["a store did not answer"]}')

    made = fetcher(client)
    proxy.spoil(alter(half))
    part = await made.fetch(QUERIES, SCRAPES, middle_of("usual"))
    assert {figure.warnings for figure in part.found.values()} == {("a store did not answer",)}
    await proxy.heal()
    proxy.forget()
    whole = await made.fetch(QUERIES, SCRAPES, middle_of("usual"))
    assert narrow(proxy) == [False]
    assert same(whole, await each_by_itself(client, "usual"))


async def test_an_outage_between_two_queries_only_affects_uncertain_quantiles(
    client: PrometheusClient, proxy: FaultProxy
) -> None:
    made = fetcher(client)
    await made.fetch(QUERIES, SCRAPES, middle_of("usual"))
    proxy.spoil(
        say(http_response(b"{}", status="500 Internal Server Error")),
        lambda request: "le=~" not in request.query,
    )
    found = await made.fetch(QUERIES, SCRAPES, middle_of("much slower"))
    assert found.failed.keys() == {"latency"}
    assert found.found.keys() == {question.name for question in QUERIES} - {"latency"}


async def test_where_no_jobs_are_counted_their_end_is_not_asked_for_in_vain_each_time(
    client: PrometheusClient, proxy: FaultProxy
) -> None:
    """Success rate and throughput use their own queries, and the joint one again later."""
    clock = Clock()
    made = fetcher(client, clock)
    never = BEGIN - PIECE_SECONDS
    lengths = []
    for seconds in (0.0, 10.0, 600.0):
        clock.now += seconds
        proxy.forget()
        found = await made.fetch(QUERIES, SCRAPES, never)
        lengths.append(['"ended:"' in request.query for request in proxy.seen])
        assert {figure.value for figure in found.found.values()} == {None}
    assert lengths == [[True, False], [False], [True, False]]


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("sum$le_by(rate(x_bucket{$matchers}[$recent]))", True),
        ("sum$le_by(rate(x_bucket{${matchers}}[$recent]))", True),
        # The other selector has no buckets, and would find nothing any more.
        ("sum$le_by(rate(x_bucket{$matchers}[5m])) unless on() (off{$matchers} == 1)", False),
        ("sum by (le) (rate(x_bucket[5m]))", False),
    ],
)
def test_buckets_are_chosen_where_they_are_all_that_a_question_selects(
    template: str, *, expected: bool
) -> None:
    latency = next(panel for panel in DASHBOARD.panels if panel.quantiles)
    assert PresentQuery("latency", latency, template).is_of_buckets is expected
    assert not PresentQuery("depth", DASHBOARD.panels[0], template).is_of_buckets
