"""Tables of before there were fingerprints: brought up to date where that is allowed, and used as
they are where it is not.
"""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url
from tests.job_rows import count_rows
from tests.jobs.conftest import FAILED, STARTED, T0, OpenStore
from tests.real_postgresql import RealPostgreSQL

from queuescope.errors import JobStoreError, StoreErrorKind
from queuescope.jobs.failures import Span, failed_ids, failure_groups, last_failures
from queuescope.jobs.job import Job, JobStatus
from queuescope.jobs.search import JobFilter, find_jobs, known_values
from queuescope.jobs.store import JobStore

EVER = Span(0.0, T0 + 1e6)
# As the first workers made it.
FORMER_TABLE = """
CREATE TABLE jobs (
  id VARCHAR(255) NOT NULL PRIMARY KEY, name VARCHAR(255) NOT NULL, tenant VARCHAR(255) NOT NULL,
  queue VARCHAR(255) NOT NULL, worker VARCHAR(255) NOT NULL, status VARCHAR(16) NOT NULL,
  enqueued_at FLOAT(53), started_at FLOAT(53), finished_at FLOAT(53), wait_seconds FLOAT(53),
  runtime_seconds FLOAT(53), attempts INTEGER NOT NULL, error_class VARCHAR(255) NOT NULL,
  error_message VARCHAR(1000) NOT NULL
)
"""
FORMER_INDEXES = (
    "CREATE INDEX jobs_by_finish ON jobs (finished_at)",
    "CREATE INDEX jobs_by_start ON jobs (started_at)",
    "CREATE INDEX jobs_by_tenant ON jobs (tenant, finished_at)",
    "CREATE INDEX jobs_by_status ON jobs (status, finished_at)",
)
FORMER_ROWS = tuple(
    "INSERT INTO jobs (id, name, tenant, queue, worker, status, enqueued_at, started_at,"  # noqa: S608
    " finished_at, wait_seconds, runtime_seconds, attempts, error_class, error_message) VALUES"
    f" ('old-{number}', 'enhance', 'acme', 'default', 'w1', '{status}', {T0}, {T0}, {T0 + number},"
    f" 1.5, 2.5, 1, 'ValueError', 'ticket {number} is bad')"
    for number, status in enumerate(["failed"] * 5 + ["succeeded", "retrying"])
)
FORMER = (FORMER_TABLE, *FORMER_INDEXES, *FORMER_ROWS)
Execute = Callable[[str], list[tuple[Any, ...]]]


@pytest.fixture
def execute(url: str, postgresql: RealPostgreSQL) -> Execute:
    """Runs a statement in the test's database, past the store."""
    parsed = make_url(url)
    assert parsed.database is not None
    if parsed.get_backend_name() == "postgresql":
        return lambda sql: postgresql.execute(sql, database=str(parsed.database))
    file = Path(parsed.database)
    file.parent.mkdir(parents=True, exist_ok=True)

    def in_sqlite(sql: str) -> list[tuple[Any, ...]]:
        with sqlite3.connect(file) as connection:
            rows = connection.execute(sql).fetchall()
        connection.close()
        return rows

    return in_sqlite


@pytest.fixture
def former(url: str, execute: Execute) -> str:
    """The address of a table without fingerprints, with five failures."""
    for statement in FORMER:
        execute(statement)
    return url


def indexes(execute: Execute, url: str) -> set[str]:
    if url.startswith("sqlite"):
        rows = execute("SELECT name FROM sqlite_master WHERE type = 'index'")
    else:
        rows = execute("SELECT indexname FROM pg_indexes WHERE tablename = 'jobs'")
    return {str(name) for (name,) in rows if not str(name).startswith("sqlite_")}


def assert_all_is_there(store: JobStore, new: Job) -> None:
    """Old rows and new ones, in one group and in the search."""
    (group,) = failure_groups(store, EVER).groups
    assert (group.count, group.fingerprint) == (6, new.fingerprint)
    assert group.pattern == "ticket <n> is bad"
    assert group.example == new
    ids = ["new", "old-4", "old-3", "old-2", "old-1", "old-0"]
    assert list(failed_ids(store, EVER, new.fingerprint).ids) == ids
    last = last_failures(store, EVER, fingerprint=new.fingerprint)
    assert [job.id for job in last] == ids
    assert last == last_failures(store, EVER)
    found = find_jobs(store, JobFilter(status=JobStatus.FAILED, text="ticket"))
    assert [job.id for job in found.jobs] == ids
    assert known_values(store, "tenant").values == ("acme",)


NEW = replace(FAILED, id="new", finished_at=T0 + 100, error_message="ticket 77 is bad")


def test_an_old_table_is_migrated_with_its_rows(
    former: str, execute: Execute, open_store: OpenStore
) -> None:
    store = open_store(former)
    store.record([NEW])
    assert store.has_fingerprint
    assert_all_is_there(store, NEW)
    (marked,) = execute("SELECT fingerprint FROM jobs WHERE id = 'new'")
    assert marked == (NEW.fingerprint,)
    new_table = open_store(str(make_url(former)))
    assert count_rows(new_table) == 8
    assert not indexes(execute, former) & {"jobs_by_finish", "jobs_by_start", "jobs_by_tenant"}
    assert indexes(execute, former) >= {"jobs_failed", "jobs_by_tenant_moment", "jobs_by_moment"}


def test_a_new_table_has_the_indexes_of_a_migrated_one(
    url: str, execute: Execute, open_store: OpenStore
) -> None:
    store = open_store(url)
    store.record([NEW])
    made = indexes(execute, url)
    execute("DROP TABLE jobs")
    for statement in FORMER:
        execute(statement)
    open_store(url).record([NEW])
    assert indexes(execute, url) == made


def test_old_failures_get_their_fingerprints_in_small_steps(
    former: str, execute: Execute, open_store: OpenStore
) -> None:
    store = open_store(former)
    store.record([NEW])
    assert [store.fill_fingerprints(2) for _ in range(4)] == [2, 2, 1, 0]
    marks = execute("SELECT DISTINCT fingerprint FROM jobs WHERE status = 'failed'")
    assert marks == [(NEW.fingerprint,)]
    assert execute("SELECT count(*) FROM jobs WHERE fingerprint IS NULL") == [(2,)]
    assert_all_is_there(store, NEW)


def test_an_older_worker_may_write_beside_newer_ones(
    url: str, execute: Execute, open_store: OpenStore
) -> None:
    store = open_store(url)
    store.get("j1")
    for statement in FORMER_ROWS:
        execute(statement)
    store.record([NEW])
    assert_all_is_there(store, NEW)


def test_several_processes_may_migrate_a_table_at_once(
    former: str, execute: Execute, open_store: OpenStore
) -> None:
    script = (
        "import sys; from queuescope.jobs.store import *\n"
        "store = JobStore(sys.argv[1]); sys.stdin.readline()\n"
        "store.record([Job(sys.argv[2], 'n', 't', 'q', 'w', JobStatus.FAILED, finished_at=1.0)])\n"
        "assert store.has_fingerprint\n"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, former, str(number)],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for number in range(2)
    ]
    assert [process.communicate(b"go\n")[1] for process in processes] == [b""] * 2
    assert count_rows(open_store(former)) == 9
    assert "jobs_failed" in indexes(execute, former)


@pytest.fixture
def keeper(postgresql: RealPostgreSQL) -> Iterator[str]:
    """A user who owns nothing."""
    postgresql.execute("CREATE ROLE table_keeper LOGIN PASSWORD 's3cret'")
    yield "table_keeper"
    postgresql.execute("DROP ROLE table_keeper")


@pytest.fixture
def limited(
    postgresql: RealPostgreSQL, postgresql_url: str, keeper: str, open_store: OpenStore
) -> Iterator[tuple[JobStore, Execute]]:
    """A former table whose user may write it and not alter it."""
    database = str(make_url(postgresql_url).database)

    def execute(sql: str) -> list[tuple[Any, ...]]:
        return postgresql.execute(sql, database=database)

    for statement in FORMER:
        execute(statement)
    execute(f"GRANT SELECT, INSERT, UPDATE ON jobs TO {keeper}")
    address = make_url(postgresql_url).set(username=keeper, password="s3cret")
    yield open_store(address.render_as_string(hide_password=False)), execute
    execute(f"DROP OWNED BY {keeper}")


def test_without_the_right_to_alter_an_old_table_it_is_still_used(
    limited: tuple[JobStore, Execute],
) -> None:
    store, execute = limited
    store.record([NEW, replace(STARTED, id="r1", worker="w9")])
    assert not store.has_fingerprint
    assert_all_is_there(store, NEW)
    assert store.fill_fingerprints() == 0
    assert store.end_lost("w9", before=T0 + 9, redelivers=True)[JobStatus.RETRYING] == 1
    assert store.claim(["new"]) == {"new": "enhance"}
    assert store.release(["new"]) == {"new": "enhance"}
    assert execute("SELECT count(*) FROM pg_attribute WHERE attname = 'fingerprint'") == [(0,)]


def test_a_column_that_the_owner_adds_is_used_at_once(
    limited: tuple[JobStore, Execute],
) -> None:
    store, execute = limited
    store.record([NEW])
    execute("ALTER TABLE jobs ADD COLUMN fingerprint VARCHAR(16)")
    store.record([replace(NEW, id="newer", finished_at=T0 + 50)])
    assert store.has_fingerprint
    assert execute("SELECT id FROM jobs WHERE fingerprint IS NOT NULL") == [("newer",)]
    assert failure_groups(store, EVER).groups[0].count == 7
    assert store.fill_fingerprints() == 6


def test_a_reader_may_use_an_old_table(
    former: str, open_store: OpenStore, tmp_path: Path, postgresql: RealPostgreSQL
) -> None:
    if former.startswith("sqlite"):
        reader = open_store(f"sqlite:///file:{make_url(former).database}?mode=ro&uri=true")
    else:
        reader = open_store(f"{former}?options=-c%20default_transaction_read_only%3Don")
    (group,) = failure_groups(reader, EVER).groups
    assert group.count == 5
    assert find_jobs(reader, JobFilter(tenant="acme")).jobs[0].id == "old-6"
    with pytest.raises(JobStoreError) as caught:
        reader.record([NEW])
    assert caught.value.kind is StoreErrorKind.READ_ONLY


def test_a_migration_does_not_block_a_busy_table(
    postgresql: RealPostgreSQL, postgresql_url: str, open_store: OpenStore
) -> None:
    """An ALTER that waits keeps all others waiting behind it."""
    database = str(make_url(postgresql_url).database)
    for statement in FORMER:
        postgresql.execute(statement, database=database)
    store = open_store(postgresql_url)
    with postgresql.connect(database) as other:
        other.execute("BEGIN")
        other.execute("SELECT count(*) FROM jobs")
        store.record([NEW])
        assert not store.has_fingerprint
        assert_all_is_there(store, NEW)
        other.execute("ROLLBACK")
    later = open_store(postgresql_url)
    later.record([NEW])
    assert later.has_fingerprint
    assert_all_is_there(store, NEW)


def test_the_table_of_another_program_is_named(
    url: str, execute: Execute, open_store: OpenStore
) -> None:
    execute("CREATE TABLE jobs (id int, title text)")
    store = open_store(url)
    with pytest.raises(JobStoreError, match=r"no column \w+: its table jobs is not") as caught:
        store.get("j1")
    assert caught.value.kind is StoreErrorKind.NOT_OURS
    assert indexes(execute, url) == set()
