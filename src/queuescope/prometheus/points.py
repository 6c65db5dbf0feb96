"""Parses the points of one series into a row of a frame, without compiled code of its own.

The text has the form ``1700000000,"12.5"],[1700000060,"NaN"]]``, which follows ``"values":[[``. All
separators between two values are sixteen bytes long, so they are compared, and replaced with a
comma and blanks, for all points at once; the rest is one flat list of numbers.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import simdjson
from numpy.typing import NDArray

from queuescope.timeseries import UNDEFINED, Floats, Grid

REFUSED = -1
"""The result of a reader of points for text that does not have exactly the known form."""

_CLOSE = b'"]]'
_SEPARATOR = b'"],[0000000000,"'
_DIGITS = slice(4, 14)
_FIRST_QUOTE = len("0000000000,")
_TEN_POWERS = 10.0 ** np.arange(9, -1, -1)
_SIXTEEN_BYTES = np.dtype("V16")
_FOUR_BYTES = np.dtype("<u4")
_BLANKS = np.frombuffer(b",               ", _SIXTEEN_BYTES)
_MARGIN = b",    "
_NAN, _PLUS_INF, _MINUS_INF = (int.from_bytes(b, "little") for b in (b"NaN,", b"+Inf", b"-Inf"))
_MINUS_ZERO = int.from_bytes(b"-0,", "little")

_parser = simdjson.Parser()


class PointsReader(Protocol):
    """Reads points from ``body[at]`` on, with their closing brackets, into ``row``.

    ``row`` has the length of ``grid``; it gets NaN for a missing point and ``UNDEFINED`` for a
    value that is not a finite number. Returns the position after the points, or ``REFUSED`` for
    anything except ascending points on the grid in exactly the known form.
    """

    def __call__(self, body: bytes, at: int, grid: Grid, row: Floats) -> int: ...


def read_points(body: bytes, at: int, grid: Grid, row: Floats) -> int:
    """The ``PointsReader`` for every platform."""
    # Searching a single character is many times faster than searching several.
    close = body.find(b"}", at) - len(_CLOSE)
    if close < at or not body.startswith(_CLOSE, close):
        return REFUSED
    text = np.frombuffer(body, np.uint8, close + 1 - at, at)
    quotes = np.flatnonzero(text == ord('"'))
    opens, closes = quotes[0::2], quotes[1::2]
    if len(opens) != len(closes) or opens[0] != _FIRST_QUOTE:
        return REFUSED
    # JSON ignores blanks, but no value may contain one.
    if (opens[1:] - closes[:-1] != len(_SEPARATOR) - 1).any() or text.min() <= ord(" "):
        return REFUSED
    numbers = bytearray(body[at + _FIRST_QUOTE : close] + _MARGIN)
    between = closes[:-1] - _FIRST_QUOTE
    runs = _runs(numbers, _SIXTEEN_BYTES)
    index = _positions(text[:_FIRST_QUOTE].tobytes() + runs[between].tobytes(), grid)
    if index is None:
        return REFUSED
    runs[between] = _BLANKS
    values = _values(numbers, opens - (_FIRST_QUOTE - 1))
    if values is None:
        return REFUSED
    row[:] = np.nan
    row[index] = values
    return close + len(_CLOSE)


def _runs(text: bytearray, kind: np.dtype[Any]) -> NDArray[Any]:
    """A view of ``text``: at each position, the bytes from there as one value of ``kind``."""
    return np.ndarray((max(0, len(text) - kind.itemsize + 1),), kind, text, 0, (1,))


def _positions(marks: bytes, grid: Grid) -> slice | NDArray[np.int64] | None:
    """The positions on ``grid`` of points with these separators; ``None`` if separators or times
    are wrong.
    """
    if marks == _marks(grid):
        # One value at each step, the usual case: no time needs to be parsed.
        return slice(None)
    text = _SEPARATOR[:4] + marks[:_FIRST_QUOTE] + b'"' + marks[_FIRST_QUOTE:]
    table = np.frombuffer(text, "u1").reshape(-1, len(_SEPARATOR))
    digits = table[:, _DIGITS] - np.uint8(ord("0"))
    pattern = table.copy()
    pattern[:, _DIGITS] = ord("0")
    if pattern.tobytes() != _SEPARATOR * len(table) or digits.max() > 9 or not digits[:, 0].all():
        return None
    steps, odd = np.divmod(digits @ _TEN_POWERS - grid.start, grid.step_seconds)
    if odd.any() or steps[0] < 0 or steps[-1] >= len(grid) or (np.diff(steps) <= 0).any():
        return None
    return steps.astype(np.int64)


@lru_cache(maxsize=8)
def _marks(grid: Grid) -> bytes:
    """The text around the values of a series with one at every step."""
    times = range(grid.start + grid.step_seconds, grid.end + 1, grid.step_seconds)
    return b"%d," % grid.start + b"".join([b'"],[%d,"' % time for time in times])


def _values(text: bytearray, starts: NDArray[np.int64]) -> Floats | None:
    """The numbers of ``"1,   2,   NaN,    `` that start at ``starts``; ``None`` if one is invalid.

    ``text`` is overwritten.
    """
    special = None
    if (np.frombuffer(text, np.uint8) > ord("9")).any() or ord("-") in text:
        special = _special(text, starts)
        if special is None:
            return None
    text[0], text[-len(_MARGIN)] = ord("["), ord("]")
    values = _parsed(bytes(text))
    if values is None or len(values) != len(starts):
        return None
    if special is not None:
        undefined, minus_zero = special
        values[undefined] = UNDEFINED
        values[minus_zero] = -0.0
    return values


def _special(
    text: bytearray, starts: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]] | None:
    """Masks of the values that are NaN or infinite, and of "-0", which the parser reads as integer
    0.

    Overwrites the former with zeros; ``None`` if letters remain that no number contains.
    """
    characters = np.frombuffer(text, np.uint8)
    heads = _runs(text, _FOUR_BYTES)[starts]
    infinite = (heads == _PLUS_INF) | (heads == _MINUS_INF)
    infinite &= characters[starts + 4] == ord(",")
    undefined = infinite | (heads == _NAN)
    none, infinities = starts[undefined], starts[infinite]
    characters[none] = ord("0")
    characters[none + 1] = characters[none + 2] = characters[infinities + 3] = ord(" ")
    letters = characters[characters > ord("9")]
    if (letters | 32 != ord("e")).any():
        return None
    return undefined, heads & 0xFFFFFF == _MINUS_ZERO


def _parsed(numbers: bytes) -> Floats | None:
    try:
        array = _parser.parse(numbers)
        return (
            np.frombuffer(array.as_buffer(of_type="d"))
            if isinstance(array, simdjson.Array)
            else None
        )
    except (ValueError, RuntimeError):  # the latter for integers beyond 64 bits
        return None
    finally:
        # The parser refuses to parse again while its result is still referenced.
        array = None
