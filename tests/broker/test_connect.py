"""Only the address decides the implementation of a broker."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from celery import Celery
from kombu.transport import TRANSPORT_ALIASES

from queuescope.broker import protocol
from queuescope.broker.connect import broker_for, kind_of_broker, worker_connection_for
from queuescope.errors import ConfigurationError, UnsupportedBrokerError

SECRET = "hunter2-secret"
_ELSEWHERE = sorted({*TRANSPORT_ALIASES, "sqla+postgresql"} - {"redis", "rediss", "sentinel"})


@pytest.mark.parametrize("scheme", _ELSEWHERE)
def test_another_kind_of_broker_is_named(scheme: str) -> None:
    """Every one that Celery takes."""
    with pytest.raises(UnsupportedBrokerError, match="only Redis and Valkey") as caught:
        broker_for(f"{scheme}://user:{SECRET}@host")
    assert "of the kind" not in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("url", [f"http://:{SECRET}@host", SECRET, "", "redis://[x"])
def test_an_invalid_broker_address_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ConfigurationError, match="redis://host") as caught:
        broker_for(url)
    assert SECRET not in str(caught.value)


def test_the_files_listed_for_another_broker_exist() -> None:
    root = Path(__file__).parents[2]
    text = (root / "docs" / "architecture.md").read_text("utf-8")
    part = text.partition("## To add a broker")[2].partition("\n## ")[0]
    files = re.findall(r"^\| `([^`]+)` \|", part, re.MULTILINE)
    assert len(files) >= 4
    assert all((root / file).is_file() for file in [*files, "tests/broker/memory.py"])
    for name in re.findall(r"`(Broker|PurgeSteps|WorkerConnection)`", part):
        assert hasattr(protocol, name)
    assert "TRANSPORTS" in (root / "tests/broker/test_contract.py").read_text("utf-8")


def test_a_worker_connects_where_the_dashboard_does() -> None:
    for url, is_supported in (
        ("redis://127.0.0.1:1/0", True),
        ("sentinel://127.0.0.1:1/0;sentinel://127.0.0.1:2/0", True),
        ("amqp://127.0.0.1:1", False),
    ):
        with Celery("shop", broker=url, set_as_current=False) as app:
            assert (worker_connection_for(app) is not None) == is_supported
            if not is_supported:
                assert kind_of_broker(app) == "RabbitMQ"
