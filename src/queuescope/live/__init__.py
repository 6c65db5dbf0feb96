"""What the broker and the job history say now: watched in the background, read from memory."""

from queuescope.live.acts import RecordedAct, RecordedActs, read_acts
from queuescope.live.broker import BrokerPicture, read_broker
from queuescope.live.depths import DepthMemory
from queuescope.live.jobs import FailurePicture, read_failures
from queuescope.live.keeper import HistoryKeeper
from queuescope.live.operations import (
    AuditPicture,
    ChainWalk,
    PurgesPicture,
    read_audit,
    read_purges,
)
from queuescope.live.pace import Pace, Paces
from queuescope.live.watch import Sighting, Watch

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
