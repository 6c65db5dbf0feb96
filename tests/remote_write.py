"""Samples sent to a real server with Prometheus's own protocol: protobuf within snappy, version 1.

The messages are so few and small that they are encoded by hand: ``WriteRequest{1: TimeSeries*}``,
``TimeSeries{1: Label*, 2: Sample*}``, ``Label{1: name, 2: value}``, ``Sample{1: double, 2: ms}``.
"""

from __future__ import annotations

import http.client
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from queuescope.timeseries import Labels

Sample = tuple[Labels, int, float]
"""Labels, epoch seconds, value."""

# Prometheus marks the end of a series with a special NaN.
(ENDED,) = struct.unpack("<d", struct.pack("<Q", 0x7FF0000000000002))

_CUSTOM, _EIGHTHS = -53, 3
_LITERAL_BYTES = 1 << 16
_HEADERS = {
    "Content-Type": "application/x-protobuf",
    "Content-Encoding": "snappy",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
}


@dataclass(frozen=True)
class Histogram:
    """A native histogram: cumulative counts by the index of their bucket.

    ``bounds`` are the upper ends of its buckets 0, 1, …; one more bucket has no upper end. Without
    them, bucket *i* ends at 2^(*i*/8).
    """

    counts: Mapping[int, int]
    bounds: tuple[float, ...] = ()

    def message(self, timestamp: int) -> bytes:
        """``Histogram{1: count, 3: sum, 4: schema, 11: spans, 12: deltas, 15: ms, 16: bounds}``."""
        spans, deltas, before, count = b"", b"", -1, 0
        for index, counted in sorted(self.counts.items()):
            offset = index if before < 0 else index - before - 1
            spans += _field(11, b"\x08" + _zigzag(offset) + b"\x10\x01")
            deltas += _zigzag(counted - count)
            before, count = index, counted
        parts = [
            b"\x08" + _varint(sum(self.counts.values())),
            b"\x19" + struct.pack("<d", 0.0),
            b"\x20" + _zigzag(_CUSTOM if self.bounds else _EIGHTHS),
            spans,
            _field(12, deltas),
            b"\x78" + _varint(timestamp * 1000),
        ]
        if self.bounds:
            parts.append(_field(16, struct.pack(f"<{len(self.bounds)}d", *self.bounds)))
        return b"".join(parts)


class RemoteWriter:
    """Writes to the server on ``port`` of the loopback interface over one connection."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    def write(self, samples: Sequence[Sample]) -> None:
        """Send samples. They can be queried when this returns."""
        rows: dict[Labels, list[tuple[int, float]]] = {}
        for labels, timestamp, value in samples:
            rows.setdefault(labels, []).append((timestamp, value))
        request = b"".join(
            _field(1, _series(labels, sorted(row, key=lambda point: point[0])))
            for labels, row in rows.items()
        )
        self._send(request)

    def _send(self, request: bytes) -> None:
        self._connection.request("POST", "/api/v1/write", _snappy(request), _HEADERS)
        answer = self._connection.getresponse()
        said = answer.read()
        assert answer.status == 204, f"the samples were answered by {answer.status}: {said!r}"

    def write_histograms(self, series: Mapping[Labels, Sequence[tuple[int, Histogram]]]) -> None:
        """Send native histograms (epoch seconds, cumulative counts) by their labels."""
        self._send(
            b"".join(
                _field(1, _labels(labels) + b"".join(_field(4, one.message(at)) for at, one in row))
                for labels, row in series.items()
            )
        )

    def close(self) -> None:
        self._connection.close()


def _series(labels: Labels, row: list[tuple[int, float]]) -> bytes:
    parts = [_labels(labels)]
    parts += [
        _field(2, b"\x09" + struct.pack("<d", value) + b"\x10" + _varint(timestamp * 1000))
        for timestamp, value in row
    ]
    return b"".join(parts)


def _labels(labels: Labels) -> bytes:
    return b"".join(
        _field(1, _field(1, name.encode()) + _field(2, value.encode())) for name, value in labels
    )


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _zigzag(number: int) -> bytes:
    return _varint(2 * number if number >= 0 else -2 * number - 1)


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)


def _snappy(content: bytes) -> bytes:
    """Snappy's block format with literals only: valid, and as long as before."""
    parts = [_varint(len(content))]
    for at in range(0, len(content), _LITERAL_BYTES):
        piece = content[at : at + _LITERAL_BYTES]
        parts += [b"\xf4", struct.pack("<H", len(piece) - 1), piece]
    return b"".join(parts)
