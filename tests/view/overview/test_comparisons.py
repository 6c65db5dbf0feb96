"""Whether a change is good or bad."""

from __future__ import annotations

import pytest

from queuescope.panels import load_dashboard
from queuescope.view.overview.comparisons import changes_content
from queuescope.view.present.present_value import PresentValue

DEPTH = load_dashboard("ai-agents").measures[0]


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
    found = changes_content(DEPTH, PresentValue(380.0, 1_000_000.0), changes)
    assert [change["tone"] for change in found] == tones
