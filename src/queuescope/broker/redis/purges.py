"""The steps of a purge and a restore in Redis.

A purge renames the queue's lists in one transaction. A restore puts messages back in pieces, and
counts them in the transaction of each piece, so that none is put back twice.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import msgspec
import redis

from queuescope.broker.protocol import PurgeRecord, RecordState
from queuescope.broker.purge_file import Head, Purge
from queuescope.broker.redis.bounded_replies import ReplyTooLargeError
from queuescope.broker.redis.connection import RedisConnection, executed, server_time
from queuescope.broker.redis.failures import is_write_conflict, is_wrong_type, translated
from queuescope.broker.redis.layout import QueueLayout
from queuescope.broker.reports import parse
from queuescope.errors import BrokerError, BrokerErrorKind, PurgeError

_PAGE = 2000
_REMEMBERED_SECONDS = 30 * 86_400
_TAKEN = b"taken"
_UNFINISHED_LIMIT = 1000
_RECORD_BYTES = 65_536
_NUMBER_BYTES = 16
_FIELD_BYTES = 64
_DAMAGED_RECORD = "its record in the broker is damaged"
_TOO_LARGE = "the broker's list of unfinished purges is too large to be read"
_lists_decoder = msgspec.json.Decoder(Annotated[list[str], msgspec.Meta(max_length=256)])


class RedisPurgeSteps:
    """See ``queuescope.broker.protocol.PurgeSteps``."""

    def __init__(self, connection: RedisConnection, layout: QueueLayout) -> None:
        self._connection = connection
        self._layout = layout
        self._keys = connection.keys

    def set_aside(self, queue: str, purge_id: str) -> None:
        record = self._keys.purged(purge_id)
        lists = self._layout.lists(queue)
        with translated(writes=True), self._connection.writing() as client:
            at = server_time(client)
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
                    if not is_write_conflict(exc):
                        raise
                    # Another process carries out the same operation at the same moment.
                    return
        for answer in answers:
            # An empty list does not exist, and cannot be renamed.
            if isinstance(answer, redis.ResponseError) and "no such key" not in str(answer):
                with translated(writes=True):
                    raise answer

    def is_set_aside(self, purge_id: str) -> bool:
        with translated():
            stage = self._connection.reader.hget(self._keys.purged(purge_id), "stage")
        return stage == _TAKEN

    def is_known(self, purge_id: str) -> bool:
        with translated():
            return bool(self._connection.reader.exists(self._keys.purged(purge_id)))

    def head(self, purge_id: str) -> Head | None:
        key, reader = self._keys.purged(purge_id), self._connection.reader
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
                if not is_wrong_type(exc):
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
        own = f"{self._connection.key_prefix}{head.queue}"
        if not math.isfinite(head.at) or not all(key.startswith(own) for key in head.lists):
            # A record with lists of another queue was not written by Queuescope.
            raise PurgeError(_DAMAGED_RECORD)
        return head

    def messages(self, head: Head) -> Iterator[tuple[int, bytes]]:
        """Each list from left to right."""
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
        """Part of a list; a single message is read whatever its size. Raises what redis-py
        raises.
        """
        if length > 1:
            return list(self._connection.reader.lrange(key, start, start + length - 1))
        with self._connection.reading_whole() as client:
            return list(client.lrange(key, start, start))

    def discard(self, purge_id: str) -> None:
        record = self._keys.purged(purge_id)
        with translated(writes=True), self._connection.writing() as client:
            raw = client.hget(record, "lists")
            count = len(parse(raw or b"[]", _lists_decoder, limit_bytes=_RECORD_BYTES))
            with client.pipeline() as pipe:
                pipe.hset(record, "stage", "exported")
                pipe.srem(self._keys.purges(), purge_id)
                for index in range(count):
                    pipe.unlink(self._keys.purged_list(purge_id, index))
                pipe.execute()

    def unfinished(self) -> tuple[str, ...]:
        key = self._keys.purges()
        ids: Any = []
        with translated():
            try:
                reader = self._connection.reader
                if reader.scard(key) <= _UNFINISHED_LIMIT:
                    ids = [*reader.smembers(key)]
                else:
                    ids = reader.sscan(key, count=_UNFINISHED_LIMIT)[1]
            except ReplyTooLargeError:
                raise BrokerError(BrokerErrorKind.UNUSABLE, _TOO_LARGE) from None
        return tuple(sorted(raw.decode("utf-8", "replace") for raw in ids[:_UNFINISHED_LIMIT]))

    def note_restore(self, purge: Purge, operation_id: str) -> None:
        """If this record is missing later, the counts of restored messages may be, too."""
        run = self._connection.run_id()
        with (
            translated(writes=True),
            self._connection.writing() as client,
            client.pipeline() as pipe,
        ):
            record = self._keys.purged(purge.id)
            # A broker that had lost the record has one again from now on.
            for name, value in (("at", repr(purge.at)), ("act", operation_id), ("run", run)):
                pipe.hset(record, name, value)
            pipe.execute()

    def put_back(self, purge: Purge, offset: int, piece: Sequence[tuple[str, bytes]]) -> int:
        with translated(writes=True), self._connection.writing() as client:
            return self._put_back(client, purge, offset, piece)

    def _put_back(
        self, client: redis.Redis, purge: Purge, offset: int, piece: Sequence[tuple[str, bytes]]
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
                # A broker that had lost the record has one again from now on.
                pipe.hset(record, "at", repr(purge.at))
                if end == purge.count:
                    pipe.expire(record, _REMEMBERED_SECONDS)
                try:
                    pipe.execute()
                except redis.WatchError as exc:
                    if not is_write_conflict(exc):
                        raise
                    # Another process restores the same purge; read its progress again.
                    continue
                return len(piece)

    def _restored(self, pipe: Any, record: str) -> int:
        """How many messages were restored, by the record that ``pipe`` watches."""
        try:
            raw = pipe.hget(record, "restored") or b"0"
        except redis.ResponseError as exc:
            if not is_wrong_type(exc):
                raise
            raw = b""
        if not _is_number(raw):
            raise PurgeError(f"{_DAMAGED_RECORD}, so it is unknown which jobs are already back")
        return int(raw)

    def records(self, purges: Sequence[Purge]) -> list[PurgeRecord]:
        keys, reader = [self._keys.purged(purge.id) for purge in purges], self._connection.reader
        names = ("at", "restored", "act", "run")
        run: str | None = None
        with translated():
            with reader.pipeline(transaction=False) as pipe:
                for key in keys:
                    for name in names:
                        pipe.hstrlen(key, name)
                lengths = executed(pipe)
            found = [PurgeRecord(RecordState.DAMAGED)] * len(keys)
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
            at, restored, operation_id, noted_run = answer
            state = _state_of(purges[index], at, restored)
            if state is RecordState.PARTIAL and operation_id and run is None:
                run = self._connection.run_id()
            found[index] = PurgeRecord(
                state,
                int(restored or b"0")
                if state in (RecordState.PARTIAL, RecordState.RESTORED)
                else 0,
                (operation_id or b"").decode("utf-8", "replace"),
                bool(noted_run) and noted_run == (run or "").encode(),
            )
        return found


def _state_of(purge: Purge, at: bytes | None, restored: bytes | None) -> RecordState:
    if at is None and restored is None:
        return RecordState.MISSING
    try:
        is_same = at is None or float(at) == purge.at
    except ValueError:
        is_same = False
    if not is_same or (restored is not None and not _is_number(restored)):
        return RecordState.DAMAGED
    return RecordState.RESTORED if int(restored or b"0") >= purge.count else RecordState.PARTIAL


def _is_number(raw: bytes) -> bool:
    return raw.isdigit() and len(raw) <= _NUMBER_BYTES
