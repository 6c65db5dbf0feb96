"""The exporter against a real broker: depth, age and workers, and what an outage looks like."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis
from celery import Celery
from tests.instrument.conftest import (
    PROJECT,
    Evidence,
    Scrape,
    Shop,
    scrape,
    until,
    wait_for_commands,
)
from tests.ports import free_port
from tests.real_broker import RealBroker
from tests.worker_reports import report

from queuescope.broker.redis.keys import Keys
from queuescope.broker.reports import encode
from queuescope.broker.worker import WorkerStatus
from queuescope.instrument.metrics import CATALOGUE, Origin

DEPTH = "ai_agents_queue_depth"
AGE = "ai_agents_queue_oldest_age_seconds"
SCHEDULED = "ai_agents_queue_scheduled"
RESERVED = "ai_agents_queue_reserved"
RATE_LIMITED = "ai_agents_rate_limited_jobs"
WORKERS = "ai_agents_workers"
SHARED = "ai_agents_worker_names_shared"


@contextmanager
def exporter(broker_url: str, log: Path, *arguments: str) -> Iterator[int]:
    port = free_port()
    with log.open("wb") as to:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "queuescope.instrument.exporter"),
                *("--broker-url", broker_url, "--queues", "orders,express"),
                *("--host", "127.0.0.1", "--port", str(port), *arguments),
            ],
            stdout=to,
            stderr=to,
        )
    try:
        until(log.read_text, lambda text: "metrics are served" in text)
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 0


def test_an_outage_shows_as_missing_samples_and_recovers(
    server: RealBroker, customer: Celery, tmp_path: Path
) -> None:
    customer.send_task("nap", queue="orders")
    with exporter(server.url, tmp_path / "log") as port:
        up = scrape(port)
        assert up.value("ai_agents_broker_up") == 1.0
        assert up.value(DEPTH, queue="orders") == 1.0
        server.stop()
        down = scrape(port)
        assert down.value("ai_agents_broker_up") == 0.0
        assert down.names == {"ai_agents_broker_up"}
        server.start()
        again = until(lambda: scrape(port), lambda s: s.value("ai_agents_broker_up") == 1.0)
        assert again.value(DEPTH, queue="orders") == 0.0


def test_the_exporter_exports_what_workers_report_as_the_catalogue_declares(
    shop: Shop, evidence: Evidence, tmp_path: Path
) -> None:
    """Each status has its number; without reports there is no sample, not even a zero."""
    declared = {metric.name() for metric in CATALOGUE if metric.origin is Origin.EXPORTER}
    shop.clear()
    with exporter(shop.broker_url, tmp_path / "log") as port:

        def seen(is_so: Callable[[Scrape], bool]) -> Scrape:
            return until(lambda: scrape(port), is_so)

        def workers(have: Scrape) -> dict[str, float]:
            return {
                status.name.lower(): value
                for status in WorkerStatus
                if (value := have.value(WORKERS, status=status.name.lower()))
            }

        none_up = seen(lambda s: s.value("ai_agents_workers_up") == 0.0)
        assert none_up.names == {
            *("ai_agents_broker_up", "ai_agents_workers_up"),
            *("ai_agents_queue_depth", "ai_agents_queue_oldest_age_seconds"),
        }
        first = shop.start_worker("-n", "twin@shop", "-c", "1", SHOP_PREFETCH="4")
        idle = seen(lambda s: s.names == declared)
        assert workers(idle) == {"idle": 1.0}
        assert {idle.value(WORKERS, status=s.name.lower()) for s in WorkerStatus} == {0.0, 1.0}
        assert idle.value(SCHEDULED, queue="orders") == idle.value(RATE_LIMITED) == 0.0
        # A limit holds back two, one more waits for its time, and one in the other queue.
        app = shop.app()
        wait_for_commands(app)
        app.control.rate_limit("nap", "1/h", reply=True, timeout=60, limit=1)
        app.close()
        for options in ({}, {}, {}, {"countdown": 600}, {"countdown": 600, "queue": "express"}):
            shop.send("nap", {"queue": "orders", **options})
        held = seen(
            lambda s: (
                s.value(RATE_LIMITED) == s.value(RESERVED, queue="orders") == 2.0
                and s.value(SCHEDULED, queue="express") == 1.0
                and s.value(SCHEDULED, queue="orders") == 1.0
            )
        )
        assert held.value(RESERVED, queue="express") == 0.0
        assert held.value(DEPTH, queue="orders") == held.value(DEPTH, queue="express") == 0.0
        assert workers(seen(lambda s: "rate_limited" in workers(s))) == {"rate_limited": 1.0}
        # Another of the same name runs a job while it shuts down.
        second = shop.start_worker("-n", "twin@shop", "-Q", "own", beside=True)
        assert seen(lambda s: s.value(SHARED) == 1.0).value("ai_agents_workers_up") == 2.0
        evidence.send_long(shop, "last", "own")
        seen(lambda s: workers(s) == {"rate_limited": 1.0, "active": 1.0})
        second.process.send_signal(signal.SIGTERM)
        ending = seen(lambda s: "shutting_down" in workers(s))
        assert workers(ending) == {"rate_limited": 1.0, "shutting_down": 1.0}
        assert ending.value(SHARED) == 0.0
        evidence.release()
        assert second.process.wait(120) == 0
        first.process.send_signal(signal.SIGTERM)
        assert first.process.wait(120) == 0
        # What happened to the jobs that a lost worker had fetched is unknown.
        with redis.Redis.from_url(shop.broker_url) as client:
            silent = report(at=time.time() - 60, scheduled=1, scheduled_queues={"orders": 1})
            client.hset(Keys().workers, "silent", encode(silent))
        lost = seen(lambda s: workers(s) == {"lost": 1.0})
        assert not {SCHEDULED, RESERVED, RATE_LIMITED} & lost.names


def test_a_busy_port_ends_the_exporter_with_a_reason(server: RealBroker, tmp_path: Path) -> None:
    with exporter(server.url, tmp_path / "log") as port:
        second = subprocess.run(
            [
                *(sys.executable, "-m", "queuescope.instrument.exporter"),
                *("--broker-url", server.url, "--host", "127.0.0.1", "--port", str(port)),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
    assert second.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in second.stderr


def test_for_an_unsupported_broker_the_workers_that_answer_are_counted(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A folder of files is a broker that Celery takes, too."""
    folders = {"data_folder_in": "mail", "data_folder_out": "mail", "control_folder": "control"}
    options = {name: str(tmp_path / folder) for name, folder in folders.items()}
    (tmp_path / "mail").mkdir()
    project = PROJECT + f"\napp.conf.broker_transport_options = {options!r}\n"
    shop = Shop(tmp_path_factory.mktemp("files"), "filesystem://", project=project)
    log = tmp_path / "log"
    try:
        worker = shop.start_worker("--pool", "solo")
        assert "the broker is a folder of files" in worker.log.read_text()
        # No broker's clock corrects this worker's clock.
        assert worker.scrape().value("ai_agents_worker_clock_ahead_seconds") is None
        with exporter("filesystem://", log, "--transport-options", json.dumps(options)) as port:
            seen = until(lambda: scrape(port), lambda s: s.value("ai_agents_workers_up") == 1.0)
        assert seen.names == {"ai_agents_workers_up", "ai_agents_broker_up"}
        assert seen.value("ai_agents_broker_up") == 1.0
        assert "queue depth and age need Redis or Valkey" in log.read_text()
    finally:
        shop.close()


def test_an_unsupported_broker_that_does_not_answer_is_exported_as_down(tmp_path: Path) -> None:
    address = f"amqp://guest:secret@127.0.0.1:{free_port()}//"
    with exporter(address, tmp_path / "log") as port:
        seen = until(lambda: scrape(port), lambda s: bool(s.samples))
    assert seen.samples == {("ai_agents_broker_up", frozenset()): 0.0}
    assert "the broker is RabbitMQ" in (tmp_path / "log").read_text()
    assert "secret" not in (tmp_path / "log").read_text()
