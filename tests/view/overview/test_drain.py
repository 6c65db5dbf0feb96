"""When the queue clears, in words."""

from __future__ import annotations

import pytest

from queuescope.health import Drain, DrainState
from queuescope.view.overview.drain import drain_content


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
def test_a_forecast_is_a_range_that_is_rounded_outward(
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
    assert found["words"] == f"The queue {words} at the rate of the last minutes."
