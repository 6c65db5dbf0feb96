"""Fixtures for all tests; real servers that are stopped at the end of the test."""

from __future__ import annotations

import gc
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery
from hypothesis import settings
from kombu import pools
from tests.failed_tests import pytest_terminal_summary  # noqa: F401 - a hook of these tests
from tests.orphans import Reaper
from tests.real_broker import RealBroker
from tests.real_postgresql import RealPostgreSQL
from tests.real_prometheus import RealPrometheus
from xdist.scheduler import LoadFileScheduling

from queuescope.instrument import instrument
from queuescope.prometheus import PrometheusClient

StartPrometheus = Callable[..., RealPrometheus]

# The duration of an example depends more on the machine than on the code.
settings.register_profile("part", deadline=None, max_examples=40)
settings.register_profile("long", deadline=None, max_examples=500)
settings.load_profile("part")


# A process that stands still for the usual 5 s while the machine is busy would take an answer for
# none. Where the deadline is the subject, a test names its own.
assert PrometheusClient.__init__.__kwdefaults__ is not None
PrometheusClient.__init__.__kwdefaults__["timeout_seconds"] = 60.0


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--long", action="store_true", help="each case and many more examples; takes an hour"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "long: runs only with --long")
    if config.getoption("--long"):
        settings.load_profile("long")


def pytest_xdist_auto_num_workers() -> int:
    """Eight for two cores: many tests wait for servers most of the time."""
    return max(2, 4 * (os.cpu_count() or 1))


_PAGES = "tests/browser/"

# If a long file started last, the others would wait for it at the end. Files that need the CPU
# alternate with files that wait.
_FIRST_FILES = (
    "tests/demo/test_stack.py",
    "tests/dashboard/test_services.py",
    "tests/dashboard/overview/test_live_overview.py",
    "tests/dashboard/operations/test_faults.py",
    "tests/dashboard/jobs/test_faults.py",
    "tests/instrument/test_worker_states.py",
    "tests/instrument/test_obedience.py",
    "tests/dashboard/auth/test_frames.py",
    "tests/instrument/test_oldest_celery.py",
    "tests/browser/test_operations.py",
    "tests/browser/test_workers.py",
    "tests/browser/test_charts.py",
    "tests/browser/test_outage.py",
    "tests/browser/test_login.py",
    "tests/browser/test_live.py",
)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The longest files first, then all others; without ``--long`` a part of the cases."""
    if not config.getoption("--long"):
        left_out = [item for item in items if item.get_closest_marker("long")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("long")]
    ranks = {file: rank for rank, file in enumerate(_FIRST_FILES)}
    items.sort(key=lambda item: ranks.get(item.nodeid.partition("::")[0], len(ranks)))


class _PagesApart(LoadFileScheduling):  # type: ignore[misc]  # xdist has no types for it
    """A file stays in one process. Those of the page, each of which keeps a browser at work, go to
    one process more than there are cores for as long as there are others, which wait for servers
    most of the time.
    """

    def __init__(self, config: pytest.Config, log: Any) -> None:
        super().__init__(config, log)
        self._browsing: set[object] = set()

    def _assign_work_unit(self, node: Any) -> None:
        if len(self._browsing) <= (os.cpu_count() or 1):
            self._browsing.add(node)
        fits = (
            file for file in self.workqueue if file.startswith(_PAGES) == (node in self._browsing)
        )
        self.workqueue.move_to_end(next(fits, next(iter(self.workqueue))), last=False)
        super()._assign_work_unit(node)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling:
    return _PagesApart(config, log)


@pytest.fixture(scope="module", autouse=True)
def _a_file_leaves_nothing_open() -> Iterator[None]:
    """So that a leak is a failure here, and not wherever the garbage collector happens to run."""
    yield
    gc.collect()


def pytest_collection_finish() -> None:
    """Objects from before the first test stay, and need not be collected after each file."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _shared_servers_leave_nothing_open() -> Iterator[None]:
    """With several processes, problems that one finds after its last test would not be reported."""
    reaper = Reaper()
    yield
    gc.collect()
    left = reaper.left()
    reaper.close()
    assert left == [], "these processes were left to run"


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


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RealBroker]:
    """A separate broker for the test, which it may stop."""
    with RealBroker(tmp_path / "broker") as running:
        yield running


@pytest.fixture
def client(server: RealBroker) -> Iterator[redis.Redis]:
    """A client of that broker."""
    with server.connected() as made:
        yield made


@pytest.fixture
def customer(server: RealBroker) -> Iterator[Celery]:
    """A project that sends jobs to that broker, instrumented like its workers."""
    app = Celery("customer", broker=server.url, set_as_current=False)
    instrument(app)
    yield app
    app.close()
    # Kombu keeps pools by address, and the next broker may have the same address.
    pools.reset()  # type: ignore[no-untyped-call]


@pytest.fixture(scope="session")
def postgresql() -> Iterator[RealPostgreSQL]:
    """One server for all tests; a test that stops it starts it again."""
    with RealPostgreSQL() as server:
        yield server


@pytest.fixture
def postgresql_url(postgresql: RealPostgreSQL) -> Iterator[str]:
    """A separate database for the test."""
    name = f"jobs_{secrets.token_hex(4)}"
    postgresql.execute(f"CREATE DATABASE {name}")
    yield postgresql.url(name)
    postgresql.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"
