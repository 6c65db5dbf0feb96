"""A million points reduced to a thousand, against averages by pandas, as ratios within one run."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from benchmarks.report import Ratio, Results, versions
from benchmarks.servers import PROJECT
from benchmarks.turns import take_turns

from queuescope.figures.downsample import downsample

MEAN, EXTREMES, OURS = "pandas mean", "pandas min and max", "Queuescope"
GAPS = "Queuescope, with gaps"
TIME = "1,000,000 points to 1,000"
SPIKE, DIP = "highest value, 500 for one second", "lowest value, 0 for one second"

_LENGTH, _POINTS = 1_000_000, 1_000
_FIRST = 1_700_000_000
_SPIKE_AT, _DIP_AT = 700_300, 700_301


def main() -> None:
    parser = argparse.ArgumentParser(prog="./benchmarks/run downsampling", description=__doc__)
    parser.add_argument("--turns", type=int, default=25, help="[%(default)s]")
    parser.add_argument(
        "--output", type=Path, default=PROJECT / "benchmarks/results", help="[%(default)s]"
    )
    given = parser.parse_args()
    results = Results(
        "downsampling",
        "Downsampling",
        {"length": _LENGTH, "points": _POINTS, "turns": given.turns},
        versions("numpy", "pandas", "tsdownsample"),
    )
    values = np.random.default_rng(1).normal(50, 5, _LENGTH)
    values[_SPIKE_AT], values[_DIP_AT] = 500, 0
    broken = values.copy()
    for start in range(0, _LENGTH, 10_000):
        broken[start : start + 100] = np.nan
    times = np.arange(_LENGTH) + _FIRST
    series = pd.Series(values, index=times.astype("datetime64[s]"))
    window = f"{_LENGTH // _POINTS}s"

    def averaged() -> pd.Series:
        return series.resample(window, origin="start").mean()

    def extremes() -> pd.DataFrame:
        return series.resample(window, origin="start").agg(["min", "max"])

    def ours(of: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        kept = downsample(of, _POINTS)
        return times[kept], of[kept]

    assert len(averaged()) == len(extremes()) == _POINTS
    take_turns(
        results,
        TIME,
        {
            MEAN: averaged,
            EXTREMES: extremes,
            OURS: lambda: ours(values),
            GAPS: lambda: ours(broken),
        },
        turns=given.turns,
        unit="µs",
    )
    for name, drawn in (
        (MEAN, averaged().to_numpy()),
        (EXTREMES, extremes().to_numpy()),
        (OURS, ours(values)[1]),
        (GAPS, ours(broken)[1]),
    ):
        results.add(SPIKE, name, "", [float(np.nanmax(drawn))])
        results.add(DIP, name, "", [float(np.nanmin(drawn))])
        results.add("points", name, "", [np.size(drawn)])
    mean, own = results.median(TIME, MEAN), results.median(TIME, OURS)
    results.ratios += [
        Ratio("times faster than an average by pandas", mean / own, 14, at_least=True),
        Ratio("spike that is kept, of 500", results.median(SPIKE, OURS), 500, at_least=True),
        Ratio("dip that is kept, of 0", results.median(DIP, OURS), 0, at_least=False),
    ]
    results.write(given.output)
    print((given.output / "downsampling.md").read_text("utf-8"))


if __name__ == "__main__":
    main()
