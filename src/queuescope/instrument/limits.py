"""The memory and CPU that a worker may use: the limits of its control groups, and its cores."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

_MOUNT = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")
# Version 1 writes “no limit” as the largest number of pages.
_UNLIMITED_BYTES = 2**60


def memory_limit_bytes(mount: Path = _MOUNT, membership: Path = _MEMBERSHIP) -> int | None:
    """The smallest memory limit of this process's control groups, of either version; ``None``
    without one.
    """
    found = [
        int(text)
        for group, name in (("", "memory.max"), ("memory", "memory.limit_in_bytes"))
        for text in _texts(mount, membership, group, name)
        if text.isdecimal() and int(text) < _UNLIMITED_BYTES
    ]
    return min(found, default=None)


def cpu_limit(mount: Path = _MOUNT, membership: Path = _MEMBERSHIP) -> float | None:
    """How many cores this process may keep busy: the smallest quota of its control groups, at
    most the cores that it may run on. ``None`` when neither is known.
    """
    cores = _cores()
    found = [] if cores is None else [float(cores)]
    for text in _texts(mount, membership, "", "cpu.max"):
        quota, _, period = text.partition(" ")
        found += _ratio(quota, period)
    quotas = _texts(mount, membership, "cpu", "cpu.cfs_quota_us")
    periods = _texts(mount, membership, "cpu", "cpu.cfs_period_us")
    for quota, period in zip(quotas, periods, strict=False):
        found += _ratio(quota, period)
    return min(found, default=None)


def _ratio(quota: str, period: str) -> list[float]:
    # “max”, or -1 in version 1, is no limit.
    if not quota.isdecimal() or not period.isdecimal() or not int(period):
        return []
    return [int(quota) / int(period)]


def _texts(mount: Path, membership: Path, controller: str, name: str) -> Iterator[str]:
    """The content of the file ``name`` in the group of this process and in its parents."""
    group = _group(membership, controller)
    root = mount / controller
    for path in (group, *group.parents):
        try:
            yield (root / path / name).read_text("ascii").strip()
        except (OSError, UnicodeDecodeError):
            # Inside a container the process's group is the root, whatever its name outside.
            continue


def _group(membership: Path, controller: str) -> Path:
    """The control group of this process, relative to its hierarchy."""
    try:
        lines = membership.read_text("utf-8", "replace").splitlines()
    except OSError:
        return Path()
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controller in controllers.split(","):
            parts = [part for part in path.split("/") if part not in ("", "..")]
            return Path(*parts)
    return Path()


def _cores() -> int | None:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()
