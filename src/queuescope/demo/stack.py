"""Runs the whole platform locally: broker, workers, producer, exporter, Prometheus, dashboard.

All its data are in one data directory. The history is created at the first start; later starts
continue it, and the time in which the stack did not run stays a gap, since nothing was measured.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

from queuescope.demo import prometheus_binaries
from queuescope.demo.lock import DataLock
from queuescope.demo.processes import Say, StopRequestedError, Supervisor
from queuescope.demo.services import (
    LOOPBACK,
    StackLayout,
    broker_answers,
    broker_service,
    dashboard_service,
    exporter_service,
    producer_service,
    prometheus_service,
    worker_services,
    write_prometheus_configuration,
)
from queuescope.demo.workload import WORKERS
from queuescope.errors import DemoError
from queuescope.operator_key import operator_key
from queuescope.ports import free_port, listen, port_of

DEFAULT_HISTORY_DAYS = 14

_PREFERRED_PORTS = {"prometheus": 9090, "broker": 6390, "exporter": 9541, "workers": 9551}
_READY_SECONDS = 90.0


@dataclass(frozen=True, slots=True)
class StackOptions:
    """The options of a start. Without a ``broker_url`` the embedded broker is started;
    ``requires_key`` means that operations need the operator's key.
    """

    data_dir: Path
    host: str = LOOPBACK
    port: int = 8501
    port_may_move: bool = True
    history_days: float = DEFAULT_HISTORY_DAYS
    broker_url: str | None = None
    requires_key: bool = True
    base_path: str = ""


def run_stack(options: StackOptions, say: Say) -> None:
    """Start everything, print the dashboard's address, and run until a stop is requested.

    Must run on the main thread. Raises ``DemoError`` if the stack cannot be set up and
    ``ConfigurationError`` for a busy port that must not change.
    """
    began = time.monotonic()
    project = _project_dir()
    options = replace(options, data_dir=options.data_dir.resolve())
    # Files of the stack and its services belong to the user who started it alone.
    os.umask(0o077)
    with DataLock(options.data_dir) as lock:
        layout = _layout(options, say)
        held = (lock.watchdog_descriptor,)
        with Supervisor(options.data_dir / "logs", say, held=held) as supervisor:
            try:
                _start(supervisor, layout, options, project, say)
                lock.announce(layout.dashboard_url)
                say(f"Dashboard: {layout.dashboard_url}")
                if options.requires_key:
                    say(f"To act: {operator_key(options.data_dir).link(layout.dashboard_url)}")
                say(
                    f"Ready after {time.monotonic() - began:.1f} s; Prometheus: "
                    f"{layout.prometheus_url}; logs: {options.data_dir / 'logs'}; Ctrl-C stops all."
                )
                supervisor.supervise()
            except StopRequestedError:
                pass
            say("Stopping …")
        say("Stopped; nothing is left running.")


def _layout(options: StackOptions, say: Say) -> StackLayout:
    with listen(options.host, options.port, may_move=options.port_may_move) as listener:
        dashboard_port = port_of(listener)
    if options.port not in (0, dashboard_port):
        say(f"Port {options.port} is busy; the dashboard uses port {dashboard_port}.")
    taken = {dashboard_port}

    def port(preferred: int) -> int:
        found = free_port(preferred, taken=frozenset(taken))
        taken.add(found)
        return found

    broker_port = port(_PREFERRED_PORTS["broker"])
    return StackLayout(
        data_dir=options.data_dir,
        broker_url=options.broker_url or f"redis://{LOOPBACK}:{broker_port}/0",
        broker_port=broker_port,
        prometheus_port=port(_PREFERRED_PORTS["prometheus"]),
        exporter_port=port(_PREFERRED_PORTS["exporter"]),
        worker_ports=tuple(port(_PREFERRED_PORTS["workers"] + n) for n in range(WORKERS)),
        dashboard_host=options.host,
        dashboard_port=dashboard_port,
        base_path=options.base_path,
    )


def _start(
    supervisor: Supervisor, layout: StackLayout, options: StackOptions, project: Path, say: Say
) -> None:
    if options.broker_url is None:
        supervisor.start(broker_service(layout))
    elif not broker_answers(options.broker_url):
        raise DemoError("the broker of --broker-url does not answer; start it or omit the option")
    binaries_dir = project / ".prometheus"
    binaries = prometheus_binaries.installed(binaries_dir)
    if binaries is None:
        say("Prometheus is not installed; unpacking the distribution's package in the project.")
        supervisor.run(
            "unpack",
            [sys.executable, "-P", "-m", "queuescope.demo.prometheus_binaries", str(binaries_dir)],
        )
        binaries = prometheus_binaries.installed(binaries_dir)
        if binaries is None:
            raise DemoError(f"Prometheus was unpacked to {binaries_dir}, but is missing there")
    needs_history = not layout.history_marker.exists()
    samples = layout.data_dir / "samples"
    if needs_history:
        _remove_unfinished_history(layout, samples)
    makes_history = needs_history and options.history_days > 0
    if makes_history:
        _write_history(supervisor, layout, samples, options.history_days, say)
    elif not needs_history:
        _report_kept_history(layout, options.history_days, say)
    if options.broker_url is None:
        supervisor.wait_until_ready(["broker"], timeout_seconds=_READY_SECONDS)
    measured = [*worker_services(layout), producer_service(layout), exporter_service(layout)]
    for service in measured:
        supervisor.start(service)
    if makes_history:
        _load_history(supervisor, layout, samples, binaries.promtool)
    if needs_history:
        shutil.rmtree(samples, ignore_errors=True)
        layout.history_marker.write_text(json.dumps({"days": options.history_days}), "utf-8")
    write_prometheus_configuration(layout, project)
    supervisor.start(prometheus_service(layout, binaries.prometheus, options.history_days))
    supervisor.start(dashboard_service(layout))
    names = [*(service.name for service in measured), "prometheus", "dashboard"]
    supervisor.wait_until_ready(names, timeout_seconds=_READY_SECONDS)


def _remove_unfinished_history(layout: StackLayout, samples: Path) -> None:
    for directory in (samples, layout.tsdb_dir):
        shutil.rmtree(directory, ignore_errors=True)
    for leftover in layout.data_dir.glob("jobs.sqlite3*"):
        leftover.unlink()


def _write_history(
    supervisor: Supervisor, layout: StackLayout, samples: Path, days: float, say: Say
) -> None:
    began = time.monotonic()
    say(f"Creating {days:g} days of history, once:")
    samples.mkdir(parents=True)
    argv = ["write", "--samples", str(samples), "--days", str(days)]
    argv += ["--job-store-url", layout.job_store_url]
    supervisor.run("history", [*_BACKFILL, *argv], is_visible=True)
    say(f"  {'history':<12} made  {time.monotonic() - began:7.1f} s")


def _load_history(
    supervisor: Supervisor, layout: StackLayout, samples: Path, promtool: Path
) -> None:
    layout.tsdb_dir.mkdir(parents=True, exist_ok=True)
    argv = ["load", "--samples", str(samples), "--tsdb", str(layout.tsdb_dir)]
    supervisor.run("history", [*_BACKFILL, *argv, "--promtool", str(promtool)], is_visible=True)


_BACKFILL = (sys.executable, "-P", "-m", "queuescope.demo.backfill")


def _report_kept_history(layout: StackLayout, days: float, say: Say) -> None:
    try:
        made = json.loads(layout.history_marker.read_text("utf-8"))["days"]
    except (ValueError, KeyError, TypeError):
        made = None
    if made != days:
        say(
            f"The history was created at the first start ({made} days) and is kept; "
            f"for {days:g} days choose a new --data-dir."
        )


def _project_dir() -> Path:
    project = Path(__file__).resolve().parents[3]
    if not (project / "deploy" / "prometheus" / "prometheus.yml").is_file():
        raise DemoError(
            "the demo needs the project's files (deploy/prometheus); clone the project and use "
            "./run there, or serve the dashboard alone with `queuescope serve`"
        )
    return project
