"""A real PostgreSQL for tests: new, stoppable, restartable, and removed with the test."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
import psycopg
from tests.ports import free_port

OWNER = "owner"
"""Owns every database of the server, and needs no password."""

_UNPACKED = Path(__file__).parents[1] / ".postgresql"
_ANSWER_WITHIN_SECONDS = 120.0
_SETTINGS = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
fsync = off  # the machine may lose it all; what was committed survives a kill of the server
full_page_writes = off
shared_buffers = 16MB
autovacuum = off
jit = off
timezone = 'GMT'
log_timezone = 'GMT'
"""
# The owner needs no password; every other user does.
_ACCESS = f"""
host all {OWNER} 127.0.0.1/32 trust
host all all 127.0.0.1/32 scram-sha-256
"""


class RealPostgreSQL:
    """A PostgreSQL server on a free port of the loopback interface.

    It refuses to run as root, so it then runs as the user ``nobody``, with files in a separate
    folder: pytest's folders are private to their owner. Use it as a context manager. The port and
    the data stay the same across restarts.
    """

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="queuescope-postgresql-"))
        self._data = self._folder / "data"
        self._log = self._folder / "server.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._account: dict[str, Any] = {}
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(self._folder, nobody.pw_uid, nobody.pw_gid)
            self._account = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        self._programs, self._environment = self._find_programs()
        self.port = free_port()

    def url(self, database: str, *, user: str = OWNER, password: str = "") -> str:
        """The address as a user writes it, with SQLAlchemy's name of the driver."""
        secret = f":{password}" if password else ""
        return f"postgresql+psycopg://{user}{secret}@127.0.0.1:{self.port}/{database}"

    def execute(self, sql: str, *, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run statements as the owner, each in its own transaction."""
        with self.connect(database) as connection:
            cursor = connection.execute(sql.encode())
            return cursor.fetchall() if cursor.description else []

    def connect(self, database: str) -> psycopg.Connection[tuple[Any, ...]]:
        """The owner's own connection, which commits each statement."""
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user=OWNER, dbname=database, autocommit=True
        )

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with self._log.open("ab") as log:
            self._process = self._popen("postgres", "-D", self._data, stdout=log, stderr=log)
        until = time.monotonic() + _ANSWER_WITHIN_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > until:
                self.kill()
                raise RuntimeError(self._log.read_text("utf-8"))
            time.sleep(0.02)

    def kill(self) -> None:
        """Stop it at once, with everything that it does. Does nothing if it does not run."""
        if self._process is None:
            return
        # The fastest way that leaves no process behind: SIGKILL would orphan its children.
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(30)
        self._process = None

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """While connections are accepted but no response comes, on new and on old ones."""
        assert self._process is not None
        server = psutil.Process(self._process.pid)
        # A server that is still about to stop may start a process that nothing would suspend.
        _stop(server)
        children = server.children()
        for child in children:
            _stop(child)
        try:
            yield
        finally:
            for process in (server, *children):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.resume()

    def _answers(self) -> bool:
        try:
            self.connect("postgres").close()
        except psycopg.OperationalError:
            return False
        return True

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as on_failure:
            on_failure.callback(shutil.rmtree, self._folder, ignore_errors=True)
            made = self._popen(
                *("initdb", "-D", self._data, "-U", OWNER, "--auth=trust", "--no-sync"),
                *("--encoding=UTF8", "--locale=C", "--no-instructions"),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            said, _ = made.communicate()
            if made.returncode:
                raise RuntimeError(said.decode(errors="replace"))
            with (self._data / "postgresql.conf").open("a", encoding="utf-8") as settings:
                settings.write(f"{_SETTINGS}port = {self.port}\n")
            (self._data / "pg_hba.conf").write_text(_ACCESS, "utf-8")
            self.start()
            on_failure.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.kill()
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _find_programs(self) -> tuple[Path, dict[str, str]]:
        """The folder of the programs, and the environment that they need."""
        environment = {**os.environ, "LC_ALL": "C", "TZ": "GMT"}
        installed = _newest(Path("/usr/lib/postgresql"))
        if installed is not None:
            return installed, environment
        unpacked = _newest(_UNPACKED / "usr/lib/postgresql")
        if unpacked is None:
            on_path = shutil.which("postgres")
            if on_path is None:
                raise RuntimeError("there is no PostgreSQL server for the tests; ./test fetches it")
            return Path(on_path).resolve().parent, environment
        root = _UNPACKED
        if self._account and not self._may_run(unpacked / "postgres"):
            # Other users cannot read a project in root's home.
            root = self._folder / "programs"
            shutil.copytree(_UNPACKED, root, symlinks=True)
        environment["LD_LIBRARY_PATH"] = str(root / "libraries")
        return root / unpacked.relative_to(_UNPACKED), environment

    def _may_run(self, program: Path) -> bool:
        try:
            subprocess.run(
                [program, "--version"], check=False, capture_output=True, cwd="/", **self._account
            )
        except PermissionError:
            return False
        return True

    def _popen(self, program: str, *arguments: str | Path, **to: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [self._programs / program, *arguments],
            cwd=self._folder,
            env=self._environment,
            start_new_session=True,
            **to,
            **self._account,
        )


def _stop(process: psutil.Process) -> None:
    """Suspend a process, and wait until it stands still or has ended."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process.suspend()
        while process.status() not in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE):
            time.sleep(0.001)


def _newest(versions: Path) -> Path | None:
    """The folder of the programs of the newest version that has a server."""
    found = [p.parent for p in versions.glob("*/bin/initdb") if (p.parent / "postgres").is_file()]
    return max(found, key=lambda path: _version(path.parent.name), default=None)


def _version(name: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", name))
