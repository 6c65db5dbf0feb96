"""The page's figures and their JSON against Plotly's objects, as ratios within one run."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import orjson
import plotly.graph_objects as go
from benchmarks.report import Ratio, Results, versions
from benchmarks.servers import PROJECT
from benchmarks.turns import take_turns

from queuescope.figures import Curve, Curves, panel_figure
from queuescope.panels import load_dashboard
from queuescope.timeseries import Floats, Grid

DATETIMES, STRINGS = "Plotly, lists with datetimes", "Plotly, lists with ISO strings"
ARRAYS, OURS = "Plotly, NumPy arrays", "Queuescope"
TIME = "three figures of five curves and their JSON"
SIZE = "bytes of JSON"
_POINTS = 1_000


def _curves(grid: Grid) -> list[Curves]:
    random = np.random.default_rng(1)
    depth = random.poisson(20, _POINTS).astype(np.float64)
    success = np.minimum(100, random.normal(98, 1, _POINTS))
    latency = tuple(
        _estimate(name, random.lognormal(8 + number, 0.5, _POINTS))
        for number, name in enumerate(("P50", "P95", "P99"))
    )
    return [
        Curves(grid, (Curve("Queue depth", "queue_depth", depth),)),
        Curves(grid, (Curve("Success rate", "success_rate", success),)),
        Curves(grid, latency),
    ]


def _estimate(name: str, values: Floats) -> Curve:
    """A quantile from twelve buckets per decade, as workers export them."""
    bucket = np.floor(np.log10(values) * 12)
    low, high = (10 ** (edge / 12) for edge in (bucket, bucket + 1))
    return Curve(name, f"latency-{name}", values, low=low, high=high)


def main() -> None:
    parser = argparse.ArgumentParser(prog="./benchmarks/run figures", description=__doc__)
    parser.add_argument("--turns", type=int, default=25, help="[%(default)s]")
    parser.add_argument(
        "--output", type=Path, default=PROJECT / "benchmarks/results", help="[%(default)s]"
    )
    given = parser.parse_args()
    results = Results(
        "figures",
        "Figures",
        {"curves": 5, "points": _POINTS, "turns": given.turns},
        versions("numpy", "orjson", "plotly"),
    )
    panels = load_dashboard("ai-agents").panels
    grid = Grid(1_700_000_400, 1_700_000_400 + 60 * (_POINTS - 1), 60)
    charts = list(zip(panels, _curves(grid), strict=True))
    times = grid.timestamps()
    datetimes = [datetime.fromtimestamp(t, UTC) for t in times.tolist()]
    strings = [t.isoformat() for t in datetimes]
    lists = [[(c.name, c.values.tolist()) for c in curves.curves] for _, curves in charts]
    arrays = [[(c.name, c.values) for c in curves.curves] for _, curves in charts]

    def theirs(x: object, drawn: Sequence[Sequence[tuple[str, object]]]) -> list[str]:
        return [
            go.Figure(
                [go.Scatter(x=x, y=y, name=name, mode="lines") for name, y in curves],
                layout={"title": {"text": panel.title}, "hovermode": "x unified"},
            ).to_json()
            for panel, curves in zip(panels, drawn, strict=True)
        ]

    def ours() -> bytes:
        return orjson.dumps([panel_figure(panel, curves) for panel, curves in charts])

    contenders: dict[str, Callable[[], bytes | list[str]]] = {
        DATETIMES: lambda: theirs(datetimes, lists),
        STRINGS: lambda: theirs(strings, lists),
        ARRAYS: lambda: theirs(times.astype("datetime64[s]"), arrays),
        OURS: ours,
    }
    take_turns(results, TIME, contenders, turns=given.turns, unit="µs")
    for name, draw in contenders.items():
        drawn = draw()
        size = len(drawn) if isinstance(drawn, bytes) else sum(len(one) for one in drawn)
        results.add(SIZE, name, "B", [size])
    own = results.median(TIME, OURS)
    plain = results.median(TIME, DATETIMES)
    results.ratios += [
        Ratio(f"times faster than {DATETIMES}", plain / own, 500, at_least=True),
        Ratio("kB of JSON", results.median(SIZE, OURS) / 1000, 30, at_least=False),
    ]
    results.write(given.output)
    print((given.output / "figures.md").read_text("utf-8"))


if __name__ == "__main__":
    main()
