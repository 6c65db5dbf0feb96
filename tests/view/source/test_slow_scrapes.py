"""Scrapes as slow as a plain selector looks back: between two of them, and where one is lost,
nothing has ended.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator

import numpy as np
import pytest
from tests.engines import ENGINES, holding
from tests.remote_write import ENDED, Sample
from tests.view.conftest import Clock, StartService, content, panels
from tests.view.overview.test_overview import cards, over, read_overview
from tests.view.test_service import values_of

from queuescope.timeseries import labels_of
from queuescope.view import View

pytestmark = pytest.mark.anyio

HISTORY, AHEAD = 5 * 3600, 540
INTERVALS = (60, 150, 180, 300, 600)
_LOST_EVERY = 8
"""Of so many scrapes one is lost."""

RENAMED_EVERY = 300
RENAMED_AGO = 2 * 3600 + 10
GAUGES = {"queue_depth": 7.0, "workers_up": 3.0, "queue_oldest_age_seconds": 4.0}


def _samples(now: int) -> Iterator[Sample]:
    for every in INTERVALS:
        env = f"every_{every}"
        # The next scrape is due, and a few seconds late; where they are frequent it is there.
        newest = now - every - 10 if every > INTERVALS[0] else now + AHEAD
        for number in range(HISTORY // every):
            at = newest - number * every
            if number % _LOST_EVERY == _LOST_EVERY - 1:
                continue
            for name, value in GAUGES.items():
                yield labels_of({"__name__": f"ai_agents_{name}", "env": env}), at, value
            jobs = {"__name__": "ai_agents_enhancement_jobs_total", "outcome": "succeeded"}
            yield labels_of({**jobs, "env": env}), at, float(at - now + 2 * HISTORY)
            for le in ("1", "2", "+Inf"):
                name = "ai_agents_enhancement_latency_seconds_bucket"
                labels = labels_of({"__name__": name, "env": env, "le": le})
                yield labels, at, float(at - now + 2 * HISTORY)
    yield from _renamed(now)


def _renamed(now: int) -> Iterator[Sample]:
    """An exporter that returned under another name, which it still has."""
    before, after = (
        labels_of({"__name__": "ai_agents_queue_depth", "env": "renamed", "instance": name})
        for name in ("old:1", "new:1")
    )
    renamed = now - RENAMED_AGO
    for at in range(renamed - HISTORY // 2, renamed, RENAMED_EVERY):
        yield before, at, 80.0
    yield before, renamed, ENDED
    for at in range(renamed, now - RENAMED_EVERY, RENAMED_EVERY):
        yield after, at, 80.0


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture(scope="module")
def url(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with holding(engine, tmp_path_factory.mktemp(engine), list(_samples(int(time.time())))) as url:
        yield url


@pytest.mark.parametrize(
    "every",
    [
        # Between those of the others.
        pytest.param(every, marks=pytest.mark.long if every in (150, 300) else ())
        for every in INTERVALS
    ],
)
async def test_between_two_slow_scrapes_every_figure_stays(
    url: str, every: int, make_service: StartService, clock: Clock
) -> None:
    matchers = f'env="every_{every}"'
    service = make_service(url, matchers=matchers)
    async with over(service) as overview:
        for view in (View("1h"), View("6h")):
            snapshot = await service.get(view, max_age_seconds=0)
            assert content(snapshot)["source"]["notice"] == ""
            for name, panel in panels(snapshot).items():
                assert panel["state"] == panel["now"]["state"] == "fresh", (name, panel["cause"])
                # The six hours begin before the samples do.
                drawn = values_of(panel)[len(values_of(panel)) // 3 :]
                assert np.isfinite(drawn).all(), (name, drawn)
        depth = panels(snapshot)["queue_depth"]
        assert set(values_of(depth)[-12:]) == {7.0}
        now = await read_overview(overview)
    for name, card in cards(now).items():
        spark = np.frombuffer(base64.b64decode(card["spark"]["values"]), np.float32)
        of_history = spark[-len(spark) * HISTORY // 2 // 86_400 :]
        assert np.isfinite(of_history).all(), (name, of_history)
    assert {name: card["state"] for name, card in cards(now).items()} == dict.fromkeys(
        cards(now), "fresh"
    )
    assert cards(now)["queue_depth"]["words"] == "7"
    assert now["verdict"]["state"] == "healthy"


async def test_an_exporter_with_a_new_name_counts_once_if_queries_set_the_lookback(
    url: str, engine: str, make_service: StartService, clock: Clock
) -> None:
    service = make_service(url, matchers='env="renamed"')
    async with over(service) as overview:
        depth = panels(await service.get(View("6h"), max_age_seconds=0))["queue_depth"]
        now = cards(await read_overview(overview))["queue_depth"]
    assert (now["state"], now["words"]) == (depth["now"]["state"], depth["now"]["words"])
    assert (now["state"], now["words"]) == ("fresh", "80")
    drawn = np.array(values_of(depth))
    assert np.isfinite(drawn[len(drawn) // 3 :]).all()
    # Where queries cannot set it, the former name counts until the lookback is over.
    doubled = {160.0} if engine == "prometheus-2" else set()
    assert set(drawn[np.isfinite(drawn)].tolist()) == {80.0} | doubled
