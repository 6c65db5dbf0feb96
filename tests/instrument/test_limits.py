"""The limits of a worker, read from control groups as in Linux."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from queuescope.instrument.limits import cpu_limit, memory_limit_bytes

CORES = len(os.sched_getaffinity(0))
GIB = 2**30


@pytest.fixture
def mount(tmp_path: Path) -> Path:
    return tmp_path / "cgroup"


@pytest.fixture
def membership(tmp_path: Path) -> Path:
    return tmp_path / "self"


def lay(mount: Path, **texts: str) -> None:
    """Write files; ``__`` in a name is a level and ``DOT`` a dot."""
    for name, text in texts.items():
        path = mount / name.replace("__", "/").replace("DOT", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n", "ascii")


def test_the_tightest_limit_of_all_groups_counts(mount: Path, membership: Path) -> None:
    membership.write_text("0::/shop/worker\n")
    lay(
        mount,
        shop__worker__memoryDOTmax="max",
        shop__memoryDOTmax=str(2 * GIB),
        memoryDOTmax=str(4 * GIB),
        shop__worker__cpuDOTmax="50000 100000",
        shop__cpuDOTmax="max 100000",
    )
    assert memory_limit_bytes(mount, membership) == 2 * GIB
    assert cpu_limit(mount, membership) == 0.5


def test_inside_a_container_the_root_group_counts(mount: Path, membership: Path) -> None:
    membership.write_text("0::/kubepods/pod7/abc\n")
    lay(mount, memoryDOTmax=str(GIB), cpuDOTmax="25000 100000")
    assert memory_limit_bytes(mount, membership) == GIB
    assert cpu_limit(mount, membership) == 0.25


def test_version_1(mount: Path, membership: Path) -> None:
    membership.write_text("4:memory:/shop\n3:cpu,cpuacct:/shop\n0::/\n")
    lay(
        mount,
        memory__shop__memoryDOTlimit_in_bytes=str(GIB),
        memory__memoryDOTlimit_in_bytes=str(2**63 - 4096),
        cpu__shop__cpuDOTcfs_quota_us="30000",
        cpu__shop__cpuDOTcfs_period_us="100000",
        cpu__cpuDOTcfs_quota_us="-1",
        cpu__cpuDOTcfs_period_us="100000",
    )
    assert memory_limit_bytes(mount, membership) == GIB
    assert cpu_limit(mount, membership) == 0.3


@pytest.mark.parametrize("text", ["max", str(2**63 - 4096), "", "much"])
def test_no_limit_is_none_and_cores_are_one(mount: Path, membership: Path, text: str) -> None:
    membership.write_text("0::/\n")
    lay(mount, memoryDOTmax=text, memory__memoryDOTlimit_in_bytes=text, cpuDOTmax="max 100000")
    assert memory_limit_bytes(mount, membership) is None
    assert cpu_limit(mount, membership) == CORES


def test_a_quota_above_the_cores_is_no_more_than_the_cores(mount: Path, membership: Path) -> None:
    membership.write_text("0::/\n")
    lay(mount, cpuDOTmax=f"{100_000 * (CORES + 4)} 100000")
    assert cpu_limit(mount, membership) == CORES


def test_a_machine_without_control_groups_has_cores_only(tmp_path: Path) -> None:
    assert memory_limit_bytes(tmp_path / "none", tmp_path / "none") is None
    assert cpu_limit(tmp_path / "none", tmp_path / "none") == CORES


def test_the_limits_of_this_machine_can_be_read() -> None:
    limit = memory_limit_bytes()
    assert limit is None or limit > 0
    cores = cpu_limit()
    assert cores is not None
    assert 0 < cores <= CORES
