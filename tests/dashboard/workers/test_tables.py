"""The page of workers as HTML: its texts, unknown values, and names that stay text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC
from typing import Any

import numpy as np
import pytest
from tests.dashboard.ui.test_widgets import Reader
from tests.worker_reports import AHEAD, BUSY, NOW, REPORT, report

from queuescope.broker.desired import DesiredState
from queuescope.broker.fleet import fleet_of
from queuescope.broker.protocol import WorkersReading
from queuescope.broker.reports import ActiveJob, WorkerReport
from queuescope.dashboard.workers.tables import (
    by_urgency,
    found,
    worker_list_part,
)
from queuescope.dashboard.workers.trends import Trends, sparkline
from queuescope.errors import BrokerError, BrokerErrorKind
from queuescope.jobs.store import UsualRuntime
from queuescope.known import Known
from queuescope.timeseries import Frame, Grid, LookupStatus, Reading, State
from queuescope.watch import BrokerState, CompletionRate
from queuescope.watch.workers import WorkerList, list_workers

HOSTILE = "</td></table><script>alert(1)</script><img src=x onerror=alert(2)>\u202e&amp;\"'"
DOWN = BrokerError(BrokerErrorKind.DOWN, "the broker did not answer")
NO_TRENDS = Trends({}, is_offered=True)


def made(
    *reports: WorkerReport, completion_rates: dict[tuple[str, str], CompletionRate] | None = None
) -> WorkerList:
    desired = DesiredState(revision=4)
    fleet = fleet_of(WorkersReading(NOW, reports), desired)
    usual = {"nap": UsualRuntime(12.0, 500)}
    return list_workers(BrokerState(NOW, (), fleet, desired, completion_rates or {}), usual)


def sheet(
    *reports: WorkerReport,
    trends: Trends = NO_TRENDS,
    completion_rates: dict[tuple[str, str], CompletionRate] | None = None,
    error: BrokerError | None = None,
    can_report: bool = True,
) -> Reader:
    known = made(*reports, completion_rates=completion_rates)
    seen: Known[Any] = Known(object(), NOW, error, NOW + 2 if error else None)
    return Reader(
        worker_list_part(
            seen, known, known.alive, trends, zone=UTC, now=NOW + 30, can_report=can_report
        )
    )


def cells(page: Reader) -> str:
    return re.sub(r"\s+", " ", page.text)


def test_it_shows_which_workers_are_alive_and_what_each_does() -> None:
    page = sheet(
        report(worker="busy@h", processed=200, failed=3, retried=2, **BUSY),
        report(worker="idle@h", pool_size=1),
        report(worker="gone@h", at=NOW - 100, **BUSY),
        completion_rates={("busy@h", "b"): CompletionRate(7.25, 300.0)},
    )
    text = cells(page)
    assert text.startswith("2 of 3 workers alive1 active1 idle1 lostas of ")
    assert "busy@hactiveprefork, 2 places" in text
    assert "idle@hidleprefork, 1 place" in text
    assert "nap 40 s" in text
    assert "2003 failed, 1.5 %2 retried7.2" in text
    assert "Lostforgotten 10 min after their last report" in text
    assert "gone@hlost" in text
    assert "1 min 40 s ago8 min 20 s" in text
    assert "The broker will deliver them again." in text


@pytest.mark.parametrize(
    ("of_jobs", "words"),
    [
        ((True, None), "The broker will deliver them again."),
        ((False, False), "Lost: the broker has no copy of them."),
        ((False, None), "The broker will deliver 1 of them again; it has no copy of 1."),
    ],
)
def test_of_a_lost_workers_jobs_each_says_whether_it_comes_again(
    of_jobs: tuple[bool | None, ...], words: str
) -> None:
    """A job without its own setting follows that of its project: it is delivered again."""
    jobs = tuple(
        ActiveJob(
            id=f"j{n}", name="nap", queue="q", tenant="t", started_at=NOW, redelivers=redelivers
        )
        for n, redelivers in enumerate(of_jobs)
    )
    page = sheet(report(at=NOW - 100, active=jobs, active_count=2, redelivers=True))
    assert words in cells(page)


@pytest.mark.parametrize(
    ("ahead", "words"),
    [
        (3600, "clock 1 h ahead"),
        (-90, "clock 1 min 30 s behind"),
        (5, "clock 5 s ahead"),
        (4.9, ""),
        (-4.9, ""),
    ],
)
def test_a_clock_that_is_off_is_noted_on_its_worker(ahead: float, words: str) -> None:
    off = report(clock_at=REPORT.at + ahead, started_at=REPORT.at + ahead - 1000)
    text = cells(sheet(off))
    assert ("clock" in text) is bool(words)
    assert f"prefork, 2 places{words}" in text


def test_if_workers_cannot_report_none_is_called_lost() -> None:
    text = cells(sheet(report(worker="gone@h", at=NOW - 100), can_report=False))
    assert text.startswith("1 worker: not known which are aliveas of ")
    assert "Not known: no worker can report." in text
    assert "Silentforgotten 10 min after their last report" in text
    assert "gone@hnot known" in text
    assert "lost" not in text.partition("How this is judged")[0]


def test_a_stuck_job_is_marked_with_the_rule_and_its_id() -> None:
    old = ActiveJob(
        id="id-7", name="nap", queue="orders", tenant="acme", started_at=NOW + AHEAD - 400
    )
    page = sheet(report(active=(old,), active_count=1))
    assert "6 min 40 sfar older than usual95 % of its type end within 12 s; id id-7" in page.text
    assert "1 job far older than usual" in page.text
    assert any("data-stuck" in attributes for _, attributes in page.elements)


@pytest.mark.parametrize("at", [NOW - 1, NOW - 100])
def test_a_job_that_was_delivered_again_says_so_with_its_id(at: float) -> None:
    jobs = [
        ActiveJob(
            id=f"id-{n}",
            name=f"nap-{n}",
            queue="orders",
            tenant="acme",
            started_at=NOW + AHEAD - 2,
            is_redelivered=again,
        )
        for n, again in enumerate((True, False, None))
    ]
    page = sheet(report(at=at, active=tuple(jobs), active_count=3))
    assert page.text.count("delivered again") == 1
    assert "delivered againid id-0" in page.text
    assert "id-1" not in page.text


@pytest.mark.parametrize(
    ("ratio", "words", "tone"),
    [(0.5, "50 %", None), (0.81, "81 %, high", "warn"), (0.96, "96 %, at its limit", "bad")],
)
def test_thresholds_are_shown_by_word_and_shape(ratio: float, words: str, tone: str | None) -> None:
    page = sheet(
        report(
            cpu_ratio=2 * ratio,
            cpu_limit=2.0,
            memory_bytes=round(512 * 2**20 * ratio),
            memory_limit_bytes=512 * 2**20,
            # A clock that is off would stand out as well.
            clock_at=REPORT.at,
            started_at=REPORT.at - 1000,
        )
    )
    assert cells(page).count(words) == 2
    assert f"{2 * ratio:.2f} of 2 cores" in page.text
    assert "of 512 MiB" in page.text
    meters = [attributes for name, attributes in page.elements if attributes.get("role") == "meter"]
    assert [meter["aria-valuenow"] for meter in meters] == [f"{100 * ratio:.0f}"] * 2
    tones = [attributes.get("data-tone") for _, attributes in page.elements]
    assert tones.count(tone) == 2 or tone is None


def test_without_a_limit_no_percentage_is_invented() -> None:
    page = sheet(report(cpu_limit=None, memory_limit_bytes=None, memory_bytes=3 * 2**30))
    assert page.text.count("no limit known") == 2
    assert "3.0 GiB" in page.text
    assert "%" not in page.text.partition("How this is judged")[0]


def test_an_unknown_value_is_not_a_number() -> None:
    page = sheet(report(started_at=NOW + AHEAD - 5))
    assert page.text.count("not measured yet") == 2
    assert cells(page).count("–") == 1


def test_old_data_is_marked_as_old() -> None:
    page = sheet(report(**BUSY), error=DOWN)
    assert "1 of 1 worker was alive" in page.text
    assert re.search(r"old, as of .*; since .* the broker did not answer", page.text)
    states = [attributes.get("data-state") for _, attributes in page.elements]
    assert "stale" in states
    assert "fresh" not in states


def trend(state: State, values: Sequence[float] | None, cause: str = "") -> Reading:
    frame = None
    if values is not None:
        grid = Grid(0, 3600 * (len(values) - 1), 3600)
        frame = Frame(grid, ((),), np.array([values]))
    return Reading(state, frame, NOW, LookupStatus.HIT, cause)


def test_seven_days_are_shown_or_why_not() -> None:
    names = ["fresh@h", "stale@h", "none@h", "away@h", "idle@h", "asked@h"]
    page = sheet(
        *(report(worker=name) for name in names),
        trends=Trends(
            {
                "fresh@h": trend(State.FRESH, [1.0, 12.4]),
                "stale@h": trend(State.STALE, [3.0, np.nan], "Prometheus does not answer"),
                "none@h": trend(State.EMPTY, None, "no such series"),
                "away@h": trend(State.UNAVAILABLE, None, "Prometheus does not answer"),
                "idle@h": trend(State.FRESH, [0.0, 0.0]),
            },
            is_offered=True,
        ),
    )
    text = cells(page)
    for words in ("peak 12 / min", "peak 3.0 / min", "no data", "not known", "none ended"):
        assert text.count(words) == 1
    assert re.search(r"Seven days: Prometheus does not answer; the curves end at .*\.", text)
    images = [a["aria-label"] for name, a in page.elements if name == "svg"]
    assert len(images) == 3
    shown = [a for _, a in page.elements if (a.get("class") or "").startswith("qs-trend")]
    assert [a["data-state"] for a in shown] == [
        *("asking", "unavailable", "fresh", "fresh", "empty", "stale")
    ]


def test_a_panel_file_without_the_query_is_noted() -> None:
    page = sheet(report(), trends=Trends({}, is_offered=False))
    assert "has no throughput per worker" in page.text


def test_a_curve_has_its_gaps_and_its_lone_points() -> None:
    drawn = Reader(sparkline(np.array([0.0, 2.0, np.nan, 1.0, np.nan]), 2.0, "words"))
    (path,) = [attributes["d"] for name, attributes in drawn.elements if name == "path"]
    assert path == "M0 26.0h.01L42 2.0M126 14.0h.01"
    assert Reader(sparkline(np.array([np.nan]), 1.0, "w")).elements[1][1]["d"] == ""


def test_names_of_workers_queues_and_jobs_stay_text() -> None:
    job = ActiveJob(
        id=HOSTILE, name=HOSTILE, queue=HOSTILE, tenant=HOSTILE, started_at=NOW + AHEAD - 9000
    )
    hostile: dict[str, Any] = {
        "queues": (HOSTILE,),
        "consuming": (HOSTILE,),
        "active": (job,),
        "active_count": 1,
    }
    page = sheet(
        report(worker=HOSTILE, loop_at=NOW + AHEAD - 90, **hostile),
        report(worker=f"lost{HOSTILE}", at=NOW - 60, **hostile),
        trends=Trends({HOSTILE: trend(State.STALE, [1.0], HOSTILE)}, is_offered=True),
    )
    assert {name for name, _ in page.elements} & {"script", "img"} == set()
    assert not any(key.startswith("on") for _, attributes in page.elements for key in attributes)
    assert "\u202e" not in page.text
    assert page.text.count("<script>alert(1)</script>") >= 6
    assert page.open == []


def test_of_many_workers_those_that_need_a_look_come_first() -> None:
    known = made(
        report(worker="calm@h"),
        report(worker="hot@h", memory_bytes=99, memory_limit_bytes=100),
        report(
            worker="old@h",
            active=(
                ActiveJob(id="1", name="nap", queue="q", tenant="t", started_at=NOW + AHEAD - 900),
            ),
            active_count=1,
        ),
        report(worker="stuck@h", loop_at=NOW + AHEAD - 90),
    )
    ordered = [entry.worker.name for entry in by_urgency(known.alive)]
    assert ordered == ["stuck@h", "old@h", "hot@h", "calm@h"]
    some = found(known.alive, "STUCK")
    assert [entry.worker.name for entry in some] == ["stuck@h"]
    assert len(found(known.alive, "express")) == 4
    assert [entry.worker.name for entry in found(known.alive, "nap ")] == ["old@h"]
    assert found(known.alive, "nobody") == []
    seen: Known[Any] = Known(object(), NOW)
    page = Reader(worker_list_part(seen, known, some, NO_TRENDS, zone=UTC, now=NOW))
    assert "3 more live workers are not shown." in page.text
