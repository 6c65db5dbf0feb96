"""Stores the extents of each key: bounded in memory, and on disk for a restart."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from cachetools import LRUCache

from queuescope.cache.disk import Extent, Extents, FrameFiles, FrameKey
from queuescope.cache.extents import crop, gaps, touches
from queuescope.timeseries import Frame, Grid

__all__ = ["Extent", "Extents", "FrameKey", "FrameStore"]

_DISK_BYTES_PER_POINT = 16
_SHARE_OF_ONE_KEY = 4
_OVERHEAD_POINTS = 64
"""The cost of an extent besides its values, so that many empty ones are bounded, too."""


class _Memory(LRUCache[FrameKey, Extents]):
    """At most ``max_points``; ``evicted`` is called with each evicted key."""

    def __init__(self, max_points: int, evicted: Callable[[FrameKey], None]) -> None:
        super().__init__(max_points, getsizeof=_size)
        self._on_evicted = evicted

    def popitem(self) -> tuple[FrameKey, Extents]:
        key, extents = super().popitem()
        self._on_evicted(key)
        return key, extents


class FrameStore:
    """Extents per key: the least recently used are evicted if there are too many points.

    Without a ``directory`` nothing is stored on disk. Otherwise a background thread writes there,
    each key at most every ``write_seconds``: a crash loses only the newest data, which are fetched
    again. ``flush`` writes the rest and waits. Evicted data are loaded again when needed. Safe to
    use from several threads. No method raises if the disk fails: see ``last_error``.
    """

    def __init__(
        self, directory: Path | None, max_points: int, *, write_seconds: float = 0.0
    ) -> None:
        if max_points <= 0:
            raise ValueError(f"max_points must be positive, not {max_points}")
        self._max_points = max_points
        self._files = (
            None if directory is None else FrameFiles(directory, max_points * _DISK_BYTES_PER_POINT)
        )
        self._lock = threading.Lock()
        self._held = _Memory(max_points, self._evicted)
        self._unwritten: dict[FrameKey, Extents] = {}
        self._write_seconds = write_seconds
        self._written_at: dict[FrameKey, float] = {}
        self._under_way: set[FrameKey] = set()
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="frame-store")
        self._last_write: Future[None] | None = None

    @property
    def points(self) -> int:
        """How many points are in memory."""
        with self._lock:
            return int(self._held.currsize)

    @property
    def dropped_files(self) -> int:
        """How many unusable files were deleted."""
        return self._files.dropped if self._files else 0

    @property
    def last_error(self) -> str | None:
        """Why the last read or write failed; ``None`` after a successful write."""
        return self._files.last_error if self._files else None

    @property
    def disk_failures(self) -> int:
        """How many reads and writes of files failed."""
        return self._files.failures if self._files else 0

    def get(self, key: FrameKey) -> Extents:
        """The extents of ``key``, disjoint and in order of time; from memory, else from disk."""
        with self._lock:
            held = self._held.get(key)
            if held is not None:
                return held
            if self._files is None:
                return ()
            held = self._unwritten.get(key) or self._files.load(key)
            if held:
                self._keep(key, held)
            return held

    def put(self, key: FrameKey, extent: Extent) -> None:
        """Add ``extent`` to the extents of ``key``; where they overlap, the new one wins."""
        held = self.get(key)
        self._set(key, _trimmed(_overlaid(held, extent), extent, self._key_points))

    def replace(self, key: FrameKey, extent: Extent) -> None:
        """Replace all extents of ``key`` with ``extent``."""
        self._set(key, (extent,))

    def flush(self) -> None:
        """Wait until everything is written to the disk."""
        with self._lock:
            for key in self._unwritten:
                self._submit(key)
            pending = self._last_write
        if pending is not None:
            pending.result()

    def close(self) -> None:
        """Finish writing and end the writer's thread. Do not call ``put`` afterwards."""
        self.flush()
        self._writer.shutdown(wait=True)

    @property
    def _key_points(self) -> int:
        return max(1, self._max_points // _SHARE_OF_ONE_KEY)

    def _set(self, key: FrameKey, extents: Extents) -> None:
        with self._lock:
            self._keep(key, extents)
            if self._files is None:
                return
            self._unwritten[key] = extents
            written_at = self._written_at.get(key, float("-inf"))
            if time.monotonic() - written_at >= self._write_seconds:
                self._submit(key)

    def _submit(self, key: FrameKey) -> None:
        if key not in self._under_way:
            self._under_way.add(key)
            self._last_write = self._writer.submit(self._write, key)

    def _keep(self, key: FrameKey, extents: Extents) -> None:
        if _size(extents) <= self._max_points:
            self._held[key] = extents
        else:
            self._held.pop(key, None)

    def _evicted(self, key: FrameKey) -> None:
        if key in self._unwritten:
            # Written now, since unwritten data stay in memory.
            self._submit(key)

    def _write(self, key: FrameKey) -> None:
        with self._lock:
            self._under_way.discard(key)
            extents = self._unwritten.get(key)
            self._written_at[key] = time.monotonic()
        if self._files is None or extents is None:
            return
        self._files.save(key, extents)
        with self._lock:
            # Until they are on disk, evicted data are found here.
            if self._unwritten.get(key) is extents:
                del self._unwritten[key]


def _size(extents: Extents) -> int:
    return sum(extent.frame.values.size + _OVERHEAD_POINTS for extent in extents)


def _part(extent: Extent, grid: Grid) -> Extent:
    return extent._replace(frame=Frame.assembled(grid, (extent.frame,)))


def _overlaid(held: Extents, new: Extent) -> Extents:
    parts = [new]
    for extent in held:
        parts += [_part(extent, rest) for rest in gaps(extent.grid, (new.grid,))]
    parts.sort(key=lambda extent: extent.grid.start)
    merged: list[Extent] = []
    for extent in parts:
        # Only final data may be joined with later data: joined data have one ``as_of``.
        joins = merged and merged[-1].is_final and merged[-1].epochs == extent.epochs
        if joins and touches(merged[-1].grid, extent.grid):
            before = merged.pop()
            grid = Grid(before.grid.start, extent.grid.end, extent.grid.step_seconds)
            extent = extent._replace(frame=Frame.assembled(grid, (before.frame, extent.frame)))  # noqa: PLW2901
        merged.append(extent)
    return tuple(merged)


def _trimmed(extents: Extents, newest: Extent, max_points: int) -> Extents:
    """Limit the size of one key: only the range of ``newest`` is kept if there is too much."""
    if _size(extents) <= max_points:
        return extents
    kept: list[Extent] = []
    for extent in extents:
        inside = crop(extent.grid, first=newest.grid.start, last=newest.grid.end)
        if inside is not None:
            kept.append(extent if inside == extent.grid else _part(extent, inside))
    return tuple(kept)
