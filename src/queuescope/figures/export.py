"""The points of a chart as CSV (RFC 4180, UTF-8), in which no spreadsheet finds a formula.

Each row is one point and describes itself completely, so that files can be combined. The page
writes the points that it draws in the same columns.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone

from queuescope.csv_cells import harmless
from queuescope.figures.curves import Curve, Curves, quantile_name
from queuescope.panels import RANKED_QUANTILE, Panel
from queuescope.shown_text import shown

POINT_COLUMNS = (
    "panel",
    "unit",
    "breakdown",
    "quantile",
    "series",
    "from",
    "to",
    "zone",
    "time",
    "value",
    "step",
)

_CHUNK_ROWS = 500


@dataclass(frozen=True, slots=True)
class PointZone:
    """The reader's time zone: its name, and its offset from UTC in seconds."""

    name: str = "UTC"
    offset_seconds: int = 0

    def iso(self, at: float) -> str:
        """ISO 8601 with the offset, of ``at`` in epoch seconds, to the millisecond."""
        zone = timezone(timedelta(seconds=self.offset_seconds))
        # Added to the epoch, which avoids rounding errors of floats.
        when = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=round(at * 1000))
        return when.astimezone(zone).isoformat(
            timespec="milliseconds" if when.microsecond else "seconds"
        )


def points_csv(
    panel: Panel,
    curves: Curves,
    *,
    by: str | None,
    live_at: float | None,
    zone: PointZone,
    with_open: bool = True,
) -> Iterator[bytes]:
    """All points of ``curves`` in pieces, with the column names first; a gap is an empty cell.

    ``step`` is ``closed``, or ``open`` for the value at ``live_at`` (epoch seconds), in the open
    step; ``with_open`` False leaves these values out.
    """
    held = io.StringIO()
    writer = csv.writer(held, lineterminator="\r\n")
    writer.writerow(POINT_COLUMNS)
    is_live = live_at is not None and curves.has_live
    end = live_at if is_live and live_at is not None else float(curves.grid.end)
    window = (zone.iso(curves.grid.start), zone.iso(end), _cell(zone.name))
    times = [zone.iso(at) for at in curves.grid.timestamps().tolist()]
    rows = 0
    for curve in curves.curves:
        of = (*_names(panel, curve, by), *window)
        points = zip(times, curve.values.tolist(), strict=True)
        for at, value in points:
            writer.writerow((*of, at, _number(value), "closed"))
            rows += 1
            if rows % _CHUNK_ROWS == 0:
                yield _taken(held)
        if with_open and is_live and math.isfinite(curve.live):
            writer.writerow((*of, zone.iso(end), _number(curve.live), "open"))
    yield _taken(held)


def _names(panel: Panel, curve: Curve, by: str | None) -> tuple[str, ...]:
    quantile = "" if not panel.quantiles else curve.name
    if by is not None and panel.quantiles:
        quantile = quantile_name(RANKED_QUANTILE)
    names = (panel.id, panel.unit, by or "", quantile, curve.name)
    return tuple(_cell(name) for name in names)


def _cell(text: str) -> str:
    """The text as the page would write it, which never gets characters that cannot be seen."""
    return shown(harmless(text))


def _number(value: float) -> str:
    return repr(value) if math.isfinite(value) else ""


def _taken(held: io.StringIO) -> bytes:
    piece = held.getvalue().encode("utf-8", "backslashreplace")
    held.seek(0)
    held.truncate()
    return piece
