from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuescope.cache import extents
from queuescope.timeseries import Grid

STEP = 10


def grids(text: str) -> tuple[Grid, ...]:
    """``"0-20 40-40"`` as extents of step 10."""
    pairs = (part.split("-") for part in text.split())
    return tuple(Grid(int(start), int(end), STEP) for start, end in pairs)


def shown(found: tuple[Grid, ...] | Grid | None) -> str:
    several = found if isinstance(found, tuple) else (found,) if found else ()
    return " ".join(f"{grid.start}-{grid.end}" for grid in several)


@pytest.mark.parametrize(
    ("wanted", "held", "expected"),
    [
        ("10-50", "", "10-50"),
        ("10-50", "10-50", ""),
        ("10-50", "0-90", ""),
        ("10-50", "60-90", "10-50"),
        ("10-50", "0-0", "10-50"),
        ("10-50", "0-20", "30-50"),
        ("10-50", "40-90", "10-30"),
        ("10-50", "30-30", "10-20 40-50"),
        ("10-50", "30-40 0-10", "20-20 50-50"),
        ("10-50", "0-30 20-40", "50-50"),
        ("10-50", "10-20 30-50", ""),
        ("10-10", "0-0 20-20", "10-10"),
    ],
)
def test_gaps_are_what_is_wanted_and_not_held(wanted: str, held: str, expected: str) -> None:
    assert expected == shown(extents.gaps(grids(wanted)[0], grids(held)))


@pytest.mark.parametrize(
    ("extent", "first", "last", "expected"),
    [
        ("10-50", 0, 90, "10-50"),
        ("10-50", 20, 40, "20-40"),
        ("10-50", 20.5, 39.9, "30-30"),
        ("10-50", 31, 39, ""),
        ("10-50", 60, 90, ""),
        ("10-50", 0, 9.9, ""),
        ("10-50", 50, 50, "50-50"),
        ("10-50", 40, 20, ""),
    ],
)
def test_crop_keeps_the_steps_inside(extent: str, first: float, last: float, expected: str) -> None:
    assert expected == shown(extents.crop(*grids(extent), first=first, last=last))


EXTENTS = st.builds(
    lambda start, length: Grid(start * STEP, (start + length) * STEP, STEP),
    st.integers(0, 30),
    st.integers(0, 10),
)


def instants(*several: Grid) -> set[int]:
    return {t for grid in several for t in range(grid.start, grid.end + 1, grid.step_seconds)}


@given(EXTENTS, st.lists(EXTENTS))
def test_gaps_and_held_make_the_wanted_whole_without_overlap(
    wanted: Grid, held: list[Grid]
) -> None:
    missing = extents.gaps(wanted, held)
    assert instants(wanted) - instants(*held) == instants(*missing)
    assert not any(map(extents.touches, missing, missing[1:]))


@given(EXTENTS, EXTENTS)
def test_overlap_is_what_both_hold(a: Grid, b: Grid) -> None:
    common = extents.overlap(a, b)
    assert instants(a) & instants(b) == (instants(common) if common else set())
    assert common == extents.overlap(b, a)
