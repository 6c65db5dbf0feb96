"""The protocol of a broker: all that Queuescope needs of one, and the values that it returns.

Dashboard, exporter and operations use ``Broker``, workers use ``WorkerConnection``.
``queuescope.broker.connect`` chooses the implementation by the address.
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

    ``oldest_age_seconds`` is unknown if no message says since when it waits, or if its sender's
    clock is ahead by an unknown time. ``sender_ahead`` is how many seconds that clock is ahead of
    the broker's (negative: behind); the age is corrected by it, and for an unknown age it is a
    lower bound. ``is_age_doubtful`` means that the message arrived later than its age says: it was
    put back, or its sender's clock is behind.
    ``unacknowledged`` messages were delivered to a worker that has neither finished nor returned
    them; with early acknowledgement running jobs are not among them. It is unknown if there are
    too many to read, or if one has a routing key that leads to other queues as well.
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

    ``expired`` are older ones that are still in the broker. ``unreadable`` are the names of entries
    that are not a report of this version, or cannot be true; ``unread`` counts the entries that
    were not read because they are too many or too large. ``timings`` say when a worker is lost.
    """

    at: float
    reports: tuple[WorkerReport, ...]
    expired: tuple[WorkerReport, ...] = ()
    unreadable: tuple[str, ...] = ()
    unread: int = 0
    timings: WorkerTimings = DEFAULT_TIMINGS

    @property
    def queues(self) -> frozenset[str]:
        """Every queue that a worker serves and in which jobs can wait."""
        return frozenset(queue for report in self.reports for queue in report.waiting_queues)


@dataclass(frozen=True, slots=True)
class Scaled:
    """The size of a worker's pool before and after; Celery ends idle processes only, so a busy pool
    may stay larger than requested.
    """

    worker: str
    before: int
    after: int


class RecordState(Enum):
    """The state of the broker's record of a purge that is kept in a file."""

    PARTIAL = auto()
    """It counts the messages that were restored, and these are not all."""
    RESTORED = auto()
    """All messages were restored."""
    MISSING = auto()
    """There is none: the broker lost its data, was restored from a backup, or is another one."""
    DAMAGED = auto()
    """It is damaged, or belongs to another purge."""


@dataclass(frozen=True, slots=True)
class PurgeRecord:
    """The broker's record of one purge: how many messages were ``restored``, and by which operation
    last (its id, or empty). With ``same_run`` the server has not been restarted since, so it has
    lost nothing.
    """

    state: RecordState
    restored: int = 0
    operation_id: str = ""
    same_run: bool = False


class PurgeSteps(Protocol):
    """The steps of a purge and a restore in the broker; ``queuescope.broker.purges.Purges``
    combines them with the files.

    Each may be repeated: the second time it does nothing. Between two steps every message is in the
    queue, set aside, or in the file. Methods raise ``BrokerError`` and ``PurgeError``.
    """

    def set_aside(self, queue: str, purge_id: str) -> None:
        """Take all waiting messages of every priority out of ``queue``, in one step."""

    def is_set_aside(self, purge_id: str) -> bool:
        """Whether messages of this purge are set aside and not discarded yet."""

    def is_known(self, purge_id: str) -> bool:
        """Whether the broker has a record of this purge, whatever its stage."""

    def head(self, purge_id: str) -> Head | None:
        """The description of what is set aside under this id; ``None`` if nothing is."""

    def messages(self, head: Head) -> Iterator[tuple[int, bytes]]:
        """Every message that is set aside, after the index of its list in ``head``."""

    def discard(self, purge_id: str) -> None:
        """Delete what is set aside, now that the file holds it."""

    def unfinished(self) -> tuple[str, ...]:
        """The ids of purges that are not discarded yet: under way, or interrupted."""

    def note_restore(self, purge: Purge, operation_id: str) -> None:
        """Record in the broker that ``operation_id`` is about to restore this purge; moves
        nothing.
        """

    def put_back(self, purge: Purge, offset: int, piece: Sequence[tuple[str, bytes]]) -> int:
        """Push one piece, which starts with message number ``offset``, to the end that is consumed
        next, unless it was pushed before; returns how many messages were pushed.
        """

    def records(self, purges: Sequence[Purge]) -> list[PurgeRecord]:
        """The broker's record of each of ``purges``."""


class Broker(Protocol):
    """A message broker, read and written as a whole. Threads may share one.

    Methods raise ``BrokerError`` if the broker does not give a usable answer, and ``RefusedError``
    with the reason for what is missing in ``capabilities``. Writes are never retried. Times are
    epoch seconds by the broker's own clock.
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
        """Write a probe: a broker that refuses it would refuse an operation."""

    def close(self) -> None: ...

    # Queues and workers

    def queues(
        self, names: Sequence[str], *, with_unacknowledged: bool = True
    ) -> list[QueueReading]:
        """The queues of these names, all at one instant, without those whose key holds something
        else than messages. Without ``with_unacknowledged`` that count is unknown, and no permission
        to read it is needed.
        """

    def workers(self) -> WorkersReading:
        """The reports of the workers, which also count reserved and scheduled jobs; none if the
        broker keeps no reports.
        """

    def drop_reports(self, *, keep: Collection[str] = ()) -> int:
        """Delete reports that are older than ``drop_seconds`` (those of workers in ``keep``: older
        than a week), and those that cannot be read; returns how many.
        """

    # The desired state

    def desired(self) -> DesiredState:
        """The broker's copy; revision 0 if it has none. Raises ``DamagedError``."""

    @property
    def last_desired(self) -> DesiredState:
        """The last undamaged copy that was read; revision 0 before the first."""

    def publish(self, state: DesiredState) -> DesiredState:
        """Write ``state`` unless the broker holds an equal or higher revision; returns what it
        holds then. A caller that gets another state back must continue from a higher revision.
        """

    def repair_desired(self) -> None:
        """Reset the counter of revocations if it is not a number."""

    # Jobs and pools

    def revoke(self, job_ids: Iterable[str]) -> None:
        """Keep these jobs from starting in any worker, also in later ones, for seven days."""

    def announce_revoked(
        self, job_ids: Iterable[str], *, terminate: bool = False
    ) -> tuple[str, ...]:
        """Revoke the jobs in all running workers now; returns the names of those that confirmed it.

        Call ``revoke`` first, which lasts. ``terminate`` also ends a running job, which thread
        pools and solo pools cannot do.
        """

    def requeue(
        self,
        worker: str,
        jobs: Sequence[tuple[str, str]],
        operation_id: str,
        *,
        queues: Mapping[str, str] | None = None,
        same_name_count: int = 1,
    ) -> dict[str, RetryAnswer]:
        """Let ``worker`` send failed jobs again, given by id and name, once for each
        ``operation_id``.

        ``queues`` is where jobs came from, by id, as far as known; ``same_name_count`` is how many
        workers have this name, since all of them receive the command. A job without an answer has
        ``UNKNOWN``, for instance if the worker stopped answering half-way. Raises
        ``OutcomeUnknownError`` if no worker answers, and other errors only if nothing was done.
        """

    def kept_arguments(self, job_ids: Iterable[str]) -> frozenset[str]:
        """Those of the jobs whose arguments are kept to send them again."""

    def scale(self, worker: str, size: int) -> Scaled:
        """Set the pool of ``worker`` to ``size`` processes. Raises ``OutcomeUnknownError`` if it
        does not answer.
        """

    @property
    def purge_steps(self) -> PurgeSteps: ...


class WorkerConnection(Protocol):
    """A worker's own connection to its broker, made with the project's settings. Threads may share
    one. Methods raise ``BrokerError``, after which the next call reconnects.
    """

    @property
    def priority_steps(self) -> tuple[int, ...]:
        """The priorities that the project uses, known after the first connection; for reports."""

    @property
    def separator(self) -> str:
        """The text between a queue's name and the priority; for reports."""

    def now(self) -> float:
        """Epoch seconds by the broker's clock."""

    def close(self) -> None: ...

    def write_report(self, report: WorkerReport) -> None:
        """Replace the last report of this run of the worker."""

    def remove_report(self, worker: str, boot_id: str) -> None: ...

    def reports_named(self, worker: str) -> dict[str, WorkerReport | None]:
        """The reports of every run of the workers of that name, by ``boot_id``; ``None`` is one
        that cannot be read.
        """

    def desired(self) -> StoredDesired: ...

    def publish(self, state: DesiredState) -> DesiredState:
        """See ``Broker.publish``."""

    def revoked(self) -> list[str]:
        """The ids of the jobs that must not start. Raises ``DamagedError`` if they are implausibly
        many.
        """

    def keep_jobs(self, jobs: Sequence[KeptJob], *, limit: int) -> None:
        """Keep what is needed to send failed jobs again; the oldest beyond ``limit`` are
        deleted.
        """

    def kept_job(self, job_id: str) -> KeptJob | None:
        """The kept job, ``None`` if there is none. Raises ``DamagedError`` if it cannot be read."""

    def claim_requeue(self, operation_id: str, job_id: str) -> bool:
        """Whether this is the first time that ``operation_id`` sends this job again."""

    def release_requeue(self, operation_id: str, job_id: str) -> None:
        """Undo ``claim_requeue`` for a job that was not sent."""
