"""A source that was restarted or replaced: the page shows its own history, and no other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.cache.model_source import ModelSource, queue

from queuescope.cache import CachedReader, FrameStore
from queuescope.cache.history import spots
from queuescope.cache.reader import CHECK_SECONDS
from queuescope.errors import SourceError, SourceErrorKind
from queuescope.timeseries import Frame, Grid, LookupStatus, Reading, State

pytestmark = pytest.mark.anyio

STEP = 10
NOW = 2_000
LONG_AGO = Grid(1_000, 1_500, STEP)
UP_TO_NOW = Grid(1_000, NOW, STEP)
DOWN = SourceError(SourceErrorKind.TIMEOUT, "It does not answer in time")


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Scene:
    """One source behind one address, and a dashboard on it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.clock = Clock()
        self.source = ModelSource({queue("a"): samples()})
        self.restart_dashboard()

    def restart_dashboard(self) -> None:
        self.store = FrameStore(self._directory, 100_000)
        self.reader = CachedReader(self.source, self.store, horizon_seconds=50, clock=self.clock)

    async def read(self, grid: Grid, epoch: str | None, source_now: float = NOW) -> Reading:
        return await self.reader.read("q", grid, source_now=source_now, epoch=epoch)

    async def shows_the_source(self, grid: Grid, epoch: str | None) -> bool:
        reading = await self.read(grid, epoch)
        expected = Frame.assembled(grid, (self.source.frame(grid),))
        return (
            reading.frame is not None
            and reading.frame.series == expected.series
            and np.array_equal(reading.frame.values, expected.values, equal_nan=True)
        )


def samples(value: float = 0.0, last: int = 3_000) -> dict[int, float]:
    """Zero, with a plateau of 5 in the middle; ``value`` is added to all before 1,900."""
    return {
        t: (5.0 if 1_200 <= t < 1_300 else 0.0) + (value if t < 1_900 else 0.0)
        for t in range(0, last + 1, STEP)
    }


@pytest.fixture(params=["warm", "cold"])
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Scene:
    scene = Scene(tmp_path)
    scene.is_cold = request.param == "cold"  # type: ignore[attr-defined]
    return scene


def go_on(scene: Scene) -> None:
    """In the cold case the dashboard was restarted, and knows only the files on disk."""
    if scene.is_cold:  # type: ignore[attr-defined]
        scene.store.flush()
        scene.restart_dashboard()
    scene.clock.now += CHECK_SECONDS
    scene.source.asked.clear()


@pytest.mark.parametrize("grid", [LONG_AGO, UP_TO_NOW])
@pytest.mark.parametrize("epoch", ["second", None])
async def test_a_source_that_lost_its_samples_is_not_answered_for_from_the_old_ones(
    scene: Scene, grid: Grid, epoch: str | None
) -> None:
    """Nothing is left, also at the seam: this does not count as equal."""
    await scene.read(grid, "first" if epoch else None)
    scene.source.points.clear()
    go_on(scene)
    reading = await scene.read(grid, epoch)
    assert (reading.state, reading.lookup) == (State.EMPTY, LookupStatus.RANGE_MISS)


@pytest.mark.parametrize("grid", [LONG_AGO, UP_TO_NOW])
@pytest.mark.parametrize("epoch", ["second", None])
async def test_another_source_whose_newest_points_agree_is_told_from_the_first(
    scene: Scene, grid: Grid, epoch: str | None
) -> None:
    await scene.read(grid, "first" if epoch else None)
    scene.source.points = {queue("a"): samples(value=3.0)}
    go_on(scene)
    assert await scene.shows_the_source(grid, epoch)
    # And nothing of the first one is left outside the range that was read.
    assert await scene.shows_the_source(Grid(500, NOW, STEP), epoch)


async def test_a_restart_without_loss_costs_one_reading_of_each_range(scene: Scene) -> None:
    await scene.read(UP_TO_NOW, "first")
    go_on(scene)
    assert await scene.shows_the_source(UP_TO_NOW, "second")
    assert scene.source.asked == [UP_TO_NOW]
    scene.source.asked.clear()
    await scene.read(LONG_AGO, "second")
    assert scene.source.asked == []


@pytest.mark.parametrize(("epochs", "points"), [(("first",), 1), (("first", "second"), 3)])
async def test_beside_what_only_the_present_epoch_has_seen_one_point_is_looked_at_again(
    scene: Scene, epochs: tuple[str, ...], points: int
) -> None:
    """After a restart it is a few, as if the epoch were not known."""
    for epoch in epochs:
        await scene.read(UP_TO_NOW, epoch)
    go_on(scene)
    later = Grid(1_000, NOW + STEP, STEP)
    await scene.read(later, epochs[-1], NOW + 1 + STEP)
    first_volatile = NOW - 50 + STEP
    assert scene.source.asked == [Grid(first_volatile - points * STEP, later.end, STEP)]


async def test_what_is_fetched_again_in_the_same_epoch_was_joined_before(scene: Scene) -> None:
    await scene.read(UP_TO_NOW, "first")
    go_on(scene)
    await scene.read(UP_TO_NOW, "first", NOW + 1)
    assert scene.source.asked == [Grid(NOW - 50 + STEP, NOW, STEP)]


async def test_replicas_that_answer_in_turn_are_each_compared_once(scene: Scene) -> None:
    for epoch in ("one", "two", "three"):
        await scene.read(LONG_AGO, epoch)
    go_on(scene)
    for epoch in ("one", "two", "three", "one", "three"):
        assert (await scene.read(LONG_AGO, epoch)).lookup is LookupStatus.HIT
    assert scene.source.asked == []


async def test_in_an_outage_no_part_of_another_history_is_laid_beside_the_newest(
    scene: Scene,
) -> None:
    """Two ranges that were read before and after the samples were lost."""
    await scene.read(Grid(1_000, 1_200, STEP), "first")
    scene.source.points = {queue("b"): samples()}
    await scene.read(Grid(1_500, 1_800, STEP), "second", NOW + 1)
    go_on(scene)
    scene.source.error = DOWN
    reading = await scene.read(Grid(1_000, 1_900, STEP), "second", NOW + 2)
    assert reading.state is State.STALE
    assert reading.frame is not None
    assert reading.frame.series == (queue("b"),)


async def test_where_the_epoch_is_not_told_a_few_points_are_compared_once_a_minute(
    scene: Scene,
) -> None:
    await scene.read(LONG_AGO, None)
    go_on(scene)
    assert (await scene.read(LONG_AGO, None)).lookup is LookupStatus.HIT
    assert 0 < sum(map(len, scene.source.asked)) <= 6
    scene.source.asked.clear()
    scene.clock.now += CHECK_SECONDS - 1
    await scene.read(LONG_AGO, None)
    assert scene.source.asked == []


@pytest.mark.parametrize(
    "next_to_it", [Grid(1_510, 1_800, STEP), Grid(600, 990, STEP), Grid(1_400, 1_900, STEP)]
)
async def test_a_range_that_begins_or_ends_where_held_points_do_is_not_joined_to_another_history(
    scene: Scene, next_to_it: Grid
) -> None:
    """Without a common point, the points next to the range distinguish the histories."""
    await scene.read(LONG_AGO, None)
    scene.source.points = {queue("b"): samples()}
    await scene.read(next_to_it, None)
    assert await scene.shows_the_source(next_to_it, None)
    assert await scene.shows_the_source(Grid.covering(1_000, 1_500, STEP), None)


async def test_a_comparison_that_fails_leaves_what_is_final_as_it_is(scene: Scene) -> None:
    await scene.read(LONG_AGO, None)
    go_on(scene)
    scene.source.error = DOWN
    assert (await scene.read(LONG_AGO, None)).state is State.FRESH
    scene.source.error = None
    scene.source.points.clear()
    assert (await scene.read(LONG_AGO, None)).state is State.EMPTY


def test_the_points_compared_are_both_ends_and_the_largest_jump() -> None:
    grid = Grid(0, 1_000, STEP)
    values = np.zeros((1, len(grid)))
    values[0, 40:] = 7.0
    assert spots(Frame(grid, (queue("a"),), values)) == (
        Grid(0, 10, STEP),
        Grid(390, 400, STEP),
        Grid(990, 1_000, STEP),
    )
