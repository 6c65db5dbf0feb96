"""How long a job has waited if its sender's clock is off."""

from __future__ import annotations

import pytest
from tests.worker_reports import report

from queuescope.broker.redis.sender_clocks import Age, Due, SenderClocks

NOW, MARK, OTHER = 1_000_000.0, 500_000.0, 400_000.0
HOUR = 3600.0


class Queue:
    """One list with its messages, read every two seconds."""

    def __init__(self, clocks: SenderClocks | None = None) -> None:
        self.clocks = clocks or SenderClocks()
        self.now = NOW

    def empty(self) -> None:
        assert self.clocks.age("q", 0, None, self.now) == Age(0.0)
        self.now += 2

    def look(self, due: Due | None, after: float = 0.0) -> Age:
        self.now += after
        return self.clocks.age("q", 1, due, self.now)

    def sent(self, ahead: float, mark: float | None = MARK, *, ago: float = 1.0) -> Due:
        """A message that was sent a moment ago, by a clock that is ``ahead``."""
        return Due(self.now - ago + ahead, mark)


def is_about(age: Age, seconds: float, ahead: float) -> bool:
    """As exactly as readings every two seconds allow."""
    assert age.seconds is not None
    is_so = abs(age.seconds - seconds) <= 2.5 and abs(age.sender_ahead - ahead) <= 2.5
    return is_so and not age.is_doubtful


def test_a_correct_clock_is_not_corrected() -> None:
    queue = Queue()
    assert queue.look(queue.sent(0, ago=700)) == Age(700.0)
    queue.empty()
    assert queue.look(queue.sent(0)) == Age(1.0)
    # Neither what was delivered before nor what waits for its time says anything of a clock.
    queue.empty()
    assert queue.look(Due(queue.now - 5 * HOUR, MARK, is_redelivered=True)) == Age(5 * HOUR)
    queue.empty()
    assert queue.look(Due(queue.now + HOUR, MARK, is_timed=True)) == Age(0.0)
    assert queue.look(None) == Age(None)


@pytest.mark.parametrize("mark", [MARK, None])
@pytest.mark.parametrize("ahead", [HOUR, -HOUR, 40.0, -40.0])
def test_a_clock_that_is_off_is_detected_when_its_messages_arrive(
    ahead: float, mark: float | None
) -> None:
    queue = Queue()
    for _ in range(2):
        queue.empty()
        first = queue.sent(ahead, mark)
        age = queue.look(first)
    assert is_about(age, 1.0, ahead)
    assert is_about(queue.look(first, after=2 * HOUR), 2 * HOUR + 1, ahead)
    # It is known now, of every queue, and of what was given back.
    if mark is not None:
        back = Due(queue.now - 600 + ahead, MARK, is_redelivered=True)
        assert is_about(queue.clocks.age("other", 1, back, queue.now), 600, ahead)
    # Another machine's is another.
    assert queue.look(queue.sent(0, OTHER, ago=50)) == Age(50.0)


def test_one_message_alone_may_have_been_put_back() -> None:
    queue = Queue()
    queue.empty()
    assert queue.look(queue.sent(-HOUR)) == Age(HOUR + 1, is_doubtful=True)
    # Its sender is right after all: it was put back, and has waited for so long.
    for _ in range(2):
        queue.empty()
        assert queue.look(queue.sent(0)) == Age(1.0)
    queue.empty()
    assert queue.look(queue.sent(-HOUR)) == Age(HOUR + 1)


def test_a_message_from_the_future_has_an_unknown_age() -> None:
    """The dashboard started when the message was already waiting."""
    queue = Queue()
    message = queue.sent(HOUR, ago=600)
    assert queue.look(message) == Age(None, 3000.0)
    # Nor is it known when the hour is over.
    assert queue.look(message, after=2 * HOUR) == Age(None, 3000.0)
    # Until its sender is seen to send.
    for _ in range(2):
        queue.empty()
        age = queue.look(queue.sent(HOUR))
    assert is_about(age, 1.0, HOUR)


def test_a_queue_that_was_empty_long_ago_proves_nothing() -> None:
    queue = Queue()
    for _ in range(2):
        queue.empty()
        queue.now += 4 * HOUR
        assert queue.look(queue.sent(0, ago=3 * HOUR)) == Age(3 * HOUR)


def test_a_list_without_sender_marks_recovers_from_a_wrong_clock() -> None:
    queue = Queue()
    queue.empty()
    assert queue.look(queue.sent(HOUR, None)).sender_ahead == pytest.approx(HOUR, abs=2.5)
    for _ in range(3):
        queue.empty()
        age = queue.look(queue.sent(0, None))
    assert age == Age(1.0)


def test_workers_report_the_clocks_of_their_machines() -> None:
    queue = Queue()
    queue.clocks.learn(
        [
            report(clock_mark=MARK, clock_ahead=HOUR),
            report(clock_mark=OTHER, clock_ahead=0.0),
            report(clock_mark=None),
        ]
    )
    assert queue.look(queue.sent(HOUR, MARK + 1.5, ago=600)) == Age(600.0, HOUR)
    assert queue.look(queue.sent(0, OTHER, ago=600)) == Age(600.0)
    queue.empty()
    # Not doubtful: that clock is right, so the message was put back.
    assert queue.look(queue.sent(0, OTHER, ago=600)) == Age(600.0)


def test_what_is_remembered_is_bounded() -> None:
    clocks = SenderClocks()
    for number in range(60_000):
        clocks.age(f"q{number}", 0, None, NOW)
        clocks.age("q", 1, Due(NOW, number * 10.0), NOW)
    assert len(clocks._empty_at) <= 50_000
    assert len(clocks._senders) <= 2_000
