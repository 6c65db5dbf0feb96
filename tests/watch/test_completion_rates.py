"""The completion rate of a worker needs two of its reports."""

from __future__ import annotations

import pytest
from tests.worker_reports import AHEAD, NOW, report

from queuescope.watch import CompletionRate, CompletionRates

T0 = NOW + AHEAD


def test_two_reports_far_enough_apart_give_the_rate() -> None:
    completion_rates = CompletionRates()
    assert completion_rates.add([report(clock_at=T0, processed=10)]) == {}
    assert completion_rates.add([report(clock_at=T0 + 10, processed=15)]) == {}
    assert completion_rates.add([report(clock_at=T0 + 30, processed=20)]) == {
        ("w@h", "b"): CompletionRate(20.0, 30.0)
    }


def test_it_is_that_of_the_last_five_minutes() -> None:
    completion_rates = CompletionRates()
    for second in range(0, 1000, 2):
        found = completion_rates.add(
            [report(clock_at=T0 + second, processed=0 if second < 500 else second)]
        )
    assert found["w@h", "b"].per_minute == pytest.approx(60.0)
    assert found["w@h", "b"].over_seconds == pytest.approx(300.0, abs=10)


def test_a_restart_or_a_clock_set_back_starts_a_new_measurement() -> None:
    completion_rates = CompletionRates()
    completion_rates.add([report(clock_at=T0, processed=1000)])
    assert completion_rates.add([report(clock_at=T0 + 60, processed=3, boot_id="c")]) == {}
    completion_rates.add([report(clock_at=T0 + 30, processed=4, boot_id="c")])
    found = completion_rates.add([report(clock_at=T0 + 60, processed=5, boot_id="c")])
    assert found == {("w@h", "c"): CompletionRate(2.0, 30.0)}


def test_a_worker_without_reports_has_no_rate() -> None:
    completion_rates = CompletionRates()
    completion_rates.add([report(clock_at=T0)])
    completion_rates.add([])
    assert completion_rates.add([report(clock_at=T0 + 60)]) == {}


def test_a_worker_that_only_repeats_its_last_report_does_not_get_slower() -> None:
    """The broker keeps the last report of a worker that is cut off."""
    completion_rates = CompletionRates()
    completion_rates.add([report(clock_at=T0, processed=0)])
    last = report(clock_at=T0 + 60, processed=60)
    assert [completion_rates.add([last])["w@h", "b"].per_minute for _ in range(3)] == [60.0] * 3
