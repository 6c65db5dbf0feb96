"""A page's data, read and drawn once for all its viewers."""

from queuescope.view.address import Address, parse_view, read_address
from queuescope.view.charts.kept_points import Points
from queuescope.view.selection import RANGES, View
from queuescope.view.service import Snapshot, ViewService

__all__ = [
    "RANGES",
    "Address",
    "Points",
    "Snapshot",
    "View",
    "ViewService",
    "parse_view",
    "read_address",
]
