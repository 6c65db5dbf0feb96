"""The machine that a test gives to one process: its clock, its disk, and what it may read."""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from pathlib import Path

# Of the kernel: unshare(2), mount(2), capabilities(7).
_NEW_MOUNTS, _NEW_USERS = 0x00020000, 0x10000000
_ALL_PRIVATE = 0x4000 | 0x40000
_CAPABILITIES_VERSION = 0x20080522
_READ_ALL_FILES = 1 << 1 | 1 << 2


class MachineClock:
    """The clock of a machine: ``ahead`` by so many seconds, which may be set while processes run.

    It has a ``folder`` of its own. A Python that is started anew has the clock where that is on its
    ``PYTHONPATH``.
    """

    def __init__(self, folder: Path, ahead: float = 0.0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = folder / "ahead"
        self.set(ahead)
        code = Path(__file__).with_name("shifted_time.py").read_text("utf-8")
        (folder / "sitecustomize.py").write_text(
            f"{code}\nahead_file = {str(self._file)!r}\n", "utf-8"
        )
        self.path = str(folder)

    def set(self, ahead: float) -> None:
        new = self._file.with_suffix(".new")
        new.write_text(str(ahead), "ascii")
        new.replace(self._file)

    def enter(self) -> None:
        """Make it the clock of this process, which imported ``tests.shifted_time`` first."""
        from tests import shifted_time

        shifted_time.ahead_file = str(self._file)


@dataclass(frozen=True)
class Machine:
    """What differs from this machine: the clock, the ``disk_kilobytes`` of a disk of its own that
    lies at ``disk``, and whether root reads what may not be read.
    """

    clock: MachineClock | None = None
    disk: Path | None = None
    disk_kilobytes: int = 0
    is_privileged: bool = True

    def enter(self) -> None:
        """Make it the machine of this process, which has one thread."""
        if self.clock is not None:
            self.clock.enter()
        if self.disk is not None:
            _mount(self.disk, self.disk_kilobytes)
        if not self.is_privileged:
            _read_only_what_may_be_read()


def _mount(disk: Path, kilobytes: int) -> None:
    """An empty disk, which no other process sees."""
    uid, gid = os.getuid(), os.getgid()
    libc = ctypes.CDLL(None, use_errno=True)
    _check(libc.unshare(_NEW_USERS | _NEW_MOUNTS))
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        Path("/proc/self", name).write_text(text, "ascii")
    _check(libc.mount(b"none", b"/", None, _ALL_PRIVATE, None))
    _check(libc.mount(b"none", bytes(disk), b"tmpfs", 0, f"size={kilobytes}k".encode()))


def _read_only_what_may_be_read() -> None:
    """Give up root's right to open any file."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(_CAPABILITIES_VERSION, 0)
    # Effective, permitted and inheritable ones, then the three sets' higher halves.
    held = (ctypes.c_uint32 * 6)()
    _check(libc.capget(header, held))
    for place in range(3):
        held[place] &= ~_READ_ALL_FILES
    _check(libc.capset(header, held))


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
