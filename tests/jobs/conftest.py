"""Histories in a real SQLite file and in a real PostgreSQL, closed when the test is over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from queuescope.jobs.job import Job, JobStatus
from queuescope.jobs.store import JobStore

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


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a new history."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'deep' / 'jobs.db'}"
    found: str = request.getfixturevalue("postgresql_url")
    return found


OpenStore = Callable[..., JobStore]


@pytest.fixture
def open_store() -> Iterator[OpenStore]:
    """Opens histories that are closed after the test."""
    with ExitStack() as opened:

        def open_one(url: str, **arguments: Any) -> JobStore:
            made = JobStore(url, **arguments)
            opened.callback(made.close)
            return made

        yield open_one


@pytest.fixture
def store(url: str, open_store: OpenStore) -> JobStore:
    return open_store(url)
