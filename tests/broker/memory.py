"""A broker in the memory of one process: the minimum that the protocol requires.

It cannot send commands to workers, like some brokers, and says so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from threading import RLock

from queuescope.broker.capabilities import Ability, Capabilities
from queuescope.broker.clock import CorrectedClock
from queuescope.broker.desired import DesiredState, StoredDesired
from queuescope.broker.protocol import (
    PurgeRecord,
    QueueReading,
    RecordState,
    Scaled,
    WorkersReading,
)
from queuescope.broker.purge_file import Head, Purge
from queuescope.broker.reports import WorkerReport
from queuescope.broker.requeue import KeptJob, RetryAnswer
from queuescope.broker.timings import DEFAULT_TIMINGS, WorkerTimings

_NO_CONTROL = "A broker in memory carries no orders to workers."


@dataclass
class _Taken:
    """A purge that the broker knows; ``head`` and ``messages`` are removed once the file has
    them.
    """

    at: float
    head: Head | None = None
    messages: list[bytes] = field(default_factory=list)
    restored: int = 0
    act: str = ""


@dataclass
class MemoryServer:
    """The stored data; messages are consumed from the left, each with its due time."""

    lock: RLock = field(default_factory=RLock)
    queues: dict[str, list[tuple[bytes, float]]] = field(default_factory=dict)
    reports: dict[tuple[str, str], WorkerReport] = field(default_factory=dict)
    desired: DesiredState = field(default_factory=DesiredState)
    revoked: list[str] = field(default_factory=list)
    kept: dict[str, KeptJob] = field(default_factory=dict)
    requeued: set[tuple[str, str]] = field(default_factory=set)
    purges: dict[str, _Taken] = field(default_factory=dict)

    def publish(self, state: DesiredState) -> DesiredState:
        with self.lock:
            if state.revision > self.desired.revision:
                self.desired = state
            return self.desired


class MemoryBroker:
    """See ``queuescope.broker.protocol.Broker``."""

    def __init__(self, server: MemoryServer, timings: WorkerTimings = DEFAULT_TIMINGS) -> None:
        self._server = server
        self.timings = timings
        self.clock = CorrectedClock()
        self.purge_steps = MemoryPurgeSteps(server)
        orders = (Ability.SCALE, Ability.REQUEUE)
        self.capabilities = Capabilities(dict.fromkeys(orders, _NO_CONTROL))

    def now(self) -> float:
        asked_at = time.time()
        self.clock.compare(asked_at, asked_at=asked_at)
        return asked_at

    def check_writable(self) -> None:
        """Memory is."""

    def close(self) -> None:
        """Nothing is open."""

    def queues(
        self, names: Sequence[str], *, with_unacknowledged: bool = True
    ) -> list[QueueReading]:
        now = self.now()
        with self._server.lock:
            waiting = {name: list(self._server.queues.get(name, ())) for name in names}
        return [
            QueueReading(
                name,
                len(messages),
                max((now - due for _, due in messages), default=0.0),
                0 if with_unacknowledged else None,
            )
            for name, messages in waiting.items()
        ]

    def workers(self) -> WorkersReading:
        now, drop = self.now(), self.timings.drop_seconds
        if not self.capabilities.has(Ability.REPORTS):
            return WorkersReading(now, (), timings=self.timings)
        with self._server.lock:
            reports = sorted(self._server.reports.values(), key=lambda report: report.worker)
        return WorkersReading(
            now,
            tuple(report for report in reports if now - report.at <= drop),
            tuple(report for report in reports if now - report.at > drop),
            timings=self.timings,
        )

    def drop_reports(self, *, keep: Collection[str] = ()) -> int:
        old = [r for r in self.workers().expired if r.worker not in keep]
        for report in old:
            self._server.reports.pop((report.worker, report.boot_id), None)
        return len(old)

    def desired(self) -> DesiredState:
        return self._server.desired

    @property
    def last_desired(self) -> DesiredState:
        return self._server.desired

    def publish(self, state: DesiredState) -> DesiredState:
        return self._server.publish(state)

    def repair_desired(self) -> None:
        """It cannot be damaged."""

    def revoke(self, job_ids: Iterable[str]) -> None:
        with self._server.lock:
            self._server.revoked.extend(job_ids)

    def announce_revoked(
        self, job_ids: Iterable[str], *, terminate: bool = False
    ) -> tuple[str, ...]:
        del job_ids, terminate
        return ()

    def requeue(
        self,
        worker: str,
        jobs: Sequence[tuple[str, str]],
        act_id: str,
        *,
        queues: Mapping[str, str] | None = None,
        same_name_count: int = 1,
    ) -> dict[str, RetryAnswer]:
        del worker, jobs, act_id, queues, same_name_count
        self.capabilities.require(Ability.REQUEUE)
        return {}

    def kept_arguments(self, job_ids: Iterable[str]) -> frozenset[str]:
        return frozenset(job_ids) & self._server.kept.keys()

    def scale(self, worker: str, size: int) -> Scaled:
        self.capabilities.require(Ability.SCALE)
        return Scaled(worker, size, size)


class MemoryPurgeSteps:
    """See ``queuescope.broker.protocol.PurgeSteps``."""

    def __init__(self, server: MemoryServer) -> None:
        self._server = server

    def set_aside(self, queue: str, purge_id: str) -> None:
        with self._server.lock:
            if purge_id in self._server.purges:
                return
            messages = [raw for raw, _ in self._server.queues.pop(queue, [])]
            head = Head(id=purge_id, queue=queue, at=time.time(), lists=[queue])
            # In a file the last of a list is consumed first.
            self._server.purges[purge_id] = _Taken(head.at, head, messages[::-1])

    def is_set_aside(self, purge_id: str) -> bool:
        return self.head(purge_id) is not None

    def is_known(self, purge_id: str) -> bool:
        return purge_id in self._server.purges

    def head(self, purge_id: str) -> Head | None:
        taken = self._server.purges.get(purge_id)
        return None if taken is None else taken.head

    def messages(self, head: Head) -> Iterator[tuple[int, bytes]]:
        yield from ((0, raw) for raw in self._server.purges[head.id].messages)

    def discard(self, purge_id: str) -> None:
        with self._server.lock:
            taken = self._server.purges[purge_id]
            taken.head, taken.messages = None, []

    def unfinished(self) -> tuple[str, ...]:
        return tuple(sorted(i for i, taken in self._server.purges.items() if taken.head))

    def note_restore(self, purge: Purge, act: str) -> None:
        with self._server.lock:
            self._server.purges.setdefault(purge.id, _Taken(purge.at)).act = act

    def put_back(self, purge: Purge, offset: int, piece: Sequence[tuple[str, bytes]]) -> int:
        with self._server.lock:
            taken = self._server.purges.setdefault(purge.id, _Taken(purge.at))
            end = offset + len(piece)
            if taken.restored >= end:
                return 0
            for queue, raw in piece:
                self._server.queues.setdefault(queue, []).insert(0, (raw, time.time()))
            taken.restored = end
            return len(piece)

    def records(self, purges: Sequence[Purge]) -> list[PurgeRecord]:
        found = []
        for purge in purges:
            taken = self._server.purges.get(purge.id)
            if taken is None:
                found.append(PurgeRecord(RecordState.MISSING))
                continue
            is_whole = taken.restored >= purge.count
            state = RecordState.RESTORED if is_whole else RecordState.PARTIAL
            found.append(PurgeRecord(state, taken.restored, taken.act, same_run=True))
        return found


class MemoryWorkerConnection:
    """See ``queuescope.broker.protocol.WorkerConnection``."""

    priority_steps = (0,)
    separator = ":"

    def __init__(self, server: MemoryServer, clock: Callable[[], float] = time.time) -> None:
        self._server = server
        self.now = clock

    def close(self) -> None:
        """Nothing is open."""

    def write_report(self, report: WorkerReport) -> None:
        with self._server.lock:
            self._server.reports[report.worker, report.boot_id] = report

    def remove_report(self, worker: str, boot_id: str) -> None:
        with self._server.lock:
            self._server.reports.pop((worker, boot_id), None)

    def reports_named(self, worker: str) -> dict[str, WorkerReport | None]:
        with self._server.lock:
            return {boot: r for (name, boot), r in self._server.reports.items() if name == worker}

    def desired(self) -> StoredDesired:
        with self._server.lock:
            return StoredDesired(self._server.desired, len(self._server.revoked))

    def publish(self, state: DesiredState) -> DesiredState:
        return self._server.publish(state)

    def revoked(self) -> list[str]:
        return list(self._server.revoked)

    def keep_jobs(self, jobs: Sequence[KeptJob], *, limit: int) -> None:
        with self._server.lock:
            self._server.kept |= {job.id: job for job in jobs}
            for job_id in list(self._server.kept)[: max(0, len(self._server.kept) - limit)]:
                del self._server.kept[job_id]

    def kept_job(self, job_id: str) -> KeptJob | None:
        return self._server.kept.get(job_id)

    def claim_requeue(self, act_id: str, job_id: str) -> bool:
        with self._server.lock:
            is_first = (act_id, job_id) not in self._server.requeued
            self._server.requeued.add((act_id, job_id))
            return is_first

    def release_requeue(self, act_id: str, job_id: str) -> None:
        self._server.requeued.discard((act_id, job_id))
