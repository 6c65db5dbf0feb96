"""What a viewer looks at: a range, a step and a breakdown, clamped on the server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from queuescope.errors import ConfigurationError
from queuescope.timeseries import Grid

RANGES: dict[str, tuple[int, int]] = {
    "1h": (3_600, 60),
    "6h": (6 * 3_600, 300),
    "24h": (24 * 3_600, 900),
    "7d": (7 * 86_400, 3_600),
}
"""Span and step of each range, in seconds."""

STEPS = (1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 21_600, 86_400)
_POINTS = 480
MAX_POINTS = 2_000
MAX_SPAN_SECONDS = 92 * 86_400


@dataclass(frozen=True, slots=True)
class View:
    """A range that follows the present (``range``), or an absolute one (``start``, ``end``).

    Times are epoch seconds. ``step_seconds`` None means the default step. Equal views share one
    snapshot.
    """

    range: str | None = "24h"
    start: int | None = None
    end: int | None = None
    step_seconds: int | None = None
    by: str | None = None

    @property
    def span_seconds(self) -> int:
        if self.range is not None:
            return RANGES[self.range][0]
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
        """Until when (source time) the step after ``grid`` is shown; None where the view ends with
        the grid, or with steps that are over.
        """
        until = now if self.range is not None else min(float(self.end or 0), now)
        is_open = grid.end <= now < grid.end + grid.step_seconds
        return until if is_open and round(1000 * (until - grid.end)) > 0 else None

    def step(self, scrape_interval_seconds: int) -> int:
        """The step in seconds: never below the scrape interval, never more than 2,000 points."""
        floor = max(scrape_interval_seconds, -(-self.span_seconds // MAX_POINTS), 1)
        if self.step_seconds is not None:
            return max(self.step_seconds, floor)
        if self.range is not None:
            return max(RANGES[self.range][1], scrape_interval_seconds)
        wanted = max(floor, self.span_seconds / _POINTS)
        return next((step for step in STEPS if step >= wanted), STEPS[-1])


def parse_view(params: Mapping[str, str], breakdowns: Sequence[str], default_range: str) -> View:
    """The view that the page's address names.

    Raises ``ConfigurationError`` with the parameter, what it holds and what it may hold.
    """
    by = params.get("by") or None
    if by == "none":
        by = None
    if by is not None and by not in breakdowns:
        raise ConfigurationError(f"by={by[:40]!r}: choose one of none, {', '.join(breakdowns)}")
    step = _step(params.get("step"))
    if params.get("from") or params.get("to"):
        if not (params.get("from") and params.get("to")):
            raise ConfigurationError("a custom range needs both from= and to=")
        start, end = _instant("from", params["from"]), _instant("to", params["to"])
        if end <= start:
            raise ConfigurationError("from= must lie before to=")
        if end - start > MAX_SPAN_SECONDS:
            raise ConfigurationError(
                f"from= and to= are more than {MAX_SPAN_SECONDS // 86_400} days apart"
            )
        return View(None, start, end, step, by)
    name = params.get("range") or default_range
    if name not in RANGES:
        raise ConfigurationError(f"range={name[:40]!r}: choose one of {', '.join(RANGES)}")
    return View(name, None, None, step, by)


def _step(text: str | None) -> int | None:
    if not text:
        return None
    plain = text.isascii() and text.isdecimal() and len(text) < 10
    if not plain or not 0 < int(text) <= STEPS[-1]:
        raise ConfigurationError(f"step={text[:40]!r}: give whole seconds, 1 to {STEPS[-1]}")
    return int(text)


def _instant(name: str, text: str) -> int:
    try:
        when = datetime.fromisoformat(text.replace(" ", "+"))
    except ValueError:
        raise ConfigurationError(
            f"{name}={text[:40]!r}: give a time such as 2026-01-31T14:00:00Z"
        ) from None
    seconds = (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    if not 0 <= seconds < 2**33:
        raise ConfigurationError(f"{name}={text[:40]!r} lies outside the years 1970 to 2242")
    return int(seconds)
