"""Contenders measured alternately; each turn starts with another one."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from benchmarks.report import Results, busy_cores

_LEAST_SECONDS = 0.02
_FACTORS = {"ms": 1e3, "µs": 1e6}


def take_turns(
    results: Results,
    title: str,
    contenders: Mapping[str, Callable[[], object]],
    *,
    turns: int,
    unit: str = "ms",
) -> None:
    """Add the duration of one call of each contender to ``results``.

    In a turn, a contender is called for at least 20 ms. The first turn is a warm-up.
    """
    names = list(contenders)
    taken: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(-1, turns):
        results.load.setdefault(title, []).append(busy_cores(0.1))
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            seconds = _seconds_per_call(contenders[name])
            if turn >= 0:
                taken[name].append(seconds * _FACTORS[unit])
    for name, values in taken.items():
        results.add(title, name, unit, values)


def _seconds_per_call(call: Callable[[], object]) -> float:
    calls, start = 0, time.perf_counter()
    while True:
        call()
        calls += 1
        passed = time.perf_counter() - start
        if passed >= _LEAST_SECONDS:
            return passed / calls
