"""A page's data, read and drawn once for all its viewers."""

from queuescope.snapshot.address import Address, parse_view, read_address
from queuescope.snapshot.kept_points import Points
from queuescope.snapshot.service import Snapshot, SnapshotService
from queuescope.snapshot.view import RANGES, View

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
