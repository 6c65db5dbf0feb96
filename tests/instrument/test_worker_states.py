"""Real workers that wait, hold jobs back, or shut down, and their status."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis
from tests.instrument.conftest import QUICK, Evidence, Shop, Worker, until, wait_for_commands
from tests.instrument.test_orders import fleet
from tests.machine import MachineClock

from queuescope.broker.redis.broker import RedisBroker
from queuescope.broker.worker import Worker as Judged
from queuescope.broker.worker import WorkerStatus
from queuescope.jobs.job import Job, JobStatus
from queuescope.jobs.store import JobStore
from queuescope.watch.reconciler import JobReconciler


@pytest.fixture
def broker(shop: Shop) -> Iterator[RedisBroker]:
    shop.clear()
    made = RedisBroker(shop.broker_url, timings=QUICK, timeout_seconds=30)
    yield made
    made.close()


def judged(broker: RedisBroker, is_so: object) -> Judged:
    """The only worker, once it ``is_so``."""
    found = until(lambda: fleet(broker).workers, lambda seen: len(seen) == 1 and is_so(seen[0]))  # type: ignore[operator]
    return found[0]


def still(broker: RedisBroker, moment: float) -> Judged:
    """The only worker as it reports after ``moment``."""
    return judged(broker, lambda worker: worker.report.at > moment)


def row_of(worker: Worker, job_id: str, status: JobStatus) -> Job:
    """The row of a job, once it has this status."""
    row = until(
        lambda: worker.store.get(job_id), lambda job: job is not None and job.status == status
    )
    assert row is not None
    return row


def end(worker: Worker, number: int) -> None:
    worker.process.send_signal(number)
    worker.process.wait(120)


def test_jobs_with_a_countdown_are_scheduled_and_wait_again_after_a_clean_stop(
    shop: Shop, broker: RedisBroker
) -> None:
    worker = shop.start_worker()
    before = time.time()
    for number in range(50):
        queue = "express" if number < 10 else "orders"
        shop.send("nap", {"queue": queue, "countdown": 600 + number})
    seen = judged(broker, lambda w: sum(w.report.scheduled_queues.values()) == 50)
    assert (seen.status, seen.reason) == (WorkerStatus.IDLE, "")
    assert seen.report.scheduled_queues == {"express": 10, "orders": 40}
    assert seen.report.scheduled == sum(seen.report.reserved.values()) == 50
    everything = fleet(broker).scheduled()
    assert everything is not None
    assert everything.next_at is not None
    assert before + 599 < everything.next_at < time.time() + 601
    assert [q.depth for q in broker.queues(["express", "orders"])] == [0, 0]
    end(worker, signal.SIGTERM)
    assert fleet(broker).scheduled() is None
    # The broker has them again, and none of them has waited longer than it should.
    readings = broker.queues(["express", "orders"])
    assert [(q.depth, q.oldest_age_seconds, q.unacknowledged) for q in readings] == [
        (10, 0.0, 0),
        (40, 0.0, 0),
    ]


def test_a_retry_that_waits_for_its_countdown_is_scheduled(shop: Shop, broker: RedisBroker) -> None:
    shop.start_worker()
    shop.send("second_time_lucky", {"queue": "orders"}, countdown=600)
    seen = judged(broker, lambda w: w.report.scheduled == w.report.retried == 1)
    assert (seen.report.scheduled_queues, seen.report.retried) == ({"orders": 1}, 1)


@pytest.mark.parametrize(
    ("pool", "number"),
    [
        ("prefork", signal.SIGTERM),
        ("prefork", signal.SIGINT),
        ("threads", signal.SIGTERM),
        ("solo", signal.SIGINT),
    ],
)
def test_a_worker_that_finishes_its_job_before_it_ends_is_shutting_down(
    pool: str, number: int, shop: Shop, broker: RedisBroker, evidence: Evidence
) -> None:
    worker = shop.start_worker("--pool", pool)
    evidence.send_long(shop, "long")
    judged(broker, lambda w: w.status is WorkerStatus.ACTIVE)
    worker.process.send_signal(number)
    seen = judged(broker, lambda w: w.status is WorkerStatus.SHUTTING_DOWN)
    assert (seen.words, seen.reason) == ("shutting down, finishes 1 job", "")
    assert seen.report.shutting_down_at is not None
    evidence.release()
    # Celery ends with 1 after Ctrl+C.
    assert worker.process.wait(120) == (number == signal.SIGINT)
    assert broker.workers().reports == ()


def test_a_shutdown_command_and_a_soft_shutdown_are_reported(
    shop: Shop, broker: RedisBroker, evidence: Evidence
) -> None:
    project = shop.folder / "shop.py"
    text = project.read_text("utf-8")
    project.write_text(text + "\napp.conf.worker_soft_shutdown_timeout = 300\n", "utf-8")
    worker = shop.start_worker()
    evidence.send_long(shop, "soft")
    judged(broker, lambda w: w.report.active_count == 1)
    worker.process.send_signal(signal.SIGQUIT)
    seen = judged(broker, lambda w: w.status is WorkerStatus.SHUTTING_DOWN)
    assert seen.words == "shutting down, finishes 1 job"
    project.write_text(text, "utf-8")
    shop.clear()
    worker = shop.start_worker()
    evidence.send_long(shop, "told")
    judged(broker, lambda w: w.report.active_count == 1)
    app = shop.app()
    app.control.shutdown()
    app.close()
    judged(broker, lambda w: w.words == "shutting down, finishes 1 job")
    evidence.release()
    worker.process.wait(120)
    assert broker.workers().reports == ()
    # A cold shutdown of one that runs nothing leaves nothing either.
    worker = shop.start_worker()
    still(broker, broker.now())
    end(worker, signal.SIGQUIT)
    assert broker.workers().reports == ()


def test_a_rate_limit_is_not_a_stall(shop: Shop, broker: RedisBroker, evidence: Evidence) -> None:
    """Set while the worker runs, then taken back: what waited goes on at the old rate."""
    shop.start_worker("-c", "2", SHOP_PREFETCH="2")
    judged(broker, lambda w: bool(w.report.consuming))
    app = shop.app()
    wait_for_commands(app)
    app.control.rate_limit("nap", "1/h", reply=True, timeout=60, limit=1)
    for _ in range(8):
        shop.send("nap")
    reason = "A rate limit holds back 4 jobs of nap (1 an hour)."
    seen = judged(broker, lambda w: w.status is WorkerStatus.RATE_LIMITED and w.reason == reason)
    assert seen.report.reserved == {"orders": 4}
    (waiting,) = broker.queues(["orders"])
    assert waiting.depth == 3
    app.control.rate_limit("nap", 0, reply=True, timeout=60, limit=1)
    app.close()
    later = still(broker, seen.report.at)
    assert later.reason == seen.reason


def test_a_rate_limit_of_the_whole_project_holds_back_each_type(
    shop: Shop, broker: RedisBroker
) -> None:
    shop.start_worker("-c", "2", SHOP_PREFETCH="4", SHOP_RATE_LIMIT="1/h")
    for name in ("nap", "nap", "nap", "fail", "fail"):
        shop.send(name)
    seen = judged(
        broker,
        lambda w: (
            w.status is WorkerStatus.RATE_LIMITED
            and sum(one.count for one in w.report.rate_limited) == 3
        ),
    )
    assert seen.words == "held back by a rate limit"
    assert seen.reason == (
        "A rate limit holds back 2 jobs of nap (1 an hour), 1 job of fail (1 an hour)."
    )


def test_jobs_without_a_limit_overtake_rate_limited_ones(
    shop: Shop, broker: RedisBroker, evidence: Evidence
) -> None:
    """A job whose time has come is held back as well, and no longer scheduled."""
    shop.start_worker("-c", "2", SHOP_PREFETCH="4")
    judged(broker, lambda w: bool(w.report.consuming))
    app = shop.app()
    wait_for_commands(app)
    app.control.rate_limit("nap", "1/h", reply=True, timeout=60, limit=1)
    app.close()
    shop.send("nap")
    shop.send("nap")
    shop.send("nap", {"countdown": 1})
    evidence.send_long(shop, "free")
    seen = judged(
        broker, lambda w: w.report.active_count == 1 and w.report.reserved == {"orders": 2}
    )
    assert seen.status is WorkerStatus.ACTIVE
    seen = judged(broker, lambda w: w.reason.startswith("A rate limit holds back 2 jobs of nap"))
    assert seen.report.scheduled == 0
    evidence.release()


def test_two_workers_with_one_name_are_kept_apart_and_lose_no_job(
    shop: Shop, broker: RedisBroker, evidence: Evidence, tmp_path: Path
) -> None:
    """The second begins while the first runs a job, in one history; then the first is killed."""
    url = f"sqlite:///{tmp_path / 'jobs.db'}"
    # A first one that is silent for a while beside a second that starts is not yet lost.
    settings: dict[str, Any] = {
        "QUEUESCOPE_JOB_STORE_URL": url,
        "SHOP_TIMINGS": repr(replace(QUICK, lost_seconds=30)),
    }
    first = shop.start_worker("-n", "twin@shop", "-Q", "orders", **settings)
    running = evidence.send_long(shop, "first")
    with closing(JobStore(url)) as store:
        until(lambda: store.get(running), lambda job: job is not None)
        shop.start_worker("-n", "twin@shop", "-Q", "express", beside=True, **settings)
        until(lambda: fleet(broker).shared_names(), lambda seen: seen == ("twin@shop",))
        second = shop.folder / f"worker-{shop._count}.log"
        until(second.read_text, lambda text: "another worker is also called twin@shop" in text)
        other = shop.send("nap", {"queue": "express"}, seconds=600)
        until(lambda: store.get(other), lambda job: job is not None and job.status == "started")
        both = until(
            lambda: fleet(broker),
            lambda seen: [w.report.active_count for w in seen.alive] == [1, 1],
        )
        assert both.lost == ()
        assert len({worker.report.boot_id for worker in both.workers}) == 2
        for job_id in (running, other):
            row = store.get(job_id)
            assert row is not None
            assert row.status is JobStatus.STARTED
            assert row.started_at is not None
            assert both.has_lost("twin@shop", job_id, row.started_at) is False
        # What the first has left is ended, and what the second runs is not.
        os.killpg(first.process.pid, signal.SIGKILL)
        seen = until(lambda: fleet(broker), lambda seen: len(seen.lost) == 1)
        reconciler = JobReconciler(store, lambda: seen, lambda keep: keep)
        assert reconciler.reconcile() == 1
        ended, kept = store.get(running), store.get(other)
        assert ended is not None
        assert kept is not None
        assert (ended.status, kept.status) == (JobStatus.LOST, JobStatus.STARTED)


def test_a_restarted_worker_replaces_its_earlier_run(
    shop: Shop, broker: RedisBroker, evidence: Evidence, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path / 'jobs.db'}"
    first = shop.start_worker("-n", "again@shop", QUEUESCOPE_JOB_STORE_URL=url)
    left = evidence.send_long(shop, "first")
    seen = judged(broker, lambda w: w.report.active_count == 1)
    with closing(JobStore(url)) as store:
        # A worker that is killed before it has written the start leaves nothing to end.
        until(lambda: store.get(left), lambda job: job is not None)
        os.killpg(first.process.pid, signal.SIGKILL)
        shop.start_worker("-n", "again@shop", QUEUESCOPE_JOB_STORE_URL=url)
        new = judged(broker, lambda w: w.report.boot_id != seen.report.boot_id)
        assert fleet(broker).shared_names() == ()
        assert new.is_alive
        row = until(
            lambda: store.get(left), lambda job: job is not None and job.status != "started"
        )
    assert row is not None
    assert row.status is JobStatus.LOST
    with redis.Redis.from_url(shop.broker_url) as client:
        until(lambda: client.hlen(broker.connection.keys.workers), lambda count: count == 1)


@pytest.mark.parametrize("ahead", [3600, -3600])
def test_a_worker_whose_clock_is_off_corrects_the_times_of_its_jobs(
    ahead: int, shop: Shop, broker: RedisBroker, evidence: Evidence, tmp_path: Path
) -> None:
    clock = MachineClock(tmp_path / "clock", ahead)
    before = time.time()
    worker = shop.start_worker(clock=clock)
    again = shop.send("second_time_lucky", {"queue": "orders"}, tenant="acme", countdown=0)
    failed = shop.send("fail", {"queue": "orders"}, tenant="acme")
    seen = worker.at_rest(3)
    after = time.time()
    for job_id, status in ((again, JobStatus.SUCCEEDED), (failed, JobStatus.FAILED)):
        row = row_of(worker, job_id, status)
        assert row.enqueued_at is not None
        assert row.started_at is not None
        assert row.finished_at is not None
        assert row.wait_seconds is not None
        assert before - 1 < row.enqueued_at <= row.started_at + 1
        assert before - 1 < row.started_at <= row.finished_at < after + 1
        # The second attempt of one is sent by the wrong clock.
        assert row.wait_seconds < after - before + 1
    for name in ("wait", "latency"):
        longest = seen.sum(f"ai_agents_enhancement_{name}_seconds_sum")
        assert longest < 3 * (after - before + 1)
    assert seen.sum("ai_agents_enhancement_wait_seconds_count") == 3
    assert seen.sum("ai_agents_enhancement_latency_seconds_count") == 2
    assert seen.value("ai_agents_enhancement_success_rate", tenant="acme") == 50
    off = seen.value("ai_agents_worker_clock_ahead_seconds")
    assert off is not None
    assert abs(off - ahead) < 5
    # What runs is not lost, and is when the worker is.
    running = evidence.send_long(shop, "long")
    row = row_of(worker, running, JobStatus.STARTED)
    assert row.started_at is not None
    alive = judged(broker, lambda w: w.report.active_count == 1)
    assert abs(alive.clock_off_seconds - ahead) < 5
    assert alive.corrects_times
    assert alive.age_seconds(alive.report.active[0]) < time.time() - before + 1
    fleet_now = fleet(broker)
    assert fleet_now.has_lost(alive.name, running, row.started_at) is False
    assert fleet_now.has_ended(alive.name, row.started_at) is False
    os.killpg(worker.process.pid, signal.SIGKILL)
    seen_lost = until(lambda: fleet(broker), lambda found: len(found.lost) == 1)
    reconciler = JobReconciler(worker.store, lambda: seen_lost, lambda keep: keep)
    assert reconciler.reconcile() == 1
    row_of(worker, running, JobStatus.LOST)
