"""What the broker and the job history say now: watched in the background, read from memory."""

from queuescope.watch.acts import RecordedAct, RecordedActs, read_acts
from queuescope.watch.broker import BrokerPicture, read_broker
from queuescope.watch.depths import DepthMemory
from queuescope.watch.jobs import FailurePicture, read_failures
from queuescope.watch.operations import (
    AuditPicture,
    ChainWalk,
    PurgesPicture,
    read_audit,
    read_purges,
)
from queuescope.watch.pace import Pace, Paces
from queuescope.watch.reconciler import HistoryKeeper
from queuescope.watch.watch import Sighting, Watch

__all__ = [
    "AuditPicture",
    "BrokerPicture",
    "ChainWalk",
    "DepthMemory",
    "FailurePicture",
    "HistoryKeeper",
    "Pace",
    "Paces",
    "PurgesPicture",
    "RecordedAct",
    "RecordedActs",
    "Sighting",
    "Watch",
    "read_acts",
    "read_audit",
    "read_broker",
    "read_failures",
    "read_purges",
]
