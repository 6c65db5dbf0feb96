"""What stands in the broker, read and written as a whole: queues, workers' reports, desires.

Kombu keeps one list per queue and priority step, pushed on the left and consumed from the right,
and everything that was delivered and not yet acknowledged in one hash for all queues.
"""

from __future__ import annotations

import math
import re
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Annotated, Any

import msgspec
import redis
from kombu.transport.redis import Channel
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry

from queuescope.broker.clock import RightedClock
from queuescope.broker.redis import bounded_replies, desired
from queuescope.broker.redis.address import RedisAddress
from queuescope.broker.redis.bindings import Binding, destinations
from queuescope.broker.redis.bounded_replies import REPLY_LIMIT_BYTES, ReplyTooLargeError
from queuescope.broker.redis.desired import DamagedDesiredError, is_of_other_type
from queuescope.broker.redis.failures import is_overtaken, translated
from queuescope.broker.redis.sender_clocks import Age, Due, SenderClocks
from queuescope.broker.reports import (
    NAME_LIMIT,
    REPORT_LIMIT_BYTES,
    STEPS_LIMIT,
    DesiredState,
    Keys,
    WorkerReport,
    began_at,
    decode_report,
    list_key,
    parse,
)
from queuescope.broker.timings import DEFAULT_TIMINGS, WorkerTimings
from queuescope.errors import ConfigurationError, DamagedError

DUE_HEADER = "queuescope_enqueued_at"
"""The header of a message that tells when it became due, in epoch seconds."""
CLOCK_HEADER = "queuescope_clock"
"""The header that tells by which clock that was said: its ``clock_mark``."""
KOMBU_STEPS = range(10)
"""Every step in which kombu may put a message: it cuts a priority to 0 to 9."""
REPORTS_LIMIT = 1000
"""So many reports at most are read."""
_UNACKNOWLEDGED_LIMIT = 2000
_BINDINGS_LIMIT = 1000
# All workers of a broker together have no more, and no report of many adds to them for long.
_LOOKED_AT_STEPS = 16
_NAMES_LIMIT = 20_000
_SEPARATOR_LIMIT = 16
_SEPARATOR_SECONDS = 10.0
_BATCH = 20
_DAMAGED = (
    "what is desired of the queues is damaged in the broker; workers go on by what they knew, and "
    "the dashboard writes it anew"
)
_KEEP_SECONDS = 7 * 86_400.0
_BINDING = "_kombu.binding.%s"
_PROBE_SECONDS = 60
_LATEST_MARK = 1e12
_RUN_ID = re.compile(r"[0-9a-f]{40}")
_KEPT_BATCH = 1000


@dataclass(frozen=True, slots=True)
class QueueReading:
    """One queue at one instant; ``None`` is unknown.

    ``oldest_age_seconds`` is unknown when no message says since when it waits, or by a clock that
    is ahead by an unknown time. ``sender_ahead`` is how many seconds the clock of the oldest
    message's sender is ahead of the broker's (negative: behind), which the age allows for; of an
    unknown age it is that much at least. An age that ``is_age_doubtful`` is of a message that came
    later than it says: it was put back, or its sender's clock is behind.
    ``unacknowledged`` messages were delivered to a worker that has neither finished nor given them
    back; with early acknowledgement those that run are not among them. It is unknown when there
    are too many to look at, or when one came by a routing key that leads to other queues as well.
    """

    queue: str
    depth: int
    oldest_age_seconds: float | None
    unacknowledged: int | None
    sender_ahead: float = 0.0
    is_age_doubtful: bool = False


@dataclass(frozen=True, slots=True)
class WorkersReading:
    """The last report of every worker that is not forgotten yet, by the broker's time ``at``.

    ``forgotten`` are older ones that still lie in the broker. ``unreadable`` are the names under
    which something lies that is no report of this version, or one that cannot be true;
    ``unread`` counts those that were not looked at, for there are too many, or they are too large.
    ``timings`` say from when on a worker is lost.
    """

    at: float
    reports: tuple[WorkerReport, ...]
    forgotten: tuple[WorkerReport, ...] = ()
    unreadable: tuple[str, ...] = ()
    unread: int = 0
    timings: WorkerTimings = DEFAULT_TIMINGS


class RedisBroker:
    """A Redis or Valkey server as Celery uses it.

    Every method raises ``BrokerError`` when the broker does not give a usable answer. Reading is
    tried twice when a connection breaks, writing never. Threads may share one.
    """

    def __init__(
        self,
        broker_url: str,
        *,
        key_prefix: str = "",
        priority_steps: Iterable[int] = KOMBU_STEPS,
        separator: str | None = None,
        timeout_seconds: float = 3.0,
        transport_options: Mapping[str, Any] | None = None,
        timings: WorkerTimings = DEFAULT_TIMINGS,
    ) -> None:
        """``key_prefix`` is kombu's ``global_keyprefix``; steps that workers report are used, too,
        and their separator. Without workers it is that of the project, where it is known here or
        from how its queues are bound. Of ``transport_options`` what finds the server and its
        messages is used: ``master_name``, ``global_keyprefix``, ``sep``, ``priority_steps``.

        Raises ``ConfigurationError`` when ``broker_url`` is no address of Redis, or an option is
        none that Celery takes.
        """
        options = _checked(transport_options or {})
        key_prefix = key_prefix or options.get("global_keyprefix", "")
        separator = separator or options.get("sep")
        self._address = RedisAddress(broker_url, transport_options)
        self._timeout_seconds = timeout_seconds
        self._reader = self._client(Retry(NoBackoff(), 1, (RedisConnectionError,)))
        self._own_steps = frozenset({0, *priority_steps, *options.get("priority_steps", ())})
        self._own_separator = separator
        self._is_told_separator = separator is not None
        self._bound_separator_at = -math.inf
        self._bound_separator = Channel.sep
        # Replaced as one, for threads share it.
        self._layout = (self._own_steps, separator or Channel.sep)
        self._last_desired = DesiredState()
        self._senders = SenderClocks()
        self.clock = RightedClock()
        """This machine's clock, compared with the broker's at each reading."""
        self.timings = timings
        self.key_prefix = key_prefix
        self.keys = Keys(key_prefix)

    def read(self, queues: Sequence[str], *, with_delivered: bool = True) -> list[QueueReading]:
        """The state of ``queues``, all at one instant; those under whose name something else than
        messages lies are left out.

        Without ``with_delivered``, ``unacknowledged`` stays unknown, and needs no right to be read.
        """
        if not self._is_told_separator:
            self._read_separator(queues)
        lists = {queue: self.list_keys(queue) for queue in queues}
        asked_at = time.time()
        with translated():
            looks = with_delivered and self._count_delivered() <= _UNACKNOWLEDGED_LIMIT
            try:
                found = self._look(lists, looks=looks)
            except ReplyTooLargeError:
                # Some message is huge: how many there are is known all the same.
                looks = False
                found = self._look_one_by_one(lists)
        answers = iter(found)
        seconds, microseconds = next(answers)
        now = seconds + microseconds / 1e6
        self.clock.compare(now, asked_at=asked_at)
        readings = []
        for queue, keys in lists.items():
            depth, is_queue, ages = 0, True, []
            for key in keys:
                length, message = next(answers), next(answers)
                if isinstance(length, Exception):
                    is_queue = False
                    continue
                depth += length
                age = self._senders.age(key, length, _due(message), now)
                if length:
                    ages.append(age)
            if not is_queue:
                continue
            # Of those that do not tell, one may say more than the others.
            oldest = max(ages, key=_seniority, default=Age(0.0))
            readings.append(
                QueueReading(
                    queue, depth, oldest.seconds, None, oldest.sender_ahead, oldest.is_doubtful
                )
            )
        if not looks:
            return readings
        entries = next(answers)
        if isinstance(entries, Exception):
            return readings
        delivered = self._delivered(entries, queues)
        return [replace(r, unacknowledged=delivered[r.queue]) for r in readings]

    def _count_delivered(self) -> float:
        try:
            return self._reader.hlen(self._unacked)
        except redis.ResponseError as exc:
            if not is_of_other_type(exc):
                raise
            return math.inf

    def _look(self, lists: dict[str, list[str]], *, looks: bool) -> list[Any]:
        with self._reader.pipeline() as pipe:
            pipe.time()
            for key in (key for keys in lists.values() for key in keys):
                pipe.llen(key)
                pipe.lindex(key, -1)
            if looks:
                pipe.hvals(self._unacked)
            return executed(pipe)

    def _look_one_by_one(self, lists: dict[str, list[str]]) -> list[Any]:
        """The same, but for the messages that are too large to be read."""
        keys = [key for keys in lists.values() for key in keys]
        with self._reader.pipeline() as pipe:
            pipe.time()
            for key in keys:
                pipe.llen(key)
            at, *lengths = executed(pipe)
        found: list[Any] = [at]
        for key, length in zip(keys, lengths, strict=True):
            message: Any = None
            if length and not isinstance(length, Exception):
                try:
                    message = self._reader.lindex(key, -1)
                except ReplyTooLargeError:
                    message = b""
            found += [length, message]
        return found

    def now(self) -> float:
        """Epoch seconds by the broker's clock."""
        asked_at = time.time()
        with translated():
            now = desired.broker_time(self._reader)
        self.clock.compare(now, asked_at=asked_at)
        return now

    def run_id(self) -> str:
        """Which run of which server answers; empty where it does not say.

        Raises ``BrokerError``.
        """
        with translated():
            try:
                found = self._reader.info("server").get("run_id")
            except redis.ResponseError:
                # It may be forbidden, or not known there.
                return ""
        return found if isinstance(found, str) and _RUN_ID.fullmatch(found) else ""

    def workers(self) -> WorkersReading:
        """The reports of the workers, apart from those that were lost ``drop_seconds`` ago."""
        with translated():
            now, found, unread = self._stored_reports()
        current, forgotten, unreadable = [], [], []
        for name, raw in found.items():
            report = None if raw is None else _report(raw, now, self.timings)
            if report is None:
                unreadable.append(_shown(name))
            elif now - report.at <= self.timings.drop_seconds:
                current.append(report)
            else:
                forgotten.append(report)
        current = _without_earlier_lives(current)
        for reports in (current, forgotten):
            reports.sort(key=lambda report: (report.worker, report.started_at, report.boot_id))
        return WorkersReading(
            now,
            tuple(current),
            tuple(forgotten),
            tuple(sorted(unreadable)),
            unread,
            self.timings,
        )

    def _stored_reports(self) -> tuple[float, dict[bytes, bytes | None], int]:
        """The broker's time, what stands under each name, ``None`` for what is too large to be
        read, and how many were not looked at. Raises what redis-py raises.
        """
        key = self.keys.workers
        found: dict[bytes, bytes | None] = {}
        answer: Any
        asked_at = time.time()
        with self._reader.pipeline() as pipe:
            pipe.time()
            pipe.hlen(key)
            (seconds, microseconds), count = pipe.execute()
        now = seconds + microseconds / 1e6
        self.clock.compare(now, asked_at=asked_at)
        if count <= REPORTS_LIMIT:
            try:
                answer = self._reader.hgetall(key)
            except ReplyTooLargeError:
                # Only some of them are too large.
                answer = None
            if answer is not None:
                return now, answer, 0
        if count > _NAMES_LIMIT:
            try:
                _, answer = self._reader.hscan(key, count=REPORTS_LIMIT)
            except ReplyTooLargeError:
                return now, {}, count
            found = dict(list(answer.items())[:REPORTS_LIMIT])
            return now, found, count - len(found)
        names: list[Any] = self._reader.hkeys(key)
        with self._reader.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.hstrlen(key, name)
            sizes = dict(zip(names, pipe.execute(), strict=True))
        # The smallest first: what was put there to fill the memory is not among them.
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
            answer = self._reader.hmget(key, batch)
            found |= {name: raw for name, raw in zip(batch, answer, strict=True) if raw is not None}
        return now, found, max(0, len(names) - REPORTS_LIMIT)

    def drop_workers(self, *, keep: Collection[str] = ()) -> int:
        """Delete the reports of workers that were lost ``drop_seconds`` ago, but for those of
        ``keep`` for a week, and those that cannot be read; returns how many.
        """
        dropped = 0
        with translated(writes=True), self.writing() as client:
            now, found, _ = self._stored_reports()
            for name, raw in found.items():
                report = None if raw is None else _report(raw, now, self.timings)
                is_kept = report is not None and report.worker in keep
                until = _KEEP_SECONDS if is_kept else self.timings.drop_seconds
                if report is not None and now - report.at <= until:
                    continue
                with client.pipeline() as pipe:
                    pipe.watch(self.keys.workers)  # type: ignore[no-untyped-call]
                    if raw is None:
                        is_same = pipe.hstrlen(self.keys.workers, name) > REPORT_LIMIT_BYTES
                    else:
                        is_same = pipe.hstrlen(self.keys.workers, name) == len(raw) and (
                            pipe.hget(self.keys.workers, name) == raw
                        )
                    if not is_same:
                        continue
                    pipe.multi()
                    pipe.hdel(self.keys.workers, name)
                    try:
                        dropped += pipe.execute()[0]
                    except redis.WatchError as exc:
                        if not is_overtaken(exc):
                            raise
                        # Others report all the time; the next call finds it again.
                        continue
        return dropped

    def desired(self) -> DesiredState:
        """The broker's copy of what is desired; revision 0 when it has none. Raises
        ``DamagedError`` when it is none.
        """
        with translated():
            try:
                self._last_desired = desired.read_desired(self._reader, self.keys)
            except (DamagedDesiredError, ReplyTooLargeError) as exc:
                raise DamagedError(_DAMAGED) from exc
            return self._last_desired

    @property
    def last_desired(self) -> DesiredState:
        """What was read last that was not damaged; revision 0 before."""
        return self._last_desired

    def mend(self) -> None:
        """Make the counter of revocations a number again where it is none."""
        with translated(writes=True), self.writing() as client:
            desired.mend_revocations(client, self.keys)

    def publish(self, state: DesiredState) -> DesiredState:
        """Write ``state`` unless the broker holds a revision that is as high; returns what it
        holds then. Whoever gets another state back must go on from a higher revision.
        """
        with translated(writes=True), self.writing() as client:
            return desired.publish_desired(client, self.keys, state)

    def revoke(self, job_ids: Iterable[str]) -> None:
        """Let these jobs not start in any worker, now or started later, for seven days."""
        with translated(writes=True), self.writing() as client:
            desired.revoke(client, self.keys, job_ids)

    def kept(self, job_ids: Iterable[str]) -> frozenset[str]:
        """Those of the jobs whose arguments are kept. Raises ``BrokerError``."""
        ids, found = list(job_ids), set[str]()
        with translated():
            for start in range(0, len(ids), _KEPT_BATCH):
                part = ids[start : start + _KEPT_BATCH]
                with self._reader.pipeline(transaction=False) as pipe:
                    for job_id in part:
                        pipe.exists(self.keys.arguments_of(job_id))
                    found.update(
                        job_id
                        for job_id, is_there in zip(part, pipe.execute(), strict=True)
                        if is_there
                    )
        return frozenset(found)

    def prove_writable(self) -> None:
        """Write a key that means nothing and goes by itself: a broker that refuses it, such as a
        replica or one that is full, would refuse an act.
        """
        with translated(writes=True), self.writing() as client:
            client.set(self.keys.probe, "", ex=_PROBE_SECONDS)

    def list_keys(self, queue: str) -> list[str]:
        """Where the messages of ``queue`` lie, the most urgent first."""
        steps, separator = self._layout
        return [
            list_key(queue, step, key_prefix=self.key_prefix, separator=separator)
            for step in sorted(steps)
        ]

    def learn(self, reports: Collection[WorkerReport]) -> None:
        """Look at the priority steps of these workers, too, and no longer at those that were
        learned before. Where workers disagree, most of them are right. Their machines' clocks are
        those of the messages that are sent there.
        """
        self._senders.learn(reports)
        steps = Counter(step for report in reports for step in set(report.priority_steps))
        more = [step for step, _ in steps.most_common() if step not in self._own_steps]
        separators = Counter(report.separator for report in reports).most_common(1)
        separator = separators[0][0] if separators else self._own_separator
        self._is_told_separator = separator is not None
        self._layout = (
            self._own_steps.union(more[: max(0, _LOOKED_AT_STEPS - len(self._own_steps))]),
            # Until it is read anew, what was read from how the queues are bound.
            separator or self._bound_separator,
        )

    def _read_separator(self, queues: Sequence[str]) -> None:
        """No worker tells how the lists of its queues are called, but kombu has written with the
        same separator how they are bound.
        """
        now = time.monotonic()
        if now - self._bound_separator_at < _SEPARATOR_SECONDS:
            return
        with translated():
            found = Channel.sep
            with self._reader.pipeline(transaction=False) as pipe:
                for queue in queues[:_BINDINGS_LIMIT]:
                    pipe.srandmember(f"{self.key_prefix}{_BINDING % queue}", 1)
                try:
                    answers = pipe.execute(raise_on_error=False)
                except ReplyTooLargeError:
                    answers = []
        for queue, members in zip(queues, answers, strict=False):
            if isinstance(members, list) and members:
                found = _separator_in(members[0], queue) or found
        self._bound_separator_at, self._bound_separator = now, found
        self._layout = (self._layout[0], found)

    @contextmanager
    def writing(self) -> Iterator[redis.Redis]:
        """A connection of its own, on which nothing is tried twice. Raises what redis-py raises."""
        with self._client(Retry(NoBackoff(), 0)) as client:
            yield client

    @contextmanager
    def reading_whole(self) -> Iterator[redis.Redis]:
        """A connection on which an answer may be of any length, for a message that has to be kept.
        Raises what redis-py raises.
        """
        with self._client(Retry(NoBackoff(), 0), {}) as client:
            yield client

    @property
    def reader(self) -> redis.Redis:
        """For reading alone: what breaks here is asked again. Raises what redis-py raises."""
        return self._reader

    def close(self) -> None:
        self._reader.close()

    def _client(
        self, retry: Retry, options: dict[str, Any] = bounded_replies.OPTIONS
    ) -> redis.Redis:
        return self._address.client(
            socket_timeout=self._timeout_seconds,
            socket_connect_timeout=self._timeout_seconds,
            retry=retry,
            **options,
        )

    @property
    def _unacked(self) -> str:
        return f"{self.key_prefix}unacked"

    def _delivered(self, entries: Iterable[bytes], queues: Sequence[str]) -> dict[str, int | None]:
        """How many of the delivered messages belong to each queue; ``None`` where that cannot be
        told, as of two queues that one routing key leads to.
        """
        routes = Counter(route for raw in entries if (route := _route(raw)) is not None)
        counts = Counter[str]()
        unknown: set[str] = set()
        bindings: dict[str, tuple[Binding, ...] | None] = {}
        for (exchange, routing_key), count in routes.items():
            if not exchange:
                counts[routing_key] += count
                continue
            if exchange not in bindings:
                bindings[exchange] = self._bindings(exchange)
            known = bindings[exchange]
            found = frozenset(queues) if known is None else destinations(routing_key, known)
            if known is not None and len(found) == 1:
                counts.update(dict.fromkeys(found, count))
            else:
                unknown |= found
        return {queue: None if queue in unknown else counts[queue] for queue in queues}

    def _bindings(self, exchange: str) -> tuple[Binding, ...] | None:
        """What leads on from ``exchange``; ``None`` where there is too much to be read."""
        key = f"{self.key_prefix}{_BINDING % exchange}"
        with translated():
            try:
                if self._reader.scard(key) > _BINDINGS_LIMIT:
                    return None
                members = self._reader.smembers(key)
            except ReplyTooLargeError:
                return None
            except redis.ResponseError as exc:
                if not is_of_other_type(exc):
                    raise
                return None
        separator = self._layout[1]
        found = (
            Binding.parse(member, separator) for member in members if isinstance(member, bytes)
        )
        return tuple(binding for binding in found if binding is not None)


def _checked(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Raises ``ConfigurationError`` for what names no lists of messages."""
    steps = options.get("priority_steps", [])
    if not isinstance(steps, list | tuple) or not all(
        isinstance(step, int) and 0 <= step <= 255 for step in steps
    ):
        raise ConfigurationError(
            "broker_transport_options: priority_steps must be numbers from 0 to 255, such as "
            "[0, 3, 6, 9]"
        )
    if len(steps) > STEPS_LIMIT:
        raise ConfigurationError(
            f"broker_transport_options: priority_steps are {len(steps)}, and kombu knows no more "
            f"than {STEPS_LIMIT} priorities"
        )
    for name in ("sep", "global_keyprefix"):
        if not isinstance(options.get(name, ""), str):
            raise ConfigurationError(f"broker_transport_options: {name} must be text")
    return options


def _separator_in(member: object, queue: str) -> str | None:
    """What separates the parts of a queue's binding to itself: routing key, pattern (empty, as a
    rule), queue. ``None`` of any other binding.
    """
    text = member.decode("utf-8", "replace") if isinstance(member, bytes) else str(member)
    if not (text.startswith(queue) and text.endswith(queue)):
        return None
    between = text[len(queue) : len(text) - len(queue)]
    half = between[: len(between) // 2]
    return half if half and half * 2 == between and len(half) <= _SEPARATOR_LIMIT else None


class _Headers(msgspec.Struct):
    # Celery did not exist before.
    due_at: Annotated[float, msgspec.Meta(ge=1e9, le=1e11)] | None = msgspec.field(
        default=None, name=DUE_HEADER
    )
    # Whatever else stands there must not hide since when a message waits.
    mark: object = msgspec.field(default=None, name=CLOCK_HEADER)
    eta: object = None
    redelivered: object = None


class _Envelope(msgspec.Struct):
    headers: _Headers = msgspec.field(default_factory=_Headers)


_Text = Annotated[str, msgspec.Meta(max_length=NAME_LIMIT)]
_envelope_decoder = msgspec.json.Decoder(_Envelope)
_route_decoder = msgspec.json.Decoder(tuple[msgspec.Raw, _Text, _Text])


def _seniority(age: Age) -> tuple[float, float]:
    return (-1.0 if age.seconds is None else age.seconds), age.sender_ahead


def _due(raw: bytes | None) -> Due | None:
    """When a message became due; ``None`` if it does not say."""
    if raw is None:
        return None
    try:
        envelope = parse(raw, _envelope_decoder, limit_bytes=REPLY_LIMIT_BYTES)
    except ValueError:
        return None
    headers = envelope.headers
    if headers.due_at is None:
        return None
    mark = headers.mark
    return Due(
        headers.due_at,
        float(mark) if isinstance(mark, int | float) and abs(mark) < _LATEST_MARK else None,
        is_timed=headers.eta is not None,
        was_back=bool(headers.redelivered),
    )


def _route(raw: bytes) -> tuple[str, str] | None:
    """Exchange and routing key of a delivered message."""
    try:
        _, exchange, routing_key = parse(raw, _route_decoder, limit_bytes=REPLY_LIMIT_BYTES)
    except ValueError:
        return None
    return exchange, routing_key


def executed(pipe: Any) -> list[Any]:
    """The answers, with the error in the place of what is asked of a key of another type."""
    answers = pipe.execute(raise_on_error=False)
    for answer in answers:
        if isinstance(answer, Exception) and not is_of_other_type(answer):
            raise answer
    return list(answers)


def _report(raw: bytes | str, now: float, timings: WorkerTimings) -> WorkerReport | None:
    """``None`` for one of a version that is not understood, or from the future: of that nobody
    could say when it is too old. Nor of a worker that begins in the future: it would be taken for
    the successor of all that have its name.
    """
    try:
        report = decode_report(raw)
    except ValueError:
        return None
    latest = now + timings.lost_seconds
    return report if max(report.at, began_at(report)) <= latest else None


def _without_earlier_lives(reports: list[WorkerReport]) -> list[WorkerReport]:
    """Without what a worker left that began anew since; two that live at once both stay."""
    newest: dict[str, float] = {}
    for report in reports:
        newest[report.worker] = max(newest.get(report.worker, 0.0), began_at(report))
    return [report for report in reports if report.at >= newest[report.worker]]


def _shown(name: bytes) -> str:
    """A name of something unreadable, short and on one line."""
    text = name[:200].decode("utf-8", "replace")[:60]
    return "".join(c if c.isprintable() else "�" for c in text)
