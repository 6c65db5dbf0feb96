"""What the store keeps, what it drops, and what happens with a broken disk."""

from __future__ import annotations

import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from tests.cache.model_source import queue

from queuescope.cache import Extent, FrameKey, FrameStore
from queuescope.timeseries import UNDEFINED, Frame, Grid, sampled

KEY = FrameKey("http://prometheus:9090", "up", 10)


def extent(
    start: int, end: int, *, value: float = 1.0, final_until: float = 1e9, as_of: float = 1e9
) -> Extent:
    grid = Grid(start, end, 10)
    frame = Frame(grid, (queue("a"),), np.full((1, len(grid)), value))
    return Extent(frame, final_until, as_of)


def spans(store: FrameStore, key: FrameKey = KEY) -> list[tuple[int, int]]:
    return [(held.grid.start, held.grid.end) for held in store.get(key)]


def numbered(number: int) -> FrameKey:
    return KEY._replace(query=f"up{number}")


def test_nothing_is_held_of_an_unknown_key(tmp_path: Path) -> None:
    assert FrameStore(None, 100).get(KEY) == ()
    assert FrameStore(tmp_path / "cache", 100).get(KEY) == ()


def test_final_extents_that_touch_are_joined_and_the_new_one_wins() -> None:
    store = FrameStore(None, 10_000)
    store.put(KEY, extent(0, 50, value=1))
    store.put(KEY, extent(60, 90, value=2))
    store.put(KEY, extent(30, 40, value=3))
    store.put(KEY, extent(200, 210, value=4))
    assert spans(store) == [(0, 90), (200, 210)]
    assert store.get(KEY)[0].frame.values.tolist() == [[1, 1, 1, 3, 3, 1, 2, 2, 2, 2]]


def test_an_extent_that_may_still_change_is_not_taken_for_final_by_joining() -> None:
    store = FrameStore(None, 10_000)
    store.put(KEY, extent(0, 50, final_until=30, as_of=60))
    store.put(KEY, extent(60, 90, final_until=80, as_of=110))
    assert [(e.final_until, e.as_of) for e in store.get(KEY)] == [(30, 60), (80, 110)]


def test_the_least_recently_used_key_leaves_memory_first() -> None:
    store = FrameStore(None, 1000)
    for number in range(3):
        store.put(numbered(number), extent(0, 2000))
    store.get(numbered(0))
    store.put(numbered(3), extent(0, 2000))
    assert [bool(store.get(numbered(n))) for n in range(4)] == [True, False, True, True]
    assert store.points <= 1000


def test_what_has_left_memory_is_loaded_from_disk(tmp_path: Path) -> None:
    store = FrameStore(tmp_path, 1000)
    for number in range(6):
        store.put(numbered(number), extent(0, 2000))
    store.flush()
    assert spans(store, numbered(0)) == [(0, 2000)]
    assert store.points <= 1000


def test_one_key_does_not_grow_for_ever() -> None:
    store = FrameStore(None, 2000)
    for start in range(0, 100_000, 100):
        store.put(KEY, extent(start, start + 1000))
    ((first, last),) = spans(store)
    assert first <= 99_900
    assert last == 100_900
    assert 101 <= store.points <= 2000 / 4 + 64


def test_a_restart_finds_everything_again(tmp_path: Path) -> None:
    grid = Grid(0, 20, 10)
    values = np.array([[0.1, np.nan, UNDEFINED], [-1e300, 5e-324, 0.0]])
    names = ((), (("ä", "\0\n😀"),))
    before = Extent(Frame(grid, names, values), 12.5, 30.25)
    store = FrameStore(tmp_path, 10_000)
    store.put(KEY, before)
    store.put(KEY, extent(100, 110))
    store.put(numbered(1), Extent(Frame.empty(grid), 0, 0))
    store.close()

    again = FrameStore(tmp_path, 10_000)
    after, other = again.get(KEY)
    assert (before.final_until, before.as_of) == (after.final_until, after.as_of)
    assert names == after.frame.series
    np.testing.assert_array_equal(values, after.frame.values)
    np.testing.assert_array_equal(sampled(values), sampled(after.frame.values))
    assert Grid(100, 110, 10) == other.grid
    assert spans(again, numbered(1)) == [(0, 20)]


def test_a_key_is_not_written_with_every_put_but_always_in_the_end(tmp_path: Path) -> None:
    store = FrameStore(tmp_path, 10_000, write_seconds=3600)
    store.put(KEY, extent(0, 50))
    store.flush()
    file = next(tmp_path.glob("*.frames"))
    first = file.read_bytes()
    for end in range(60, 200, 10):
        store.put(KEY, extent(0, end))
    store.put(numbered(1), extent(0, 50))
    while len(list(tmp_path.glob("*.frames"))) < 2:
        pass  # another key does not wait, and is written after everything that was due before it
    assert file.read_bytes() == first
    store.close()
    assert spans(FrameStore(tmp_path, 10_000)) == [(0, 190)]


def test_what_leaves_memory_unwritten_is_written_then(tmp_path: Path) -> None:
    store = FrameStore(tmp_path, 1_000, write_seconds=3600)
    store.put(KEY, extent(0, 500))
    store.flush()
    store.put(KEY, extent(0, 600))
    for number in range(20):
        store.put(numbered(number), extent(0, 1000))
    assert spans(store) == [(0, 600)]
    store.close()
    assert spans(FrameStore(tmp_path, 1_000)) == [(0, 600)]


def test_file_names_and_permissions_tell_nothing(tmp_path: Path) -> None:
    hostile = FrameKey("../../etc", "x/../../passwd\0", 10)
    store = FrameStore(tmp_path / "cache", 10_000)
    store.put(hostile, extent(0, 50))
    store.flush()
    (file,) = (tmp_path / "cache").iterdir()
    assert file.stem.isalnum()
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert spans(FrameStore(tmp_path / "cache", 10_000), hostile) == [(0, 50)]


def one_file(directory: Path) -> Path:
    store = FrameStore(directory, 10_000)
    store.put(KEY, extent(0, 50))
    store.close()
    (file,) = directory.iterdir()
    return file


def test_a_damaged_file_is_dropped_counted_and_written_anew(tmp_path: Path) -> None:
    whole = one_file(tmp_path).read_bytes()
    file = next(tmp_path.iterdir())
    cuts = [whole[:length] for length in range(0, len(whole), 7)]
    flips = [
        whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in range(0, len(whole), 5)
    ]
    longer = [whole + b"\0", whole * 2]
    other_version = [whole.replace(b"frames 2", b"frames 1")]
    for damaged in cuts + flips + longer + other_version:
        file.write_bytes(damaged)
        store = FrameStore(tmp_path, 10_000)
        assert store.get(KEY) == ()
        assert store.dropped_files == 1
        assert not file.exists()
    store.put(KEY, extent(0, 50))
    store.flush()
    assert spans(FrameStore(tmp_path, 10_000)) == [(0, 50)]


def test_a_file_of_another_key_is_not_believed(tmp_path: Path) -> None:
    first = one_file(tmp_path)
    store = FrameStore(tmp_path, 10_000)
    store.put(numbered(1), extent(0, 990))
    store.close()
    (second,) = set(tmp_path.iterdir()) - {first}
    shutil.copy(first, second)
    store = FrameStore(tmp_path, 10_000)
    assert store.get(numbered(1)) == ()
    assert store.dropped_files == 1


def test_a_huge_file_is_dropped_unread(tmp_path: Path) -> None:
    file = one_file(tmp_path)
    with file.open("r+b") as out:
        out.truncate(1 << 40)
    store = FrameStore(tmp_path, 10_000)
    assert store.get(KEY) == ()
    assert store.dropped_files == 1


def test_the_disk_is_bounded_and_the_oldest_files_go_first(tmp_path: Path) -> None:
    store = FrameStore(tmp_path, 500)
    for number in range(40):
        store.put(numbered(number), extent(0, 990))
        store.flush()
    sizes = [file.stat().st_size for file in tmp_path.iterdir()]
    assert len(sizes) > 1
    assert sum(sizes) <= 500 * 16
    fresh = FrameStore(tmp_path, 500)
    assert fresh.get(numbered(0)) == ()
    assert spans(fresh, numbered(39)) == [(0, 990)]


def test_a_directory_that_cannot_be_used_costs_only_the_disk(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    store = FrameStore(tmp_path / "file" / "cache", 10_000)
    store.put(KEY, extent(0, 50))
    store.flush()
    assert spans(store) == [(0, 50)]
    assert store.last_error == "cannot write the cache: Not a directory"


@contextmanager
def full_disk() -> Iterator[None]:
    """No file may grow beyond 64 bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_keeps_the_last_good_file_and_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = FrameStore(tmp_path, 10_000)
    store.put(KEY, extent(0, 50, value=1))
    store.flush()
    with full_disk():
        for value in (1.5, 2):
            store.put(KEY, extent(0, 50, value=value))
            store.flush()
    assert store.get(KEY)[0].frame.values[0].tolist() == [2.0] * 6
    assert (store.last_error or "").startswith("cannot write the cache: ")
    assert store.disk_failures == 2
    # In the log once, however often it is tried.
    [message] = caplog.messages
    assert message.startswith(f"{store.last_error} ({tmp_path})")
    assert FrameStore(tmp_path, 10_000).get(KEY)[0].frame.values[0].tolist() == [1.0] * 6
    assert len(list(tmp_path.iterdir())) == 1

    store.put(KEY, extent(0, 50, value=3))
    store.flush()
    assert store.last_error is None


WRITER = """
import sys
from pathlib import Path
import numpy as np
from queuescope.cache import Extent, FrameKey, FrameStore
from queuescope.timeseries import Frame, Grid

store = FrameStore(Path(sys.argv[1]), 1_000_000)
key = FrameKey("http://prometheus:9090", "up", 10)
grid = Grid(0, 999_990, 10)
for number in range(1_000_000):
    frame = Frame(grid, ((("queue", "a"),),), np.full((1, len(grid)), float(number)))
    store.put(key, Extent(frame, 1e9, 1e9))
    store.flush()
    print(number, flush=True)
"""


def test_a_writer_that_is_killed_leaves_a_whole_file(tmp_path: Path) -> None:
    for written in (1, 3, 6):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, tmp_path], stdout=subprocess.PIPE
        ) as writer:
            assert writer.stdout is not None
            for _ in range(written):
                writer.stdout.readline()
            writer.send_signal(signal.SIGKILL)
        store = FrameStore(tmp_path, 1_000_000)
        values = store.get(KEY)[0].frame.values
        assert values.min() == values.max() >= written - 1
        assert store.dropped_files == 0
        store.close()


def test_a_store_must_be_able_to_hold_something() -> None:
    with pytest.raises(ValueError, match="must be positive"):
        FrameStore(None, 0)
