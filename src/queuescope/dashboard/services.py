"""What the pages need besides Prometheus: the broker, its workers, the job history, operations.

Each is there only if its setting is: the dashboard works on Prometheus alone.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from queuescope.broker.fleet import Fleet
from queuescope.broker.timings import DEFAULT_TIMINGS, WorkerTimings
from queuescope.dashboard.auth.identity import access_of
from queuescope.errors import (
    AuditError,
    BrokerError,
    BrokerErrorKind,
    ConfigurationError,
    InternalError,
    JobStoreError,
    PurgeError,
    QueuescopeError,
    StoreErrorKind,
)
from queuescope.jobs.store import JobStore, UsualRuntime
from queuescope.jobs.totals import JobTotals, read_totals
from queuescope.operations.access import Access
from queuescope.operations.audit import Verification
from queuescope.operations.context import OperationsContext
from queuescope.settings import Settings, operations_store_address
from queuescope.view.charts.worker_trends import TrendBoard
from queuescope.watch import (
    AuditPicture,
    BrokerPicture,
    ChainWalk,
    DepthMemory,
    FailurePicture,
    HistoryKeeper,
    Paces,
    PurgesPicture,
    RecordedActs,
    Sighting,
    Watch,
    read_acts,
    read_audit,
    read_broker,
    read_failures,
    read_purges,
)

logger = logging.getLogger(__name__)

_AUDIT_SECONDS = 4.0
_PURGES_SECONDS = 6.0
_CHAIN_SECONDS = 10.0
_TIDY_SECONDS = 5.0
_USUAL_SECONDS = 300.0
_USUAL_SPAN_SECONDS = 86_400.0
_ACTS_SECONDS = 5.0
_TOTALS_SECONDS = 10.0
_FAILURES_SECONDS = 15.0
_OVERDUE_SECONDS = 10.0
# Several questions, each of which is given 4 s.
_FAILURES_OVERDUE_SECONDS = 25.0
_LONG_OVERDUE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Acting:
    """What acts need and leave behind, as it was seen last.

    ``writable`` fails for as long as the broker would refuse to write; its value is when it last
    did not, in epoch seconds. ``walk`` is what ``chain`` reads with.
    """

    audit: Watch[AuditPicture]
    chain: Watch[Verification]
    walk: ChainWalk
    purges: Watch[PurgesPicture]
    writable: Watch[float]

    @property
    def watches(self) -> tuple[Watch[Any], ...]:
        return (self.audit, self.chain, self.purges, self.writable)


@dataclass(frozen=True, slots=True)
class Services:
    """The parts of the running application; None: the setting that names it is not set.

    ``keeper`` ends the history rows of lost workers, ``tidier`` finishes what an ended process
    has left; their sightings tell whether they can, and count what they did last. ``usual`` is how
    long jobs run by their names, ``trends`` where the page of workers says what it shows. ``acts``
    are the marks on the charts, ``totals`` and ``failures`` what the job history says of a day.
    """

    settings: Settings
    operations_context: OperationsContext | None
    jobs: JobStore | None
    broker: Watch[BrokerPicture] | None
    acting: Acting | None = None
    keeper: Watch[int] | None = None
    tidier: Watch[int] | None = None
    usual: Watch[dict[str, UsualRuntime]] | None = None
    trends: TrendBoard | None = None
    acts: Watch[RecordedActs] | None = None
    totals: Watch[JobTotals] | None = None
    failures: Watch[FailurePicture] | None = None
    refused_jobs: ConfigurationError | None = None
    refused_broker: ConfigurationError | None = None
    opened_at: float = 0.0

    @property
    def clock_ahead(self) -> float:
        """By how many seconds this server's clock is ahead of the broker's; negative is behind, 0
        is by less than ``CLOCK_OFF_SECONDS`` or not known.
        """
        return (
            0.0 if self.operations_context is None else self.operations_context.broker.clock.ahead
        )

    def now(self) -> float:
        """Epoch seconds by the clock of jobs, workers and acts, which is the broker's."""
        return time.time() - self.clock_ahead

    @property
    def without_jobs(self) -> str:
        """Why there is no job history, as sentences."""
        if self.refused_jobs is None:
            return (
                "No job history is configured, so there is nothing to show. Set job_store_url "
                "(QUEUESCOPE_JOB_STORE_URL) to the database that your workers write."
            )
        return f"The job history cannot be used: {self.refused_jobs}. The charts go on."

    @property
    def without_broker(self) -> str:
        """Why nothing is known of the broker, as sentences."""
        if self.refused_broker is None:
            return (
                "No broker is configured, so nothing is known of the workers, and there is "
                "nothing to operate on. Set broker_url (QUEUESCOPE_BROKER_URL) to the broker of "
                "your workers."
            )
        return f"The broker cannot be used: {self.refused_broker}. The charts go on."

    @property
    def writing_error(self) -> QueuescopeError | None:
        """Why the broker takes no writes, as far as that was tried."""
        return None if self.acting is None else self.acting.writable.sighting.error

    @property
    def _watches(self) -> tuple[Watch[Any], ...]:
        acting = () if self.acting is None else self.acting.watches
        history = (self.usual, self.totals, self.failures)
        watches = (self.broker, self.keeper, self.tidier, self.acts, *history, *acting)
        return tuple(watch for watch in watches if watch is not None)

    def troubles(self) -> tuple[list[str], list[str]]:
        """The names of the watches that have ended, which nothing but a restart begins again, and
        of those that meet an error of Queuescope's own each time.
        """
        ended = [watch.name for watch in self._watches if watch.has_ended]
        failing = [
            watch.name for watch in self._watches if isinstance(watch.sighting.error, InternalError)
        ]
        return ended, failing

    def start(self) -> None:
        """Begin to watch."""
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
    """Put together what ``settings`` ask for; opens no connection.

    ``flow_seconds`` is over what completed jobs are counted for the forecast, ``timings`` are those
    of the workers. Broker and job
    history are optional: where one cannot be used, the others go on, and the pages say why.
    Raises ``ConfigurationError`` for what decides who may do what.
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
            "totals": _totals(jobs, flow_seconds, clock),
            "failures": _failures(jobs, clock),
        }
    broker = None
    if context is not None:
        broker, acting = _broker(context), _acting(context)
        watched |= {
            "acting": acting,
            "keeper": _keeper(context, jobs, broker, acting.writable),
            "tidier": _tidier(context),
            "acts": _acts(context),
            "usual": None if jobs is None else _usual(jobs, clock),
        }
    _current = Services(settings, context, jobs, broker, **watched)
    return _current


def services() -> Services:
    """Those of the running application."""
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


def _broker(context: OperationsContext) -> Watch[BrokerPicture]:
    paces, memory = Paces(), DepthMemory()
    return Watch(
        "broker",
        lambda: read_broker(context, paces, memory),
        seconds=context.broker.timings.report_seconds,
        overdue_seconds=_OVERDUE_SECONDS,
        hung=_silent_broker,
        clock=time.time,
    )


def _acting(context: OperationsContext) -> Acting:
    def writable() -> float:
        context.broker.prove_writable()
        return time.time()

    def silent() -> AuditError:
        return AuditError("the audit does not answer in time")

    walk, timings = ChainWalk(context.store), context.broker.timings
    return Acting(
        walk=walk,
        audit=Watch(
            "audit",
            lambda: read_audit(context),
            seconds=_AUDIT_SECONDS,
            overdue_seconds=_OVERDUE_SECONDS,
            hung=silent,
        ),
        chain=Watch(
            "chain",
            walk,
            seconds=_CHAIN_SECONDS,
            overdue_seconds=_LONG_OVERDUE_SECONDS,
            hung=silent,
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
            # Known anew before a silent worker is taken for lost.
            seconds=0.9 * (timings.lost_seconds - 2 * timings.report_seconds),
            overdue_seconds=_OVERDUE_SECONDS,
            hung=_silent_broker,
        ),
    )


def _keeper(
    context: OperationsContext,
    jobs: JobStore | None,
    broker: Watch[BrokerPicture],
    writable: Watch[float],
) -> Watch[int]:
    timings = context.broker.timings

    def fleet() -> Fleet | None:
        """Unknown while workers cannot report, and until they have had the time to."""
        sighting, now = broker.sighting, time.time()
        if sighting.value is None or sighting.fresh_seconds(now) <= timings.lost_seconds:
            return None
        takes_reports = _takes_reports(writable.sighting, now, timings)
        return sighting.value.fleet if takes_reports else None

    keeper = HistoryKeeper(
        jobs,
        fleet,
        lambda keep: context.broker.drop_workers(keep=keep),
        clock=context.broker.clock.now,
    )
    return Watch(
        "keeper",
        keeper.keep,
        seconds=timings.report_seconds,
        overdue_seconds=_OVERDUE_SECONDS,
        hung=_silent_history,
    )


def refuses_reports(error: QueuescopeError | None) -> bool:
    """Whether, by what a proof of writing met, the broker takes reports from nobody."""
    refusals = (BrokerErrorKind.READ_ONLY, BrokerErrorKind.FULL)
    return isinstance(error, BrokerError) and error.kind in refusals


def _takes_reports(sighting: Sighting[float], now: float, timings: WorkerTimings) -> bool:
    """Whether whoever is silent for long enough to be lost could have reported meanwhile."""
    if sighting.error is not None:
        # Where only the dashboard may not write, nothing is known against the broker.
        return not refuses_reports(sighting.error)
    age = sighting.age_seconds(now)
    if age is None or sighting.fresh_seconds(now) <= timings.lost_seconds:
        return False
    return age < timings.lost_seconds - 2 * timings.report_seconds


def _usual(jobs: JobStore, clock: Callable[[], float]) -> Watch[dict[str, UsualRuntime]]:
    return Watch(
        "usual",
        lambda: jobs.usual_runtimes(since=clock() - _USUAL_SPAN_SECONDS),
        seconds=_USUAL_SECONDS,
        overdue_seconds=_LONG_OVERDUE_SECONDS,
        hung=_silent_history,
    )


def _tidier(context: OperationsContext) -> Watch[int]:
    return Watch(
        "tidier",
        lambda: len(context.tidy()),
        seconds=_TIDY_SECONDS,
        overdue_seconds=_OVERDUE_SECONDS,
        hung=lambda: AuditError("the operations database does not answer in time"),
    )


def _acts(context: OperationsContext) -> Watch[RecordedActs]:
    return Watch(
        "acts",
        lambda: read_acts(context.store),
        seconds=_ACTS_SECONDS,
        overdue_seconds=_OVERDUE_SECONDS,
        hung=lambda: AuditError("the audit does not answer in time"),
    )


def _silent_broker() -> BrokerError:
    return BrokerError(BrokerErrorKind.SLOW, "the broker does not answer in time")


def _silent_history() -> JobStoreError:
    return JobStoreError("the job history does not answer in time", StoreErrorKind.SLOW)


def _totals(jobs: JobStore, flow_seconds: float, clock: Callable[[], float]) -> Watch[JobTotals]:
    return Watch(
        "totals",
        lambda: read_totals(jobs, now=clock(), window_seconds=flow_seconds),
        seconds=_TOTALS_SECONDS,
        overdue_seconds=_OVERDUE_SECONDS,
        hung=_silent_history,
    )


def _failures(jobs: JobStore, clock: Callable[[], float]) -> Watch[FailurePicture]:
    return Watch(
        "failures",
        lambda: read_failures(jobs, clock()),
        seconds=_FAILURES_SECONDS,
        overdue_seconds=_FAILURES_OVERDUE_SECONDS,
        hung=_silent_history,
    )
