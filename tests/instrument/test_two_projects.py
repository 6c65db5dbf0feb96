"""Failed jobs of several projects on one broker: each is sent again by its own project alone."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from threading import Barrier

import pytest
import redis
from tests.instrument.conftest import Shop, Worker, until, wait_for_commands
from tests.real_broker import connection_of

from queuescope.broker.requeue import KeptJob, RetryAnswer, encode_kept_job
from queuescope.errors import RefusedError
from queuescope.jobs.job import Job, JobStatus
from queuescope.jobs.store import JobStore
from queuescope.operations.access import Access, Actor, Origin
from queuescope.operations.audit import Outcome, Result
from queuescope.operations.context import OperationsContext
from queuescope.operations.request import Request
from queuescope.operations.retries import Retries

ADA, BOB = Actor("ada", Origin.OIDC), Actor("bob", Origin.OIDC)
SHOP_NAME, MILL_NAME, OLD_NAME = "w1@shop", "a@mill", "a@old"
MILL = """
import os
from celery import Celery
from kombu import Exchange, Queue
from queuescope.instrument import instrument

app = Celery("mill", broker=os.environ["SHOP_BROKER"])
app.conf.update(accept_content=["json"], task_ignore_result=True, task_queues=[
    Queue("mill"), Queue("bread", Exchange("bakery"), routing_key="baked"),
])

def again(job_id, name):
    with open("sent", "a") as record:
        record.write(job_id + " " + name + "\\n")
    if os.path.exists("broken"):
        raise LookupError("not now")

instrument(app, retry=again)

@app.task(name="grind")
def grind():
    raise LookupError("no corn")

@app.task(name="fail_once")
def fail_once(path=None, word=None):
    raise LookupError("of the mill")
"""
# As workers were before they could say that a job is another project's.
OLD = """
import os
from celery import Celery
from celery.worker.control import control_command

app = Celery("old", broker=os.environ["SHOP_BROKER"])
app.conf.update(accept_content=["json"], worker_hijack_root_logger=False)

@control_command(name="queuescope_retry")
def retry(panel, jobs=(), act_id="", until=0.0, **_):
    return {"answers": {str(job_id): "sent" for job_id, name in jobs}}
"""


@dataclass(frozen=True)
class Town:
    """A shop that keeps arguments and a mill that has a function of its own; the mill's worker is
    asked first where nothing else decides.
    """

    shop: Shop
    mill: Shop
    shop_worker: Worker
    store: JobStore
    context: OperationsContext
    broker_url: str

    @property
    def sent_by_the_mill(self) -> list[str]:
        record = self.mill.folder / "sent"
        return record.read_text("utf-8").splitlines() if record.exists() else []

    def failed(self, job_id: str) -> Job:
        def is_there(job: Job | None) -> bool:
            return job is not None and job.status is JobStatus.FAILED

        job = until(lambda: self.store.get(job_id), is_there)
        assert job is not None
        return job

    def retry(self, *job_ids: str) -> Outcome:
        request = Request.retry(job_ids)
        plan = self.context.operations.plan(ADA, request)
        return self.context.operations.carry_out(ADA, request, plan.token, plan.phrase)

    def record(self, job_id: str, name: str, queue: str) -> None:
        job = Job(
            id=job_id,
            name=name,
            tenant="acme",
            queue=queue,
            worker="gone@shop",
            status=JobStatus.FAILED,
            started_at=1_790_000_000.0,
            finished_at=1_790_000_001.0,
        )
        self.store.record([job])


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory, broker_url: str) -> Iterator[Town]:
    store_url = f"sqlite:///{tmp_path_factory.mktemp('history') / 'jobs.db'}"
    with ExitStack() as running:
        shop = Shop(tmp_path_factory.mktemp("shop"), broker_url)
        running.callback(shop.close)
        mill = Shop(tmp_path_factory.mktemp("mill"), broker_url, project=MILL)
        running.callback(mill.close)
        keeps = "dict(keep_arguments=True)"
        worker = shop.start_worker(SHOP_OPTIONS=keeps, QUEUESCOPE_JOB_STORE_URL=store_url)
        mill.start_worker("-Q", "mill,bread", "-n", MILL_NAME, QUEUESCOPE_JOB_STORE_URL=store_url)
        store = JobStore(store_url)
        running.callback(store.close)
        folder = tmp_path_factory.mktemp("operations")
        context = running.enter_context(
            OperationsContext(
                broker_url=f"{broker_url}?socket_timeout=20",
                store_url=f"sqlite:///{folder / 'operations.db'}",
                folder=folder / "purged",
                access=Access(admins=["ada", "bob"]),
                claims=store,
            )
        )
        until(lambda: len(context.fleet().alive), lambda count: count == 2)
        app = shop.app()
        running.callback(app.close)
        wait_for_commands(app, workers=2)
        yield Town(shop, mill, worker, store, context, broker_url)


def test_a_job_is_sent_again_by_its_own_project_though_another_has_the_same_type(
    town: Town, tmp_path: Path
) -> None:
    path = tmp_path / "evidence"
    of_shop = town.shop.send("fail_once", path=str(path), word="bread")
    of_mill = town.mill.send("fail_once", {"queue": "mill"})
    only_mill = town.mill.send("grind", {"exchange": "bakery", "routing_key": "baked"})
    assert town.failed(of_shop).queue == "orders"
    assert town.failed(of_mill).queue == "mill"
    assert town.failed(only_mill).queue == "bread"
    assert town.failed(only_mill).routing_key == "baked"
    with redis.Redis.from_url(town.broker_url) as client:
        kept = connection_of(town.context.broker).keys.arguments_of(of_shop)
        until(lambda: client.exists(kept), lambda count: count == 1)
    outcome = town.retry(of_shop, of_mill, only_mill)
    assert outcome.count == 3
    until(lambda: town.store.get(of_shop), lambda j: j is not None and j.status == "succeeded")
    assert path.read_text("utf-8").split() == ["bread", "bread"]
    assert sorted(town.sent_by_the_mill) == sorted([f"{of_mill} fail_once", f"{only_mill} grind"])


def test_a_job_that_two_operators_retry_at_once_is_sent_once(
    town: Town,
) -> None:
    """Of the same jobs, and where only some of them are the same."""
    one, two = (town.mill.send("grind", {"queue": "mill"}) for _ in range(2))
    for job_id in (one, two):
        town.failed(job_id)
    before = len(town.sent_by_the_mill)

    def outcomes_at_once(*wanted: tuple[str, ...]) -> list[str]:
        requests = [Request.retry(jobs) for jobs in wanted]
        actors = (ADA, BOB)
        plans = [
            town.context.operations.plan(*asked) for asked in zip(actors, requests, strict=True)
        ]
        meet = Barrier(2)

        def act(n: int) -> str:
            meet.wait(timeout=60)
            try:
                plan = plans[n]
                done = town.context.operations.carry_out(
                    actors[n], requests[n], plan.token, plan.phrase
                )
            except RefusedError as exc:
                return str(exc)
            return done.detail

        with ThreadPoolExecutor(2) as both:
            return list(both.map(act, range(2)))

    outcomes = outcomes_at_once((one,), (one,))
    assert sorted("1 job was sent again." in words for words in outcomes) == [False, True]
    assert any(
        words.startswith(("ada started", "bob started", "None of these")) for words in outcomes
    )
    assert town.sent_by_the_mill[before:] == [f"{one} grind"]
    # It is one of the claimed ones now, and the other is not.
    outcomes = outcomes_at_once((one, two), (two,))
    assert town.sent_by_the_mill[before:] == [f"{one} grind", f"{two} grind"]
    assert sum("1 job was sent again." in words for words in outcomes) == 1, outcomes


def test_a_job_that_no_worker_knows_stays_failed_and_is_named(town: Town) -> None:
    before = town.sent_by_the_mill
    retries = Retries(worker.report for worker in town.context.fleet().alive)
    known = {
        "unserved": "No running worker that can send jobs of type fail_once again serves queue "
        "elsewhere.",
        "vanished": "No running worker that can send jobs again knows type closed_down.",
        "kept-vanished": "No running worker that can send jobs again knows type closed_down.",
    }
    for name, queue in (("fail_once", "orders"), ("grind", "mill"), ("grind", "baked")):
        assert retries.obstacle(name, queue, is_kept=True, ended_seconds_ago=60) is None
    # The mill has a function of its own, and the shop needs the arguments.
    assert retries.obstacle("grind", "bread", is_kept=False, ended_seconds_ago=60) is None
    assert retries.obstacle("fail_once", "mill", is_kept=False, ended_seconds_ago=60) is None
    assert retries.obstacle("fail_once", "orders", is_kept=False, ended_seconds_ago=60) is not None
    town.record("unserved", "fail_once", "elsewhere")
    town.record("vanished", "closed_down", "mill")
    town.record("kept-vanished", "closed_down", "orders")
    kept = KeptJob(id="kept-vanished", name="closed_down", queue="orders", args=[], kwargs={})
    with redis.Redis.from_url(town.broker_url) as client:
        client.set(
            connection_of(town.context.broker).keys.arguments_of(kept.id), encode_kept_job(kept)
        )
        for job_id, words in (
            ("unserved", "fail_once from queue elsewhere"),
            ("vanished", "closed_down from queue mill"),
            ("kept-vanished", "closed_down from queue orders"),
        ):
            outcome = town.retry(job_id)
            assert (outcome.result, outcome.count) == (Result.REFUSED, 0)
            assert f"knows jobs of type {words}." in outcome.detail
            job = town.failed(job_id)
            # The page knows it without asking.
            found = retries.obstacle(job.name, job.queue, is_kept=True, ended_seconds_ago=60)
            assert found is not None
            assert found.words == known[job_id]
        assert client.llen("orders") == 0
        assert client.keys("queuescope:sent:*vanished") == []
    assert town.sent_by_the_mill == before


def test_a_worker_ignores_jobs_of_other_projects(town: Town) -> None:
    """Also if a dashboard of an earlier version does not send the queue."""
    before = town.sent_by_the_mill
    broker = town.context.broker
    jobs = [("x", "nap"), ("y", "fail_once")]
    assert broker.requeue(MILL_NAME, jobs, "act", queues={"y": "orders"}) == {
        "x": RetryAnswer.NOT_MINE,
        "y": RetryAnswer.NOT_MINE,
    }
    assert town.sent_by_the_mill == before
    # Nothing has marked it as sent.
    assert broker.requeue(MILL_NAME, [("y", "fail_once")], "act") == {"y": RetryAnswer.SENT}


def test_a_job_that_could_not_be_sent_is_not_counted_as_sent_later(town: Town) -> None:
    broker = town.context.broker
    broken = town.mill.folder / "broken"
    broken.touch()
    for _ in range(2):
        said = broker.requeue(MILL_NAME, [("z", "grind")], "once")
        assert said == {"z": RetryAnswer.FAILED}
    broken.unlink()
    assert broker.requeue(MILL_NAME, [("z", "grind")], "once") == {"z": RetryAnswer.SENT}
    assert broker.requeue(MILL_NAME, [("z", "grind")], "once") == {"z": RetryAnswer.ALREADY}
    assert town.sent_by_the_mill.count("z grind") == 3


def test_workers_of_two_projects_with_one_name_both_answer(town: Town, tmp_path: Path) -> None:
    """As they have without ``-n`` on one machine. A command reaches both."""
    before = town.sent_by_the_mill
    path = tmp_path / "evidence"
    job_id = town.shop.send("fail_once", path=str(path), word="one")
    town.failed(job_id)
    town.mill.start_worker("-Q", "mill", "-n", SHOP_NAME, beside=True)
    until(lambda: len(town.context.fleet().named(SHOP_NAME)), lambda count: count == 2)
    app = town.shop.app()
    until(lambda: app.control.ping(timeout=1) or [], lambda heard: len(heard) == 3)
    app.close()
    town.record("lone", "closed_down", "orders")
    outcome = town.retry(job_id, "lone")
    assert (outcome.result, outcome.count) == (Result.DONE, 1)
    assert outcome.detail.endswith("knows jobs of type closed_down from queue orders.")
    assert town.failed("lone").id == "lone"
    until(lambda: town.store.get(job_id), lambda j: j is not None and j.status == "succeeded")
    assert path.read_text("utf-8").split() == ["one", "one"]
    assert town.sent_by_the_mill == before


def test_a_worker_of_an_earlier_version_understands_the_command(
    town: Town, tmp_path_factory: pytest.TempPathFactory
) -> None:
    old = Shop(tmp_path_factory.mktemp("old"), town.broker_url, project=OLD)
    with closing(old), closing(town.shop.app()) as app:
        old.start_worker("-n", OLD_NAME, "-Q", "aside")
        until(lambda: app.control.inspect([OLD_NAME], timeout=1).ping() or {}, bool)
        said = town.context.broker.requeue(OLD_NAME, [("a", "nap")], "act", queues={"a": "aside"})
    assert said == {"a": RetryAnswer.SENT}
