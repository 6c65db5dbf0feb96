"""What a worker reports: itself, its queues, its jobs, and the limits within which it is read.

Unless said otherwise a time is epoch seconds by the broker's own clock, so hosts' clocks do not
matter. Whoever may write to the broker may have written any report, so each is decoded under
limits: of bytes, of names, of how many there are, and of numbers.
"""

from __future__ import annotations

from enum import StrEnum
from itertools import islice
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

ACTIVE_LIMIT = 200
"""So many active jobs at most are named in a report, the oldest first."""
RATE_LIMITED_LIMIT = 10
"""So many job types at most are named as held back by a rate limit."""

TYPES_LIMIT = 200
"""A worker that knows more job types than this, or of longer names altogether than
``TYPES_LIMIT_CHARACTERS``, names none of them."""
TYPES_LIMIT_CHARACTERS = 8192

NAME_LIMIT = 255
"""So many characters at most has a name or an id in a report."""
QUEUES_LIMIT = 1000
"""So many queues at most are named in a report, paused, or looked at."""
STEPS_LIMIT = 10
"""So many priority steps at most has a worker; kombu knows no more than ten priorities."""
REPORT_LIMIT_BYTES = 524_288
REPORTS_LIMIT = 1000
"""So many reports at most are read."""

_LABEL_LIMIT = 200
# The end of the year 9999: later times can be shown nowhere.
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
    """A job that a worker runs now; ``started_at`` is by the worker's clock, and ``redelivers``
    says whether the broker delivers it again should the worker be killed, ``is_redelivered``
    whether it has done so; ``None`` is unknown, as of workers that do not report it yet.
    """

    id: Name
    name: Name
    queue: Name
    tenant: Name
    started_at: Time
    redelivers: bool | None = None
    is_redelivered: bool | None = None


class RateLimited(msgspec.Struct, frozen=True, kw_only=True):
    """Jobs of one type that a worker holds back: so many may begin ``per_second``, and ``count``
    wait for their turn.
    """

    name: Name
    per_second: Annotated[float, Meta(gt=0, le=1e9)]
    count: Count


class WorkerReport(msgspec.Struct, frozen=True, kw_only=True):
    """One worker as it was ``at`` that moment.

    ``at`` is by the broker's clock, ``clock_at`` the same moment by the worker's, by which
    ``started_at`` and every other time here is measured, as are its rows of the job history. A
    worker whose machine's clock is off has put that right, by ``clock_ahead``. ``boot_id`` differs
    between two lives of one worker. ``revision`` is that of the desired state it has applied, 0 if
    it knows none, and ``revised_at`` since when.
    ``reserved`` counts jobs by queue that it has fetched and not begun, ``scheduled`` those of
    them that wait for their time: a countdown, an ETA, or a retry. They stand by queue in
    ``scheduled_queues``, and the first is due at ``next_due_at``. ``rate_limited`` are those that
    wait because of a rate limit, the most first. ``shutting_down_at`` is since when it shuts down:
    it finishes what it runs and takes no more. ``is_connected`` says whether the thread that
    fetches has a connection, ``connected_at`` since when it has one and runs: a process may have
    been stopped meanwhile.
    ``processed`` counts ended attempts since the start and includes ``failed`` and ``retried``.
    ``cpu_ratio`` is 1 for one busy core, of which there are
    ``cpu_limit``; ``memory_limit_bytes`` is ``None`` without a limit. ``loop_at`` is when the
    thread that fetches jobs last did something, or could have.
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
    """Whether the broker delivers a job again that this worker was killed in, where the job itself
    does not say: what the project has set for all.
    """
    retries: bool
    """Whether it can send a failed job again."""
    priority_steps: Annotated[
        tuple[Annotated[int, Meta(ge=0, le=255)], ...], Meta(max_length=STEPS_LIMIT)
    ]
    separator: Annotated[str, Meta(min_length=1, max_length=16)]
    cpu_limit: Annotated[float, Meta(ge=0, le=1e6)] | None = None
    """``None`` is unknown, as of workers that do not report it yet."""
    scheduled_queues: Annotated[dict[Name, Count], Meta(max_length=QUEUES_LIMIT)] = {}
    next_due_at: Time | None = None
    rate_limited: Annotated[tuple[RateLimited, ...], Meta(max_length=RATE_LIMITED_LIMIT)] = ()
    shutting_down_at: Time | None = None
    is_connected: bool = True
    connected_at: Time | None = None
    clock_ahead: Annotated[float, Meta(ge=-_LATEST, le=_LATEST)] = 0.0
    """By how many seconds the machine's clock is ahead of ``clock_at``; negative is behind."""
    clock_mark: Time | None = None
    """What tells that clock from others: when it says that the machine started."""
    needs_arguments: bool | None = None
    """Whether it sends only jobs again whose arguments were kept; ``None`` is unknown."""
    types: Annotated[tuple[Name, ...], Meta(max_length=TYPES_LIMIT)] | None = None
    """The job types of its project, as the history has them; ``None`` is unknown, or too many."""
    origins: Names | None = None
    """What the history may say of where its jobs came from: queues and routing keys. ``None`` is
    unknown, or anything."""
    broadcasts: Names = ()
    """Those of its queues that get a copy of what is sent to an exchange at that moment (fanout):
    nothing waits in them for a worker."""
    scales_itself: bool = False
    """Whether it was started with ``--autoscale``."""

    @property
    def waiting_queues(self) -> tuple[str, ...]:
        """The queues in which jobs wait for this worker: broadcasts wait nowhere, and what lies
        under their name is taken by nobody.
        """
        return tuple(queue for queue in self.queues if queue not in self.broadcasts)


def names_in_replies(replies: object) -> set[str]:
    """Who answered, of what Celery gathered; of that anything may be nonsense."""
    found = replies if isinstance(replies, list) else []
    names = (name for reply in found if isinstance(reply, dict) for name in reply)
    valid = (name for name in names if isinstance(name, str) and len(name) <= NAME_LIMIT)
    return set(islice(valid, REPORTS_LIMIT))


def began_at(report: WorkerReport) -> float:
    """When this life of the worker began, by the broker's clock."""
    return report.at - (report.clock_at - report.started_at)


def label(value: object) -> str:
    """A label value of a metric, of bounded length and printable on one line."""
    text = str(value)[:_LABEL_LIMIT]
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else "�" for c in text)


_encoder = msgspec.json.Encoder()
_report_decoder = msgspec.json.Decoder(WorkerReport)


def encode(report: WorkerReport) -> bytes:
    """Cut to what whoever reads it takes."""
    return _encoder.encode(_cut(report))


def parse(raw: bytes | str, decoder: msgspec.json.Decoder[T], *, limit_bytes: int) -> T:
    """What ``raw`` holds. Raises ``ValueError`` for all that can be wrong with it."""
    if len(raw) > limit_bytes:
        raise ValueError(f"longer than {limit_bytes} bytes")
    try:
        return decoder.decode(raw)
    except (RecursionError, OverflowError) as exc:
        raise ValueError(str(exc)) from exc


def decode_report(raw: bytes | str) -> WorkerReport:
    """Raises ``ValueError`` when it is none, as of another version."""
    return parse(raw, _report_decoder, limit_bytes=REPORT_LIMIT_BYTES)


def _cut(report: WorkerReport) -> WorkerReport:
    """``report`` within the limits of what is read: ids and names are a sender's to choose."""
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
    """Cut, and without what no text in the broker can hold: halves of characters."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")[:NAME_LIMIT]
