"""A whole snapshot, and what is learnt about the source, from each kind of server."""

from __future__ import annotations

import base64
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.engines import ENGINES, running
from tests.view.conftest import SCRAPE, StartService, content, panels, platform_samples

from queuescope.panels import load_dashboard
from queuescope.view import View

pytestmark = pytest.mark.anyio


def _values(panel: dict[str, Any], curve: int = 0) -> list[float]:
    packed = panel["figure"]["data"][curve]["y"]
    found: list[float] = np.frombuffer(
        base64.b64decode(packed["bdata"]), f"<{packed['dtype']}"
    ).tolist()
    return found


@pytest.mark.parametrize("engine", ENGINES)
async def test_the_page_is_the_same_on_each_kind_of_server(
    engine: str, tmp_path: Path, make_service: StartService
) -> None:
    samples = platform_samples(int(time.time()))
    with running(engine, tmp_path / "engine", samples, prefix="/metrics") as server:
        service = make_service(server.url, timeout_seconds=30)
        try:
            for name in ("1h", "6h", "24h", "7d"):
                snapshot = await service.get(View(name), max_age_seconds=600)
                assert snapshot.complete
                found = panels(snapshot)
                assert {panel["state"] for panel in found.values()} == {"fresh"}
                # The newest point but one: VictoriaMetrics may repeat the newest.
                newest = {name: _values(panel)[-2] for name, panel in found.items()}
                assert newest["queue_depth"] == 12
                assert newest["success_rate"] == pytest.approx(90)
                assert newest["latency"] == pytest.approx(1000)  # the median: half are below 1 s
                assert found["queue_depth"]["now"]["words"].startswith("12")
                assert found["success_rate"]["now"]["words"].startswith("90")
            assert content(snapshot)["scrapeInterval"] == SCRAPE
            split = panels(await service.get(View("1h", by="tenant"), max_age_seconds=600))
            assert len(split["success_rate"]["figure"]["data"]) >= 2
        finally:
            await service.aclose()


@pytest.mark.parametrize("engine", ENGINES)
async def test_an_empty_panel_is_explained_on_each_kind_of_server(
    engine: str, tmp_path: Path, make_service: StartService
) -> None:
    now = int(time.time())
    series = {'ai_agents_queue_depths{queue="a"}': ([now - 60, now - 30, now], [1.0, 2.0, 3.0])}
    dashboard = load_dashboard("ai-agents")
    with running(engine, tmp_path / "engine", series) as server:
        service = make_service(server.url, dashboard=dashboard, timeout_seconds=30)
        try:
            found = panels(await service.get(View("1h"), max_age_seconds=60))
        finally:
            await service.aclose()
    assert found["queue_depth"]["state"] == "empty"
    assert found["queue_depth"]["cause"] == (
        "Prometheus has no metric ai_agents_queue_depth. "
        "The nearest names are ai_agents_queue_depths."
    )
