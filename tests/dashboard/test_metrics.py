"""The dashboard's own metrics: named in the documentation, bounded, and there before the first."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from tests.real_prometheus import RealPrometheus
from tests.view.conftest import CountingProxy

from queuescope.cache import FrameStore
from queuescope.dashboard.metrics import OpenPages, OwnMetrics
from queuescope.errors import SourceErrorKind
from queuescope.panels import load_dashboard
from queuescope.prometheus import PrometheusClient
from queuescope.telemetry import RequestKind
from queuescope.timeseries import LookupStatus
from queuescope.view import View, ViewService
from queuescope.view.charts.schedule import MAX_WATCHED
from queuescope.view.source.facts import FactsFile

pytestmark = pytest.mark.anyio

DOCUMENT = Path(__file__).parents[2] / "docs" / "metrics.md"
HOUR = View("1h")


class Stage:
    """A service whose work is counted, on a Prometheus behind a proxy that counts as well."""

    def __init__(self, proxy: CountingProxy, directory: Path) -> None:
        self.proxy = proxy
        self.metrics = OwnMetrics()
        self.now = 1_000.0
        client = PrometheusClient(proxy.url, telemetry=self.metrics, clock=lambda: self.now)
        store = FrameStore(None, max_points=1_000_000)
        self.service = ViewService(
            client,
            store,
            FactsFile(directory),
            load_dashboard("ai-agents"),
            matchers="",
            scrape_interval_seconds=0,
            breakdown_limit=8,
            horizon_seconds=300,
            clock=lambda: self.now,
            telemetry=self.metrics,
        )
        self.metrics.export_state_of(self.service, store, lambda: client.breaker_state)

    def families(self) -> dict[str, Metric]:
        text = self.metrics.render()[0].decode()
        return {family.name: family for family in text_string_to_metric_families(text)}

    def value(self, name: str, **labels: str) -> float | None:
        """None where there is no such sample."""
        for family in self.families().values():
            for sample in family.samples:
                if sample.name == name and sample.labels == labels:
                    return sample.value
        return None

    def total(self, name: str, **labels: str) -> float:
        return sum(
            sample.value
            for family in self.families().values()
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )


@pytest.fixture
async def stage(prometheus: RealPrometheus, tmp_path: Path) -> AsyncIterator[Stage]:
    async with CountingProxy(prometheus.port) as proxy:
        stage = Stage(proxy, tmp_path)
        yield stage
        await stage.service.aclose()


def documented() -> dict[str, tuple[str, set[str]]]:
    """Name to kind and labels, as the table has them."""
    part = DOCUMENT.read_text("utf-8").partition("## From the dashboard itself")[2]
    rows = re.findall(r"^\| `(queuescope_\w+)` \| (\w+) \| ([^|]+) \|", part, re.MULTILINE)
    return {
        name: (kind, set() if labels == "–" else set(labels.split(", ")))
        for name, kind, labels in rows
    }


async def test_each_metric_is_documented_with_its_kind_and_labels(
    stage: Stage,
) -> None:
    stage.service.watch((await stage.service.get(HOUR, max_age_seconds=60)).view, 60)
    found: dict[str, tuple[str, set[str]]] = {}
    for family in stage.families().values():
        if family.name.endswith("_created"):
            continue
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = {name for sample in family.samples for name in sample.labels} - {"le"}
        found[name] = (family.type, labels)
    assert found == documented()


async def test_counters_start_at_zero_and_unknown_values_are_absent(
    stage: Stage,
) -> None:
    for kind in RequestKind:
        for outcome in ("ok", *SourceErrorKind):
            found = stage.value("queuescope_upstream_queries_total", kind=kind, outcome=outcome)
            assert found == 0
        assert stage.value("queuescope_upstream_query_duration_seconds_count", kind=kind) == 0
    for status in LookupStatus:
        assert stage.value("queuescope_cache_lookups_total", status=status) == 0
    for name in ("snapshot_joins", "cache_dropped_files", "cache_disk_failures"):
        assert stage.value(f"queuescope_{name}_total") == 0
    assert stage.value("queuescope_cache_points") == 0
    assert stage.value("queuescope_viewers") == 0
    assert stage.value("queuescope_source_up") == 0
    assert stage.value("queuescope_source_last_answer_age_seconds") is None
    assert stage.families()["queuescope_data_age_seconds"].samples == []


async def test_as_many_queries_are_counted_as_were_sent(stage: Stage) -> None:
    await stage.service.get(HOUR, max_age_seconds=60)
    await stage.service.get(View("6h", by="tenant"), max_age_seconds=60)
    sent = stage.proxy.asked
    queries = "queuescope_upstream_queries_total"
    assert stage.total(queries) == sum(sent.values())
    for kind in ("query", "query_range", "series"):
        assert stage.value(queries, kind=kind, outcome="ok") == sent[kind]
    seconds = "queuescope_upstream_query_duration_seconds_count"
    assert stage.total(seconds) == sum(sent.values())
    assert stage.value("queuescope_cache_lookups_total", status="key_miss") == 6
    assert (stage.value("queuescope_cache_points") or 0) > 3 * 60
    assert stage.value("queuescope_refresh_duration_seconds_count", occasion="viewer") == 2


async def test_an_outage_is_counted_by_its_kind_and_the_data_age_grows(stage: Stage) -> None:
    await stage.service.get(HOUR, max_age_seconds=60)
    stage.service.watch(HOUR, 60)
    assert stage.value("queuescope_source_up") == 1
    assert stage.value("queuescope_source_breaker_state", state="closed") == 1
    before = stage.value("queuescope_data_age_seconds", panel="latency")
    await stage.proxy.refuse()
    stage.now += 61
    await stage.service.get(HOUR, max_age_seconds=60)
    assert stage.total("queuescope_upstream_queries_total", outcome="cannot_connect") >= 1
    assert stage.value("queuescope_source_up") == 0
    assert stage.value("queuescope_source_breaker_state", state="closed") == 0
    assert stage.total("queuescope_source_breaker_state") == 1
    assert stage.value("queuescope_cache_lookups_total", status="source_error") == 3
    after = stage.value("queuescope_data_age_seconds", panel="latency")
    assert before is not None
    assert after is not None
    # By the source's clock, which goes on: the last query may be somewhat later.
    assert before + 31 < after < before + 62


async def test_the_metrics_do_not_grow_with_the_views(stage: Stage) -> None:
    await stage.service.get(HOUR, max_age_seconds=60)
    before = stage.metrics.render()[0].count(b"\n")
    for step in range(60, 60 + MAX_WATCHED + 5):
        view = View("1h", step_seconds=step)
        await stage.service.get(view, max_age_seconds=60)
        stage.service.watch(view, 60)
    assert stage.value("queuescope_watched_views") == MAX_WATCHED
    assert stage.metrics.render()[0].count(b"\n") == before + 3


@given(
    st.lists(
        st.tuples(
            st.integers(0, 1_000), st.sampled_from("abc"), st.sampled_from([10, 30, 60, 300])
        ),
        max_size=50,
    ),
    st.integers(0, 2_000),
)
def test_a_page_counts_once_for_two_intervals_after_it_last_asked(
    polls: list[tuple[int, str, int]], now: int
) -> None:
    clock = [0.0]
    open_pages = OpenPages(lambda: clock[0])
    last: dict[str, tuple[int, int]] = {}
    for at, page, interval in sorted(poll for poll in polls if poll[0] <= now):
        clock[0] = at
        open_pages.polled(page, interval)
        last[page] = (at, interval)
    clock[0] = now
    assert open_pages.count() == sum(now - at <= 2 * interval for at, interval in last.values())
