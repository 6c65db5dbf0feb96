from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuescope.health import Finding, Health, Limits, Measured, Worse, judge

P95 = Limits(Worse.ABOVE, degraded=60, down=600)
RATE = Limits(Worse.BELOW, degraded=95, down=50)


def after(value: float, *values: float) -> Measured:
    """``value`` now, after ``values`` a minute apart."""
    return Measured(value, "", np.arange(0.0, 60.0 * len(values), 60.0), np.array(values, float))


def test_a_broken_limit_is_named_with_its_value_and_since_when() -> None:
    verdict = judge({"p95": P95}, {"p95": after(94, 10, 70, 50, 61, 80, 94)})
    assert verdict.health is Health.DEGRADED
    assert verdict.findings == (Finding("p95", Health.DEGRADED, 94, 60, since=180.0),)


@pytest.mark.parametrize(
    ("bounds", "health", "limit"),
    [
        ((10, 30), None, None),
        ((10, 60), None, None),
        ((56, 68), Health.UNKNOWN, 60),
        # Above 60, whatever the exact value is.
        ((60, 120), Health.DEGRADED, 60),
        ((500, 700), Health.DEGRADED, 60),
        ((600, np.inf), Health.DOWN, 600),
        ((1, np.inf), Health.UNKNOWN, 60),
    ],
)
def test_a_bound_is_beyond_a_limit_only_where_all_that_it_may_be_is(
    bounds: tuple[float, float], health: Health | None, limit: float | None
) -> None:
    findings = judge({"p95": P95}, {"p95": Measured(bounds[0] + 1, bounds=bounds)}).findings
    assert [(one.health, one.limit, one.bounds) for one in findings] == (
        [] if health is None else [(health, limit, bounds)]
    )


def test_of_what_should_be_high_the_higher_bound_is_the_better_one() -> None:
    for bounds, health in (((96, 99), None), ((90, 96), Health.UNKNOWN), ((80, 90), "degraded")):
        findings = judge({"rate": RATE}, {"rate": Measured(1, bounds=bounds)}).findings
        assert [one.health for one in findings] == ([] if health is None else [health])


def test_a_gap_does_not_end_the_run_that_led_here() -> None:
    nan = float("nan")
    verdict = judge({"p95": P95}, {"p95": after(94, 10, 70, nan, nan, 94, nan)})
    assert verdict.findings[0].since == 60.0


def test_a_run_that_fills_the_history_began_before_it() -> None:
    verdict = judge({"p95": P95}, {"p95": after(94, 70, 80)})
    assert (verdict.findings[0].since, verdict.findings[0].began_before) == (0.0, True)


def test_what_broke_after_the_newest_point_has_no_time() -> None:
    assert judge({"p95": P95}, {"p95": after(94, 10, 20)}).findings[0].since is None


def test_the_worse_limit_and_its_own_time_count() -> None:
    verdict = judge({"rate": RATE}, {"rate": after(40, 99, 90, 45, 40)})
    assert verdict.findings == (Finding("rate", Health.DOWN, 40, 50, since=120.0),)


def test_a_value_on_its_limit_is_within_it() -> None:
    assert (
        judge({"p95": P95, "rate": RATE}, {"p95": Measured(60), "rate": Measured(95)}).findings
        == ()
    )


def test_unknown_is_never_green_and_names_its_cause() -> None:
    verdict = judge(
        {"p95": P95, "rate": RATE}, {"p95": Measured(1), "rate": Measured(None, "Gone.")}
    )
    assert verdict.health is Health.UNKNOWN
    assert verdict.findings == (Finding("rate", Health.UNKNOWN, cause="Gone."),)


def test_what_was_not_even_asked_for_is_unknown() -> None:
    assert judge({"p95": P95}, {}).health is Health.UNKNOWN


def test_what_is_proven_bad_outranks_what_is_not_known_and_both_are_told() -> None:
    verdict = judge({"p95": P95, "rate": RATE}, {"p95": Measured(None), "rate": Measured(90)})
    assert verdict.health is Health.DEGRADED
    assert [finding.health for finding in verdict.findings] == [Health.DEGRADED, Health.UNKNOWN]


def test_idle_breaks_no_limit() -> None:
    assert judge({"p95": P95}, {"p95": Measured(float("nan"))}).health is Health.HEALTHY


def test_a_measure_without_limits_is_no_rule() -> None:
    assert judge({"throughput": Limits(Worse.BELOW)}, {}).health is Health.HEALTHY


def test_limits_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="better side"):
        Limits(Worse.ABOVE, degraded=60, down=10)
    with pytest.raises(ValueError, match="better side"):
        Limits(Worse.BELOW, degraded=50, down=95)


@given(
    st.dictionaries(st.sampled_from("abcd"), st.none() | st.floats(0, 200) | st.just(float("nan"))),
    st.lists(st.sampled_from(list(Health)), max_size=3),
)
def test_the_verdict_is_the_worst_finding_and_green_only_when_all_is_known(
    values: dict[str, float | None], extra: list[Health]
) -> None:
    limits = dict.fromkeys("abcd", P95)
    others = [Finding("other", health) for health in extra if health is not Health.HEALTHY]
    verdict = judge(limits, {name: Measured(value) for name, value in values.items()}, others)
    ranks = [finding.health.rank for finding in verdict.findings]
    assert ranks == sorted(ranks, reverse=True)
    assert verdict.health.rank == max(ranks, default=0)
    if verdict.health is Health.HEALTHY:
        assert all(values.get(name) is not None for name in limits)
