"""How each source is watched: what is read, how often, and when it counts as hung."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from queuescope.broker.fleet import Fleet
from queuescope.broker.timings import WorkerTimings
from queuescope.errors import (
    AuditError,
    BrokerError,
    BrokerErrorKind,
    JobStoreError,
    PurgeError,
    StoreErrorKind,
)
from queuescope.jobs.store import JobStore, UsualRuntime
from queuescope.jobs.totals import JobTotals, read_totals
from queuescope.known import Known
from queuescope.operations.audit import Verification
from queuescope.operations.context import OperationsContext
from queuescope.watch import (
    AuditState,
    BrokerState,
    ChainVerifier,
    CompletionRates,
    JobReconciler,
    PastOperations,
    PurgesState,
    RecentDepths,
    RecentFailures,
    Watch,
    read_audit,
    read_broker,
    read_failures,
    read_past_operations,
    read_purges,
)
from queuescope.watch.broker import refuses_reports

_AUDIT_SECONDS = 4.0
_PURGES_SECONDS = 6.0
_CHAIN_SECONDS = 10.0
_RECOVERY_SECONDS = 5.0
_RUNTIMES_SECONDS = 300.0
_RUNTIMES_SPAN_SECONDS = 86_400.0
_PAST_OPERATIONS_SECONDS = 5.0
_TOTALS_SECONDS = 10.0
_FAILURES_SECONDS = 15.0
_OVERDUE_SECONDS = 10.0
# Several queries, each with a limit of 4 s.
_FAILURES_OVERDUE_SECONDS = 25.0
_LONG_OVERDUE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class OperationsWatches:
    """The sources that operations need and write, as last read.

    ``writable`` fails while the broker rejects writes; its value is when it last accepted one, in
    epoch seconds. ``chain`` uses ``verifier``.
    """

    audit: Watch[AuditState]
    chain: Watch[Verification]
    verifier: ChainVerifier
    purges: Watch[PurgesState]
    writable: Watch[float]

    @property
    def watches(self) -> tuple[Watch[Any], ...]:
        return (self.audit, self.chain, self.purges, self.writable)


def watch_broker(context: OperationsContext) -> Watch[BrokerState]:
    completion_rates, memory = CompletionRates(), RecentDepths()
    return Watch(
        "broker",
        lambda: read_broker(context, completion_rates, memory),
        seconds=context.broker.timings.report_seconds,
        overdue_seconds=_OVERDUE_SECONDS,
        hung=silent_broker,
        clock=time.time,
    )


def watch_operations(context: OperationsContext) -> OperationsWatches:
    def writable() -> float:
        context.broker.check_writable()
        return time.time()

    verifier, timings = ChainVerifier(context.store.audit), context.broker.timings
    return OperationsWatches(
        verifier=verifier,
        audit=Watch(
            "audit",
            lambda: read_audit(context),
            seconds=_AUDIT_SECONDS,
            overdue_seconds=_OVERDUE_SECONDS,
            hung=silent_audit,
        ),
        chain=Watch(
            "chain",
            verifier,
            seconds=_CHAIN_SECONDS,
            overdue_seconds=_LONG_OVERDUE_SECONDS,
            hung=silent_audit,
        ),
        purges=Watch(
            "purges",
            lambda: read_purges(context),
            seconds=_PURGES_SECONDS,
            overdue_seconds=_OVERDUE_SECONDS,
            hung=lambda: PurgeError("the folder of purges does not answer in time"),
        ),
        writable=Watch(
            "writable",
            writable,
            # Checked again before a silent worker counts as lost.
            seconds=0.9 * (timings.lost_seconds - 2 * timings.report_seconds),
            overdue_seconds=_OVERDUE_SECONDS,
            hung=silent_broker,
        ),
    )


def watch_job_endings(
    context: OperationsContext,
    jobs: JobStore | None,
    broker: Watch[BrokerState],
    writable: Watch[float],
) -> Watch[int]:
    timings = context.broker.timings

    def fleet() -> Fleet | None:
        """The fleet; None while workers cannot report, and until they have had time to."""
        known, now = broker.known, time.time()
        if known.value is None or known.fresh_seconds(now) <= timings.lost_seconds:
            return None
        takes_reports = _takes_reports(writable.known, now, timings)
        return known.value.fleet if takes_reports else None

    reconciler = JobReconciler(
        jobs,
        fleet,
        lambda keep: context.broker.drop_reports(keep=keep),
        clock=context.broker.clock.now,
        timings=timings,
    )
    return Watch(
        "reconciler",
        reconciler.reconcile,
        seconds=timings.report_seconds,
        overdue_seconds=_OVERDUE_SECONDS,
        hung=silent_history,
    )


def _takes_reports(known: Known[float], now: float, timings: WorkerTimings) -> bool:
    """Whether a worker that was silent long enough to be lost could have reported meanwhile."""
    if known.error is not None:
        # If only the dashboard may not write, workers still can.
        return not refuses_reports(known.error)
    age = known.age_seconds(now)
    if age is None or known.fresh_seconds(now) <= timings.lost_seconds:
        return False
    return age < timings.lost_seconds - 2 * timings.report_seconds


def watch_runtimes(jobs: JobStore, clock: Callable[[], float]) -> Watch[dict[str, UsualRuntime]]:
    return Watch(
        "runtimes",
        lambda: jobs.usual_runtimes(since=clock() - _RUNTIMES_SPAN_SECONDS),
        seconds=_RUNTIMES_SECONDS,
        overdue_seconds=_LONG_OVERDUE_SECONDS,
        hung=silent_history,
    )


def watch_recovery(context: OperationsContext) -> Watch[int]:
    return Watch(
        "recovery",
        lambda: len(context.tidy()),
        seconds=_RECOVERY_SECONDS,
        overdue_seconds=_OVERDUE_SECONDS,
        hung=lambda: AuditError("the operations database does not answer in time"),
    )


def watch_past_operations(context: OperationsContext) -> Watch[PastOperations]:
    return Watch(
        "past_operations",
        lambda: read_past_operations(context.store.audit),
        seconds=_PAST_OPERATIONS_SECONDS,
        overdue_seconds=_OVERDUE_SECONDS,
        hung=silent_audit,
    )


def silent_audit() -> AuditError:
    return AuditError("the audit does not answer in time")


def silent_broker() -> BrokerError:
    return BrokerError(BrokerErrorKind.SLOW, "the broker does not answer in time")


def silent_history() -> JobStoreError:
    return JobStoreError("the job history does not answer in time", StoreErrorKind.SLOW)


def watch_totals(
    jobs: JobStore, flow_seconds: float, clock: Callable[[], float]
) -> Watch[JobTotals]:
    return Watch(
        "totals",
        lambda: read_totals(jobs, now=clock(), window_seconds=flow_seconds),
        seconds=_TOTALS_SECONDS,
        overdue_seconds=_OVERDUE_SECONDS,
        hung=silent_history,
    )


def watch_failures(jobs: JobStore, clock: Callable[[], float]) -> Watch[RecentFailures]:
    return Watch(
        "failures",
        lambda: read_failures(jobs, clock()),
        seconds=_FAILURES_SECONDS,
        overdue_seconds=_FAILURES_OVERDUE_SECONDS,
        hung=silent_history,
    )
