"""Files of Queuescope are private to its user, whatever the umask."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.real_broker import RealBroker

MAKES_EVERYTHING = """
import sys
from contextlib import closing
from pathlib import Path

import numpy as np

from queuescope.cache import Extent, FrameKey, FrameStore
from queuescope.demo.lock import DataLock
from queuescope.operations.store import OperationsStore
from queuescope.broker.purge_file import Draft, Head, prove_writable
from queuescope.view.source.facts import FactsFile, SourceFacts
from queuescope.timeseries import Frame, Grid

folder = Path(sys.argv[1])
with DataLock(folder / "demo" / "data"):
    pass
url = f"sqlite:///{folder / 'operations' / 'data' / 'operations.db'}"
with closing(OperationsStore(url)) as store:
    # What SQLite puts beside a file is there while it is in use.
    with store._database.transaction():
        for path in sorted((folder / "operations" / "data").iterdir()):
            print(path.name, oct(path.stat().st_mode & 0o777))
prove_writable(folder / "purges" / "data" / "purged")
head = Head(id="1", queue="default", at=1.0, lists=["default"])
with Draft(folder / "purges" / "data" / "purged") as draft:
    draft.write(head, [(0, b"{}")])
    draft.publish(folder / "purges" / "data" / "purged" / "1.jsonl")
FactsFile(folder / "facts" / "data" / "cache").save("prometheus", SourceFacts(version="3"))
store = FrameStore(folder / "frames" / "data" / "cache", 1000)
grid = Grid(0, 50, 10)
store.put(FrameKey("p", "up", 10), Extent(Frame(grid, ((),), np.ones((1, 6))), 1e9, 1e9))
store.flush()
"""
WRITES_A_HISTORY = """
import sys
from contextlib import closing
from queuescope.jobs.store import JobStore

with closing(JobStore(f"sqlite:///{sys.argv[1]}")) as store:
    store.get("j1")
"""
READS_THE_AUDIT = """
import sys
from contextlib import closing
from queuescope.operations.store import OperationsStore

with closing(OperationsStore(f"sqlite:///{sys.argv[1]}")) as store, store._database.reading():
    pass
"""


def run_open(script: str, path: Path) -> str:
    """``script`` in a process with a umask of 0."""
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)],
        check=False,
        capture_output=True,
        text=True,
        umask=0,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def open_ones(folder: Path) -> dict[str, str]:
    """Everything below ``folder`` that other users can access, by its relative path."""
    return {
        str(path.relative_to(folder)): oct(mode(path))
        for path in folder.rglob("*")
        if mode(path) != (0o700 if path.is_dir() else 0o600)
    }


def test_all_that_is_made_is_private_whatever_the_umask(tmp_path: Path) -> None:
    said = run_open(MAKES_EVERYTHING, tmp_path)
    assert said.splitlines() == [f"operations.db{suffix} 0o600" for suffix in ("", "-shm", "-wal")]
    assert open_ones(tmp_path) == {}
    files = {path.suffix for path in tmp_path.rglob("*") if path.is_file()}
    assert files >= {".db", ".jsonl", ".json", ".frames"}


def test_a_job_history_is_shared_as_the_umask_says(tmp_path: Path) -> None:
    path = tmp_path / "shared" / "jobs.db"
    run_open(WRITES_A_HISTORY, path)
    assert (mode(path.parent), mode(path) & 0o066) == (0o777, 0o044)


def test_what_is_there_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "data" / "operations.db"
    run_open(READS_THE_AUDIT, path)
    path.parent.chmod(0o755)
    path.chmod(0o664)
    run_open(READS_THE_AUDIT, path)
    assert (mode(path.parent), mode(path)) == (0o755, 0o664)


class Server:
    """``queuescope serve`` with a umask of 0."""

    def __init__(self, data_dir: Path, broker_url: str) -> None:
        argv = [sys.executable, "-P", "-m", "queuescope.cli", "serve", "--port", "0"]
        self._process = subprocess.Popen(
            [*argv, "--data-dir", str(data_dir)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            umask=0,
            env={
                **os.environ,
                "PROMETHEUS_URL": "http://127.0.0.1:1",
                "QUEUESCOPE_BROKER_URL": broker_url,
            },
        )
        self.said: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stderr is not None
        self.said.extend(self._process.stderr)

    def until_it_answers(self) -> None:
        assert self._process.stdout is not None
        assert any(line.startswith("Dashboard: ") for line in self._process.stdout), self.said

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()
        self._reader.join()
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._process.stdout.close()
        self._process.stderr.close()


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
    servers.append(Server(data, server.url))
    servers[0].until_it_answers()
    until(data / "operations.db")
    servers[0].stop()
    said = "".join(servers.pop().said)
    assert mode(data) == 0o700
    assert open_ones(data) == {}
    assert "other users" not in said

    data.chmod(0o755)
    (data / "operations.db").chmod(0o644)
    servers.append(Server(data, server.url))
    servers[0].until_it_answers()
    servers[0].stop()
    said = "".join(servers.pop().said)
    commands = [line.split("close it with: ")[1] for line in said.splitlines() if "chmod" in line]
    assert len(commands) == 2
    assert "may enter the data directory" in said
    assert "may read the operations database" in said
    assert (mode(data), mode(data / "operations.db")) == (0o755, 0o644)
    for command in commands:
        subprocess.run(["sh", "-c", command], check=True)
    assert mode(data) == 0o700
    assert open_ones(data) == {}
