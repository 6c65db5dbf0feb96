"""A fast parser for the answer to a range query, in exactly the form that Prometheus writes.

JSON decoders make three Python objects for every point. Here the envelope and the labels are parsed
as usual, and the points of a series directly into a row of numbers. Every byte is still checked: a
body that does not have exactly the known form is left to the general decoder in ``wire``, which
parses it or says what is wrong with it.
"""

from __future__ import annotations

import json

import numpy as np
import orjson

from queuescope.prometheus.compiled_points import compiled_reader
from queuescope.prometheus.points import REFUSED, PointsReader, read_points
from queuescope.timeseries import Floats, Frame, Grid, Labels, labels_of

_HEAD = b'{"status":"success","data":{"resultType":"matrix","result":[{"metric":'
_VALUES = b',"values":[['
_NEXT = b'},{"metric":'
_TAILS = (b"}]}}", b"}]}}\n")

_fastest_reader = compiled_reader() or read_points


def read_matrix(body: bytes, grid: Grid, *, points: PointsReader = _fastest_reader) -> Frame | None:
    """The series of ``body`` over ``grid`` in label order; ``None`` if it has another form.

    ``None`` says nothing about whether the body is valid. A frame is always what
    ``wire.parse_any_matrix`` would return.
    """
    if not body.startswith(_HEAD):
        return None
    rows: dict[Labels, Floats] = {}
    at = len(_HEAD)
    while True:
        # Quotation marks inside labels are escaped, so this text cannot occur in one.
        end = body.find(_VALUES, at)
        labels = _labels(body[at:end]) if end >= 0 else None
        if labels is None or labels in rows:
            return None
        row = np.empty(len(grid))
        at = points(body, end + len(_VALUES), grid, row)
        if at == REFUSED:
            return None
        rows[labels] = row
        if not body.startswith(_NEXT, at):
            break
        at += len(_NEXT)
    if body[at:] not in _TAILS:
        return None
    names = tuple(sorted(rows))
    values = np.concatenate([rows[name] for name in names])
    return Frame(grid, names, values.reshape(len(names), len(grid)))


def _labels(text: bytes) -> Labels | None:
    try:
        pairs = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(pairs, dict) or not {str}.issuperset(map(type, pairs.values())):
        return None
    return labels_of(pairs) if _is_without_repetition(text, len(pairs)) else None


def _is_without_repetition(text: bytes, pairs: int) -> bool:
    """Whether no label name occurs twice, of which a decoder would silently keep the last."""
    if b"\\" in text:
        return len(json.loads(text, object_pairs_hook=list)) == pairs
    # Every pair has four quotation marks, and a dropped pair had at least two.
    return text.count(b'"') == 4 * pairs
