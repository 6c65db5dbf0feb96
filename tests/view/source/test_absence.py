"""Each reason for an empty panel, on a real Prometheus."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from tests.ports import free_port
from tests.real_prometheus import RealPrometheus

from queuescope.panels import Panel, load_dashboard
from queuescope.prometheus import PrometheusClient
from queuescope.timeseries import Grid
from queuescope.view.source.absence import Absence, explain_absence, unmeasured_words

pytestmark = pytest.mark.anyio

NOW = int(time.time())
FIRST = (NOW - 2 * 86_400) // 300 * 300
LAST = FIRST + 86_400
DEPTH, SUCCESS, _ = load_dashboard("ai-agents").panels


@pytest.fixture(scope="module")
def down_target() -> str:
    return f"127.0.0.1:{free_port()}"


@pytest.fixture(scope="module")
def prometheus(
    tmp_path_factory: pytest.TempPathFactory, down_target: str
) -> Iterator[RealPrometheus]:
    times = np.arange(FIRST, LAST + 1, 60)
    server = RealPrometheus(
        tmp_path_factory.mktemp("prometheus"),
        series={
            'ai_agents_queue_depth{queue="a",env="prod"}': (times, np.ones(len(times))),
            'ai_agents_queue_length{queue="a"}': (times, np.ones(len(times))),
            "unlike": (times, np.ones(len(times))),
            'ai_agents_enhancement_jobs_total{outcome="failed"}': (times, np.ones(len(times))),
        },
        targets=[down_target],
    )
    with server:
        yield server


async def _absence(prometheus: RealPrometheus, panel: Panel, matchers: str, grid: Grid) -> Absence:
    async with PrometheusClient(prometheus.url) as client:
        return await explain_absence(client, panel, matchers, grid, float(NOW))


async def _explain(prometheus: RealPrometheus, panel: Panel, matchers: str, grid: Grid) -> str:
    absence = await _absence(prometheus, panel, matchers, grid)
    # Only a metric that was never there is unknown.
    assert absence.is_unknown is ("no metric" in absence.words)
    return absence.words


async def _until_down(prometheus: RealPrometheus) -> None:
    async with PrometheusClient(prometheus.url) as client:
        while not (await client.query("up == 0")).samples:
            time.sleep(0.05)  # noqa: ASYNC251 - nothing else runs here


def _hours(start: float, end: float) -> Grid:
    return Grid.covering(start, end, 300)


async def test_an_unknown_metric_is_reported_with_the_nearest_names(
    prometheus: RealPrometheus,
) -> None:
    panel = replace(DEPTH, metrics=("ai_agent_queue_depth",))
    text = await _explain(prometheus, panel, "", _hours(FIRST, LAST))
    assert text.startswith(
        "Prometheus has no metric ai_agent_queue_depth. The nearest names are ai_agents_queue_depth"
    )
    assert "ai_agents_queue_length" in text
    assert "unlike" not in text


async def test_an_unknown_metric_that_resembles_none_is_reported_alone(
    prometheus: RealPrometheus, down_target: str
) -> None:
    panel = replace(DEPTH, metrics=("zzz", "yyy"))
    await _until_down(prometheus)
    text = await _explain(prometheus, panel, "", _hours(FIRST, LAST))
    assert text == (f"Prometheus has no metric zzz or yyy. Prometheus cannot scrape {down_target}.")


async def test_a_prometheus_without_any_metric_is_reported_as_such(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with RealPrometheus(tmp_path_factory.mktemp("bare")) as bare:
        absence = await _absence(bare, DEPTH, "", _hours(FIRST, LAST))
    assert absence.words.startswith("Prometheus has no metrics at all yet.")
    assert unmeasured_words([DEPTH, SUCCESS], [absence, absence]) == absence.words


async def test_metrics_missing_for_all_panels_are_reported_once(
    prometheus: RealPrometheus, down_target: str
) -> None:
    panels = [
        replace(DEPTH, metrics=("ai_agent_queue_depth", "ai_agents_queue_dept")),
        replace(DEPTH, metrics=("ai_agents_queue_dept", "zzz")),
        replace(SUCCESS, metrics=("yyy", "xxx", "www")),
    ]
    await _until_down(prometheus)
    absences = [await _absence(prometheus, panel, "", _hours(FIRST, LAST)) for panel in panels]
    assert all(absence.is_unknown for absence in absences)
    text = unmeasured_words(panels, absences)
    assert text.startswith(
        "Prometheus has none of the metrics that the charts read: ai_agent_queue_depth, "
        "ai_agents_queue_dept, zzz, yyy and 2 more. The nearest names are ai_agents_queue_"
    )
    assert text.endswith(f". Prometheus cannot scrape {down_target}.")
    assert text.count("ai_agents_queue_depth") == text.count("cannot scrape") == 1


async def test_a_label_filter_that_matches_nothing_is_reported(prometheus: RealPrometheus) -> None:
    text = await _explain(prometheus, DEPTH, 'env="dev"', _hours(FIRST, LAST))
    assert text == (
        'The label filter {env="dev"} matches no series of ai_agents_queue_depth. '
        "Widen the setting “selector”."
    )


async def test_a_range_before_the_first_sample_is_reported_with_its_time(
    prometheus: RealPrometheus,
) -> None:
    text = await _explain(prometheus, DEPTH, 'env="prod"', _hours(FIRST - 7200, FIRST - 3600))
    # The first sample is looked for in steps of five minutes.
    moments = {
        datetime.fromtimestamp(FIRST + late, UTC).strftime("%Y-%m-%d %H:%M UTC")
        for late in range(0, 301, 60)
    }
    assert text.removeprefix("The data start at ").removesuffix(", after this range.") in (moments)


async def test_samples_that_ended_are_reported_with_the_target_that_is_down(
    prometheus: RealPrometheus, down_target: str
) -> None:
    await _until_down(prometheus)
    text = await _explain(prometheus, DEPTH, "", _hours(LAST + 7200, NOW))
    newest = datetime.fromtimestamp(LAST, UTC).strftime("%Y-%m-%d %H:%M UTC")
    assert text == (
        f"ai_agents_queue_depth has no sample in this range; the newest is from {newest}. "
        f"Prometheus cannot scrape {down_target}."
    )


async def test_samples_that_the_chart_does_not_select_are_not_said_to_be_missing(
    prometheus: RealPrometheus,
) -> None:
    text = await _explain(prometheus, SUCCESS, "", _hours(FIRST + 3600, LAST - 3600))
    assert text == (
        "ai_agents_enhancement_jobs_total has samples in this range, but none of its series has "
        'outcome="succeeded".'
    )
    # The matchers of the setting are not reported as those of the chart.
    text = await _explain(prometheus, SUCCESS, 'outcome="failed"', _hours(FIRST + 3600, LAST))
    assert "none of its series has" in text


async def test_samples_that_began_in_the_open_step_are_not_after_the_range(
    prometheus: RealPrometheus,
) -> None:
    async with PrometheusClient(prometheus.url) as client:
        grid = _hours(FIRST - 86_400, FIRST - 300)
        absence = await explain_absence(client, DEPTH, "", grid, FIRST + 30.0, FIRST + 30.0)
    text = absence.words
    assert text.startswith("The data start at ")
    assert text.endswith("; there are not enough to measure yet.")


async def test_the_search_reaches_as_far_back_as_the_range(prometheus: RealPrometheus) -> None:
    text = await _explain(prometheus, DEPTH, "", _hours(NOW - 60 * 86_400, NOW - 59 * 86_400))
    assert text.startswith("The data start at ")
    assert text.endswith(", after this range.")


async def test_a_range_too_long_ago_to_be_searched_names_no_start(
    prometheus: RealPrometheus,
) -> None:
    text = await _explain(prometheus, DEPTH, "", _hours(NOW - 500 * 86_400, NOW - 499 * 86_400))
    assert text == "ai_agents_queue_depth has no sample in this range."
