"""Samples sent to a real server by Prometheus's own protocol: protobuf within snappy, version 1.

The messages are so few and small that they are written by hand: ``WriteRequest{1: TimeSeries*}``,
``TimeSeries{1: Label*, 2: Sample*}``, ``Label{1: name, 2: value}``, ``Sample{1: double, 2: ms}``.
"""

from __future__ import annotations

import http.client
import struct
from collections.abc import Sequence

from queuescope.timeseries import Labels

_LITERAL_BYTES = 1 << 16
_HEADERS = {
    "Content-Type": "application/x-protobuf",
    "Content-Encoding": "snappy",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
}


class RemoteWriter:
    """Writes to the server on ``port`` of the loopback interface over one connection."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    def write(self, samples: Sequence[tuple[Labels, int, float]]) -> None:
        """Send samples (labels, epoch seconds, value). They can be queried when this returns."""
        rows: dict[Labels, list[tuple[int, float]]] = {}
        for labels, timestamp, value in samples:
            rows.setdefault(labels, []).append((timestamp, value))
        request = b"".join(
            _field(1, _series(labels, sorted(row, key=lambda point: point[0])))
            for labels, row in rows.items()
        )
        self._connection.request("POST", "/api/v1/write", _snappy(request), _HEADERS)
        answer = self._connection.getresponse()
        said = answer.read()
        assert answer.status == 204, f"the samples were answered by {answer.status}: {said!r}"

    def close(self) -> None:
        self._connection.close()


def _series(labels: Labels, row: list[tuple[int, float]]) -> bytes:
    parts = [
        _field(1, _field(1, name.encode()) + _field(2, value.encode())) for name, value in labels
    ]
    parts += [
        _field(2, b"\x09" + struct.pack("<d", value) + b"\x10" + _varint(timestamp * 1000))
        for timestamp, value in row
    ]
    return b"".join(parts)


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


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
