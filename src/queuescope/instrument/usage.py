"""The CPU and memory of a worker: its main process and all processes of its pool."""

from __future__ import annotations

from dataclasses import dataclass

import psutil


@dataclass(frozen=True, slots=True)
class Usage:
    """``cpu_ratio`` is 1 for one busy core, over the time since the previous measurement."""

    cpu_ratio: float = 0.0
    memory_bytes: int = 0
    processes: int = 0


class UsageMeter:
    """Belongs to one thread."""

    def __init__(self, pid: int) -> None:
        self._main = psutil.Process(pid)
        self._family: dict[int, psutil.Process] = {}

    def measure(self) -> Usage:
        cpu_percent, memory_bytes, processes = 0.0, 0, 0
        try:
            members = [self._main, *self._main.children(recursive=True)]
        except psutil.Error:
            members = [self._main]
        self._family = {member.pid: self._family.get(member.pid, member) for member in members}
        for process in self._family.values():
            try:
                # The first reading of a process is 0: there is nothing to compare with.
                cpu_percent += process.cpu_percent()
                memory_bytes += process.memory_info().rss
                processes += 1
            except psutil.Error:
                continue
        return Usage(cpu_percent / 100, memory_bytes, processes)
