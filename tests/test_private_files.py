"""Files of Queuescope are private to its user, whatever the umask."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from tests.prepared_python import start_python
from tests.real_broker import RealBroker

import queuescope.cli
from queuescope.broker.purge_file import Draft, Head, note_begun
from queuescope.cache import Extent, FrameKey, FrameStore
from queuescope.demo.lock import DataLock
from queuescope.jobs.store import JobStore
from queuescope.operations.store import OperationsStore
from queuescope.timeseries import Frame, Grid
from queuescope.view.source.facts import FactsFile, SourceFacts


@pytest.fixture
def umask_of_zero() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def open_ones(folder: Path) -> dict[str, str]:
    """Everything below ``folder`` that other users can access, by its relative path."""
    return {
        str(path.relative_to(folder)): oct(mode(path))
        for path in folder.rglob("*")
        if mode(path) != (0o700 if path.is_dir() else 0o600)
    }


@pytest.mark.usefixtures("umask_of_zero")
def test_all_that_is_made_is_private_whatever_the_umask(tmp_path: Path) -> None:
    with DataLock(tmp_path / "demo" / "data"):
        pass
    database = tmp_path / "operations" / "data" / "operations.db"
    # What SQLite puts beside a file is there while it is in use.
    with (
        closing(OperationsStore(f"sqlite:///{database}")) as operations,
        operations._database.transaction(),
    ):
        used = {path.name: mode(path) for path in database.parent.iterdir()}
    assert used == {f"operations.db{suffix}": 0o600 for suffix in ("", "-shm", "-wal")}
    purges = tmp_path / "purges" / "data" / "purged"
    note_begun(purges, "1")
    with Draft(purges) as draft:
        draft.write(Head(id="1", queue="default", at=1.0, lists=["default"]), [(0, b"{}")])
        draft.publish(purges / "1.jsonl")
    FactsFile(tmp_path / "facts" / "data" / "cache").save("prometheus", SourceFacts(version="3"))
    grid = Grid(0, 50, 10)
    with closing(FrameStore(tmp_path / "frames" / "data" / "cache", 1000)) as frames:
        frames.put(FrameKey("p", "up", 10), Extent(Frame(grid, ((),), np.ones((1, 6))), 1e9, 1e9))
        frames.flush()
    assert open_ones(tmp_path) == {}
    files = {path.suffix for path in tmp_path.rglob("*") if path.is_file()}
    assert files >= {".db", ".jsonl", ".json", ".frames"}


@pytest.mark.usefixtures("umask_of_zero")
def test_a_job_history_is_shared_as_the_umask_says(tmp_path: Path) -> None:
    path = tmp_path / "shared" / "jobs.db"
    with closing(JobStore(f"sqlite:///{path}")) as store:
        store.get("j1")
    assert (mode(path.parent), mode(path) & 0o066) == (0o777, 0o044)


@pytest.mark.usefixtures("umask_of_zero")
def test_what_is_there_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "data" / "operations.db"

    def read_the_audit() -> None:
        with closing(OperationsStore(f"sqlite:///{path}")) as store, store._database.reading():
            pass

    read_the_audit()
    path.parent.chmod(0o755)
    path.chmod(0o664)
    read_the_audit()
    assert (mode(path.parent), mode(path)) == (0o755, 0o664)


def main() -> None:
    """``queuescope`` with a umask of 0."""
    os.umask(0)
    queuescope.cli.main()


class Server:
    """``queuescope serve`` with a umask of 0."""

    def __init__(self, data_dir: Path, broker_url: str, log: Path) -> None:
        self._log = log
        log.touch()
        self._process = start_python(
            "tests.test_private_files",
            ["serve", "--port", "0", "--data-dir", str(data_dir)],
            environment={
                **os.environ,
                "PROMETHEUS_URL": "http://127.0.0.1:1",
                "QUEUESCOPE_BROKER_URL": broker_url,
            },
            folder=log.parent,
            log=log,
        )

    @property
    def said(self) -> str:
        return self._log.read_text("utf-8")

    def until_it_answers(self) -> None:
        deadline = time.monotonic() + 60
        while "Dashboard: " not in self.said:
            assert self._process.poll() is None, self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.05)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()


@pytest.fixture
def servers() -> Iterator[list[Server]]:
    running: list[Server] = []
    yield running
    for one in running:
        one.stop()


def until(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} was never made"
        time.sleep(0.05)


def test_a_server_makes_private_files_and_tells_how_to_close_open_ones(
    tmp_path: Path, server: RealBroker, servers: list[Server]
) -> None:
    data = tmp_path / "its data"
    servers.append(Server(data, server.url, tmp_path / "first"))
    servers[0].until_it_answers()
    until(data / "operations.db")
    servers[0].stop()
    said = servers.pop().said
    assert mode(data) == 0o700
    assert open_ones(data) == {}
    assert "other users" not in said

    data.chmod(0o755)
    (data / "operations.db").chmod(0o644)
    servers.append(Server(data, server.url, tmp_path / "second"))
    servers[0].until_it_answers()
    servers[0].stop()
    said = servers.pop().said
    commands = [line.split("close it with: ")[1] for line in said.splitlines() if "chmod" in line]
    assert len(commands) == 2
    assert "may enter the data directory" in said
    assert "may read the operations database" in said
    assert (mode(data), mode(data / "operations.db")) == (0o755, 0o644)
    for command in commands:
        subprocess.run(["sh", "-c", command], check=True)
    assert mode(data) == 0o700
    assert open_ones(data) == {}
