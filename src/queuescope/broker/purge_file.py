"""The file of a purge: JSON lines, either complete or absent.

It has a head, one line for each message in the order of the lists from left to right (the last is
consumed first), and a tail with count and digest that prove it complete. Messages are kept byte by
byte.
"""

from __future__ import annotations

import base64
import hashlib
import os
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import msgspec

from queuescope.errors import PurgeError
from queuescope.private_files import make_private_folder

SUFFIX = ".jsonl"
RESTORED_SUFFIX = ".restored.jsonl"
_DRAFT_PREFIX = ".draft-"
_NOTE_PREFIX = ".begun-"
_LEFTOVER_SECONDS = 3600.0
_PIECE_MESSAGES = 2000
_HEAD_BYTES = 262_144
_TAIL_BYTES = 400
_PIECE_BYTES = 4_000_000


@dataclass(frozen=True, slots=True)
class Purge:
    """One purge: the queue, how many messages it removed, and the file that keeps them."""

    id: str
    queue: str
    at: float
    count: int
    is_restored: bool
    path: Path
    is_proven: bool = True
    """Whether a digest proves the head; files of earlier versions have none."""


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """The first line of the file."""

    id: str
    queue: str
    at: float
    lists: list[str]
    """The keys that the messages came from, including prefixes."""


class _Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    list: int
    message: str = ""
    base64: str = ""
    """Instead of ``message``, for what is not UTF-8."""


class _Tail(msgspec.Struct, frozen=True, kw_only=True):
    count: int
    sha256: str
    """Digest of the message lines."""
    head: str = ""
    """SHA-256 of the first line, which says where the messages belong."""


class Draft:
    """A file that is being written, invisible until it is published; used in a ``with`` block.

    Every method raises ``PurgeError``.
    """

    def __init__(self, folder: Path) -> None:
        with _disk("write"):
            make_private_folder(folder)
            descriptor, name = tempfile.mkstemp(prefix=_DRAFT_PREFIX, dir=folder)
        self._path = Path(name)
        self._descriptor = descriptor

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(FileNotFoundError):
            self._path.unlink()

    def write(self, head: Head, messages: Iterable[tuple[int, bytes]]) -> None:
        """Write everything and flush it to the disk; each message has the index of its list."""
        digest, count = hashlib.sha256(), 0
        with _disk("write"), os.fdopen(self._descriptor, "wb") as file:
            first = msgspec.json.encode(head)
            file.write(first + b"\n")
            for index, raw in messages:
                line = msgspec.json.encode(_line(index, raw))
                digest.update(line)
                file.write(line + b"\n")
                count += 1
            tail = _Tail(
                count=count, sha256=digest.hexdigest(), head=hashlib.sha256(first).hexdigest()
            )
            file.write(msgspec.json.encode(tail) + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def publish(self, path: Path) -> None:
        move(self._path, path)


def purge_files(folder: Path) -> list[Path]:
    """The paths of all purges in ``folder``. Raises ``PurgeError``."""
    with _disk("read"):
        try:
            found = list(folder.iterdir())
        except FileNotFoundError:
            # The first purge creates it.
            return []
    return sorted(path for path in found if path.name.endswith(SUFFIX))


def remove_leftovers(folder: Path) -> None:
    """Remove the old drafts and notes of processes that were killed."""
    for prefix in (_DRAFT_PREFIX, _NOTE_PREFIX):
        for path in folder.glob(f"{prefix}*"):
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > _LEFTOVER_SECONDS:
                    path.unlink()


def move(path: Path, to: Path) -> None:
    """Rename, and flush that to the disk. Raises ``PurgeError``."""
    with _disk("rename"):
        path.rename(to)
        descriptor = os.open(to.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def note_begun(folder: Path, purge_id: str) -> None:
    """Leave a note in ``folder`` that this purge is carried out from here. Raises ``PurgeError`` if
    no file can be written there.
    """
    with _disk("write"):
        make_private_folder(folder)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        descriptor = os.open(_note(folder, purge_id), flags, mode=0o600)
        with os.fdopen(descriptor, "wb") as note:
            # A full disk accepts an empty file.
            note.write(b"\0" * 4096)
            note.flush()
            os.fsync(note.fileno())


def is_begun_here(folder: Path, purge_id: str) -> bool:
    """Whether ``folder`` has the note of ``note_begun``."""
    return _note(folder, purge_id).exists()


def remove_note(folder: Path, purge_id: str) -> None:
    """Remove the note of a purge that is complete."""
    with suppress(OSError):
        _note(folder, purge_id).unlink()


def _note(folder: Path, purge_id: str) -> Path:
    return folder / f"{_NOTE_PREFIX}{purge_id}"


def _line(index: int, raw: bytes) -> _Message:
    try:
        return _Message(list=index, message=raw.decode("utf-8"))
    except UnicodeDecodeError:
        return _Message(list=index, base64=base64.b64encode(raw).decode("ascii"))


def read_purge(path: Path) -> Purge:
    """The purge that ``path`` keeps. Raises ``PurgeError`` if the file is not complete."""
    with _disk("read"), path.open("rb") as file:
        try:
            first = file.readline(_HEAD_BYTES).rstrip(b"\n")
            head = msgspec.json.decode(first, type=Head)
            file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            tail = msgspec.json.decode(file.read().rstrip(b"\n").rsplit(b"\n", 1)[-1], type=_Tail)
        except (ValueError, RecursionError) as exc:
            raise PurgeError(f"the file of a purge is damaged: {path.name}") from exc
    if tail.head not in ("", hashlib.sha256(first).hexdigest()):
        raise PurgeError(f"the head of the file of a purge was changed: {path.name}")
    is_restored = path.name.endswith(RESTORED_SUFFIX)
    return Purge(
        head.id, head.queue, head.at, tail.count, is_restored, path, is_proven=bool(tail.head)
    )


def pieces(path: Path) -> Iterator[tuple[int, list[tuple[str, bytes]]]]:
    """The messages in pieces of at most 2,000, each after the number of messages before it.

    A message has the key that it came from. Raises ``PurgeError`` before the first piece if the
    file is damaged.
    """
    read_purge(path)
    _verify(path)
    with _disk("read"), path.open("rb") as file:
        head = msgspec.json.decode(file.readline(), type=Head)
        offset, size, piece = 0, 0, list[tuple[str, bytes]]()
        line = file.readline()
        for following in file:
            entry = msgspec.json.decode(line, type=_Message)
            raw = base64.b64decode(entry.base64) if entry.base64 else entry.message.encode("utf-8")
            if piece and (len(piece) == _PIECE_MESSAGES or size + len(raw) > _PIECE_BYTES):
                yield offset, piece
                offset, size, piece = offset + len(piece), 0, []
            piece.append((head.lists[entry.list], raw))
            size += len(raw)
            line = following
    if piece:
        yield offset, piece


def _verify(path: Path) -> None:
    digest, count = hashlib.sha256(), 0
    with _disk("read"), path.open("rb") as file:
        file.readline()
        line = file.readline()
        for following in file:
            digest.update(line.rstrip(b"\n"))
            count += 1
            line = following
    try:
        tail = msgspec.json.decode(line, type=_Tail)
    except ValueError as exc:
        raise PurgeError(f"the file of a purge is damaged: {path.name}") from exc
    if (tail.count, tail.sha256) != (count, digest.hexdigest()):
        raise PurgeError(f"the file of a purge is damaged: {path.name}")


@contextmanager
def _disk(verb: str) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise PurgeError(
            f"cannot {verb} the file of a purge in the data directory: {exc.strerror}"
        ) from exc
