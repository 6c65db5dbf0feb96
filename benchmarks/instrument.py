"""What ``instrument()`` costs a job that does nothing, against the same worker without it."""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import redis
from benchmarks.report import Ratio, Results, busy_cores, versions
from benchmarks.servers import PROJECT
from celery import Celery
from tests.real_broker import RealBroker

PLAIN, SEEN, KEPT = "plain Celery", "instrument()", "with job history"
_PROJECT = """
import os
from celery import Celery

app = Celery("bench", broker=os.environ["BENCH_BROKER"])
app.conf.update(
    task_ignore_result=True, worker_prefetch_multiplier=64, worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True, task_default_queue=os.environ["BENCH_QUEUE"],
)

@app.task(name="nothing")
def nothing(number):
    pass

@app.task(name="last")
def last(path):
    open(path, "w").close()

if os.environ["BENCH_OPTIONS"]:
    from queuescope.instrument import instrument
    instrument(app, **eval(os.environ["BENCH_OPTIONS"]))
"""
_STARTED_WITHIN_SECONDS = 120.0


class Contender:
    """A worker with its own queue, and how its project sends jobs."""

    def __init__(self, name: str, pool: str, folder: Path, broker: str, options: str) -> None:
        self.name = name
        self._folder = folder
        self._queue = f"{pool}-{options and len(options)}"
        self._environment = {
            "BENCH_BROKER": broker,
            "BENCH_QUEUE": self._queue,
            "BENCH_OPTIONS": options,
            "PYTHONPATH": f"{PROJECT}:{folder}",
            "QUEUESCOPE_METRICS_PORT": "0",
        }
        self._arguments = [
            *(sys.executable, "-m", "celery", "-A", "bench", "worker", "-l", "WARNING", "-P", pool),
            *("--without-mingle", "--without-gossip", "-c", "1", "-Q", self._queue),
            *("-n", f"{self._queue}@bench"),
        ]
        self._process: subprocess.Popen[bytes] | None = None
        self._app = Celery("sender", broker=broker, set_as_current=False)
        self._client = redis.Redis.from_url(broker)
        self._marks = 0

    def start(self) -> None:
        with (self._folder / f"{self._queue}.log").open("wb") as log:
            self._process = subprocess.Popen(
                self._arguments,
                cwd=self._folder,
                env={**os.environ, **self._environment},
                stdout=log,
                stderr=log,
            )
        self.run(1)

    def run(self, jobs: int) -> tuple[float, float]:
        """Seconds, and seconds of CPU, for ``jobs`` that wait when the measurement starts."""
        self._marks += 1
        mark = self._folder / f"{self._queue}-{self._marks}"
        # A sender could be slower than the worker, so all jobs are moved at once from another list.
        held = f"{self._queue}-held"
        with self._app.producer_pool.acquire(block=True) as producer:
            for number in range(jobs):
                self._app.send_task(
                    "nothing", (number,), queue=held, producer=producer, ignore_result=True
                )
            self._app.send_task("last", (str(mark),), queue=held, producer=producer)
        before, start = self._cpu_seconds(), time.perf_counter()
        self._client.rename(held, self._queue)
        _wait(mark.exists)
        taken = time.perf_counter() - start
        # Writes after the last job are part of the cost.
        time.sleep(2.0)
        return taken, self._cpu_seconds() - before

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(60)
        self._app.close()
        self._client.close()

    def _cpu_seconds(self) -> float:
        assert self._process is not None, f"{self.name} does not run"
        root = psutil.Process(self._process.pid)
        return sum(sum(one.cpu_times()[:4]) for one in (root, *root.children(recursive=True)))


def _wait(is_there: Callable[[], bool]) -> None:
    until = time.monotonic() + _STARTED_WITHIN_SECONDS
    while not is_there():
        if time.monotonic() > until:
            raise RuntimeError("a worker has not done its jobs")
        time.sleep(0.002)


def main() -> None:
    parser = argparse.ArgumentParser(prog="./benchmarks/run instrument", description=__doc__)
    parser.add_argument("--turns", type=int, default=9, help="[%(default)s]")
    parser.add_argument("--jobs", type=int, default=4000, help="of a turn [%(default)s]")
    parser.add_argument(
        "--output", type=Path, default=PROJECT / "benchmarks/results", help="[%(default)s]"
    )
    given = parser.parse_args()
    results = Results(
        "instrument",
        "What instrument() costs",
        {"jobs": given.jobs, "turns": given.turns},
        versions("celery", "kombu", "redis", "prometheus_client", "sqlalchemy"),
    )
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        folder = Path(directory)
        (folder / "bench.py").write_text(_PROJECT, "utf-8")
        with RealBroker(folder) as broker:
            for pool in ("prefork", "solo"):
                _compare(results, pool, folder, broker.url)
    results.write(given.output)
    print((given.output / "instrument.md").read_text("utf-8"))


def _compare(results: Results, pool: str, folder: Path, broker: str) -> None:
    jobs, turns = results.options["jobs"], results.options["turns"]
    url = f"sqlite:///{folder / f'{pool}.db'}"
    contenders = [
        Contender(PLAIN, pool, folder, broker, ""),
        Contender(SEEN, pool, folder, broker, "dict()"),
        Contender(KEPT, pool, folder, broker, f"dict(job_store_url={url!r})"),
    ]
    cpu: dict[str, list[float]] = {one.name: [] for one in contenders}
    rate: dict[str, list[float]] = {one.name: [] for one in contenders}
    try:
        for one in contenders:
            one.start()
        for turn in range(-1, turns):
            results.load.setdefault(pool, []).append(busy_cores(0.1))
            first = turn % len(contenders)
            for one in contenders[first:] + contenders[:first]:
                seconds, cpu_seconds = one.run(jobs)
                if turn >= 0:
                    cpu[one.name].append(cpu_seconds / jobs * 1e3)
                    rate[one.name].append(jobs / seconds)
    finally:
        for one in contenders:
            one.stop()
    for name, values in cpu.items():
        results.add(f"{pool}: CPU per job", name, "ms", values)
        results.add(f"{pool}: jobs per second", name, "/s", rate[name])
    for name, is_judged in ((SEEN, True), (KEPT, False)):
        more = [ours - plain for ours, plain in zip(cpu[name], cpu[PLAIN], strict=True)]
        share = [ours / plain for ours, plain in zip(rate[name], rate[PLAIN], strict=True)]
        results.ratios += [
            Ratio(
                f"{pool}, {name}: additional CPU per job, in ms",
                statistics.median(more),
                0.15 if is_judged else None,
                at_least=False,
            ),
            Ratio(
                f"{pool}, {name}: share of the throughput",
                statistics.median(share),
                0.9 if is_judged else None,
                at_least=True,
            ),
        ]


if __name__ == "__main__":
    main()
