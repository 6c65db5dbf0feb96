"""Timings that contradict each other are refused, with the name of the wrong one."""

from __future__ import annotations

import math

import pytest

from queuescope.broker.timings import WorkerTimings
from queuescope.errors import ConfigurationError


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ({"report_seconds": 0}, "report_seconds is 0"),
        ({"ping_seconds": math.nan}, "ping_seconds is nan"),
        ({"report_seconds": 8}, "lost_seconds is 15"),
        ({"drop_seconds": 10}, "drop_seconds is 10"),
    ],
)
def test_timings_that_contradict_each_other_are_refused(wrong: dict[str, float], name: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        WorkerTimings(**wrong)


def test_small_timings_are_accepted() -> None:
    assert WorkerTimings(report_seconds=0.1, lost_seconds=1, drop_seconds=2).lost_seconds == 1
