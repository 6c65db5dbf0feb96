"""Purging a queue so that nothing is lost: out of the queue, into a file, and back if wanted.

A purge renames the queue's lists in one transaction, writes them to a file that is on the disk
before the lists are deleted, and can be killed anywhere: each message is in the queue, in the
renamed lists, or in the file, and ``recover`` completes what was begun. A restore puts messages
back piece by piece, and counts them in the broker in the transaction of each piece, so that none
comes back twice.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Annotated, Any

import msgspec
import redis

from queuescope.broker.purge_file import (
    RESTORED_SUFFIX,
    SUFFIX,
    Draft,
    Head,
    Purge,
    move,
    pieces,
    prove_writable,
    purge_files,
    read_purge,
    sweep,
)
from queuescope.broker.redis.bounded_replies import ReplyTooLargeError
from queuescope.broker.redis.broker import RedisBroker, executed
from queuescope.broker.redis.desired import broker_time, is_of_other_type
from queuescope.broker.redis.failures import is_overtaken, translated
from queuescope.broker.reports import Keys, parse
from queuescope.errors import BrokerError, BrokerErrorKind, PurgeError
from queuescope.shown_text import one_line

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_PAGE = 2000
_REMEMBERED_SECONDS = 30 * 86_400
_TAKEN = b"taken"
_UNFINISHED_LIMIT = 1000
_RECORD_BYTES = 65_536
_NUMBER_BYTES = 16
_FIELD_BYTES = 64
_SHOWN = 64
_DAMAGED_RECORD = "its record in the broker is damaged"
_TOO_LARGE = "the broker's list of unfinished purges is too large to be read"
_lists_decoder = msgspec.json.Decoder(Annotated[list[str], msgspec.Meta(max_length=256)])


@dataclass(frozen=True, slots=True)
class Purged:
    """The result of purging. Workers still hold ``still_reserved`` jobs of the queue, which were
    delivered before and may run; ``None`` is unknown.
    """

    purge: Purge
    still_reserved: int | None


@dataclass(frozen=True, slots=True)
class Restored:
    """``count`` messages of the purge are back, ``now`` of them by this very call."""

    purge: Purge
    count: int
    now: int


@dataclass(frozen=True, slots=True)
class Shelf:
    """The purges that are kept, the newest first, and the names of the files that are damaged."""

    purges: tuple[Purge, ...]
    damaged: tuple[str, ...]


class Memory(Enum):
    """What the broker remembers of a purge that a file holds."""

    KNOWN = auto()
    """How many of its messages are back, and these are not all."""
    RESTORED = auto()
    """All are back."""
    NONE = auto()
    """Nothing: it lost its data, is an older copy of itself, or never was the purge's broker."""
    DAMAGED = auto()
    """Its record is damaged, or that of another purge."""


@dataclass(frozen=True, slots=True)
class Remembered:
    """What the broker remembers of one purge: that ``back`` of its messages are back, and the
    ``act`` that began to restore it last, or nothing. It is the ``same_run`` where the server has
    been up ever since, so that it forgot nothing.
    """

    memory: Memory
    back: int = 0
    act: str = ""
    same_run: bool = False


class Quarantine:
    """Purges of one broker, kept in one folder.

    Methods raise ``BrokerError``, and ``PurgeError`` when a file cannot be written or read. After
    either, messages are where they were or wait for ``recover``.
    """

    def __init__(self, broker: RedisBroker, folder: Path) -> None:
        self._broker = broker
        self._folder = folder
        self._keys: Keys = broker.keys

    def purge(self, queue: str, purge_id: str) -> Purged:
        """Remove all that waits in ``queue`` now, every priority of it, and nothing else.

        ``purge_id`` makes it happen once: a second call with it completes the first.
        """
        self._check(purge_id)
        prove_writable(self._folder)
        self._broker.learn(self._broker.workers().reports)
        self._take_out(queue, purge_id)
        purge = self._complete(purge_id)
        try:
            readings = self._broker.read([queue])
            still_reserved = readings[0].unacknowledged if readings else None
        except BrokerError:
            still_reserved = None
        return Purged(purge, still_reserved)

    def recover(self) -> list[Purge]:
        """Complete the purges that were cut off, here or in another process, and the restores
        whose last step, to rename the file, was.

        One that cannot be completed, for it is none of ours or its record is damaged, is left as
        it is and keeps back no other; at the end it is a ``PurgeError``.
        """
        sweep(self._folder)
        completed, left = [], []
        self._rename_restored()
        for name in self.unfinished():
            try:
                completed.append(self._complete(name))
            except PurgeError as exc:
                left.append((name, exc))
        if left:
            name, error = left[0]
            more = f", and {len(left) - 1:,} more" if len(left) > 1 else ""
            raise PurgeError(
                f"an unfinished purge cannot be completed ({one_line(name, _SHOWN)}: {error}){more}"
            ) from error
        return completed

    def note_restore(self, purge_id: str, act: str) -> None:
        """Let the broker remember that ``act`` is about to restore this purge; moves nothing.

        Where that is forgotten later, so may be what came back.
        """
        self._check(purge_id)
        purge, run = self._find(purge_id), self._broker.run_id()
        with translated(writes=True), self._broker.writing() as client, client.pipeline() as pipe:
            record = self._keys.purged(purge_id)
            # A broker that had lost the record knows the purge from now on.
            for name, value in (("at", repr(purge.at)), ("act", act), ("run", run)):
                pipe.hset(record, name, value)
            pipe.execute()

    def restore(self, purge_id: str) -> Restored:
        """Put what was purged back where it will be consumed next, in its old order.

        A call after one that was cut off goes on where that ended; after a complete one it does
        nothing. Up to 2,000 messages come back all at once.
        """
        self._check(purge_id)
        with translated():
            stage = self._broker.reader.hget(self._keys.purged(purge_id), "stage")
        if stage == _TAKEN:
            self._complete(purge_id)
        purge = self._find(purge_id)
        if purge.is_restored:
            return Restored(purge, purge.count, 0)
        now = 0
        with translated(writes=True), self._broker.writing() as client:
            for offset, piece in pieces(purge.path):
                now += self._put_back(client, purge, offset, piece)
        try:
            move(purge.path, self._path(purge_id, is_restored=True))
        except PurgeError:
            # Another that restored the same may have been first.
            if not self._find(purge_id).is_restored:
                raise
        return Restored(self._find(purge_id), purge.count, now)

    def shelf(self) -> Shelf:
        """What is in the folder; a file that cannot be read hides no other.

        A purge whose file was copied back beside the restored one is restored.
        """
        found, damaged = list[Purge](), []
        for path in purge_files(self._folder):
            try:
                found.append(read_purge(path))
            except PurgeError:
                # Restored meanwhile, it has another name.
                if path.exists():
                    damaged.append(path.name)
        restored = {purge.id for purge in found if purge.is_restored}
        found = [purge for purge in found if purge.is_restored or purge.id not in restored]
        found.sort(key=lambda purge: purge.at, reverse=True)
        return Shelf(tuple(found), tuple(sorted(damaged)))

    def remembered(self, purges: Sequence[Purge]) -> list[Remembered]:
        """What the broker remembers of each of ``purges``."""
        keys, reader = [self._keys.purged(purge.id) for purge in purges], self._broker.reader
        names = ("at", "restored", "act", "run")
        run: str | None = None
        with translated():
            with reader.pipeline(transaction=False) as pipe:
                for key in keys:
                    for name in names:
                        pipe.hstrlen(key, name)
                lengths = executed(pipe)
            found = [Remembered(Memory.DAMAGED)] * len(keys)
            short = [
                index
                for index in range(len(keys))
                if all(
                    not isinstance(length, Exception) and length <= _FIELD_BYTES
                    for length in lengths[len(names) * index :][: len(names)]
                )
            ]
            with reader.pipeline(transaction=False) as pipe:
                for index in short:
                    pipe.hmget(keys[index], *names)
                answers = executed(pipe)
        for index, answer in zip(short, answers, strict=True):
            if isinstance(answer, Exception):
                continue
            at, restored, act, noted_run = answer
            memory = _memory(purges[index], at, restored)
            if memory is Memory.KNOWN and act and run is None:
                run = self._broker.run_id()
            found[index] = Remembered(
                memory,
                int(restored or b"0") if memory in (Memory.KNOWN, Memory.RESTORED) else 0,
                (act or b"").decode("utf-8", "replace"),
                bool(noted_run) and noted_run == (run or "").encode(),
            )
        return found

    def purges(self) -> tuple[Purge, ...]:
        """What was purged and is whole in the folder, the newest first."""
        return self.shelf().purges

    def unfinished(self) -> tuple[str, ...]:
        """The ids of purges that are not exported yet: under way, or cut off."""
        key = self._keys.purges()
        ids: Any = []
        with translated():
            try:
                reader = self._broker.reader
                if reader.scard(key) <= _UNFINISHED_LIMIT:
                    ids = [*reader.smembers(key)]
                else:
                    ids = reader.sscan(key, count=_UNFINISHED_LIMIT)[1]
            except ReplyTooLargeError:
                raise BrokerError(BrokerErrorKind.UNUSABLE, _TOO_LARGE) from None
        return tuple(sorted(raw.decode("utf-8", "replace") for raw in ids[:_UNFINISHED_LIMIT]))

    # The steps of a purge; a process may be killed between and within them ------------------

    def _take_out(self, queue: str, purge_id: str) -> None:
        """Rename the lists of ``queue``; done before, it does nothing."""
        record = self._keys.purged(purge_id)
        lists = self._broker.list_keys(queue)
        with translated(writes=True), self._broker.writing() as client:
            at = broker_time(client)
            with client.pipeline() as pipe:
                pipe.watch(record)  # type: ignore[no-untyped-call]
                if pipe.exists(record):
                    return
                pipe.multi()
                pipe.hset(record, "queue", queue)
                pipe.hset(record, "at", repr(at))
                pipe.hset(record, "lists", msgspec.json.encode(lists))
                pipe.hset(record, "stage", _TAKEN)
                pipe.sadd(self._keys.purges(), purge_id)
                for step, key in enumerate(lists):
                    pipe.rename(key, self._keys.purged_list(purge_id, step))
                try:
                    answers = pipe.execute(raise_on_error=False)
                except redis.WatchError as exc:
                    if not is_overtaken(exc):
                        raise
                    # The same act, elsewhere, at the same moment.
                    return
        for answer in answers:
            # A list that is empty does not exist, and cannot be renamed.
            if isinstance(answer, redis.ResponseError) and "no such key" not in str(answer):
                with translated(writes=True):
                    raise answer

    def _complete(self, purge_id: str) -> Purge:
        self._check(purge_id)
        path = self._path(purge_id)
        record = self._record(purge_id)
        if record is None:
            return self._find(purge_id)
        if path.exists():
            if read_purge(path).at != record.at:
                raise PurgeError("the id of this purge was used before; nothing was deleted")
        else:
            self._export(record, path)
        self._forget(purge_id)
        return self._find(purge_id)

    def _record(self, purge_id: str) -> Head | None:
        """What the broker says of a purge that is not exported yet; ``None`` of any other."""
        key, reader = self._keys.purged(purge_id), self._broker.reader
        names = ("queue", "at", "lists", "stage")
        with translated():
            try:
                with reader.pipeline(transaction=False) as pipe:
                    for name in names:
                        pipe.hstrlen(key, name)
                    lengths = pipe.execute()
                values: list[Any] = []
                if max(lengths) <= _RECORD_BYTES:
                    values = reader.hmget(key, *names)
            except redis.ResponseError as exc:
                if not is_of_other_type(exc):
                    raise
                raise PurgeError(_DAMAGED_RECORD) from exc
        if not values:
            raise PurgeError(_DAMAGED_RECORD)
        queue, at, lists, stage = values
        if stage != _TAKEN or None in (queue, at, lists):
            return None
        try:
            head = Head(
                id=purge_id,
                queue=queue.decode("utf-8"),
                at=float(at),
                lists=parse(lists, _lists_decoder, limit_bytes=_RECORD_BYTES),
            )
        except ValueError as exc:
            raise PurgeError(_DAMAGED_RECORD) from exc
        own = f"{self._broker.key_prefix}{head.queue}"
        if not math.isfinite(head.at) or not all(key.startswith(own) for key in head.lists):
            # What would be put back elsewhere than it came from was written by somebody else.
            raise PurgeError(_DAMAGED_RECORD)
        return head

    def _export(self, head: Head, path: Path) -> None:
        """Write the renamed lists to ``path``, whole or not at all."""
        with Draft(self._folder) as draft:
            draft.write(head, self._messages(head))
            # Another process may have completed this purge and deleted what we were reading.
            with translated():
                stage = self._broker.reader.hget(self._keys.purged(head.id), "stage")
            if stage == _TAKEN:
                draft.publish(path)

    def _messages(self, head: Head) -> Iterator[tuple[int, bytes]]:
        """Every renamed message with the index of its list, from left to right."""
        for index in range(len(head.lists)):
            key = self._keys.purged_list(head.id, index)
            start, length = 0, _PAGE
            while True:
                try:
                    with translated():
                        messages = self._page(key, start, length)
                except BrokerError as exc:
                    if length == 1 or not isinstance(exc.__cause__, ReplyTooLargeError):
                        raise
                    length = max(1, length // 8)
                    continue
                if not messages:
                    break
                for message in messages:
                    yield index, message if isinstance(message, bytes) else message.encode()
                start += len(messages)

    def _page(self, key: str, start: int, length: int) -> list[Any]:
        """Raises what redis-py raises; a single message is read however large it is."""
        if length > 1:
            return list(self._broker.reader.lrange(key, start, start + length - 1))
        with self._broker.reading_whole() as client:
            return list(client.lrange(key, start, start))

    def _forget(self, purge_id: str) -> None:
        """Delete the renamed lists, now that the file holds them."""
        record = self._keys.purged(purge_id)
        with translated(writes=True), self._broker.writing() as client:
            raw = client.hget(record, "lists")
            count = len(parse(raw or b"[]", _lists_decoder, limit_bytes=_RECORD_BYTES))
            with client.pipeline() as pipe:
                pipe.hset(record, "stage", "exported")
                pipe.srem(self._keys.purges(), purge_id)
                for index in range(count):
                    pipe.unlink(self._keys.purged_list(purge_id, index))
                pipe.execute()

    # Restoring ------------------------------------------------------------------------------

    def _rename_restored(self) -> None:
        kept = [purge for purge in self.purges() if not purge.is_restored and purge.count]
        if not kept:
            return
        for purge, remembered in zip(kept, self.remembered(kept), strict=True):
            # Another that restored the same may be first.
            if remembered.memory is Memory.RESTORED and purge.path.exists():
                move(purge.path, self._path(purge.id, is_restored=True))

    def _put_back(
        self, client: redis.Redis, purge: Purge, offset: int, piece: list[tuple[str, bytes]]
    ) -> int:
        """Push one piece unless it was pushed before; returns how many were."""
        record = self._keys.purged(purge.id)
        end = offset + len(piece)
        while True:
            with client.pipeline() as pipe:
                pipe.watch(record)  # type: ignore[no-untyped-call]
                if self._restored(pipe, record) >= end:
                    return 0
                pipe.multi()
                for key, message in piece:
                    pipe.rpush(key, message)
                pipe.hset(record, "restored", str(end))
                # A broker that had lost the record knows the purge from now on.
                pipe.hset(record, "at", repr(purge.at))
                if end == purge.count:
                    pipe.expire(record, _REMEMBERED_SECONDS)
                try:
                    pipe.execute()
                except redis.WatchError as exc:
                    if not is_overtaken(exc):
                        raise
                    # Another restores the same; look again how far it came.
                    continue
                return len(piece)

    def _restored(self, pipe: Any, record: str) -> int:
        """How many messages are back, by the record that ``pipe`` watches."""
        try:
            raw = pipe.hget(record, "restored") or b"0"
        except redis.ResponseError as exc:
            if not is_of_other_type(exc):
                raise
            raw = b""
        if not _is_number(raw):
            raise PurgeError(f"{_DAMAGED_RECORD}, so that nobody knows what is back already")
        return int(raw)

    # Files ----------------------------------------------------------------------------------

    def _check(self, purge_id: str) -> None:
        if not _ID.fullmatch(purge_id):
            raise PurgeError("this is not the id of a purge")

    def _path(self, purge_id: str, *, is_restored: bool = False) -> Path:
        return self._folder / f"{purge_id}{RESTORED_SUFFIX if is_restored else SUFFIX}"

    def _find(self, purge_id: str) -> Purge:
        for is_restored in (True, False):
            path = self._path(purge_id, is_restored=is_restored)
            if path.exists():
                return read_purge(path)
        raise PurgeError(
            "the file of this purge is not in the data directory of this dashboard; "
            "look for it where the purge was carried out"
        )


def _memory(purge: Purge, at: bytes | None, restored: bytes | None) -> Memory:
    if at is None and restored is None:
        return Memory.NONE
    try:
        is_same = at is None or float(at) == purge.at
    except ValueError:
        is_same = False
    if not is_same or (restored is not None and not _is_number(restored)):
        return Memory.DAMAGED
    return Memory.RESTORED if int(restored or b"0") >= purge.count else Memory.KNOWN


def _is_number(raw: bytes) -> bool:
    return raw.isdigit() and len(raw) <= _NUMBER_BYTES
