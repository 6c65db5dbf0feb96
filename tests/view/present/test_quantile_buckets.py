"""A few buckets give the same quantile as all, or are known not to suffice."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from queuescope.panels import bucket_quantiles
from queuescope.timeseries import Labels
from queuescope.view.present.quantile_buckets import WHOLE_SECONDS, QuantileBuckets

NAME = "latency"
BOUNDS = (0.1, 0.5, 1, 2, 5, 10, 20, 60, 120, 300, math.inf)

Samples = list[tuple[Labels, float]]


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


def text(bound: float) -> str:
    return "+Inf" if math.isinf(bound) else f"{bound:g}"


def samples(jobs: list[int]) -> Samples:
    """The cumulative buckets of so many jobs in each."""
    total = np.cumsum(jobs, dtype=float)
    return [
        ((("le", text(bound)),), float(count)) for bound, count in zip(BOUNDS, total, strict=True)
    ]


def p95(found: Samples) -> float:
    counts = {float(dict(labels)["le"]): value for labels, value in found}
    bounds = np.array(sorted(counts))
    values = np.array([[counts[bound]] for bound in bounds])
    return float(bucket_quantiles(bounds, values, [0.95]).values[0, 0])


def asked(buckets: QuantileBuckets, found: Samples) -> Samples:
    """What a source would answer to the matcher."""
    matcher = buckets.matcher(NAME)
    pattern = matcher.removeprefix('le=~"').removesuffix('"').replace("\\\\", "\\") or ".*"
    return [sample for sample in found if re.fullmatch(pattern, dict(sample[0])["le"])]


jobs = st.lists(st.integers(0, 50), min_size=len(BOUNDS), max_size=len(BOUNDS))


@settings(deadline=None)
@given(jobs, jobs)
def test_the_chosen_buckets_give_the_same_quantile_as_all(
    before: list[int], now: list[int]
) -> None:
    buckets = QuantileBuckets(Clock())
    buckets.learn(NAME, samples(before))
    few = asked(buckets, samples(now))
    if buckets.matcher(NAME) and buckets.is_enough(NAME, few):
        assert p95(few) == pytest.approx(p95(samples(now)), rel=1e-12, nan_ok=True)


@settings(deadline=None)
@given(jobs.filter(any))
def test_the_few_buckets_are_enough_while_nothing_changes(now: list[int]) -> None:
    buckets = QuantileBuckets(Clock())
    buckets.learn(NAME, samples(now))
    few = asked(buckets, samples(now))
    assert len(few) <= 5
    assert buckets.is_enough(NAME, few)


ABOUT_TWO_SECONDS = [0, 0, 10, 90, 5, 0, 0, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("now", "enough"),
    [
        ([0, 0, 10, 80, 20, 0, 0, 0, 0, 0, 0], True),
        ([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], True),
        ([0, 95, 0, 0, 0, 0, 0, 0, 0, 0, 0], False),
        ([0, 0, 10, 10, 10, 0, 90, 0, 0, 0, 0], False),
        ([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 90], False),
    ],
)
def test_when_the_quantile_leaves_the_bracket_all_are_needed(now: list[int], enough: bool) -> None:
    buckets = QuantileBuckets(Clock())
    buckets.learn(NAME, samples(ABOUT_TWO_SECONDS))
    assert buckets.is_enough(NAME, asked(buckets, samples(now))) is enough


def test_other_buckets_than_were_asked_for_are_not_enough() -> None:
    buckets = QuantileBuckets(Clock())
    buckets.learn(NAME, samples(ABOUT_TWO_SECONDS))
    few = asked(buckets, samples(ABOUT_TWO_SECONDS))
    for wrong in ([], few[1:], [*few, ((("le", "2.5"),), 1.0)], [(few[0][0], math.nan), *few[1:]]):
        assert not buckets.is_enough(NAME, wrong)


def test_all_buckets_are_asked_for_at_times() -> None:
    clock = Clock()
    buckets = QuantileBuckets(clock)
    assert not buckets.matcher(NAME)
    buckets.learn(NAME, samples(ABOUT_TWO_SECONDS))
    assert buckets.matcher(NAME) == r'le=~"0\\.5|1|2|5|\\+Inf"'
    clock.now += WHOLE_SECONDS
    assert not buckets.matcher(NAME)


@pytest.mark.parametrize(
    "found",
    [
        [],
        [((("le", "1"),), 3.0), ((("le", "+Inf"),), 4.0)],
        [((("le", "1"),), 3.0), ((("le", "2"),), 4.0)],
        [((("le", "one"),), 3.0), ((("le", "nan"),), 4.0)],
        samples([0] * len(BOUNDS)),
    ],
)
def test_no_quantile_or_few_buckets_means_no_choice_of_buckets(found: Samples) -> None:
    buckets = QuantileBuckets(Clock())
    buckets.learn(NAME, samples(ABOUT_TWO_SECONDS))
    buckets.learn(NAME, found)
    assert not buckets.matcher(NAME)
    assert not buckets.is_enough(NAME, found)


def test_queries_are_kept_apart() -> None:
    buckets = QuantileBuckets(Clock())
    buckets.learn(NAME, samples(ABOUT_TWO_SECONDS))
    assert not buckets.matcher("another")
