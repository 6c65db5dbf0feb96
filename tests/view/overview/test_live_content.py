"""Which source tells a figure, and what is said of the sources themselves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from queuescope.errors import BrokerError, BrokerErrorKind, JobStoreError
from queuescope.health import Drain, DrainState, Finding, Health
from queuescope.known import Known
from queuescope.panels import load_dashboard
from queuescope.view.overview.comparisons import changes_content
from queuescope.view.overview.drain import drain_content
from queuescope.view.overview.live_content import (
    MOST_ACTS,
    act_content,
    source_content,
    source_findings,
)
from queuescope.view.present.figures import Figure, best_figure
from queuescope.view.present.live_sources import (
    Act,
    Acts,
    LiveFigure,
    LiveReport,
    LiveSource,
    Origin,
)
from queuescope.view.present.present import Present
from queuescope.view.source.notices import clock_notices

DEPTH = load_dashboard("ai-agents").measures[0]
# Prometheus's clock is a minute ahead of ours, and so are the times that the page shows.
AHEAD = 60.0
NOW = 1_000_000.0
REPORT = LiveReport(
    {"queue_depth": LiveFigure(42.0, out_of=50, remark="hm", notes=("As it is.",))},
    {"queue_depth": "nobody knows"},
)
DOWN = BrokerError(BrokerErrorKind.DOWN, "the broker did not answer")
BROKER = LiveSource(Origin.BROKER, Known(REPORT, NOW), frozenset({"queue_depth"}))
AWAY = replace(BROKER, known=BROKER.known.failed(DOWN, NOW + 5))
NEVER = replace(BROKER, known=Known(error=DOWN, failing_since=NOW + 5))
HIS = Figure(Present(40.0, NOW + AHEAD))
HIS_OLD = replace(HIS, outage="cannot connect to Prometheus")
HIS_NONE = Figure(Present(None, NOW + AHEAD))
UNASKED = Figure(Present())


def reporting(source: LiveSource, **report: Any) -> LiveSource:
    """``source`` with another report."""
    return replace(source, known=source.known.map(lambda known: replace(known, **report)))


def best(figure: Figure, *sources: LiveSource) -> Figure:
    return best_figure(DEPTH, figure, sources, AHEAD)


def told(figure: Figure) -> tuple[float | None, str, bool, str]:
    return figure.shown.value, figure.origin.value, figure.is_stale, figure.cause


def test_prometheus_alone_is_as_ever() -> None:
    assert best(HIS) is HIS
    assert best(HIS, replace(BROKER, measures=frozenset())) is HIS


@pytest.mark.parametrize("his", [HIS, HIS_OLD, HIS_NONE, UNASKED])
def test_the_source_that_tells_it_best_does_so_while_it_answers(his: Figure) -> None:
    found = best(his, BROKER)
    assert told(found) == (42.0, "broker", False, "")
    assert found.shown.as_of == NOW + AHEAD
    assert found.proven(DEPTH) == 42.0
    assert (found.out_of, found.remark, found.notes) == (50, "hm", ("As it is.",))


@pytest.mark.parametrize("source", [AWAY, NEVER])
def test_while_it_is_away_prometheus_does_and_says_so(source: LiveSource) -> None:
    found = best(HIS, source)
    assert told(found) == (
        *(40.0, "prometheus", False),
        "From Prometheus: the broker did not answer",
    )
    # It is a figure of now, and may be judged.
    assert found.proven(DEPTH) == 40.0


def test_where_neither_has_one_of_now_the_newest_old_one_stays_with_its_time() -> None:
    older = replace(HIS_OLD, shown=Present(40.0, NOW + AHEAD - 9))
    newer = replace(HIS_OLD, shown=Present(40.0, NOW + AHEAD + 9))
    assert told(best(older, AWAY)) == (42.0, "broker", True, "the broker did not answer")
    assert told(best(newer, AWAY)) == (
        *(40.0, "prometheus", True),
        "the broker did not answer. Cannot connect to Prometheus",
    )
    assert told(best(HIS_NONE, AWAY))[:3] == (42.0, "broker", True)
    for found in (best(older, AWAY), best(newer, AWAY), best(HIS_NONE, AWAY)):
        assert found.proven(DEPTH) is None
        assert "the broker did not answer" in found.doubt


def test_where_nobody_ever_knew_it_stays_unknown_with_both_causes() -> None:
    found = best(UNASKED, NEVER)
    assert told(found) == (
        *(None, "prometheus", False),
        "the broker did not answer. Prometheus has not answered yet",
    )
    assert found.proven(DEPTH) is None


def test_a_source_that_answers_and_does_not_know_is_not_blamed_for_an_outage() -> None:
    found = best(HIS, reporting(BROKER, figures={}))
    assert told(found) == (40.0, "prometheus", False, "")
    assert found.notes == ("Not from the broker: nobody knows.",)


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


def test_each_source_is_told_with_its_state_and_what_it_tells() -> None:
    states = [
        (one["title"], one["state"], one["asOf"], one["since"], one["kind"], one["tells"])
        for one in source_content([BROKER, AWAY, NEVER], {"queue_depth": DEPTH}, AHEAD)
    ]
    at, since = NOW + AHEAD, NOW + 5 + AHEAD
    assert states == [
        ("Broker", "fresh", at, None, "", ["Queue depth"]),
        ("Broker", "stale", at, since, "down", ["Queue depth"]),
        ("Broker", "unavailable", None, since, "down", ["Queue depth"]),
    ]


AUDIT = LiveSource(Origin.AUDIT, Known(LiveReport(), NOW))
LOCKED = JobStoreError("it is locked")
ACT = Act(NOW - 5, "ada", "purge queue default", "done", "3 jobs")


def test_acts_are_placed_by_the_clock_of_the_charts() -> None:
    found = act_content(Acts((ACT,)), [BROKER, AUDIT], AHEAD)
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
    assert act_content(None, [BROKER], AHEAD) is None
    away = replace(AUDIT, known=AUDIT.known.failed(LOCKED, NOW))
    found = act_content(Acts((ACT,)), [away], AHEAD)
    assert found is not None
    assert (found["state"], len(found["list"])) == ("stale", 1)
    never = act_content(None, [replace(AUDIT, known=Known(error=LOCKED))], AHEAD)
    assert never is not None
    assert (never["state"], never["list"]) == ("unavailable", [])
    quiet = act_content(Acts(), [AUDIT], AHEAD)
    assert quiet is not None
    assert quiet["state"] == "idle"


def test_of_very_many_acts_the_newest_are_told_and_since_when() -> None:
    many = tuple(replace(ACT, at=float(number)) for number in range(MOST_ACTS + 10))
    found = act_content(Acts(many), [AUDIT], 0.0)
    assert found is not None
    assert (len(found["list"]), found["begin"], found["list"][0]["at"]) == (MOST_ACTS, 10.0, 10.0)


@pytest.mark.parametrize(
    ("soonest", "latest", "words"),
    [
        (310, 470, "clears in 5–8 min"),
        (42, 49, "clears in 40–50 s"),
        (3, 9, "clears in less than 10 s"),
        (20, 70, "clears in 20–70 s"),
        (300, 300, "clears in about 5 min"),
        (40, 110, "clears in less than 2 min"),
        (9_000, 20_000, "clears in 2–6 h"),
        (200_000, 300_000, "clears in 2–4 d"),
        (250, None, "clears in 4 min or more"),
        (4, None, "clears in 10 s or more"),
    ],
)
def test_a_forecast_is_told_as_a_range_that_is_rounded_outward(
    soonest: float, latest: float | None, words: str
) -> None:
    seconds = soonest if latest is None else (soonest + latest) / 2
    found = drain_content(
        Drain(
            DrainState.CLEARING,
            seconds=seconds,
            soonest_seconds=soonest,
            latest_seconds=latest,
            growth_per_second=-1.0,
        )
    )
    assert found["brief"] == words
    assert found["words"] == f"The queue {words}, if it goes on as in the last minutes."


@pytest.mark.parametrize(
    ("yesterday", "last_week", "tones"),
    [
        (300.0, 350.0, ["worse", "worse"]),
        (-30.0, -20.0, ["better", "better"]),
        # Yesterday was the burst, and today is another.
        (-183.0, 370.0, ["neutral", "neutral"]),
        (0.0, 370.0, ["neutral", "neutral"]),
        (300.0, None, ["neutral", "neutral"]),
    ],
)
def test_a_change_is_good_or_bad_only_where_all_that_it_is_compared_with_say_so(
    yesterday: float, last_week: float | None, tones: list[str]
) -> None:
    changes = {
        name: None if change is None else (change, change)
        for name, change in (("yesterday", yesterday), ("last week", last_week))
    }
    found = changes_content(DEPTH, Present(380.0, NOW), changes)
    assert [change["tone"] for change in found] == tones


@pytest.mark.parametrize(
    ("prometheus", "broker", "words"),
    [
        (0.0, 0.0, []),
        (4.9, -4.9, []),
        (
            3600.0,
            3601.0,
            ["The clocks of Prometheus and of the broker are 1 h ahead of this server's."],
        ),
        (
            -3600.0,
            3600.0,
            [
                "The clock of Prometheus is 1 h behind this server's.",
                "The clock of the broker is 1 h ahead of this server's.",
            ],
        ),
        (0.5, -600.0, ["The clock of the broker is 10 min behind this server's."]),
        (600.0, 0.0, ["The clock of Prometheus is 10 min ahead of this server's."]),
        # Whichever of two is off by just enough.
        (6.0, 4.0, ["The clock of Prometheus is 6 s ahead of this server's."]),
        (4.0, 6.0, ["The clock of the broker is 6 s ahead of this server's."]),
    ],
)
def test_three_clocks_are_told_apart(prometheus: float, broker: float, words: list[str]) -> None:
    told = clock_notices(prometheus, broker)
    assert [text[: text.index(".") + 1] for text in told] == words
    ranges = [text for text in told if "Ranges follow the clock of Prometheus." in text]
    assert len(ranges) == (abs(prometheus) > 5)
