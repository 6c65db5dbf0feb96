"""What the broker and the job history say now: watched in the background, read from memory."""

from queuescope.watch.acts import RecordedAct, RecordedActs, read_acts
from queuescope.watch.broker import BrokerState, read_broker
from queuescope.watch.completion_rates import CompletionRate, CompletionRates
from queuescope.watch.depths import RecentDepths
from queuescope.watch.jobs import RecentFailures, read_failures
from queuescope.watch.operations import (
    AuditState,
    ChainVerifier,
    PurgesState,
    read_audit,
    read_purges,
)
from queuescope.watch.reconciler import JobReconciler
from queuescope.watch.watch import Watch

__all__ = [
    "AuditState",
    "BrokerState",
    "ChainVerifier",
    "CompletionRate",
    "CompletionRates",
    "JobReconciler",
    "PurgesState",
    "RecentDepths",
    "RecentFailures",
    "RecordedAct",
    "RecordedActs",
    "Watch",
    "read_acts",
    "read_audit",
    "read_broker",
    "read_failures",
    "read_purges",
]
