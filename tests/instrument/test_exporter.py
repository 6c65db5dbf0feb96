"""The exporter against a real broker: depth, age and workers, and what an outage looks like."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from celery import Celery
from tests.instrument.conftest import PROJECT, Shop, scrape, until
from tests.ports import free_port
from tests.real_broker import RealBroker

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
        assert process.wait(120) == 0


def test_an_outage_shows_as_absence_and_heals_by_itself(
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


def test_the_exporter_counts_workers_and_exports_what_the_catalogue_declares(
    shop: Shop, tmp_path: Path
) -> None:
    shop.start_worker()
    with exporter(shop.broker_url, tmp_path / "log") as port:
        seen = until(lambda: scrape(port), lambda s: s.value("ai_agents_workers_up") == 1.0)
    declared = {metric.name() for metric in CATALOGUE if metric.origin is Origin.EXPORTER}
    assert seen.names == declared


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


def test_of_a_broker_that_cannot_be_read_it_tells_who_answers(
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
        with exporter("filesystem://", log, "--transport-options", json.dumps(options)) as port:
            seen = until(lambda: scrape(port), lambda s: s.value("ai_agents_workers_up") == 1.0)
        assert seen.names == {"ai_agents_workers_up", "ai_agents_broker_up"}
        assert seen.value("ai_agents_broker_up") == 1.0
        assert "queue depth and age are told of Redis and Valkey alone" in log.read_text()
    finally:
        shop.close()


def test_a_broker_of_another_kind_that_is_away_is_told_as_away(tmp_path: Path) -> None:
    address = f"amqp://guest:secret@127.0.0.1:{free_port()}//"
    with exporter(address, tmp_path / "log") as port:
        seen = until(lambda: scrape(port), lambda s: bool(s.samples))
    assert seen.samples == {("ai_agents_broker_up", frozenset()): 0.0}
    assert "the broker is RabbitMQ" in (tmp_path / "log").read_text()
    assert "secret" not in (tmp_path / "log").read_text()
