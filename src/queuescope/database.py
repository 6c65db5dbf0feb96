"""Opens and uses SQLite and PostgreSQL databases, and describes their errors in words.

The tables are defined by the parts that use them.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from enum import StrEnum
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, NullPool, Pool, create_engine, event, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    NoSuchModuleError,
    OperationalError,
    SQLAlchemyError,
    TimeoutError,  # noqa: A004 - raised by a pool without a free connection
)

from queuescope.errors import ConfigurationError, QueuescopeError, StoreErrorKind
from queuescope.private_files import make_private_file, make_private_folder
from queuescope.words import to_install

_DRIVERS = {"sqlite": "sqlite+pysqlite", "postgresql": "postgresql+psycopg"}
_KINDS = {
    "25006": StoreErrorKind.READ_ONLY,
    "42501": StoreErrorKind.NO_PERMISSION,
    "42703": StoreErrorKind.NOT_OURS,
    "55P03": StoreErrorKind.LOCKED,
    "57014": StoreErrorKind.SLOW,
}
_TOO_LONG = "it took too long; request less, or try again when it is less busy"
# By the beginning of SQLite's names of its errors.
_OF_SQLITE = {
    "SQLITE_BUSY": (StoreErrorKind.LOCKED, "another process has locked it; try again"),
    "SQLITE_INTERRUPT": (StoreErrorKind.SLOW, _TOO_LONG),
    "SQLITE_READONLY": (StoreErrorKind.READ_ONLY, "its file or folder may not be written"),
    "SQLITE_CANTOPEN": (
        StoreErrorKind.DOWN,
        "its file cannot be opened; check that it exists, and that its folder is accessible",
    ),
    "SQLITE_PERM": (StoreErrorKind.NO_PERMISSION, "its file may not be read"),
    "SQLITE_FULL": (StoreErrorKind.UNUSABLE, "the disk is full"),
    # The shared-memory file of the first connection could not grow.
    "SQLITE_IOERR_SHMSIZE": (StoreErrorKind.UNUSABLE, "the disk is full"),
    "SQLITE_IOERR": (
        StoreErrorKind.UNUSABLE,
        "its file cannot be read or written; check its disk",
    ),
    "SQLITE_CORRUPT": (StoreErrorKind.UNUSABLE, "its file is damaged"),
    "SQLITE_NOTADB": (StoreErrorKind.UNUSABLE, "its file is not a database"),
}
# How many steps of SQLite's virtual machine run between two checks of the time limit.
_STEPS = 5_000


class Database:
    """The database behind ``url``, such as ``sqlite:////var/lib/queuescope/jobs.db`` or
    ``postgresql://user@host/database``.

    Nothing is opened before the first use. Threads, and processes that are forked later, may use
    the same one.
    """

    def __init__(
        self,
        url: str,
        *,
        setting: str,
        title: str,
        error: Callable[[str, StoreErrorKind], QueuescopeError],
        remedies: Mapping[str, str],
        create: Callable[[Connection], None],
        exists: Callable[[Connection], bool] = lambda _connection: False,
        timeout_seconds: float,
        serial_writes: bool = False,
        is_private: bool = False,
        pool_size: int = 2,
    ) -> None:
        """``title`` names the database in sentences, ``setting`` is the setting with its address,
        ``error`` makes the exception from a message and its kind, and ``remedies`` has a cause and
        remedy for each SQLSTATE, the error code of the SQL standard. ``create`` makes the missing
        tables; it is called before the first use, maybe by several processes at once, unless
        ``exists`` says that all exist. ``timeout_seconds`` limits the wait for a connection and for
        a lock. With ``serial_writes`` a transaction of SQLite has the write lock from its beginning
        and is flushed to the disk at its end. With ``is_private`` a new file of SQLite and its
        folder are accessible for this user only; otherwise the umask decides.

        Raises ``ConfigurationError`` if ``url`` is not an address of SQLite or PostgreSQL, or if
        its driver is not installed.
        """
        parsed = _parse(url, setting)
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        self.place = _place(parsed)
        self._title = title
        self._error = error
        self._remedies = remedies
        self._create = create
        self._exists = exists
        self._path = _file(parsed)
        self._is_private = is_private
        self._timeout_seconds = timeout_seconds
        # Threads of one process take turns in order, which SQLite does not guarantee.
        self._turn = threading.Lock() if self.is_sqlite and serial_writes else nullcontext()
        if self.is_sqlite:
            # One connection per use: a pool would be shared with the children of a worker.
            self._engine = create_engine(
                parsed,
                poolclass=NullPool,
                connect_args={"timeout": timeout_seconds},
                hide_parameters=True,
            )
            event.listen(self._engine, "connect", _tune_sqlite)
            if serial_writes:
                event.listen(self._engine, "connect", _write_through)
                event.listen(self._engine, "begin", _begin_to_write)
        else:
            self._engine = _postgresql_engine(parsed, setting, timeout_seconds, pool_size)
        self._pid = os.getpid()
        self._inherited: list[Pool] = []
        self._is_created = False

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """One transaction, which is rolled back if its block raises.

        Raises the exception of ``error`` if the database does not give a usable answer; the next
        call tries again. The error names the database and never a password.
        """
        with self._turn, self._opened(reads_only=False) as connection:
            yield connection

    @contextmanager
    def reading(self, *, within_seconds: float | None = None) -> Iterator[Connection]:
        """One transaction that sees one state, waits for no writer, and needs no right to write if
        the tables exist. Raises like ``transaction``, also if a statement (in SQLite all of them
        together) takes longer than ``within_seconds``.
        """
        with self._opened(reads_only=True) as connection:
            if within_seconds is not None:
                self._bound(connection, within_seconds)
            if self.is_sqlite:
                # The driver starts a transaction only for writes; reads would see several states.
                sqlite: Any = connection.connection.dbapi_connection
                if not sqlite.in_transaction:
                    connection.exec_driver_sql("BEGIN")
            yield connection

    def _bound(self, connection: Connection, seconds: float) -> None:
        if not self.is_sqlite:
            milliseconds = max(2, round(seconds * 1000))
            connection.exec_driver_sql(f"SET LOCAL statement_timeout = {milliseconds}")
            # A shorter lock timeout tells waiting for a lock from a slow statement.
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = {milliseconds // 2}")
            return
        until = time.monotonic() + seconds
        # The handler ends with the connection, after this use.
        sqlite: Any = connection.connection.dbapi_connection
        sqlite.set_progress_handler(lambda: time.monotonic() > until, _STEPS)

    @contextmanager
    def _opened(self, *, reads_only: bool) -> Iterator[Connection]:
        if self._pid != os.getpid():
            # The connections belong to the parent process. They are kept referenced here, since
            # unclosed connections warn when they are collected.
            self._inherited.append(self._engine.pool)
            self._engine.dispose(close=False)
            self._pid = os.getpid()
        try:
            if not self._is_created:
                if self._path is not None:
                    self._make_file(self._path)
                self._create_tables()
                self._is_created = True
            with self._begin(reads_only=reads_only) as connection:
                yield connection
        except SQLAlchemyError as exc:
            # The database may have been replaced by a new one without tables.
            self._is_created = False
            words, kind = self._failure(exc)
            raise self._error(f"{self._title} ({self.place}) {words}", kind) from exc
        except OSError as exc:
            raise self._error(
                f"cannot create the file or folder of {self._title}: {exc.strerror}",
                StoreErrorKind.NO_PERMISSION,
            ) from exc

    @property
    def path(self) -> Path | None:
        """The file of SQLite; ``None`` for PostgreSQL, and for a database in memory."""
        return self._path

    def close(self) -> None:
        """Close the connections; the database can still be used."""
        self._engine.dispose()

    def _make_file(self, path: Path) -> None:
        if self._is_private:
            make_private_folder(path.parent)
            # SQLite's other files (-wal, -shm) get the mode of this file.
            make_private_file(path)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)

    def _create_tables(self) -> None:
        with self._begin(reads_only=True) as connection:
            if self._exists(connection):
                return
        for is_last in (False, True):
            try:
                with self._begin(reads_only=False) as connection:
                    self._create(connection)
            except DBAPIError as exc:
                # PostgreSQL may refuse to create what another process has just created.
                if is_last or _is_unopened(exc):
                    raise
            else:
                return

    @contextmanager
    def _begin(self, *, reads_only: bool) -> Iterator[Connection]:
        with self._engine.connect() as opened:
            connection = opened
            if reads_only and self.is_sqlite:
                connection = opened.execution_options(queuescope_reads_only=True)
            elif reads_only:
                connection = opened.execution_options(isolation_level="REPEATABLE READ")
            with connection.begin():
                if self.is_sqlite:
                    yield connection
                    return
                milliseconds = max(1, round(self._timeout_seconds * 1000))
                connection.exec_driver_sql(f"SET LOCAL lock_timeout = {milliseconds}")
                yield connection

    def _failure(self, exc: SQLAlchemyError) -> tuple[str, StoreErrorKind]:
        """The error in words, and its kind; the database's own text stays in the cause."""
        name = type(exc).__name__
        if isinstance(exc, TimeoutError):
            return "has no connection free (TimeoutError)", StoreErrorKind.SLOW
        if not isinstance(exc, DBAPIError):
            return f"did not answer ({name})", StoreErrorKind.UNUSABLE
        of_sqlite = str(getattr(exc.orig, "sqlite_errorname", None) or "")
        for beginning, (kind, words) in _OF_SQLITE.items():
            if of_sqlite.startswith(beginning):
                return f"refused ({name} {of_sqlite}): {words}", kind
        state = getattr(exc.orig, "sqlstate", None) or ""
        if state in self._remedies or state == "57014":
            words = self._remedies.get(state, _TOO_LONG)
            return (
                f"refused ({name} {state}): {words}",
                _KINDS.get(state, StoreErrorKind.UNUSABLE),
            )
        if type(exc.orig).__name__ == "ConnectionTimeout":
            return (
                "does not answer in time (ConnectionTimeout): check that it runs and is reachable"
            ), StoreErrorKind.DOWN
        if _is_unopened(exc):
            return (
                f"cannot be opened ({name}): check that it runs and is reachable, "
                "and that its address, user and password are right"
            ), StoreErrorKind.DOWN
        code = f"{name} {state}".rstrip()
        if exc.connection_invalidated:
            return (
                f"closed the connection ({code}): check that it runs and is reachable"
            ), StoreErrorKind.DOWN
        return f"did not answer ({code})", StoreErrorKind.UNUSABLE


def _parse(url: str, setting: str) -> URL:
    # The text of the cause may contain the password, so the cause is dropped.
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
        if "+" not in parsed.drivername:
            parsed = parsed.set(drivername=_DRIVERS.get(backend, backend))
        parsed.get_dialect()
    except (ArgumentError, NoSuchModuleError, ValueError):
        raise ConfigurationError(
            f"{setting} is not a database address; "
            "use sqlite:////path/to/file.db or postgresql://user@host/database"
        ) from None
    if backend not in _DRIVERS:
        raise ConfigurationError(
            f"{setting} names {backend!r}, which is not supported; use sqlite or postgresql"
        )
    if parsed.drivername != _DRIVERS[backend]:
        raise ConfigurationError(
            f"{setting} names the driver {parsed.drivername!r}, which is not supported; "
            f"use {backend}:// or {_DRIVERS[backend]}://"
        )
    if "@" in (parsed.host or ""):
        raise ConfigurationError(
            f"{setting} has two @; write an @ in the password as %40, and a / as %2F"
        )
    return parsed


def _file(url: URL) -> Path | None:
    """The file of SQLite; ``None`` in memory, and for SQLite's own syntax (``file:…``)."""
    name = url.database or ""
    if url.get_backend_name() != "sqlite" or not name or name.startswith((":", "file:")):
        return None
    return Path(name)


def _place(url: URL) -> str:
    """The database in words, without user, password and options."""
    if url.get_backend_name() == "sqlite":
        return f"SQLite, {url.database or 'in memory'}"
    words = ["PostgreSQL"]
    if url.database:
        words.append(f"database {url.database}")
    if url.host:
        words.append(f"at {url.host}:{url.port or 5432}")
    return " ".join(words)


def _postgresql_engine(url: URL, setting: str, timeout_seconds: float, pool_size: int) -> Engine:
    seconds = max(2, round(timeout_seconds))
    options = {
        "application_name": "queuescope",
        "connect_timeout": seconds,
        # Do not wait for a server that has vanished without closing the connection.
        "tcp_user_timeout": seconds * 1000,
        "keepalives_idle": 30,
        "keepalives_interval": seconds,
        "keepalives_count": 3,
    }
    try:
        return create_engine(
            url,
            pool_pre_ping=True,
            pool_size=pool_size,
            pool_timeout=seconds,
            hide_parameters=True,
            connect_args={k: v for k, v in options.items() if k not in url.query},
        )
    except ImportError as exc:
        raise ConfigurationError(
            f"{setting} names PostgreSQL, whose driver is not installed; {to_install('postgresql')}"
        ) from exc


def _is_unopened(exc: DBAPIError) -> bool:
    """Whether the connection failed, rather than a statement."""
    return isinstance(exc, OperationalError) and exc.statement is None


def as_text(value: object, limit: int = 10_000) -> str:
    """The value of a text column as text: SQLite stores any type there."""
    if isinstance(value, bytes | memoryview):
        value = bytes(value[:limit]).decode("utf-8", "replace")
    return "" if value is None else str(value)[:limit]


def as_number(value: object, *, most: float = 1e12) -> float | None:
    """The value of a numeric column; ``None`` if it is not a number, not finite, or its magnitude
    is above ``most``.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not -most <= value <= most:
        return None
    return float(value)


def as_whole(value: object) -> int | None:
    """The value of an integer column; ``None`` if it is not an integer."""
    return value if isinstance(value, int) and -(2**63) <= value < 2**63 else None


def member(kind: type[StrEnum], text: str) -> str:
    """The member of ``kind`` with the value ``text``, or ``text`` itself, as from a newer
    version.
    """
    try:
        return kind(text)
    except ValueError:
        return text


def _tune_sqlite(connection: Any, _record: object) -> None:
    # Foreign text that is not UTF-8 must not make other rows unreadable.
    connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
    cursor = connection.cursor()
    # With WAL readers never wait for the writer, and a crash of the process loses nothing. The mode
    # is stored in the file; while another connection sets it, SQLite refuses instead of waiting.
    if cursor.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        with suppress(sqlite3.OperationalError):
            cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.execute("PRAGMA cache_size=-32000")
    cursor.close()


def _write_through(connection: Any, _record: object) -> None:
    # Otherwise the driver starts transactions itself, only at the first write.
    connection.isolation_level = None
    connection.execute("PRAGMA synchronous=FULL")


def _begin_to_write(connection: Connection) -> None:
    reads_only = connection.get_execution_options().get("queuescope_reads_only", False)
    connection.exec_driver_sql("BEGIN" if reads_only else "BEGIN IMMEDIATE")
