"""The supervisor, with small real programs as services."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from queuescope.demo.processes import Service, StopRequestedError, Supervisor, bound_log
from queuescope.errors import DemoError

# A service with a child process, like a worker; it prints both process ids.
FAMILY = ("sh", "-c", 'sleep 1000 & echo "$$ $!" >> "$0"; wait')
STUBBORN = ("sh", "-c", 'trap "" TERM; echo "$$ $$" >> "$0"; while :; do sleep 0.2; done')


def eventually(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, f"never happened: {what}"
        time.sleep(0.02)


def runs(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def pids_in(file: Path) -> list[list[int]]:
    """One entry per start of the service."""
    if not file.exists():
        return []
    return [[int(pid) for pid in line.split()] for line in file.read_text().splitlines()]


class Stage:
    """A supervisor in this process, and its output."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.said: list[str] = []
        self.supervisor = Supervisor(directory / "logs", self.said.append)

    def family(self, name: str, program: tuple[str, ...] = FAMILY) -> Path:
        file = self.directory / name
        ready = file.exists
        self.supervisor.start(
            Service(name, (*program, str(file)), is_ready=ready, stop_grace_seconds=0.5)
        )
        return file

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 120
        while not condition():
            assert time.monotonic() < deadline, self.said
            self.supervisor.pause(0.02)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(tmp_path)
    with stage.supervisor:
        yield stage


def test_leaving_the_supervisor_ends_services_and_their_children(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    with stage.supervisor:
        files = [stage.family("a"), stage.family("b", STUBBORN)]
        stage.until(lambda: all(pids_in(file) for file in files))
        pids = [pid for file in files for pid in pids_in(file)[0]]
        assert all(runs(pid) for pid in pids)
    assert [pid for pid in pids if runs(pid)] == []


def test_a_killed_service_starts_again_and_its_children_do_not_stay(stage: Stage) -> None:
    file = stage.family("a")
    stage.until(lambda: len(pids_in(file)) == 1)
    leader, child = pids_in(file)[0]
    os.kill(leader, signal.SIGKILL)
    stage.until(lambda: len(pids_in(file)) == 2)
    assert not runs(child)
    assert runs(pids_in(file)[1][0])
    assert any("a was killed by SIGKILL; it restarts in 0.5 s" in line for line in stage.said)


def test_pauses_between_restarts_grow(stage: Stage) -> None:
    stage.supervisor.start(Service("a", ("sh", "-c", "exit 3")))
    stage.until(lambda: len([line for line in stage.said if line.startswith("a ended")]) == 3)
    pauses = [
        line.split(" restarts in ")[1].split(" s ")[0] for line in stage.said if "a e" in line
    ]
    assert pauses == ["0.5", "1", "2"]


def test_a_service_that_ended_cleanly_stays_down_for_its_pause(stage: Stage) -> None:
    stage.supervisor.start(Service("a", ("true",), pause_after_clean_end_seconds=900))
    stage.until(lambda: any("a ended with status 0; it restarts in 900 s" in s for s in stage.said))


def test_a_service_that_never_gets_ready_is_an_error_with_the_end_of_its_log(stage: Stage) -> None:
    stage.supervisor.start(
        Service("a", ("sh", "-c", "echo no disk; exit 1"), is_ready=lambda: False)
    )
    with pytest.raises(DemoError, match=r"(?s)a keeps ending before it is ready.*no disk"):
        stage.supervisor.wait_until_ready(["a"], timeout_seconds=60)


def test_a_service_that_takes_too_long_is_an_error(stage: Stage) -> None:
    stage.supervisor.start(Service("a", ("sleep", "1000"), is_ready=lambda: False))
    with pytest.raises(DemoError, match=r"a was not ready within 0 s"):
        stage.supervisor.wait_until_ready(["a"], timeout_seconds=0.3)


def test_a_program_that_is_not_there_is_an_error_with_its_name(stage: Stage) -> None:
    with pytest.raises(DemoError, match=r"(?s)task failed .*no-such-program"):
        stage.supervisor.run("task", ["no-such-program"])


def test_readiness_is_printed_with_the_seconds_it_took(stage: Stage) -> None:
    stage.family("a")
    stage.supervisor.wait_until_ready(["a"], timeout_seconds=60)
    assert [line.split()[:2] for line in stage.said] == [["a", "ready"]]


def test_services_are_watched_while_a_task_runs(stage: Stage) -> None:
    file = stage.family("a")
    stage.until(lambda: len(pids_in(file)) == 1)
    os.kill(pids_in(file)[0][0], signal.SIGKILL)
    wait_for_restart = 'while [ "$(wc -l < "$0")" -lt 2 ]; do sleep 0.05; done'
    stage.supervisor.run("task", ["sh", "-c", wait_for_restart, str(file)])
    assert len(pids_in(file)) == 2


def test_a_stop_signal_ends_the_wait_for_a_task_and_the_task(stage: Stage) -> None:
    file = stage.directory / "task"
    asks_to_stop = f"kill -TERM {os.getpid()}; exec sleep 1000"
    with pytest.raises(StopRequestedError):
        stage.supervisor.run("task", ["sh", "-c", f'echo $$ > "$0"; {asks_to_stop}', str(file)])
    assert not runs(int(file.read_text()))


def test_a_killed_watchdog_is_replaced_and_knows_every_service(tmp_path: Path) -> None:
    with _supervisor_process(tmp_path) as process:
        first = _number(tmp_path / "watchdog")
        os.kill(first, signal.SIGKILL)
        eventually(lambda: _number(tmp_path / "watchdog") != first, "another watchdog")
        process.kill()
        _expect_nothing_left(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
def test_nothing_is_left_when_the_supervisor_ends(tmp_path: Path, number: signal.Signals) -> None:
    with _supervisor_process(tmp_path) as process:
        process.send_signal(number)
        _expect_nothing_left(tmp_path)


def test_leaders_end_when_supervisor_and_watchdog_are_killed_together(tmp_path: Path) -> None:
    with _supervisor_process(tmp_path) as process:
        # Suspended first, so that it cannot notice that the watchdog is gone.
        process.send_signal(signal.SIGSTOP)
        os.kill(_number(tmp_path / "watchdog"), signal.SIGKILL)
        process.kill()
        leaders = [pids_in(tmp_path / name)[0][0] for name in ("a", "b")]
        eventually(lambda: not any(map(runs, leaders)), "the leaders' end")
        for name in ("a", "b"):
            os.kill(pids_in(tmp_path / name)[0][1], signal.SIGKILL)


def test_a_second_stop_signal_does_not_wait_for_the_grace(tmp_path: Path) -> None:
    with _supervisor_process(tmp_path, program=STUBBORN, grace_seconds=10_000) as process:
        process.send_signal(signal.SIGINT)
        eventually(lambda: "stopping" in (tmp_path / "said").read_text(), "the first stop")
        process.send_signal(signal.SIGINT)
        _expect_nothing_left(tmp_path)


def test_a_log_is_truncated_while_the_service_writes(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    with log.open("ab", buffering=0) as service:
        service.write(b"x" * 100)
        bound_log(log, limit_bytes=50)
        service.write(b"new")
    assert log.read_bytes() == b"new"
    assert (tmp_path / "a.log.1").read_bytes() == b"x" * 100


SUPERVISOR = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from queuescope.demo.processes import Service, StopRequestedError, Supervisor

    directory, grace, *program = sys.argv[1:]
    directory = Path(directory)

    def say(line):
        with (directory / "said").open("a") as said:
            print(line, file=said)

    with Supervisor(directory / "logs", say) as supervisor:
        for name in ("a", "b"):
            file = directory / name
            argv = (*program, str(file))
            supervisor.start(
                Service(name, argv, is_ready=file.exists, stop_grace_seconds=float(grace))
            )
        supervisor.wait_until_ready(["a", "b"], timeout_seconds=60)
        try:
            while True:
                (directory / "watchdog.new").write_text(str(supervisor._watchdog.pid))
                (directory / "watchdog.new").rename(directory / "watchdog")
                supervisor.pause(0.05)
        except StopRequestedError:
            say("stopping")
    """
)


class _supervisor_process:  # noqa: N801 - reads as a function
    """A supervisor of two services in its own process, once everything runs."""

    def __init__(
        self, directory: Path, *, program: tuple[str, ...] = FAMILY, grace_seconds: float = 1
    ) -> None:
        self._directory = directory
        self._argv = [
            sys.executable,
            "-c",
            SUPERVISOR,
            str(directory),
            str(grace_seconds),
            *program,
        ]

    def __enter__(self) -> subprocess.Popen[bytes]:
        self._process = subprocess.Popen(self._argv)
        files = [self._directory / name for name in ("a", "b", "watchdog")]
        eventually(lambda: all(file.exists() and file.read_text() for file in files), "a start")
        return self._process

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()


def _number(file: Path) -> int:
    return int(file.read_text())


def _expect_nothing_left(directory: Path) -> None:
    pids = [pid for name in ("a", "b") for start in pids_in(directory / name) for pid in start]
    assert len(pids) == 4
    pids.append(_number(directory / "watchdog"))
    eventually(lambda: not any(map(runs, pids)), "the end of all")
