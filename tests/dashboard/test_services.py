"""What the dashboard does beside its pages: real workers that are killed, stopped, and come back.

Broker, workers and both kinds of history are real; only what takes its time, such as to be called
lost or to be delivered again, is set to come sooner than by default.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import msgspec
import psutil
import pytest
import redis
from pydantic import SecretStr
from tests.instrument.conftest import QUICK, Shop, until
from tests.instrument.conftest import Worker as ShopWorker
from tests.job_rows import count_rows
from tests.real_broker import RealBroker

from queuescope.broker.desired import DesiredState
from queuescope.broker.redis.keys import Keys
from queuescope.broker.reports import WorkerReport, decode_report, encode
from queuescope.broker.timings import WorkerTimings
from queuescope.broker.worker import Worker, WorkerStatus
from queuescope.dashboard.services import Services, open_services
from queuescope.jobs.job import Job, JobStatus
from queuescope.jobs.store import JobStore
from queuescope.settings import Settings

NAME = "phoenix@shop"
Open = Callable[..., Services]


@pytest.fixture
def shop(tmp_path: Path, server: RealBroker) -> Iterator[Shop]:
    folder = tmp_path / "shop"
    folder.mkdir()
    made = Shop(folder, server.url)
    yield made
    made.close()


@pytest.fixture(params=["sqlite"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'jobs.db'}"
    found: str = request.getfixturevalue("postgresql_url")
    return found


@pytest.fixture
def open_dashboard(tmp_path: Path, shop: Shop, store_url: str) -> Iterator[Open]:
    with ExitStack() as opened:

        def open_one(timings: WorkerTimings = QUICK) -> Services:
            services = open_services(
                Settings(
                    prometheus_url="http://127.0.0.1:9",
                    data_dir=tmp_path / "data",
                    broker_url=SecretStr(shop.broker_url),
                    job_store_url=SecretStr(store_url),
                ),
                timings=timings,
            )
            opened.callback(services.close)
            services.start()
            return services

        yield open_one


def start_worker(
    shop: Shop, store_url: str, *arguments: str, beside: bool = False, **environment: str
) -> ShopWorker:
    return shop.start_worker(
        *("-n", NAME, "-Q", "orders", *arguments),
        beside=beside,
        clock=None,
        QUEUESCOPE_JOB_STORE_URL=store_url,
        **environment,
    )


def kill(worker: ShopWorker) -> None:
    os.killpg(worker.process.pid, signal.SIGKILL)
    worker.process.wait()


def row_when(services: Services, job_id: str, status: JobStatus, seconds: float = 90) -> Job:
    jobs = services.jobs
    assert jobs is not None
    row = until(
        lambda: jobs.get(job_id), lambda job: job is not None and job.status is status, seconds
    )
    assert row is not None
    return row


def worker_when(
    services: Services, is_enough: Callable[[Worker], bool], name: str = NAME
) -> Worker:
    broker = services.broker
    assert broker is not None

    def look() -> Worker | None:
        state = broker.known.fresh_value
        return None if state is None else state.fleet.get(name)

    found = until(look, lambda worker: worker is not None and is_enough(worker), 90)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("pools", "store_url"),
    [(("prefork", "threads", "solo"), "sqlite"), (("prefork",), "postgresql")],
    indirect=["store_url"],
)
@pytest.mark.timeout(300)
def test_a_job_of_a_killed_worker_is_retried_and_never_doubled(
    pools: tuple[str, ...], shop: Shop, client: redis.Redis, open_dashboard: Open, store_url: str
) -> None:
    """With late acknowledgement: lost with its worker, then run once more by the next life."""
    services = open_dashboard()
    assert services.jobs is not None

    def start_all() -> list[ShopWorker]:
        """A worker of each pool, with a queue of its own."""
        return [
            start_worker(
                shop,
                store_url,
                *("-n", f"{pool}@shop", "-Q", pool, "--pool", pool),
                beside=True,
                SHOP_ACKS_LATE="1",
            )
            for pool in pools
        ]

    workers = start_all()
    sent = {
        pool: shop.send("hang_once", {"queue": pool}, path=str(shop.folder / pool), word="begun")
        for pool in pools
    }
    first = {pool: row_when(services, sent[pool], JobStatus.STARTED) for pool in pools}
    for pool in pools:
        worker_when(services, lambda w: w.report.active_count == 1, f"{pool}@shop")
    for worker in workers:
        kill(worker)
    lost = {}
    for pool in pools:
        lost[pool] = worker_when(services, lambda w: w.status is WorkerStatus.LOST, f"{pool}@shop")
        assert [job.id for job in lost[pool].report.active] == [sent[pool]]
        retrying = row_when(services, sent[pool], JobStatus.RETRYING)
        assert (retrying.worker, retrying.error_class) == (f"{pool}@shop", "WorkerLostError")
    # As after the broker's visibility timeout.
    tags = [str(tag, "utf-8") for tag, _ in client.zscan_iter("unacked_index")]
    assert len(tags) == len(pools)
    client.zadd("unacked_index", dict.fromkeys(tags, 0))
    start_all()
    for pool in pools:
        alive = worker_when(services, lambda w: w.is_alive, f"{pool}@shop")
        assert alive.report.boot_id != lost[pool].report.boot_id
    for pool in pools:
        done = row_when(services, sent[pool], JobStatus.SUCCEEDED)
        assert (done.started_at or 0) > (first[pool].started_at or 0) > 0
        assert (shop.folder / pool).read_text("utf-8").split() == ["begun", "begun"]
        worker_when(
            services,
            lambda w: w.status is WorkerStatus.IDLE and w.report.processed == 1,
            f"{pool}@shop",
        )
    assert count_rows(services.jobs) == len(pools)


@pytest.mark.timeout(200)
def test_a_job_that_will_not_be_redelivered_is_lost_and_runs_once(
    shop: Shop, tmp_path: Path, open_dashboard: Open, store_url: str
) -> None:
    """With early acknowledgement the broker no longer has it."""
    services = open_dashboard()
    worker = start_worker(shop, store_url)
    evidence = tmp_path / "evidence"
    job_id = shop.send("hang_once", path=str(evidence), word="begun")
    row_when(services, job_id, JobStatus.STARTED)
    worker_when(services, lambda w: w.report.active_count == 1)
    kill(worker)
    lost = row_when(services, job_id, JobStatus.LOST)
    assert lost.error_message == "The worker ended while it ran this job."
    start_worker(shop, store_url)
    worker_when(services, lambda w: w.status is WorkerStatus.IDLE)
    assert services.jobs is not None
    assert services.jobs.get(job_id) == lost
    assert evidence.read_text("utf-8").split() == ["begun"]


@pytest.mark.timeout(200)
def test_workers_that_died_without_a_dashboard_are_ended_and_then_forgotten(
    shop: Shop, tmp_path: Path, client: redis.Redis, open_dashboard: Open, store_url: str
) -> None:
    worker = start_worker(shop, store_url)
    job_id = shop.send("hang_once", path=str(tmp_path / "evidence"), word="begun")
    key = Keys().workers
    [(field, reported)] = until(
        lambda: list(client.hgetall(key).items()),
        lambda found: len(found) == 1 and decode_report(found[0][1]).active_count == 1,
    )
    with closing(JobStore(store_url)) as store:
        until(lambda: store.get(job_id), lambda job: job is not None)
    kill(worker)
    # As it is an hour later.
    old = decode_report(reported)
    client.hset(key, field, encode(_aged(old, QUICK.drop_seconds + 3000)))
    services = open_dashboard()
    row_when(services, job_id, JobStatus.LOST)
    until(lambda: client.hlen(key), lambda count: count == 0)
    assert services.broker is not None
    state = services.broker.refresh(patience_seconds=30).fresh_value
    assert state is not None
    assert state.fleet.workers == ()


@pytest.mark.timeout(200)
def test_a_frozen_worker_is_lost_and_has_its_job_back_when_it_thaws(
    shop: Shop, tmp_path: Path, open_dashboard: Open, store_url: str
) -> None:
    services = open_dashboard()
    worker = start_worker(shop, store_url)
    job_id = shop.send("hang_once", path=str(tmp_path / "evidence"), word="begun")
    row = row_when(services, job_id, JobStatus.STARTED)
    worker_when(services, lambda w: w.report.active_count == 1)
    os.kill(worker.process.pid, signal.SIGSTOP)
    try:
        row_when(services, job_id, JobStatus.LOST)
    finally:
        os.kill(worker.process.pid, signal.SIGCONT)
    worker_when(services, lambda w: w.is_alive)
    assert row_when(services, job_id, JobStatus.STARTED) == row


@pytest.mark.timeout(200)
@pytest.mark.parametrize("fault", ["frozen", pytest.param("read-only", marks=pytest.mark.long)])
def test_a_broker_that_takes_no_reports_loses_no_job(
    fault: str, shop: Shop, server: RealBroker, open_dashboard: Open, store_url: str
) -> None:
    """The worker is silent for far longer than a lost one, but alive."""
    services = open_dashboard()
    start_worker(shop, store_url)
    job_id = shop.send("hang_once", path=str(shop.folder / "evidence"), word="begun")
    row = row_when(services, job_id, JobStatus.STARTED)
    worker = worker_when(services, lambda w: w.report.active_count == 1)
    seen: set[str | None] = set()

    def note() -> bool:
        assert services.jobs is not None
        found = services.jobs.get(job_id)
        seen.add(None if found is None else found.status)
        return True

    since = time.monotonic()
    with server.frozen() if fault == "frozen" else server.read_only():
        until(
            note,
            lambda _: time.monotonic() - since > 2 * QUICK.lost_seconds + 2,
            pause_seconds=0.25,
        )
    until(
        lambda: note() and worker_when(services, lambda w: w.is_alive).report.at,
        lambda at: at > worker.report.at + 2 * QUICK.lost_seconds,
    )
    since = time.monotonic()
    until(note, lambda _: time.monotonic() - since > QUICK.lost_seconds + 2, pause_seconds=0.25)
    assert seen == {JobStatus.STARTED}
    assert services.jobs is not None
    assert services.jobs.get(job_id) == row


@pytest.mark.timeout(200)
def test_live_workers_that_take_no_jobs_are_stalled(
    shop: Shop, tmp_path: Path, open_dashboard: Open, store_url: str
) -> None:
    """Its processes stand still, or its main loop does."""
    services = open_dashboard(replace(QUICK, stall_seconds=5))
    worker = start_worker(shop, store_url)
    children = psutil.Process(worker.process.pid).children()
    for child in children:
        child.suspend()
    for _ in range(8):
        shop.send("nap")
    stalled = worker_when(services, lambda w: w.status is WorkerStatus.STALLED)
    assert stalled.reason.startswith("Jobs wait in orders, and it has started none for ")
    for child in children:
        child.resume()
    worker_when(services, lambda w: w.report.processed == 8 and w.status is WorkerStatus.IDLE)
    app, end = shop.app(), tmp_path / "end"
    app.control.broadcast("hang_loop", arguments={"until": str(end)})
    app.close()
    stuck = worker_when(services, lambda w: w.status is WorkerStatus.STALLED)
    assert stuck.reason.startswith("Its main loop has done nothing for ")
    end.touch()
    worker_when(services, lambda w: w.status is WorkerStatus.IDLE)


def test_a_worker_whose_queues_are_all_paused_is_paused(
    shop: Shop, open_dashboard: Open, store_url: str
) -> None:
    services = open_dashboard()
    start_worker(shop, store_url)
    assert services.operations_context is not None
    services.operations_context.broker.publish(DesiredState(revision=1, paused=("orders",)))
    worker_when(services, lambda w: w.status is WorkerStatus.PAUSED)


def _aged(report: WorkerReport, seconds: float) -> WorkerReport:
    return msgspec.structs.replace(report, at=report.at - seconds)
