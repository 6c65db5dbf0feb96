"""A worker's heartbeat: what it reports to the broker, and what it reads there and follows.

A thread of the worker's main process reports every two seconds and reads the desired state. The
desired state is read once more, by the thread that fetches jobs, each time that it has connected
and before it fetches anything. Nothing here fails a job.
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
from queuescope.instrument.gate import Gate
from queuescope.instrument.kept_jobs import KeptJobs
from queuescope.instrument.worker_report import ReportMaker

logger = logging.getLogger(__name__)

_TIMEOUT_SECONDS = 3.0


class Heartbeat:
    """Reports and follows, from before a worker's first job until after its last."""

    def __init__(
        self,
        worker: Any,
        collector: Collector,
        gate: Gate,
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
        self._gate = gate
        self.connection = connection
        self._clock = clock
        self._timings = timings
        # No broker, however slow, holds up a report for so long.
        self._stood_still_seconds = timings.report_seconds + 3 * _TIMEOUT_SECONDS
        self.kept = KeptJobs(connection) if keeps else None
        self._reports = ReportMaker(
            worker, collector, gate, connection, clock=clock, can_retry=can_retry, keeps=keeps
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
        """The consumer has connected, and fetches nothing before this returns."""
        self._follow_now()
        self._loop_at = self._connected_at = self._beat_at = self._clock.now()
        self._gate.attach(consumer)
        self._timer = consumer.timer.call_repeatedly(self._timings.report_seconds, self._tick)
        if self._thread.ident is None:
            self._thread.start()

    def on_disconnected(self) -> None:
        self._connected_at = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def end(self) -> None:
        """End a worker that may have been cut off in its jobs: then its last report stays, by which
        they are known to be lost.
        """
        self.stop(keeps_report=bool(self._collector.activity().active_count))

    def stop(self, *, keeps_report: bool = False) -> None:
        """End; a worker that ends in good order leaves no report behind."""
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
        """The queues that this worker is there for, paused or not."""
        return self._gate.served

    def _tick(self) -> None:
        self._loop_at = self._clock.now()
        self._gate.apply()

    def _run(self) -> None:
        while True:
            self._check_standstill()
            try:
                self._beat()
            except Exception:  # a worker without a heartbeat would be lost, and follow nothing
                if not self._is_faulty:
                    logger.exception(
                        "the heartbeat of this worker met an error of its own, and goes on"
                    )
                self._is_faulty = True
            if self._stop.wait(self._timings.report_seconds):
                return

    def _check_standstill(self) -> None:
        """Where the whole process stood still, stopped or on a machine that slept, its main loop
        could do nothing meanwhile either, and has only just come back.
        """
        now = self._clock.now()
        if now - self._beat_at > self._stood_still_seconds:
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
                    # Whoever cannot follow lives all the same.
                    self._report()
                if self.kept is not None:
                    self.kept.flush()
        except BrokerError as exc:
            if not self._is_down:
                logger.warning("this worker cannot report, nor see what is paused: %s", exc)
            self._is_down = True
            self._desired.go_on_without(exc)
        else:
            if self._is_down or self._is_faulty:
                logger.info("this worker reports again")
            self._is_down = self._is_faulty = False

    def _follow_now(self) -> None:
        try:
            with self._lock:
                # Before the first job, whose times stand by it.
                self._compare_clocks()
                self._desired.follow(anew=True)
        except BrokerError as exc:
            logger.warning("what is paused could not be read: %s", exc)
            self._desired.go_on_without(exc)
            if not self._desired.is_known:
                logger.warning("no job begins until it is known what is paused")

    def _apply(self, desired: DesiredState) -> None:
        self._gate.set(desired)
        consumer = getattr(self._worker, "consumer", None)
        if consumer is not None and threading.get_ident() == self._thread.ident:
            consumer.call_soon(self._gate.apply)

    def _compare_clocks(self) -> float:
        """Returns the time by the broker's clock."""
        asked_at = time.time()
        now = self.connection.now()
        self._clock.compare(now, asked_at=asked_at)
        return now

    def _report(self) -> None:
        now = self._compare_clocks()
        self._check_standstill()
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
        """Find out whether another worker of this name lives. An earlier life of this one has left
        its report, and jobs that nobody runs; what one that lives runs is its own.
        """
        self._first_at = self._first_at or now
        found = self.connection.reports_named(self._name)
        found.pop(self._reports.boot_id, None)
        others = [report for report in found.values() if report is not None]
        if any(other.at > self._first_at for other in others):
            self._checks_names = False
            logger.warning(
                "another worker is called %s, too: orders reach both; give each its own name with "
                "-n",
                self._name,
            )
        elif all(now - other.at > self._timings.lost_seconds for other in others):
            self._checks_names = False
            for boot_id in found:
                self.connection.remove_report(self._name, boot_id)
            self._collector.close_earlier_jobs(clock_ahead=self._clock.ahead)

    def _watch_soft_shutdown(self) -> None:
        """Celery says nothing before the time that it gives running jobs has passed."""
        wait = getattr(self._worker, "wait_for_soft_shutdown", None)
        if wait is None:
            return

        def wait_for_soft_shutdown() -> Any:
            self._shutdown_at = self._shutdown_at or self._clock.now()
            return wait()

        self._worker.wait_for_soft_shutdown = wait_for_soft_shutdown

    def _shutdown_begun_at(self) -> float | None:
        """Since when this worker shuts down, by its clock: for a signal or an order."""
        # Celery sets these to an exit status, of which 0 is one.
        is_told = any(
            told is not None and told is not False
            for told in (state.should_stop, state.should_terminate)
        )
        if self._shutdown_at is None and (is_told or self._worker.blueprint.state != bootsteps.RUN):
            self._shutdown_at = self._clock.now()
        return self._shutdown_at


class DesiredStateStep(bootsteps.StartStopStep):  # type: ignore[misc]
    """After the queues are selected and before the loop consumes them, at each connection."""

    requires = ("celery.worker.consumer.tasks:Tasks",)
    name = "queuescope-obey"

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
