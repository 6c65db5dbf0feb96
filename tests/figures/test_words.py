"""Numbers, durations and steps in words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuescope.figures import duration_words, figure_words, step_words, value_words
from queuescope.panels import Kind

COUNT, PERCENT, LATENCY = Kind.COUNT, Kind.PERCENT, Kind.LATENCY


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (1, "1 s"), (15, "15 s"), (60, "1 min"), (90, "90 s"), (300, "5 min"), (900, "15 min"),
        (3600, "1 h"), (5400, "90 min"), (7200, "2 h"), (86_400, "1 d"), (3975, "3975 s"),
    ],
)  # fmt: skip
def test_a_step_is_written_in_one_exact_unit(seconds: int, words: str) -> None:
    assert step_words(seconds) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-3, "0 s"), (0, "0 s"), (0.4, "0 s"), (20, "20 s"), (59.6, "1 min"), (125, "2 min 5 s"),
        (3600, "1 h"), (3661, "1 h 1 min"), (86_399.9, "1 d"), (3 * 86_400 + 20, "3 d"),
        (3 * 86_400 + 7_300, "3 d 2 h"), (40 * 86_400, "40 d"),
    ],
)  # fmt: skip
def test_a_duration_is_written_in_its_two_largest_units(seconds: float, words: str) -> None:
    assert duration_words(seconds) == words


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        (COUNT, 0, "0"), (COUNT, 42, "42"), (COUNT, 1_234_567, "1,234,567"), (COUNT, 2.5, "2.5"),
        (COUNT, 20.000_000_000_4, "20"), (COUNT, 20.04, "20.0"),
        (PERCENT, 0, "0.0 %"), (PERCENT, 98.23, "98.2 %"), (PERCENT, 99.94, "99.9 %"),
        (PERCENT, 99.96, "99.9 %"), (PERCENT, 99.999_999, "99.9 %"), (PERCENT, 100, "100.0 %"),
        (PERCENT, 99.999_999_999, "99.9 %"), (PERCENT, 100 * (1 / 3) / (1 / 3), "100.0 %"),
        (LATENCY, 0.4, "0 ms"), (LATENCY, 840, "840 ms"), (LATENCY, 999.4, "999 ms"),
        (LATENCY, 999.6, "1.0 s"), (LATENCY, 12_400, "12.4 s"), (LATENCY, 59_940, "59.9 s"),
        (LATENCY, 59_960, "1 min"), (LATENCY, 200_000, "3 min 20 s"),
        (COUNT, float("nan"), "–"), (PERCENT, float("inf"), "–"), (LATENCY, float("-inf"), "–"),
    ],
)  # fmt: skip
def test_a_value_is_written_with_its_unit(kind: Kind, value: float, words: str) -> None:
    assert value_words(kind, value) == words


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (600_000, 1_800_000, "10–30 min"), (1_000, 2_000, "1–2 s"),
        (56_000, 68_000, "56 s – 1 min 8 s"),
        (820, 1_000, "820 ms – 1 s"), (100, 120, "100–120 ms"), (0, 1_000, "up to 1 s"),
        (1_200, 1_500, "1.2–1.5 s"), (600_000, float("inf"), "10 min or more"),
        # Rounded outwards.
        (1_249, 1_251, "1.2–1.3 s"), (0.4, 0.6, "0–1 ms"),
        (3_600_000, 3_660_500, "1 h – 1 h 2 min"),
        (float("nan"), float("nan"), "–"),
    ],
)  # fmt: skip
def test_a_bounded_value_is_not_written_as_one_number(low: float, high: float, words: str) -> None:
    value = low if high == float("inf") else (low + high) / 2
    assert figure_words(LATENCY, value, (low, high)) == words


@given(st.floats(0, 100 - 1.1e-10))
def test_less_than_all_is_never_rounded_to_all(value: float) -> None:
    assert value_words(PERCENT, value) != "100.0 %"


@given(st.floats(1e-9, 1e9))
def test_all_is_written_as_all_whatever_its_rate(per_second: float) -> None:
    assert value_words(PERCENT, 100 * per_second / per_second) == "100.0 %"


@given(st.floats(0, 1e9))
def test_a_duration_loses_less_than_the_unit_after_its_last(seconds: float) -> None:
    sizes = {"d": 86_400, "h": 3600, "min": 60, "s": 1}
    parts = duration_words(seconds).split(" ")
    total = sum(int(n) * sizes[unit] for n, unit in zip(parts[::2], parts[1::2], strict=True))
    assert len(parts) <= 4
    assert -0.5 <= seconds - total < max(1, sizes[parts[1]] / 24)
