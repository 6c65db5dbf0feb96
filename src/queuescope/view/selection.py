"""A viewer's view: a range, a step and a breakdown, clamped on the server."""

from __future__ import annotations

from dataclasses import dataclass

from queuescope.timeseries import Grid

RANGES: dict[str, tuple[int, int]] = {
    "1h": (3_600, 60),
    "6h": (6 * 3_600, 300),
    "24h": (24 * 3_600, 900),
    "7d": (7 * 86_400, 3_600),
}
"""Length and step in seconds of each range that the page offers."""

RANGE_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 7 * 86_400}
"""Seconds of the units in which another range may be given: ``90m``, ``30d``."""

STEPS = (1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 21_600, 86_400)
_POINTS = 480
MAX_POINTS = 2_000
MAX_SPAN_SECONDS = 92 * 86_400


@dataclass(frozen=True, slots=True)
class View:
    """A range that follows the present (``range``), or an absolute one (``start``, ``end``).

    ``range`` is one of ``RANGES`` or a number with one of ``RANGE_UNITS``. Times are epoch seconds.
    ``step_seconds`` None means the default step. Equal views share one snapshot.
    """

    range: str | None = "24h"
    start: int | None = None
    end: int | None = None
    step_seconds: int | None = None
    by: str | None = None

    @property
    def span_seconds(self) -> int:
        if self.range is not None:
            return range_seconds(self.range)
        return (self.end or 0) - (self.start or 0)

    def grid(self, now: float, scrape_interval_seconds: int) -> Grid:
        """The aligned timestamps at source time ``now``."""
        step = self.step(scrape_interval_seconds)
        if self.range is not None:
            return Grid.ending_at(now, self.span_seconds, step)
        start, end = float(self.start or 0), min(float(self.end or 0), now)
        newest = int(now // step) * step
        grid = Grid.covering(min(start, end), end, step)
        last = max(min(grid.end, newest), grid.start)
        return Grid(grid.start, last, step)

    def live_at(self, grid: Grid, now: float) -> float | None:
        """The end (source time) of the open step after ``grid``; None if the view ends with the
        grid, or in the past.
        """
        until = now if self.range is not None else min(float(self.end or 0), now)
        is_open = grid.end <= now < grid.end + grid.step_seconds
        return until if is_open and round(1000 * (until - grid.end)) > 0 else None

    def step(self, scrape_interval_seconds: int) -> int:
        """The step in seconds: never below the scrape interval, never more than 2,000 points."""
        floor = max(scrape_interval_seconds, -(-self.span_seconds // MAX_POINTS), 1)
        if self.step_seconds is not None:
            return max(self.step_seconds, floor)
        if self.range in RANGES:
            return max(RANGES[self.range][1], scrape_interval_seconds)
        wanted = max(floor, self.span_seconds / _POINTS)
        return next((step for step in STEPS if step >= wanted), STEPS[-1])


def range_seconds(name: str) -> int:
    """The length of the range ``name`` in seconds."""
    return RANGES[name][0] if name in RANGES else int(name[:-1]) * RANGE_UNITS[name[-1]]


def range_name(seconds: int) -> str:
    """The canonical name of a range: that of the page's own range, or else a whole number of the
    largest possible unit.
    """
    for name, (span, _) in RANGES.items():
        if span == seconds:
            return name
    unit = next(unit for unit in "dhms" if seconds % RANGE_UNITS[unit] == 0)
    return f"{seconds // RANGE_UNITS[unit]}{unit}"
