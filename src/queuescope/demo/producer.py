"""Sends the demo's jobs in real time, according to the workload model.

    python -m queuescope.demo.producer

It survives a restart of the broker; jobs that cannot be sent meanwhile are dropped. Ends on
SIGTERM.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import threading
import time
from collections.abc import Sequence

import numpy as np
from kombu.exceptions import OperationalError

from queuescope.demo.platform import app, send_job
from queuescope.demo.workload import SEED, IncidentKind, Plan, World

logger = logging.getLogger(__name__)

_TICK_SECONDS = 1.0


class Producer:
    """Draws and sends the jobs of each second."""

    def __init__(self, world: World, rng: np.random.Generator, *, loses_workers: bool) -> None:
        self._world = world
        self._rng = rng
        self._loses_workers = loses_workers
        self._is_down = False

    def run(self, stop: threading.Event) -> None:
        """Until ``stop`` is set."""
        now = time.time()
        while not stop.wait(_TICK_SECONDS):
            since, now = now, time.time()
            if now - since > 60:
                # The machine slept; the jobs of that time are not sent.
                continue
            if self._loses_workers:
                self._lose_a_worker(since, now)
            for _, plan in self._world.arrivals(since, now, self._rng).plans():
                self.send(plan)

    def send(self, plan: Plan) -> None:
        """Send one job; if the broker does not answer, log it once and try again with the next."""
        try:
            send_job(plan)
        except (OperationalError, OSError) as exc:
            if not self._is_down:
                logger.warning("the broker does not answer (%s)", type(exc).__name__)
            self._is_down = True
        else:
            if self._is_down:
                logger.info("the broker answers again")
            self._is_down = False

    def _lose_a_worker(self, since: float, now: float) -> None:
        """If an incident loses a worker, shut down the last one by name; its supervisor restarts
        it.
        """
        for incident in self._world.incidents(since, now):
            if incident.kind is IncidentKind.WORKER_LOSS and since <= incident.start < now:
                try:
                    replies = app.control.ping(timeout=2.0) or []
                    names = sorted(name for reply in replies for name in reply)
                    if len(names) > 1:
                        logger.info("incident: %s shuts down", names[-1])
                        app.control.shutdown(destination=[names[-1]])
                except (OperationalError, OSError) as exc:
                    logger.warning("the broker does not answer (%s)", type(exc).__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Send until SIGTERM or SIGINT; returns the exit status."""
    parser = argparse.ArgumentParser(prog="queuescope.demo.producer", description=__doc__)
    parser.add_argument("--seed", type=int, default=SEED, help="which world (default %(default)s)")
    parser.add_argument(
        "--keep-workers", action="store_true", help="never shut down a worker in an incident"
    )
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    producer = Producer(
        World(arguments.seed), np.random.default_rng(), loses_workers=not arguments.keep_workers
    )
    logger.info("jobs are sent until SIGTERM")
    producer.run(stop)
    app.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
