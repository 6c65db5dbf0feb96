"""A watched source: the newest answer, and how old and why when there is no newer one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from queuescope.errors import BrokerError, BrokerErrorKind
from queuescope.known import Known
from queuescope.watch import Watch

PATIENCE = 30.0
Start = Callable[..., Watch[int]]


class Source:
    """Counts the readings; fails, or waits for ``gate``, on demand."""

    def __init__(self) -> None:
        self.count = 0
        self.is_down = False
        self.gate = threading.Event()
        self.gate.set()
        self.is_asked = threading.Event()

    def __call__(self) -> int:
        self.is_asked.set()
        self.gate.wait(PATIENCE)
        if self.is_down:
            raise BrokerError(BrokerErrorKind.DOWN, "the broker did not answer")
        self.count += 1
        return self.count


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def now() -> list[float]:
    return [1000.0]


@pytest.fixture
def watch(source: Source, now: list[float]) -> Iterator[Watch[int]]:
    with ExitStack() as closing:
        made = Watch(
            "test",
            source,
            seconds=3600,
            overdue_seconds=10,
            hung=lambda: BrokerError(BrokerErrorKind.SLOW, "the broker hangs"),
            clock=lambda: now[0],
        )
        closing.callback(made.close)
        closing.callback(source.gate.set)
        yield made


def test_nothing_is_known_before_the_first_answer(watch: Watch[int]) -> None:
    assert watch.known == Known()
    assert not watch.known.is_fresh


def test_who_asks_anew_gets_a_newer_answer(watch: Watch[int]) -> None:
    watch.start()
    first = watch.refresh(patience_seconds=PATIENCE)
    second = watch.refresh(patience_seconds=PATIENCE)
    assert first.value is not None
    assert second.value is not None
    assert second.value > first.value
    assert second.is_fresh


def test_a_failure_keeps_the_last_answer_with_its_age_and_cause(
    watch: Watch[int], source: Source, now: list[float]
) -> None:
    watch.start()
    good = watch.refresh(patience_seconds=PATIENCE)
    source.is_down = True
    now[0] = 1060.0
    failed = watch.refresh(patience_seconds=PATIENCE)
    now[0] = 1090.0
    failed_again = watch.refresh(patience_seconds=PATIENCE)
    assert failed.value == good.value
    assert failed.fresh_value is None
    assert str(failed.error) == "the broker did not answer"
    assert failed_again.failing_since == 1060.0
    assert failed_again.age_seconds(now[0]) == 90.0
    source.is_down = False
    assert watch.refresh(patience_seconds=PATIENCE).is_fresh


def test_it_tells_since_when_the_source_has_answered_without_interruption(
    watch: Watch[int], source: Source, now: list[float]
) -> None:
    watch.start()
    watch.refresh(patience_seconds=PATIENCE)
    now[0] = 1100.0
    steady = watch.refresh(patience_seconds=PATIENCE)
    assert (steady.fresh_since, steady.fresh_seconds(1130.0)) == (1000.0, 130.0)
    source.is_down = True
    failed = watch.refresh(patience_seconds=PATIENCE)
    assert (failed.fresh_since, failed.fresh_seconds(1130.0)) == (None, 0.0)
    source.is_down = False
    now[0] = 1150.0
    assert watch.refresh(patience_seconds=PATIENCE).fresh_since == 1150.0
    # An answer that came far too late ends a silence, too.
    source.gate.clear()
    source.is_asked.clear()
    watch.refresh(patience_seconds=0.2)
    assert source.is_asked.wait(PATIENCE)
    now[0] = 1190.0
    assert watch.known.fresh_since is None
    source.gate.set()
    assert watch.refresh(patience_seconds=PATIENCE).fresh_since == 1190.0


def test_a_source_that_hangs_is_told_without_waiting_for_it(
    watch: Watch[int], source: Source, now: list[float]
) -> None:
    watch.start()
    good = watch.refresh(patience_seconds=PATIENCE)
    source.gate.clear()
    source.is_asked.clear()
    watch.refresh(patience_seconds=0.2)
    assert source.is_asked.wait(PATIENCE)
    assert watch.known.error is None
    now[0] = 1011.0
    hanging = watch.known
    assert str(hanging.error) == "the broker hangs"
    assert (hanging.value, hanging.failing_since) == (good.value, 1000.0)
    source.gate.set()
    assert watch.refresh(patience_seconds=PATIENCE).is_fresh


def test_a_closed_watch_asks_no_more(watch: Watch[int], source: Source) -> None:
    watch.start()
    watch.refresh(patience_seconds=PATIENCE)
    watch.close()
    count = source.count
    watch.refresh(patience_seconds=PATIENCE)
    assert source.count == count
