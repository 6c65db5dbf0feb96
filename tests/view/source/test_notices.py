"""The notices about late samples, and about the clocks of Prometheus and of the broker."""

from __future__ import annotations

import pytest

from queuescope.view.source.notices import clock_notices, late_notices
from queuescope.view.source.scrapes import Late

SEVEN = tuple("abcdefg")


@pytest.mark.parametrize(
    ("late", "words"),
    [
        (Late(undecided=SEVEN), "The newest samples of {names} are old"),
        (Late(by_metric=dict.fromkeys(SEVEN, 600.0)), "Samples of {names} arrive 10 min late."),
    ],
)
def test_of_many_late_metrics_two_are_named_at_once_and_all_to_whoever_looks_closer(
    late: Late, words: str
) -> None:
    for notices, names in (
        (late_notices(late, 2), "a, b and 5 more"),
        (late_notices(late), "a, b, c, d, e, f, g"),
    ):
        [text] = notices
        assert text.startswith(words.format(names=names))


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
def test_three_clocks_are_compared(prometheus: float, broker: float, words: list[str]) -> None:
    sentences = clock_notices(prometheus, broker)
    assert [text[: text.index(".") + 1] for text in sentences] == words
    ranges = [text for text in sentences if "Ranges follow the clock of Prometheus." in text]
    assert len(ranges) == (abs(prometheus) > 5)
