"""The route that sends all points of a chart as a file, to a limited number of readers at once."""

from __future__ import annotations

import math
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence

from starlette.requests import Request
from starlette.responses import Response

from queuescope.dashboard.ui.sent_file import FileSender, refused
from queuescope.errors import ConfigurationError
from queuescope.figures import PointZone, points_csv
from queuescope.view import Points

CHART_CSV = "/queuescope/chart.csv"
_LONGEST_OFFSET_SECONDS = 86_399
_LONGEST_ZONE = 64
_STEPS = ("all", "closed")

Find = Callable[[Mapping[str, str], float | None], Awaitable[tuple[Points, ...] | None]]


class ChartFile:
    """Sends the points of one chart. The address has ``panel``, the view's own parameters, ``tz``
    (a name) and ``offset`` (its seconds from UTC). ``taken`` selects an answer of
    ``/queuescope/view`` by its ``takenAt``; without it the newest is sent. With ``steps=closed``
    the open step is left out.

    ``find`` returns the points of an answer; ``panels`` are the ids of all panels. Visitors who may
    not view it do not get here (see ``Admission``).
    """

    def __init__(self, find: Find, panels: Sequence[str]) -> None:
        self._find = find
        self._panels = panels
        self._files = FileSender("The chart")

    async def send(self, request: Request) -> Response:
        params = request.query_params
        try:
            wanted = _one_of("panel", params.get("panel", ""), self._panels)
            steps = _one_of("steps", params.get("steps") or "all", _STEPS)
            zone = _zone(params.get("tz", "UTC"), params.get("offset", "0"))
            found = await self._find(params, _taken(params.get("taken")))
        except ConfigurationError as exc:
            return refused(str(exc), 400)
        points = next((one for one in found or () if one.panel.id == wanted), None)
        if points is None:
            return refused(
                "The points of this chart are no longer kept; refresh the page, then save them "
                "again",
                410,
            )
        pieces = points_csv(
            points.panel,
            points.curves,
            by=points.by,
            live_at=points.live_at,
            zone=zone,
            with_open=steps == "all",
        )
        return await self._files.send(pieces, _name(points, zone), "text/csv")


def _name(points: Points, zone: PointZone) -> str:
    """The file's name, like those that the page makes: content, range and time zone."""
    grid = points.curves.grid
    ends = (grid.start, points.live_at or grid.end)
    start, end = (zone.iso(at)[:16].replace("T", "-") for at in ends)
    by = [f"by_{points.by}"] if points.by else []
    parts = ["queuescope", points.panel.id, *by, "read", start, "to", end, zone.name]
    return re.sub(r"[^A-Za-z0-9_+]+", "-", "_".join(parts)) + ".csv"


def _one_of(name: str, text: str, known: Sequence[str]) -> str:
    if text not in known:
        raise ConfigurationError(f"{name}={text[:40]!r}: choose one of {', '.join(known)}")
    return text


def _taken(text: str | None) -> float | None:
    if not text:
        return None
    try:
        at = float(text)
    except ValueError:
        at = math.nan
    if not math.isfinite(at):
        raise ConfigurationError(f"taken={text[:40]!r}: give the takenAt of an answer")
    return at


def _zone(name: str, offset: str) -> PointZone:
    found = re.fullmatch(r"[+-]?[0-9]{1,5}", offset, re.ASCII)
    seconds = int(found[0]) if found else _LONGEST_OFFSET_SECONDS + 1
    if abs(seconds) > _LONGEST_OFFSET_SECONDS:
        raise ConfigurationError(
            f"offset={offset[:40]!r}: give the seconds of the time zone from UTC, such as 19800"
        )
    return PointZone(name[:_LONGEST_ZONE], seconds)
