"""Creates folders and files that only this user may access, whatever the umask is.

Existing ones keep their mode: somebody may have opened them deliberately.
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

# Closing any descriptor of a file releases SQLite's locks on it in the same process.
_making = threading.Lock()


def make_private_folder(folder: Path) -> None:
    """Create ``folder`` and its missing parents. Raises ``OSError``."""
    # With ``parents=True`` mkdir would make the parents accessible for others.
    for missing in reversed([path for path in folder.parents if not path.exists()]):
        missing.mkdir(mode=_FOLDER_MODE, exist_ok=True)
    folder.mkdir(mode=_FOLDER_MODE, exist_ok=True)


def make_private_file(path: Path) -> None:
    """Create an empty file at ``path`` unless it exists. Raises ``OSError``."""
    with _making, suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, _FILE_MODE))


def write_private(path: Path, content: bytes) -> None:
    """Replace the content of ``path``; a new file is private. Raises ``OSError``."""
    make_private_file(path)
    path.write_bytes(content)


def open_to_others(folder: Path, file: Path | None) -> Iterator[str]:
    """Sentences that warn if other users of this machine may access ``folder``, or ``file`` through
    its folder, each with the remedy.
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
    """The permission bits; 0 if the path is missing or inaccessible."""
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return 0
