"""A real worker whose machine's clock is an hour ahead and is then set, and jobs from elsewhere."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
import redis
from tests.instrument.conftest import Evidence, Shop, Worker, until
from tests.instrument.test_orders import fleet
from tests.job_rows import ended_jobs
from tests.machine import MachineClock

from queuescope.broker.protocol import QueueReading
from queuescope.broker.redis.broker import RedisBroker
from queuescope.broker.worker import WorkerStatus
from queuescope.jobs.job import Job, JobStatus
from queuescope.jobs.store import JobStore

HOUR = 3600.0
NAME = "off@shop"
METRIC = "ai_agents_enhancement_{}_seconds_{}"


@pytest.fixture(scope="module")
def broker(broker_url: str) -> Iterator[RedisBroker]:
    made = RedisBroker(broker_url, timeout_seconds=30)
    yield made
    made.close()


@dataclass(frozen=True)
class Scene:
    """The worker, the clock of its machine, and what it writes."""

    shop: Shop
    clock: MachineClock
    store: JobStore
    url: str
    workers: list[Worker]

    @property
    def worker(self) -> Worker:
        return self.workers[-1]

    def start(self) -> None:
        self.workers.append(
            self.shop.start_worker("-n", NAME, clock=self.clock, QUEUESCOPE_JOB_STORE_URL=self.url)
        )

    def row(self, job_id: str, status: JobStatus) -> Job:
        """The row of a job, once it has this status."""
        row = until(
            lambda: self.store.get(job_id), lambda job: job is not None and job.status == status
        )
        assert row is not None
        return row

    @contextmanager
    def sent_by(self, clock: MachineClock) -> Iterator[None]:
        """While jobs are sent from another machine."""
        self.shop.set_customers_clock(clock)
        try:
            yield
        finally:
            self.shop.set_customers_clock(None)


@pytest.fixture(scope="module")
def scene(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("scene")
    url = f"sqlite:///{folder / 'jobs.db'}"
    with closing(JobStore(url)) as store:
        made = Scene(shop, MachineClock(folder / "clock", HOUR), store, url, [])
        made.start()
        yield made


def is_true(job: Job, since: float) -> bool:
    """Whether the times of a job from a moment ago are right."""
    times = (since, job.enqueued_at, job.started_at, job.finished_at, time.time())
    known = [at for at in times if at is not None]
    in_order = all(at <= later + 1 for at, later in pairwise(known))
    return in_order and job.wait_seconds is not None and job.wait_seconds < time.time() - since + 1


def test_retries_replacements_and_chains_keep_when_they_were_first_due(scene: Scene) -> None:
    """Each message has its sender's clock; the first due time has the first sender's."""
    since = time.time()
    for name in ("second_time_lucky", "replaced", "first_of_two", "never_lucky"):
        scene.shop.send(name, {"queue": "orders"}, tenant="elsewhere")
    # The replacement has the id of its job; each part of a chain is a job of its own.
    seen = until(scene.worker.scrape, lambda made: made.sum(METRIC.format("latency", "count")) == 6)
    ended = (JobStatus.SUCCEEDED, JobStatus.FAILED)
    rows = until(
        lambda: [
            job
            for job in ended_jobs(scene.store)
            if job.tenant == "elsewhere" and job.status in ended
        ],
        lambda found: len(found) == 6,
    )
    assert sorted(job.name for job in rows) == [
        *("first_of_two", "nap", "nap", "nap", "never_lucky", "second_time_lucky"),
    ]
    assert [job for job in rows if not is_true(job, since)] == []
    lasted = time.time() - since + 1
    assert seen.sum(METRIC.format("latency", "sum")) < 6 * lasted
    assert seen.sum(METRIC.format("wait", "sum")) < 9 * lasted
    assert seen.sum(METRIC.format("wait", "count")) == 9


def test_times_of_jobs_sent_by_the_same_machine_are_corrected_with_its_clock(scene: Scene) -> None:
    since = time.time()
    with scene.sent_by(scene.clock):
        jobs = [
            scene.shop.send("second_time_lucky", {"queue": "orders"}, countdown=0),
            scene.shop.send("replaced", {"queue": "orders"}),
            scene.shop.send("nap", {"queue": "orders", "countdown": 1}),
        ]
    for job_id in jobs:
        assert is_true(scene.row(job_id, JobStatus.SUCCEEDED), since)


def test_a_job_from_a_machine_whose_clock_is_ahead_has_no_wait(
    scene: Scene, tmp_path: Path
) -> None:
    """Its retry is sent by the worker, and has one; when the job was first due is not known."""
    before = scene.worker.scrape()
    with scene.sent_by(MachineClock(tmp_path / "clock", 2 * HOUR)):
        job_id = scene.shop.send("second_time_lucky", {"queue": "orders"}, countdown=0)
    row = scene.row(job_id, JobStatus.SUCCEEDED)
    assert row.attempts == 2
    after = until(
        scene.worker.scrape,
        lambda seen: (
            seen.sum("ai_agents_enhancement_jobs_total")
            == before.sum("ai_agents_enhancement_jobs_total") + 2
        ),
    )
    counts = [
        after.sum(METRIC.format(name, "count")) - before.sum(METRIC.format(name, "count"))
        for name in ("wait", "latency", "runtime")
    ]
    assert counts == [1, 0, 2]


def test_the_next_due_time_is_when_celery_starts_the_job(scene: Scene, broker: RedisBroker) -> None:
    """By the worker's own clock, an hour before its time."""
    before = time.time()
    job_id = scene.shop.send("nap", {"queue": "orders", "countdown": 3 * HOUR})
    seen = until(
        lambda: fleet(broker).get(NAME), lambda w: w is not None and w.report.scheduled > 0
    )
    assert seen is not None
    assert seen.next_due_at is not None
    assert before + 2 * HOUR - 3 < seen.next_due_at < time.time() + 2 * HOUR + 3
    app = scene.shop.app()
    app.control.revoke(job_id)
    app.close()


def test_the_age_is_corrected_with_the_clock_reported_for_the_senders_machine(
    scene: Scene, broker_url: str
) -> None:
    """The dashboard has never seen that queue empty."""
    since = time.time()
    with scene.sent_by(scene.clock):
        scene.shop.send("nap", {"queue": "held"})
    with closing(RedisBroker(broker_url)) as broker:
        (unknown,) = broker.queues(["held"])
        assert unknown.oldest_age_seconds is None
        assert HOUR - 60 < unknown.sender_ahead <= HOUR
        broker.workers()
        (known,) = broker.queues(["held"])
        assert known.oldest_age_seconds is not None
        assert 0 <= known.oldest_age_seconds < time.time() - since + 3
        assert known.sender_ahead == pytest.approx(HOUR, abs=time.time() - since + 3)


@pytest.mark.parametrize("ahead", [HOUR, -HOUR])
def test_the_age_is_corrected_by_when_the_message_arrived(
    ahead: float, scene: Scene, broker_url: str, tmp_path: Path
) -> None:
    """No worker runs on the sender's machine."""
    queue = f"watched{ahead}"

    def look() -> QueueReading:
        (reading,) = watching.queues([queue])
        return reading

    with (
        scene.sent_by(MachineClock(tmp_path / "clock", ahead)),
        closing(RedisBroker(broker_url)) as watching,
        redis.Redis.from_url(broker_url) as client,
    ):
        # How it came is seen the better, the sooner it is looked at.
        scene.shop.send("nap", {"queue": "elsewhere"})
        since = time.time()
        readings = []
        for _ in range(2):
            client.delete(queue)
            assert look().oldest_age_seconds == 0
            scene.shop.send("nap", {"queue": queue})
            readings.append(look())
        lasted = time.time() - since
    first, second = readings
    if ahead < 0:
        # It may have been put back, and is said to be doubtful.
        assert (first.is_age_doubtful, first.sender_ahead) == (True, 0)
    assert second.oldest_age_seconds is not None
    assert 0 <= second.oldest_age_seconds < lasted + 1
    assert second.sender_ahead == pytest.approx(ahead, abs=lasted + 1)
    assert not second.is_age_doubtful


def test_setting_the_clock_during_a_job_changes_none_of_its_times(
    scene: Scene, broker: RedisBroker, evidence: Evidence
) -> None:
    """Set back by two hours: no job ends before it starts, and no worker is lost or stalled."""
    since = time.time()
    running = evidence.send_long(scene.shop, "long")
    began = scene.row(running, JobStatus.STARTED).started_at
    scene.clock.set(-HOUR)
    failed = scene.shop.send("fail", {"queue": "orders"})
    again = scene.shop.send("second_time_lucky", {"queue": "orders"}, countdown=0)
    assert is_true(scene.row(failed, JobStatus.FAILED), since)
    assert is_true(scene.row(again, JobStatus.SUCCEEDED), since)
    seen = until(
        lambda: fleet(broker).get(NAME), lambda w: w is not None and w.clock_off_seconds < 0
    )
    assert seen is not None
    assert seen.clock_off_seconds == pytest.approx(-HOUR, abs=30)
    assert seen.status is WorkerStatus.ACTIVE
    assert seen.age_seconds(seen.report.active[0]) < time.time() - since + 3
    assert began is not None
    assert fleet(broker).has_lost(NAME, running, began) is False
    evidence.release()
    row = scene.row(running, JobStatus.SUCCEEDED)
    assert row.started_at == began
    assert is_true(row, since)


def test_jobs_of_an_earlier_run_are_ended_whatever_the_clocks(
    scene: Scene, evidence: Evidence
) -> None:
    """Killed while its clock was behind; it restarts with one that is ahead, and runs a job."""
    left = evidence.send_long(scene.shop, "left")
    scene.row(left, JobStatus.STARTED)
    os.killpg(scene.worker.process.pid, signal.SIGKILL)
    killed_at = time.time()
    with redis.Redis.from_url(scene.shop.broker_url) as client:
        # As if it had been silent for long enough.
        client.delete("queuescope:workers")
    scene.clock.set(HOUR)
    scene.start()
    running = evidence.send_long(scene.shop, "running")
    lost = scene.row(left, JobStatus.LOST)
    assert lost.finished_at is not None
    assert killed_at - 1 < lost.finished_at < time.time()
    assert scene.row(running, JobStatus.STARTED).finished_at is None
    evidence.release()
