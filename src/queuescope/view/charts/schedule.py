"""When watched views are taken again; pure.

All times are epoch seconds of one clock, which may be set back or forward.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

SHORTEST_INTERVAL_SECONDS = 10
LONGEST_INTERVAL_SECONDS = 300
"""A viewer's interval is clamped to these."""

MAX_WATCHED = 64
"""Views beyond this number are not kept fresh: their viewers wait for a reading."""

_LEAD_RATIO = 0.05
_LEAD_SECONDS = (0.5, 2.0)
_LAPSES_AFTER = 2
_RETRY_SECONDS = 10.0

V = TypeVar("V", bound=Hashable)


@dataclass(slots=True)
class _Watch:
    """``seen`` is, by interval, when a viewer with that interval last looked."""

    due: float
    seen: dict[int, float] = field(default_factory=dict)

    @property
    def interval_seconds(self) -> int:
        return min(self.seen)


class Schedule(Generic[V]):
    """Watched views with the intervals of their viewers.

    A view is due once for all its viewers, at the shortest of their intervals and slightly early,
    so that it is ready when they ask. A viewer who has not looked for two of their own intervals no
    longer counts, and a view without viewers is never due.
    """

    def __init__(self, max_watched: int = MAX_WATCHED) -> None:
        self._max_watched = max_watched
        self._watches: dict[V, _Watch] = {}

    def __len__(self) -> int:
        return len(self._watches)

    def watched(self, now: float) -> tuple[V, ...]:
        """The views that have a viewer."""
        self._drop_lapsed(now)
        return tuple(self._watches)

    def seen(self, view: V, interval_seconds: float, taken_at: float, now: float) -> None:
        """Note that a viewer with this interval looked at ``view`` as of ``taken_at``."""
        interval = int(
            min(max(interval_seconds, SHORTEST_INTERVAL_SECONDS), LONGEST_INTERVAL_SECONDS)
        )
        watch = self._watches.get(view)
        if watch is None:
            self._drop_lapsed(now)
            if len(self._watches) >= self._max_watched:
                return
            watch = self._watches[view] = _Watch(due=float("inf"))
        watch.seen[interval] = now
        watch.due = min(watch.due, _due(taken_at, interval))

    def taken(self, view: V, at: float, *, complete: bool) -> None:
        """Note that ``view`` was taken. An incomplete one is due again sooner."""
        watch = self._watches.get(view)
        if watch is not None:
            interval = float(watch.interval_seconds)
            watch.due = _due(at, interval if complete else min(interval, _RETRY_SECONDS))

    def take_due(self, now: float) -> tuple[V, ...]:
        """The views to take now, the most overdue first. Each is due again an interval later,
        unless ``taken`` reports it before.
        """
        self._drop_lapsed(now)
        due = sorted((w.due, n) for n, w in enumerate(self._watches.values()) if w.due <= now)
        views = tuple(self._watches)
        for _, n in due:
            watch = self._watches[views[n]]
            watch.due = now + watch.interval_seconds
        return tuple(views[n] for _, n in due)

    def next_due(self) -> float | None:
        """When a view is due next; None without viewers."""
        return min((watch.due for watch in self._watches.values()), default=None)

    def _drop_lapsed(self, now: float) -> None:
        for view, watch in list(self._watches.items()):
            for interval, at in list(watch.seen.items()):
                # A time in the future is from before the clock was set back.
                if not 0 <= now - at <= _LAPSES_AFTER * interval:
                    del watch.seen[interval]
            if not watch.seen:
                del self._watches[view]


def _due(taken_at: float, interval_seconds: float) -> float:
    least, most = _LEAD_SECONDS
    return taken_at + interval_seconds - min(max(_LEAD_RATIO * interval_seconds, least), most)
