"""The client against a real Prometheus with known samples."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator

import numpy as np
import pytest
from tests.conftest import StartPrometheus
from tests.real_prometheus import RealPrometheus

from queuescope.errors import ConfigurationError, SourceError, SourceErrorKind
from queuescope.panels import Resolution
from queuescope.prometheus import PrometheusClient, promql
from queuescope.timeseries import Grid, labels_of, sampled

pytestmark = pytest.mark.anyio

SCRAPE = 15
END = int(time.time()) // 3600 * 3600 - 3600
TIMES = np.arange(END - 3 * 86_400, END + 1, SCRAPE)
DEPTH = np.arange(len(TIMES), dtype=float)
UNDEFINED_FROM = END - 3600

RULES = """\
groups:
- name: queue
  interval: 1s
  rules:
  - {record: "queue:depth:sum", expr: "vector(7)"}
  - alert: AlwaysThere
    expr: vector(1) > 0
    labels: {severity: page}
    annotations: {summary: "it is <there>"}
"""


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealPrometheus]:
    directory = tmp_path_factory.mktemp("prometheus")
    rules = directory / "rules.yml"
    rules.write_text(RULES, "utf-8")
    quiet = np.where(TIMES >= UNDEFINED_FROM, np.nan, 1.0)
    server = RealPrometheus(
        directory,
        series={
            'depth{queue="a"}': (TIMES, DEPTH),
            'depth{queue="b"}': (TIMES[:100], np.full(100, 5.0)),
            "ratio": (TIMES, quiet),
            "endless": (TIMES[-3:], np.array([np.inf, -np.inf, 1.0])),
        },
        rule_files=[rules],
        targets=["127.0.0.1:1"],
    )
    with server:
        yield server


@pytest.fixture
async def client(prometheus: RealPrometheus) -> AsyncIterator[PrometheusClient]:
    async with PrometheusClient(prometheus.url) as client:
        yield client


async def test_an_instant_query_gives_values_at_a_time_in_label_order(
    client: PrometheusClient,
) -> None:
    at = float(TIMES[50])
    answer = await client.query("depth", at=at)
    assert answer.kind == "vector"
    assert [
        (labels_of({"__name__": "depth", "queue": "a"}), at, 50.0),
        (labels_of({"__name__": "depth", "queue": "b"}), at, 5.0),
    ] == [(s.labels, s.timestamp, s.value) for s in answer.samples]


async def test_an_instant_query_keeps_infinities_and_nan(client: PrometheusClient) -> None:
    values = [(await client.query("endless", at=float(at))).samples[0].value for at in TIMES[-3:-1]]
    undefined = await client.query("ratio", at=float(END))
    assert [np.inf, -np.inf] == values
    assert np.isnan(undefined.samples[0].value)


async def test_a_range_query_gives_the_samples_on_the_grid(client: PrometheusClient) -> None:
    grid = Grid(END - 86_400, END, 900)
    frame = (await client.query_range("depth", grid)).frame
    assert (labels_of({"__name__": "depth", "queue": "a"}),) == frame.series
    expected = DEPTH[np.searchsorted(TIMES, grid.timestamps())]
    assert expected.tolist() == frame.values[0].tolist()


async def test_missing_samples_are_gaps_and_undefined_ones_are_known_to_exist(
    client: PrometheusClient,
) -> None:
    grid = Grid(UNDEFINED_FROM - 60, UNDEFINED_FROM + 60, 60)
    ratio = (await client.query_range("ratio", grid)).frame.values
    assert [v if v == v else None for v in ratio[0].tolist()] == [1.0, None, None]  # noqa: PLR0124
    assert sampled(ratio).all()

    end_of_b = int(TIMES[99])
    grid = Grid.covering(end_of_b, end_of_b + 600, 300)
    b = (await client.query_range('depth{queue="b"}', grid)).frame.values
    assert not sampled(b)[0, -1]


async def test_a_query_of_more_steps_than_prometheus_allows_is_split(
    client: PrometheusClient,
) -> None:
    grid = Grid(END - 2 * 86_400, END, 5)
    frame = (await client.query_range('depth{queue="a"}', grid)).frame
    assert len(grid) > 3 * 11_000
    expected = DEPTH[np.searchsorted(TIMES, grid.timestamps(), side="right") - 1]
    assert expected.tolist() == frame.values[0].tolist()


async def test_the_steps_of_a_split_query_are_all_asked_for_at_the_limit(
    client: PrometheusClient,
) -> None:
    for steps in (10_999, 11_000, 11_001, 22_000, 22_001):
        grid = Grid(END - (steps - 1) * 5, END, 5)
        frame = (await client.query_range("vector(1)", grid)).frame
        assert steps == len(grid) == int(frame.values.sum())


async def test_now_is_the_clock_of_the_server(client: PrometheusClient) -> None:
    before = time.time()
    now = await client.now()
    assert before - 1 <= now <= time.time() + 1


async def test_the_server_is_asked_whether_its_ranges_hold_their_left_end(
    client: PrometheusClient,
) -> None:
    version = (await client.buildinfo()).version
    left_open = await client.ranges_are_left_open()
    assert (int(version.split(".")[0]) >= 3) == left_open


async def test_windows_of_neighbouring_steps_count_each_sample_once(
    client: PrometheusClient,
) -> None:
    window = Resolution(3600, SCRAPE, await client.ranges_are_left_open()).window(3600)
    grid = Grid(END - 4 * 3600, END, 3600)
    query = f'count_over_time(depth{{queue="a"}}[{window}])'
    counts = (await client.query_range(query, grid)).frame.values
    assert counts.tolist() == [[3600 / SCRAPE] * 5]


@pytest.mark.parametrize(
    "text", ['plain "quoted" \\ back', "line\nfeed\ttab\r\x00\x7f", "Zürich – 東京 😀", "a`b'c{}"]
)
async def test_a_quoted_value_means_the_same_text_to_the_server(
    client: PrometheusClient, text: str
) -> None:
    quoted = promql.quote(text)
    answer = await client.query(f'label_replace(vector(1), "x", {quoted}, "", "")')
    assert {"x": text} == dict(answer.samples[0].labels)


async def test_series_and_labels_are_found_by_selector_and_time(client: PrometheusClient) -> None:
    everything = (float(TIMES[0]), float(END))
    assert (
        labels_of({"__name__": "depth", "queue": "a"}),
        labels_of({"__name__": "depth", "queue": "b"}),
    ) == await client.series(["depth"], *everything)
    assert await client.label_values("queue", ["depth"], *everything) == ("a", "b")
    assert await client.series(["depth"], 0, 86_400) == ()
    names = await client.label_values("__name__", [], *everything)
    assert {"depth", "ratio"} <= set(names)


async def test_a_label_name_cannot_become_a_path(client: PrometheusClient) -> None:
    with pytest.raises(ConfigurationError, match="not a label name"):
        await client.label_values("../query", [], 0, 1)


async def test_rules_and_alerts_are_read(client: PrometheusClient) -> None:
    deadline = time.monotonic() + 120
    alerts = await client.alerts()
    while not alerts:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)
        alerts = await client.alerts()
    assert [(a.state, a.labels["severity"], a.annotations["summary"]) for a in alerts] == [
        ("firing", "page", "it is <there>")
    ]
    (group,) = await client.rules()
    assert [(rule.name, rule.type) for rule in group.rules] == [
        ("queue:depth:sum", "recording"),
        ("AlwaysThere", "alerting"),
    ]


@pytest.mark.parametrize(
    ("query", "kind", "message"),
    [
        ("depth{", SourceErrorKind.BAD_DATA, "Prometheus refused this query as wrong"),
        (
            "depth * on() depth",
            SourceErrorKind.EXECUTION,
            "Prometheus could not compute this query",
        ),
    ],
)
async def test_a_wrong_query_is_told_apart_from_one_that_cannot_be_computed(
    client: PrometheusClient, query: str, kind: SourceErrorKind, message: str
) -> None:
    with pytest.raises(SourceError) as caught:
        await client.query(query, at=float(TIMES[50]))
    assert (kind, message) == (caught.value.kind, str(caught.value))
    assert caught.value.detail.startswith("HTTP 4")


async def test_a_frozen_killed_and_restarted_prometheus_is_told_apart(
    start_prometheus: StartPrometheus,
) -> None:
    server = start_prometheus(series={"depth": (TIMES[-10:], DEPTH[-10:])})
    async with (
        PrometheusClient(server.url) as client,
        PrometheusClient(server.url, timeout_seconds=2.5) as impatient,
    ):
        assert len((await client.query("depth", at=float(END))).samples) == 1

        server.stop()
        with pytest.raises(SourceError, match=r"within 2\.5 s$") as caught:
            await impatient.query("depth")
        assert SourceErrorKind.TIMEOUT is caught.value.kind

        server.kill()
        with pytest.raises(SourceError, match="does not accept connections") as caught:
            await client.query("depth")
        assert SourceErrorKind.CANNOT_CONNECT is caught.value.kind

        server.start()
        assert len((await client.query("depth", at=float(END))).samples) == 1


async def test_a_proxy_of_the_environment_is_not_used(
    client: PrometheusClient, prometheus: RealPrometheus, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    assert "http_proxy" in os.environ
    async with PrometheusClient(prometheus.url) as unproxied:
        assert (await unproxied.query("vector(1)")).samples
