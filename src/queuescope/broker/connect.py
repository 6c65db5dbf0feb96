"""Chooses the implementation of a broker by its address; no other module does.

To add a broker, add its schemes here and a package beside ``redis`` that implements
``queuescope.broker.protocol``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from queuescope.broker.protocol import Broker, WorkerConnection
from queuescope.broker.redis.address import SCHEMES
from queuescope.broker.redis.broker import RedisBroker
from queuescope.broker.redis.worker_connection import RedisWorkerConnection
from queuescope.broker.timings import DEFAULT_TIMINGS, WorkerTimings
from queuescope.errors import ConfigurationError, UnsupportedBrokerError

_OTHER_BROKERS = {
    "amqp": "RabbitMQ",
    "amqps": "RabbitMQ",
    "pyamqp": "RabbitMQ",
    "librabbitmq": "RabbitMQ",
    "sqs": "Amazon SQS",
    "kafka": "Kafka",
    "confluentkafka": "Kafka",
    "gcpubsub": "Google Pub/Sub",
    "azureservicebus": "Azure Service Bus",
    "azurestoragequeues": "Azure Storage Queues",
    "mongodb": "MongoDB",
    "zookeeper": "ZooKeeper",
    "sqla": "an SQL database",
    "sqlalchemy": "an SQL database",
    "pgmq": "PGMQ",
    "qpid": "Qpid",
    "consul": "Consul",
    "etcd": "etcd",
    "pyro": "Pyro",
    "slmq": "SoftLayer Message Queue",
    "filesystem": "a folder of files",
    "memory": "the memory of one process",
}
"""Celery's other brokers, by the scheme of their addresses."""


def broker_for(
    url: str,
    *,
    key_prefix: str = "",
    transport_options: Mapping[str, Any] | None = None,
    timings: WorkerTimings = DEFAULT_TIMINGS,
) -> Broker:
    """The broker at ``url``, with the project's ``broker_transport_options``; connects to nothing
    yet. ``key_prefix`` is Celery's ``global_keyprefix``.

    Raises ``ConfigurationError`` if ``url`` is not the address of a broker, and its subclass
    ``UnsupportedBrokerError`` for a broker that Queuescope does not read.
    """
    # Of several addresses, as for Sentinels, the first one decides.
    scheme = url.partition(";")[0].strip().partition("://")[0]
    if scheme not in SCHEMES:
        raise _not_supported(scheme)
    return RedisBroker(
        url, key_prefix=key_prefix, transport_options=transport_options, timings=timings
    )


def worker_connection_for(app: Any) -> WorkerConnection | None:
    """The connection of a worker of the Celery ``app``; ``None`` if Queuescope does not support its
    broker. Connects to nothing yet.
    """
    return RedisWorkerConnection(app) if _scheme_of(app) in SCHEMES else None


def kind_of_broker(app: Any) -> str:
    """The usual name of the Celery ``app``'s broker, such as ``RabbitMQ``."""
    return _kind(_scheme_of(app))


def _scheme_of(app: Any) -> str:
    return str(app.connection_for_read().transport_cls)


def _kind(scheme: str) -> str:
    name = scheme.partition("+")[0]
    return _OTHER_BROKERS.get(name.lower(), f"of the kind {name}")


def _not_supported(scheme: str) -> ConfigurationError:
    if scheme.partition("+")[0].lower() not in _OTHER_BROKERS:
        return ConfigurationError(
            "broker_url is not the address of a Redis or Valkey server; use redis://host:6379/0"
        )
    return UnsupportedBrokerError(
        f"the broker is {_kind(scheme)}, and only Redis and Valkey are supported so far: "
        "live depth, workers and operations are not available"
    )
