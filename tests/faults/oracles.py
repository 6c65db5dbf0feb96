"""What must be true of every reading, whatever the fault; each raises ``AssertionError``."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from tests.faults.world import CURVES, PANELS, Page, Truth
from tests.rounding import words_of

from queuescope.panels import Kind

CANARY = "c4n4ry-t0k3n"
"""The credential for the source, which hostile responses repeat."""
UPSTREAM = "verbatim-upstream-words"
"""Part of every hostile response."""

_KNOWN = frozenset({"fresh", "partial", "stale"})
_KIND = {"queue_depth": Kind.COUNT, "success_rate": Kind.PERCENT, "latency": Kind.LATENCY}
_LONGEST_LOG_LINE = 1_000
_FLOAT32 = 2e-6


def states_are(page: Page, expected: Mapping[str, str]) -> None:
    """Every panel has the state that belongs to the fault, with the cause."""
    assert page.states == expected, [panel["cause"] for panel in page.panels.values()]
    for name, panel in page.panels.items():
        assert bool(panel["cause"]) == (panel["state"] != "fresh"), f"{name}: {panel['cause']!r}"
    spoilt = {"stale", "unavailable"} & set(expected.values())
    assert page.complete == (not spoilt and page.source["reachable"])


def unknown_is_not_zero(page: Page) -> None:
    """An unknown value has no number, and a known value has one."""
    for name, panel in page.panels.items():
        drawn = any(page.points(name).values())
        if panel["state"] in _KNOWN:
            assert drawn, f"{name} is {panel['state']} without a number"
            assert panel["asOf"] is not None, name
        else:
            assert not drawn, f"{name} is {panel['state']} and draws numbers"
        if panel["state"] == "unavailable":
            assert panel["asOf"] is None, name


def drawn_is_true(page: Page, truth: Truth) -> None:
    """Every number on the page is what Prometheus returns for that time."""
    for name, panel in page.panels.items():
        for curve, points in page.points(name).items():
            real = truth.points(name, curve)
            for at, value in points.items():
                assert at in real, f"{name} draws {value} at {at}, where there is nothing"
                assert _equal(value, real[at]), f"{name} draws {value} at {at}, not {real[at]}"
        if panel["now"] is not None:
            real_now = truth.present_value(name, panel["now"]["asOf"])
            assert real_now is not None, f"{name} has a present value where there is none"
            bounds = None if name != "latency" else truth.present_bounds(panel["now"]["asOf"])
            real_words = words_of(_KIND[name], real_now, bounds)
            assert panel["now"]["words"] in real_words, f"{name} now, where {real_now} is true"


def nothing_is_missing(page: Page, truth: Truth, panels: Iterable[str] = PANELS) -> None:
    """Every value that Prometheus has for the range is drawn."""
    for name in panels:
        drawn = page.points(name)
        assert set(drawn) == set(CURVES[name]), name
        for curve, points in drawn.items():
            wanted = truth.points(name, curve).keys() & set(page.grid)
            assert set(points) == wanted, f"{name} {curve}: {sorted(wanted ^ set(points))}"


def old_values_carry_their_time(
    page: Page, as_of: Mapping[str, float], now_as_of: Mapping[str, float]
) -> None:
    """A stale panel has the time of its last good answer, and since when there is none."""
    for name, panel in page.panels.items():
        if panel["state"] == "stale":
            assert panel["asOf"] == as_of[name], name
            newest = max(at for points in page.points(name).values() for at in points)
            assert newest <= panel["asOf"], f"{name} draws what lies after its time"
        if panel["now"] is not None:
            assert panel["now"]["asOf"] in (now_as_of.get(name), *_fresh_now(page)), name
    source = page.source
    if source["reachable"]:
        assert source["failingSince"] is None
    else:
        assert source["cause"]
        assert source["failingSince"] <= page.content["takenAt"]
        if source["lastSeen"] is not None:
            assert source["lastSeen"] <= source["failingSince"]


def _fresh_now(page: Page) -> tuple[float, ...]:
    """The times at which a value counts as present: only while the source answers."""
    if not page.source["reachable"]:
        return ()
    source_now = page.content["takenAt"] + page.source["offset"]
    return tuple(
        panel["now"]["asOf"]
        for panel in page.panels.values()
        if panel["now"] is not None and abs(panel["now"]["asOf"] - source_now) < 30
    )


def questions_are_few(spoilt: int, all_of_them: int, *, most_spoilt: int, most: int) -> None:
    """A fault does not cause a storm of queries."""
    assert spoilt <= most_spoilt, f"{spoilt} questions were put to what fails"
    assert all_of_them <= most, f"{all_of_them} questions in all"


def no_secret_is_shown(texts: Sequence[str]) -> None:
    for text in texts:
        assert CANARY not in text


def no_upstream_text_is_shown(page: Page, own_metrics: str) -> None:
    assert UPSTREAM not in page.body.decode()
    assert UPSTREAM not in own_metrics


def log_lines_are_harmless(lines: Sequence[str]) -> None:
    """Text of the server in a log is escaped and short."""
    for line in lines:
        assert line.isprintable(), f"control characters in {line!r}"
        assert len(line) <= _LONGEST_LOG_LINE, line


def no_line_crosses(page: Page, panel: str, first: int, last: int) -> None:
    """There is a gap: no point between ``first`` and ``last``, and lines stop at it."""
    for trace in page.panels[panel]["figure"]["data"]:
        assert trace["connectgaps"] is False
        assert trace["x0"] // 1000 <= first, "the gap lies before what is drawn"
    for curve, points in page.points(panel).items():
        inside = [at for at in points if first <= at <= last]
        assert not inside, f"{curve} has points at {inside}"
        assert any(at > last for at in points), curve


def same_data(page: Page, good: Page, panel: str) -> None:
    """The data shown were shown before, as far as they are still in the range."""
    now, before = page.points(panel), good.points(panel)
    assert set(now) == set(before)
    for curve, points in now.items():
        kept = {at: value for at, value in before[curve].items() if at in points}
        assert points == kept, f"{panel} {curve} differs from the last good data"
        held = {at for at in before[curve] if at >= page.grid[0]}
        assert held <= set(points), f"{panel} {curve} lost {sorted(held - set(points))}"


def _equal(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=_FLOAT32, abs_tol=1e-9)
