"""Answers that are asked for once for all, and kept while their source fails."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from queuescope.dashboard.ui.shared_answers import SharedAnswers
from queuescope.errors import JobStoreError, StoreErrorKind
from queuescope.known import Known


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Source:
    """Counts how often it is asked, and fails on request."""

    def __init__(self) -> None:
        self.asked = 0
        self.error: JobStoreError | None = None

    def __call__(self) -> int:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return self.asked


def slow() -> JobStoreError:
    return JobStoreError("too slow", StoreErrorKind.SLOW)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def answers(clock: Clock) -> SharedAnswers:
    return SharedAnswers(slow=slow, patience_seconds=5, failing_seconds=3, limit=3, clock=clock)


def test_a_question_is_asked_once_while_its_answer_is_fresh(
    answers: SharedAnswers, clock: Clock
) -> None:
    source = Source()
    assert answers.get("a", source, fresh_seconds=5) == Known(1, 1000.0)
    clock.now += 4.9
    assert answers.get("a", source, fresh_seconds=5) == Known(1, 1000.0)
    assert answers.get("a", source, fresh_seconds=1) == Known(2, 1004.9)
    clock.now -= 600  # the clock was put back
    assert answers.get("a", source, fresh_seconds=5).value == 3


def test_the_last_good_answer_stays_with_the_cause_while_the_source_fails(
    answers: SharedAnswers, clock: Clock
) -> None:
    source = Source()
    first = answers.get("a", source, fresh_seconds=5)
    assert first.state == "fresh"
    clock.now += 10
    source.error = JobStoreError("down", StoreErrorKind.DOWN)
    stale = answers.get("a", source, fresh_seconds=5)
    assert stale == Known(1, 1000.0, source.error, 1010.0)
    assert stale.state == "stale"
    clock.now += 2
    assert answers.get("a", source, fresh_seconds=5) == stale
    assert source.asked == 2, "a source that fails is not asked by everybody"
    clock.now += 2
    again = answers.get("a", source, fresh_seconds=5)
    assert (source.asked, again.failing_since, again.as_of) == (3, 1010.0, 1000.0)
    source.error = None
    clock.now += 4
    assert answers.get("a", source, fresh_seconds=5) == Known(4, 1018.0)


def test_metrics_without_any_answer_are_absent(answers: SharedAnswers) -> None:
    source = Source()
    source.error = JobStoreError("down", StoreErrorKind.DOWN)
    kept = answers.get("a", source, fresh_seconds=5)
    assert (kept.value, kept.as_of, kept.state) == (None, None, "unavailable")


def test_a_source_that_is_away_is_found_so_by_one_question_for_all(clock: Clock) -> None:
    answers = SharedAnswers(
        slow=slow,
        is_away=lambda error: getattr(error, "kind", None) is StoreErrorKind.DOWN,
        patience_seconds=5,
        failing_seconds=3,
        clock=clock,
    )
    source, other = Source(), Source()
    first = answers.get("b", other, fresh_seconds=1)
    clock.now += 10
    source.error = other.error = JobStoreError("down", StoreErrorKind.DOWN)
    answers.get("a", source, fresh_seconds=5)
    clock.now += 2
    kept = answers.get("b", other, fresh_seconds=1)
    assert kept == Known(first.value, first.as_of, source.error, 1010.0)
    assert answers.get("c", other, fresh_seconds=1).state == "unavailable"
    assert (source.asked, other.asked) == (1, 1)
    clock.now += 2
    source.error = other.error = None
    assert answers.get("b", other, fresh_seconds=1) == Known(2, 1014.0)
    # A question that fails for itself alone is no reason not to ask others.
    source.error = slow()
    clock.now += 10
    assert answers.get("a", source, fresh_seconds=5).error is source.error
    assert answers.get("c", other, fresh_seconds=1).state == "fresh"


def test_questions_do_not_share_answers_and_the_oldest_is_dropped(
    answers: SharedAnswers,
) -> None:
    source = Source()
    for question in "abc":
        answers.get(question, source, fresh_seconds=5)
    assert answers.get("a", source, fresh_seconds=5).value == 1
    answers.get("d", source, fresh_seconds=5)
    assert answers.get("a", source, fresh_seconds=5).value == 1
    assert answers.get("b", source, fresh_seconds=5).value == 5


def test_simultaneous_questions_share_an_answer() -> None:
    answers = SharedAnswers(slow=slow, patience_seconds=30)
    gate = threading.Event()
    source = Source()

    def ask() -> int:
        gate.wait(20)
        return source()

    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(answers.get, "a", ask, fresh_seconds=60) for _ in range(8)]
        gate.set()
        assert {one.result().value for one in asked} == {1}


def test_one_question_that_hangs_keeps_no_other_waiting_and_is_given_up() -> None:
    answers = SharedAnswers(slow=slow, patience_seconds=2)
    gate = threading.Event()
    hang: Callable[[], object] = lambda: gate.wait(20)  # noqa: E731 - typed for what it stands for
    with ThreadPoolExecutor(1) as pool:
        hanging = pool.submit(answers.get, "slow", hang, fresh_seconds=60)
        assert answers.get("quick", Source(), fresh_seconds=60).value == 1
        kept = hanging.result()
    gate.set()
    assert kept.state == "unavailable"
    assert isinstance(kept.error, JobStoreError)
    assert kept.error.kind is StoreErrorKind.SLOW
