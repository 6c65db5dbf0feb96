"""Purging and restoring in a real broker: to the byte, in order, once, and through kill -9."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import redis
from celery import Celery
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kombu import pools
from tests.real_broker import RealBroker

from queuescope.broker.purge_file import Head, Purge, pieces
from queuescope.broker.purges import KeptPurges, Purges
from queuescope.broker.redis.broker import RedisBroker
from queuescope.broker.redis.keys import Keys, list_key
from queuescope.broker.redis.purges import RedisPurgeSteps
from queuescope.errors import PurgeError

SEPARATOR = "\x06\x16"
STEPS = (0, 3, 6, 9)
KEYS = [list_key("orders", step, key_prefix="", separator=SEPARATOR) for step in STEPS]
STAGES = ["before", "taken", "written", "published", "forgotten"]

KILLED_PURGE = """
import os, signal, sys
from pathlib import Path
from queuescope.broker import purge_file
from queuescope.broker.redis.broker import RedisBroker
from queuescope.broker.redis.purges import RedisPurgeSteps
from queuescope.broker.purges import Purges

url, folder, purge_id, stage = sys.argv[1:]

def die():
    os.kill(os.getpid(), signal.SIGKILL)

class Killed(RedisPurgeSteps):
    def set_aside(self, queue, purge_id):
        if stage == "before":
            die()
        super().set_aside(queue, purge_id)
        if stage == "taken":
            die()

    def discard(self, purge_id):
        if stage == "published":
            die()
        super().discard(purge_id)
        if stage == "forgotten":
            die()

broker = RedisBroker(url)
broker._purge_steps = Killed(broker.connection, broker.layout)

if stage == "written":
    purge_file.Draft.publish = lambda self, path: die()

print("ready", flush=True)
Purges(broker, Path(folder)).purge("orders", purge_id)
"""

RESTORE = """
import sys
from pathlib import Path
from queuescope.broker.redis.broker import RedisBroker
from queuescope.broker.purges import Purges

print("ready", flush=True)
sys.stdin.readline()
print(Purges(RedisBroker(sys.argv[1]), Path(sys.argv[2])).restore(sys.argv[3]).now)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealBroker]:
    with RealBroker(tmp_path_factory.mktemp("broker")) as running:
        yield running


@pytest.fixture
def url(server: RealBroker) -> str:
    with redis.Redis(port=server.port) as client:
        client.flushall()
    return f"redis://127.0.0.1:{server.port}/0"


@pytest.fixture
def client(server: RealBroker) -> Iterator[redis.Redis]:
    with redis.Redis(port=server.port) as made:
        yield made


@pytest.fixture
def broker(url: str) -> Iterator[RedisBroker]:
    made = RedisBroker(url)
    yield made
    made.close()


def contents(client: redis.Redis) -> list[list[bytes]]:
    return [
        [m if isinstance(m, bytes) else m.encode() for m in client.lrange(key, 0, -1)]
        for key in KEYS
    ]


def fill(client: redis.Redis, count: int) -> list[list[bytes]]:
    """A message of each kind that a project may send, over all priorities; returns the messages by
    key.
    """
    with client.pipeline() as pipe:
        for number in range(count):
            text = json.dumps({"headers": {"id": number}, "body": "Grüße\n" * (number % 3)})
            raw = b"\xff\x00\n" if number % 7 == 5 else text.encode()
            pipe.lpush(KEYS[number % len(KEYS)], raw)
        pipe.execute()
    return contents(client)


def set_aside(client: redis.Redis, purge_id: str) -> list[list[bytes]]:
    keys = Keys()
    return [
        [
            m if isinstance(m, bytes) else m.encode()
            for m in client.lrange(keys.purged_list(purge_id, step), 0, -1)
        ]
        for step in STEPS
    ]


def in_files(folder: Path) -> list[list[bytes]]:
    lists: dict[str, list[bytes]] = {key: [] for key in KEYS}
    for path in folder.glob("[!.]*.jsonl"):
        for _, piece in pieces(path):
            for key, message in piece:
                lists[key].append(message)
    return [lists[key] for key in KEYS]


def test_a_purge_takes_one_queue_with_all_its_priorities_and_leaves_its_siblings(
    client: redis.Redis, broker: RedisBroker, tmp_path: Path
) -> None:
    fill(client, 40)
    siblings = {"orders2": b"a", "orders" + SEPARATOR: b"b", "order": b"c", "orders:3": b"d"}
    for key, message in siblings.items():
        client.lpush(key, message)
    purged = Purges(broker, tmp_path).purge("orders", "p1")
    assert (purged.purge.count, purged.purge.queue, purged.still_reserved) == (40, "orders", 0)
    assert contents(client) == [[], [], [], []]
    assert {key: client.lrange(key, 0, -1) for key in siblings} == {
        key: [message] for key, message in siblings.items()
    }
    assert set_aside(client, "p1") == [[], [], [], []]


def test_a_restore_puts_every_byte_back_before_what_came_since(
    client: redis.Redis, broker: RedisBroker, tmp_path: Path
) -> None:
    before = fill(client, 41)
    purges = Purges(broker, tmp_path)
    purges.purge("orders", "p1")
    client.lpush("orders", b"newer")
    restored = purges.restore("p1")
    assert (restored.count, restored.now, restored.purge.is_restored) == (41, 41, True)
    assert contents(client) == [[b"newer", *before[0]], *before[1:]]
    again = purges.restore("p1")
    assert (again.count, again.now) == (41, 0)
    assert contents(client) == [[b"newer", *before[0]], *before[1:]]


def test_an_empty_queue_is_purged_of_nothing(
    client: redis.Redis, broker: RedisBroker, tmp_path: Path
) -> None:
    purges = Purges(broker, tmp_path)
    assert purges.purge("orders", "p1").purge.count == 0
    assert purges.restore("p1").now == 0
    assert client.keys("orders*") == []


@given(batches=st.lists(st.lists(st.binary(max_size=20), max_size=6), min_size=4, max_size=4))
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_purge_and_restore_is_identity(
    batches: list[list[bytes]],
    client: redis.Redis,
    broker: RedisBroker,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    client.flushall()
    for key, messages in zip(KEYS, batches, strict=True):
        if messages:
            client.rpush(key, *messages)
    purges = Purges(broker, tmp_path_factory.mktemp("purged"))
    assert purges.purge("orders", "p1").purge.count == sum(map(len, batches))
    purges.restore("p1")
    assert contents(client) == batches


@pytest.mark.parametrize("stage", STAGES)
def test_kill_9_at_each_stage_loses_and_doubles_nothing(
    stage: str, client: redis.Redis, broker: RedisBroker, url: str, tmp_path: Path
) -> None:
    before = fill(client, 30)
    argv = [sys.executable, "-c", KILLED_PURGE, url, str(tmp_path), "p1", stage]
    died = subprocess.run(argv, capture_output=True, check=False)
    assert died.returncode == -signal.SIGKILL, died.stderr
    places = {
        "queue": contents(client),
        "purges": set_aside(client, "p1"),
        "files": in_files(tmp_path),
    }
    nothing: list[list[bytes]] = [[], [], [], []]
    where = {name for name, found in places.items() if found != nothing}
    assert all(found in (before, nothing) for found in places.values())
    assert (
        where
        == {
            "before": {"queue"},
            "taken": {"purges"},
            "written": {"purges"},
            # Deleted from the broker only after it is on the disk.
            "published": {"purges", "files"},
            "forgotten": {"files"},
        }[stage]
    )
    purges = Purges(broker, tmp_path)
    recovered = purges.recover()
    unfinished = {"taken", "written", "published"}
    assert [purge.count for purge in recovered] == ([30] if stage in unfinished else [])
    assert set_aside(client, "p1") == nothing
    if stage == "before":
        assert contents(client) == before
    else:
        assert in_files(tmp_path) == before
        purges.restore("p1")
        assert contents(client) == before


def test_a_repeated_purge_with_the_same_id_removes_nothing_more(
    client: redis.Redis, broker: RedisBroker, tmp_path: Path
) -> None:
    fill(client, 10)
    purges = Purges(broker, tmp_path)
    purges.purge("orders", "p1")
    since = fill(client, 4)
    assert purges.purge("orders", "p1").purge.count == 10
    assert contents(client) == since


def test_killed_at_any_moment_the_messages_are_all_there_once(
    client: redis.Redis, broker: RedisBroker, url: str, tmp_path: Path
) -> None:
    """The purge, then the restore, is killed at random moments until it completes."""
    before = fill(client, 5000)
    nothing: list[list[bytes]] = [[], [], [], []]
    kills = 0
    for number in range(0, 10, 2):
        argv = [sys.executable, "-c", KILLED_PURGE, url, str(tmp_path), f"p{number}", "never"]
        kills += _run_and_kill(argv, 0.015 * number)
        purges = Purges(broker, tmp_path)
        purges.recover()
        found = contents(client)
        files = in_files(tmp_path)
        assert (found, files) in ((before, nothing), (nothing, before))
        for purge in purges.kept().purges:
            argv = [sys.executable, "-c", RESTORE, url, str(tmp_path), purge.id]
            kills += _run_and_kill(argv, 0.015 * number)
            purges.restore(purge.id)
            assert contents(client) == before
            purges.restore(purge.id)
            assert contents(client) == before
            for path in tmp_path.glob("[!.]*.jsonl"):
                path.unlink()
    assert kills > 0


def _run_and_kill(argv: list[str], after_seconds: float) -> bool:
    process = subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    with process:
        assert process.stdout is not None
        assert process.stdin is not None
        process.stdout.readline()
        process.stdin.write(b"\n")
        process.stdin.flush()
        try:
            process.wait(after_seconds)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            return True
    return False


def test_restores_that_race_put_each_message_back_once(
    client: redis.Redis, broker: RedisBroker, url: str, tmp_path: Path
) -> None:
    before = fill(client, 9000)
    Purges(broker, tmp_path).purge("orders", "p1")
    argv = [sys.executable, "-c", RESTORE, url, str(tmp_path), "p1"]
    racers = [
        subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for racer in racers:
        assert racer.stdout is not None
        racer.stdout.readline()
    answers = [racer.communicate("\n")[0] for racer in racers]
    assert sum(int(answer) for answer in answers) == 9000
    assert contents(client) == before


def test_a_purge_under_fire_loses_and_doubles_nothing(
    client: redis.Redis, broker: RedisBroker, tmp_path: Path
) -> None:
    """Producers push and workers pop while it is purged again and again."""
    stop = threading.Event()
    sent: list[bytes] = []
    popped: list[bytes] = []

    def produce() -> None:
        with redis.Redis(port=client.connection_pool.connection_kwargs["port"]) as own:
            while not stop.is_set():
                message = f"m{len(sent)}".encode()
                sent.append(message)
                own.lpush(KEYS[len(sent) % 4], message)

    def consume() -> None:
        with redis.Redis(port=client.connection_pool.connection_kwargs["port"]) as own:
            while not stop.is_set():
                found = own.brpop(KEYS, timeout=0.1)
                if found:
                    popped.append(bytes(found[1]))
                time.sleep(0.001)

    threads = [threading.Thread(target=produce), threading.Thread(target=consume)]
    for thread in threads:
        thread.start()
    purges = Purges(broker, tmp_path)
    purged = count = 0
    # Until they have been at it, however late they began.
    while count < 20 or not purged:
        purged += purges.purge("orders", f"p{count}").purge.count
        count += 1
    stop.set()
    for thread in threads:
        thread.join()
    rest = [m for messages in contents(client) for m in messages]
    kept = [m for messages in in_files(tmp_path) for m in messages]
    assert purged == len(kept) > 0
    assert sorted([*popped, *rest, *kept]) == sorted(sent)


def test_jobs_delivered_before_a_purge_are_still_reserved(
    client: redis.Redis, broker: RedisBroker, url: str, tmp_path: Path
) -> None:
    """``Purged`` counts the jobs of this queue that workers have already fetched."""
    app = Celery("customer", broker=url, set_as_current=False)
    for number in range(6):
        app.send_task("nap", args=[number], queue="orders", priority=number % 4)
    app.send_task("nap", queue="express")
    with app.connection_for_read() as connection, connection.channel() as channel:
        for queue in ("orders", "orders", "express"):
            assert channel.basic_get(queue, no_ack=False) is not None
        purged = Purges(broker, tmp_path).purge("orders", "p1")
    app.close()
    pools.reset()  # type: ignore[no-untyped-call]
    assert (purged.purge.count, purged.still_reserved) == (4, 2)


def test_the_prefix_and_other_priority_steps_are_used(
    client: redis.Redis, url: str, tmp_path: Path
) -> None:
    keys = ["shop:orders", f"shop:orders{SEPARATOR}5"]
    for key in (*keys, "orders", f"orders{SEPARATOR}5"):
        client.lpush(key, b"m")
    broker = RedisBroker(url, key_prefix="shop:", priority_steps=(0, 5))
    purges = Purges(broker, tmp_path)
    assert purges.purge("orders", "p1").purge.count == 2
    assert client.exists(*keys) == 0
    assert client.exists("orders", f"orders{SEPARATOR}5") == 2
    assert {key for key in client.keys("*") if b"queuescope" in key} == {
        b"shop:queuescope:purged:p1"
    }
    purges.restore("p1")
    assert client.exists(*keys) == 2
    broker.close()


def test_without_a_place_for_the_file_nothing_is_taken(
    client: redis.Redis, broker: RedisBroker
) -> None:
    before = fill(client, 5)
    with pytest.raises(PurgeError, match="cannot write"):
        Purges(broker, Path("/proc/nowhere")).purge("orders", "p1")
    assert contents(client) == before


@pytest.mark.parametrize("cut", [1, 40])
def test_a_damaged_file_is_refused_whole(
    cut: int, client: redis.Redis, broker: RedisBroker, tmp_path: Path
) -> None:
    fill(client, 10)
    purges = Purges(broker, tmp_path)
    path = purges.purge("orders", "p1").purge.path
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 2 - cut] + raw[len(raw) // 2 :])
    with pytest.raises(PurgeError, match="damaged"):
        purges.restore("p1")
    assert contents(client) == [[], [], [], []]


def test_a_damaged_file_hides_no_other(
    client: redis.Redis, broker: RedisBroker, tmp_path: Path
) -> None:
    purges = Purges(broker, tmp_path)
    assert purges.kept() == KeptPurges((), ())
    for purge_id in ("p1", "p2"):
        fill(client, 10)
        purges.purge("orders", purge_id)
    (tmp_path / "p1.jsonl").write_bytes(b"{")
    shelf = purges.kept()
    assert [purge.id for purge in shelf.purges] == ["p2"]
    assert shelf.damaged == ("p1.jsonl",)
    assert purges.restore("p2").now == 10


def test_a_folder_that_cannot_be_read_is_not_empty(broker: RedisBroker, tmp_path: Path) -> None:
    (tmp_path / "purged").write_text("no folder")
    with pytest.raises(PurgeError, match="cannot read"):
        Purges(broker, tmp_path / "purged").kept()
    assert Purges(broker, tmp_path / "none").kept().purges == ()


class Hooked(RedisPurgeSteps):
    """Calls ``then`` between the first step of a purge and the next."""

    def __init__(self, broker: RedisBroker, then: Callable[[], object]) -> None:
        super().__init__(broker.connection, broker.layout)
        self._then = then

    def set_aside(self, queue: str, purge_id: str) -> None:
        super().set_aside(queue, purge_id)
        self._then()


def test_a_purge_under_way_is_left_to_the_dashboard_that_carries_it_out(
    client: redis.Redis, broker: RedisBroker, url: str, tmp_path: Path
) -> None:
    """Its file is where the one who purged looks for it."""
    before = fill(client, 10)
    second = Purges(broker, tmp_path / "second")
    seen = list[tuple[str, ...]]()

    def recover() -> None:
        seen.append(second.unfinished())
        assert second.recover() == []

    with closing(RedisBroker(url)) as other:
        other._purge_steps = Hooked(other, recover)
        first = Purges(other, tmp_path / "first")
        assert first.purge("orders", "p1").purge.count == 10
        assert seen == [("p1",)]
        assert second.kept().purges == ()
        assert first.restore("p1").now == 10
    assert contents(client) == before


def test_dashboards_with_one_folder_may_complete_one_purge_together(
    client: redis.Redis, broker: RedisBroker, url: str, tmp_path: Path
) -> None:
    fill(client, 10)
    second = Purges(broker, tmp_path)
    completed = list[Purge]()
    with closing(RedisBroker(url)) as other:
        other._purge_steps = Hooked(other, lambda: completed.extend(second.recover()))
        purged = Purges(other, tmp_path).purge("orders", "p1").purge
    assert completed == [purged]
    assert [path.name for path in tmp_path.iterdir()] == ["p1.jsonl"]


@pytest.mark.parametrize("moved_seconds", [-121, 121], ids=["old", "of a clock that was set back"])
def test_an_interrupted_purge_of_a_folder_that_is_gone_is_completed_elsewhere(
    client: redis.Redis, broker: RedisBroker, tmp_path: Path, moved_seconds: float
) -> None:
    before = fill(client, 3)
    purges = Purges(broker, tmp_path)
    broker.purge_steps.set_aside("orders", "p1")
    assert purges.unfinished() == ("p1",)
    assert purges.recover() == []
    assert purges.unfinished() == ("p1",)
    client.hset(Keys().purged("p1"), "at", repr(broker.now() + moved_seconds))
    assert [purge.count for purge in purges.recover()] == [3]
    assert purges.unfinished() == ()
    purges.restore("p1")
    assert contents(client) == before


def test_a_purge_that_another_dashboard_completes_meanwhile_is_no_error(
    client: redis.Redis, broker: RedisBroker, url: str, tmp_path: Path
) -> None:
    """It was listed as unfinished, and is complete when its record is read."""
    fill(client, 3)
    broker.purge_steps.set_aside("orders", "p1")

    class Late(RedisPurgeSteps):
        def head(self, purge_id: str) -> Head | None:
            Purges(broker, tmp_path / "first", abandoned_seconds=0).recover()
            return super().head(purge_id)

    with closing(RedisBroker(url)) as other:
        other._purge_steps = Late(other.connection, other.layout)
        assert Purges(other, tmp_path / "second").recover() == []
    assert Purges(broker, tmp_path / "second").kept().purges == ()


@pytest.mark.parametrize("purge_id", ["../p1", "", "a/b", "p1.restored", "x" * 65])
def test_an_id_is_never_used_as_a_path(purge_id: str, broker: RedisBroker, tmp_path: Path) -> None:
    purges = Purges(broker, tmp_path / "inner")
    with pytest.raises(PurgeError, match="id of a purge"):
        purges.restore(purge_id)
    with pytest.raises(PurgeError, match="id of a purge"):
        purges.purge("orders", purge_id)
