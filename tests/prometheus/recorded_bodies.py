"""Responses of real servers, recorded in the folder ``bodies`` beside this file.

``python -m tests.prometheus.recorded_bodies`` records the three kinds of servers again. It needs
``promtool`` and ``prometheus`` on ``PATH``, and ``./test`` to have fetched the other servers.
"""

from __future__ import annotations

import argparse
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import numpy as np
from tests.engines import ENGINES, running

from queuescope.timeseries import Grid

GRID = Grid(1_700_000_040, 1_700_000_940, 60)

_BODIES = Path(__file__).parent / "bodies"
_RANGES = {
    "gauge": 'last_over_time(depth{queue=~"a|b"}[1m])',
    "gaps": "last_over_time(depth[20s])",
    "rates": "rate(jobs_total[2m])",
    "buckets": "sum by (le) (rate(runtime_seconds_bucket[2m]))",
    "undefined": "odd",
    "numbers": "extreme",
    "one": "sum(depth)",
    "nothing": "no_such_metric",
    "warned": "histogram_quantile(2, sum by (le) (rate(runtime_seconds_bucket[2m])))",
    "wrong": "sum(depth",
}
_INSTANTS = {"vector": "depth", "scalar": "scalar(sum(depth))", "no-vector": "no_such_metric"}
_EXTREMES = (1e308, 5e-324, -0.0, 0.1, 1e21, 123456789.123456789, -1e-7, 2.0**53 + 2, 1e16, 17.0)


def ranges() -> dict[str, bytes]:
    """Bodies of range queries over ``GRID``, by the name of their file."""
    return _read(_RANGES)


def instants() -> dict[str, bytes]:
    """Bodies of instant queries at the end of ``GRID``."""
    return _read(_INSTANTS)


def _read(queries: dict[str, str]) -> dict[str, bytes]:
    names = [f"{engine}.{name}.json" for engine in ENGINES for name in queries]
    return {name: (_BODIES / name).read_bytes() for name in names}


def _samples() -> dict[str, tuple[list[float], list[float]]]:
    times = np.arange(GRID.start - 300, GRID.end + 1, 15)
    count = np.arange(len(times), dtype=float)
    even = times[times % 240 < 120]
    odd = np.array([np.nan, np.inf, -np.inf, 1.5])
    series = {
        'depth{queue="a"}': (times, count % 7),
        'depth{queue="b"}': (times, count * 1.25),
        'depth{queue="mal\\"formed\\\\,\\n]}é😀"}': (even, np.sqrt(even)),
        'jobs_total{tenant="acme"}': (times, np.cumsum(count % 5)),
        'jobs_total{tenant="globex"}': (times, np.cumsum(np.sqrt(count))),
        "odd": (times, odd[(count / 4).astype(int) % 4]),
        "extreme": (times, np.array(_EXTREMES)[(count / 4).astype(int) % len(_EXTREMES)]),
    }
    for bound, share in (("0.5", 1.0), ("1", 2.5), ("+Inf", 3.0)):
        series[f'runtime_seconds_bucket{{le="{bound}"}}'] = (times, np.cumsum(count % 3) * share)
    return {text: (at.astype(float).tolist(), what.tolist()) for text, (at, what) in series.items()}


def _ask(url: str, form: dict[str, str]) -> bytes:
    try:
        request = urllib.request.Request(url, urllib.parse.urlencode(form).encode())  # noqa: S310
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            return bytes(answer.read())
    except urllib.error.HTTPError as refusal:
        return refusal.read()


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    span = {"start": f"{GRID.start}", "end": f"{GRID.end}", "step": f"{GRID.step_seconds}"}
    _BODIES.mkdir(exist_ok=True)
    for engine in ENGINES:
        with (
            tempfile.TemporaryDirectory() as directory,
            running(engine, Path(directory), _samples()) as server,
        ):
            for name, query in _RANGES.items():
                body = _ask(f"{server.url}/api/v1/query_range", {"query": query, **span})
                (_BODIES / f"{engine}.{name}.json").write_bytes(body)
            for name, query in _INSTANTS.items():
                form = {"query": query, "time": f"{GRID.end}"}
                body = _ask(f"{server.url}/api/v1/query", form)
                (_BODIES / f"{engine}.{name}.json").write_bytes(body)


if __name__ == "__main__":
    main()
