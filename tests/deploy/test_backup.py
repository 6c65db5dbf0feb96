"""The commands for backups in docs/deployment.md, run while everything is in use."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.job_rows import count_rows

from queuescope.broker.purge_file import Draft, Head, pieces, read_purge
from queuescope.jobs.job import Job, JobStatus
from queuescope.jobs.store import JobStore
from queuescope.operations.access import Actor, Origin, Role
from queuescope.operations.audit import Search
from queuescope.operations.request import Request
from queuescope.operations.store import OperationsStore

GUIDE = (Path(__file__).parents[2] / "docs" / "deployment.md").read_text("utf-8")
COMMANDS = re.findall(r"```sh\n(.*?)```", GUIDE.split("## Backups")[1], re.DOTALL)[0]
ADA = Actor("ada", Origin.OIDC)


def run_guide(**variables: Path) -> None:
    python = Path(sys.executable).parent
    subprocess.run(
        ["sh", "-euc", COMMANDS],
        check=True,
        umask=0,
        env={
            **os.environ,
            "PATH": f"{python}{os.pathsep}{os.environ['PATH']}",
            **{name: str(path) for name, path in variables.items()},
        },
    )


@pytest.fixture
def used(tmp_path: Path) -> Iterator[OperationsStore]:
    """An operations database with one entry in a data directory, kept open."""
    with closing(OperationsStore(f"sqlite:///{tmp_path / 'its data' / 'operations.db'}")) as store:
        store.refuse(ADA, Role.VIEWER, Request.pause("default"), "too late")
        yield store


def test_what_is_in_use_is_saved_whole_and_private(tmp_path: Path, used: OperationsStore) -> None:
    data, jobs, backup = tmp_path / "its data", tmp_path / "jobs.db", tmp_path / "a backup"
    with closing(JobStore(f"sqlite:///{jobs}")) as store:
        store.record([Job("one", "send", "acme", "default", "w@shop", JobStatus.SUCCEEDED)])
        with Draft(data / "purged") as draft:
            draft.write(Head(id="1", queue="default", at=1.0, lists=["default"]), [(0, b"{}")])
            draft.publish(data / "purged" / "1.jsonl")
        # The newest entries are in the file beside it, since a connection is open.
        with used._database.reading(), store.reading():
            used.refuse(ADA, Role.VIEWER, Request.resume("default"), "too late")
            assert (data / "operations.db-wal").stat().st_size > 0
            run_guide(data=data, jobs=jobs, backup=backup)

    with closing(OperationsStore(f"sqlite:///{backup / 'operations.db'}")) as restored:
        assert restored.audit.verify() == used.audit.verify()
        assert list(restored.audit.export_json(Search())) == list(used.audit.export_json(Search()))
        # The triggers of the audit were copied, and it still accepts entries.
        restored.refuse(ADA, Role.VIEWER, Request.pause("default"), "later")
    with closing(JobStore(f"sqlite:///{backup / 'jobs.db'}")) as copied:
        assert count_rows(copied) == 1
    assert read_purge(backup / "purged" / "1.jsonl").is_proven
    assert list(pieces(backup / "purged" / "1.jsonl")) == [(0, [("default", b"{}")])]
    assert [p for p in (backup, *backup.rglob("*")) if p.stat().st_mode & 0o077] == []


def test_without_purges_the_stores_are_saved(tmp_path: Path, used: OperationsStore) -> None:
    jobs = tmp_path / "jobs.db"
    with closing(JobStore(f"sqlite:///{jobs}")) as store:
        store.get("j1")
        run_guide(data=tmp_path / "its data", jobs=jobs, backup=tmp_path / "backup")
    assert used.audit.verify()
    assert {p.name for p in (tmp_path / "backup").iterdir()} == {"jobs.db", "operations.db"}
