"""Fixtures that every test may use; real servers, gone when the test is over."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.real_postgresql import RealPostgreSQL
from tests.real_prometheus import RealPrometheus

StartPrometheus = Callable[..., RealPrometheus]


@pytest.fixture
def start_prometheus(tmp_path: Path) -> Iterator[StartPrometheus]:
    """Starts a ``RealPrometheus`` below ``tmp_path`` with the arguments of its constructor."""
    with ExitStack() as running:
        count = 0

        def start(**arguments: Any) -> RealPrometheus:
            nonlocal count
            count += 1
            server = RealPrometheus(tmp_path / f"prometheus-{count}", **arguments)
            return running.enter_context(server)

        yield start


@pytest.fixture(scope="session")
def postgresql() -> Iterator[RealPostgreSQL]:
    """One server for all; whoever stops it starts it again."""
    with RealPostgreSQL() as server:
        yield server


@pytest.fixture
def postgresql_url(postgresql: RealPostgreSQL) -> Iterator[str]:
    """A database of the test's own."""
    name = f"jobs_{secrets.token_hex(4)}"
    postgresql.execute(f"CREATE DATABASE {name}")
    yield postgresql.url(name)
    postgresql.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"
