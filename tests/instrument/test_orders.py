"""Commands to real workers, and the state of one that is killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from threading import Timer

import msgspec
import pytest
import redis
from tests.instrument.conftest import QUICK, Evidence, Shop, until

from queuescope.broker.desired import DesiredState
from queuescope.broker.fleet import Fleet, fleet_of
from queuescope.broker.redis.broker import RedisBroker
from queuescope.broker.redis.keys import report_field
from queuescope.broker.requeue import RetryAnswer
from queuescope.broker.worker import WorkerStatus
from queuescope.errors import OutcomeUnknownError, RefusedError
from queuescope.jobs.job import JobStatus
from queuescope.operations.jobs import RevokeJob, ScalePool
from queuescope.operations.request import Request


@pytest.fixture
def broker(shop: Shop) -> Iterator[RedisBroker]:
    shop.clear()
    made = RedisBroker(shop.broker_url, timings=QUICK, timeout_seconds=30)
    yield made
    made.close()


@pytest.fixture
def commands(broker: RedisBroker, broker_url: str) -> Iterator[RedisBroker]:
    # Longer than the usual times, as an operator sets them.
    made = RedisBroker(f"{broker_url}?socket_timeout=60")
    yield made
    made.close()


def fleet(broker: RedisBroker) -> Fleet:
    return fleet_of(broker.workers(), broker.desired(), broker.queues(["orders", "express"]))


def name_of(shop: Shop) -> str:
    return f"w{shop._count}@shop"


def test_scaling_grows_and_shrinks_the_pool_and_reports_it(
    shop: Shop, broker: RedisBroker, commands: RedisBroker, evidence: Evidence
) -> None:
    worker = shop.start_worker("-c", "2")
    name = name_of(shop)
    # It is ready for jobs a moment before it receives commands.
    until(lambda: _pool_runs(shop, name), lambda jobs: jobs == [])
    grown = commands.scale(name, 4)
    assert (grown.before, grown.after) == (2, 4)
    seen = until(lambda: fleet(broker).get(name), lambda w: w is not None and _size(w) == 4)
    assert seen is not None
    # All four run at once.
    for number in range(4):
        evidence.send_long(shop, f"o{number}")
    until(lambda: fleet(broker).get(name), lambda w: w is not None and w.report.active_count == 4)
    busy = commands.scale(name, 1)
    # Only idle processes are ended, and it is said how many are left.
    assert busy.after == 4
    evidence.release()
    worker.ended(4)
    # The result of a process may not have reached the pool yet.
    until(lambda: _pool_runs(shop, name), lambda jobs: jobs == [])
    shrunk = commands.scale(name, 1)
    assert (shrunk.before, shrunk.after) == (4, 1)
    shop.send("nap")
    worker.ended(5)


def _pool_runs(shop: Shop, worker: str) -> list[object] | None:
    """The jobs whose end has not reached the pool of a worker yet."""
    app = shop.app()
    replies = app.control.inspect(destination=[worker], timeout=5, limit=1).active() or {}
    app.close()
    jobs: list[object] | None = replies.get(worker)
    return jobs


def _size(worker: object) -> int:
    return int(worker.report.pool_size)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--pool=threads", ("this one is threads", "fixed")),
        ("--pool=solo", ("this one is solo", "fixed")),
        ("--autoscale=4,2", ("scales itself", "scales itself")),
    ],
)
def test_a_pool_that_cannot_be_scaled_is_refused_before_a_command(
    shop: Shop,
    broker: RedisBroker,
    commands: RedisBroker,
    option: str,
    words: tuple[str, str],
) -> None:
    shop.start_worker(option)
    name = name_of(shop)
    until(lambda: fleet(broker).get(name), lambda worker: worker is not None)
    until(lambda: _pool_runs(shop, name), lambda jobs: jobs == [])
    effect = ScalePool(commands, lambda: fleet(broker))
    with pytest.raises(RefusedError, match=words[0]):
        effect.count(Request.scale(name, 4))
    with pytest.raises(RefusedError, match=words[1]):
        commands.scale(name, 4)


def test_a_missing_worker_leaves_the_outcome_unknown(broker: RedisBroker, broker_url: str) -> None:
    commands = RedisBroker(broker_url, answer_seconds=1.0)
    with pytest.raises(OutcomeUnknownError, match="did not answer"):
        commands.scale("nobody@shop", 4)
    assert commands.requeue("nobody@shop", [("a", "nap")], "act") == {"a": RetryAnswer.UNKNOWN}
    commands.close()


def test_a_command_that_is_read_too_late_has_no_effect(
    shop: Shop, broker: RedisBroker, broker_url: str, evidence: Evidence
) -> None:
    """A worker of the solo pool reads commands between jobs."""
    worker = shop.start_worker("--pool", "solo", SHOP_OPTIONS="dict(keep_arguments=True)")
    shop.send("fail", tenant="acme")
    worker.ended(1)
    name = name_of(shop)
    job_id = _failed(broker, broker_url)
    evidence.send_long(shop, "long")
    until(lambda: fleet(broker).get(name), lambda w: w is not None and w.report.active_count == 1)
    commands = RedisBroker(broker_url, answer_seconds=1.0)
    assert commands.requeue(name, [(job_id, "fail")], "late") == {job_id: RetryAnswer.UNKNOWN}
    evidence.release()
    worker.ended(2)
    shop.send("nap")
    worker.ended(3)
    with redis.Redis.from_url(broker_url) as client:
        assert not client.exists(broker.connection.keys.sent_again("late", job_id))
    commands.close()


def test_a_worker_has_as_long_to_answer_as_the_address_of_its_broker_says(
    shop: Shop, broker: RedisBroker, broker_url: str, evidence: Evidence
) -> None:
    """A worker of the solo pool answers after its job; without an answer, this is not known."""
    shop.start_worker("--pool", "solo")
    name = name_of(shop)
    evidence.send_long(shop, "long")
    until(lambda: fleet(broker).get(name), lambda w: w is not None and w.report.active_count == 1)
    commands = RedisBroker(f"{broker_url}?socket_timeout=60", answer_seconds=1.0)
    answered = Timer(3, evidence.release)
    answered.start()
    with pytest.raises(RefusedError):
        commands.scale(name, 4)
    answered.join()
    commands.close()


def _failed(broker: RedisBroker, broker_url: str) -> str:
    with redis.Redis.from_url(broker_url) as client:
        kept = until(
            lambda: client.zrange(broker.connection.keys.arguments, 0, -1),
            lambda found: len(found) == 1,
        )
    return bytes(kept[0]).decode()


def test_a_failed_job_is_sent_again_once_with_the_arguments_that_were_kept(
    shop: Shop, broker: RedisBroker, commands: RedisBroker, broker_url: str, tmp_path: Path
) -> None:
    worker = shop.start_worker(SHOP_OPTIONS="dict(keep_arguments=True)")
    path = tmp_path / "evidence"
    job_id = shop.send("fail_once", {"priority": 3}, path=str(path), word="grüße")
    worker.ended(1)
    assert _failed(broker, broker_url) == job_id
    name = name_of(shop)
    for _ in range(2):
        answers = commands.requeue(name, [(job_id, "fail_once"), ("unknown", "nap")], "act1")
        assert answers["unknown"] is RetryAnswer.NOT_KEPT
    assert answers[job_id] is RetryAnswer.ALREADY
    worker.ended(2)
    assert path.read_text("utf-8").split() == ["grüße", "grüße"]
    row = until(lambda: worker.store.get(job_id), lambda job: job is not None and job.attempts == 1)
    assert row is not None
    until(
        lambda: worker.store.get(job_id), lambda job: job is not None and job.status == "succeeded"
    )
    # Another operation may do it again.
    assert commands.requeue(name, [(job_id, "fail_once")], "act2")[job_id] is RetryAnswer.SENT
    worker.ended(3)


def test_arguments_are_not_kept_unless_the_project_wants_it(
    shop: Shop, broker: RedisBroker, commands: RedisBroker, broker_url: str
) -> None:
    worker = shop.start_worker()
    job_id = shop.send("fail", tenant="acme")
    worker.ended(1)
    with pytest.raises(RefusedError, match="has not configured"):
        commands.requeue(name_of(shop), [(job_id, "fail")], "act1")
    with redis.Redis.from_url(broker_url) as client:
        assert client.keys("queuescope:arguments*") == []


def test_a_projects_own_function_sends_a_job_again(
    shop: Shop, commands: RedisBroker, tmp_path: Path
) -> None:
    path = tmp_path / "evidence"
    own = (
        f"dict(retry=lambda job_id, name: "
        f"app.send_task('mark', kwargs=dict(path={str(path)!r}, word=job_id + name)) "
        f"if job_id == 'a' else 1 / 0)"
    )
    worker = shop.start_worker(SHOP_OPTIONS=own)
    # It is ready for jobs a moment before it receives commands.
    until(lambda: _pool_runs(shop, name_of(shop)), lambda jobs: jobs == [])
    answers = commands.requeue(name_of(shop), [("a", "fail"), ("b", "fail")], "act1")
    assert answers == {"a": RetryAnswer.SENT, "b": RetryAnswer.FAILED}
    worker.ended(1)
    assert path.read_text("utf-8") == "afail\n"


def test_a_revoked_job_is_ended_where_it_runs(
    shop: Shop, broker: RedisBroker, commands: RedisBroker
) -> None:
    worker = shop.start_worker()
    job_id = shop.send("nap", seconds=120)
    name = name_of(shop)
    until(lambda: fleet(broker).get(name), lambda w: w is not None and w.report.active_count == 1)
    broker.revoke([job_id])
    assert commands.announce_revoked([job_id], terminate=True) == (name,)
    worker.ended(1)
    row = until(
        lambda: worker.store.get(job_id), lambda job: job is not None and job.status != "started"
    )
    assert row is not None
    assert row.status is JobStatus.REVOKED


def test_a_job_in_a_pool_of_threads_is_not_called_ended(
    shop: Shop, broker: RedisBroker, broker_url: str, evidence: Evidence
) -> None:
    worker = shop.start_worker("--pool", "threads")
    # It waits for all workers, however many there are.
    commands = RedisBroker(broker_url, answer_seconds=4)
    job_id = evidence.send_long(shop, "long")
    name = name_of(shop)
    until(lambda: fleet(broker).running(job_id), lambda found: found is not None)
    effect = RevokeJob(commands, lambda: fleet(broker))
    for terminate in (True, False):
        with pytest.raises(RefusedError, match=f"{name} runs this job and cannot end it"):
            effect.count(Request.revoke(job_id, terminate=terminate))
    # If the command is sent all the same, the answer says that it had no effect.
    with pytest.raises(OutcomeUnknownError, match="did not confirm that it ended it"):
        effect.carry_out(Request.revoke(job_id, terminate=True), "act")
    evidence.release()
    row = until(
        lambda: worker.store.get(job_id), lambda job: job is not None and job.status != "started"
    )
    assert row is not None
    assert row.status is JobStatus.SUCCEEDED
    until(lambda: fleet(broker).running(job_id), lambda found: found is None)
    with pytest.raises(OutcomeUnknownError, match="no worker reports it as running any more"):
        effect.carry_out(Request.revoke(job_id, terminate=True), "act")
    commands.close()


def test_a_worker_killed_during_a_job_is_lost_with_its_job(
    shop: Shop, broker: RedisBroker, broker_url: str
) -> None:
    """Its rows end, its report is dropped after the stated time, and a new run starts clean."""
    worker = shop.start_worker()
    name = name_of(shop)
    job_id = shop.send("nap", seconds=120, tenant="acme")
    row = until(
        lambda: worker.store.get(job_id), lambda job: job is not None and job.status == "started"
    )
    assert row is not None
    assert row.started_at is not None
    # The worker of an earlier test may still be removing its report.
    alive = until(
        lambda: fleet(broker),
        lambda seen: (
            [w.report.active_count for w in seen.workers if w.report.worker == name] == [1]
            and len(seen.workers) == 1
            and seen.workers[0].is_alive
        ),
    )
    assert alive.workers[0].status is WorkerStatus.ACTIVE
    assert alive.has_lost(name, job_id, row.started_at) is False
    os.killpg(worker.process.pid, signal.SIGKILL)
    worker.process.wait()
    seen = until(lambda: fleet(broker), lambda seen: len(seen.lost) == 1)
    lost = seen.workers[0]
    assert (lost.status, lost.is_alive) == (WorkerStatus.LOST, False)
    assert lost.silent_seconds > QUICK.lost_seconds
    assert lost.report.active[0].id == job_id
    assert seen.has_lost(name, job_id, row.started_at) is True
    assert seen.confirmation("orders", DesiredState(revision=9)).asked == 0
    (left,) = seen.lost_jobs()
    assert not left.redelivers
    assert worker.store.end_lost(left.worker, before=left.before, redelivers=left.redelivers) == {
        JobStatus.RETRYING: 0,
        JobStatus.LOST: 1,
    }
    closed = worker.store.get(job_id)
    assert closed is not None
    assert (closed.status, closed.error_class) == (JobStatus.LOST, "WorkerLostError")
    # As it will be when the stated time has passed.
    assert broker.drop_reports() == 0
    with redis.Redis.from_url(broker_url) as client:
        old = msgspec.structs.replace(lost.report, at=lost.report.at - QUICK.drop_seconds)
        field = report_field(name, old.boot_id)
        client.hset(broker.connection.keys.workers, field, msgspec.json.encode(old))
        assert broker.workers().reports == ()
        assert [report.worker for report in broker.workers().expired] == [name]
        assert broker.drop_reports(keep=[name]) == 0
        assert broker.drop_reports() == 1
        assert client.hlen(broker.connection.keys.workers) == 0
