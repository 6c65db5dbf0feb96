"""Reads the broker, the job history and the audit in the background; pages read from memory."""

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
from queuescope.watch.past_operations import PastOperation, PastOperations, read_past_operations
from queuescope.watch.reconciler import JobReconciler
from queuescope.watch.watch import Watch

__all__ = [
    "AuditState",
    "BrokerState",
    "ChainVerifier",
    "CompletionRate",
    "CompletionRates",
    "JobReconciler",
    "PastOperation",
    "PastOperations",
    "PurgesState",
    "RecentDepths",
    "RecentFailures",
    "Watch",
    "read_audit",
    "read_broker",
    "read_failures",
    "read_past_operations",
    "read_purges",
]
