"""A clock that is corrected by the broker's, also when it is set."""

from __future__ import annotations

import time

import pytest

from queuescope.broker.clock import CLOCK_OFF_SECONDS, CorrectedClock, clock_mark


class Machine:
    """The clock of this machine, which can be set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ahead = 0.0
        self._real = time.time
        monkeypatch.setattr(time, "time", lambda: self._real() + self.ahead)

    @property
    def truth(self) -> float:
        return self._real()


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def compared(machine: Machine, clock: CorrectedClock) -> None:
    asked_at = time.time()
    clock.compare(machine.truth, asked_at=asked_at)


@pytest.mark.parametrize("ahead", [3600.0, -3600.0, 5.5, -86_400.0 * 400])
def test_all_times_of_a_clock_are_corrected_by_its_offset(machine: Machine, ahead: float) -> None:
    machine.ahead, clock = ahead, CorrectedClock()
    assert (clock.ahead, clock.is_compared) == (0.0, False)
    compared(machine, clock)
    assert clock.is_compared
    assert clock.ahead == pytest.approx(ahead, abs=0.4)
    assert clock.now() == pytest.approx(machine.truth, abs=0.4)


@pytest.mark.parametrize("ahead", [0.0, 3.0, -4.5])
def test_a_small_offset_is_not_corrected(machine: Machine, ahead: float) -> None:
    machine.ahead, clock = ahead, CorrectedClock()
    compared(machine, clock)
    assert clock.ahead == 0.0


@pytest.mark.parametrize("ahead", [0.0, 3600.0])
def test_a_process_stopped_during_a_comparison_keeps_its_offset(
    machine: Machine, ahead: float
) -> None:
    machine.ahead, clock = ahead, CorrectedClock()
    compared(machine, clock)
    # Asked a minute ago; the answer is of then, and is read only now.
    clock.compare(machine.truth - 60, asked_at=time.time() - 60)
    assert clock.ahead == pytest.approx(ahead, abs=0.4)
    # Or it is of now, and the question was held up.
    clock.compare(machine.truth, asked_at=time.time() - 60)
    assert clock.ahead == pytest.approx(ahead, abs=0.4)


@pytest.mark.parametrize(("before", "after"), [(0.0, -3600.0), (3600.0, 0.0), (-600.0, 600.0)])
def test_a_clock_that_is_set_is_right_at_once_and_its_old_times_stay_so(
    machine: Machine, before: float, after: float
) -> None:
    machine.ahead, clock = before, CorrectedClock()
    compared(machine, clock)
    mark, said, truth = clock_mark(), time.time(), machine.truth
    machine.ahead = after
    # Before it is compared again.
    assert clock.ahead == pytest.approx(after, abs=0.4)
    assert clock.now() == pytest.approx(machine.truth, abs=0.4)
    assert clock.corrected_for_sender(time.time(), clock_mark()) == pytest.approx(
        machine.truth, abs=0.4
    )
    compared(machine, clock)
    assert clock.ahead == pytest.approx(after, abs=0.4)
    # What was said by the clock as it was is put right by what it was off then.
    assert clock.corrected_for_sender(said, mark) == pytest.approx(truth, abs=0.4)


def test_the_clock_of_another_machine_is_not_corrected(machine: Machine) -> None:
    machine.ahead, clock = 3600.0, CorrectedClock()
    compared(machine, clock)
    own = clock_mark()
    assert own is not None
    assert clock.corrected_for_sender(1_000.0, own - 777) == 1_000.0
    assert clock.corrected_for_sender(1_000.0, None) == 1_000.0
    assert clock.corrected_for_sender(None, own) is None


def test_only_the_last_settings_are_remembered(machine: Machine) -> None:
    clock, marks = CorrectedClock(), []
    for number in range(40):
        machine.ahead = number * 10 * CLOCK_OFF_SECONDS
        compared(machine, clock)
        marks.append(clock_mark())
    assert clock.corrected_for_sender(5e9, marks[0]) == 5e9
    for number in range(30, 40):
        righted = clock.corrected_for_sender(5e9, marks[number])
        assert righted == pytest.approx(5e9 - number * 50, abs=0.4)
