"""Stores extents in files: checksummed, replaced atomically, and never trusted.

A file that is cut off, corrupt, of another version or of another key is deleted and counted; the
cache then starts empty for that key. If the disk cannot be written, only a restart loses data.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import tempfile
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from queuescope.private_files import make_private_folder
from queuescope.timeseries import Floats, Frame, Grid

logger = logging.getLogger(__name__)

_MAGIC = b"queuescope frames 2\n"
_DIGEST_BYTES = hashlib.sha256().digest_size
_SUFFIX = ".frames"


class FrameKey(NamedTuple):
    """The key of cached data: source, query text and step."""

    identity: str
    query: str
    step_seconds: int


class Extent(NamedTuple):
    """Contiguous data of one key.

    Points up to ``final_until`` (epoch seconds) can no longer change; later ones are as of
    ``as_of``, the source's time of the answer. ``epochs`` are the epochs of the source in which
    these data were confirmed.
    """

    frame: Frame
    final_until: float
    as_of: float
    epochs: tuple[str, ...] = ()

    @property
    def grid(self) -> Grid:
        return self.frame.grid

    @property
    def is_final(self) -> bool:
        return self.frame.grid.end <= self.final_until


Extents = tuple[Extent, ...]


class _StoredExtent(msgspec.Struct, array_like=True):
    start: int
    end: int
    final_until: float
    as_of: float
    series: list[tuple[tuple[str, str], ...]]
    values: bytes
    epochs: tuple[str, ...]


class _Stored(msgspec.Struct, array_like=True):
    identity: str
    query: str
    step_seconds: int
    extents: list[_StoredExtent]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Stored)


class FrameFiles:
    """One file per key in ``directory``, at most ``max_bytes`` in total; the oldest are deleted.

    ``dropped`` counts unusable files, ``failures`` counts failed reads and writes; ``last_error``
    says why the last read or write failed, and is None after a successful write.
    """

    def __init__(self, directory: Path, max_bytes: int) -> None:
        self._directory = directory
        self._max_bytes = max_bytes
        self.dropped = 0
        self.failures = 0
        self.last_error: str | None = None

    def load(self, key: FrameKey) -> Extents:
        """The saved extents of ``key``; empty if there is nothing usable. Never raises."""
        path = self._path(key)
        try:
            too_large = path.stat().st_size > self._max_bytes
            content = b"" if too_large else path.read_bytes()
        except FileNotFoundError:
            return ()
        except OSError as exc:
            self._failed(f"cannot read the cache: {exc.strerror}")
            return ()
        extents = _decode(content, key)
        if extents is None:
            self.dropped += 1
            with contextlib.suppress(OSError):
                path.unlink()
            return ()
        return extents

    def save(self, key: FrameKey, extents: Extents) -> None:
        """Replace the file of ``key``; a failure is stored in ``last_error``. Never raises."""
        content = _encode(key, extents)
        try:
            if len(content) > self._max_bytes:
                self._path(key).unlink(missing_ok=True)
                return
            make_private_folder(self._directory)
            self._replace(self._path(key), content)
            self._make_room()
        except OSError as exc:
            self._failed(f"cannot write the cache: {exc.strerror}")
        else:
            self.last_error = None

    def _failed(self, error: str) -> None:
        """Record the error; log it only once, until a write succeeds."""
        if self.last_error is None:
            logger.warning("%s (%s); meanwhile it is kept in memory only", error, self._directory)
        self.failures += 1
        self.last_error = error

    def _replace(self, path: Path, content: bytes) -> None:
        descriptor, name = tempfile.mkstemp(dir=self._directory, suffix=f"{_SUFFIX}.tmp")
        try:
            with open(descriptor, "wb") as out:  # noqa: PTH123 - it is a descriptor
                out.write(content)
                out.flush()
                os.fsync(out.fileno())
            Path(name).replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                Path(name).unlink()
            raise

    def _make_room(self) -> None:
        """Delete the oldest files above the limit, including those of killed writers."""
        found: list[tuple[float, int, Path]] = []
        for path in self._directory.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if path.name.endswith((_SUFFIX, f"{_SUFFIX}.tmp")):
                    stat = path.stat()
                    found.append((stat.st_mtime, stat.st_size, path))
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if total <= self._max_bytes:
                break
            path.unlink(missing_ok=True)
            total -= size

    def _path(self, key: FrameKey) -> Path:
        text = "\0".join(map(str, key)).encode("utf-8", "surrogatepass")
        return self._directory / (hashlib.sha256(text).hexdigest() + _SUFFIX)


def _encode(key: FrameKey, extents: Extents) -> bytes:
    stored = _Stored(
        *key,
        [
            _StoredExtent(
                e.grid.start,
                e.grid.end,
                e.final_until,
                e.as_of,
                list(e.frame.series),
                np.ascontiguousarray(e.frame.values, dtype="<f8").tobytes(),
                e.epochs,
            )
            for e in extents
        ],
    )
    payload = _encoder.encode(stored)
    return _MAGIC + hashlib.sha256(payload).digest() + payload


def _decode(content: bytes, key: FrameKey) -> Extents | None:
    """The extents in ``content``; ``None`` if it is not a complete file of this version for
    ``key``.
    """
    head = len(_MAGIC) + _DIGEST_BYTES
    payload = content[head:]
    if content[:head] != _MAGIC + hashlib.sha256(payload).digest():
        return None
    try:
        stored = _decoder.decode(payload)
        if (stored.identity, stored.query, stored.step_seconds) != key:
            return None
        return tuple(_extent(extent, stored.step_seconds) for extent in stored.extents)
    except (msgspec.MsgspecError, ValueError):
        return None


def _extent(stored: _StoredExtent, step_seconds: int) -> Extent:
    grid = Grid(stored.start, stored.end, step_seconds)
    values: Floats = np.frombuffer(stored.values, dtype="<f8").astype(np.float64, copy=False)
    frame = Frame(grid, tuple(stored.series), values.reshape(len(stored.series), len(grid)))
    return Extent(frame, stored.final_until, stored.as_of, stored.epochs)
