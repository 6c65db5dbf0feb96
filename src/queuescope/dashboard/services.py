"""What the pages need besides Prometheus: the broker, its workers, the job history, operations.

Each exists only if its setting does: the dashboard also works with Prometheus alone.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import Any

from queuescope.broker.timings import DEFAULT_TIMINGS, WorkerTimings
from queuescope.dashboard.auth.identity import access_of
from queuescope.dashboard.watches import (
    OperationsWatches,
    watch_broker,
    watch_failures,
    watch_job_endings,
    watch_operations,
    watch_past_operations,
    watch_recovery,
    watch_runtimes,
    watch_totals,
)
from queuescope.errors import ConfigurationError, InternalError, QueuescopeError
from queuescope.jobs.store import JobStore, UsualRuntime
from queuescope.jobs.totals import JobTotals
from queuescope.operations.access import Access
from queuescope.operations.context import OperationsContext
from queuescope.settings import Settings, operations_store_address
from queuescope.view.charts.worker_trends import TrendBoard
from queuescope.watch import BrokerState, PastOperations, RecentFailures, Watch

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Services:
    """The parts of the running application; None if the setting for it is missing.

    ``job_reconciler`` ends the history rows of jobs of lost workers, ``recovery`` finishes
    operations that a dead process left unfinished; the value of both is the number in the last
    round. ``usual_runtimes`` are the usual runtimes by job type, ``trends`` is where the page of
    workers requests its trends. ``past_operations`` are marked on the charts; ``totals`` and
    ``failures`` cover the last day of the job history.
    """

    settings: Settings
    operations_context: OperationsContext | None
    jobs: JobStore | None
    broker: Watch[BrokerState] | None
    operations: OperationsWatches | None = None
    job_reconciler: Watch[int] | None = None
    recovery: Watch[int] | None = None
    usual_runtimes: Watch[dict[str, UsualRuntime]] | None = None
    trends: TrendBoard | None = None
    past_operations: Watch[PastOperations] | None = None
    totals: Watch[JobTotals] | None = None
    failures: Watch[RecentFailures] | None = None
    refused_jobs: ConfigurationError | None = None
    refused_broker: ConfigurationError | None = None
    opened_at: float = 0.0

    @property
    def clock_ahead(self) -> float:
        """How many seconds this server's clock is ahead of the broker's; negative is behind, 0 is
        less than ``CLOCK_OFF_SECONDS`` or unknown.
        """
        return (
            0.0 if self.operations_context is None else self.operations_context.broker.clock.ahead
        )

    def now(self) -> float:
        """Epoch seconds by the clock of jobs, workers and operations, which is the broker's."""
        return time.time() - self.clock_ahead

    @property
    def without_jobs(self) -> str:
        """Why there is no job history, as sentences."""
        if self.refused_jobs is None:
            return (
                "No job history is configured, so there is nothing to show. Set job_store_url "
                "(QUEUESCOPE_JOB_STORE_URL) to the database that your workers write."
            )
        return f"The job history cannot be used: {self.refused_jobs}. The charts still work."

    @property
    def without_broker(self) -> str:
        """Why nothing is known about the broker, as sentences."""
        if self.refused_broker is None:
            return (
                "No broker is configured, so nothing is known about the workers, and there is "
                "nothing to operate on. Set broker_url (QUEUESCOPE_BROKER_URL) to the broker of "
                "your workers."
            )
        return f"The broker cannot be used: {self.refused_broker}. The charts still work."

    @property
    def writing_error(self) -> QueuescopeError | None:
        """Why the broker accepts no writes, as far as that was tested."""
        return None if self.operations is None else self.operations.writable.known.error

    @property
    def _watches(self) -> tuple[Watch[Any], ...]:
        operations = () if self.operations is None else self.operations.watches
        history = (self.usual_runtimes, self.totals, self.failures)
        watches = (
            self.broker,
            self.job_reconciler,
            self.recovery,
            self.past_operations,
            *history,
            *operations,
        )
        return tuple(watch for watch in watches if watch is not None)

    def troubles(self) -> tuple[list[str], list[str]]:
        """The names of the watches that have ended, which only a restart starts again, and of those
        that keep failing because of a fault in Queuescope.
        """
        ended = [watch.name for watch in self._watches if watch.has_ended]
        failing = [
            watch.name for watch in self._watches if isinstance(watch.known.error, InternalError)
        ]
        return ended, failing

    def start(self) -> None:
        """Start all watches."""
        for watch in self._watches:
            watch.start()

    def close(self) -> None:
        for watch in self._watches:
            watch.close()
        if self.operations_context is not None:
            self.operations_context.close()
        if self.jobs is not None:
            self.jobs.close()


_current: Services | None = None


def open_services(
    settings: Settings,
    trends: TrendBoard | None = None,
    *,
    flow_seconds: float = 600,
    timings: WorkerTimings = DEFAULT_TIMINGS,
) -> Services:
    """Create the parts that ``settings`` ask for; opens no connection.

    ``flow_seconds`` is the window in which completed jobs are counted for the forecast; ``timings``
    are those of the workers. Broker and job history are optional: if one cannot be used, the rest
    still works, and the pages say why. Raises ``ConfigurationError`` for invalid access settings.
    """
    global _current  # noqa: PLW0603 - Streamlit's scripts can be handed nothing
    access = access_of(settings)
    watched: dict[str, Any] = {"trends": trends, "opened_at": time.time()}
    jobs: JobStore | None = None
    context: OperationsContext | None = None
    try:
        jobs = _jobs(settings)
    except ConfigurationError as exc:
        logger.warning("the job history cannot be used: %s", exc)
        watched["refused_jobs"] = exc
    try:
        context = _operations_context(settings, jobs, access, timings)
    except ConfigurationError as exc:
        logger.warning("the broker cannot be used: %s", exc)
        watched["refused_broker"] = exc
    clock = time.time if context is None else context.broker.clock.now
    if jobs is not None:
        watched |= {
            "totals": watch_totals(jobs, flow_seconds, clock),
            "failures": watch_failures(jobs, clock),
        }
    broker = None
    if context is not None:
        broker, operations = watch_broker(context), watch_operations(context)
        watched |= {
            "operations": operations,
            "job_reconciler": watch_job_endings(context, jobs, broker, operations.writable),
            "recovery": watch_recovery(context),
            "past_operations": watch_past_operations(context),
            "usual_runtimes": None if jobs is None else watch_runtimes(jobs, clock),
        }
    _current = Services(settings, context, jobs, broker, **watched)
    return _current


def services() -> Services:
    """The services of the running application."""
    if _current is None:
        raise RuntimeError("the application has not been started")
    return _current


def _jobs(settings: Settings) -> JobStore | None:
    url = settings.job_store_url.get_secret_value()
    if not url:
        return None
    return JobStore(url)


def _operations_context(
    settings: Settings, jobs: JobStore | None, access: Access, timings: WorkerTimings
) -> OperationsContext | None:
    if "broker_url" not in settings.model_fields_set:
        return None
    return OperationsContext(
        broker_url=settings.broker_url.get_secret_value(),
        store_url=operations_store_address(settings),
        folder=settings.data_dir / "purged",
        access=access,
        claims=jobs,
        queues=settings.queues,
        key_prefix=settings.broker_key_prefix,
        transport_options=settings.broker_transport_options,
        timings=timings,
    )
