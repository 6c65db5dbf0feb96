"""The job history on a real SQLite file, and on PostgreSQL's dialect where only text is needed."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from queuescope.errors import ConfigurationError, JobStoreError
from queuescope.jobs.store import MESSAGE_LIMIT, Job, JobStatus, JobStore

T0 = 1_790_000_000.0
STARTED = Job(
    id="j1",
    name="enhance",
    tenant="acme",
    queue="default",
    worker="w1",
    status=JobStatus.STARTED,
    enqueued_at=T0,
    started_at=T0 + 2,
    wait_seconds=2.0,
)
FAILED = replace(
    STARTED,
    status=JobStatus.FAILED,
    finished_at=T0 + 5,
    runtime_seconds=3.0,
    error_class="ValueError",
    error_message="bad",
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[JobStore]:
    made = JobStore(f"sqlite:///{tmp_path / 'deep' / 'jobs.db'}")
    yield made
    made.close()


def test_a_row_comes_back_as_it_was_recorded(store: JobStore) -> None:
    store.record([FAILED])
    assert store.get("j1") == FAILED
    assert store.get("j2") is None


def test_newer_news_replace_a_row_and_older_ones_do_not(store: JobStore) -> None:
    store.record([FAILED])
    store.record([STARTED])
    assert store.get("j1") == FAILED
    again = replace(STARTED, started_at=T0 + 9, attempts=2)
    store.record([again])
    assert store.get("j1") == again


def test_one_batch_may_tell_a_job_twice(store: JobStore) -> None:
    store.record([FAILED, STARTED])
    assert store.recent() == [FAILED]
    assert store.count() == 1


def test_recent_is_newest_first_and_narrowed(store: JobStore) -> None:
    rows = [
        replace(FAILED, id=f"j{n}", finished_at=T0 + n, tenant=("acme", "globex")[n % 2])
        for n in range(10)
    ]
    store.record([*rows, replace(STARTED, id="running")])
    assert [job.id for job in store.recent(3)] == ["j9", "j8", "j7"]
    assert [job.id for job in store.recent(tenant="globex", until=T0 + 5)] == ["j3", "j1"]
    assert [job.id for job in store.recent(since=T0 + 8)] == ["j9", "j8"]
    assert [job.id for job in store.recent(status=JobStatus.STARTED)] == ["running"]
    assert store.recent(queue="elsewhere") == []
    assert store.count(status=JobStatus.FAILED) == 10


def test_a_load_takes_many_rows_at_once(store: JobStore) -> None:
    rows = [replace(FAILED, id=f"j{n}") for n in range(25_000)]
    assert store.load(iter(rows)) == 25_000
    assert store.count() == 25_000
    with pytest.raises(JobStoreError):
        store.load([rows[0]])
    assert store.count() == 25_000


def test_a_worker_that_comes_back_ends_what_it_left_running(store: JobStore) -> None:
    other = replace(STARTED, id="j2", worker="w2")
    store.record([STARTED, other])
    assert store.abandon("w1", before=T0 + 60, status=JobStatus.RETRYING) == 1
    ended = store.get("j1")
    assert ended is not None
    assert (ended.status, ended.finished_at) == (JobStatus.RETRYING, T0 + 60)
    assert store.get("j2") == other


def test_hostile_text_is_kept_as_text_within_limits(store: JobStore) -> None:
    store.record([replace(FAILED, error_message="'; DROP TABLE jobs; --\x00" + "x" * 10_000)])
    kept = store.get("j1")
    assert kept is not None
    assert kept.error_message.startswith("'; DROP TABLE jobs; --x")
    assert len(kept.error_message) == MESSAGE_LIMIT


def test_readers_do_not_wait_for_a_writer(store: JobStore, tmp_path: Path) -> None:
    store.record([FAILED])
    with sqlite3.connect(tmp_path / "deep" / "jobs.db") as writer:
        writer.execute("BEGIN IMMEDIATE")
        assert store.count() == 1
        newcomer = JobStore(f"sqlite:///{tmp_path / 'deep' / 'jobs.db'}", timeout_seconds=0.1)
        assert newcomer.count() == 1
    writer.close()


def test_a_locked_or_broken_database_is_a_job_store_error(tmp_path: Path) -> None:
    store = JobStore(f"sqlite:///{tmp_path / 'jobs.db'}", timeout_seconds=0.1)
    store.record([FAILED])
    writer = sqlite3.connect(tmp_path / "jobs.db")
    writer.execute("BEGIN IMMEDIATE")
    with pytest.raises(JobStoreError, match="OperationalError"):
        store.record([STARTED])
    writer.close()
    (tmp_path / "broken.db").write_bytes(b"not a database at all" * 100)
    broken = JobStore(f"sqlite:///{tmp_path / 'broken.db'}")
    with pytest.raises(JobStoreError):
        broken.count()


@pytest.mark.parametrize("url", ["", "nonsense", "mysql://u:secret@h/d", "oracle+nix://u:secret@h"])
def test_an_unusable_address_is_refused_without_repeating_its_password(url: str) -> None:
    with pytest.raises(ConfigurationError, match="job_store_url") as caught:
        JobStore(url)
    assert "secret" not in str(caught.value)


def test_a_database_that_is_down_is_met_at_use_not_at_construction() -> None:
    store = JobStore("postgresql://nobody:secret@127.0.0.1:9/none", timeout_seconds=1)
    with pytest.raises(JobStoreError) as caught:
        store.count()
    store.close()
    assert "secret" not in str(caught.value)


def test_many_may_open_a_new_history_at_the_same_moment(tmp_path: Path) -> None:
    """Workers, exporter and dashboard start together."""
    for round_number in range(15):
        url = f"sqlite:///{tmp_path / f'jobs-{round_number}.db'}"
        gate = threading.Barrier(6)

        def first_use(number: int, url: str = url, gate: threading.Barrier = gate) -> int:
            store = JobStore(url)
            gate.wait()
            store.record([replace(FAILED, id=f"j{number}")])
            return store.count()

        with ThreadPoolExecutor(6) as pool:
            assert max(pool.map(first_use, range(6))) == 6
