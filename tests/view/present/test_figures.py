"""Which source a figure is from."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.view.broker_reports import (
    AHEAD,
    AWAY,
    BROKER,
    DEPTH,
    NEVER,
    NOW,
    reporting,
)

from queuescope.view.present.figures import PresentFigure, best_figure
from queuescope.view.present.live_sources import (
    LiveSource,
)
from queuescope.view.present.present_value import PresentValue

HIS = PresentFigure(PresentValue(40.0, NOW + AHEAD))
HIS_OLD = replace(HIS, outage="cannot connect to Prometheus")
HIS_NONE = PresentFigure(PresentValue(None, NOW + AHEAD))
UNASKED = PresentFigure(PresentValue())


def best(figure: PresentFigure, *sources: LiveSource) -> PresentFigure:
    return best_figure(DEPTH, figure, sources, AHEAD)


def summary(figure: PresentFigure) -> tuple[float | None, str, bool, str]:
    return figure.shown.value, figure.origin.value, figure.is_stale, figure.cause


def test_prometheus_alone_is_as_ever() -> None:
    assert best(HIS) is HIS
    assert best(HIS, replace(BROKER, measures=frozenset())) is HIS


@pytest.mark.parametrize("his", [HIS, HIS_OLD, HIS_NONE, UNASKED])
def test_the_preferred_source_is_used_while_it_answers(his: PresentFigure) -> None:
    found = best(his, BROKER)
    assert summary(found) == (42.0, "broker", False, "")
    assert found.shown.as_of == NOW + AHEAD
    assert found.proven(DEPTH) == 42.0
    assert (found.out_of, found.remark, found.notes) == (50, "hm", ("As it is.",))


@pytest.mark.parametrize("source", [AWAY, NEVER])
def test_while_it_is_away_prometheus_does_and_says_so(source: LiveSource) -> None:
    found = best(HIS, source)
    assert summary(found) == (
        *(40.0, "prometheus", False),
        "From Prometheus: the broker did not answer",
    )
    # It is a figure of now, and may be judged.
    assert found.proven(DEPTH) == 40.0


def test_where_neither_has_one_of_now_the_newest_old_one_stays_with_its_time() -> None:
    older = replace(HIS_OLD, shown=PresentValue(40.0, NOW + AHEAD - 9))
    newer = replace(HIS_OLD, shown=PresentValue(40.0, NOW + AHEAD + 9))
    assert summary(best(older, AWAY)) == (42.0, "broker", True, "the broker did not answer")
    assert summary(best(newer, AWAY)) == (
        *(40.0, "prometheus", True),
        "the broker did not answer. Cannot connect to Prometheus",
    )
    assert summary(best(HIS_NONE, AWAY))[:3] == (42.0, "broker", True)
    for found in (best(older, AWAY), best(newer, AWAY), best(HIS_NONE, AWAY)):
        assert found.proven(DEPTH) is None
        assert "the broker did not answer" in found.doubt


def test_a_figure_no_source_ever_had_stays_unknown_with_both_causes() -> None:
    found = best(UNASKED, NEVER)
    assert summary(found) == (
        *(None, "prometheus", False),
        "the broker did not answer. Prometheus has not answered yet",
    )
    assert found.proven(DEPTH) is None


def test_a_source_that_answers_and_does_not_know_is_not_blamed_for_an_outage() -> None:
    found = best(HIS, reporting(BROKER, figures={}))
    assert summary(found) == (40.0, "prometheus", False, "")
    assert found.notes == ("Not from the broker: it is not known.",)
