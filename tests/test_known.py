"""A value with its age, and since when and why there is no newer one."""

from __future__ import annotations

from queuescope.errors import BrokerError, BrokerErrorKind
from queuescope.known import Known
from queuescope.timeseries import State

DOWN = BrokerError(BrokerErrorKind.DOWN, "the broker did not answer")
SLOW = BrokerError(BrokerErrorKind.SLOW, "the broker is slow")
UNKNOWN: Known[int] = Known()


def test_nothing_is_known_before_the_first_answer() -> None:
    assert UNKNOWN.state is State.UNAVAILABLE
    assert not UNKNOWN.is_fresh
    assert (UNKNOWN.cause, UNKNOWN.age_seconds(9.0), UNKNOWN.fresh_seconds(9.0)) == ("", None, 0.0)


def test_zero_is_a_value() -> None:
    zero = UNKNOWN.answered(0, 5.0)
    assert (zero.state, zero.fresh_value) == (State.FRESH, 0)
    assert zero.map(str).value == "0"


def test_a_failure_keeps_the_last_value_its_age_and_when_it_began() -> None:
    good = UNKNOWN.answered(7, 100.0)
    failed = good.failed(DOWN, 110.0).failed(SLOW, 120.0)
    assert failed == Known(7, 100.0, SLOW, 110.0)
    assert (failed.state, failed.cause) == (State.STALE, "the broker is slow")
    assert (good.kind, failed.kind) == ("", "slow")
    assert (failed.fresh_value, failed.age_seconds(130.0)) == (None, 30.0)
    assert UNKNOWN.failed(DOWN, 0.0).failed(SLOW, 5.0) == Known(None, None, SLOW, 0.0)
    assert UNKNOWN.failed(DOWN, 0.0).state is State.UNAVAILABLE


def test_it_counts_for_how_long_the_source_has_answered() -> None:
    steady = UNKNOWN.answered(1, 10.0).answered(2, 20.0)
    assert (steady.as_of, steady.fresh_seconds(25.0)) == (20.0, 15.0)
    again = steady.failed(DOWN, 30.0).answered(3, 40.0)
    assert again == Known(3, 40.0, fresh_since=40.0)
    # After a clock was set back, no age is negative.
    assert (again.fresh_seconds(0.0), again.age_seconds(0.0)) == (0.0, 0.0)


def test_another_value_is_made_of_it_with_the_same_age_and_cause() -> None:
    failed = UNKNOWN.answered(7, 100.0).failed(DOWN, 110.0)
    assert failed.map(lambda n: f"{n} jobs") == Known("7 jobs", 100.0, DOWN, 110.0)
    assert Known(error=DOWN).map(str) == Known(error=DOWN)
