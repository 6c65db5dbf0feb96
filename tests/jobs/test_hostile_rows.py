"""Rows that no worker of this version wrote: each is shown as it is, without hiding others."""

from __future__ import annotations

import csv
import sqlite3
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
from tests.jobs.conftest import FAILED, OpenStore

from queuescope.jobs.export import csv_of
from queuescope.jobs.failures import Span, failed_ids, failure_groups, last_failures
from queuescope.jobs.job import Job, JobStatus
from queuescope.jobs.search import (
    JobFilter,
    count_jobs,
    each_job,
    find_jobs,
    known_values,
)
from queuescope.jobs.store import JobStore
from queuescope.jobs.table import JOB_COLUMNS
from queuescope.jobs.totals import read_totals
from queuescope.watch import read_failures

NOT_UTF8 = "CAST(x'66ff' AS TEXT)"
HOSTILE = (
    *("'text'", "x'ff00'", NOT_UTF8, "9e999", "-9e999", "1e300", "-1", "''", "'=1+1'"),
    *("9223372036854775807", "char(0, 27, 8238)", "'a' || char(55296)"),
)


def fine(now: float) -> Job:
    return replace(FAILED, id="fine", enqueued_at=now - 9, started_at=now - 8, finished_at=now - 5)


def seen_everywhere(store: JobStore, now: float, ids: set[str]) -> None:
    """Everything that is read of a history has the valid rows."""
    span = Span(now - 86_400, now + 3600)
    shown: list[str] = []
    page = find_jobs(store, JobFilter(), limit=7)
    shown += [job.id for job in page.jobs]
    while page.older is not None:
        page = find_jobs(store, JobFilter(), limit=7, older_than=page.older)
        shown += [job.id for job in page.jobs]
    assert ids <= set(shown)
    assert len(shown) == len(set(shown))
    for wanted in (JobFilter(status=JobStatus.FAILED), JobFilter(text="bad"), JobFilter(text="f")):
        assert "fine" in {job.id for job in each_job(store, wanted, limit=1000)}
        assert count_jobs(store, wanted).count >= 1
    assert "acme" in known_values(store, "tenant").values
    lines = b"".join(csv_of(each_job(store, JobFilter(), limit=1000))).decode()
    rows = list(csv.DictReader(lines.splitlines(keepends=True)))
    assert "fine" in {row["id"] for row in rows}
    (group,) = [
        g
        for g in failure_groups(store, span, limit=99).groups
        if g.fingerprint == fine(now).fingerprint
    ]
    assert "fine" in failed_ids(store, span, group.fingerprint).ids
    assert "fine" in {job.id for job in last_failures(store, span, limit=1000)}
    assert read_failures(store, now).report.failure_count >= 1
    totals = read_totals(store, now=now, window_seconds=600)
    assert totals.unsuccessful_in_day >= 1
    assert totals.began_at is None or totals.began_at <= now
    assert "enhance" in store.usual_runtimes(since=now - 86_400)
    store.unfinished(before=now)
    store.end_old_retries(before=now - 86_400, at=now, reason="test")


def test_rows_of_sqlite_hold_whatever_anybody_wrote(tmp_path: Path, open_store: OpenStore) -> None:
    path, now = tmp_path / "jobs.db", time.time()
    store = open_store(f"sqlite:///{path}")
    store.record([fine(now)])
    names = [column.name for column in JOB_COLUMNS]
    count = 0
    with sqlite3.connect(path) as connection:
        for name in names:
            for value in HOSTILE:
                count += 1
                cells = [f"'h{count}'" if cell == "id" else cell for cell in names]
                if name != "id":
                    cells[names.index(name)] = value
                else:
                    cells[0] = f"{value} || x'ff' || '{count}'"
                connection.execute(
                    f"INSERT INTO jobs ({', '.join(names)})"  # noqa: S608 - of the test
                    f" SELECT {', '.join(cells)} FROM jobs WHERE id = 'fine'"
                )
        connection.execute("UPDATE jobs SET status = 'paused', queue = 'new' WHERE id = 'h30'")
    connection.close()
    seen_everywhere(store, now, {"fine", "h30"})
    (newer,) = find_jobs(store, JobFilter(queue="new")).jobs
    assert newer.status == "paused"


def test_rows_of_postgresql_hold_what_a_newer_worker_wrote(
    postgresql_url: str, open_store: OpenStore
) -> None:
    now = time.time()
    store = open_store(postgresql_url)
    store.record([fine(now)])
    names = [column.name for column in JOB_COLUMNS]
    hostile: dict[str, tuple[Any, ...]] = {
        "status": ("paused", "", "=1+1"),
        "attempts": (-1, 0),
        "error_message": ("\u202e\x1b", "x" * 1000),
    }
    for name in ("enqueued_at", "started_at", "finished_at", "wait_seconds", "runtime_seconds"):
        hostile[name] = (float("nan"), float("inf"), float("-inf"), 1e300, -1.0)
    count = 0
    with psycopg.connect(postgresql_url.replace("+psycopg", "")) as connection:
        for name, values in hostile.items():
            for value in values:
                count += 1
                cells = [f"'h{count}'" if cell == "id" else cell for cell in names]
                cells[names.index(name)] = "%s"
                connection.execute(
                    f"INSERT INTO jobs ({', '.join(names)})"  # noqa: S608
                    f" SELECT {', '.join(cells)} FROM jobs WHERE id = 'fine'",
                    [value],
                )
    seen_everywhere(store, now, {"fine", "h1"})
