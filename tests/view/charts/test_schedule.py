"""The schedule alone: often enough for every viewer, once for all of them, and nothing without
viewers.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from queuescope.view.charts.schedule import (
    LONGEST_INTERVAL_SECONDS,
    MAX_WATCHED,
    SHORTEST_INTERVAL_SECONDS,
    Schedule,
)

START = 1_700_000_000.0
LEAD = 2.0


@dataclass(frozen=True)
class Viewer:
    """Comes to ``view`` at ``first`` and then every ``interval`` seconds, ``visits`` times."""

    view: str
    interval: int
    first: float
    visits: int


@dataclass
class Simulation:
    """Viewers, and a source that answers after ``answer_seconds``. ``waited`` are those who found
    nothing young enough when they came again.
    """

    answer_seconds: float = 0.01
    schedule: Schedule[str] = field(default_factory=Schedule)
    taken_at: dict[str, float] = field(default_factory=dict)
    taken: list[tuple[float, str]] = field(default_factory=list)
    waited: list[int] = field(default_factory=list)
    came: set[int] = field(default_factory=set)

    def run(self, viewers: list[Viewer], until: float) -> None:
        visits = [
            (START + viewer.first + n * viewer.interval, number, viewer)
            for number, viewer in enumerate(viewers)
            for n in range(viewer.visits)
        ]
        heapq.heapify(visits)
        now = START
        while now < START + until:
            due = self.schedule.next_due()
            if due is None and not visits:
                return
            visit = visits[0][0] if visits else float("inf")
            now = max(now, min(visit, float("inf") if due is None else due))
            for view in self.schedule.take_due(now):
                self._take(view, now)
            if visits and visit <= now:
                _, number, viewer = heapq.heappop(visits)
                self._visit(number, viewer, now)

    def _take(self, view: str, now: float) -> None:
        self.taken.append((now, view))
        self.taken_at[view] = now + self.answer_seconds
        self.schedule.taken(view, self.taken_at[view], complete=True)

    def _visit(self, number: int, viewer: Viewer, now: float) -> None:
        if now - self.taken_at.get(viewer.view, float("-inf")) > viewer.interval:
            self._take(viewer.view, now)
            if number in self.came:
                self.waited.append(number)
        self.came.add(number)
        self.schedule.seen(viewer.view, viewer.interval, self.taken_at[viewer.view], now)


intervals = st.sampled_from([10, 30, 60, 300])
viewers = st.lists(
    st.builds(
        Viewer,
        view=st.sampled_from("abc"),
        interval=intervals,
        first=st.integers(0, 4_800).map(lambda eighths: eighths / 8),
        visits=st.integers(1, 20),
    ),
    min_size=1,
    max_size=12,
)


@settings(deadline=None)
@given(viewers)
def test_only_the_first_look_of_a_viewer_may_wait(crowd: list[Viewer]) -> None:
    """A regular viewer finds a snapshot that is no older than their interval."""
    simulation = Simulation()
    simulation.run(crowd, until=10_000)
    assert simulation.came == set(range(len(crowd)))
    assert simulation.waited == []


@settings(deadline=None)
@given(st.integers(1, 200), intervals, st.randoms(use_true_random=False))
def test_a_view_is_taken_as_often_for_many_as_for_one(
    number: int, interval: int, chance: random.Random
) -> None:
    alone, together = Simulation(), Simulation()
    one = Viewer("a", interval, 0, 20)
    alone.run([one], until=20 * interval)
    crowd = [Viewer("a", interval, chance.uniform(0, interval), 20) for _ in range(number)]
    together.run([one, *crowd], until=20 * interval)
    assert len(together.taken) <= len(alone.taken) + 1


@settings(deadline=None)
@given(viewers)
def test_views_without_viewers_are_not_taken(crowd: list[Viewer]) -> None:
    simulation = Simulation()
    simulation.run(crowd, until=100_000)
    for at, view in simulation.taken:
        assert any(
            viewer.view == view
            and 0 <= at - START - viewer.first <= (viewer.visits + 1) * viewer.interval
            for viewer in crowd
        )
    assert simulation.schedule.next_due() is None


@settings(deadline=None)
@given(viewers)
def test_a_view_is_never_taken_more_often_than_its_smallest_interval_asks(
    crowd: list[Viewer],
) -> None:
    simulation = Simulation()
    simulation.run(crowd, until=10_000)
    last: dict[str, float] = {}
    smallest = {v.view: min(w.interval for w in crowd if w.view == v.view) for v in crowd}
    for at, view in simulation.taken:
        assert at - last.get(view, float("-inf")) >= smallest[view] - LEAD
        last[view] = at


def test_the_smallest_interval_of_the_viewers_counts_while_they_come() -> None:
    simulation = Simulation()
    simulation.run([Viewer("a", 60, 0, 20), Viewer("a", 10, 300, 6)], until=1_200)
    per_minute = Counter(int((at - START) // 60) for at, _ in simulation.taken)
    assert [per_minute[minute] for minute in (2, 3, 4)] == [1, 1, 1]
    assert per_minute[5] in (6, 7)
    assert [per_minute[minute] for minute in (8, 9, 10)] == [1, 1, 1]


@pytest.mark.parametrize(
    ("asked", "kept"),
    [
        (0.001, SHORTEST_INTERVAL_SECONDS),
        (-5, SHORTEST_INTERVAL_SECONDS),
        (1e9, LONGEST_INTERVAL_SECONDS),
    ],
)
def test_an_interval_is_clamped(asked: float, kept: int) -> None:
    schedule: Schedule[str] = Schedule()
    schedule.seen("a", asked, START, START)
    due = schedule.next_due()
    assert due is not None
    assert kept - LEAD <= due - START < kept


def test_only_so_many_views_are_watched_and_the_first_ones_stay() -> None:
    schedule: Schedule[int] = Schedule()
    for view in range(MAX_WATCHED + 10):
        schedule.seen(view, 60, START, START)
    assert schedule.watched(START) == tuple(range(MAX_WATCHED))
    for view in range(1, MAX_WATCHED):
        schedule.seen(view, 60, START, START + 100)
    schedule.seen(-1, 60, START, START + 130)
    assert schedule.watched(START + 130) == (*range(1, MAX_WATCHED), -1)


def test_an_incomplete_view_is_taken_again_sooner() -> None:
    schedule: Schedule[str] = Schedule()
    schedule.seen("a", 300, START, START)
    schedule.taken("a", START, complete=False)
    assert schedule.take_due(START + 10) == ("a",)
    schedule.taken("a", START + 10, complete=True)
    assert schedule.take_due(START + 290) == ()


def test_a_take_that_reports_nothing_is_due_again_an_interval_later() -> None:
    schedule: Schedule[str] = Schedule()
    schedule.seen("a", 10, START, START)
    schedule.seen("a", 300, START, START)
    assert schedule.take_due(START + 10) == ("a",)
    assert schedule.take_due(START + 11) == ()
    assert schedule.take_due(START + 20) == ("a",)


@pytest.mark.parametrize("hours", [-2, 2])
def test_a_clock_that_is_set_leaves_no_view_behind_and_keeps_none(hours: int) -> None:
    schedule: Schedule[str] = Schedule()
    schedule.seen("gone", 10, START, START)
    schedule.seen("a", 10, START, START)
    now = START + hours * 3_600
    schedule.seen("a", 10, now, now)
    assert schedule.watched(now) == ("a",)
    assert schedule.take_due(now + 10) == ("a",)
