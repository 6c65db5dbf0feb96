"""What is measured of the scrapes makes the drawn peaks those of the samples themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.real_prometheus import RealPrometheus, Samples

from queuescope.panels import Resolution, load_dashboard, render
from queuescope.prometheus import PrometheusClient
from queuescope.timeseries import Grid
from queuescope.view.source.facts import fetch_facts

pytestmark = pytest.mark.anyio

SCRAPE = 15
START = 1_700_006_400  # a whole hour


@pytest.mark.parametrize("phase", [0.0, 0.4, 6.3, 7.5, 14.7])
async def test_the_peaks_are_those_of_the_sums_of_the_samples_whenever_they_are_scraped(
    tmp_path: Path, phase: float
) -> None:
    """Recomputed here from the samples in (t - step, t]; scrapes come up to 30 ms off."""
    random = np.random.default_rng(5)
    jitter = random.integers(-30, 31, 4 * 240) / 1000 if phase else np.zeros(4 * 240)
    times = START + np.arange(4 * 240) * SCRAPE + phase + jitter
    depths = random.integers(0, 60, (3, len(times))).astype(float)
    samples: Samples = {
        f'ai_agents_queue_depth{{queue="{queue}"}}': (times, depths[queue]) for queue in range(3)
    }
    now = float(times[-1]) + 1
    with RealPrometheus(tmp_path, series=samples) as server:
        client = PrometheusClient(server.url)
        facts = await fetch_facts(client, ("ai_agents_queue_depth",), "", now)
        assert facts.scrape_interval_seconds == SCRAPE
        panel = load_dashboard("ai-agents").panels[0]
        for step in (60, 300, 900):
            resolution = Resolution(
                step, SCRAPE, facts.left_open, facts.scrapes["ai_agents_queue_depth"].phase_seconds
            )
            query = render(panel.query, resolution)
            grid = Grid.covering(START + step, START + 3 * 3600, step)
            found = await client.query_range(query, grid)
            total = depths.sum(axis=0)
            expected = [total[(times > t - step) & (times <= t)].max() for t in grid.timestamps()]
            assert found.frame.values.tolist() == [expected], (phase, step)
        await client.aclose()
