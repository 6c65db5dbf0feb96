"""What the broker and the job history say now: watched in the background, read from memory."""

from queuescope.live.broker import BrokerPicture, read_broker
from queuescope.live.watch import Sighting, Watch

__all__ = ["BrokerPicture", "Sighting", "Watch", "read_broker"]
