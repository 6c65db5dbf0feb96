"""Workers that report to a real broker as configured, and keep doing so, for pages that
show them.
"""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Any, Self

import msgspec
import numpy as np
import redis
from tests.browser.known_samples import DAY, HOUR
from tests.real_prometheus import Samples
from tests.worker_reports import report

from queuescope.broker.redis.keys import Keys
from queuescope.broker.reports import ActiveJob, Pool, RateLimited, WorkerReport, encode

COUNTER = "ai_agents_worker_jobs_total"
MIB = 2**20
XSS = "<img src=x onerror=document.body.dataset.pwned=1>"
HOSTILE_WORKER = f"celery@{XSS}"


class Crew:
    """Reports every second for its members. ``now`` is when the scene began, epoch seconds."""

    def __init__(self, port: int) -> None:
        self._client = redis.Redis(port=port)
        self._members: dict[str, WorkerReport] = {}
        self._lost: dict[str, WorkerReport] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.now = time.time()

    def join(self, worker: str, **changes: Any) -> None:
        """A worker that reports from now on; times are made from ``now``."""
        made = report(
            worker=worker,
            **{
                "boot_id": f"{worker}-1",
                "started_at": self.now - 3 * HOUR,
                "revised_at": self.now - 2 * HOUR,
                "last_started_at": self.now,
                "last_ended_at": self.now,
                "revision": 1,
                "cpu_limit": 2.0,
                "memory_bytes": 300 * MIB,
                **changes,
            },
        )
        with self._lock:
            self._members[worker] = made
            self._tell(made)

    def pause(self, *queues: str) -> None:
        """The state that operators want."""
        self._client.hset(
            Keys().desired,
            mapping={"revision": 1, "paused": msgspec.json.encode(sorted(queues))},
        )

    def lose(self, worker: str, *, seconds: float = 60.0) -> None:
        """Its last report was ``seconds`` ago."""
        with self._lock:
            last = self._members.pop(worker)
            at = time.time() - seconds
            self._lost[worker] = msgspec.structs.replace(last, at=at, clock_at=at, loop_at=at)
            self._put(self._lost[worker])

    def age(self, worker: str, *, seconds: float) -> None:
        """Make the last report of a lost worker older by ``seconds``."""
        last = self._lost[worker]
        self._put(msgspec.structs.replace(last, at=last.at - seconds))

    def job(
        self,
        name: str,
        seconds: float,
        *,
        id: str = "",  # noqa: A002
        again: bool = False,
    ) -> ActiveJob:
        return ActiveJob(
            id=id or f"6f1d-{name}",
            name=name,
            queue="default",
            tenant="acme",
            started_at=self.now - seconds,
            is_redelivered=again,
        )

    def _run(self) -> None:
        while not self._stop.wait(1.0):
            # A worker that is lost from now on must not be reported again.
            with self._lock:
                for member in self._members.values():
                    try:
                        self._tell(member)
                    except redis.RedisError:
                        # The scene may take the broker away.
                        continue

    def _tell(self, member: WorkerReport) -> None:
        now = time.time()
        since = int(now - self.now)
        self._put(
            msgspec.structs.replace(
                member,
                at=now,
                clock_at=now,
                loop_at=now if member.loop_at > self.now - 10 else member.loop_at,
                processed=member.processed + (since if member.active_count else 0),
            )
        )

    def _put(self, last: WorkerReport) -> None:
        self._client.hset(Keys().workers, last.worker, encode(last))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._client.close()


def everybody(crew: Crew) -> None:
    """A worker of each kind."""
    now = crew.now
    fresh = {"loop_at": now}
    crew.join(
        "worker-1@demo",
        **fresh,
        queues=("default", "priority"),
        consuming=("default", "priority"),
        pool_size=4,
        processed=18_234,
        failed=183,
        retried=41,
        active=(crew.job("enhance_ticket", 340), crew.job("summarise_thread", 9.2)),
        active_count=2,
        cpu_ratio=1.72,
        memory_limit_bytes=512 * MIB,
        memory_bytes=402 * MIB,
    )
    crew.join(
        "worker-2@demo",
        **fresh,
        queues=("default", "priority"),
        consuming=("default", "priority"),
        pool_size=4,
        processed=17_950,
        active=tuple(crew.job("classify_ticket", 2.0 + n, id=f"j{n}") for n in range(4)),
        active_count=8,
        cpu_ratio=0.41,
        memory_limit_bytes=512 * MIB,
        memory_bytes=498 * MIB,
    )
    crew.join("worker-10@demo", **fresh, queues=("reports",), consuming=("reports",), processed=0)
    crew.join(
        "worker-3@demo",
        **fresh,
        queues=("nightly",),
        consuming=(),
        paused=("nightly",),
        pool=Pool.THREADS,
        pool_size=16,
        processed=920,
        cpu_limit=None,
    )
    crew.join(
        "worker-4@demo",
        loop_at=now - 95,
        queues=("default",),
        consuming=("default",),
        pool_size=4,
        processed=7_200,
        failed=7_100,
        cpu_ratio=0.0,
    )
    crew.join(
        "worker-5@demo",
        **fresh,
        queues=("default",),
        consuming=(),
        active=(crew.job("enhance_ticket", 12, id="6f1d-came-again", again=True),),
        active_count=1,
        shutting_down_at=now - 20,
    )
    crew.join(
        "worker-6@demo",
        **fresh,
        queues=("mail",),
        consuming=("mail",),
        reserved={"mail": 2504},
        scheduled=2500,
        scheduled_queues={"mail": 2500},
        next_due_at=now + 3 * HOUR,
        rate_limited=(RateLimited(name="send_mail", per_second=1 / 60, count=4),),
    )
    crew.join(
        HOSTILE_WORKER,
        **fresh,
        queues=(XSS,),
        consuming=(XSS,),
        active=(crew.job(XSS, 900, id=XSS),),
        active_count=1,
        started_at=now - 5,
    )
    crew.join(
        "pod-5f7c9@demo",
        **fresh,
        queues=("default",),
        consuming=("default",),
        processed=311,
        active=(crew.job("enhance_ticket", 160),),
        active_count=1,
        redelivers=True,
    )
    crew.pause("nightly")
    crew.lose("pod-5f7c9@demo", seconds=130)


def crew_scene(end: float) -> Samples:
    """Seven days of those workers: steady with nights, young, idle, and one with a gap."""
    times = np.arange(end - 7 * DAY - 2 * HOUR, end, 60.0)
    day = 6 + 5 * np.sin(2 * np.pi * times / DAY)
    gap = (times > end - 3 * DAY) & (times < end - 3 * DAY + 14 * HOUR)

    def counted(per_minute: Any, seen: Any) -> tuple[Any, Any]:
        return times[seen], np.cumsum(per_minute * np.ones(len(times)))[seen]

    everywhere = np.ones(len(times), dtype=bool)
    found: dict[str, tuple[Any, Any]] = {
        "worker-1@demo": counted(day, everywhere),
        "worker-2@demo": counted(0.8 * day + np.sin(times / 7000) ** 8 * 9, ~gap),
        "worker-3@demo": counted(3 * (times % DAY < 4 * HOUR), everywhere),
        "worker-4@demo": counted(day, times > end - 2 * DAY),
        "worker-10@demo": counted(0, everywhere),
        "pod-5f7c9@demo": counted(day, times > end - 30 * HOUR),
    }
    return {
        f'{COUNTER}{{scene="crew",worker="{worker}",outcome="succeeded"}}': samples
        for worker, samples in found.items()
    }
