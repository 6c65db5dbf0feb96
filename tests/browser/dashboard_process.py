"""The real dashboard server as a process of its own, as ``queuescope serve`` starts it."""

from __future__ import annotations

import http.client
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.machine import Machine, MachineClock
from tests.ports import free_port
from tests.prepared_python import PythonProcess, start_python

_READY_WITHIN_SECONDS = 120.0


class DashboardProcess:
    """``queuescope serve`` on a free port, which stays the same over restarts.

    ``settings`` are names and values as the environment gives them, such as
    ``selector='scene="known"'``. By default, timeouts are long, so that a slow machine does not
    look like an outage. Where ``disk_kilobytes`` is set before it starts, its data lie on a disk of
    their own; where ``is_privileged`` is cleared, files that may not be read are not read by root
    either; where ``clock_ahead`` is set, its machine's clock is ahead by so many seconds.
    """

    def __init__(self, directory: Path, prometheus_url: str, **settings: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.disk_kilobytes = 0
        self.is_privileged = True
        self.clock_ahead = 0.0
        self._data = directory / "data"
        self._directory = directory
        self._log = directory / "dashboard.log"
        self._process: PythonProcess | None = None
        self.port = free_port()
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("QUEUESCOPE_")}
        self._environment = {
            **inherited,
            "PROMETHEUS_URL": prometheus_url,
            "QUEUESCOPE_DATA_DIR": str(self._data),
            "QUEUESCOPE_PROMETHEUS_TIMEOUT_SECONDS": "20",
            **{f"QUEUESCOPE_{name.upper()}": value for name, value in settings.items()},
        }

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def key(self) -> str:
        """The operator's key of a running dashboard; empty if it needs none."""
        if self._environment.get("QUEUESCOPE_AUTHENTICATION", "none") != "none":
            return ""
        assert self._process is not None
        # No other process sees a disk of its own, unless as the process does.
        root = f"/proc/{self._process.pid}/root" if self.disk_kilobytes else ""
        return Path(f"{root}{self._data}/operator-key").read_text("ascii").strip()

    @property
    def log(self) -> str:
        """Its whole output."""
        return self._log.read_text("utf-8")

    def start(self) -> None:
        """Start it, and wait until it is alive."""
        self._process = self._launched()
        until = time.monotonic() + _READY_WITHIN_SECONDS
        while self.get("/healthz") != (200, "ok\n"):
            status = self._process.poll()
            if status is not None or time.monotonic() > until:
                self.kill()
                log = self.log if self._log.exists() else "(no output)"
                raise RuntimeError(f"the dashboard did not start (status {status}):\n{log}")
            time.sleep(0.05)

    @contextmanager
    def full_disk(self) -> Iterator[None]:
        """A context in which its own disk is full."""
        assert self._process is not None
        # No other process sees that disk, unless as the process does.
        filler = Path(f"/proc/{self._process.pid}/root{self._data}/filler")
        with filler.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(b"x" * 512)
        try:
            yield
        finally:
            filler.unlink()

    def _launched(self) -> PythonProcess:
        arguments = ["serve", f"--port={self.port}"]
        if self.disk_kilobytes:
            self._data.mkdir(exist_ok=True)
        machine = Machine(
            MachineClock(self._directory / "clock", self.clock_ahead) if self.clock_ahead else None,
            self._data if self.disk_kilobytes else None,
            self.disk_kilobytes,
            self.is_privileged,
        )
        return start_python(
            "queuescope.cli",
            arguments,
            environment=self._environment,
            folder=self._directory,
            log=self._log,
            machine=machine,
        )

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of one page; status 0 when nothing answers."""
        return get(self.port, path)

    def stop(self) -> None:
        """Freeze it: connections are accepted by the kernel, and no answer comes."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)
        while any(state != "T" for state in _states(self._process.pid)):
            time.sleep(0.01)

    def cont(self) -> None:
        """Let a frozen dashboard continue."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)

    def kill(self) -> None:
        """Kill it. Does nothing if it is not running."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()


def _states(pid: int) -> list[str]:
    """The name of each thread, as the kernel has it."""
    stats = Path(f"/proc/{pid}/task").glob("*/stat")
    return [stat.read_text("ascii", "replace").rpartition(")")[2].split()[0] for stat in stats]


def get(port: int, path: str, *, timeout_seconds: float = 30, user: str = "") -> tuple[int, str]:
    """Status and body of one page, as a proxy asks for it on behalf of ``user``."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_seconds)
    try:
        connection.request("GET", path, headers={"X-Forwarded-User": user} if user else {})
        response = connection.getresponse()
        return response.status, response.read().decode("utf-8")
    except (http.client.HTTPException, OSError):
        return 0, ""
    finally:
        connection.close()
