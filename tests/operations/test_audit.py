"""The audit on a real SQLite file and a real PostgreSQL: its entries, and how changes are
detected.
"""

# ruff: noqa: S608 - the names in these statements are our own

from __future__ import annotations

import csv
import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, make_url, text
from tests.real_postgresql import RealPostgreSQL

from queuescope.errors import AuditError, ConfigurationError
from queuescope.operations.access import Actor, Origin, Role
from queuescope.operations.audit import Event, Outcome, Phase, Result, Search, append
from queuescope.operations.request import Request
from queuescope.operations.store import OperationsStore

ADA = Actor("ada", Origin.OIDC)
ROWS = 12
COLUMNS = [
    *("seq", "at_ms", "act", "phase", "actor", "role", "operation", "target", "touched"),
    *("result", "detail", "previous", "hash"),
]


FORGED = """
INSERT INTO operations_audit SELECT 13, at_ms, act, phase, actor, role, operation, target, touched,
result, detail, hash, previous FROM operations_audit WHERE seq = 12
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'deep' / 'operations.db'}"
    found: str = request.getfixturevalue("postgresql_url")
    return found


@pytest.fixture
def open_store() -> Iterator[Callable[..., OperationsStore]]:
    with ExitStack() as opened:

        def open_one(url: str, timeout_seconds: float = 30) -> OperationsStore:
            made = OperationsStore(url, timeout_seconds=timeout_seconds)
            opened.callback(made.close)
            return made

        yield open_one


@pytest.fixture
def store(url: str, open_store: Callable[..., OperationsStore]) -> OperationsStore:
    return open_store(url)


def perform(store: OperationsStore, request: Request, result: Result = Result.DONE) -> str:
    plan = store.plan(ADA, request, 3)
    act = store.begin(plan, ADA, Role.ADMIN, 3)
    store.end(Outcome(result, "three of them", 3, act), ADA, Role.ADMIN, request)
    return act


def filled(store: OperationsStore) -> OperationsStore:
    """With ``ROWS`` entries of six operations."""
    for number in range(ROWS // 2):
        perform(store, Request.purge(f"q{number}"))
    return store


def change(url: str, *statements: str) -> None:
    """A change that needs all rights to the database, without the append-only triggers."""
    engine = create_engine(make_url(url))
    with engine.begin() as connection:
        if engine.dialect.name == "sqlite":
            connection.execute(text("DROP TRIGGER IF EXISTS operations_audit_no_update"))
            connection.execute(text("DROP TRIGGER IF EXISTS operations_audit_no_delete"))
        else:
            connection.execute(text("ALTER TABLE operations_audit DISABLE TRIGGER USER"))
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


def test_an_intent_comes_before_its_outcome(store: OperationsStore) -> None:
    act = perform(store, Request.pause("default"))
    outcome, intent = store.audit.find(Search())
    assert [intent.seq, outcome.seq] == [1, 2]
    assert {intent.event.act, outcome.event.act} == {act}
    assert (intent.event.phase, intent.event.result) == (Phase.INTENT, Result.PENDING)
    assert (outcome.event.phase, outcome.event.result) == (Phase.OUTCOME, Result.DONE)
    assert intent.event.actor == "ada"
    assert intent.event.target == "queue default"
    assert outcome.previous == intent.hash
    assert not store.audit.verify().fault


def test_an_empty_audit_is_intact(store: OperationsStore) -> None:
    found = store.audit.verify()
    assert (found.entries, found.fault) == (0, "")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE operations_audit SET actor = 'eve' WHERE seq = 1",
        "DELETE FROM operations_audit WHERE seq = 2",
        "DELETE FROM operations_audit",
    ],
)
def test_the_database_itself_refuses_to_change_an_entry(
    store: OperationsStore, url: str, statement: str
) -> None:
    filled(store)
    engine = create_engine(make_url(url))
    with pytest.raises(Exception, match="append-only"), engine.begin() as connection:
        connection.execute(text(statement))
    engine.dispose()
    found = store.audit.verify()
    assert (found.entries, found.fault) == (ROWS, "")


@pytest.mark.parametrize(
    ("statements", "words"),
    [
        (["UPDATE operations_audit SET actor = 'eve' WHERE seq = 5"], "entry 5 was changed"),
        (["DELETE FROM operations_audit WHERE seq = 5"], "entry 5 is missing"),
        (["DELETE FROM operations_audit WHERE seq = 1"], "entry 1 is missing"),
        (["DELETE FROM operations_audit WHERE seq > 10"], "ends at entry 10"),
        (["DELETE FROM operations_audit"], "ends at entry 0"),
        (["DELETE FROM operations_audit_head"], "head of the chain is missing"),
        (
            [
                "UPDATE operations_audit SET seq = 99 WHERE seq = 5",
                "UPDATE operations_audit SET seq = 5 WHERE seq = 6",
                "UPDATE operations_audit SET seq = 6 WHERE seq = 99",
            ],
            "entry 5 was changed",
        ),
        (
            [FORGED],
            "entry 13 was changed",
        ),
    ],
    ids=["edit", "delete", "first", "tail", "all", "head", "reorder", "insert"],
)
def test_a_change_behind_its_back_is_found(
    store: OperationsStore, url: str, statements: list[str], words: str
) -> None:
    filled(store)
    change(url, *statements)
    assert words in store.audit.verify().fault


def test_a_rebuilt_chain_is_detected_with_a_saved_head(
    store: OperationsStore, url: str, tmp_path: Path
) -> None:
    """Nothing inside the database can show it; this is why a head should be saved elsewhere."""
    noted = filled(store).audit.verify().head
    perform(store, Request.pause("later"))
    assert not store.audit.verify(expected_head=noted).fault
    change(
        url,
        "DELETE FROM operations_audit",
        f"UPDATE operations_audit_head SET seq = 0, hash = '{'0' * 64}'",
    )
    store.refuse(ADA, Role.ADMIN, Request.pause("forged"), "")
    assert not store.audit.verify().fault
    assert "rebuilt or cut off" in store.audit.verify(expected_head=noted).fault


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with an intact chain, without its triggers."""
    path = tmp_path_factory.mktemp("audit") / "operations.db"
    made = filled(OperationsStore(f"sqlite:///{path}"))
    made.close()
    change(f"sqlite:///{path}")
    return path


@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_single_change_is_detected(whole: Path, tmp_path: Path, data: st.DataObject) -> None:
    table = data.draw(st.sampled_from(["operations_audit", "operations_audit_head"]))
    columns = COLUMNS if table == "operations_audit" else ["id", "seq", "hash"]
    seq = data.draw(st.integers(1, ROWS)) if table == "operations_audit" else ROWS
    column = data.draw(st.sampled_from(columns))
    path = tmp_path / "copy.db"
    with closing(sqlite3.connect(whole)) as source, closing(sqlite3.connect(path)) as copy:
        source.backup(copy)
        before = content(copy, table)
        old = copy.execute(f"SELECT {column} FROM {table} WHERE seq = ?", (seq,)).fetchone()[0]
        # SQLite keeps any kind of value in any column, and bytes that are no text as text.
        value, place = data.draw(
            st.one_of(
                st.integers(-(2**63), 2**63 - 1).map(lambda v: (v, "?")),
                st.floats(allow_nan=False).map(lambda v: (v, "?")),
                st.text(st.characters(exclude_categories=["Cs"])).map(lambda v: (v, "?")),
                st.binary(max_size=80).map(lambda v: (v, "?")),
                st.binary(max_size=80).map(lambda v: (v, "CAST(? AS TEXT)")),
                one_bit_of(str(old)).map(lambda v: (v, "CAST(? AS TEXT)")),
                st.just((None, "delete")),
            )
        )
        try:
            if place == "delete":
                copy.execute(f"DELETE FROM {table} WHERE seq = ?", (seq,))
            else:
                copy.execute(f"UPDATE {table} SET {column} = {place} WHERE seq = ?", (value, seq))
        except sqlite3.IntegrityError:
            return  # it is the key of another entry
        copy.commit()
        is_changed = content(copy, table) != before
    store = OperationsStore(f"sqlite:///{path}")
    try:
        assert bool(store.audit.verify().fault) == is_changed
    finally:
        store.close()


def one_bit_of(value: str) -> st.SearchStrategy[bytes]:
    """The same with one bit flipped."""
    raw = value.encode()
    return st.integers(0, 8 * len(raw) - 1).map(
        lambda bit: bytes(c ^ (1 << bit % 8) if i == bit // 8 else c for i, c in enumerate(raw))
    )


def content(connection: sqlite3.Connection, table: str) -> set[tuple[object, ...]]:
    """Every row with the kind and the bytes of each of its values."""
    columns = COLUMNS if table == "operations_audit" else ["id", "seq", "hash"]
    shown = ", ".join(f"typeof({column}), CAST({column} AS BLOB)" for column in columns)
    return set(connection.execute(f"SELECT {shown} FROM {table}"))


def test_text_from_elsewhere_stays_one_printable_line(store: OperationsStore) -> None:
    eve = Actor("eve\n2026 \u202eadmin\x00\udce9" + "x" * 500, Origin.PROXY)
    store.refuse(eve, Role.VIEWER, Request.pause("default"), "a\tb")
    (entry,) = store.audit.find(Search())
    assert entry.event.actor.startswith("eve\\n2026 \\u202eadmin\\x00\\udce9xxx")
    assert entry.event.actor.isprintable()
    assert len(entry.event.actor) <= 255
    assert not store.audit.verify().fault


def test_it_is_searched_paged_and_exported(store: OperationsStore) -> None:
    for number in range(30):
        perform(store, Request.purge(f"q{number}"), Result.FAILED if number % 3 else Result.DONE)
    store.refuse(ADA, Role.VIEWER, Request.pause("100%"), "=SUM(A1); ＝1;=cmd")
    newest = store.audit.find(Search(), limit=20)
    assert [entry.seq for entry in newest] == list(range(61, 41, -1))
    assert store.audit.find(Search(), limit=20, before=42)[0].seq == 41
    assert {e.event.target for e in store.audit.find(Search(text="QUEUE Q7"))} == {"queue q7"}
    assert len(store.audit.find(Search(text="0%"))) == 1
    assert len(store.audit.find(Search(result="done", operation="purge"), limit=99)) == 10
    assert store.audit.find(Search(actor="eve")) == []
    assert store.audit.find(Search(until_ms=newest[0].event.at_ms + 1), limit=1) == newest[:1]
    assert store.audit.find(Search(since_ms=newest[0].event.at_ms + 1)) == []
    assert [e.seq for e in store.audit.find(Search(target="Q7"))] == [16, 15]
    lines = list(csv.DictReader(store.audit.export_csv(Search(result="refused"))))
    assert [line["detail"] for line in lines] == ["'=SUM(A1); '＝1;'=cmd"]
    assert len(list(store.audit.export_csv(Search()))) == 62
    (refused,) = store.audit.export_json(Search(result="refused"))
    assert json.loads(refused)["detail"] == "=SUM(A1); ＝1;=cmd"
    exported = [json.loads(line)["seq"] for line in store.audit.export_json(Search())]
    assert exported == [*range(1, 62)]


def test_the_entries_of_an_operation_are_found_by_its_id(store: OperationsStore) -> None:
    first, second = (perform(store, Request.purge(name)) for name in ("a", "b"))
    assert [(e.event.act, e.seq) for e in store.audit.of_operations([second, "other"])] == [
        (second, 3),
        (second, 4),
    ]
    assert len(store.audit.of_operations([first, second])) == 4
    assert store.audit.of_operations([]) == []


def test_a_check_that_takes_too_long_says_how_far_it_came(
    store: OperationsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("queuescope.operations.audit._BATCH", 100)
    with store._database.transaction() as connection:
        event = Event(
            *(0, "act", Phase.INTENT, "ada", "admin", "purge", "queue q", 1, Result.PENDING, "")
        )
        for _ in range(101):
            append(connection, event)
    found = store.audit.verify(patience_seconds=0)
    assert (found.entries, found.fault, found.is_complete) == (100, "", False)
    assert store.audit.verify(expected_head=found.head).is_complete
    rest = store.audit.verify(after=found.head, expected_head=store.audit.verify().head)
    assert (rest.entries, rest.fault, rest.is_complete) == (101, "", True)


def test_a_check_continues_where_another_ended(store: OperationsStore, url: str) -> None:
    head = filled(store).audit.verify().head
    found = store.audit.verify(after=head)
    assert (found.entries, found.fault) == (ROWS, "")
    perform(store, Request.pause("later"))
    assert store.audit.verify(after=head, expected_head=head).entries == ROWS + 2
    elsewhere = f"{ROWS}:{'0' * 64}"
    assert "does not follow" in store.audit.verify(after=elsewhere).fault
    assert "rebuilt" in store.audit.verify(after=head, expected_head="13:" + "0" * 64).fault
    change(url, "DELETE FROM operations_audit WHERE seq > 13")
    assert "ends at entry 13" in store.audit.verify(after=head).fault


def test_write_access_is_checked_without_writing(
    store: OperationsStore,
) -> None:
    perform(store, Request.pause("default"))
    head = store.audit.verify().head
    store.audit.prove_writable()
    assert store.audit.verify().head == head


def test_a_lock_keeps_an_intent_from_being_written(
    open_store: Callable[..., OperationsStore], url: str, postgresql: RealPostgreSQL
) -> None:
    perform(open_store(url), Request.pause("default"))
    store = open_store(url, timeout_seconds=1)
    with ExitStack() as other:
        if url.startswith("sqlite"):
            connection = other.enter_context(closing(sqlite3.connect(make_url(url).database or "")))
            connection.execute("BEGIN IMMEDIATE")
        else:
            locked = other.enter_context(postgresql.connect(make_url(url).database or ""))
            other.enter_context(locked.transaction())
            locked.execute("SELECT * FROM operations_audit_head FOR UPDATE")
        with pytest.raises(AuditError):
            store.audit.prove_writable()
        assert len(store.audit.find(Search())) == 2
    open_store(url).audit.prove_writable()


@pytest.mark.parametrize(
    "bad", ["nonsense", "mysql://h/d", "postgresql://u:canary@p@host/d"], ids=["none", "other", "@"]
)
def test_an_address_that_cannot_be_used_is_refused_without_being_shown(bad: str) -> None:
    with pytest.raises(ConfigurationError, match="operations_store_url") as caught:
        OperationsStore(bad)
    assert "canary" not in str(caught.value)


def test_a_missing_right_is_reported_with_the_remedy(
    postgresql: RealPostgreSQL, postgresql_url: str, open_store: Callable[..., OperationsStore]
) -> None:
    filled(open_store(postgresql_url))
    database = make_url(postgresql_url).database
    assert database
    postgresql.execute("DROP ROLE IF EXISTS reader")
    postgresql.execute("CREATE ROLE reader LOGIN PASSWORD 'canary'")
    tables = "operations_audit, operations_audit_head, operations_targets, operations_open, "
    tables += "operations_challenges, operations_desired"
    postgresql.execute(f"GRANT SELECT ON {tables} TO reader", database=database)
    reader = open_store(postgresql.url(database, user="reader", password="canary"))
    assert reader.audit.verify().entries == ROWS
    with pytest.raises(AuditError, match="42501"):
        reader.audit.prove_writable()
    with pytest.raises(AuditError, match=r"42501.*grant SELECT and INSERT") as caught:
        reader.plan(ADA, Request.pause("default"), 1)
    assert "canary" not in str(caught.value)
    postgresql.execute(f"GRANT INSERT ON {tables} TO reader", database=database)
    others = tables.removeprefix("operations_audit, ")
    postgresql.execute(f"GRANT UPDATE, DELETE ON {others} TO reader", database=database)
    perform(reader, Request.pause("default"))
    assert not reader.audit.verify().fault
    postgresql.execute("DROP OWNED BY reader; DROP ROLE reader", database=database)


def test_reading_needs_no_right_to_write(
    tmp_path: Path, open_store: Callable[..., OperationsStore]
) -> None:
    path = tmp_path / "operations.db"
    filled(open_store(f"sqlite:///{path}"))
    reader = open_store(f"sqlite:///file:{path}?mode=ro&uri=true")
    assert reader.audit.verify().entries == ROWS
    with pytest.raises(AuditError):
        reader.audit.prove_writable()
    with pytest.raises(AuditError):
        reader.plan(ADA, Request.pause("default"), 1)
    assert list(tmp_path.glob("file:*")) == []
