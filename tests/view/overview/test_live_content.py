"""The content about the sources themselves, and about past operations."""

from __future__ import annotations

from dataclasses import replace

from tests.view.broker_reports import (
    AHEAD,
    AWAY,
    BROKER,
    DEPTH,
    NEVER,
    NOW,
    reporting,
)

from queuescope.errors import JobStoreError
from queuescope.health import Finding, Health
from queuescope.known import Known
from queuescope.view.overview.live_content import (
    MOST_OPERATIONS,
    operations_content,
    source_content,
    source_findings,
)
from queuescope.view.present.live_sources import (
    FigureOrigin,
    LiveReport,
    LiveSource,
    PastOperation,
    PastOperations,
)


def test_a_source_that_is_away_is_a_finding_of_its_own_and_its_old_findings_count_no_more() -> None:
    lost = Finding("workers_lost", Health.DEGRADED, cause="1 of 2 workers is lost: w")
    fresh = reporting(BROKER, findings=(lost,))
    assert source_findings([fresh], AHEAD) == [lost]
    [found] = source_findings([reporting(AWAY, findings=(lost,))], AHEAD)
    assert (found.measure, found.health, found.cause, found.since) == (
        *("broker", Health.UNKNOWN),
        *("the broker did not answer", NOW + 5 + AHEAD),
    )
    assert source_findings([], AHEAD) == []


def test_each_source_is_listed_with_its_state_and_measures() -> None:
    states = [
        (one["title"], one["state"], one["asOf"], one["since"], one["kind"], one["measures"])
        for one in source_content([BROKER, AWAY, NEVER], {"queue_depth": DEPTH}, AHEAD)
    ]
    at, since = NOW + AHEAD, NOW + 5 + AHEAD
    assert states == [
        ("Broker", "fresh", at, None, "", ["Queue depth"]),
        ("Broker", "stale", at, since, "down", ["Queue depth"]),
        ("Broker", "unavailable", None, since, "down", ["Queue depth"]),
    ]


AUDIT = LiveSource(FigureOrigin.AUDIT, Known(LiveReport(), NOW))
LOCKED = JobStoreError("it is locked")
DONE = PastOperation(NOW - 5, "ada", "purge queue default", "done", "3 jobs")


def test_acts_are_placed_by_the_clock_of_the_charts() -> None:
    found = operations_content(PastOperations((DONE,)), [BROKER, AUDIT], AHEAD)
    assert found is not None
    assert (found["state"], found["begin"]) == ("fresh", None)
    assert found["list"] == [
        {
            "at": NOW - 5 + AHEAD,
            "actor": "ada",
            "words": "purge queue default",
            "result": "done",
            "detail": "3 jobs",
        }
    ]


def test_acts_are_nothing_without_an_audit_and_not_hidden_when_it_is_away() -> None:
    assert operations_content(None, [BROKER], AHEAD) is None
    away = replace(AUDIT, known=AUDIT.known.failed(LOCKED, NOW))
    found = operations_content(PastOperations((DONE,)), [away], AHEAD)
    assert found is not None
    assert (found["state"], len(found["list"])) == ("stale", 1)
    never = operations_content(None, [replace(AUDIT, known=Known(error=LOCKED))], AHEAD)
    assert never is not None
    assert (never["state"], never["list"]) == ("unavailable", [])
    quiet = operations_content(PastOperations(), [AUDIT], AHEAD)
    assert quiet is not None
    assert quiet["state"] == "idle"


def test_only_the_newest_of_very_many_operations_are_listed() -> None:
    many = tuple(replace(DONE, at=float(number)) for number in range(MOST_OPERATIONS + 10))
    found = operations_content(PastOperations(many), [AUDIT], 0.0)
    assert found is not None
    assert (len(found["list"]), found["begin"], found["list"][0]["at"]) == (
        MOST_OPERATIONS,
        10.0,
        10.0,
    )
