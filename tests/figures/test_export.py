"""The points of a chart as a file."""

from __future__ import annotations

import csv
import io
from html import unescape

import numpy as np

from queuescope.figures import Curve, Curves, PointZone, panel_figure, points_csv
from queuescope.panels import load_dashboard
from queuescope.shown_text import shown
from queuescope.timeseries import Grid

PANELS = {panel.id: panel for panel in load_dashboard("ai-agents").panels}
NAN = float("nan")
HOSTILE = ("=1+1", "@SUM(1)", "a;=1", '"x",\r\n=2', "\u202eemca", "=<b>&", "plain")


def _rows(text: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text.decode("utf-8"), newline="")))


def _points(curves: Curves, zone: PointZone, live_at: float | None) -> list[dict[str, str]]:
    panel = PANELS["latency"]
    pieces = points_csv(panel, curves, by="tenant", live_at=live_at, zone=zone)
    return _rows(b"".join(pieces))


def test_every_point_describes_itself_and_a_gap_is_empty() -> None:
    curve = Curve("acme", "uid", np.array([0.0, NAN, 1234.5678901234]), live=7.25)
    curves = Curves(Grid(0, 120, 60), (curve,))
    rows = _points(curves, PointZone("Asia/Kolkata", 19_800), 150.5)
    assert [(row["time"], row["value"], row["step"]) for row in rows] == [
        ("1970-01-01T05:30:00+05:30", "0.0", "closed"),
        ("1970-01-01T05:31:00+05:30", "", "closed"),
        ("1970-01-01T05:32:00+05:30", "1234.5678901234", "closed"),
        ("1970-01-01T05:32:30.500+05:30", "7.25", "open"),
    ]
    for row in rows:
        assert row["panel"] == "latency"
        assert (row["unit"], row["breakdown"], row["quantile"]) == ("ms", "tenant", "P95")
        assert (row["series"], row["zone"]) == ("acme", "Asia/Kolkata")
        assert row["from"] == "1970-01-01T05:30:00+05:30"
        assert row["to"] == "1970-01-01T05:32:30.500+05:30"
    assert [row["step"] for row in _points(curves, PointZone(), None)] == ["closed"] * 3


def test_no_name_is_a_formula_in_the_servers_file_or_the_pages() -> None:
    made = tuple(Curve(name, f"uid-{n}", np.ones(3)) for n, name in enumerate(HOSTILE))
    curves = Curves(Grid(0, 120, 60), made)
    rows = _points(curves, PointZone("=cmd|1"), None)
    cells = [row["series"] for row in rows[::3]]
    assert cells == [
        "'=1+1",
        "'@SUM(1)",
        "a;'=1",
        r""""x",\u000d\u000a''=2""",
        r"\u202eemca",
        "'=<b>&",
        "plain",
    ]
    assert {row["zone"] for row in rows} == {"'=cmd|1"}
    # The page uses the server's name if the drawn name must not be in a cell.
    traces = panel_figure(PANELS["latency"], curves, by="tenant")["data"]
    assert [shown(unescape(trace.get("cell", trace["name"]))) for trace in traces] == cells
    assert "cell" not in traces[-1]
