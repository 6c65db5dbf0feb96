"""Fixtures that every test may use; real servers, gone when the test is over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
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
def anyio_backend() -> str:
    return "asyncio"
