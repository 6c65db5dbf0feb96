"""The disk cache is torn, of another program, full, or its writer is killed: reads stay correct."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path

import numpy as np
import pytest
from _pytest.mark import ParameterSet
from tests.faults import oracles
from tests.faults.cells import WHEN_WARM, reads_the_truth
from tests.faults.conftest import Lab
from tests.faults.world import PANELS

from queuescope.cache import Extent, FrameKey, FrameStore
from queuescope.timeseries import Frame, Grid

pytestmark = pytest.mark.anyio

Harm = Callable[[list[Path]], None]


def _each(change: Callable[[bytes], bytes]) -> Harm:
    def harm(files: list[Path]) -> None:
        for path in files:
            path.write_bytes(change(path.read_bytes()))

    return harm


def _flipped(share: float) -> Harm:
    """One bit of the byte at this share of the file."""

    def change(content: bytes) -> bytes:
        at = min(int(len(content) * share), len(content) - 1)
        return content[:at] + bytes([content[at] ^ 0x10]) + content[at + 1 :]

    return _each(change)


def _exchanged(files: list[Path]) -> None:
    contents = [path.read_bytes() for path in files]
    for path, content in zip(files, [*contents[1:], contents[0]], strict=True):
        path.write_bytes(content)


def _directories(files: list[Path]) -> None:
    for path in files:
        path.unlink()
        path.mkdir()


HARM: dict[str, Harm] = {
    "first byte flipped": _flipped(0),
    "checksum flipped": _each(lambda c: c[:25] + bytes([c[25] ^ 1]) + c[26:]),
    "byte in the middle flipped": _flipped(0.5),
    "last byte flipped": _flipped(1),
    "empty": _each(lambda _: b""),
    "half": _each(lambda content: content[: len(content) // 2]),
    "one byte short": _each(lambda content: content[:-1]),
    "zeros at the end": _each(lambda content: content[:-4_096] + bytes(4_096)),
    "bytes appended": _each(lambda content: content + b"\0"),
    "of a later version": _each(lambda content: content.replace(b"frames ", b"frames 9", 1)),
    "of another key": _exchanged,
    "a directory": _directories,
}


class Then(StrEnum):
    """What happens after the cache was damaged."""

    RESTART_IN_OUTAGE = "restart in an outage"
    RESTART = "restart"
    READ_ON = "read on"


def _files(lab: Lab) -> list[Path]:
    found = sorted(lab.cache.glob("*.frames"))
    assert len(found) >= 3
    return found


_USUAL = {
    "byte in the middle flipped": Then.RESTART,
    "half": Then.RESTART_IN_OUTAGE,
    "zeros at the end": Then.READ_ON,
    "of a later version": Then.RESTART_IN_OUTAGE,
    "of another key": Then.RESTART,
    "a directory": Then.READ_ON,
}
"""One of each kind of harm, which runs without ``--long``."""


def _cells() -> Iterator[ParameterSet]:
    """Each harm, and what happens then."""
    for name, harm in HARM.items():
        for then in Then:
            is_in_part = then is _USUAL.get(name)
            marks = () if is_in_part else pytest.mark.long
            yield pytest.param(harm, then, id=f"{name}-{then}", marks=marks)


@pytest.mark.parametrize(("harm", "then"), list(_cells()))
async def test_a_damaged_cache_is_dropped_and_rebuilt(harm: Harm, then: Then, lab: Lab) -> None:
    async with lab.dashboard() as dashboard:
        await reads_the_truth(lab, dashboard)
        dashboard.store.flush()
        if then is Then.READ_ON:
            harm(_files(lab))
            lab.forward(121)
            await reads_the_truth(lab, dashboard)
    if then is Then.READ_ON:
        return
    harm(_files(lab))
    if then is Then.RESTART_IN_OUTAGE:
        await lab.proxy.refuse()
        async with lab.dashboard() as restarted:
            page = await restarted.read()
            oracles.states_are(page, dict.fromkeys(PANELS, "unavailable"))
            oracles.unknown_is_not_zero(page)
            await lab.proxy.heal()
            lab.forward(121)
            await reads_the_truth(lab, restarted)
        return
    async with lab.dashboard() as restarted:
        await reads_the_truth(lab, restarted)
    if harm is not _directories:
        await lab.proxy.refuse()
        async with lab.dashboard() as rebuilt:
            page = await rebuilt.read()
        oracles.states_are(page, dict.fromkeys(PANELS, "stale"))
        oracles.drawn_is_true(page, lab.truth)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", marks=pytest.mark.long),
        pytest.param(b"{", marks=pytest.mark.long),
        b'{"scrape_interval_seconds":0}',
        b"\xff\0",
    ],
)
async def test_damaged_facts_about_the_source_are_measured_again(content: bytes, lab: Lab) -> None:
    async with lab.dashboard() as dashboard:
        await reads_the_truth(lab, dashboard)
    [facts] = lab.cache.glob("source-*.json")
    facts.write_bytes(content)
    lab.forward(121)
    async with lab.dashboard() as restarted:
        await reads_the_truth(lab, restarted)


@contextlib.contextmanager
def _full(directory: Path) -> Iterator[None]:
    """``directory`` is on a full disk: a small one if it can be mounted, otherwise no file of this
    process can grow."""
    directory.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(directory)]
    mounted = os.geteuid() == 0 and subprocess.run(mount, check=False).returncode == 0
    if mounted:
        kept = directory / "kept"
        with contextlib.suppress(OSError):
            kept.write_bytes(bytes(1024 * 1024))
        try:
            yield
        finally:
            subprocess.run(["umount", "-l", str(directory)], check=True)
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (512, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def _kept_facts(lab: Lab) -> None:
    async with asyncio.timeout(30):
        while True:
            if list(lab.cache.glob("source-*.json")):
                return
            await asyncio.sleep(0.01)


@WHEN_WARM
async def test_with_a_full_disk_only_the_cache_across_restarts_is_lost(
    warm: bool, lab: Lab
) -> None:
    async with lab.dashboard() as dashboard:
        if warm:
            await reads_the_truth(lab, dashboard)
            dashboard.store.flush()
            lab.forward(121)
        with _full(lab.cache):
            for _ in range(3):
                await reads_the_truth(lab, dashboard)
                dashboard.store.flush()
                lab.forward(121)
            assert dashboard.store.last_error is not None
            assert not list(lab.cache.glob("*.tmp")), "what could not be written was left behind"
            await lab.proxy.refuse()
            page = await dashboard.read()
            oracles.states_are(page, dict.fromkeys(PANELS, "stale"))
            oracles.drawn_is_true(page, lab.truth)
            await lab.proxy.heal()
        # By then the facts about the source, which could not be stored, are due to be read again.
        lab.forward(700)
        await reads_the_truth(lab, dashboard)
        dashboard.store.flush()
        await _kept_facts(lab)
        assert dashboard.store.last_error is None
    await lab.proxy.refuse()
    async with lab.dashboard() as restarted:
        page = await restarted.read()
    oracles.states_are(page, dict.fromkeys(PANELS, "stale"))
    oracles.drawn_is_true(page, lab.truth)


_NURSERY = """
import os, signal, sys, time
import numpy as np
from pathlib import Path
from queuescope.cache import Extent, FrameKey, FrameStore
from queuescope.timeseries import Frame, Grid

def write(directory):
    store = FrameStore(Path(directory), 1_000_000)
    version = 0
    while True:
        version += 1
        for key in range(3):
            grid = Grid(0, 60 * 199, 60)
            series = tuple((("n", str(n)),) for n in range(1 + version % 40))
            frame = Frame(grid, series, np.full((len(series), len(grid)), float(version)))
            store.put(FrameKey("s", f"q{key}", 60), Extent(frame, 1e9, 1e9))
        store.flush()
        os.write(1, b"w")

for line in sys.stdin:
    directory, wait = line.split()
    child = os.fork()
    if child == 0:
        write(directory)
    time.sleep(float(wait))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.write(1, b"\\nkilled\\n")
"""


def test_a_writer_that_is_killed_leaves_only_complete_frames(tmp_path: Path) -> None:
    """Each frame contains a single number, so a torn or mixed one would be noticed."""
    rounds, number, written = 60, 0, 0
    nursery = subprocess.Popen(
        [sys.executable, "-c", _NURSERY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert nursery.stdin is not None
    assert nursery.stdout is not None
    directory = tmp_path / "cache"
    try:
        # Longer and longer, until it has written often enough.
        while number < rounds or written <= rounds:
            nursery.stdin.write(f"{directory} {0.004 + number * 0.0007}\n")
            nursery.stdin.flush()
            for line in nursery.stdout:
                written += line.count("w")
                if line == "killed\n":
                    break
            written += _whole_frames(directory)
            number += 1
    finally:
        nursery.stdin.close()
        nursery.stdout.close()
        nursery.kill()
        nursery.wait()


def _whole_frames(directory: Path) -> int:
    store = FrameStore(directory, 1_000_000)
    found = 0
    for key in range(3):
        for extent in store.get(FrameKey("s", f"q{key}", 60)):
            assert len(np.unique(extent.frame.values)) == 1
            version = int(extent.frame.values[0, 0])
            assert extent.frame.values.shape == (1 + version % 40, 200)
            found += 1
    assert store.dropped_files == 0, "a torn file stood where a whole one must"
    _usable(store)
    store.close()
    return found


def _usable(store: FrameStore) -> None:
    """Files left by a killed writer do not prevent further writes."""
    key, grid = FrameKey("s", "mine", 60), Grid(0, 60, 60)
    store.put(key, Extent(Frame(grid, ((),), np.ones((1, 2))), 1e9, 1e9))
    store.flush()
    assert store.last_error is None
    assert store.get(key)
