"""Compiles the quick reader of points where there is a C compiler; none is needed."""

from __future__ import annotations

import os
import shlex
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCE = "src/queuescope/prometheus/points.c"
LIBRARY = "libpoints.so"  # without the prefix Python would take it for a module
# An undeclared function would be called with wrong types instead of being missed.
OPTIONS = ("-O3", "-fPIC", "-shared", "-Wall", "-Werror=implicit-function-declaration")


class CompiledPoints(BuildHookInterface[Any]):
    """Adds the library beside its source. It needs no Python headers and fits every Python."""

    def initialize(self, _version: str, build_data: dict[str, Any]) -> None:
        source = Path(self.root, SOURCE)
        library = source.with_name(LIBRARY)
        try:
            compiled(source, library)
        except (OSError, subprocess.CalledProcessError) as exc:
            library.unlink(missing_ok=True)
            self.app.display_info(f"built without the compiled reader of points: {exc}")
            return
        build_data["artifacts"].append(library.relative_to(self.root).as_posix())
        build_data["pure_python"] = False
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"py3-none-{platform}"


def compiled(source: Path, library: Path) -> None:
    """``library`` from ``source``, put in place whole, since a server may run from the old one."""
    new = library.with_suffix(f".{os.getpid()}.so")
    compiler = shlex.split(os.environ.get("CC") or "cc")
    try:
        subprocess.run(
            [*compiler, *OPTIONS, "-o", str(new), str(source)], check=True, capture_output=True
        )
        new.replace(library)
    finally:
        new.unlink(missing_ok=True)
