"""All live sources of the running application."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from queuescope.dashboard.live_sources.broker import broker_source
from queuescope.dashboard.live_sources.failures import recent_failures
from queuescope.dashboard.live_sources.job_history import MEASURES, history_source
from queuescope.errors import UnsupportedBrokerError
from queuescope.known import Known
from queuescope.view.present.live_sources import (
    Failures,
    FigureOrigin,
    LiveReport,
    LiveSource,
    PastOperation,
    PastOperations,
)

if TYPE_CHECKING:
    from queuescope.dashboard.services import Services

_OF_JOBS = MEASURES | {"queue_depth", "oldest_waiting"}


class WatchedSources:
    """``LiveSources`` of the running application; only configured sources are included.

    With ``is_narrowed`` the page covers only some of the platform's jobs. Broker and job history
    cannot filter like that, so figures about jobs are left to Prometheus.
    """

    def __init__(self, services: Services, *, is_narrowed: bool = False) -> None:
        self._services = services
        self._is_narrowed = is_narrowed

    def clock_ahead(self) -> float:
        return self._services.clock_ahead

    def sources(self) -> tuple[LiveSource, ...]:
        found = []
        if self._services.broker is not None:
            writing = self._services.writing_error
            ahead = self.clock_ahead()
            source = broker_source(self._services.broker.known, writing)
            found.append(replace(source, known=source.known.map(lambda r: _by_our_clock(r, ahead))))
        if self._services.totals is not None:
            found.append(history_source(self._services.totals.known))
        if self._services.past_operations is not None:
            operations = self._services.past_operations.known
            found.append(LiveSource(FigureOrigin.AUDIT, operations.map(lambda _: LiveReport())))
        for origin, refusal in (
            (FigureOrigin.BROKER, self._services.refused_broker),
            (FigureOrigin.JOB_HISTORY, self._services.refused_jobs),
        ):
            # An unsupported kind of broker is no failure: it cannot be queried.
            if refusal is not None and not isinstance(refusal, UnsupportedBrokerError):
                since = self._services.opened_at
                found.append(LiveSource(origin, Known(error=refusal, failing_since=since)))
        return tuple(without_jobs(one) for one in found) if self._is_narrowed else tuple(found)

    def past_operations(self) -> PastOperations | None:
        watch = self._services.past_operations
        recorded = None if watch is None else watch.known.value
        if recorded is None:
            return None
        ahead = self.clock_ahead()
        operations = (
            PastOperation(a.at + ahead, a.actor, a.words, a.result, a.detail)
            for a in recorded.operations
        )
        return PastOperations(
            tuple(operations), None if recorded.begin is None else recorded.begin + ahead
        )

    def failures(self) -> Known[Failures] | None:
        watch, ahead = self._services.failures, self.clock_ahead()
        return (
            None if watch is None else watch.known.map(lambda found: recent_failures(found, ahead))
        )


def _by_our_clock(report: LiveReport, ahead: float) -> LiveReport:
    """``report`` of the broker with times by our clock, which is ``ahead`` seconds ahead of the
    broker's.
    """
    return replace(report, depths=tuple((at + ahead, depth) for at, depth in report.depths))


def without_jobs(source: LiveSource) -> LiveSource:
    """``source`` without its figures about all jobs of the platform."""
    return replace(
        source,
        measures=source.measures - _OF_JOBS,
        known=source.known.map(
            lambda report: replace(
                report,
                figures={name: f for name, f in report.figures.items() if name not in _OF_JOBS},
                completion_per_second=None,
                depths=(),
            )
        ),
    )
