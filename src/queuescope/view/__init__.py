"""A page's data, read and drawn once for all its viewers."""

from queuescope.view.address import Address, parse_view, read_address
from queuescope.view.charts.kept_points import Points
from queuescope.view.selection import RANGES, View
from queuescope.view.service import Snapshot, SnapshotService

__all__ = [
    "RANGES",
    "Address",
    "Points",
    "Snapshot",
    "SnapshotService",
    "View",
    "parse_view",
    "read_address",
]
