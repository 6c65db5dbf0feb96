"""The job history, on a real SQLite file and on a real PostgreSQL."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from traceback import format_exception
from typing import Any

import pytest
from sqlalchemy import make_url
from tests.job_rows import count_rows, ended_jobs, jobs_that_are
from tests.jobs.conftest import FAILED, STARTED, T0, OpenStore
from tests.real_postgresql import RealPostgreSQL

from queuescope.errors import ConfigurationError, JobStoreError, StoreErrorKind
from queuescope.jobs.job import LOST_WORKER, MESSAGE_LIMIT, Job, JobStatus
from queuescope.jobs.search import JobFilter, find_jobs
from queuescope.jobs.store import JobStore, UsualRuntime


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


@pytest.mark.parametrize("first_ends_at", [T0 + 3, T0 + 5])
def test_a_retry_may_start_and_end_before_the_end_of_the_attempt_that_asked_for_it(
    store: JobStore, first_ends_at: float
) -> None:
    """The rows may come in any order, alone or in one batch."""
    first = replace(STARTED, started_at=T0 + 1)
    retrying = replace(
        first, status=JobStatus.RETRYING, finished_at=first_ends_at, error_class="OSError"
    )
    second = replace(STARTED, started_at=T0 + 2, attempts=2, worker="w2")
    succeeded = replace(second, status=JobStatus.SUCCEEDED, finished_at=T0 + 4)
    for number, rows in enumerate(permutations([first, retrying, second, succeeded])):
        alone, together = f"alone {number}", f"together {number}"
        for row in rows:
            store.record([replace(row, id=alone)])
        store.record([replace(row, id=together) for row in rows])
        for job_id in (alone, together):
            assert store.get(job_id) == replace(succeeded, id=job_id)
    store.record([first])
    store.record([second])
    store.record([retrying])
    assert store.get("j1") == second


def test_one_batch_may_contain_a_job_twice(store: JobStore) -> None:
    store.record([FAILED, STARTED])
    assert ended_jobs(store) == [FAILED]
    assert count_rows(store) == 1


def test_each_row_says_whether_its_job_is_redelivered(store: JobStore) -> None:
    """If a row does not say it, the project's setting applies."""
    rows = [replace(STARTED, id=f"{says}", redelivers=says) for says in (True, False, None)]
    for redelivers in (True, False):
        store.record([replace(row, id=f"{row.id} {redelivers}") for row in rows])
        assert store.end_lost("w1", before=T0 + 60, redelivers=redelivers) == {
            JobStatus.RETRYING: 1 + redelivers,
            JobStatus.LOST: 2 - redelivers,
        }
    again = {job.id for job in jobs_that_are(store, JobStatus.RETRYING)}
    assert again == {"True True", "True False", "None True"}


def test_starts_are_counted_until_an_end_is_recorded(store: JobStore) -> None:
    """Whichever worker writes them, in any order and any number of times; another attempt starts
    again.
    """

    def begun(at: float, **more: Any) -> Job:
        return replace(STARTED, started_at=T0 + at, worker=f"w{at}", **more)

    def deliveries() -> int:
        row = store.get("j1")
        assert row is not None
        return row.deliveries

    died = {"status": JobStatus.RETRYING, "error_class": LOST_WORKER}
    store.record([begun(1)])
    store.record([begun(1)])
    assert deliveries() == 1
    store.record([begun(2)])
    store.record([begun(1)])
    assert deliveries() == 2
    store.end_lost("w2", before=T0 + 3, redelivers=True)
    assert deliveries() == 2
    store.record([begun(4)])
    store.record([begun(4, finished_at=T0 + 5, **died)])
    assert deliveries() == 3
    store.record([begun(6)])
    store.record([begun(6, finished_at=T0 + 7, status=JobStatus.RETRYING, error_class="OSError")])
    assert deliveries() == 4
    store.record([begun(8, attempts=2)])
    assert deliveries() == 1


def test_a_load_takes_many_rows_at_once(store: JobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than one batch of them."""
    monkeypatch.setattr("queuescope.jobs.store._LOAD_BATCH", 1000)
    rows = [replace(FAILED, id=f"j{n}") for n in range(2_500)]
    assert store.load(iter(rows)) == 2_500
    assert count_rows(store) == 2_500
    with pytest.raises(JobStoreError):
        store.load([rows[0]])
    assert count_rows(store) == 2_500


def test_a_worker_that_comes_back_ends_what_it_left_running(store: JobStore) -> None:
    other = replace(STARTED, id="j2", worker="w2")
    store.record([STARTED, other])
    assert sum(store.end_lost("w1", before=T0 + 60, redelivers=True).values()) == 1
    ended = store.get("j1")
    assert ended is not None
    assert (ended.status, ended.finished_at) == (JobStatus.RETRYING, T0 + 60)
    assert store.get("j2") == other


@pytest.mark.parametrize("status", [JobStatus.RETRYING, JobStatus.LOST])
def test_a_conclusion_gives_way_to_a_report_however_late(
    store: JobStore, status: JobStatus
) -> None:
    """The worker was only disconnected: its job ended before it was called lost."""
    store.record([STARTED])
    redelivers = status is JobStatus.RETRYING
    store.end_lost("w1", before=T0 + 60, redelivers=redelivers)
    store.record([replace(STARTED, started_at=T0 - 9)])
    assert count_rows(store, status) == 1
    store.record([FAILED])
    assert store.get("j1") == FAILED
    store.record([replace(STARTED, id="j3", worker="w3")])
    store.end_lost("w3", before=T0 + 60, redelivers=redelivers)
    elsewhere = replace(STARTED, id="j3", worker="w4", started_at=T0 + 30, attempts=2)
    store.record([elsewhere])
    assert store.get("j3") == replace(elsewhere, deliveries=2)


def test_a_job_that_no_worker_runs_is_ended(store: JobStore) -> None:
    young = replace(STARTED, id="j2", started_at=T0 + 50)
    store.record([STARTED, young])
    assert store.unfinished(before=T0 + 50) == [STARTED]
    assert store.unfinished(before=T0 + 60) == [STARTED, young]
    again = replace(young, started_at=T0 + 55)
    store.record([again])
    gone = store.end_started([STARTED, young], at=T0 + 70, status=JobStatus.LOST, reason="Gone.")
    assert gone == 1
    assert store.get("j2") == replace(again, deliveries=2)
    assert store.get("j1") == replace(
        STARTED,
        status=JobStatus.LOST,
        finished_at=T0 + 70,
        error_class="WorkerLostError",
        error_message="Gone.",
    )


def test_a_retry_that_never_comes_is_lost_and_may_be_retried(store: JobStore) -> None:
    retrying = replace(FAILED, status=JobStatus.RETRYING)
    store.record([retrying, replace(retrying, id="j2", finished_at=T0 + 60), STARTED])
    assert store.end_old_retries(before=T0 + 60, at=T0 + 90, reason="Not seen again.") == 1
    lost = store.get("j1")
    assert lost is not None
    assert (lost.status, lost.finished_at) == (JobStatus.LOST, T0 + 90)
    assert (lost.error_class, lost.error_message) == ("NotRetriedError", "Not seen again.")
    assert store.claim(["j1", "j2"]) == {"j1": "enhance"}


def test_a_worker_that_was_not_lost_gets_its_jobs_back(store: JobStore) -> None:
    other = replace(STARTED, id="j2")
    store.record([STARTED, other, replace(FAILED, id="j3")])
    store.end_lost("w1", before=T0 + 60, redelivers=False)
    assert store.reopen("w2", ["j1"]) == 0
    assert store.reopen("w1", ["j1", "j3", "unknown"]) == 1
    assert store.get("j1") == STARTED
    assert count_rows(store, JobStatus.LOST) == 1


def test_a_failed_job_is_claimed_once(store: JobStore) -> None:
    """If several retry the same jobs at the same moment, each job is claimed by one."""
    ids = [f"j{n}" for n in range(60)]
    store.record([replace(FAILED, id=job_id) for job_id in ids])
    store.record([replace(STARTED, id="running")])
    with ThreadPoolExecutor(4) as pool:
        claims = list(pool.map(lambda _: store.claim([*ids, "running", "unknown"]), range(8)))
    assert sorted(job_id for claim in claims for job_id in claim) == sorted(ids)
    assert {name for claim in claims for name in claim.values()} == {"enhance"}
    assert count_rows(store, JobStatus.RETRYING) == 60
    assert store.queues_of([*ids, "unknown"]) == dict.fromkeys(ids, FAILED.queue)
    assert store.release(["j1", "running"]) == {"j1": "enhance"}
    assert store.claim(ids) == {"j1": "enhance"}


def test_the_usual_runtime_is_that_of_95_of_100_jobs_that_ended_lately(store: JobStore) -> None:
    """For each type separately; lost and old jobs do not count."""
    rows = [
        replace(FAILED, id=f"e{n}", runtime_seconds=float(n + 1), finished_at=T0 + n)
        for n in range(40)
    ]
    rows += [
        replace(FAILED, id="s1", name="summarise", runtime_seconds=7.0),
        replace(FAILED, id="old", runtime_seconds=9000.0, finished_at=T0 - 1),
        replace(FAILED, id="gone", status=JobStatus.LOST, runtime_seconds=9000.0),
        replace(FAILED, id="unknown", runtime_seconds=None),
        replace(STARTED, id="running"),
    ]
    store.record(rows)
    assert store.usual_runtimes(since=T0) == {
        "enhance": UsualRuntime(38.0, 40),
        "summarise": UsualRuntime(7.0, 1),
    }
    newest = store.usual_runtimes(since=T0, limit=20)
    assert newest == {"enhance": UsualRuntime(39.0, 20)}
    assert store.usual_runtimes(since=T0 + 999) == {}


def test_hostile_text_is_kept_as_text_within_limits(store: JobStore) -> None:
    store.record([replace(FAILED, error_message="'; DROP TABLE jobs; --\x00" + "x" * 10_000)])
    kept = store.get("j1")
    assert kept is not None
    assert kept.error_message.startswith("'; DROP TABLE jobs; --x")
    assert len(kept.error_message) == MESSAGE_LIMIT


def test_text_that_databases_refuse_costs_no_row(store: JobStore) -> None:
    """Otherwise one such row would keep all waiting rows from being written."""
    odd = "caf\udce9\x00"
    store.record(
        [
            replace(FAILED, id=f"j{odd}", tenant=odd, queue=odd, attempts=2**40),
            replace(FAILED, error_message="\udce9" * 2000),
        ]
    )
    kept = store.get(f"j{odd}")
    assert kept is not None
    assert (kept.id, kept.tenant, kept.attempts) == ("jcaf\\udce9", "caf\\udce9", 2**31 - 1)
    assert find_jobs(store, JobFilter(tenant=odd, queue=odd)).jobs == (kept,)
    other = store.get("j1")
    assert other is not None
    assert len(other.error_message) == MESSAGE_LIMIT


def test_ids_that_are_equal_within_the_limit_are_one_job(store: JobStore) -> None:
    store.record([replace(STARTED, id="x" * 300), replace(FAILED, id="x" * 299)])
    assert ended_jobs(store) == [replace(FAILED, id="x" * 255)]
    assert store.get("x" * 300) == store.get("x" * 255)


def test_jobs_of_the_same_moment_have_one_order(store: JobStore) -> None:
    store.record([replace(FAILED, id=f"j{n}") for n in (3, 1, 4, 2, 0)])
    assert [job.id for job in ended_jobs(store, 3)] == ["j4", "j3", "j2"]


def test_two_writers_of_the_same_jobs_do_not_stop_each_other(
    url: str, open_store: OpenStore
) -> None:
    rows = [replace(FAILED, id=f"j{n:03}") for n in range(100)]
    writers = [open_store(url), open_store(url)]
    writers[0].record(rows)
    gate = threading.Barrier(2, timeout=20)

    def write(number: int) -> None:
        for turn in range(10):
            gate.wait()
            # One goes up and the other down, as redelivered jobs may come.
            writers[number].record(rows[:: 1 if (turn + number) % 2 else -1])

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, range(2)))
    assert count_rows(writers[0]) == 100


def test_a_recreated_history_is_used(url: str, store: JobStore, postgresql: RealPostgreSQL) -> None:
    store.record([FAILED])
    parsed = make_url(url)
    assert parsed.database is not None
    if parsed.get_backend_name() == "sqlite":
        for part in Path(parsed.database).parent.iterdir():
            part.unlink()
    else:
        postgresql.execute("DROP TABLE jobs", database=parsed.database)
    with pytest.raises(JobStoreError):
        store.record([FAILED])
    store.record([FAILED])
    assert store.get("j1") == FAILED


FORKED = """
import gc, os, sys
from dataclasses import replace
from queuescope.jobs.store import Job, JobStatus, JobStore

store = JobStore(sys.argv[1])
job = Job("j0", "n", "t", "q", "w", JobStatus.FAILED, finished_at=1.0)
store.record([job])
children = []
for child in range(2):
    pid = os.fork()
    if pid == 0:
        for turn in range(10):
            store.record([replace(job, id=f"c{child}-{turn}")])
            assert store.get(f"c{child}-{turn}") is not None
        gc.collect()  # what is let go unclosed complains
        os._exit(0)
    children.append(pid)
for turn in range(10):
    store.record([replace(job, id=f"p-{turn}")])
assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0]
ids = ["j0", *(f"p-{n}" for n in range(10)), *(f"c{c}-{n}" for c in range(2) for n in range(10))]
assert all(store.get(job_id) is not None for job_id in ids)
store.close()
"""


def test_children_that_are_forked_later_may_use_the_same_store(url: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", FORKED, url],
        check=False,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")


FIRST_USE = """
import sys
from queuescope.jobs.store import Job, JobStatus, JobStore

urls, number = sys.argv[2:], sys.argv[1]
print("ready", flush=True)
sys.stdin.readline()
for url in urls:
    store = JobStore(url)
    store.record([Job(f"j{number}", "n", "t", "q", "w", JobStatus.FAILED, finished_at=1.0)])
    store.close()
"""


def test_processes_may_make_a_new_history_at_the_same_moment(
    tmp_path: Path, postgresql: RealPostgreSQL, open_store: OpenStore
) -> None:
    """Workers, exporter and dashboard start together."""
    names = [f"race_{n}" for n in range(2)]
    for name in names:
        postgresql.execute(f"CREATE DATABASE {name}")
    urls = [url for n in names for url in (postgresql.url(n), f"sqlite:///{tmp_path / n}.db")]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", FIRST_USE, str(number), *urls],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for number in range(2)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"go\n")
        process.stdin.flush()
    assert [p.communicate()[1] for p in processes] == [b"", b""]
    assert [count_rows(open_store(url)) for url in urls] == [2] * 4


def test_readers_do_not_wait_for_a_writer(tmp_path: Path, open_store: OpenStore) -> None:
    store = open_store(f"sqlite:///{tmp_path / 'deep' / 'jobs.db'}")
    store.record([FAILED])
    with sqlite3.connect(tmp_path / "deep" / "jobs.db") as writer:
        writer.execute("BEGIN IMMEDIATE")
        assert count_rows(store) == 1
        newcomer = JobStore(f"sqlite:///{tmp_path / 'deep' / 'jobs.db'}", timeout_seconds=0.1)
        assert count_rows(newcomer) == 1
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
        broken.get("j1")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "nonsense",
        "mysql://u:secret@h/d",
        "oracle+nix://u:secret@h",
        "postgresql://u:p@secret@h/d",
        "postgresql://u@h:secret/d",
        "postgresql+asyncpg://u:secret@h/d",
        "sqlite+aiosqlite:///secret.db",
    ],
)
def test_an_unusable_address_is_refused_without_repeating_its_password(url: str) -> None:
    with pytest.raises(ConfigurationError, match="job_store_url") as caught:
        JobStore(url)
    assert "secret" not in "".join(format_exception(caught.value))


def test_a_driver_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ConfigurationError, match=r"pip install .queuescope\[postgresql\]"):
        JobStore("postgresql://u@h/d")


def test_a_database_that_is_down_fails_at_use_not_at_construction(open_store: OpenStore) -> None:
    store = open_store("postgresql://nobody:secret@127.0.0.1:9/none", timeout_seconds=1)
    with pytest.raises(JobStoreError, match=r"database none at 127.0.0.1:9\) cannot be opened"):
        store.get("j1")


@pytest.fixture
def keeper(postgresql: RealPostgreSQL) -> Iterator[str]:
    """A user who owns nothing, with the password ``s3cret``."""
    postgresql.execute("CREATE ROLE keeper LOGIN PASSWORD 's3cret'")
    yield "keeper"
    postgresql.execute("DROP ROLE keeper")


def as_keeper(url: str) -> str:
    return make_url(url).set(username="keeper", password="s3cret").render_as_string(False)


def owned_by(server: RealPostgreSQL, url: str, sql: str) -> None:
    server.execute(sql, database=make_url(url).database or "")


@pytest.mark.parametrize("form", ["{user}:{password}@{rest}", "{user}@{rest}?password={password}"])
def test_a_wrong_password_is_reported_and_never_repeated(
    form: str, postgresql_url: str, keeper: str, open_store: OpenStore
) -> None:
    rest = postgresql_url.partition("@")[2]
    address = form.format(user=keeper, password="hunter2", rest=rest)
    store = open_store(f"postgresql://{address}")
    with pytest.raises(JobStoreError, match=r"cannot be opened.*password") as caught:
        store.record([FAILED])
    text_of_error = "".join(format_exception(caught.value))
    assert "hunter2" not in text_of_error + repr(store)
    assert "password authentication failed" in text_of_error


def test_a_missing_right_to_create_the_table_is_reported_with_the_grant(
    postgresql_url: str, keeper: str, open_store: OpenStore
) -> None:
    with pytest.raises(JobStoreError, match=r"42501.*grant SELECT.*CREATE on the schema"):
        open_store(as_keeper(postgresql_url)).record([FAILED])


def test_a_user_may_read_or_write_a_table_of_another_user(
    postgresql: RealPostgreSQL, postgresql_url: str, keeper: str, open_store: OpenStore
) -> None:
    open_store(postgresql_url).record([FAILED])
    owned_by(postgresql, postgresql_url, "GRANT SELECT ON jobs TO keeper")
    reader = open_store(as_keeper(postgresql_url))
    assert reader.get("j1") == FAILED
    assert ended_jobs(reader) == [FAILED]
    with pytest.raises(JobStoreError, match="42501"):
        reader.record([replace(FAILED, id="j2")])
    assert count_rows(reader) == 1
    owned_by(postgresql, postgresql_url, "GRANT INSERT, UPDATE ON jobs TO keeper")
    reader.record([replace(FAILED, id="j2")])
    assert count_rows(reader) == 2
    owned_by(postgresql, postgresql_url, "DROP OWNED BY keeper")


def test_a_standby_is_recognized(
    postgresql: RealPostgreSQL, postgresql_url: str, open_store: OpenStore
) -> None:
    open_store(postgresql_url).record([FAILED])
    query = "?options=-c%20default_transaction_read_only%3Don"
    standby = open_store(postgresql_url + query)
    assert count_rows(standby) == 1
    with pytest.raises(JobStoreError, match=r"25006.*read-only"):
        standby.record([STARTED])


def test_the_table_of_another_program_is_not_touched(
    postgresql: RealPostgreSQL, postgresql_url: str, open_store: OpenStore
) -> None:
    owned_by(postgresql, postgresql_url, "CREATE TABLE jobs (id int, title text)")
    store = open_store(postgresql_url)
    with pytest.raises(JobStoreError, match="not Queuescope's"):
        store.record([FAILED])
    owned_by(postgresql, postgresql_url, "CREATE SCHEMA history")
    apart = open_store(f"{postgresql_url}?options=-csearch_path%3Dhistory")
    apart.record([FAILED])
    assert apart.get("j1") == FAILED


def test_a_row_that_another_keeps_locked_is_a_job_store_error(
    postgresql: RealPostgreSQL, postgresql_url: str, open_store: OpenStore
) -> None:
    store = open_store(f"{postgresql_url}?connect_timeout=60", timeout_seconds=0.1)
    store.record([STARTED])
    with postgresql.connect(make_url(postgresql_url).database or "") as other:
        other.execute("BEGIN")
        other.execute("SELECT * FROM jobs FOR UPDATE")
        with pytest.raises(JobStoreError, match="55P03"):
            store.record([FAILED])
        assert store.get("j1") == STARTED
        other.execute("ROLLBACK")
    store.record([FAILED])
    assert store.get("j1") == FAILED


def test_connections_have_an_application_name(
    postgresql: RealPostgreSQL, postgresql_url: str, open_store: OpenStore
) -> None:
    named = open_store(f"{postgresql_url}?application_name=shop")
    for store in (open_store(postgresql_url), named):
        store.record([FAILED])
    database = make_url(postgresql_url).database or ""
    seen = postgresql.execute(
        "SELECT application_name FROM pg_stat_activity WHERE datname = current_database()"
        " AND pid <> pg_backend_pid() ORDER BY 1",
        database=database,
    )
    assert seen == [("queuescope",), ("shop",)]


def test_a_server_that_stops_is_reported_and_its_return_is_noticed(
    postgresql: RealPostgreSQL, postgresql_url: str, open_store: OpenStore
) -> None:
    store = open_store(postgresql_url, timeout_seconds=30)
    store.record([FAILED])

    def rows_until_the_server_is_gone() -> Iterator[Job]:
        yield replace(FAILED, id="j2")
        postgresql.kill()
        yield replace(FAILED, id="j3")

    try:
        closed = r"closed the connection \(.+\): check that it runs and is reachable"
        with pytest.raises(JobStoreError, match=closed) as caught:
            store.load(rows_until_the_server_is_gone())
        assert caught.value.kind is StoreErrorKind.DOWN
        with pytest.raises(JobStoreError, match="cannot be opened"):
            store.record([STARTED])
    finally:
        postgresql.start()
    # The whole load was one transaction: nothing of it is there.
    assert ended_jobs(store) == [FAILED]
    postgresql.kill()
    postgresql.start()
    # A restart between two uses costs none of them.
    store.record([replace(FAILED, id="j2")])
    assert count_rows(store) == 2


def test_many_may_open_a_new_history_at_the_same_moment(tmp_path: Path) -> None:
    """Workers, exporter and dashboard start together."""
    for round_number in range(5):
        url = f"sqlite:///{tmp_path / f'jobs-{round_number}.db'}"
        gate = threading.Barrier(6)

        def first_use(number: int, url: str = url, gate: threading.Barrier = gate) -> int:
            store = JobStore(url)
            gate.wait()
            store.record([replace(FAILED, id=f"j{number}")])
            return count_rows(store)

        with ThreadPoolExecutor(6) as pool:
            assert max(pool.map(first_use, range(6))) == 6
