"""Rows of the audit that this version did not write: shown as they are, without hiding others."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from datetime import UTC
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner

from queuescope.cli import main
from queuescope.dashboard.operations.tables import audit_table
from queuescope.errors import AuditError
from queuescope.operations.access import Actor, Origin, Role
from queuescope.operations.audit import Outcome, Result, Search
from queuescope.operations.request import Request
from queuescope.operations.store import OperationsStore
from queuescope.shown_text import is_fully_visible
from queuescope.watch import read_past_operations

ADA = Actor("ada", Origin.OIDC)
COLUMNS = (
    *("seq", "at_ms", "act", "phase", "actor", "role", "operation", "target"),
    *("touched", "result", "detail", "previous", "hash"),
)
HOSTILE = (
    *("'text'", "x'ff00'", "CAST(x'66ff' AS TEXT)", "9e999", "-1", "''", "';=1+1'"),
    *("9223372036854775807", "char(0, 27, 8238)", "1.5"),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "operations.db"


@pytest.fixture
def store(path: Path) -> Iterator[OperationsStore]:
    made = OperationsStore(f"sqlite:///{path}")
    made.refuse(ADA, Role.ADMIN, Request.pause("fine"), "no")
    yield made
    made.close()


def seen_everywhere(store: OperationsStore, count: int) -> None:
    entries = store.audit.find(Search(), limit=10_000)
    assert len(entries) == count
    assert "queue fine" in {entry.event.target for entry in entries}
    assert "queue fine" in str(audit_table(entries, frozenset(), UTC, time.time()))
    assert len(list(store.audit.export_csv(Search()))) == count + 1
    lines = list(store.audit.export_json(Search()))
    assert len("".join(lines).encode().splitlines()) == count
    read_past_operations(store.audit, limit=10_000)
    assert store.audit.verify().fault


def test_rows_of_sqlite_hold_whatever_anybody_wrote(store: OperationsStore, path: Path) -> None:
    count = 1
    with sqlite3.connect(path) as connection:
        for name in COLUMNS[1:]:
            for value in HOSTILE:
                count += 1
                cells = list(COLUMNS)
                cells[0] = str(count)
                cells[COLUMNS.index(name)] = value
                connection.execute(
                    f"INSERT INTO operations_audit ({', '.join(COLUMNS)})"  # noqa: S608 - a test's
                    f" SELECT {', '.join(cells)} FROM operations_audit WHERE seq = 1"
                )
    connection.close()
    seen_everywhere(store, count)
    listed = CliRunner().invoke(
        main,
        ["audit", "list", "--limit", "10000"],
        env={
            "QUEUESCOPE_OPERATIONS_STORE_URL": f"sqlite:///{path}",
            "PROMETHEUS_URL": "http://127.0.0.1:1",
        },
    )
    assert listed.exception is None
    lines = listed.stdout.removesuffix("\n").split("\n")
    assert len(lines) == count
    # None of them gives orders to the terminal, or stands in another line.
    assert all(map(is_fully_visible, lines))
    assert any(r"\u001b\u202e" in line for line in lines)


def test_rows_of_postgresql_hold_what_a_newer_version_wrote(postgresql_url: str) -> None:
    store = OperationsStore(postgresql_url)
    store.refuse(ADA, Role.ADMIN, Request.pause("fine"), "no")
    with psycopg.connect(postgresql_url.replace("+psycopg", "")) as connection:
        for seq, (name, value) in enumerate(
            (
                *(("phase", "'draft'"), ("result", "'postponed'"), ("role", "''")),
                *(("at_ms", "9223372036854775807"), ("at_ms", "-9223372036854775808")),
            ),
            2,
        ):
            cells = [
                str(seq) if cell == "seq" else value if cell == name else cell for cell in COLUMNS
            ]
            connection.execute(
                f"INSERT INTO operations_audit ({', '.join(COLUMNS)})"  # noqa: S608
                f" SELECT {', '.join(cells)} FROM operations_audit WHERE seq = 1"
            )
    seen_everywhere(store, 6)
    store.close()


@pytest.mark.parametrize("value", ["'soon'", "x'ff'", "9223372036854775807", "-1", "NULL"])
@pytest.mark.parametrize("column", ["act", "target", "server", "at_ms"])
def test_a_damaged_open_operation_is_ended_and_delays_no_other(
    store: OperationsStore, path: Path, column: str, value: str
) -> None:
    """Those of other servers are shown, and the tidying continues."""
    with sqlite3.connect(path) as connection:
        cells = {"act": "'a'", "target": "'t'", "server": "'h/1/x'", "at_ms": "1"}
        connection.execute(
            "INSERT OR IGNORE INTO operations_open (act, target, server, at_ms) VALUES"  # noqa: S608
            f" ({', '.join((cells | {column: value}).values())})"
        )
    connection.close()
    store.open_operations()
    store.end_abandoned()
    plan = store.plan(ADA, Request.pause("fine"), 1)
    act = store.begin(plan, ADA, Role.ADMIN, 1)
    store.end(Outcome(Result.DONE, "done", 1, act), ADA, Role.ADMIN, Request.pause("fine"))


@pytest.mark.parametrize("value", ["'soon'", "x'ff'", "'{}'", "'[1]'"])
def test_a_database_without_the_desired_state_says_so(
    store: OperationsStore, path: Path, value: str
) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute(f"UPDATE operations_desired SET paused = {value}")  # noqa: S608
    connection.close()
    with pytest.raises(AuditError, match="is damaged"):
        store.desired.read()
