"""Numbers, durations and steps in the words that a reader sees."""

from __future__ import annotations

import math

from queuescope.panels import Kind

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


def value_words(kind: Kind, value: float) -> str:
    """A value with its unit: ``42``, ``98.2 %``, ``840 ms``, ``12.4 s``, ``3 min 20 s``."""
    if not math.isfinite(value):
        return "–"
    if kind is Kind.PERCENT:
        # Never rounded up to a perfect score that was not reached.
        shown = min(round(value, 1), 99.9) if value < 100 else 100.0
        return f"{shown:.1f} %"
    if kind is Kind.COUNT:
        # What is a whole number but for the last bits of a rate reads as one.
        whole = math.isclose(value, round(value), rel_tol=1e-9)
        return f"{value:,.0f}" if whole else f"{value:,.1f}"
    # The limits lie where rounding would write 1,000 ms or 60.0 s.
    if value < 999.5:
        return f"{value:.0f} ms"
    if value < 59_950:
        return f"{value / 1000:.1f} s"
    return duration_words(value / 1000)
