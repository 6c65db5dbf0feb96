"""One read for all viewers, the last good data in an outage, and true texts throughout."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import brotli
import numpy as np
import pytest
from tests.real_prometheus import RealPrometheus
from tests.view.conftest import (
    SCRAPE,
    Clock,
    CountingProxy,
    StartService,
    content,
    panels,
)

from queuescope.cache import FrameStore
from queuescope.panels import Dashboard, load_dashboard
from queuescope.view import Snapshot, View, ViewService
from queuescope.view import service as service_module

pytestmark = pytest.mark.anyio

HOUR = View("1h")
FOREVER = 1e9


@pytest.fixture
async def proxy(prometheus: RealPrometheus) -> AsyncIterator[CountingProxy]:
    async with CountingProxy(prometheus.port) as proxy:
        yield proxy


@asynccontextmanager
async def _closing(service: ViewService) -> AsyncIterator[ViewService]:
    try:
        yield service
    finally:
        await service.aclose()


def values_of(panel: dict[str, Any], curve: int = 0) -> list[float]:
    packed = panel["figure"]["data"][curve]["y"]
    found: list[float] = np.frombuffer(
        base64.b64decode(packed["bdata"]), f"<{packed['dtype']}"
    ).tolist()
    return found


def _states(snapshot: Snapshot) -> set[str]:
    return {panel["state"] for panel in panels(snapshot).values()}


async def test_the_numbers_drawn_are_those_of_the_samples(
    prometheus: RealPrometheus, make_service: StartService
) -> None:
    async with _closing(make_service(prometheus.url)) as service:
        snapshot = await service.get(HOUR, max_age_seconds=FOREVER)
    found = panels(snapshot)
    assert snapshot.complete
    assert _states(snapshot) == {"fresh"}
    assert values_of(found["queue_depth"]) == [12.0] * 61
    np.testing.assert_allclose(values_of(found["success_rate"]), 90, rtol=1e-6)
    for curve, expected in enumerate((1000, 1900, 1980)):
        np.testing.assert_allclose(values_of(found["latency"], curve), expected, rtol=1e-6)
    assert [found[name]["now"]["words"] for name in found] == ["12", "90.0 %", "1–2 s"]
    assert found["latency"]["nowLabel"] == "P95 now"


async def test_the_compressed_body_is_the_same_content(
    prometheus: RealPrometheus, make_service: StartService
) -> None:
    async with _closing(make_service(prometheus.url)) as service:
        snapshot = await service.get(HOUR, max_age_seconds=FOREVER)
    assert brotli.decompress(snapshot.body_brotli) == snapshot.body


async def test_the_scrape_interval_and_the_version_are_found_out(
    prometheus: RealPrometheus, make_service: StartService
) -> None:
    async with _closing(make_service(prometheus.url)) as service:
        found = content(await service.get(HOUR, max_age_seconds=FOREVER))
    assert found["scrapeInterval"] == SCRAPE
    assert found["source"]["version"].startswith("2.")
    assert found["view"] == {
        "range": "1h", "from": found["view"]["to"] - 3600, "to": found["view"]["to"], "step": 60,
        "stepWords": "1 min", "by": None, "follows": True, "live": found["view"]["live"],
    }  # fmt: skip
    assert 0 < found["view"]["live"] - found["view"]["to"] < 60


async def test_however_many_ask_at_once_each_panel_is_asked_for_once(
    proxy: CountingProxy, make_service: StartService
) -> None:
    async with _closing(make_service(proxy.url)) as service:
        taken = await asyncio.gather(
            *(service.get(HOUR, max_age_seconds=FOREVER) for _ in range(100))
        )
    assert len({id(snapshot) for snapshot in taken}) == 1
    assert proxy.asked["query_range"] == 3


async def test_a_viewer_who_leaves_does_not_take_the_snapshot_from_the_others(
    proxy: CountingProxy, make_service: StartService
) -> None:
    async with _closing(make_service(proxy.url)) as service:
        leaving = asyncio.create_task(service.get(HOUR, max_age_seconds=FOREVER))
        staying = asyncio.create_task(service.get(HOUR, max_age_seconds=FOREVER))
        await asyncio.sleep(0)
        leaving.cancel()
        assert (await staying).complete
    assert proxy.asked["query_range"] == 3


async def test_a_snapshot_is_shared_until_it_is_too_old(
    proxy: CountingProxy, make_service: StartService, clock: Clock
) -> None:
    async with _closing(make_service(proxy.url)) as service:
        first = await service.get(HOUR, max_age_seconds=60)
        asked = proxy.asked.copy()
        clock.offset_seconds = 50
        assert await service.get(HOUR, max_age_seconds=60) is first
        assert service.held(HOUR, 60) is first
        assert proxy.asked == asked
        assert service.held(HOUR, 40) is None
        second = await service.get(HOUR, max_age_seconds=40)
        assert second is not first
        assert second.taken_at > first.taken_at
        assert proxy.asked != asked


async def test_a_clock_that_is_set_back_does_not_keep_old_data_young(
    proxy: CountingProxy, make_service: StartService, clock: Clock
) -> None:
    async with _closing(make_service(proxy.url)) as service:
        first = await service.get(HOUR, max_age_seconds=60)
        clock.offset_seconds = -7200
        assert service.held(HOUR, 60) is None
        second = await service.get(HOUR, max_age_seconds=60)
        assert second is not first
        assert content(second)["source"]["offset"] == pytest.approx(7200, abs=5)
        assert content(second)["view"]["to"] >= content(first)["view"]["to"]


@pytest.mark.parametrize("fault", ["refuse", "swallow"])
async def test_in_an_outage_the_last_data_stay_with_their_age_and_the_cause(
    fault: str, proxy: CountingProxy, make_service: StartService, clock: Clock
) -> None:
    async with _closing(make_service(proxy.url, timeout_seconds=10)) as service:
        good = await service.get(HOUR, max_age_seconds=60)
        assert good.complete
        await getattr(proxy, fault)()
        clock.offset_seconds = 61
        stale = await service.get(HOUR, max_age_seconds=60)
        assert not stale.complete
        assert service.held(HOUR, 60) is None
        assert _states(stale) == {"stale"}
        source = content(stale)["source"]
        assert not source["reachable"]
        assert source["kind"] == {"refuse": "cannot_connect", "swallow": "timeout"}[fault]
        assert source["cause"]
        assert source["failingSince"] > source["lastSeen"]
        for name, panel in panels(stale).items():
            before = panels(good)[name]
            assert panel["asOf"] == before["asOf"] < stale.taken_at - 50
            assert panel["now"] == before["now"] | {"state": "stale", "cause": source["cause"]}
            assert panel["cause"] == source["cause"]
            # What is held of the range, which has moved on by a step.
            assert values_of(panel) == values_of(before)[-len(values_of(panel)) :]
            assert len(values_of(panel)) >= 59
        await proxy.serve()
        # The client leaves a source that is away alone for a moment.
        while not (recovered := await service.get(HOUR, max_age_seconds=60)).complete:
            clock.offset_seconds += 10
            await asyncio.sleep(0.05)
        assert content(recovered)["source"]["reachable"]
        assert content(recovered)["source"]["failingSince"] is None


async def test_a_range_that_was_never_seen_shows_nothing_invented_in_an_outage(
    proxy: CountingProxy, make_service: StartService
) -> None:
    async with _closing(make_service(proxy.url)) as service:
        await proxy.refuse()
        snapshot = await service.get(View("6h"), max_age_seconds=60)
    for panel in panels(snapshot).values():
        assert panel["state"] == "unavailable"
        assert panel["cause"]
        assert (panel["asOf"], panel["now"]) == (None, None)
        assert np.isnan(values_of(panel)).all()


async def test_after_a_restart_in_an_outage_the_data_are_still_there(
    proxy: CountingProxy, make_service: StartService, tmp_path: Path, stores: list[FrameStore]
) -> None:
    """The text of the queries depends on what was learnt of the source: it must survive too."""
    async with _closing(make_service(proxy.url)) as service:
        good = await service.get(HOUR, max_age_seconds=60)
    assert list((tmp_path / "cache").glob("source-*.json"))
    stores[-1].flush()
    await proxy.refuse()
    async with _closing(make_service(proxy.url)) as service:
        stale = await service.get(HOUR, max_age_seconds=60)
    assert _states(stale) == {"stale"}
    assert content(stale)["scrapeInterval"] == SCRAPE
    for name, panel in panels(stale).items():
        assert values_of(panel)[-60:-1] == values_of(panels(good)[name])[-60:-1]
        assert panel["asOf"] == panels(good)[name]["asOf"]


async def test_in_an_outage_the_source_is_asked_once_for_all_views(
    proxy: CountingProxy, make_service: StartService, clock: Clock
) -> None:
    async with _closing(make_service(proxy.url, timeout_seconds=4)) as service:
        await service.get(HOUR, max_age_seconds=60)
        await proxy.swallow()
        clock.offset_seconds = 61
        await service.get(HOUR, max_age_seconds=1)
        assert service.source.contact.error is not None
        proxy.asked.clear()
        clock.offset_seconds = 70
        views = [
            View(name, step_seconds=step) for name in ("1h", "6h", "24h") for step in (None, 1800)
        ]
        await asyncio.gather(*(service.get(view, max_age_seconds=1) for view in views * 5))
    assert sum(proxy.asked.values()) == 1


async def test_an_incomplete_snapshot_is_shared_for_a_moment(
    proxy: CountingProxy,
    make_service: StartService,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(service_module, "_SOURCE_FAILED_SECONDS", 60.0)
    async with _closing(make_service(proxy.url)) as service:
        await proxy.refuse()
        first = await service.get(HOUR, max_age_seconds=1)
        taken = [await service.get(HOUR, max_age_seconds=1) for _ in range(20)]
        assert all(snapshot is first for snapshot in taken)
        clock.offset_seconds = 61
        assert await service.get(HOUR, max_age_seconds=1) is not first


def _with(panel_id: str, **changes: Any) -> Dashboard:
    dashboard = load_dashboard("ai-agents")
    changed = [replace(p, **changes) if p.id == panel_id else p for p in dashboard.panels]
    return replace(dashboard, panels=tuple(changed))


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"query": "sum(", "now": "sum("}, "refused by the source"),
        ({"query": "ai_agents_queue_depth", "now": "ai_agents_queue_depth"}, "gives 2 series"),
    ],
)
async def test_one_panel_that_fails_does_not_take_the_others_along(
    changes: dict[str, str], kind: str, prometheus: RealPrometheus, make_service: StartService
) -> None:
    dashboard = _with("queue_depth", **changes)
    async with _closing(make_service(prometheus.url, dashboard=dashboard)) as service:
        snapshot = await service.get(HOUR, max_age_seconds=60)
    found = panels(snapshot)
    assert [panel["state"] for panel in found.values()] == ["unavailable", "fresh", "fresh"]
    assert not snapshot.complete
    assert content(snapshot)["source"]["reachable"]
    assert found["queue_depth"]["cause"]
    assert found["queue_depth"]["now"] is None
    assert np.isnan(values_of(found["queue_depth"])).all()
    if "series" in kind:
        assert kind in found["queue_depth"]["cause"]


@pytest.mark.parametrize(
    ("offset", "expected"),
    [
        (5430, "The clock of Prometheus is 1 h 30 min behind this server's. "),
        (-110, "The clock of Prometheus is 1 min "),
        (2, ""),
    ],
)
async def test_a_different_clock_is_reported_and_the_range_follows_prometheus(
    offset: int, expected: str, prometheus: RealPrometheus, make_service: StartService, clock: Clock
) -> None:
    clock.offset_seconds = offset
    began = time.time()
    async with _closing(make_service(prometheus.url)) as service:
        found = content(await service.get(HOUR, max_age_seconds=60))
    took_seconds = time.time() - began
    notice = found["source"]["notice"]
    assert notice.startswith(expected)
    assert ("behind" in notice, "ahead" in notice) == (offset > 5, offset < -5)
    assert found["source"]["offset"] == pytest.approx(-offset, abs=2 + took_seconds)
    assert began - 62 < found["view"]["to"] <= time.time()


async def test_a_breakdown_shows_the_worst_values_and_names_panels_without_the_label(
    prometheus: RealPrometheus, make_service: StartService
) -> None:
    async with _closing(make_service(prometheus.url, breakdown_limit=1)) as service:
        by_tenant = panels(await service.get(View("1h", by="tenant"), max_age_seconds=60))
        by_queue = panels(await service.get(View("1h", by="queue"), max_age_seconds=60))
    assert by_tenant["queue_depth"]["note"] == "not reported by tenant"
    assert values_of(by_tenant["queue_depth"]) == [12.0] * 61
    assert (by_tenant["success_rate"]["hidden"], by_tenant["latency"]["hidden"]) == (1, 1)
    names = [trace["name"] for trace in by_tenant["latency"]["figure"]["data"]]
    assert names == ["&lt;b&gt;globex&lt;/b&gt;"]
    assert [trace["name"] for trace in by_queue["queue_depth"]["figure"]["data"]] == ["b"]
    assert values_of(by_queue["queue_depth"]) == [7.0] * 61
    # The jobs here carry no label `queue`.
    assert by_queue["latency"]["state"] != "fresh"
    assert by_queue["latency"]["figure"]["data"] == []


async def test_an_empty_panel_is_explained(
    prometheus: RealPrometheus, make_service: StartService
) -> None:
    async with _closing(make_service(prometheus.url, matchers='env="prod"')) as service:
        found = panels(await service.get(HOUR, max_age_seconds=60))
    assert found["queue_depth"]["state"] == "fresh"
    assert found["latency"]["state"] == "empty"
    assert 'label filter {env="prod"} matches no series' in found["latency"]["cause"]
    assert found["latency"]["now"] is None


async def test_the_search_for_a_reason_is_not_made_with_every_refresh(
    proxy: CountingProxy, make_service: StartService
) -> None:
    async with _closing(make_service(proxy.url, matchers='env="prod"')) as service:
        await service.get(HOUR, max_age_seconds=0)
        searched = proxy.asked["series"]
        found = panels(await service.get(HOUR, max_age_seconds=0))
    assert searched > 0
    assert proxy.asked["series"] == searched
    assert "matches no series" in found["latency"]["cause"]


async def test_a_range_without_a_job_is_idle_and_not_zero(
    prometheus: RealPrometheus, make_service: StartService
) -> None:
    # Both: the present value stands in for an open step without a sample.
    nothing = "0 * sum$by(ai_agents_queue_depth) / 0"
    dashboard = replace(_with("success_rate", query=nothing, now=nothing), ended=None)
    async with _closing(make_service(prometheus.url, dashboard=dashboard)) as service:
        snapshot = await service.get(HOUR, max_age_seconds=60)
    found = panels(snapshot)["success_rate"]
    assert found["state"] == "idle"
    assert "nothing to measure" in found["cause"]
    assert np.isnan(values_of(found)).all()
    assert snapshot.complete


async def test_facts_that_cannot_be_kept_cost_nothing_but_a_restart(
    prometheus: RealPrometheus, make_service: StartService, tmp_path: Path
) -> None:
    (tmp_path / "cache").write_text("a file in the place of the directory")
    async with _closing(make_service(prometheus.url)) as service:
        assert (await service.get(HOUR, max_age_seconds=60)).complete


async def test_views_are_forgotten_before_they_fill_the_memory(
    prometheus: RealPrometheus, make_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("queuescope.view.service.MAX_VIEWS", 2)
    views = [View("1h", step_seconds=step) for step in (600, 900, 1800)]
    async with _closing(make_service(prometheus.url)) as service:
        for view in views:
            await service.get(view, max_age_seconds=60)
        assert [service.held(view, 60) is not None for view in views] == [False, True, True]
