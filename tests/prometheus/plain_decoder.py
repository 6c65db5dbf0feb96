"""The simplest decoder, point by point: the product's decoder must return the same.

If the product must reject a body, this decoder may do anything. If the product accepts one, both
must return the same, and no key with a meaning may be repeated in it. ``is_valid`` is stricter than
JSON libraries: it finds the bodies that the product has no reason to reject.
"""

from __future__ import annotations

import json
import math
import re
from functools import partial
from typing import Any

from queuescope.timeseries import Grid, Labels

Point = float | str
"""A number, or one of the two kinds of no number."""

MISSING = "missing"
UNDEFINED = "undefined"

_KNOWN = (
    *("status", "errorType", "error", "warnings", "infos", "isPartial", "data", "resultType"),
    *("result", "metric"),
)
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?|NaN|[+-]?Inf")


def matrix(body: bytes, grid: Grid) -> dict[Labels, list[Point]]:
    """Each series with its point at each step. Raises nearly anything for another form."""
    found: dict[Labels, list[Point]] = {}
    hook = partial(_known_once, of_series=("values", "histograms"))
    for one in json.loads(body, object_pairs_hook=hook)["data"]["result"]:
        if one.get("values"):
            labels = tuple(sorted(one["metric"].items()))
            row = found.setdefault(labels, [MISSING] * len(grid))
            for at, text in one["values"]:
                row[int((at - grid.start) / grid.step_seconds)] = point(text)
    return found


def vector(body: bytes) -> list[tuple[Labels, float, float]]:
    """Each sample with its labels, time and value. Raises nearly anything, as ``matrix`` does."""
    hook = partial(_known_once, of_series=("value",))
    data = json.loads(body, object_pairs_hook=hook)["data"]
    if data["resultType"] == "scalar":
        at, text = data["result"]
        return [((), float(at), float(text))]
    result = data["result"]
    return sorted(
        (tuple(sorted(one["metric"].items())), float(one["value"][0]), float(one["value"][1]))
        for one in result
    )


def warnings(body: bytes) -> tuple[str, ...]:
    """The warnings of the source."""
    envelope = json.loads(body)
    marked = ("the source marked its answer as partial",) if envelope.get("isPartial") else ()
    return (*(envelope.get("warnings") or ()), *marked)


def point(text: str) -> Point:
    value = float(text)
    return value if math.isfinite(value) else UNDEFINED


def is_valid(body: bytes, grid: Grid) -> bool:
    """Whether ``body`` is without doubt a response to a range query over ``grid``."""
    try:
        envelope = json.loads(body.decode(), object_pairs_hook=_unique, parse_constant=_refuse)
        # Half of a surrogate pair can be written in JSON, but is no text; this fails for one.
        json.dumps(envelope, ensure_ascii=False).encode()
        return (
            envelope["status"] == "success"
            and not {*envelope} - {"status", "data", "warnings", "infos"}
            and all(_is_list(envelope.get(key, []), str) for key in ("warnings", "infos"))
            and not {*envelope["data"]} - {"resultType", "result"}
            and envelope["data"]["resultType"] == "matrix"
            and type(envelope["data"]["result"]) is list
            and all(_is_series(one, grid) for one in envelope["data"]["result"])
            and len({_labels(one) for one in envelope["data"]["result"]})
            == len(envelope["data"]["result"])
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False


def _is_series(one: Any, grid: Grid) -> bool:
    times = [at for at, _ in one["values"]]
    return (
        {*one} == {"metric", "values"}
        and all(isinstance(value, str) for value in one["metric"].values())
        and type(one["values"]) is list
        and all(type(pair) is list and len(pair) == 2 for pair in one["values"])
        and all(type(at) is int and type(text) is str for at, text in one["values"])
        and all(grid.start <= at <= grid.end for at in times)
        and not any((at - grid.start) % grid.step_seconds for at in times)
        and len(set(times)) == len(times)
        and all(_NUMBER.fullmatch(text) for _, text in one["values"])
    )


def _labels(one: Any) -> Labels:
    return tuple(sorted(one["metric"].items()))


def _is_list(value: Any, kind: type) -> bool:
    return type(value) is list and all(type(one) is kind for one in value)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a key stands twice")
    return dict(pairs)


def _known_once(pairs: list[tuple[str, Any]], *, of_series: tuple[str, ...]) -> dict[str, Any]:
    """Reject a repeated label, and a repeated key that has a meaning where it is."""
    found = dict(pairs)
    names = [name for name, _ in pairs]
    known = (*_KNOWN, *of_series) if "metric" in found else _KNOWN
    is_labels = all(isinstance(value, str) for value in found.values())
    return _unique(pairs) if is_labels or any(names.count(n) > 1 for n in known) else found


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")
