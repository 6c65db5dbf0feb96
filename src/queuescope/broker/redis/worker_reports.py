"""Reads the reports of workers, which one hash holds, with bounded memory."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Any

import redis

from queuescope.broker.clock import CorrectedClock
from queuescope.broker.protocol import WorkersReading
from queuescope.broker.redis.bounded_replies import REPLY_LIMIT_BYTES, ReplyTooLargeError
from queuescope.broker.redis.connection import RedisConnection, seconds
from queuescope.broker.redis.failures import is_write_conflict, translated
from queuescope.broker.reports import (
    REPORT_LIMIT_BYTES,
    REPORTS_LIMIT,
    WorkerReport,
    began_at,
    decode_report,
)
from queuescope.broker.timings import WorkerTimings

_NAMES_LIMIT = 20_000
_BATCH = 20
_KEEP_SECONDS = 7 * 86_400.0


class ReportReader:
    """Reads the reports, and drops old ones. Methods raise ``BrokerError``."""

    def __init__(
        self, connection: RedisConnection, clock: CorrectedClock, timings: WorkerTimings
    ) -> None:
        self._connection = connection
        self._clock = clock
        self._timings = timings

    def read(self) -> WorkersReading:
        with translated():
            now, found, unread = self._stored()
        current, expired, unreadable = [], [], []
        for name, raw in found.items():
            report = None if raw is None else self._decoded(raw, now)
            if report is None:
                unreadable.append(_shown(name))
            elif now - report.at <= self._timings.drop_seconds:
                current.append(report)
            else:
                expired.append(report)
        current = _without_earlier_runs(current)
        for reports in (current, expired):
            reports.sort(key=lambda report: (report.worker, report.started_at, report.boot_id))
        return WorkersReading(
            now,
            tuple(current),
            tuple(expired),
            tuple(sorted(unreadable)),
            unread,
            self._timings,
        )

    def drop(self, *, keep: Collection[str]) -> int:
        """See ``Broker.drop_reports``."""
        dropped = 0
        key = self._connection.keys.workers
        with translated(writes=True), self._connection.writing() as client:
            now, found, _ = self._stored()
            for name, raw in found.items():
                report = None if raw is None else self._decoded(raw, now)
                is_kept = report is not None and report.worker in keep
                until = _KEEP_SECONDS if is_kept else self._timings.drop_seconds
                if report is not None and now - report.at <= until:
                    continue
                with client.pipeline() as pipe:
                    pipe.watch(key)  # type: ignore[no-untyped-call]
                    if raw is None:
                        is_same = pipe.hstrlen(key, name) > REPORT_LIMIT_BYTES
                    else:
                        is_same = pipe.hstrlen(key, name) == len(raw) and (
                            pipe.hget(key, name) == raw
                        )
                    if not is_same:
                        continue
                    pipe.multi()
                    pipe.hdel(key, name)
                    try:
                        dropped += pipe.execute()[0]
                    except redis.WatchError as exc:
                        if not is_write_conflict(exc):
                            raise
                        # Another report was written in between; the next call tries again.
                        continue
        return dropped

    def _stored(self) -> tuple[float, dict[bytes, bytes | None], int]:
        """The broker's time, the value of each field (``None`` if too large to be read), and how
        many fields were not read. Raises what redis-py raises.
        """
        key, reader = self._connection.keys.workers, self._connection.reader
        found: dict[bytes, bytes | None] = {}
        answer: Any
        asked_at = time.time()
        with reader.pipeline() as pipe:
            pipe.time()
            pipe.hlen(key)
            at, count = pipe.execute()
        now = seconds(at)
        self._clock.compare(now, asked_at=asked_at)
        if count <= REPORTS_LIMIT:
            try:
                answer = reader.hgetall(key)
            except ReplyTooLargeError:
                # Only some of them are too large.
                answer = None
            if answer is not None:
                return now, answer, 0
        if count > _NAMES_LIMIT:
            try:
                _, answer = reader.hscan(key, count=REPORTS_LIMIT)
            except ReplyTooLargeError:
                return now, {}, count
            found = dict(list(answer.items())[:REPORTS_LIMIT])
            return now, found, count - len(found)
        names: list[Any] = reader.hkeys(key)
        with reader.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.hstrlen(key, name)
            sizes = dict(zip(names, pipe.execute(), strict=True))
        # The smallest first, so that values made to fill the memory are left out.
        names.sort(key=lambda name: sizes[name])
        wanted: list[bytes] = []
        left = REPLY_LIMIT_BYTES
        for name in names[:REPORTS_LIMIT]:
            left -= sizes[name]
            if sizes[name] > REPORT_LIMIT_BYTES or left < 0:
                found[name] = None
            else:
                wanted.append(name)
        for start in range(0, len(wanted), _BATCH):
            batch = wanted[start : start + _BATCH]
            answer = reader.hmget(key, batch)
            found |= {name: raw for name, raw in zip(batch, answer, strict=True) if raw is not None}
        return now, found, max(0, len(names) - REPORTS_LIMIT)

    def _decoded(self, raw: bytes | str, now: float) -> WorkerReport | None:
        """The report; ``None`` if it is of an unknown version or from the future, since it would
        never expire. A worker that starts in the future is rejected as well: it would count as the
        successor of all workers of its name.
        """
        try:
            report = decode_report(raw)
        except ValueError:
            return None
        latest = now + self._timings.lost_seconds
        return report if max(report.at, began_at(report)) <= latest else None


def _without_earlier_runs(reports: list[WorkerReport]) -> list[WorkerReport]:
    """``reports`` without those of earlier runs of a worker; two that run at once both stay."""
    newest: dict[str, float] = {}
    for report in reports:
        newest[report.worker] = max(newest.get(report.worker, 0.0), began_at(report))
    return [report for report in reports if report.at >= newest[report.worker]]


def _shown(name: bytes) -> str:
    """A name of something unreadable, short and on one line."""
    text = name[:200].decode("utf-8", "replace")[:60]
    return "".join(c if c.isprintable() else "�" for c in text)
