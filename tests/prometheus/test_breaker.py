"""A source that is down gets no queries except occasional trials; one that responds does."""

from __future__ import annotations

import asyncio

import pytest

from queuescope.errors import SourceError, SourceErrorKind
from queuescope.prometheus.breaker import BreakerState, CircuitBreaker

pytestmark = pytest.mark.anyio

KIND = SourceErrorKind
CLOSED, OPEN, HALF_OPEN = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN


class Source:
    """Counts the queries and fails as configured; ``now`` is the breaker's clock."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.asked = 0
        self.error: SourceError | None = None
        self.breaker = CircuitBreaker(
            failures=3, first_wait_seconds=1.0, longest_wait_seconds=8.0, clock=lambda: self.now
        )

    def fails(self, kind: SourceErrorKind, retry_after_seconds: float | None = None) -> None:
        self.error = SourceError(
            kind, f"it is {kind}", detail="why", retry_after_seconds=retry_after_seconds
        )

    async def ask(self, *, decisive: bool = False) -> SourceError | None:
        try:
            async with self.breaker.guard(decisive=decisive):
                self.asked += 1
                await asyncio.sleep(0)
                if self.error is not None:
                    raise self.error
        except SourceError as exc:
            return exc
        return None


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.mark.parametrize(
    "kind", ["cannot_connect", "timeout", "busy", "authentication", "not_prometheus"]
)
async def test_it_opens_after_some_failures_in_a_row_and_tells_the_cause_without_asking(
    kind: str, source: Source
) -> None:
    source.fails(KIND(kind))
    for _ in range(2):
        await source.ask()
        assert source.breaker.state is CLOSED
    await source.ask()
    assert source.breaker.state is OPEN

    for _ in range(20):
        error = await source.ask()
        assert error is not None
        assert (error.kind, str(error), error.detail) == (kind, f"it is {kind}", "why")
        assert error is not source.error
    assert source.asked == 3


@pytest.mark.parametrize("kind", ["bad_data", "execution", "too_large", "decode", "server_error"])
async def test_an_answer_to_one_question_says_that_the_source_is_there(
    kind: str, source: Source
) -> None:
    source.fails(KIND.TIMEOUT)
    await source.ask()
    await source.ask()
    source.fails(KIND(kind))
    await source.ask()
    source.fails(KIND.TIMEOUT)
    await source.ask()
    await source.ask()
    assert source.breaker.state is CLOSED
    assert source.asked == 5


async def test_a_success_between_failures_keeps_it_closed(source: Source) -> None:
    for _ in range(10):
        source.fails(KIND.TIMEOUT)
        await source.ask()
        await source.ask()
        source.error = None
        assert await source.ask() is None
    assert source.asked == 30


@pytest.mark.parametrize("kind", list(KIND))
async def test_one_failure_of_the_cheapest_question_opens_it(
    kind: SourceErrorKind, source: Source
) -> None:
    source.fails(kind)
    await source.ask(decisive=True)
    assert source.breaker.state is OPEN


async def test_after_a_wait_one_question_is_the_trial_and_the_others_still_fail(
    source: Source,
) -> None:
    source.fails(KIND.CANNOT_CONNECT)
    await source.ask(decisive=True)
    source.now += 1.0
    assert source.breaker.state is HALF_OPEN
    source.error = None
    outcomes = await asyncio.gather(*(source.ask() for _ in range(10)))
    assert [outcome is None for outcome in outcomes] == [True] + [False] * 9
    assert source.asked == 2
    assert source.breaker.state is CLOSED
    assert await asyncio.gather(*(source.ask() for _ in range(10))) == [None] * 10


async def test_the_waits_grow_to_a_limit_with_jitter_and_start_anew_after_a_success(
    source: Source,
) -> None:
    source.fails(KIND.CANNOT_CONNECT)
    for longest in (1.0, 2.0, 4.0, 8.0, 8.0, 8.0, 8.0):
        await source.ask(decisive=True)
        source.now += longest / 2 - 0.001
        assert source.breaker.state is OPEN
        source.now += longest / 2 + 0.001
        assert source.breaker.state is HALF_OPEN
    source.error = None
    await source.ask()
    source.fails(KIND.CANNOT_CONNECT)
    await source.ask(decisive=True)
    source.now += 1.0
    assert source.breaker.state is HALF_OPEN


async def test_the_waits_of_two_dashboards_differ() -> None:
    ends = set()
    for source in (Source() for _ in range(20)):
        source.fails(KIND.TIMEOUT)
        await source.ask(decisive=True)
        waited = 0
        while source.breaker.state is OPEN:
            source.now += 0.001
            waited += 1
        ends.add(waited)
    assert len(ends) > 5


async def test_a_busy_source_is_left_alone_for_as_long_as_it_asks(source: Source) -> None:
    source.fails(KIND.BUSY, retry_after_seconds=60)
    await source.ask()
    source.now += 30
    error = await source.ask()
    assert error is not None
    assert error.retry_after_seconds == pytest.approx(31, abs=1)
    source.now += 29.9
    assert source.breaker.state is OPEN
    source.now += 1.2
    assert source.breaker.state is HALF_OPEN
    assert source.asked == 1


async def test_a_trial_that_its_asker_gives_up_leaves_the_next_one_free(source: Source) -> None:
    source.fails(KIND.TIMEOUT)
    await source.ask(decisive=True)
    source.now += 1
    entered = asyncio.Event()

    async def hang() -> None:
        async with source.breaker.guard():
            entered.set()
            await asyncio.sleep(3600)

    trial = asyncio.create_task(hang())
    await entered.wait()
    assert await source.ask() is not None
    trial.cancel()
    await asyncio.wait([trial])
    source.error = None
    assert await source.ask() is None


async def test_questions_that_were_under_way_when_it_opened_do_not_lengthen_the_wait(
    source: Source,
) -> None:
    source.fails(KIND.TIMEOUT)
    await asyncio.gather(*(source.ask() for _ in range(30)))
    source.now += 1.0
    assert source.breaker.state is HALF_OPEN
