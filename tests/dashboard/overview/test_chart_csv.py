"""The route of a chart's points: which answer they belong to, and what is refused."""

from __future__ import annotations

import csv
import io
import json
import time
from typing import Any
from urllib.parse import quote

import pytest
from starlette.requests import Request
from tests.dashboard.conftest import HOSTILE, RunningDashboard

from queuescope.dashboard.overview.chart_csv import CHART_CSV, ChartFile
from queuescope.figures import Curves
from queuescope.panels import load_dashboard
from queuescope.shown_text import shown
from queuescope.timeseries import Grid
from queuescope.view import Points

VIEW = "range=1h&by=tenant"


def _rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


@pytest.fixture(scope="module")
def answers(dashboard: RunningDashboard) -> list[Any]:
    """Two answers to one view, the second of which replaced the first."""
    found: list[Any] = []
    while len(found) < 2:
        content = json.loads(dashboard.ask(f"/queuescope/view?{VIEW}&age=1").body)
        if content["takenAt"] not in [one["takenAt"] for one in found]:
            found.append(content)
        time.sleep(0.05)
    return found


def test_the_file_is_of_the_answer_that_is_named(
    dashboard: RunningDashboard, answers: list[Any]
) -> None:
    ends = []
    for content in answers:
        panel = content["panels"][2]
        answer = dashboard.ask(f"{CHART_CSV}?{VIEW}&panel=latency&taken={content['takenAt']!r}")
        assert answer.status == 200
        assert answer.headers["content-type"] == "text/csv; charset=utf-8"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        rows = _rows(answer.text)
        closed = [row for row in rows if row["step"] == "closed"]
        assert len(closed) == 61
        # Named as on the page, with characters that reverse text shown by number.
        assert {row["series"] for row in rows} == {shown(HOSTILE)}
        assert {(row["panel"], row["quantile"]) for row in rows} == {("latency", "P95")}
        (live,) = [row for row in rows if row["step"] == "open"]
        assert float(live["value"]) == panel["figure"]["data"][0]["live"]
        ends.append(live["time"])
        assert [row["to"] for row in rows] == [live["time"]] * 62
        alone = dashboard.ask(
            f"{CHART_CSV}?{VIEW}&panel=latency&taken={content['takenAt']!r}&steps=closed"
        )
        assert _rows(alone.text) == closed
    assert ends[0] < ends[1]
    # Without ``taken`` the newest is sent.
    newest = _rows(dashboard.ask(f"{CHART_CSV}?{VIEW}&panel=latency").text)
    assert max(row["to"] for row in newest) >= ends[1]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("", "panel='': choose one of queue_depth, success_rate, latency."),
        ("panel=depth", "panel='depth': choose one of queue_depth, success_rate, latency."),
        ("panel=latency&range=fortnight", "range='fortnight': choose one of 1h, 6h, 24h, 7d"),
        ("panel=latency&from=now-1h", "a custom range needs both from= and to=."),
        ("panel=latency&by=colour", "by='colour': choose one of none, queue, instance, tenant."),
        ("panel=latency&step=none", "step='none'"),
        ("panel=latency&steps=open", "steps='open': choose one of all, closed."),
        ("panel=latency&taken=lately", "taken='lately': give the takenAt of an answer."),
        ("panel=latency&taken=nan", "taken='nan': give the takenAt of an answer."),
        ("panel=latency&offset=1e3", "offset='1e3': give the seconds of the time zone from UTC"),
        ("panel=latency&offset=86400", "offset='86400': give the seconds of the time zone"),
    ],
)
def test_invalid_parameters_are_refused_by_name(
    dashboard: RunningDashboard, query: str, said: str
) -> None:
    answer = dashboard.ask(f"{CHART_CSV}?{query}")
    assert answer.status == 400
    assert answer.headers["content-type"].startswith("text/plain")
    assert said in answer.text
    assert answer.text.endswith(".\n")


@pytest.mark.parametrize("query", ["range=1h&by=tenant&taken=1", "range=6h&taken={taken}"])
def test_points_that_are_not_kept_are_not_replaced_by_those_of_another_answer(
    dashboard: RunningDashboard, answers: list[Any], query: str
) -> None:
    query = query.format(taken=answers[0]["takenAt"])
    answer = dashboard.ask(f"{CHART_CSV}?{query}&panel=latency")
    assert answer.status == 410
    assert "no longer kept; refresh the page, then save them again.\n" in answer.text


def test_neither_the_zone_nor_the_name_of_the_file_is_a_way_in(
    dashboard: RunningDashboard,
) -> None:
    zone = quote('=cmd|"1\r\nSet-Cookie: a=b')
    answer = dashboard.ask(f"{CHART_CSV}?{VIEW}&panel=latency&tz={zone}&offset=-12600")
    assert answer.status == 200
    assert "set-cookie" not in answer.headers
    name = answer.headers["content-disposition"]
    assert name.startswith('attachment; filename="queuescope_latency_by_tenant_read_')
    assert name.endswith('_-cmd-1-Set-Cookie-a-b.csv"')
    rows = _rows(answer.text)
    assert {row["zone"] for row in rows} == {r"""'=cmd|"1\u000d\u000aSet-Cookie: a=b"""}
    assert all(row["time"].endswith("-03:30") for row in rows)


@pytest.mark.anyio
async def test_only_so_many_are_sent_at_once_and_places_are_given_back() -> None:
    panel = load_dashboard("ai-agents").panels[0]
    points = (Points(panel, Curves(Grid(0, 60, 60), ()), None, None),)

    async def find(*_asked: object) -> tuple[Points, ...]:
        return points

    file = ChartFile(find, [panel.id])
    scope = {
        "type": "http",
        "method": "GET",
        "path": CHART_CSV,
        "headers": [],
        "query_string": f"panel={panel.id}".encode(),
        "asgi": {"spec_version": "2.4"},
    }
    responses = [await file.send(Request(scope)) for _ in range(5)]
    assert [response.status_code for response in responses] == [200] * 4 + [503]

    async def receive() -> Any:
        raise AssertionError("nothing is read of a file's reader")

    async def hang_up(_message: object) -> None:
        raise OSError("the reader has gone")

    with pytest.raises(Exception, match=r".*"):
        await responses[0](scope, receive, hang_up)
    again = [await file.send(Request(scope)) for _ in range(2)]
    assert [response.status_code for response in again] == [200, 503]
