"""Numbers, durations and steps as text for the page."""

from __future__ import annotations

import math
from collections.abc import Callable

from queuescope.panels import Kind

Bounds = tuple[float, float]
"""The bounds of a figure; the upper one may be infinite."""

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def step_words(seconds: int) -> str:
    """A step as one unit: ``15 s``, ``5 min``, ``1 h``."""
    for size, name in _UNITS:
        if seconds >= size and seconds % size == 0:
            return f"{seconds // size} {name}"
    return f"{seconds} s"


def duration_words(seconds: float) -> str:
    """A duration to its two largest units: ``3 d 20 s`` is ``3 d``, ``125`` is ``2 min 5 s``."""
    left = max(0, round(seconds))
    for position, (size, name) in enumerate(_UNITS):
        if left >= size:
            words = f"{left // size} {name}"
            if position + 1 < len(_UNITS):
                next_size, next_name = _UNITS[position + 1]
                if rest := left % size // next_size:
                    words += f" {rest} {next_name}"
            return words
    return "0 s"


def over_words(seconds: float | None) -> str:
    """The window of a measurement in words; empty for the value of one instant."""
    return "" if seconds is None else duration_words(max(1, round(seconds)))


def value_words(kind: Kind, value: float) -> str:
    """A value with its unit: ``42``, ``98.2 %``, ``840 ms``, ``12.4 s``, ``3 min 20 s``."""
    if not math.isfinite(value):
        return "–"
    if kind is Kind.PERCENT:
        # Never rounded up to 100 % if that was not reached, apart from the last bits of a division.
        is_whole = value >= 100 or math.isclose(value, 100, rel_tol=1e-12)
        shown = 100.0 if is_whole else min(round(value, 1), 99.9)
        return f"{shown:.1f} %"
    if kind is Kind.COUNT:
        # A whole number, apart from the last bits of a rate, is written as one.
        whole = math.isclose(value, round(value), rel_tol=1e-9)
        return f"{value:,.0f}" if whole else f"{value:,.1f}"
    # The limits are where rounding would give 1,000 ms or 60.0 s.
    if value < 999.5:
        return f"{value:.0f} ms"
    if value < 59_950:
        return f"{value / 1000:.1f} s"
    return duration_words(value / 1000)


def figure_words(kind: Kind, value: float, bounds: Bounds | None = None) -> str:
    """A value with its unit, or its bounds if only these are known: ``10–30 min``, ``56–68 s``,
    ``950 ms – 1.2 s``, ``up to 1 s``, ``1 h or more``.
    """
    if bounds is None or not math.isfinite(value):
        return value_words(kind, value)
    low, high = bounds
    first = value_words(kind, _outward(kind, low, math.floor))
    if math.isinf(high):
        return f"{_plain(first)} or more"
    last = value_words(kind, _outward(kind, high, math.ceil))
    if low <= 0:
        return f"up to {_plain(last)}"
    if first == last:
        return first
    first, last = _plain(first), _plain(last)
    number, *unit = first.split()
    if len(unit) == 1 and last.split()[1:] == unit:
        return f"{number}–{last}"
    return f"{first} – {last}"


def _plain(words: str) -> str:
    return words.replace(".0 ", " ")


def _outward(kind: Kind, value: float, rounded: Callable[[float], int]) -> float:
    """``value`` to the last digit that its words have, away from what lies between."""
    if kind is not Kind.LATENCY:
        return value
    limits = ((999.5, 1), (59_950, 100), (3_599_500, 1_000), (86_400_000, 60_000))
    digit = next((digit for limit, digit in limits if value < limit), 3_600_000)
    # A bound is a decimal number, of which the binary one is a hair off.
    return rounded(round(value / digit, 6)) * digit
