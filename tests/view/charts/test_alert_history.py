"""Alerts that are over stay on their charts, from begin to end, as the rules recorded them."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pytest
from tests.real_prometheus import RealPrometheus, Samples
from tests.view.conftest import CountingProxy, StartService, content

from queuescope.view import View

pytestmark = pytest.mark.anyio

EVERY = 15
HOSTILE = "<img src=x onerror=alert(1)>"
NOW = int(time.time())
DEPTH, FAILS = "Depth.High", "ManyFail"
RULES = f"""
groups:
  - name: test
    rules:
      - {{alert: "{DEPTH}", expr: ai_agents_queue_depth > 1e9}}
      - {{alert: "{FAILS}", expr: "rate(ai_agents_enhancement_jobs_total[5m]) > 1e9"}}
      - {{alert: Other, expr: unlike > 1e9}}
"""


def activation(name: str, began: int, until: int, fires: int | None, team: str) -> Samples:
    """As a rule writes it, ending with the marker of a series that is over; it fires from
    ``fires`` on, None: it was only pending.
    """
    times = np.arange(began, until + 1, EVERY)
    labels = f'alertname="{name}",severity="page",team="{team}"'
    found = {f"ALERTS_FOR_STATE{{{labels}}}": (times, np.full(len(times), float(began)))}
    for state, part in (
        ("pending", times[times < (fires or until + 1)]),
        ("firing", times[times >= (fires or until + 1)]),
    ):
        if len(part):
            found[f'ALERTS{{{labels},alertstate="{state}"}}'] = (part, np.ones(len(part)))
    return found


LONG = (NOW - 20 * 3600, NOW - 18 * 3600)
SHORT = (NOW - 7 * 3600 - 20, NOW - 7 * 3600 + 25)
PENDING = (NOW - 5 * 3600, NOW - 5 * 3600 + 300)
BEFORE = (NOW - 50 * 3600, NOW - 49 * 3600)


@pytest.fixture(scope="module")
def alarmed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealPrometheus]:
    folder = tmp_path_factory.mktemp("alerts")
    rules = folder / "rules.yml"
    rules.write_text(RULES)
    series = {
        **activation(DEPTH, *LONG, LONG[0] + 600, HOSTILE),
        **activation(DEPTH, *SHORT, SHORT[0], "short"),
        **activation(FAILS, *PENDING, None, "b"),
        **activation(DEPTH, *BEFORE, BEFORE[0], "before"),
        **activation("Other", *LONG, LONG[0], "a"),
        **activation("Gone", *LONG, LONG[0], "a"),
    }
    with RealPrometheus(folder / "data", series=series, rule_files=[rules]) as server:
        yield server


@pytest.mark.parametrize("name", ["24h", "7d"])
async def test_past_alerts_have_start_and_end_by_chart(
    alarmed: RealPrometheus, make_service: StartService, name: str
) -> None:
    service = make_service(alarmed.url, scrape_interval_seconds=EVERY)
    try:
        found = content(await service.get(View(name), max_age_seconds=1))["alerts"]
    finally:
        await service.aclose()
    by_team = {alert["labels"]["team"]: alert for alert in found["list"]}
    assert found["more"] == 0
    assert set(by_team) == {HOSTILE, "short", "b"} | ({"before"} if name == "7d" else set())
    assert [by_team[team]["panel"] for team in (HOSTILE, "short", "b")] == [
        "queue_depth", "queue_depth", "success_rate",
    ]  # fmt: skip
    assert [by_team[team]["state"] for team in (HOSTILE, "short", "b")] == [
        "firing", "firing", "pending",
    ]  # fmt: skip
    assert [alert["since"] for alert in found["list"]] == sorted(
        began for team, (began, _) in (
            (HOSTILE, LONG), ("short", SHORT), ("b", PENDING), ("before", BEFORE)
        ) if team in by_team
    )  # fmt: skip
    for team, (_, until) in ((HOSTILE, LONG), ("short", SHORT), ("b", PENDING)):
        # The looks within a step are at most a minute apart, and a sample is seen for five.
        assert abs(by_team[team]["until"] - until) <= 60
        assert by_team[team]["name"] in (DEPTH, FAILS)


async def test_a_past_range_has_its_own_alerts_and_costs_nothing_again(
    alarmed: RealPrometheus, make_service: StartService
) -> None:
    async with CountingProxy(alarmed.port) as proxy:
        service = make_service(proxy.url, scrape_interval_seconds=EVERY)
        view = View(None, LONG[0] - 3600, LONG[1] - 3600)
        try:
            found = content(await service.get(view, max_age_seconds=1))["alerts"]
            assert [alert["labels"]["team"] for alert in found["list"]] == [HOSTILE]
            asked = proxy.asked["query_range"]
            again = content(await service.get(view, max_age_seconds=0))["alerts"]
            assert again == found
            assert proxy.asked["query_range"] == asked
        finally:
            await service.aclose()
