"""Environments as users create them: the project's wheel and its dependencies."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

PROJECT = Path(__file__).parents[1]


def uv_program() -> str:
    """The project's own uv; ``./test`` has found or fetched it."""
    own = PROJECT / ".uv/bin/uv"
    program = str(own) if own.exists() else shutil.which("uv")
    assert program, "uv is not there: run ./test once"
    return program


def uv(*arguments: str | Path, **environment: str) -> str:
    """What uv prints."""
    done = subprocess.run(
        [uv_program(), *arguments],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "UV_PYTHON_DOWNLOADS": "never", **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def build_wheel(folder: Path) -> Path:
    """The project's wheel, in ``folder``."""
    uv("build", "--quiet", "--wheel", PROJECT, "--out-dir", folder)
    [wheel] = folder.glob("*.whl")
    return wheel


def make_environment(folder: Path, *wanted: str | Path, versions: Iterable[str] = ()) -> Path:
    """A new environment with the ``wanted`` requirements, as for pip; returns its Python.

    ``versions``, such as ``celery==5.3.0``, also constrain dependencies.
    """
    uv("venv", "--quiet", "--python", sys.executable, folder)
    bounds = folder / "versions.txt"
    bounds.write_text("".join(f"{version}\n" for version in versions), "utf-8")
    uv("pip", "install", "--quiet", "-c", bounds, *wanted, VIRTUAL_ENV=str(folder))
    return folder / "bin/python"


def installed(folder: Path) -> dict[str, str]:
    """By name, the version of each package in the environment in ``folder``."""
    lines = uv("pip", "list", "--format", "freeze", VIRTUAL_ENV=str(folder)).splitlines()
    return dict(line.split("==", 1) for line in lines if "==" in line)
