"""The queries to Prometheus do not depend on the number of viewers."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.dashboard.conftest import RunningDashboard
from tests.real_prometheus import RealPrometheus
from tests.view.conftest import CountingProxy

pytestmark = pytest.mark.anyio

REFRESH = 10
REFRESHES = 3
VIEWERS = 100
_NOW_AND_THEN = 5
PATH = f"/queuescope/view?range=24h&refresh={REFRESH}"


@dataclass(frozen=True)
class Seen:
    """One answer: when what it shows was taken, and how old that was."""

    taken_at: float
    age_seconds: float
    body: bytes


async def ask(client: httpx2.AsyncClient, path: str) -> Seen:
    answer = await client.get(path)
    assert answer.status_code == 200
    taken_at = json.loads(answer.content)["takenAt"]
    return Seen(taken_at, float(answer.headers["queuescope-now"]) - taken_at, answer.content)


async def view_page(client: httpx2.AsyncClient, chance: random.Random) -> list[Seen]:
    """A page that opens at some time, asks when it is due, and is never quite punctual."""
    await asyncio.sleep(chance.uniform(0, 3))
    path = f"{PATH}&age={REFRESH}&page={chance.random()}"
    seen = [await ask(client, path)]
    for _ in range(REFRESHES):
        await asyncio.sleep(REFRESH - seen[-1].age_seconds + chance.uniform(0, 0.5))
        seen.append(await ask(client, path))
    return seen


async def open_pages(
    running: RunningDashboard, proxy: CountingProxy, viewers: int
) -> tuple[list[list[Seen]], Counter[str]]:
    """The answers for each of ``viewers``, and the queries to Prometheus meanwhile."""
    limits = httpx2.Limits(max_connections=viewers)
    url = f"http://127.0.0.1:{running.port}"
    async with httpx2.AsyncClient(base_url=url, limits=limits, timeout=30) as client:
        # Whatever has been read before, all begin with this snapshot.
        await ask(client, f"{PATH}&age=1")
        proxy.asked.clear()
        crowd = [view_page(client, random.Random(number)) for number in range(viewers)]
        seen = await asyncio.gather(*crowd)
    return list(seen), proxy.asked.copy()


async def test_a_hundred_viewers_cost_prometheus_as_much_as_one(
    prometheus: RealPrometheus, tmp_path: Path
) -> None:
    directories = [tmp_path / "one", tmp_path / "many"]
    async with CountingProxy(prometheus.port) as first, CountingProxy(prometheus.port) as second:
        dashboards = []
        try:
            for directory, proxy in zip(directories, (first, second), strict=True):
                directory.mkdir()
                dashboards.append(
                    await asyncio.to_thread(
                        RunningDashboard, directory, proxy.url, prometheus_timeout_seconds="30"
                    )
                )
            # What is read ahead after the start is asked for once and is no viewer's cost.
            for proxy in (first, second):
                while proxy.asked["query_range"] < 4 * 3:  # noqa: ASYNC110 - it has no event for it
                    await asyncio.sleep(0.1)
            (alone, asked_by_one), (crowd, asked_by_many) = await asyncio.gather(
                open_pages(dashboards[0], first, 1), open_pages(dashboards[1], second, VIEWERS)
            )
            metrics = (await asyncio.to_thread(dashboards[1].ask, "/metrics")).text
        finally:
            for dashboard in dashboards:
                dashboard.close()
    for pages in (alone, crowd):
        for seen in pages:
            assert len({answer.taken_at for answer in seen}) == REFRESHES + 1
            assert all(0 <= answer.age_seconds <= 2 * REFRESH for answer in seen)
    answers = [answer for seen in crowd for answer in seen]
    moments = {answer.taken_at for answer in answers}
    assert len({answer.body for answer in answers}) == len(moments)

    assert sum(asked_by_one.values()) >= REFRESHES
    # If the machine is so busy that a page misses a refresh of the others, it has one more. What is
    # read every few minutes may be due while only one of the two is watched.
    assert len(moments) <= REFRESHES + 2
    assert sum(asked_by_many.values()) <= _NOW_AND_THEN + sum(asked_by_one.values()) * (
        (len(moments) - 1) / REFRESHES
    )

    values = {
        sample.name: sample.value
        for family in text_string_to_metric_families(metrics)
        for sample in family.samples
        if not sample.labels
    }
    assert values["queuescope_viewers"] == VIEWERS
    assert values["queuescope_watched_views"] == 1
