"""Folders and files that Queuescope makes for its own user alone, whatever the umask is.

What is there already keeps its mode: somebody may have opened it on purpose.
"""

from __future__ import annotations

import os
import shlex
import stat
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_FOLDER_MODE = 0o700
_FILE_MODE = 0o600
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_MAY_ENTER = stat.S_IXGRP | stat.S_IXOTH

# To close a descriptor of a file lets go what SQLite has locked of it in the same process.
_making = threading.Lock()


def make_private_folder(folder: Path) -> None:
    """Make ``folder``, and the folders above it that are missing. Raises ``OSError``."""
    # Of the folders above, `mkdir` itself would make those that are missing open to others.
    for missing in reversed([path for path in folder.parents if not path.exists()]):
        missing.mkdir(mode=_FOLDER_MODE, exist_ok=True)
    folder.mkdir(mode=_FOLDER_MODE, exist_ok=True)


def make_private_file(path: Path) -> None:
    """Make ``path`` an empty file, unless it is there. Raises ``OSError``."""
    with _making, suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, _FILE_MODE))


def write_private(path: Path, content: bytes) -> None:
    """Replace the content of ``path``; a new file is made private. Raises ``OSError``."""
    make_private_file(path)
    path.write_bytes(content)


def open_to_others(folder: Path, file: Path | None) -> Iterator[str]:
    """Sentences on what other users of this machine may enter, read or write, each with its
    remedy: ``folder``, and ``file`` where the folder that holds it lets them through.
    """
    if _mode(folder) & _OTHERS:
        yield (
            f"other users of this machine may enter the data directory {folder}; "
            f"close it with: {_remedy(folder)}"
        )
    if file is not None and _mode(file) & _OTHERS and _mode(file.parent) & _MAY_ENTER:
        yield (
            f"other users of this machine may read the operations database {file}; "
            f"close it with: {_remedy(file)}*"
        )


def _remedy(path: Path) -> str:
    return f"chmod go= {shlex.quote(str(path))}"


def _mode(path: Path) -> int:
    """The bits of permission; none for what is not there or cannot be seen."""
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return 0
