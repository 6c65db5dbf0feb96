"""Finds Prometheus and promtool, or unpacks the distribution's packages in the project folder.

They are unpacked and not installed: that needs no rights, changes nothing on the system and starts
no service. ``python -m queuescope.demo.prometheus_binaries DIRECTORY`` prints the directory of both
programs.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from queuescope.errors import DemoError


@dataclass(frozen=True, slots=True)
class PrometheusBinaries:
    """The full paths of both programs."""

    prometheus: Path
    promtool: Path


def installed(unpacked_dir: Path) -> PrometheusBinaries | None:
    """Both programs from ``PATH``, else those unpacked earlier in ``unpacked_dir``."""
    search = os.pathsep.join(
        [os.environ.get("PATH", os.defpath), str(unpacked_dir / "usr" / "bin")]
    )
    for directory in search.split(os.pathsep):
        prometheus = shutil.which("prometheus", path=directory)
        promtool = shutil.which("promtool", path=directory)
        if prometheus and promtool:
            return PrometheusBinaries(Path(prometheus).resolve(), Path(promtool).resolve())
    return None


def unpack(unpacked_dir: Path) -> PrometheusBinaries:
    """Download the distribution's packages, which apt verifies, and unpack them.

    Takes seconds, or a minute if apt's lists must be downloaded first. If this fails, raises
    ``DemoError`` that says what to install.
    """
    if not (shutil.which("apt-get") and shutil.which("dpkg")):
        raise DemoError(f"Prometheus is not installed; {_how_to_install()}")
    unpacked_dir.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=unpacked_dir.parent, prefix=".unpacking-") as name:
        scratch = Path(name)
        tree = scratch / "tree"
        _unpack_package("prometheus", scratch, tree)
        # Since Debian 13 promtool is a separate package.
        if not (tree / "usr" / "bin" / "promtool").exists():
            _unpack_package("promtool", scratch, tree)
        shutil.rmtree(unpacked_dir, ignore_errors=True)
        tree.rename(unpacked_dir)
    found = installed(unpacked_dir)
    if found is None or not all(
        _succeeds([str(program), "--version"], unpacked_dir)
        for program in (found.prometheus, found.promtool)
    ):
        raise DemoError(f"the unpacked Prometheus does not run; {_how_to_install()}")
    return found


def _unpack_package(package: str, scratch: Path, tree: Path) -> None:
    if not _succeeds(["apt-get", "download", package], scratch):
        _check([*_own_apt(scratch), "download", package], scratch)
    downloaded = list(scratch.glob(f"{package}_*.deb"))
    if not downloaded:
        raise DemoError(f"apt-get downloaded no package {package}; {_how_to_install()}")
    _check(["dpkg", "-x", str(downloaded[0]), str(tree)], scratch)


def _own_apt(scratch: Path) -> list[str]:
    # Own package lists: the system's may be missing, and only root can download those.
    lists, cache = scratch / "lists", scratch / "cache"
    apt = ["apt-get", "-o", f"Dir::State::lists={lists}", "-o", f"Dir::Cache={cache}"]
    apt += ["-o", "APT::Sandbox::User=root"]
    if not lists.exists():
        for part in (lists / "partial", cache / "archives" / "partial"):
            part.mkdir(parents=True)
        _check([*apt, "-q", "update"], scratch)
    return apt


def _check(argv: Sequence[str], directory: Path) -> None:
    done = subprocess.run(
        argv, cwd=directory, check=False, capture_output=True, text=True, errors="replace"
    )
    if done.returncode:
        reason = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise DemoError(
            f"{argv[0]} could not fetch Prometheus ({''.join(reason)}); {_how_to_install()}"
        )


def _succeeds(argv: Sequence[str], directory: Path) -> bool:
    return subprocess.run(argv, cwd=directory, check=False, capture_output=True).returncode == 0


def _how_to_install() -> str:
    if platform.system() == "Darwin":
        return "install it with `brew install prometheus` and start again"
    for tool, command in (
        ("apt-get", "apt-get install prometheus"),
        ("dnf", "dnf install golang-github-prometheus"),
        ("pacman", "pacman -S prometheus"),
        ("apk", "apk add prometheus"),
        ("zypper", "zypper install golang-github-prometheus-prometheus"),
    ):
        if shutil.which(tool):
            return f"install it with `{command}` as root, and start again"
    return "install it, so that `prometheus` and `promtool` are on PATH, and start again"


def main(argv: Sequence[str]) -> int:
    """Print the directory of the programs; unpack them into ``argv[0]`` if necessary."""
    directory = Path(argv[0]).resolve()
    try:
        found = installed(directory) or unpack(directory)
    except DemoError as error:
        print(error, file=sys.stderr)
        return 2
    print(found.prometheus.parent)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
