"""A worker's report: its queues, its jobs and its usage, and the limits for decoding it.

Unless said otherwise, times are epoch seconds by the broker's own clock, so the machines' clocks do
not matter. Any client of the broker can write a report, so each is decoded within limits: of
bytes, of names, of counts, and of numbers.
"""

from __future__ import annotations

from enum import StrEnum
from itertools import islice
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

ACTIVE_LIMIT = 200
"""The most active jobs in a report, the oldest first."""
RATE_LIMITED_LIMIT = 10
"""The most rate-limited job types in a report."""

TYPES_LIMIT = 200
"""A report names the job types only if there are at most this many, with names of at most
``TYPES_LIMIT_CHARACTERS`` in total."""
TYPES_LIMIT_CHARACTERS = 8192

NAME_LIMIT = 255
"""The most characters of a name or an id in a report."""
QUEUES_LIMIT = 1000
"""The most queues that a report names, that can be paused, and that are read."""
STEPS_LIMIT = 10
"""The most priority steps of a worker; kombu has ten priorities."""
REPORT_LIMIT_BYTES = 524_288
REPORTS_LIMIT = 1000
"""The most reports that are read."""

_LABEL_LIMIT = 200
# The end of the year 9999: later times cannot be displayed.
_LATEST = 253_402_300_799.0

T = TypeVar("T")
Name = Annotated[str, Meta(max_length=NAME_LIMIT)]
Names = Annotated[tuple[Name, ...], Meta(max_length=QUEUES_LIMIT)]
Time = Annotated[float, Meta(ge=0, le=_LATEST)]
Count = Annotated[int, Meta(ge=0, lt=2**53)]


class Pool(StrEnum):
    """How a worker runs jobs."""

    PREFORK = "prefork"
    THREADS = "threads"
    SOLO = "solo"
    OTHER = "other"


class ActiveJob(msgspec.Struct, frozen=True, kw_only=True):
    """A job that a worker runs; ``started_at`` is by the worker's clock. ``redelivers`` says
    whether the broker delivers it again if the worker is killed, ``is_redelivered`` whether it has
    been delivered before; ``None`` is unknown, as for workers of earlier versions.
    """

    id: Name
    name: Name
    queue: Name
    tenant: Name
    started_at: Time
    redelivers: bool | None = None
    is_redelivered: bool | None = None


class RateLimited(msgspec.Struct, frozen=True, kw_only=True):
    """Jobs of one type that a worker holds back: ``per_second`` of them may start, and ``count``
    wait.
    """

    name: Name
    per_second: Annotated[float, Meta(gt=0, le=1e9)]
    count: Count


class WorkerReport(msgspec.Struct, frozen=True, kw_only=True):
    """One worker at one moment.

    ``at`` is that moment by the broker's clock and ``clock_at`` by the worker's clock, which also
    measures ``started_at`` and every other time here and in its rows of the job history. A worker
    whose machine's clock is off corrects its clock by ``clock_ahead``. ``boot_id`` differs between
    two runs of one worker. ``revision`` is that of the desired state that it has applied, 0 if
    none, and ``revised_at`` is when it took effect.
    ``reserved`` counts by queue the jobs that it has fetched and not started, ``scheduled`` those
    of them that wait for their time: a countdown, an ETA, or a retry. ``scheduled_queues`` has
    these by queue, and the first is due at ``next_due_at``. ``rate_limited`` are those that wait
    because of a rate limit, the most first. ``shutting_down_at`` is when it began to shut down: it
    finishes its running jobs and starts no more. ``is_connected`` says whether the thread that
    fetches jobs has a connection, ``connected_at`` since when it has one and runs: the process may
    have been stopped in between.
    ``processed`` counts ended attempts since the start and includes ``failed`` and ``retried``.
    ``cpu_ratio`` is 1 for one busy core, of which there are ``cpu_limit``; ``memory_limit_bytes``
    is ``None`` without a limit. ``loop_at`` is when the thread that fetches jobs was last active,
    or could have been.
    """

    worker: Name
    boot_id: Name
    pid: Count
    at: Time
    clock_at: Time
    started_at: Time
    queues: Names
    consuming: Names
    paused: Names
    revision: Count
    revised_at: Time
    pool: Pool
    pool_size: Count
    prefetch_limit: Count
    reserved: Annotated[dict[Name, Count], Meta(max_length=QUEUES_LIMIT)]
    scheduled: Count
    active: Annotated[tuple[ActiveJob, ...], Meta(max_length=ACTIVE_LIMIT)]
    active_count: Count
    processed: Count
    failed: Count
    retried: Count
    last_started_at: Time | None
    last_ended_at: Time | None
    loop_at: Time
    cpu_ratio: Annotated[float, Meta(ge=0, le=1e6)]
    memory_bytes: Count
    memory_limit_bytes: Count | None
    redelivers: bool
    """Whether the broker delivers its running jobs again if it is killed: the project's setting,
    for jobs that do not say it themselves.
    """
    retries: bool
    """Whether it can send a failed job again."""
    priority_steps: Annotated[
        tuple[Annotated[int, Meta(ge=0, le=255)], ...], Meta(max_length=STEPS_LIMIT)
    ]
    separator: Annotated[str, Meta(min_length=1, max_length=16)]
    cpu_limit: Annotated[float, Meta(ge=0, le=1e6)] | None = None
    """``None`` is unknown, as for workers of earlier versions."""
    scheduled_queues: Annotated[dict[Name, Count], Meta(max_length=QUEUES_LIMIT)] = {}
    next_due_at: Time | None = None
    rate_limited: Annotated[tuple[RateLimited, ...], Meta(max_length=RATE_LIMITED_LIMIT)] = ()
    shutting_down_at: Time | None = None
    is_connected: bool = True
    connected_at: Time | None = None
    clock_ahead: Annotated[float, Meta(ge=-_LATEST, le=_LATEST)] = 0.0
    """By how many seconds the machine's clock is ahead of ``clock_at``; negative is behind."""
    clock_mark: Time | None = None
    """Identifies that clock; see ``queuescope.broker.clock.clock_mark``."""
    needs_arguments: bool | None = None
    """Whether it can only send jobs again whose arguments were kept; ``None`` is unknown."""
    types: Annotated[tuple[Name, ...], Meta(max_length=TYPES_LIMIT)] | None = None
    """The job types of its project, named as in the history; ``None`` is unknown, or too many."""
    origins: Names | None = None
    """The queues and routing keys that the history may name as the queue of its jobs. ``None`` is
    unknown, or any."""
    broadcasts: Names = ()
    """Those of its queues that receive a copy of each message of a fanout exchange: no job waits in
    them."""
    scales_itself: bool = False
    """Whether it was started with ``--autoscale``."""

    @property
    def waiting_queues(self) -> tuple[str, ...]:
        """The queues in which jobs can wait for this worker: all except broadcasts, from whose
        lists no worker fetches.
        """
        return tuple(queue for queue in self.queues if queue not in self.broadcasts)


def names_in_replies(replies: object) -> set[str]:
    """The names of the workers in ``replies`` as Celery collects them, which may be malformed."""
    found = replies if isinstance(replies, list) else []
    names = (name for reply in found if isinstance(reply, dict) for name in reply)
    valid = (name for name in names if isinstance(name, str) and len(name) <= NAME_LIMIT)
    return set(islice(valid, REPORTS_LIMIT))


def began_at(report: WorkerReport) -> float:
    """When this run of the worker began, by the broker's clock."""
    return report.at - (report.clock_at - report.started_at)


def label(value: object) -> str:
    """``value`` as the label value of a metric: of bounded length, printable, on one line."""
    text = str(value)[:_LABEL_LIMIT]
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else "�" for c in text)


_encoder = msgspec.json.Encoder()
_report_decoder = msgspec.json.Decoder(WorkerReport)


def encode(report: WorkerReport) -> bytes:
    """``report`` as JSON, cut to the limits for reading."""
    return _encoder.encode(_cut(report))


def parse(raw: bytes | str, decoder: msgspec.json.Decoder[T], *, limit_bytes: int) -> T:
    """The decoded ``raw``. Raises ``ValueError`` for everything that can be wrong with it."""
    if len(raw) > limit_bytes:
        raise ValueError(f"longer than {limit_bytes} bytes")
    try:
        return decoder.decode(raw)
    except (RecursionError, OverflowError) as exc:
        raise ValueError(str(exc)) from exc


def decode_report(raw: bytes | str) -> WorkerReport:
    """Raises ``ValueError`` if ``raw`` is not a report of this version."""
    return parse(raw, _report_decoder, limit_bytes=REPORT_LIMIT_BYTES)


def _cut(report: WorkerReport) -> WorkerReport:
    """``report`` within the limits for reading, since senders choose ids and names."""
    return msgspec.structs.replace(
        report,
        worker=_name(report.worker),
        queues=_names(report.queues),
        consuming=_names(report.consuming),
        paused=_names(report.paused),
        reserved=_counts(report.reserved),
        scheduled_queues=_counts(report.scheduled_queues),
        next_due_at=None
        if report.next_due_at is None
        else min(max(0.0, report.next_due_at), _LATEST),
        rate_limited=tuple(
            msgspec.structs.replace(one, name=_name(one.name))
            for one in report.rate_limited[:RATE_LIMITED_LIMIT]
        ),
        active=tuple(
            msgspec.structs.replace(
                job,
                id=_name(job.id),
                name=_name(job.name),
                queue=_name(job.queue),
                tenant=_name(job.tenant),
            )
            for job in report.active[:ACTIVE_LIMIT]
        ),
        priority_steps=report.priority_steps[:STEPS_LIMIT],
    )


def _counts(by_queue: dict[str, int]) -> dict[str, int]:
    return {_name(queue): count for queue, count in list(by_queue.items())[:QUEUES_LIMIT]}


def _names(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(_name(name) for name in names[:QUEUES_LIMIT])


def _name(text: str) -> str:
    """``text`` within the limit, with lone surrogates escaped, which UTF-8 cannot hold."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")[:NAME_LIMIT]
