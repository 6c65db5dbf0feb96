"""The reader of points compiled from ``points.c``, if the installation found a C compiler."""

from __future__ import annotations

import ctypes
from pathlib import Path

from queuescope.prometheus.points import PointsReader
from queuescope.timeseries import Floats, Grid

LIBRARY = Path(__file__).with_name("libpoints.so")
_VERSION = 1


def compiled_reader(library: Path = LIBRARY) -> PointsReader | None:
    """The ``PointsReader`` of ``library``; ``None`` if it is missing or does not fit this code."""
    try:
        loaded = ctypes.CDLL(str(library))
        if loaded.queuescope_points_version() != _VERSION:
            return None
        read = loaded.queuescope_read_points
    except (OSError, AttributeError):
        return None
    whole = ctypes.c_int64
    read.argtypes = [ctypes.c_char_p, *[whole] * 5, ctypes.POINTER(ctypes.c_double)]
    read.restype = whole

    def read_points(body: bytes, at: int, grid: Grid, row: Floats) -> int:
        if len(row) != len(grid):
            raise ValueError(f"the row has {len(row)} places, not {len(grid)}")
        # Raises if the row is not contiguous or not writable.
        first = ctypes.byref(ctypes.c_double.from_buffer(row.data))
        end: int = read(body, len(body), at, grid.start, grid.step_seconds, len(row), first)
        return end

    return read_points
