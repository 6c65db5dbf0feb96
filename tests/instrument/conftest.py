"""A real broker, and real Celery workers of a project that does not use Queuescope's internals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
import redis
from celery import Celery
from prometheus_client.parser import text_string_to_metric_families
from tests.machine import Machine, MachineClock
from tests.ports import free_port
from tests.prepared_python import PythonProcess, start_python
from tests.real_broker import RealBroker

from queuescope.broker.timings import WorkerTimings
from queuescope.jobs.store import JobStore

T = TypeVar("T")

QUICK = WorkerTimings(report_seconds=0.5, lost_seconds=6.0, history_seconds=0.2)
"""Of the shop's workers, so that a test waits for seconds; whoever reads what they report takes
them, too."""

PROJECT = """
import gc, os, signal, time
from celery import Celery
from celery.exceptions import Ignore, Reject
from celery.worker.control import control_command

app = Celery("shop", broker=os.environ["SHOP_BROKER"])
app.conf.update(
    accept_content=["json"], task_default_queue="orders", task_ignore_result=True,
    worker_prefetch_multiplier=int(os.environ.get("SHOP_PREFETCH", "1")),
    task_default_rate_limit=os.environ.get("SHOP_RATE_LIMIT"),
    worker_lost_wait=0.5, broker_connection_retry_on_startup=True,
    task_acks_late="SHOP_ACKS_LATE" in os.environ,
    task_reject_on_worker_lost="SHOP_ACKS_LATE" in os.environ,
)

from queuescope.instrument import WorkerTimings, instrument
timings = eval(os.environ.get("SHOP_TIMINGS", "WorkerTimings()"))
instrument(app, timings=timings, **eval(os.environ.get("SHOP_OPTIONS", "{}")))


@app.task(name="nap")
def nap(seconds=0.0, tenant=None):
    time.sleep(seconds)

@app.task(name="nap_late", acks_late=True)
def nap_late(seconds=0.0):
    time.sleep(seconds)

@app.task(name="kill", acks_late=True, reject_on_worker_lost=True)
def kill(path, times, until=None):
    with open(path, "a") as file:
        file.write("again\\n")
    if len(open(path).read().split()) <= times:
        os.kill(os.getpid(), signal.SIGKILL)
    while until is not None and not os.path.exists(until):
        time.sleep(0.02)

@app.task(name="fail")
def fail(tenant=None):
    raise LookupError("no such order")

@app.task(name="fail_with")
def fail_with(text):
    raise RuntimeError(text)

@app.task(name="second_time_lucky", bind=True, max_retries=3)
def second_time_lucky(self, tenant=None, countdown=0.5):
    time.sleep(0.1)
    if self.request.retries == 0:
        raise self.retry(exc=OSError("busy"), countdown=countdown)

@app.task(name="hang", time_limit=1)
def hang(tenant=None):
    time.sleep(60)

@app.task(name="set_aside")
def set_aside(tenant=None):
    raise Ignore

@app.task(name="replaced", bind=True)
def replaced(self, tenant=None):
    raise self.replace(nap.si(seconds=0.1, tenant=tenant))

@app.task(name="ends_after_the_next", bind=True)
def ends_after_the_next(self, path, how):
    if self.request.retries:
        open(path, "w").close()
        return
    try:
        if how == "retry":
            raise self.retry(exc=OSError("busy"), countdown=0)
        raise self.replace(mark.si(path, "next"))
    finally:
        while not os.path.exists(path):
            time.sleep(0.02)
        time.sleep(0.5)

@app.task(name="first_of_two", bind=True)
def first_of_two(self, tenant=None):
    from celery import chain
    chain(nap.si(tenant=tenant), nap.si(tenant=tenant)).apply_async()

@app.task(name="own_failure", bind=True)
def own_failure(self, tenant=None):
    self.update_state(state="FAILURE", meta={"exc_type": "OutOfStock", "exc_message": "no bolts"})
    raise Ignore

@app.task(name="give_up", acks_late=True)
def give_up(tenant=None):
    raise Reject("cannot be read")

@app.task(name="give_back_once", acks_late=True)
def give_back_once(path, tenant=None):
    if not os.path.exists(path):
        open(path, "w").close()
        raise Reject("not now", requeue=True)

@app.task(name="never_lucky", bind=True, autoretry_for=(OSError,), max_retries=1,
          default_retry_delay=0.1)
def never_lucky(self, tenant=None):
    raise OSError("busy")

class Unpicklable(Exception):
    def __init__(self, one, two):
        super().__init__("says " + one)
        self.handle = lambda: two

@app.task(name="unpicklable")
def unpicklable(tenant=None):
    raise Unpicklable("this", "that")

@app.task(name="soft", soft_time_limit=1)
def soft(tenant=None):
    time.sleep(60)

@app.task(name="send_naive")
def send_naive(tenant=None):
    from datetime import datetime, timedelta, timezone
    at = datetime.now(timezone.utc).replace(tzinfo=None) + timedelta(seconds=1)
    nap.apply_async(kwargs={"tenant": "naive"}, eta=at)

@app.task(name="mark")
def mark(path, word, until=None):
    with open(path, "a") as file:
        file.write(word + "\\n")
    while until is not None and not os.path.exists(until):
        time.sleep(0.02)

@app.task(name="hang_once")
def hang_once(path, word):
    first = not os.path.exists(path)
    with open(path, "a") as file:
        file.write(word + "\\n")
    if first:
        time.sleep(600)

@app.task(name="leave")
def leave():
    raise SystemExit(3)

@app.task(name="in_place")
def in_place(path):
    for _ in range(20):
        fail.apply()
    gc.collect()
    with open(path, "w") as file:
        file.write(str(sum(type(it) is LookupError for it in gc.get_objects())))

@control_command()
def hang_loop(state, until=None):
    while not os.path.exists(until):
        time.sleep(0.02)
    return "ok"

@app.task(name="fail_once")
def fail_once(path, word):
    first = not os.path.exists(path)
    with open(path, "a") as file:
        file.write(word + "\\n")
    if first:
        raise LookupError("not the first time")

@app.task(name="die_once")
def die_once(marker, tenant=None):
    if not os.path.exists(marker):
        open(marker, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
"""


def until(
    read: Callable[[], T],
    is_enough: Callable[[T], bool],
    seconds: float = 120,
    *,
    pause_seconds: float = 0.1,
) -> T:
    """Read until it is enough; the last value is in the failure. What takes a processor's time to
    be read is read with longer pauses.
    """
    deadline = time.monotonic() + seconds
    while True:
        value = read()
        if is_enough(value):
            return value
        assert time.monotonic() < deadline, f"still {value!r}"
        time.sleep(pause_seconds)


@dataclass(frozen=True)
class Scrape:
    """The result of one scrape."""

    samples: dict[tuple[str, frozenset[tuple[str, str]]], float]

    def value(self, name: str, **labels: str) -> float | None:
        return self.samples.get((name, frozenset(labels.items())))

    def sum(self, name: str, **labels: str) -> float:
        """The sum over all series that have at least these labels."""
        wanted = labels.items()
        return sum(v for (n, have), v in self.samples.items() if n == name and wanted <= have)

    @property
    def names(self) -> set[str]:
        return {name for name, _ in self.samples}


def scrape(port: int) -> Scrape:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    return Scrape(
        {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }
    )


@dataclass(frozen=True)
class Worker:
    """A worker of the shop."""

    process: PythonProcess
    port: int
    store: JobStore
    log: Path
    name: str

    def scrape(self) -> Scrape:
        return scrape(self.port)

    def ended(self, count: int) -> Scrape:
        """The scrape once this many attempts have ended."""
        return until(
            self.scrape, lambda seen: seen.sum("ai_agents_enhancement_jobs_total") >= count
        )

    def at_rest(self, count: int) -> Scrape:
        """The scrape once this many attempts have ended and none runs."""
        return until(
            lambda: self.ended(count),
            lambda seen: seen.sum("ai_agents_enhancement_jobs_in_flight") == 0,
        )


class Shop:
    """The project, its broker, and how to send it jobs."""

    def __init__(
        self,
        folder: Path,
        broker_url: str,
        python: str = sys.executable,
        project: str = PROJECT,
    ) -> None:
        """``python`` is of the environment that the shop runs in; ``project`` its code."""
        self.folder = folder
        self._python = python
        self.broker_url = broker_url
        (folder / "shop.py").write_text(project, "utf-8")
        # Workers talk through sockets there, whose paths must be short.
        self._temporary = tempfile.TemporaryDirectory(prefix="shop-")
        self._running = ExitStack()
        self._count = 0
        self._customer: subprocess.Popen[str] | None = None
        self._customers_clock: MachineClock | None = None

    def start_worker(
        self,
        *arguments: str,
        beside: bool = False,
        clock: MachineClock | None = None,
        **environment: str,
    ) -> Worker:
        """The only one that runs, unless it stands ``beside`` the last; its machine may have a
        ``clock`` of its own.
        """
        if not beside:
            self._end_workers()
        self._count += 1
        port = int(environment.get("QUEUESCOPE_METRICS_PORT", free_port()))
        url = f"sqlite:///{self.folder / f'jobs-{self._count}.db'}"
        log = self.folder / f"worker-{self._count}.log"
        log.touch()
        process = start_python(
            "celery.__main__",
            [
                *("-A", "shop", "worker", "-l", "INFO", "--without-mingle", "--without-gossip"),
                *("-c", "2", "-Q", "orders,express", "-n", f"w{self._count}@shop"),
                *arguments,
            ],
            environment={
                **{k: v for k, v in os.environ.items() if not k.startswith("QUEUESCOPE_")},
                "SHOP_BROKER": self.broker_url,
                "SHOP_TIMINGS": repr(QUICK),
                "TMPDIR": self._temporary.name,
                "QUEUESCOPE_METRICS_PORT": str(port),
                "QUEUESCOPE_JOB_STORE_URL": url,
                **environment,
            },
            folder=self.folder,
            log=log,
            command=None if self._python == sys.executable else [self._python],
            machine=Machine(clock),
        )
        self._running.callback(_end, process)
        text = until(log.read_text, lambda t: "ready." in t or process.poll() is not None)
        assert "ready." in text, f"the worker has ended: {text}"
        store = JobStore(url)
        self._running.callback(store.close)
        return Worker(process, port, store, log, f"w{self._count}@shop")

    def send(self, name: str, options: dict[str, Any] | None = None, **kwargs: Any) -> str:
        """A job from the shop's own code, in a process that is no worker; returns its id."""
        if self._customer is None:
            self._customer = self._start_customer()
        stdin, stdout = self._customer.stdin, self._customer.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps([name, kwargs, options or {}]) + "\n")
        stdin.flush()
        return stdout.readline().strip()

    def set_customers_clock(self, clock: MachineClock | None) -> None:
        """Jobs are sent from another machine from now on."""
        self._end_customer()
        self._customers_clock = clock

    def _start_customer(self) -> subprocess.Popen[str]:
        sender, clock = self.folder / "send.py", self._customers_clock
        sender.write_text(
            "import sys, json\nfrom shop import app\n"
            "for line in sys.stdin:\n"
            "    name, kwargs, options = json.loads(line)\n"
            "    print(app.send_task(name, kwargs=kwargs, **options).id, flush=True)\n",
            "utf-8",
        )
        return subprocess.Popen(
            [self._python, str(sender)],
            cwd=self.folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "SHOP_BROKER": self.broker_url,
                "SHOP_TIMINGS": repr(QUICK),
                **({} if clock is None else {"PYTHONPATH": clock.path}),
            },
        )

    def app(self) -> Celery:
        """An app for commands to workers."""
        return Celery("control", broker=self.broker_url, set_as_current=False)

    def clear(self) -> None:
        """End the workers and empty the broker, in this order: what a worker reports in between
        would stay, and be a lost worker.
        """
        self._end_workers()
        with redis.Redis.from_url(self.broker_url) as client:
            client.flushall()

    def close(self) -> None:
        self._end_workers()
        self._end_customer()
        self._temporary.cleanup()

    def _end_workers(self) -> None:
        self._running.close()

    def _end_customer(self) -> None:
        if self._customer is not None:
            with self._customer as customer:
                assert customer.stdin is not None
                customer.stdin.close()
            self._customer = None


def wait_for_commands(app: Celery, workers: int = 1) -> None:
    """A worker is ready for jobs a moment before it receives commands."""
    until(lambda: app.control.ping(timeout=1) or [], lambda heard: len(heard) == workers)


class Evidence:
    """What jobs have really done: one line each, in the order of their starts."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._end = path.with_suffix(".end")

    @property
    def words(self) -> list[str]:
        return self._path.read_text("utf-8").split() if self._path.exists() else []

    def send(self, shop: Shop, word: str, queue: str = "orders") -> str:
        return shop.send("mark", {"queue": queue}, path=str(self._path), word=word)

    def send_long(self, shop: Shop, word: str, queue: str = "orders") -> str:
        """A job that goes on until ``release``."""
        return shop.send(
            *("mark", {"queue": queue}), path=str(self._path), word=word, until=str(self._end)
        )

    def release(self) -> None:
        self._end.touch()


def _end(process: PythonProcess) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.fixture(scope="module")
def broker_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with RealBroker(tmp_path_factory.mktemp("broker")) as server:
        yield server.url


@pytest.fixture(scope="module")
def python() -> str:
    """What the shop's workers run in; a module may have an environment of its own."""
    return sys.executable


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, broker_url: str, python: str) -> Iterator[Shop]:
    made = Shop(tmp_path_factory.mktemp("shop"), broker_url, python)
    yield made
    made.close()


@pytest.fixture
def evidence(tmp_path: Path) -> Evidence:
    return Evidence(tmp_path / "evidence")
