"""Allows one stack per data directory, also while services of a killed one still end."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from queuescope.errors import DemoError
from queuescope.private_files import make_private_folder


class DataLock:
    """The lock of a data directory.

    There are two locks: the supervisor's own, which the system releases when it ends, and one that
    the watchdog also holds (``watchdog_descriptor``), which is free once all services have ended.
    """

    def __init__(self, data_dir: Path, *, wait_seconds: float = 20.0) -> None:
        self._data_dir = data_dir
        self._wait_seconds = wait_seconds
        self._descriptors: list[int] = []

    def __enter__(self) -> Self:
        """Lock the directory; create it if necessary.

        Raises ``DemoError`` with the address of a running stack.
        """
        try:
            self._take()
        except DemoError:
            self._release()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._release()

    def _take(self) -> None:
        try:
            make_private_folder(self._data_dir)
            own = self._open("lock")
            services = self._open("services.lock")
        except OSError as exc:
            raise DemoError(
                f"cannot write to {self._data_dir}: {exc.strerror}; choose another with --data-dir"
            ) from exc
        if not _try_lock(own):
            address = os.pread(own, 1000, 0).decode("utf-8", "replace").strip()
            where = f"at {address}" if address else "and is still starting"
            raise DemoError(
                f"Queuescope already runs with {self._data_dir} {where}; "
                "open that, or choose another directory with --data-dir"
            )
        os.ftruncate(own, 0)
        deadline = time.monotonic() + self._wait_seconds
        while not _try_lock(services):
            if time.monotonic() > deadline:
                raise DemoError(
                    f"services of an earlier start still use {self._data_dir}; "
                    "end them, or choose another directory with --data-dir"
                )
            time.sleep(0.1)

    def _release(self) -> None:
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors.clear()

    @property
    def watchdog_descriptor(self) -> int:
        """The lock that must outlive a killed supervisor, for the watchdog."""
        return self._descriptors[1]

    def announce(self, address: str) -> None:
        """Store the dashboard's address for other starts that find the directory locked."""
        os.ftruncate(self._descriptors[0], 0)
        os.pwrite(self._descriptors[0], address.encode(), 0)

    def _open(self, name: str) -> int:
        descriptor = os.open(self._data_dir / name, os.O_RDWR | os.O_CREAT, 0o600)
        self._descriptors.append(descriptor)
        return descriptor


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
