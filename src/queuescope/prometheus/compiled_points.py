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
    read.argtypes = [ctypes.c_char_p, *[whole] * 5, ctypes.c_void_p]
    read.restype = whole

    def read_points(body: bytes, at: int, grid: Grid, row: Floats) -> int:
        if len(row) != len(grid) or not row.flags.c_contiguous or not row.flags.writeable:
            raise ValueError("the row does not fit the grid")
        end: int = read(
            body, len(body), at, grid.start, grid.step_seconds, len(row), row.ctypes.data
        )
        return end

    return read_points
