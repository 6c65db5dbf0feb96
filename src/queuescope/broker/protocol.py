"""The protocol of a broker: all that the rest of Queuescope asks of one, and the values it answers.

``Broker`` is what dashboard, exporter and operations speak to, ``WorkerConnection`` what a worker
does. ``queuescope.broker.connect`` chooses the implementation by the address.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

from queuescope.broker.capabilities import Capabilities
from queuescope.broker.clock import CorrectedClock
from queuescope.broker.desired import DesiredState, StoredDesired
from queuescope.broker.purge_file import Head, Purge
from queuescope.broker.reports import WorkerReport
from queuescope.broker.requeue import KeptJob, RetryAnswer
from queuescope.broker.timings import DEFAULT_TIMINGS, WorkerTimings


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
    """The last report of every worker that was not dropped yet, by the broker's time ``at``.

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

    @property
    def queues(self) -> frozenset[str]:
        """Every queue that a worker serves and in which jobs can wait."""
        return frozenset(queue for report in self.reports for queue in report.waiting_queues)


@dataclass(frozen=True, slots=True)
class Scaled:
    """The size of a worker's pool before and after; Celery ends idle processes only, so that a
    busy pool may be larger than was asked for.
    """

    worker: str
    before: int
    after: int


class RecordState(Enum):
    """What the broker knows of a purge that a file holds."""

    PARTIAL = auto()
    """How many of its messages are back, and these are not all."""
    RESTORED = auto()
    """All are back."""
    MISSING = auto()
    """Nothing: it lost its data, is an older copy of itself, or never was the purge's broker."""
    DAMAGED = auto()
    """Its record is damaged, or that of another purge."""


@dataclass(frozen=True, slots=True)
class PurgeRecord:
    """What the broker knows of one purge: that ``restored`` of its messages are back, and the
    ``act`` that began to restore it last, or nothing. It is the ``same_run`` where the server has
    been up ever since, so that it forgot nothing.
    """

    state: RecordState
    restored: int = 0
    act: str = ""
    same_run: bool = False


class PurgeSteps(Protocol):
    """The steps of a purge and a restore in the broker; ``queuescope.broker.purges.Purges`` puts
    them together with the files.

    Each may be repeated: done before, it does nothing. Between two of them every message is in the
    queue, set aside, or in the file. Methods raise ``BrokerError`` and ``PurgeError``.
    """

    def set_aside(self, queue: str, purge_id: str) -> None:
        """Take all that waits in ``queue`` out of it, every priority, in one step."""

    def is_set_aside(self, purge_id: str) -> bool:
        """Whether messages of this purge are set aside and not discarded yet."""

    def is_known(self, purge_id: str) -> bool:
        """Whether the broker has a record of this purge, whatever its stage."""

    def head(self, purge_id: str) -> Head | None:
        """What is set aside under this id; ``None`` of any other purge."""

    def messages(self, head: Head) -> Iterator[tuple[int, bytes]]:
        """Every message that is set aside, with the index of its list in ``head``."""

    def discard(self, purge_id: str) -> None:
        """Delete what is set aside, now that the file holds it."""

    def unfinished(self) -> tuple[str, ...]:
        """The ids of purges that are not discarded yet: under way, or cut off."""

    def note_restore(self, purge: Purge, act: str) -> None:
        """Let the broker remember that ``act`` is about to restore this purge; moves nothing."""

    def put_back(self, purge: Purge, offset: int, piece: Sequence[tuple[str, bytes]]) -> int:
        """Push one piece, which begins with the message number ``offset``, to the end that is
        consumed next, unless it was pushed before; returns how many messages were.
        """

    def records(self, purges: Sequence[Purge]) -> list[PurgeRecord]:
        """What the broker knows of each of ``purges``."""


class Broker(Protocol):
    """A message broker, read and written as a whole. Threads may share one.

    Methods raise ``BrokerError`` when the broker does not give a usable answer, and
    ``RefusedError`` with the reason for what is missing in ``capabilities``. Nothing is written
    twice by itself. Times are epoch seconds by the broker's own clock.
    """

    @property
    def capabilities(self) -> Capabilities: ...

    @property
    def timings(self) -> WorkerTimings: ...

    @property
    def clock(self) -> CorrectedClock:
        """The clock of this machine, compared with the broker's at each reading."""

    def now(self) -> float:
        """Epoch seconds by the broker's clock."""

    def check_writable(self) -> None:
        """Write something that means nothing: a broker that refuses it would refuse an act."""

    def close(self) -> None: ...

    # Queues and workers

    def queues(
        self, names: Sequence[str], *, with_unacknowledged: bool = True
    ) -> list[QueueReading]:
        """The queues of these names, all at one instant; those under whose name something else
        than messages lies are left out. Without ``with_unacknowledged`` that stays unknown, and
        needs no right to be read.
        """

    def workers(self) -> WorkersReading:
        """The reports of the workers, in which reserved and scheduled jobs are counted, too; none
        where the broker keeps no reports.
        """

    def drop_reports(self, *, keep: Collection[str] = ()) -> int:
        """Delete the reports of workers that were lost ``drop_seconds`` ago, but for those of
        ``keep`` for a week, and those that cannot be read; returns how many.
        """

    # The desired state

    def desired(self) -> DesiredState:
        """The broker's copy; revision 0 when it has none. Raises ``DamagedError`` when it is
        damaged.
        """

    @property
    def last_desired(self) -> DesiredState:
        """What was read last that was not damaged; revision 0 before."""

    def publish(self, state: DesiredState) -> DesiredState:
        """Write ``state`` unless the broker holds a revision that is as high; returns what it
        holds then. Whoever gets another state back must go on from a higher revision.
        """

    def repair_desired(self) -> None:
        """Make the counter of revocations a number again where it is none."""

    # Jobs and pools

    def revoke(self, job_ids: Iterable[str]) -> None:
        """Let these jobs not start in any worker, now or started later, for seven days."""

    def announce_revoked(
        self, job_ids: Iterable[str], *, terminate: bool = False
    ) -> tuple[str, ...]:
        """Tell all running workers at once; returns those that answered that they have done so.

        ``revoke`` lasts and must come first. ``terminate`` ends the job where it runs, which pools
        of threads and solo pools cannot.
        """

    def requeue(
        self,
        worker: str,
        jobs: Sequence[tuple[str, str]],
        act_id: str,
        *,
        queues: Mapping[str, str] | None = None,
        namesakes: int = 1,
    ) -> dict[str, RetryAnswer]:
        """Let ``worker`` send failed jobs again, given by id and name, once for each ``act_id``.

        ``queues`` is where jobs came from, by id, as far as it is known; ``namesakes`` is how many
        workers have this name, all of which hear the order. A job of which nothing is known has
        ``UNKNOWN``, for instance when the worker stopped answering half-way. Raises
        ``OutcomeUnknownError`` where no worker answers, and what says that nothing was done before
        anything was.
        """

    def kept_arguments(self, job_ids: Iterable[str]) -> frozenset[str]:
        """Those of the jobs whose arguments are kept for being sent again."""

    def scale(self, worker: str, size: int) -> Scaled:
        """Give the pool of ``worker`` so many processes. Raises ``OutcomeUnknownError`` where it
        does not answer.
        """

    @property
    def purge_steps(self) -> PurgeSteps: ...


class WorkerConnection(Protocol):
    """A worker's own connection to its broker, made by the project's settings. Threads may share
    one. Methods raise ``BrokerError``, after which the next call connects anew.
    """

    @property
    def priority_steps(self) -> tuple[int, ...]:
        """The priorities that the project uses, once there was a connection; for the report."""

    @property
    def separator(self) -> str:
        """What stands between a queue's name and the priority; for the report."""

    def now(self) -> float:
        """Epoch seconds by the broker's clock."""

    def close(self) -> None: ...

    def write_report(self, report: WorkerReport) -> None:
        """Replace the last report of this life of the worker."""

    def remove_report(self, worker: str, boot_id: str) -> None: ...

    def reports_named(self, worker: str) -> dict[str, WorkerReport | None]:
        """The reports of every life of the workers of that name, by ``boot_id``; ``None`` is one
        that cannot be read.
        """

    def desired(self) -> StoredDesired: ...

    def publish(self, state: DesiredState) -> DesiredState:
        """As that of ``Broker``."""

    def revoked(self) -> list[str]:
        """The ids of the jobs that must not start. Raises ``DamagedError`` where they are more
        than anybody revokes.
        """

    def keep_jobs(self, jobs: Sequence[KeptJob], *, limit: int) -> None:
        """Keep what it takes to send failed jobs again; the oldest beyond ``limit`` go."""

    def kept_job(self, job_id: str) -> KeptJob | None:
        """Raises ``DamagedError`` when what is kept cannot be read."""

    def claim_requeue(self, act_id: str, job_id: str) -> bool:
        """Whether this is the first time that ``act_id`` sends this job again."""

    def release_requeue(self, act_id: str, job_id: str) -> None:
        """It was not sent after all."""
