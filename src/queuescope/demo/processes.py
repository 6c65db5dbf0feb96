"""Starts, watches, restarts and ends the services of the local stack, without leaving any behind.

Each service is the leader of its own process group. A watchdog process holds a pipe to the
supervisor and ends all groups when the supervisor ends, even by ``kill -9``; the supervisor in turn
replaces a watchdog that ends. A service starts only after the watchdog knows it, so no kill can
leave one behind. All of this runs on the main thread: on Linux the kernel asks services to stop
when the *thread* that started them ends.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

from queuescope.demo import watchdog
from queuescope.errors import DemoError

Say = Callable[[str], None]

_POLL_SECONDS = 0.1
_LONGEST_BACKOFF_SECONDS = 30.0
_SETTLED_SECONDS = 60.0
_ATTEMPTS_BEFORE_READY = 4
_TASK_GRACE_SECONDS = 1.0
_LOG_LIMIT_BYTES = 5_000_000
_LOG_CHECK_SECONDS = 10.0
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Waits for a line on standard input before it becomes the service; ends at the end of input.
_START_ON_INPUT = 'read -r go && exec "$@" </dev/null'


class StopRequestedError(Exception):
    """The supervisor was asked to stop; this is not an error."""


@dataclass(frozen=True, slots=True)
class Service:
    """A program that runs while the stack does."""

    name: str
    argv: tuple[str, ...]
    is_ready: Callable[[], bool] = lambda: True
    environment: Mapping[str, str] = field(default_factory=dict)
    stop_grace_seconds: float = 5.0
    pause_after_clean_end_seconds: float = 0.5
    """How long it stays down after it ended by itself without an error."""
    stops_last: bool = False
    """Whether others need it while they stop, like workers their broker."""


@dataclass(slots=True)
class _Process:
    service: Service
    popen: subprocess.Popen[bytes] | None = None
    asked_at: float = 0.0
    started_at: float = 0.0
    failures: int = 0
    restart_at: float = 0.0
    was_ready: bool = False


class Supervisor:
    """Runs services and one-off tasks, with their logs in one directory.

    Use it as a context manager on the main thread: leaving it stops everything. ``held`` are file
    descriptors that the watchdog keeps open, such as a lock that must be held until the services
    of a killed supervisor have ended.
    """

    def __init__(self, log_dir: Path, say: Say, *, held: Iterable[int] = ()) -> None:
        self._log_dir = log_dir
        self._say = say
        self._held = tuple(held)
        self._processes: dict[str, _Process] = {}
        self._task: subprocess.Popen[bytes] | None = None
        self._watchdog: subprocess.Popen[bytes] | None = None
        self._stop_requests = 0
        self._previous_handlers: dict[signal.Signals, object] = {}
        self._logs_checked_at = 0.0

    def __enter__(self) -> Self:
        self._log_dir.mkdir(parents=True, exist_ok=True)
        for number in _STOP_SIGNALS:
            self._previous_handlers[number] = signal.signal(number, self._on_stop_signal)
        self._start_watchdog()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.stop()
        finally:
            for number, handler in self._previous_handlers.items():
                signal.signal(number, handler)  # type: ignore[arg-type]

    def start(self, service: Service) -> None:
        """Start a service; whenever it ends, it is restarted after a growing pause."""
        process = _Process(service, asked_at=time.monotonic())
        self._processes[service.name] = process
        self._launch(process)

    def wait_until_ready(self, names: Iterable[str], *, timeout_seconds: float) -> None:
        """Wait for services, and print how long each took.

        Raises ``DemoError`` with the end of the log if a service keeps ending or takes too long,
        and ``StopRequestedError`` if a stop was requested.
        """
        waiting = {name: self._processes[name] for name in names}
        deadline = time.monotonic() + timeout_seconds
        while waiting := {name: p for name, p in waiting.items() if not p.was_ready}:
            for name, process in waiting.items():
                if process.failures >= _ATTEMPTS_BEFORE_READY:
                    raise DemoError(
                        f"{name} keeps ending before it is ready; {self._log_end(name)}"
                    )
            if time.monotonic() > deadline:
                name = next(iter(waiting))
                raise DemoError(
                    f"{name} was not ready within {timeout_seconds:.0f} s; {self._log_end(name)}"
                )
            self.pause(_POLL_SECONDS)

    def run(
        self,
        name: str,
        argv: Iterable[str],
        environment: Mapping[str, str] | None = None,
        *,
        is_visible: bool = False,
    ) -> None:
        """Run a one-off task to its end while the services are watched.

        Its output goes to its log, or to the terminal if ``is_visible``; its standard error always
        goes to the log. Raises ``DemoError`` with the end of the log if it fails.
        """
        task = self._spawn(name, tuple(argv), environment or {}, is_visible=is_visible)
        self._task = task
        self._send_to_watchdog(f"+{task.pid} {_TASK_GRACE_SECONDS:g}")
        self._let_start(task)
        try:
            while not _has_ended(task):
                self.pause(_POLL_SECONDS)
        finally:
            self._end_group(task)
            self._task = None
        if task.returncode:
            raise DemoError(
                f"{name} failed ({_how_it_ended(task.returncode)}); {self._log_end(name)}"
            )

    def supervise(self) -> None:
        """Watch the services until a stop is requested."""
        with suppress(StopRequestedError):
            while True:
                self.pause(_POLL_SECONDS)

    def pause(self, seconds: float) -> None:
        """Wait while everything is watched.

        Raises ``StopRequestedError`` as soon as a stop is requested.
        """
        until = time.monotonic() + seconds
        while True:
            if self._stop_requests:
                raise StopRequestedError
            self._look_after()
            left = until - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, _POLL_SECONDS))

    def stop(self) -> None:
        """Stop every service, first with SIGTERM; a second stop signal kills at once."""
        for last in (False, True):
            left = {
                process.popen.pid: (process.popen, process.service.stop_grace_seconds)
                for process in self._processes.values()
                if process.service.stops_last is last and process.popen is not None
            }
            began = time.monotonic()
            for popen, _ in left.values():
                # Only the leader, which ends its children itself, since they may be running jobs.
                _signal(os.kill, popen.pid, signal.SIGTERM)
            while left:
                is_urgent = self._stop_requests > 1
                for pid, (popen, grace) in list(left.items()):
                    if _has_ended(popen) or is_urgent or time.monotonic() - began > grace:
                        self._end_group(popen)
                        del left[pid]
                if left:
                    time.sleep(0.05)
        self._processes.clear()
        if self._watchdog is not None and self._watchdog.stdin is not None:
            self._watchdog.stdin.close()
            self._watchdog.wait()
            self._watchdog = None

    def _look_after(self) -> None:
        now = time.monotonic()
        if self._watchdog is None or self._watchdog.poll() is not None:
            self._say("The watchdog ended; starting another one.")
            self._start_watchdog()
        for process in self._processes.values():
            if process.popen is None:
                if now >= process.restart_at:
                    self._launch(process)
            elif _has_ended(process.popen):
                self._note_end(process, now)
            elif not process.was_ready and process.service.is_ready():
                process.was_ready = True
                seconds = time.monotonic() - process.asked_at
                self._say(f"  {process.service.name:<12} ready {seconds:7.1f} s")
        if now - self._logs_checked_at > _LOG_CHECK_SECONDS:
            self._logs_checked_at = now
            for log in self._log_dir.glob("*.log"):
                bound_log(log)

    def _note_end(self, process: _Process, now: float) -> None:
        popen = process.popen
        if popen is None:
            return
        self._end_group(popen)
        process.popen = None
        if now - process.started_at > _SETTLED_SECONDS:
            process.failures = 0
        pause_seconds = min(_LONGEST_BACKOFF_SECONDS, 0.5 * 2**process.failures)
        if popen.returncode == 0:
            pause_seconds = max(pause_seconds, process.service.pause_after_clean_end_seconds)
        process.failures += 1
        process.restart_at = now + pause_seconds
        self._say(
            f"{process.service.name} {_how_it_ended(popen.returncode)}; "
            f"it restarts in {pause_seconds:g} s (log: {self._log(process.service.name)})"
        )

    def _launch(self, process: _Process) -> None:
        service = process.service
        popen = self._spawn(service.name, service.argv, service.environment)
        process.popen = popen
        process.started_at = time.monotonic()
        self._send_to_watchdog(f"+{popen.pid} {service.stop_grace_seconds:g}")
        self._let_start(popen)

    def _spawn(
        self,
        name: str,
        argv: tuple[str, ...],
        environment: Mapping[str, str],
        *,
        is_visible: bool = False,
    ) -> subprocess.Popen[bytes]:
        log = self._log(name)
        bound_log(log)
        # In append mode the log can be truncated while the service has it open.
        with log.open("ab") as out:
            return subprocess.Popen(
                [*_death_signal(), "/bin/sh", "-c", _START_ON_INPUT, name, *argv],
                stdin=subprocess.PIPE,
                stdout=None if is_visible else out,
                stderr=out,
                bufsize=0,
                env={**os.environ, **environment},
                start_new_session=True,
            )

    def _let_start(self, popen: subprocess.Popen[bytes]) -> None:
        if popen.stdin is None:
            return
        # If it was killed meanwhile, it is found as an ended process.
        with suppress(BrokenPipeError), popen.stdin as pipe:
            pipe.write(b"go\n")

    def _end_group(self, popen: subprocess.Popen[bytes]) -> None:
        # The leader is reaped last: until then its process id cannot be reused.
        _signal(os.killpg, popen.pid, signal.SIGKILL)
        self._send_to_watchdog(f"-{popen.pid}")
        popen.wait()

    def _start_watchdog(self) -> None:
        previous = self._watchdog
        self._watchdog = subprocess.Popen(
            [sys.executable, "-I", "-S", watchdog.__file__],
            stdin=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
            pass_fds=self._held,
            cwd="/",
        )
        if previous is not None and previous.stdin is not None:
            previous.stdin.close()
            previous.wait()
        for process in self._processes.values():
            if process.popen is not None:
                self._send_to_watchdog(
                    f"+{process.popen.pid} {process.service.stop_grace_seconds:g}"
                )
        if self._task is not None:
            self._send_to_watchdog(f"+{self._task.pid} {_TASK_GRACE_SECONDS:g}")

    def _send_to_watchdog(self, command: str) -> None:
        if self._watchdog is None or self._watchdog.stdin is None:
            return
        # A dead watchdog is replaced soon, and the new one gets all commands again.
        with suppress(BrokenPipeError):
            self._watchdog.stdin.write(f"{command}\n".encode())

    def _on_stop_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._stop_requests += 1

    def _log(self, name: str) -> Path:
        return self._log_dir / f"{name}.log"

    def _log_end(self, name: str) -> str:
        lines = self._log(name).read_text("utf-8", "replace").strip().splitlines()[-8:]
        return f"the end of {self._log(name)}:\n" + "\n".join(f"  {line}" for line in lines)


def bound_log(log: Path, *, limit_bytes: int = _LOG_LIMIT_BYTES) -> None:
    """Keep a log below ``limit_bytes``: move its content to ``NAME.log.1`` and truncate it.

    The file itself is kept, since a running service appends to it.
    """
    if log.exists() and log.stat().st_size > limit_bytes:
        shutil.copyfile(log, log.with_name(f"{log.name}.1"))
        os.truncate(log, 0)


@cache
def _death_signal() -> tuple[str, ...]:
    # A second safeguard in case supervisor and watchdog are killed at the same moment.
    argv = ("setpriv", "--pdeathsig", "TERM", "--")
    try:
        is_known = subprocess.run([*argv, "true"], check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        is_known = False
    return argv if is_known else ()


def _has_ended(popen: subprocess.Popen[bytes]) -> bool:
    """Whether the process has ended, without reaping it if the system allows that."""
    if popen.returncode is not None:
        return True
    if hasattr(os, "waitid"):
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, popen.pid, flags) is not None
    return popen.poll() is not None


def _how_it_ended(returncode: int) -> str:
    if returncode < 0:
        return f"was killed by {signal.Signals(-returncode).name}"
    return f"ended with status {returncode}"


def _signal(send: Callable[[int, int], None], target: int, number: signal.Signals) -> None:
    # The process may have ended, or on some systems be a zombie.
    with suppress(ProcessLookupError, PermissionError):
        send(target, number)
