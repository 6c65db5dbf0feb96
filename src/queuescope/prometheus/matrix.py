"""The quick way through the answer to a range query, for the one form that Prometheus writes.

JSON decoders make three Python objects for every point. Here the marks around the numbers of a
series are checked and taken away, and the numbers are read into one buffer. Every byte is still
accounted for: whatever is not exactly of the known form is left to the general decoder in
``wire``, which reads it or says what is wrong with it.
"""

from __future__ import annotations

import json
from functools import lru_cache

import numpy as np
import orjson
import simdjson
from numpy.typing import NDArray

from queuescope.timeseries import UNDEFINED, Floats, Frame, Grid, Labels, labels_of

_HEAD = b'{"status":"success","data":{"resultType":"matrix","result":[{"metric":'
_NEXT = b',{"metric":'
_TAILS = (b"]}}", b"]}}\n")
_VALUES = b',"values":[['
_END = b"]]}"
_LONGEST_SEPARATOR = len(b"],[9999999999,")
_DIGITS = b"0123456789"
_NUMBER_BYTES = b"0123456789.,eE+-Na"
_NOT_A_NUMBER = b"-1.7976931348623157e308"
"""Stands for NaN, which JSON cannot hold; an answer with this very number is read slowly."""

_parser = simdjson.Parser()


def read_matrix(body: bytes, grid: Grid) -> Frame | None:
    """The series of ``body`` over ``grid`` in label order, or None when its form is not the known.

    None says nothing about whether the body is valid. Where a frame is returned it is what
    ``wire.parse_matrix`` would give for the body without this module.
    """
    if not body.startswith(_HEAD):
        return None
    # A quotation mark inside a label is written with a backslash before it, so this text cannot
    # stand inside one.
    head, *pieces = body[len(_HEAD) :].split(_VALUES)
    rows: dict[Labels, Floats] = {}
    for number, piece in enumerate(pieces, start=1):
        points, end, rest = piece.partition(_END)
        labels = _labels(head)
        row = _row(points, grid) if end else None
        if labels is None or row is None or labels in rows:
            return None
        rows[labels] = row
        if number == len(pieces):
            if rest not in _TAILS:
                return None
        elif not rest.startswith(_NEXT):
            return None
        head = rest[len(_NEXT) :]
    if not rows:
        return None
    names = tuple(sorted(rows))
    return Frame(grid, names, np.vstack([rows[name] for name in names]))


def _labels(text: bytes) -> Labels | None:
    try:
        pairs = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(pairs, dict) or not all(type(value) is str for value in pairs.values()):
        return None
    return labels_of(pairs) if _is_without_repetition(text, len(pairs)) else None


def _is_without_repetition(text: bytes, pairs: int) -> bool:
    """Whether the labels hold no name twice, of which a decoder would keep the last silently."""
    if b"\\" in text:
        return len(json.loads(text, object_pairs_hook=list)) == pairs
    # Every pair of texts has four quotation marks, and a pair that was lost had two at least.
    return text.count(b'"') == 4 * pairs


def _row(points: bytes, grid: Grid) -> Floats | None:
    """The values of ``1700000000,"12.5"],[1700000060,"NaN"`` on ``grid``."""
    parts = points.split(b'"')
    between = parts[0::2]
    values = _numbers(b",".join(parts[1::2]))
    if values is None or len(values) != len(between) - 1:
        return None
    if between == _separators(grid):
        # One value at each step, which is nearly always so: no timestamp need be read.
        return values
    index = _positions(between, grid)
    if index is None:
        return None
    row = np.full(len(grid), np.nan)
    row[index] = values
    return row


def _numbers(joined: bytes) -> Floats | None:
    if joined.translate(None, _NUMBER_BYTES):
        return None
    undefined = joined.count(b"NaN")
    if not undefined:
        return _read(joined)
    values = _read(joined.replace(b"NaN", _NOT_A_NUMBER))
    if values is None:
        return None
    stands_for_nan = values == float(_NOT_A_NUMBER)
    values[stands_for_nan] = UNDEFINED
    return values if np.count_nonzero(stands_for_nan) == undefined else None


def _read(numbers: bytes) -> Floats | None:
    """The numbers of a text with commas between them; None where one is not a JSON number."""
    try:
        array = _parser.parse(b"[%b]" % numbers)
        return (
            np.frombuffer(array.as_buffer(of_type="d"))
            if isinstance(array, simdjson.Array)
            else None
        )
    except (ValueError, RuntimeError):  # the latter for whole numbers beyond 64 bits
        return None
    finally:
        # The parser refuses further work while what it read is still looked at.
        array = None


@lru_cache(maxsize=8)
def _separators(grid: Grid) -> list[bytes]:
    """What stands between the values of a series that has one at every step."""
    times = range(grid.start, grid.end + 1, grid.step_seconds)
    return [b"%d," % grid.start, *(b"],[%d," % time for time in times[1:]), b""]


def _positions(between: list[bytes], grid: Grid) -> NDArray[np.int64] | None:
    """Where the points of a series with gaps stand: strictly ascending, on the grid."""
    joined = b"".join(between)
    if between[-1] or joined.translate(None, _DIGITS) != b"," + b"],[," * (len(between) - 2):
        return None
    if max(map(len, between)) > _LONGEST_SEPARATOR:
        return None
    times = _read(joined.translate(None, b"[]").replace(b",,", b",")[:-1])
    if times is None or len(times) != len(between) - 1:
        return None
    index, odd = np.divmod(times - grid.start, grid.step_seconds)
    on_grid = not odd.any() and index[0] >= 0 and index[-1] < len(grid)
    return index.astype(np.int64) if on_grid and bool((np.diff(index) > 0).all()) else None
