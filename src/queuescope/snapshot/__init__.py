"""A page's data, read and drawn once for all its viewers."""

from queuescope.snapshot.service import Snapshot, SnapshotService
from queuescope.snapshot.view import RANGES, View, parse_view

__all__ = ["RANGES", "Snapshot", "SnapshotService", "View", "parse_view"]
