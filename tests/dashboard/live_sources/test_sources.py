"""What cards and verdict get from the broker's queues and workers."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from tests.worker_reports import AHEAD, NOW, report

from queuescope.broker.desired import DesiredState
from queuescope.broker.fleet import fleet_of
from queuescope.broker.protocol import QueueReading, WorkersReading
from queuescope.dashboard.live_sources.broker import broker_source
from queuescope.dashboard.live_sources.failures import recent_failures
from queuescope.dashboard.live_sources.job_history import history_source
from queuescope.dashboard.live_sources.watched import without_jobs
from queuescope.errors import BrokerError, BrokerErrorKind, JobStoreError, StoreErrorKind
from queuescope.jobs.failures import FailureGroup, FailureReport
from queuescope.jobs.job import Job, JobStatus
from queuescope.jobs.totals import JobTotals
from queuescope.known import Known
from queuescope.view.overview.live_content import source_findings
from queuescope.view.present.live_sources import FigureOrigin, LiveSource
from queuescope.watch import BrokerState, RecentFailures

DOWN = BrokerError(BrokerErrorKind.DOWN, "the broker did not answer")
SERVED = ("express", "orders")


def state(
    *queues: QueueReading, workers: tuple[dict[str, Any], ...] = ({},), paused: tuple[str, ...] = ()
) -> BrokerState:
    """The broker at one instant; each of ``workers`` holds its differences from a healthy one."""
    reports = tuple(
        report(worker=f"w{number}@h", **changes) for number, changes in enumerate(workers, 1)
    )
    desired = DesiredState(revision=4, paused=paused)
    return BrokerState(
        NOW, queues, fleet_of(WorkersReading(NOW, reports), desired, queues), desired
    )


def source_of(*queues: QueueReading, **about: Any) -> LiveSource:
    return broker_source(Known(state(*queues, **about), NOW))


def findings(source: LiveSource) -> list[tuple[str, str, str]]:
    return [(one.measure, one.health.value, one.cause) for one in source.report.findings]


def test_if_workers_cannot_report_it_is_unknown_which_are_alive() -> None:
    seen = Known(
        state(QueueReading("orders", 4, 8.0, 0), workers=({"at": NOW - 60}, {"at": NOW - 60})),
        NOW,
    )
    source = broker_source(seen, BrokerError(BrokerErrorKind.READ_ONLY, "it refuses to write"))
    assert set(source.report.figures) == {"queue_depth", "oldest_waiting"}
    assert source.report.why_not["active_workers"] == "workers cannot report: it refuses to write"
    cause = "workers cannot report and jobs cannot be sent: it refuses to write"
    assert findings(source) == [("broker_refuses", "degraded", cause)]
    # If only the dashboard may not write, silent workers are lost.
    other = broker_source(seen, BrokerError(BrokerErrorKind.NO_PERMISSION, "it forbids this"))
    assert other.report.figures["active_workers"].shown == 0.0
    assert [one[0] for one in findings(other)] == ["workers_lost"]


def test_the_figures_are_those_of_all_queues_and_of_the_workers_that_live() -> None:
    source = source_of(
        QueueReading("express", 3, 5.0, 0),
        QueueReading("orders", 4, 8.0, 0),
        QueueReading("other", 0, 0.0, 0),
        workers=({}, {}, {}, {}),
    )
    assert (source.origin, source.known.state, source.known.as_of) == (
        FigureOrigin.BROKER,
        "fresh",
        NOW,
    )
    shown = {name: (figure.shown, figure.out_of) for name, figure in source.report.figures.items()}
    assert shown == {
        "queue_depth": (7.0, None),
        "oldest_waiting": (8000.0, None),
        "active_workers": (4.0, 4),
    }
    assert source.report.figures["queue_depth"].notes == ("express: 3, orders: 4.",)
    assert source.report.findings == ()
    assert not source.report.held_back


def test_figures_that_the_broker_lacks_have_a_reason() -> None:
    source = source_of(workers=())
    assert source.report.figures == {}
    assert source.is_fresh
    assert set(source.report.why_not) == source.measures
    undated = source_of(QueueReading("orders", 2, None, 0))
    assert "oldest_waiting" not in undated.report.figures
    assert undated.report.figures["queue_depth"].shown == 2


@pytest.mark.parametrize(
    ("reading", "note", "why_not"),
    [
        (
            QueueReading("orders", 2, 8.0, 0, sender_ahead=-3600.0),
            (
                "Its sender’s clock is 1 h behind compared to the broker’s; the age is "
                "corrected by that."
            ),
            "",
        ),
        (
            QueueReading("orders", 2, 3600.0, 0, is_age_doubtful=True),
            (
                "The queue orders was empty after that: the job was put back, or its sender’s "
                "clock is behind."
            ),
            "",
        ),
        (
            QueueReading("orders", 2, None, 0, sender_ahead=3000.0),
            "",
            (
                "the clock of the sender of the oldest job in orders is 50 min ahead or more, "
                "compared to the broker’s"
            ),
        ),
    ],
)
def test_an_age_from_a_wrong_clock_says_how_it_is_known(
    reading: QueueReading, note: str, why_not: str
) -> None:
    source = source_of(QueueReading("mail", 1, 2.0, 0), reading)
    figure = source.report.figures.get("oldest_waiting")
    assert ((note,) if note else None) == (None if figure is None else figure.notes)
    if why_not:
        assert source.report.why_not["oldest_waiting"] == why_not


def test_a_lost_worker_is_reported_and_counts_in_the_total() -> None:
    source = source_of(QueueReading("orders", 0, 0.0, 0), workers=({}, {"at": NOW - 60}))
    alive = source.report.figures["active_workers"]
    assert (alive.shown, alive.out_of, alive.remark) == (1.0, 2, "1 lost")
    assert findings(source) == [("workers_lost", "degraded", "1 of 2 workers is lost: w2@h")]


def test_a_stalled_worker_degrades_and_none_that_works_is_a_stall() -> None:
    waits = QueueReading("orders", 5, 60.0, 0)
    busy = {"last_started_at": NOW + AHEAD - 5}
    one = source_of(waits, workers=({}, busy))
    [(rule, health, cause)] = findings(one)
    assert (rule, health) == ("workers_stalled", "degraded")
    assert cause == (
        "1 of 2 workers is stalled: w1@h: Jobs wait in orders, and it has started none for 389 s"
    )
    all_of_them = source_of(waits, workers=({}, {}))
    assert [found[1] for found in findings(all_of_them)] == ["stalled"]


@pytest.mark.parametrize(
    ("paused", "held", "cause"),
    [
        (("orders",), False, "orders is paused, and 5 jobs wait there"),
        (("*",), True, "express, orders are paused, and 6 jobs wait there"),
        (("other",), False, ""),
    ],
)
def test_jobs_in_a_paused_queue_are_held_back_and_no_stall(
    paused: tuple[str, ...], held: bool, cause: str
) -> None:
    source = source_of(
        QueueReading("express", 1, 60.0, 0),
        QueueReading("orders", 5, 60.0, 0),
        paused=paused,
        workers=({"paused": SERVED, "consuming": (), "last_started_at": NOW + AHEAD - 5},),
    )
    assert source.report.held_back is held
    said = [found for found in findings(source) if found[0] == "paused"]
    assert said == ([("paused", "degraded", cause)] if cause else [])


def test_an_empty_queue_is_not_held_back_by_a_pause() -> None:
    source = source_of(QueueReading("orders", 0, 0.0, 0), paused=("*",))
    assert not source.report.held_back
    assert findings(source) == []


def test_in_an_outage_the_last_figures_keep_their_time_and_nothing_is_found() -> None:
    last = state(QueueReading("orders", 4, 8.0, 0), workers=({}, {"at": NOW - 60}))
    source = broker_source(Known(last, NOW, DOWN, NOW + 3))
    known = source.known
    assert (known.state, known.as_of, known.failing_since) == ("stale", NOW, NOW + 3)
    assert (source.cause, known.kind) == ("the broker did not answer", "down")
    assert source.report.figures["queue_depth"].shown == 4
    assert [finding.measure for finding in source_findings([source], 0.0)] == ["broker"]


def test_before_the_first_answer_nothing_is_known_and_it_says_so() -> None:
    source = broker_source(Known())
    assert (source.known.state, source.report.figures) == ("unavailable", {})
    assert source.cause == "the broker has not answered yet"
    failed = broker_source(Known(error=DOWN, failing_since=NOW))
    assert (failed.known.state, failed.cause) == ("unavailable", "the broker did not answer")


TOTALS = JobTotals(
    at=NOW,
    window_seconds=600,
    succeeded_in_day=90,
    unsuccessful_in_day=10,
    succeeded_lately=4,
    unsuccessful_lately=1,
    left=12,
    began_at=NOW - 90_000,
    measured_lately=5,
    latencies={0.5: 20.0, 0.95: 680.0, 0.99: 692.0},
)
LOCKED = JobStoreError("the job history (SQLite, /a) is locked", StoreErrorKind.LOCKED)
FAILED = Job(
    *("j1", "enhance", "acme", "default", "w@h", JobStatus.LOST),
    finished_at=NOW - 9,
    error_class="WorkerLostError",
    error_message="It ended.",
)


def test_the_history_reports_rates_and_completions() -> None:
    source = history_source(Known(TOTALS, NOW))
    figures = {name: (f.shown, f.beside, f.notes) for name, f in source.report.figures.items()}
    assert figures == {
        "success_rate": (80.0, 90.0, ()),
        "throughput": (1.0, None, ()),
        "p95_latency": (
            *(680_000.0, None),
            ("From 5 jobs that succeeded or failed in the last 5 min.",),
        ),
    }
    assert source.report.figures["p95_latency"].quantiles == {0.5: 2e4, 0.95: 6.8e5, 0.99: 6.92e5}
    assert source.report.why_not == {}
    assert source.report.completion_per_second == pytest.approx(0.02)
    assert (source.origin, source.known.state) == (FigureOrigin.JOB_HISTORY, "fresh")


def test_a_history_that_cannot_tell_latencies_says_why() -> None:
    source = history_source(Known(replace(TOTALS, latencies={}), NOW))
    assert set(source.report.figures) == {"success_rate", "throughput"}
    assert set(source.report.why_not) == {"p95_latency"}
    idle = history_source(Known(replace(TOTALS, latencies={}, measured_lately=0), NOW))
    assert math.isnan(idle.report.figures["p95_latency"].shown)


def test_with_a_selector_by_a_job_label_no_source_reports_all_jobs() -> None:
    broker = without_jobs(source_of(QueueReading("orders", 4, 8.0, 0)))
    assert (set(broker.measures), broker.report.depths) == ({"active_workers"}, ())
    history = without_jobs(history_source(Known(TOTALS, NOW)))
    assert (history.measures, history.report.figures) == (frozenset(), {})
    assert history.report.completion_per_second is None
    assert (broker.is_fresh, history.is_fresh) == (True, True)


def test_a_young_history_says_how_far_it_reaches() -> None:
    source = history_source(Known(replace(TOTALS, began_at=NOW - 7200), NOW))
    figures = source.report.figures
    assert figures["success_rate"].notes == ("The job history holds only the last 2 h.",)
    assert {figure.over_seconds for figure in figures.values()} == {300}
    source = history_source(Known(replace(TOTALS, began_at=NOW - 40), NOW))
    assert {figure.over_seconds for figure in source.report.figures.values()} == {40}
    assert source.report.figures["p95_latency"].notes == (
        "From 5 jobs that succeeded or failed in the last 40 s.",
    )


def test_a_history_without_a_job_of_the_day_knows_no_rate_and_is_no_outage() -> None:
    nothing = replace(TOTALS, succeeded_in_day=0, unsuccessful_in_day=0)
    source = history_source(Known(nothing, NOW))
    assert source.is_fresh
    assert source.report.figures == {}
    assert set(source.report.why_not) == {"success_rate", "throughput", "p95_latency"}


def test_a_history_that_is_away_keeps_its_last_figures_and_names_the_kind() -> None:
    source = history_source(Known(TOTALS, NOW, LOCKED, NOW + 2))
    assert (source.known.state, source.known.kind) == ("stale", "locked")
    assert source.report.figures["success_rate"].shown == 80.0


def test_failures_are_listed_by_group_and_one_by_one() -> None:
    group = FailureGroup(
        *("f1", "enhance", "LookupError", "no order <n>", 7, NOW - 90, NOW - 9),
        *(("acme", "globex"), 3, FAILED),
    )
    state = RecentFailures(FailureReport((group,), 4, 30, is_whole=False), (FAILED,))
    found = recent_failures(state)
    assert (found.count, found.group_count, found.is_whole) == (30, 4, False)
    [told_group], [told_job] = found.groups, found.last
    assert (told_group.fingerprint, told_group.count, told_group.tenants) == (
        *("f1", 7),
        ("acme", "globex"),
    )
    assert (told_job.id, told_job.status, told_job.at) == ("j1", "lost", NOW - 9)
