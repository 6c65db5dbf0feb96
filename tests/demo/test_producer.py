"""The demo's platform, live: real broker, real worker, the producer's jobs."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.metric_names import series_names
from tests.ports import free_port
from tests.real_broker import RealBroker

from queuescope.demo.past import Targets, make_past, sample_times
from queuescope.demo.samples import samples
from queuescope.instrument.metrics import CATALOGUE, Origin


@pytest.fixture
def running() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def start(
    stack: ExitStack, log: Path, environment: dict[str, str], *argv: str
) -> subprocess.Popen[bytes]:
    to = stack.enter_context(log.open("wb"))
    process = subprocess.Popen(
        [sys.executable, "-m", *argv],
        stdout=to,
        stderr=to,
        env={**os.environ, **environment},
        start_new_session=True,
    )

    def end() -> None:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    stack.callback(end)
    return process


def series_of(port: int) -> dict[str, float]:
    """Each series of ``/metrics`` by its text."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        lines = answer.read().decode().splitlines()
    return {
        line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines if line[0] != "#"
    }


def ended(port: int) -> float:
    found = series_of(port).items()
    return sum(
        value for name, value in found if name.startswith("ai_agents_enhancement_jobs_total")
    )


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_the_live_platform_exports_the_series_of_its_past_and_outlives_a_broker_restart(
    running: ExitStack, tmp_path: Path
) -> None:
    broker = running.enter_context(RealBroker(tmp_path / "broker"))
    port = free_port()
    environment = {
        "QUEUESCOPE_BROKER_URL": broker.url,
        "QUEUESCOPE_METRICS_PORT": str(port),
    }
    worker_log = tmp_path / "worker.log"
    command = ("celery", "-A", "queuescope.demo.platform", "worker")
    name = "worker-1@demo"
    options = ("-c", "4", "-Q", "priority,default", "-l", "INFO", "--without-mingle", "-n", name)
    worker = start(running, worker_log, environment, *command, *options)
    wait_for(lambda: "ready." in worker_log.read_text())
    fresh = series_of(port)
    producer = start(
        *(running, tmp_path / "producer.log", environment, "queuescope.demo.producer"),
        "--keep-workers",
    )
    wait_for(lambda: ended(port) >= 3)

    broker.stop()
    wait_for(lambda: "does not answer" in (tmp_path / "producer.log").read_text())
    broker.start()
    wait_for(lambda: "answers again" in (tmp_path / "producer.log").read_text())
    # A worker whose unacknowledged jobs Celery cannot give back to the lost broker ends itself;
    # whatever supervises it starts it again.
    wait_for(lambda: worker.poll() is not None or worker_log.read_text().count("Connected to") > 1)
    if worker.poll() is not None:
        second_log = tmp_path / "second-worker.log"
        start(running, second_log, environment, *command, *options)
        wait_for(lambda: "ready." in second_log.read_text())
    before = ended(port)
    wait_for(lambda: ended(port) >= before + 3)
    live = series_of(port)

    producer.send_signal(signal.SIGTERM)
    assert producer.wait(120) == 0

    past = make_past(days=1, end=1_789_948_800, seed=1)
    known = {
        (one.name, frozenset(pair for pair in one.labels if pair[0] not in {"job", "instance"}))
        for one in samples(past, sample_times(past)[-2:], Targets(worker_names=(name, name)))
        if one.metric.origin is Origin.WORKER
    }
    # Histograms of a tenant appear with its first job; everything else exists from the start.
    assert {shape(name) for name in live} <= known
    late = {n for n in known if "latency_seconds" in n[0]}
    assert {shape(name) for name in fresh} == known - late
    assert {name for name, _ in known} == series_names(
        m for m in CATALOGUE if m.origin is Origin.WORKER
    )


def shape(series: str) -> tuple[str, frozenset[tuple[str, str]]]:
    """A series without the labels that Prometheus adds."""
    name, _, inside = series.partition("{")
    labels = re.findall(r'(\w+)="([^"]*)"', inside)
    return name, frozenset((n, v) for n, v in labels if n not in {"job", "instance"})
