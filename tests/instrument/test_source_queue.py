"""Queues whose name is not the routing key: real workers report, pause and retry by the queue."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.instrument.conftest import Evidence, Shop, Worker, until, wait_for_commands
from tests.real_broker import RealBroker, connection_of

from queuescope.broker.desired import DesiredState
from queuescope.broker.redis.broker import RedisBroker
from queuescope.broker.reports import WorkerReport
from queuescope.broker.requeue import RetryAnswer
from queuescope.errors import RefusedError
from queuescope.jobs.job import Job
from queuescope.operations.access import Access, Actor, Origin
from queuescope.operations.context import OperationsContext
from queuescope.operations.request import Request
from queuescope.watch import read_broker

QUEUES = "media_jobs,copies,letters,several"
PROJECT = """
import os, time
from celery import Celery
from kombu.common import Broadcast
from kombu.entity import Exchange, Queue, binding
from queuescope.instrument import instrument

media, post = Exchange("media", type="topic"), Exchange("post", type="direct")
app = Celery("studio", broker=os.environ["SHOP_BROKER"])
app.conf.update(
    accept_content=["json"], task_default_queue="media_jobs", task_ignore_result=True,
    worker_prefetch_multiplier=int(os.environ.get("SHOP_PREFETCH", "1")),
    broker_connection_retry_on_startup=True,
    task_queues=[
        Queue("media_jobs", media, routing_key="media.#"),
        Queue("copies", media, routing_key="*.both"),
        Queue("letters", post, routing_key="mail"),
        Broadcast("news", queue="news_copy"),
        Queue("several", [binding(post, routing_key="one"), binding(media, routing_key="a.two")]),
    ],
)
instrument(app, keep_arguments=True)

@app.task(name="mark", bind=True)
def mark(self, path, word, until=None, fails=False):
    limits = self.request.timelimit
    with open(path, "a") as file:
        file.write(word + (str(int(limits[0])) if limits and limits[0] else "") + "\\n")
    while until is not None and not os.path.exists(until):
        time.sleep(0.02)
    if fails:
        raise LookupError(word)

@app.task(name="try_twice", bind=True, max_retries=1)
def try_twice(self):
    raise self.retry(exc=OSError("busy"), countdown=0)
"""
# The queue that is sent to, and by which key; where it comes from is another matter.
ROUTES = {
    "topic": ("media_jobs", "media.video.raw"),
    "pattern": ("media_jobs", "media.#"),
    "direct": ("letters", "mail"),
    "binding": ("several", "one"),
    "unnamed": ("added", "added"),
}


@pytest.fixture
def studio(tmp_path: Path, server: RealBroker) -> Iterator[Shop]:
    folder = tmp_path / "studio"
    folder.mkdir()
    made = Shop(folder, server.url, project=PROJECT)
    yield made
    made.close()


@pytest.fixture
def broker(server: RealBroker) -> Iterator[RedisBroker]:
    made = RedisBroker(server.url, timeout_seconds=30)
    yield made
    made.close()


def send(
    studio: Shop, evidence: Evidence, word: str, route: tuple[str, str], **more: object
) -> str:
    queue, key = route
    options: dict[str, Any] = {"queue": queue, "routing_key": key}
    if queue in {"letters", "several"}:
        options |= {"exchange": "post", "headers": {"tenant": "acme"}, "time_limit": 900}
    return studio.send("mark", options, path=str(evidence._path), word=word, **more)


def test_a_job_belongs_to_the_queue_it_was_taken_from(
    studio: Shop, server: RealBroker, broker: RedisBroker, evidence: Evidence
) -> None:
    """In the history, the metrics and the report, with topics, bindings and keys of other names,
    and of a queue that is added at runtime.
    """
    worker = studio.start_worker("-Q", QUEUES, "-c", "1", "--pool", "threads")
    name = f"w{studio._count}@shop"
    with closing(studio.app()) as app:
        wait_for_commands(app)
        app.control.add_consumer("added", destination=[name], reply=True, timeout=30)
    sent = {word: send(studio, evidence, word, route, fails=True) for word, route in ROUTES.items()}
    worker.ended(len(sent))
    retried = studio.send("try_twice", {"queue": "media_jobs", "routing_key": "media.again"})
    worker.ended(len(sent) + 2)
    wanted = {word: queue for word, (queue, _) in ROUTES.items()}
    rows = {word: _row(worker, sent[word]) for word in sent}
    assert {word: row.queue for word, row in rows.items()} == wanted
    keys = {word: key for word, (_, key) in ROUTES.items()}
    assert {word: row.routing_key for word, row in rows.items()} == keys
    assert _row(worker, retried).queue == "media_jobs"
    counted = {
        dict(labels)["queue"]
        for (metric, labels), value in worker.scrape().samples.items()
        if metric == "ai_agents_enhancement_jobs_total" and value
    }
    assert counted == {*wanted.values()}

    # A retry reaches the queue, and it alone, by whatever key the job came.
    commands = RedisBroker(server.url, answer_seconds=30)
    for word, job_id in sent.items():
        kept = broker.connection.keys.arguments_of(job_id)
        until(partial(broker.connection.reader.exists, kept), bool)
        answers = commands.requeue(name, [(job_id, "mark")], f"act-{word}")
        assert answers == {job_id: RetryAnswer.SENT}
    commands.close()
    worker.ended(2 * len(sent) + 2)
    words = [f"{word}900" if word in {"direct", "binding"} else word for word in ROUTES]
    assert Counter(evidence.words) == dict.fromkeys(words, 2)
    again = {word: until(partial(worker.store.get, sent[word]), _is_sent_again) for word in sent}
    assert {word: row.queue for word, row in again.items() if row} == wanted
    # With what the project gave it, besides its arguments.
    tenants = {word: row.tenant for word, row in again.items() if row}
    assert tenants == {
        word: "acme" if word in {"direct", "binding"} else "default" for word in ROUTES
    }


def test_a_broadcast_has_no_waiting_jobs(studio: Shop, server: RealBroker, tmp_path: Path) -> None:
    """Messages under the name of its queue are never fetched."""
    studio.start_worker("-Q", "letters,news_copy", "-c", "1")
    with OperationsContext(
        broker_url=server.url,
        store_url=f"sqlite:///{tmp_path / 'operations.db'}",
        folder=tmp_path / "purged",
        access=Access(admins=["ada"]),
    ) as context:
        until(lambda: len(context.fleet().alive), lambda count: count == 1)
        (worker,) = context.fleet().alive
        assert worker.report.queues == ("letters", "news_copy")
        assert worker.report.broadcasts == ("news_copy",)
        connection_of(context.broker).reader.lpush("news_copy", "nobody takes it")
        seen = read_broker(context)
        assert [reading.queue for reading in seen.queues] == ["letters"]
        assert seen.depth == 0
        with pytest.raises(RefusedError, match="Queue news_copy is not known"):
            context.operations.plan(Actor("ada", Origin.OIDC), Request.purge("news_copy"))


def test_a_paused_queue_of_a_topic_starts_nothing_and_returns_jobs_to_itself_only(
    studio: Shop, broker: RedisBroker, evidence: Evidence
) -> None:
    """Each message has a copy in another queue, which continues and gets no second one."""
    studio.start_worker("-Q", "media_jobs", "-c", "1", SHOP_PREFETCH="4")
    # A sender binds the queue.
    send(studio, evidence, "other", ("copies", "x.both"))
    send(studio, evidence, "long", ("media_jobs", "media.x"), until=str(evidence._end))
    until(lambda: evidence.words, lambda words: words == ["long"])
    sent = [send(studio, evidence, f"m{n}", ("media_jobs", "media.both")) for n in range(6)]
    name = f"w{studio._count}@shop"
    until(lambda: _report(broker, name).reserved.get("media_jobs"), lambda count: count == 4)
    # Which of the two queues it came from, the broker does not say of a delivered message.
    unacknowledged = [r.unacknowledged for r in broker.queues(["media_jobs", "copies", "letters"])]
    assert unacknowledged == [None, None, 0]
    broker.publish(DesiredState(revision=1, paused=("media_jobs",)))
    until(lambda: _report(broker, name), lambda r: r.revision == 1 and not r.reserved)
    evidence.release()
    until(lambda: _report(broker, name), lambda r: not r.active_count and r.processed == 1)
    assert evidence.words == ["long"]
    assert [r.depth for r in broker.queues(["media_jobs", "copies"])] == [6, 7]
    broker.publish(DesiredState(revision=2))
    until(lambda: len(evidence.words), lambda count: count == 7)
    assert evidence.words == ["long", *(f"m{n}" for n in range(len(sent)))]
    assert [r.depth for r in broker.queues(["media_jobs", "copies"])] == [0, 7]


def _is_sent_again(job: Job | None) -> bool:
    return job is not None and job.status == "failed" and job.routing_key == job.queue


def _row(worker: Worker, job_id: str) -> Job:
    row = until(
        lambda: worker.store.get(job_id),
        lambda job: job is not None and job.status == "failed",
    )
    assert row is not None
    return row


def _report(broker: RedisBroker, name: str) -> WorkerReport:
    found = until(
        lambda: [report for report in broker.workers().reports if report.worker == name],
        bool,
    )
    return found[0]
