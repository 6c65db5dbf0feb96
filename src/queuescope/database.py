"""How the databases of Queuescope are opened, asked, and told of in words: SQLite or PostgreSQL.

What is kept there, and under which tables, is said by the parts that keep it.
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
    TimeoutError,  # noqa: A004 - of a pool that has no connection free
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
_TOO_LONG = "it took too long; ask for less, or try again when it has less to do"
# By the beginnings of SQLite's own names of its errors.
_OF_SQLITE = {
    "SQLITE_BUSY": (StoreErrorKind.LOCKED, "another keeps it locked; try again"),
    "SQLITE_INTERRUPT": (StoreErrorKind.SLOW, _TOO_LONG),
    "SQLITE_READONLY": (StoreErrorKind.READ_ONLY, "its file or folder may not be written"),
    "SQLITE_CANTOPEN": (
        StoreErrorKind.DOWN,
        "its file cannot be opened; check that it is there, and that its folder may be entered",
    ),
    "SQLITE_PERM": (StoreErrorKind.NO_PERMISSION, "its file may not be read"),
    "SQLITE_FULL": (StoreErrorKind.UNUSABLE, "the disk is full"),
    # What connections share of a file grows with the first of them.
    "SQLITE_IOERR_SHMSIZE": (StoreErrorKind.UNUSABLE, "the disk is full"),
    "SQLITE_IOERR": (
        StoreErrorKind.UNUSABLE,
        "its file cannot be read or written; check the disk that it is on",
    ),
    "SQLITE_CORRUPT": (StoreErrorKind.UNUSABLE, "its file is damaged"),
    "SQLITE_NOTADB": (StoreErrorKind.UNUSABLE, "its file is no database"),
}
# How many steps of SQLite's virtual machine go by between two looks at the clock.
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
        """``title`` names it in sentences, ``setting`` is where its address stands, ``error``
        makes what is raised of a message and its kind, and ``remedies`` says what may be said of
        an SQLSTATE, the error code of the SQL standard. ``create`` makes the tables that are
        missing; it is called before the first use, by several processes at once, unless all
        ``exists``. ``timeout_seconds`` bounds the wait for a connection and for a lock. With
        ``serial_writes`` a transaction of SQLite holds the only right to write from its
        beginning, and is on the disk when it ends. ``is_private`` makes a file of SQLite that is
        missing, and its folder, for this user alone; else the umask decides.

        Raises ``ConfigurationError`` when ``url`` is not an address of SQLite or PostgreSQL, or
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
        # Of the threads of one process the next in line goes on, which SQLite does not promise.
        self._turn = threading.Lock() if self.is_sqlite and serial_writes else nullcontext()
        if self.is_sqlite:
            # A connection per use: a pool would be shared with the children that a worker forks.
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
        """One transaction, which is undone when its block raises.

        Raises what ``error`` makes when the database does not give a usable answer; the next
        call tries anew. The error names the database and never a password.
        """
        with self._turn, self._opened(reads_only=False) as connection:
            yield connection

    @contextmanager
    def reading(self, *, within_seconds: float | None = None) -> Iterator[Connection]:
        """One transaction that sees one state, waits for no writer, and needs no right to write
        where the tables are there. Raises as ``transaction`` does, also when a statement of it
        (in SQLite all of them together) takes longer than ``within_seconds``.
        """
        with self._opened(reads_only=True) as connection:
            if within_seconds is not None:
                self._bound(connection, within_seconds)
            if self.is_sqlite:
                # The driver begins by itself only to write, and would read each statement's state.
                sqlite: Any = connection.connection.dbapi_connection
                if not sqlite.in_transaction:
                    connection.exec_driver_sql("BEGIN")
            yield connection

    def _bound(self, connection: Connection, seconds: float) -> None:
        if not self.is_sqlite:
            milliseconds = max(2, round(seconds * 1000))
            connection.exec_driver_sql(f"SET LOCAL statement_timeout = {milliseconds}")
            # So that what waits for a lock is told from what takes long.
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = {milliseconds // 2}")
            return
        until = time.monotonic() + seconds
        # The connection ends with its use, and so does this.
        sqlite: Any = connection.connection.dbapi_connection
        sqlite.set_progress_handler(lambda: time.monotonic() > until, _STEPS)

    @contextmanager
    def _opened(self, *, reads_only: bool) -> Iterator[Connection]:
        if self._pid != os.getpid():
            # The connections of the process that forked this one stay its own. They are held
            # here, as what is let go without being closed complains.
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
            # The tables may have gone with a database that was made anew.
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
        """The file of SQLite; None for PostgreSQL, and for what has no file of its own."""
        return self._path

    def close(self) -> None:
        """Give the connections back; the database can still be used."""
        self._engine.dispose()

    def _make_file(self, path: Path) -> None:
        if self._is_private:
            make_private_folder(path.parent)
            # What SQLite puts beside a file (-wal, -shm) gets the mode of the file.
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
                # PostgreSQL may refuse what another has just made; then it is there now.
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
        """What went wrong in plain words; the database's own text stays in the cause."""
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
                "and that the address names it rightly, with its user and password"
            ), StoreErrorKind.DOWN
        kind = StoreErrorKind.DOWN if exc.connection_invalidated else StoreErrorKind.UNUSABLE
        return f"did not answer ({name}{f' {state}' if state else ''})", kind


def _parse(url: str, setting: str) -> URL:
    # The text of a cause may hold the password, so causes are not kept.
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
    """The file of SQLite, unless it is none or one in SQLite's own spelling (``file:…``)."""
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
        # A server that vanished without a word is given up, not waited for.
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
    """What stands in a column of text: SQLite keeps there whatever anybody writes."""
    if isinstance(value, bytes | memoryview):
        value = bytes(value[:limit]).decode("utf-8", "replace")
    return "" if value is None else str(value)[:limit]


def as_number(value: object, *, most: float = 1e12) -> float | None:
    """What stands in a column of numbers; ``None`` for what is none, not finite, or beyond
    ``most`` on either side.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not -most <= value <= most:
        return None
    return float(value)


def as_whole(value: object) -> int | None:
    """What stands in a column of whole numbers; ``None`` for what is none."""
    return value if isinstance(value, int) and -(2**63) <= value < 2**63 else None


def member(kind: type[StrEnum], text: str) -> str:
    """The member of ``kind`` that ``text`` names, or ``text`` itself, as of a newer version."""
    try:
        return kind(text)
    except ValueError:
        return text


def _tune_sqlite(connection: Any, _record: object) -> None:
    # Text that is not UTF-8 was not written by us: it must not hide the rows beside it.
    connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
    cursor = connection.cursor()
    # Readers never wait for the writer, and a crash of the process loses nothing. The switch is
    # kept in the file; while another connection makes it, SQLite refuses instead of waiting.
    if cursor.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        with suppress(sqlite3.OperationalError):
            cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.execute("PRAGMA cache_size=-32000")
    cursor.close()


def _write_through(connection: Any, _record: object) -> None:
    # The driver would begin by itself, and only at the first write.
    connection.isolation_level = None
    connection.execute("PRAGMA synchronous=FULL")


def _begin_to_write(connection: Connection) -> None:
    reads_only = connection.get_execution_options().get("queuescope_reads_only", False)
    connection.exec_driver_sql("BEGIN" if reads_only else "BEGIN IMMEDIATE")
