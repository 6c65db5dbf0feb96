"""Parses response bodies of the Prometheus API into frames and typed answers; pure.

It is deliberately strict: a body that is cut off, contradicts itself, repeats a key or has a point
off the grid raises a ``SourceError`` of kind ``DECODE``. It never becomes half an answer.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from queuescope.errors import SourceError, SourceErrorKind
from queuescope.prometheus.matrix import read_matrix
from queuescope.timeseries import UNDEFINED, Answer, Floats, Frame, Grid, Labels, labels_of

PARTIAL_RESPONSE = "the source marked its answer as partial"


@dataclass(frozen=True, slots=True)
class InstantSample:
    """One sample of an instant query; ``value`` may be NaN or infinite."""

    labels: Labels
    timestamp: float
    value: float


@dataclass(frozen=True, slots=True)
class InstantAnswer:
    """The answer to an instant query, with samples in label order."""

    kind: Literal["vector", "scalar"]
    samples: tuple[InstantSample, ...]
    warnings: tuple[str, ...] = ()
    infos: tuple[str, ...] = ()


class ErrorBody(NamedTuple):
    """The error in a source's response, in its own words."""

    error_type: str
    error: str


_NOTHING = msgspec.Raw(b"")
_NO_JSON = (b"", b"null")
_ONCE = (
    *(b'"status"', b'"data"', b'"resultType"', b'"result"'),
    *(b'"errorType"', b'"error"', b'"warnings"', b'"infos"', b'"isPartial"'),
)
_PER_SERIES = (b'"metric"', b'"values"', b'"histograms"')
_PER_SAMPLE = (b'"metric"', b'"value"', b'"histogram"')


class _Envelope(msgspec.Struct):
    status: str
    error_type: str = msgspec.field(default="", name="errorType")
    error: str = ""
    warnings: list[str] | None = None
    infos: list[str] | None = None
    is_partial: bool = msgspec.field(default=False, name="isPartial")


class _MatrixSeries(msgspec.Struct):
    metric: msgspec.Raw
    values: list[tuple[float, str]] | None = None
    histograms: msgspec.Raw = _NOTHING


class _MatrixData(msgspec.Struct):
    result_type: Literal["matrix"] = msgspec.field(name="resultType")
    result: list[_MatrixSeries]


class _MatrixBody(_Envelope):
    data: _MatrixData | None = None


class _InstantData(msgspec.Struct):
    result_type: Literal["vector", "scalar"] = msgspec.field(name="resultType")
    result: msgspec.Raw


class _InstantBody(_Envelope):
    data: _InstantData | None = None


class _VectorSeries(msgspec.Struct):
    metric: msgspec.Raw
    value: tuple[float, str] | None = None


class _AnyBody(_Envelope):
    data: msgspec.Raw = _NOTHING


_matrix_decoder = msgspec.json.Decoder(_MatrixBody)
_instant_decoder = msgspec.json.Decoder(_InstantBody)
_vector_decoder = msgspec.json.Decoder(list[_VectorSeries])
_scalar_decoder = msgspec.json.Decoder(tuple[float, str])
_floats_decoder = msgspec.json.Decoder(list[float])
_any_decoder = msgspec.json.Decoder(_AnyBody)
_error_decoder = msgspec.json.Decoder(_Envelope)
_T = TypeVar("_T")


def parse_matrix(body: bytes, grid: Grid) -> Answer:
    """The answer to a range query over ``grid``, series in label order.

    ``NaN`` and ``±Inf`` become ``UNDEFINED``, a gap. Raises ``SourceError`` (``DECODE``).
    """
    frame = read_matrix(body, grid)
    if frame is not None:
        return Answer(frame)
    return parse_any_matrix(body, grid)


def parse_any_matrix(body: bytes, grid: Grid) -> Answer:
    """``parse_matrix`` for every valid JSON form, including warnings and errors."""
    envelope = _decode(_matrix_decoder, body)
    data = _successful(envelope, envelope.data)
    _refuse_repeated_keys(body, series=len(data.result), per_series=_PER_SERIES)
    rows: dict[Labels, Floats] = {}
    timestamps = grid.timestamps()
    for series in data.result:
        if bytes(series.histograms) not in _NO_JSON:
            raise _undecodable("the answer has native histograms, which are not supported here")
        if series.values is None:
            raise _undecodable("a series has no values")
        labels = _labels(series.metric)
        if labels in rows:
            raise _undecodable("two series have the same labels")
        if series.values:
            rows[labels] = _place(series.values, grid, timestamps)
    names = tuple(sorted(rows))
    values = np.vstack([rows[n] for n in names]) if names else np.empty((0, len(grid)))
    return Answer(Frame(grid, names, values), _warnings(envelope), tuple(envelope.infos or ()))


def parse_vector(body: bytes) -> InstantAnswer:
    """The answer to an instant query. Raises ``SourceError`` (``DECODE``)."""
    envelope = _decode(_instant_decoder, body)
    data = _successful(envelope, envelope.data)
    samples: list[InstantSample] = []
    if data.result_type == "scalar":
        _refuse_repeated_keys(body)
        timestamp, text = _decode(_scalar_decoder, bytes(data.result))
        samples.append(InstantSample((), timestamp, _numbers([text]).item()))
    else:
        result = _decode(_vector_decoder, bytes(data.result))
        _refuse_repeated_keys(body, series=len(result), per_series=_PER_SAMPLE)
        for series in result:
            if series.value is None:
                raise _undecodable("the answer has native histograms, which are not supported here")
            timestamp, text = series.value
            samples.append(
                InstantSample(_labels(series.metric), timestamp, _numbers([text]).item())
            )
    samples.sort(key=lambda sample: sample.labels)
    if any(a.labels == b.labels for a, b in itertools.pairwise(samples)):
        raise _undecodable("two series have the same labels")
    return InstantAnswer(
        data.result_type, tuple(samples), _warnings(envelope), tuple(envelope.infos or ())
    )


def parse_data(body: bytes, kind: type[_T]) -> _T:
    """``data`` of any other answer, as ``kind``. Raises ``SourceError`` (``DECODE``)."""
    envelope = _decode(_any_decoder, body)
    _refuse_repeated_keys(body)
    raw = bytes(envelope.data)
    return _decode(
        msgspec.json.Decoder(kind), _successful(envelope, None if raw in _NO_JSON else raw)
    )


def parse_error(body: bytes) -> ErrorBody | None:
    """The error in ``body``; ``None`` if it is not an error of the Prometheus API."""
    try:
        str(body, "utf-8")
        envelope = _error_decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    if envelope.status != "error" or not envelope.error_type:
        return None
    return ErrorBody(envelope.error_type, envelope.error)


def _successful(envelope: _Envelope, data: _T | None) -> _T:
    if envelope.status != "success":
        raise _undecodable("the HTTP status is a success but the answer is an error")
    if envelope.error or envelope.error_type:
        raise _undecodable("the answer is a success but contains an error")
    if data is None:
        raise _undecodable("the answer is a success but has no data")
    return data


def _warnings(envelope: _Envelope) -> tuple[str, ...]:
    partial = (PARTIAL_RESPONSE,) if envelope.is_partial else ()
    return (*(envelope.warnings or ()), *partial)


def _place(points: list[tuple[float, str]], grid: Grid, timestamps: Floats) -> Floats:
    """One row of ``len(grid)`` values."""
    times, texts = zip(*points, strict=True)
    at = np.array(times, dtype=np.float64)
    values = _numbers(texts)
    values[~np.isfinite(values)] = UNDEFINED
    if len(at) == len(timestamps) and np.array_equal(at, timestamps):
        return values
    positions = (at - grid.start) / grid.step_seconds
    if not np.all((positions >= 0) & (positions < len(grid)) & (positions % 1 == 0)):
        raise _undecodable("a point is not on the requested steps")
    index: NDArray[np.int64] = positions.astype(np.int64)
    if np.any(np.diff(index) <= 0):
        order = np.argsort(index, kind="stable")
        index, values = index[order], values[order]
        repeated = np.diff(index) == 0
        if not np.array_equal(values[:-1][repeated], values[1:][repeated], equal_nan=True):
            raise _undecodable("a series has two values at the same time")
    row = np.full(len(grid), np.nan)
    row[index] = values
    return row


def _numbers(texts: tuple[str, ...] | list[str]) -> Floats:
    joined = ",".join(texts)
    # Python accepts more than Go writes: digits of other scripts, spaces, underscores.
    if not joined.isascii() or "_" in joined or " " in joined:
        raise _undecodable("a value is not a number")
    try:
        # One pass of the JSON decoder is several times faster than a float() for each text.
        values = _floats_decoder.decode(f"[{joined}]")
        # It reads "-0" as the integer 0, which has no sign.
        if len(values) == len(texts) and "-0" not in texts:
            return np.array(values, dtype=np.float64)
    except msgspec.MsgspecError:
        pass  # NaN and infinities are not JSON
    try:
        return np.array([float(text) for text in texts], dtype=np.float64)
    except ValueError as exc:
        raise _undecodable("a value is not a number", str(exc)) from exc


def _labels(raw: msgspec.Raw) -> Labels:
    try:
        pairs = json.loads(bytes(raw), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as exc:
        raise _undecodable("the labels of a series cannot be read", str(exc)) from exc
    if not isinstance(pairs, dict) or not all(isinstance(v, str) for v in pairs.values()):
        raise _undecodable("the labels of a series are not text")
    labels = labels_of(pairs)
    try:
        "".join(itertools.chain.from_iterable(labels)).encode()
    except UnicodeEncodeError as exc:
        raise _undecodable("the labels of a series are not valid Unicode", str(exc)) from exc
    return labels


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key occurs twice")
    return found


def _refuse_repeated_keys(
    body: bytes, *, series: int = 0, per_series: tuple[bytes, ...] = ()
) -> None:
    """Raise for repeated keys: a decoder keeps the last one, which would hide half of an answer.

    Counting the keys is nearly always enough; if a label makes the count ambiguous, or keys may be
    escaped, a slower parser that sees every pair reads the body again.
    """
    if (
        b"\\u00" not in body
        and all(body.count(key) <= 1 for key in _ONCE)
        and all(body.count(key) <= series for key in per_series)
    ):
        return
    try:
        json.loads(body, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as exc:
        raise _undecodable("a key occurs twice in the answer", str(exc)) from exc


def _decode(decoder: msgspec.json.Decoder[_T], body: bytes) -> _T:
    try:
        str(body, "utf-8")  # the decoder does not check the text that it skips
        return decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise _undecodable("the answer does not match the API", str(exc)) from exc


def _undecodable(what: str, detail: str = "") -> SourceError:
    return SourceError(
        SourceErrorKind.DECODE,
        "Prometheus sent an answer that cannot be read",
        detail=f"{what}: {detail}" if detail else what,
    )
