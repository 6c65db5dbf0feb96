"""The reader of points that ``points.c`` makes, where the installation found a C compiler."""

from __future__ import annotations

import ctypes
from pathlib import Path

from queuescope.prometheus.points import PointsReader
from queuescope.timeseries import Floats, Grid

LIBRARY = Path(__file__).with_name("libpoints.so")
_VERSION = 1


def compiled_reader(library: Path = LIBRARY) -> PointsReader | None:
    """The ``PointsReader`` of ``library``; None where there is none that this code can use."""
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
        # This refuses a row that is not contiguous, or not to be written to.
        first = ctypes.byref(ctypes.c_double.from_buffer(row.data))
        end: int = read(body, len(body), at, grid.start, grid.step_seconds, len(row), first)
        return end

    return read_points
