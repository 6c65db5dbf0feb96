"""Work in a thread of its own: its value, its error, and an end to waiting for it."""

from __future__ import annotations

import threading
from contextlib import ExitStack

import pytest

from queuescope.dashboard.ui.background_call import BackgroundCall
from queuescope.errors import AuditError, RefusedError

PATIENCE = 30.0


def test_the_result_can_be_read_repeatedly() -> None:
    numbers = iter(range(42, 99))
    call = BackgroundCall(lambda: next(numbers))
    assert [call.result(PATIENCE), call.result(PATIENCE)] == [42, 42]


def test_an_error_is_raised_where_the_result_is_read() -> None:
    def fail() -> None:
        raise AuditError("the audit is away")

    call = BackgroundCall(fail)
    for _ in range(2):
        with pytest.raises(AuditError, match="is away"):
            call.result(PATIENCE)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_fault_of_our_own_is_no_value() -> None:
    threads = []

    def fail() -> None:
        threads.append(threading.current_thread())
        raise ZeroDivisionError

    call = BackgroundCall(fail)
    with pytest.raises(RuntimeError):
        call.result(PATIENCE)
    # pytest hears of it when the thread ends, which is after the call has: not in the next test.
    threads[0].join(PATIENCE)


def test_a_wait_ends_with_its_patience() -> None:
    gate = threading.Event()
    call = BackgroundCall(lambda: gate.wait(PATIENCE))
    with pytest.raises(TimeoutError):
        call.result(0)
    gate.set()
    assert call.result(PATIENCE)


def test_so_many_at_once_and_no_more() -> None:
    gate = threading.Event()
    with ExitStack() as opened:
        opened.callback(gate.set)
        begun = [BackgroundCall(lambda: gate.wait(PATIENCE)) for _ in range(32)]
        with pytest.raises(RefusedError, match="too many answers"):
            BackgroundCall(lambda: None)
    for call in begun:
        assert call.result(PATIENCE)
    assert BackgroundCall(lambda: "free again").result(PATIENCE) == "free again"
