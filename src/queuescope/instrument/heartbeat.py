"""A worker's heartbeat: it reports to the broker, and reads and applies the desired state.

A thread of the worker's main process does both every two seconds. The thread that fetches jobs
also reads the desired state each time it has connected, before it fetches anything. Nothing here
fails a job.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import Any

from celery import bootsteps
from celery.worker import state

from queuescope.broker.clock import CorrectedClock
from queuescope.broker.desired import DesiredState
from queuescope.broker.protocol import WorkerConnection
from queuescope.broker.timings import WorkerTimings
from queuescope.errors import BrokerError
from queuescope.instrument.collector import Collector
from queuescope.instrument.desired_state import DesiredStateFollower
from queuescope.instrument.kept_jobs import KeptJobs
from queuescope.instrument.pause_enforcer import PauseEnforcer
from queuescope.instrument.worker_report import ReportMaker

logger = logging.getLogger(__name__)

_TIMEOUT_SECONDS = 3.0


class Heartbeat:
    """Runs from before a worker's first job until after its last."""

    def __init__(
        self,
        worker: Any,
        collector: Collector,
        pauses: PauseEnforcer,
        connection: WorkerConnection,
        *,
        clock: CorrectedClock,
        can_retry: bool,
        keeps: bool,
        timings: WorkerTimings,
    ) -> None:
        self._worker = worker
        self._name = str(worker.hostname)
        self._collector = collector
        self._pauses = pauses
        self.connection = connection
        self._clock = clock
        self._timings = timings
        # Longer than the slowest broker can delay a report.
        self._frozen_seconds = timings.report_seconds + 3 * _TIMEOUT_SECONDS
        self.kept = KeptJobs(connection) if keeps else None
        self._reports = ReportMaker(
            worker, collector, pauses, connection, clock=clock, can_retry=can_retry, keeps=keeps
        )
        self._desired = DesiredStateFollower(connection, self._apply)
        self._checks_names = True
        self._first_at = 0.0
        self._loop_at = self._beat_at = self._clock.now()
        self._connected_at: float | None = None
        self._shutdown_at: float | None = None
        self._watch_soft_shutdown()
        self._is_down = False
        self._is_faulty = False
        self._timer: Any = None
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="queuescope-heartbeat", daemon=True)

    def on_connected(self, consumer: Any) -> None:
        """To be called when the consumer has connected; it fetches nothing before this returns."""
        self._follow_now()
        self._loop_at = self._connected_at = self._beat_at = self._clock.now()
        self._pauses.attach(consumer)
        self._timer = consumer.timer.call_repeatedly(self._timings.report_seconds, self._tick)
        if self._thread.ident is None:
            self._thread.start()

    def on_disconnected(self) -> None:
        self._connected_at = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def end(self) -> None:
        """Stop; keep the last report if jobs still run, since it shows that they are lost."""
        self.stop(keeps_report=bool(self._collector.activity().active_count))

    def stop(self, *, keeps_report: bool = False) -> None:
        """Stop, and remove the report unless ``keeps_report``."""
        if os.getpid() != self._pid or self._stop.is_set():
            return
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(timeout=2 * _TIMEOUT_SECONDS)
        if not keeps_report:
            try:
                with self._lock:
                    self.connection.remove_report(self._name, self._reports.boot_id)
            except BrokerError as exc:
                logger.info("the last report stays in the broker: %s", exc)
        self.connection.close()

    @property
    def served(self) -> tuple[str, ...]:
        """The queues that this worker serves, paused or not."""
        return self._pauses.served

    def _tick(self) -> None:
        self._loop_at = self._clock.now()
        self._pauses.apply()

    def _run(self) -> None:
        while True:
            self._check_freeze()
            try:
                self._beat()
            except Exception:  # without a heartbeat the worker would seem lost and ignore pauses
                if not self._is_faulty:
                    logger.exception("the heartbeat of this worker failed, and is tried again")
                self._is_faulty = True
            if self._stop.wait(self._timings.report_seconds):
                return

    def _check_freeze(self) -> None:
        """If the whole process was frozen (stopped, or on a machine that slept), do not call its
        main loop stalled for that time.
        """
        now = self._clock.now()
        if now - self._beat_at > self._frozen_seconds:
            self._loop_at = now
            if self._connected_at is not None:
                self._connected_at = now
        self._beat_at = now

    def _beat(self) -> None:
        try:
            with self._lock:
                try:
                    self._desired.follow()
                finally:
                    # A worker that cannot read the desired state is alive all the same.
                    self._report()
                if self.kept is not None:
                    self.kept.flush()
        except BrokerError as exc:
            if not self._is_down:
                logger.warning("this worker cannot report or read the desired state: %s", exc)
            self._is_down = True
            self._desired.stop_waiting(exc)
        else:
            if self._is_down or self._is_faulty:
                logger.info("this worker reports again")
            self._is_down = self._is_faulty = False

    def _follow_now(self) -> None:
        try:
            with self._lock:
                # Before the first job, since its times are corrected with it.
                self._compare_clocks()
                self._desired.follow(reread_revoked=True)
        except BrokerError as exc:
            logger.warning("the desired state could not be read: %s", exc)
            self._desired.stop_waiting(exc)
            if not self._desired.is_known:
                logger.warning("no job starts until the desired state is known")

    def _apply(self, desired: DesiredState) -> None:
        self._pauses.set(desired)
        consumer = getattr(self._worker, "consumer", None)
        if consumer is not None and threading.get_ident() == self._thread.ident:
            consumer.call_soon(self._pauses.apply)

    def _compare_clocks(self) -> float:
        """Compare this machine's clock with the broker's; returns the time by the broker's."""
        asked_at = time.time()
        now = self.connection.now()
        self._clock.compare(now, asked_at=asked_at)
        return now

    def _report(self) -> None:
        now = self._compare_clocks()
        self._check_freeze()
        report = self._reports.make(
            now,
            loop_at=self._loop_at,
            connected_at=self._connected_at,
            shutting_down_at=self._shutdown_begun_at(),
        )
        self.connection.write_report(report)
        if self._checks_names:
            self._check_names(now)

    def _check_names(self, now: float) -> None:
        """Find out whether another worker of this name is alive. If none is, remove the reports of
        earlier processes of this worker and close their jobs.
        """
        self._first_at = self._first_at or now
        found = self.connection.reports_named(self._name)
        found.pop(self._reports.boot_id, None)
        others = [report for report in found.values() if report is not None]
        if any(other.at > self._first_at for other in others):
            self._checks_names = False
            logger.warning(
                "another worker is also called %s: commands reach both; give each its own name "
                "with -n",
                self._name,
            )
        elif all(now - other.at > self._timings.lost_seconds for other in others):
            self._checks_names = False
            for boot_id in found:
                self.connection.remove_report(self._name, boot_id)
            self._collector.close_earlier_jobs(clock_ahead=self._clock.ahead)

    def _watch_soft_shutdown(self) -> None:
        """Record when a soft shutdown begins: Celery signals it only after its waiting time."""
        wait = getattr(self._worker, "wait_for_soft_shutdown", None)
        if wait is None:
            return

        def wait_for_soft_shutdown() -> Any:
            self._shutdown_at = self._shutdown_at or self._clock.now()
            return wait()

        self._worker.wait_for_soft_shutdown = wait_for_soft_shutdown

    def _shutdown_begun_at(self) -> float | None:
        """When this worker began to shut down, by its clock; ``None`` if it does not."""
        # Celery sets these to an exit status, which may be 0.
        is_requested = any(
            status is not None and status is not False
            for status in (state.should_stop, state.should_terminate)
        )
        is_ending = is_requested or self._worker.blueprint.state != bootsteps.RUN
        if self._shutdown_at is None and is_ending:
            self._shutdown_at = self._clock.now()
        return self._shutdown_at


class DesiredStateStep(bootsteps.StartStopStep):  # type: ignore[misc]
    """At each connection, after the queues are selected and before they are consumed."""

    requires = ("celery.worker.consumer.tasks:Tasks",)
    name = "queuescope-desired-state"

    def include_if(self, parent: Any) -> bool:
        return _heartbeat_of(parent) is not None

    def start(self, parent: Any) -> None:
        heartbeat = _heartbeat_of(parent)
        if heartbeat is not None:
            heartbeat.on_connected(parent)

    def stop(self, parent: Any) -> None:
        heartbeat = _heartbeat_of(parent)
        if heartbeat is not None:
            heartbeat.on_disconnected()


def _heartbeat_of(consumer: Any) -> Heartbeat | None:
    return getattr(getattr(consumer.app, "queuescope", None), "heartbeat", None)
