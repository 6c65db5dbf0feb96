"""Decoding range answers into arrays, against json and pandas and a JSON decoder, in one run."""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd
from benchmarks.report import Ratio, Results, versions
from benchmarks.servers import PROJECT
from benchmarks.turns import take_turns

from queuescope.prometheus.compiled_points import compiled_reader
from queuescope.prometheus.matrix import read_matrix
from queuescope.prometheus.points import PointsReader, read_points
from queuescope.timeseries import Grid

PLAIN, BARE = "json and pandas", "orjson.loads alone"
COMPILED, LIBRARIES = "Queuescope, compiled", "Queuescope, no compiler"
ONCE = "1,000 × 5, one call after json and pandas"

_SHAPES = ((1_000, 5), (11_000, 5), (1_000, 192))
_FIRST, _STEP_SECONDS = 1_700_000_040, 60
# More grids than any cache keeps, so that no call finds its grid cached.
_BODIES = 12
_Body = tuple[bytes, Grid]


def main() -> None:
    parser = argparse.ArgumentParser(prog="./benchmarks/run decoding", description=__doc__)
    parser.add_argument("--turns", type=int, default=15, help="[%(default)s]")
    parser.add_argument(
        "--output", type=Path, default=PROJECT / "benchmarks/results", help="[%(default)s]"
    )
    given = parser.parse_args()
    results = Results(
        "decoding",
        "Decoding",
        {"shapes": _SHAPES, "bodies": _BODIES, "turns": given.turns},
        versions("numpy", "orjson", "pandas", "pysimdjson"),
    )
    readers = {LIBRARIES: read_points}
    compiled = compiled_reader()
    if compiled is not None:
        readers = {COMPILED: compiled, **readers}
    for points, series in _SHAPES:
        title = f"{points:,} points × {series} series"
        bodies = [_body(points, series, number) for number in range(_BODIES)]
        _check(bodies[0], readers)
        contenders: dict[str, Callable[[], object]] = {
            PLAIN: _over(bodies, lambda body, _: plain(body)),
            BARE: _over(bodies, lambda body, _: orjson.loads(body)),
            **{name: _over(bodies, _reading(reader)) for name, reader in readers.items()},
        }
        take_turns(results, title, contenders, turns=given.turns)
        _compare(results, title, readers, {PLAIN: 20, BARE: 5})
        # A decoder that creates lists also pays for the collector's walks over all objects of the
        # process, which a decoder of arrays does not cause. This is the comparison without them.
        uncollected = f"{title}, no garbage collector"
        del contenders[PLAIN]
        gc.disable()
        take_turns(results, uncollected, contenders, turns=given.turns)
        gc.enable()
        _compare(results, uncollected, readers, {BARE: 5})
        if (points, series) == _SHAPES[0]:
            _once(results, bodies, readers, given.turns)
    results.write(given.output)
    print((given.output / "decoding.md").read_text("utf-8"))


def plain(body: bytes) -> pd.DataFrame:
    """A column for each series, as most people would write it."""
    rows = [
        {"time": at, "value": float(value), "series": json.dumps(one["metric"])}
        for one in json.loads(body)["data"]["result"]
        for at, value in one["values"]
    ]
    table = pd.DataFrame(rows)
    table["time"] = pd.to_datetime(table["time"], unit="s")
    return table.pivot_table(index="time", columns="series", values="value")


def _body(points: int, series: int, number: int) -> _Body:
    """An answer in Prometheus's form: rates, whole numbers and ratios, a third of each."""
    random = np.random.default_rng((points, series, number))
    start = _FIRST + number * _STEP_SECONDS
    grid = Grid(start, start + (points - 1) * _STEP_SECONDS, _STEP_SECONDS)
    result: list[dict[str, Any]] = []
    for one in range(series):
        values = (
            random.poisson(200, points) / 285,
            random.poisson(40, points),
            random.beta(80, 2, points),
        )[one % 3].tolist()
        metric = {
            "__name__": "ai_agents_measure",
            "instance": f"10.0.0.{one}:9100",
            "job": "ai-agents",
            "queue": f"queue-{one:03}",
        }
        # Python and Go both write the shortest text that reads as the same number.
        texts = [str(value) for value in values]
        at = range(grid.start, grid.end + 1, _STEP_SECONDS)
        result.append({"metric": metric, "values": list(zip(at, texts, strict=True))})
    data = {"resultType": "matrix", "result": result}
    return orjson.dumps({"status": "success", "data": data}), grid


def _check(body: _Body, readers: dict[str, PointsReader]) -> None:
    """All return the same numbers, bit by bit."""
    result = orjson.loads(body[0])["data"]["result"]
    expected = np.array([[float(text) for _, text in one["values"]] for one in result])
    assert plain(body[0]).shape == expected.T.shape
    for reader in readers.values():
        frame = read_matrix(*body, points=reader)
        assert frame is not None
        order = [int(dict(labels)["queue"][-3:]) for labels in frame.series]
        found = frame.values  # noqa: PD011
        assert np.array_equal(expected[order].view(np.int64), found.view(np.int64))


def _reading(reader: PointsReader) -> Callable[[bytes, Grid], object]:
    return lambda body, grid: read_matrix(body, grid, points=reader)


def _over(bodies: list[_Body], call: Callable[[bytes, Grid], object]) -> Callable[[], object]:
    """Each call with another body."""
    turn = itertools.cycle(bodies)
    return lambda: call(*next(turn))


def _once(
    results: Results, bodies: list[_Body], readers: dict[str, PointsReader], turns: int
) -> None:
    """Single calls, with the CPU caches full of other data."""
    calls: dict[str, Callable[[bytes, Grid], object]] = {
        BARE: lambda body, _: orjson.loads(body),
        **{name: _reading(reader) for name, reader in readers.items()},
    }
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for body, grid in itertools.islice(itertools.cycle(bodies), turns):
        for name, call in calls.items():
            plain(body)
            start = time.perf_counter()
            call(body, grid)
            taken[name].append((time.perf_counter() - start) * 1e3)
    for name, values in taken.items():
        results.add(ONCE, name, "ms", values)
    for name in readers:
        results.ratios.append(_ratio(results, ONCE, BARE, name, 5))


def _compare(
    results: Results, title: str, readers: dict[str, PointsReader], targets: dict[str, float]
) -> None:
    taken = {measure.contender: measure for measure in results.measures if measure.title == title}
    for other, least in targets.items():
        for name in readers:
            pairs = zip(taken[other].values, taken[name].values, strict=True)
            turns = [theirs / ours for theirs, ours in pairs]
            results.add(f"{title}: times faster than {other}, by turn", name, "×", turns)
            results.ratios.append(_ratio(results, title, other, name, least))


def _ratio(results: Results, title: str, other: str, name: str, least: float) -> Ratio:
    value = results.times(title, other, name)
    return Ratio(f"{title}: {name}, times faster than {other}", value, least, at_least=True)


if __name__ == "__main__":
    main()
