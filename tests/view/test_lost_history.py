"""A server that was restarted, with its data or without, and another one behind its address."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from _pytest.mark import ParameterSet
from tests.engines import RealVictoriaMetrics, program
from tests.real_prometheus import RealPrometheus, Samples
from tests.view.conftest import Clock, CountingProxy, StartService, panels

from queuescope.cache import FrameStore
from queuescope.view import View, ViewService

pytestmark = pytest.mark.anyio

ENGINES = ["prometheus-2", "prometheus-3", "victoria-metrics"]
SCRAPE = 60
HOUR = 3_600


def depth_samples(now: float, value: float) -> Samples:
    """One queue, sampled for six hours; the last hour is the same whatever the ``value``."""
    times = np.arange(now // SCRAPE * SCRAPE - 6 * HOUR, now, SCRAPE)
    depth = np.where(times < now - HOUR, value, 1.0)
    return {'ai_agents_queue_depth{queue="a"}': (times, depth)}


class Stage:
    """One address; behind it the first server, and later another."""

    def __init__(self, engine: str, directory: Path, clock: Clock) -> None:
        self._engine = engine
        self._directory = directory
        self.now = clock()
        self.server = self._server("first", 5.0)
        self.server.start()

    def _server(self, name: str, value: float | None) -> RealPrometheus | RealVictoriaMetrics:
        series = {} if value is None else depth_samples(self.now, value)
        if self._engine == "victoria-metrics":
            return RealVictoriaMetrics(self._directory / name, series)
        return RealPrometheus(self._directory / name, series=series, program=program(self._engine))

    def exchange(self, proxy: CountingProxy, value: float | None) -> None:
        """Another server with other samples, or none."""
        self.server.kill()
        self.server = self._server("second", value)
        self.server.start()
        proxy.lead_to(int(self.server.url.rpartition(":")[2]))

    def close(self) -> None:
        self.server.kill()


@pytest.fixture(params=ENGINES)
def stage(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Stage]:
    stage = Stage(request.param, tmp_path / "servers", clock)
    yield stage
    stage.close()


def depth(panel: dict[str, Any]) -> list[float]:
    """What the chart of the queue's depth draws."""
    [trace] = panel["figure"]["data"]
    dtype = {"f4": "<f4", "f8": "<f8"}[trace["y"]["dtype"]]
    drawn: list[float] = np.frombuffer(base64.b64decode(trace["y"]["bdata"]), dtype).tolist()
    return drawn


def past_view(now: float) -> View:
    """Two hours that ended long ago: what is read of them is final at once."""
    end = int(now) // HOUR * HOUR - 2 * HOUR
    return View(None, end - 2 * HOUR, end, 300)


VIEWS = {"follows the present": View("6h"), "wholly past": None}


async def reading(service: ViewService, view: View) -> dict[str, Any]:
    return panels(await service.get(view, max_age_seconds=0))["queue_depth"]


def _cells() -> Iterator[ParameterSet]:
    """All together; without ``--long`` each two of them together."""
    for value, which, warm in product((9.0, None), VIEWS, (True, False)):
        is_in_part = ((value is None) + (VIEWS[which] is None) + warm) % 2
        yield pytest.param(
            *(value, which, warm),
            id=f"{'no' if value is None else 'other'} samples-{which}-{'warm' if warm else 'cold'}",
            marks=() if is_in_part else pytest.mark.long,
        )


@pytest.mark.parametrize(("value", "which", "warm"), list(_cells()))
async def test_the_history_shown_is_that_of_the_server_that_answers_now(
    stage: Stage,
    *,
    which: str,
    value: float | None,
    warm: bool,
    make_service: StartService,
    stores: list[FrameStore],
    clock: Clock,
) -> None:
    view = VIEWS[which] or past_view(stage.now)
    async with CountingProxy(int(stage.server.url.rpartition(":")[2])) as proxy:
        service = make_service(proxy.url, scrape_interval_seconds=SCRAPE)
        assert 5.0 in depth(await reading(service, view))
        stage.exchange(proxy, value)
        if not warm:
            await service.aclose()
            stores[-1].flush()
            service = make_service(proxy.url, scrape_interval_seconds=SCRAPE)
        clock.offset_seconds += 61
        panel = await reading(service, view)
        await service.aclose()
    if value is None:
        assert panel["state"] == "empty"
    else:
        drawn = [v for v in depth(panel) if not np.isnan(v)]
        assert 9.0 in drawn
        assert 5.0 not in drawn


@pytest.mark.parametrize("engine", ["prometheus-2", "prometheus-3"])
async def test_a_restart_without_loss_reads_history_once_and_then_only_the_edge(
    engine: str, tmp_path: Path, make_service: StartService, clock: Clock
) -> None:
    directory = tmp_path / "server"
    view = past_view(clock())
    with RealPrometheus(
        directory, series=depth_samples(clock(), 5.0), program=program(engine)
    ) as server:
        async with CountingProxy(server.port) as proxy:
            service = make_service(proxy.url, scrape_interval_seconds=SCRAPE)
            before = depth(await reading(service, view))
            server.kill()
            server.start()
            clock.offset_seconds += 2
            proxy.asked.clear()
            assert depth(await reading(service, view)) == before
            assert proxy.asked["query_range"] >= 1
            clock.offset_seconds += 2
            proxy.asked.clear()
            assert depth(await reading(service, view)) == before
            assert proxy.asked["query_range"] == 0
            await service.aclose()
