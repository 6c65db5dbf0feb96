"""New bucket bounds while jobs continue: a break, and no false quantile."""

from __future__ import annotations

import base64
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.real_prometheus import RealPrometheus, Samples
from tests.view.conftest import StartService, panels

from queuescope.view import View

pytestmark = pytest.mark.anyio

SCRAPE = 15
NOW = int(time.time())
CHANGE = NOW // 300 * 300 - 3_000 + 70
OLD = {"1": 0, "10": 1, "+Inf": 1}
NEW = {"5": 1, "60": 1, "+Inf": 1}
"""All jobs take 4 s: with the old bounds P95 is 9.55 s, with the new ones 4.75 s."""


def buckets(*, both_seconds: int) -> Samples:
    """Workers of the old release end ``both_seconds`` after those of the new one start."""
    series: dict[str, Any] = {}
    for release, bounds, start, end in (
        ("old", OLD, NOW - 6_000, CHANGE + both_seconds),
        ("new", NEW, CHANGE, NOW + 600),
    ):
        times = np.arange(start // SCRAPE * SCRAPE, end, SCRAPE)
        for bound, share in bounds.items():
            name = "ai_agents_enhancement_latency_seconds_bucket"
            series[f'{name}{{le="{bound}",release="{release}"}}'] = (
                times,
                np.arange(len(times), dtype=float) * share,
            )
    return series


def p95(panel: dict[str, Any]) -> tuple[Any, Any]:
    trace = next(one for one in panel["figure"]["data"] if one["name"] == "P95")
    dtype = {"f4": "<f4", "f8": "<f8"}[trace["y"]["dtype"]]
    values = np.frombuffer(base64.b64decode(trace["y"]["bdata"]), dtype)
    return (trace["x0"] + np.arange(len(values)) * trace["dx"]) / 1000, values


@pytest.mark.parametrize("both_seconds", [0, 900])
@pytest.mark.parametrize("step", [15, 60, 300])
async def test_every_quantile_drawn_is_that_of_one_of_the_layouts(
    both_seconds: int, step: int, tmp_path: Path, make_service: StartService
) -> None:
    view = View(None, NOW - 5_400, NOW - 300, step)
    with RealPrometheus(tmp_path / "p", series=buckets(both_seconds=both_seconds)) as server:
        service = make_service(server.url, scrape_interval_seconds=SCRAPE)
        for _ in ("cold", "warm"):
            panel = panels(await service.get(view, max_age_seconds=0))["latency"]
            times, values = p95(panel)
            drawn = ~np.isnan(values)
            before = times < CHANGE
            after = times > CHANGE + both_seconds + step + 60
            np.testing.assert_allclose(values[drawn & before], 9_550, rtol=1e-6)
            np.testing.assert_allclose(values[drawn & after], 4_750, rtol=1e-6)
            assert not drawn[~before & ~after & (times < CHANGE + both_seconds)].any()
            assert set(np.round(values[drawn], 1)) == {9_550.0, 4_750.0}
            # A break, but no longer than the mixture.
            assert drawn[before].sum() >= before.sum() - 2
            assert drawn[after].sum() >= after.sum() - 60 // step - 2
            assert CHANGE - step - 60 <= panel["relaidAt"] <= CHANGE + step + 60
        await service.aclose()
