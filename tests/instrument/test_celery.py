"""A foreign Celery project becomes visible through two lines: real broker, real prefork workers."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis
from celery import Celery
from tests.instrument.conftest import Evidence, Scrape, Shop, scrape, until
from tests.job_rows import ended_jobs
from tests.metric_names import series_names
from tests.ports import free_port, free_ports

from queuescope.broker.headers import DUE_HEADER
from queuescope.errors import ConfigurationError
from queuescope.instrument import instrument
from queuescope.instrument.exporter import DEFAULT_PORT
from queuescope.instrument.metrics import BUCKETS_SECONDS, CATALOGUE, Origin
from queuescope.instrument.metrics_ports import METRICS_PORTS
from queuescope.jobs.job import Job, JobStatus
from queuescope.jobs.store import JobStore

JOBS = "ai_agents_enhancement_jobs_total"
LATENCY = "ai_agents_enhancement_latency_seconds"
WAIT = "ai_agents_enhancement_wait_seconds"
RUNTIME = "ai_agents_enhancement_runtime_seconds"
RATE = "ai_agents_enhancement_success_rate"
IN_FLIGHT = "ai_agents_enhancement_jobs_in_flight"
COUNTDOWN_SECONDS = 5.0


@dataclass(frozen=True)
class Day:
    """A worker's metrics before and after a known day of work, and its rows."""

    before: Scrape
    after: Scrape
    rows: dict[str, Job]
    ids: dict[str, str]
    worker: str


@pytest.fixture(scope="module")
def day(shop: Shop) -> Day:
    worker = shop.start_worker(
        SHOP_OPTIONS="dict(tenants=['acme', 'globex'], queues=['orders', 'express'])"
    )
    before = worker.scrape()
    ids = {
        "nap": shop.send("nap", seconds=0.3, tenant="acme"),
        "urgent": shop.send("nap", {"queue": "express", "priority": 0}, tenant="acme"),
        "header": shop.send("nap", {"headers": {"tenant": "globex"}}),
        "nobody": shop.send("nap"),
        "fail": shop.send("fail", tenant="acme"),
        "retry": shop.send("second_time_lucky", tenant="globex", countdown=COUNTDOWN_SECONDS),
        "hang": shop.send("hang", tenant="globex"),
        "aside": shop.send("set_aside", tenant="acme"),
        "late": shop.send("nap", {"countdown": 1.0}, tenant="acme"),
    }
    worker.ended(10)
    rows = until(
        lambda: {job.id: job for job in ended_jobs(worker.store)},
        lambda found: (
            set(ids.values())
            <= {i for i, j in found.items() if j.status not in ("started", "retrying")}
        ),
    )
    # The process is sampled every 5 s; the first sample comes at the start.
    return Day(before, worker.scrape(), rows, ids, worker.name)


def test_counters_stand_at_zero_before_the_first_job(day: Day) -> None:
    """Of every known tenant, queue and outcome: the first event must be an increase."""
    for tenant in ("acme", "globex"):
        for queue in ("orders", "express"):
            for outcome in ("succeeded", "failed", "retried", "revoked"):
                labels = {"tenant": tenant, "queue": queue, "outcome": outcome}
                assert day.before.value(JOBS, **labels) == 0.0


def test_success_rate_is_not_a_number_before_any_job_ended(day: Day) -> None:
    value = day.before.value(RATE, tenant="acme")
    assert value is not None
    assert math.isnan(value)


def test_each_outcome_is_counted_once_for_its_tenant_and_queue(day: Day) -> None:
    counted = {
        (labels["tenant"], labels["queue"], labels["outcome"]): value
        for (name, have), value in day.after.samples.items()
        if name == JOBS and value and (labels := dict(have))
    }
    assert counted == {
        ("acme", "orders", "succeeded"): 2.0,
        ("acme", "express", "succeeded"): 1.0,
        ("acme", "orders", "failed"): 1.0,
        ("acme", "orders", "ignored"): 1.0,
        ("globex", "orders", "succeeded"): 2.0,
        ("globex", "orders", "failed"): 1.0,
        ("globex", "orders", "retried"): 1.0,
        ("default", "orders", "succeeded"): 1.0,
    }


def test_success_rate_is_the_share_of_the_jobs_that_were_run(day: Day) -> None:
    """Three of four for acme, two of three for globex; retried and ignored ones do not count."""
    assert day.after.value(RATE, tenant="acme") == pytest.approx(75.0)
    assert day.after.value(RATE, tenant="globex") == pytest.approx(200 / 3)
    assert day.after.value(RATE, tenant="default") == 100.0


def test_histograms_hold_what_the_rows_of_the_history_tell(day: Day) -> None:
    final = [j for j in day.rows.values() if j.status in ("succeeded", "failed")]
    assert day.after.sum(f"{LATENCY}_count") == len(final) == 8
    latency = sum((j.finished_at or 0) - (j.enqueued_at or 0) for j in final)
    assert day.after.sum(f"{LATENCY}_sum") == pytest.approx(latency, abs=0.05)
    # Each attempt waits and runs: the retried one twice.
    assert day.after.sum(f"{WAIT}_count") == len(day.ids) + 1
    assert day.after.sum(f"{RUNTIME}_count") == len(day.ids) + 1
    once = [j for j in day.rows.values() if j.attempts == 1]
    assert len(once) == len(day.ids) - 1
    assert day.after.sum(f"{WAIT}_sum") >= sum(j.wait_seconds or 0 for j in once) - 1e-3
    rows_tell = sum(j.runtime_seconds or 0 for j in day.rows.values())
    first_attempt = day.after.sum(f"{RUNTIME}_sum") - rows_tell
    # It took a tenth of a second, and the countdown is no part of it.
    assert 0.1 <= first_attempt < COUNTDOWN_SECONDS


def test_wait_and_runtime_add_up_to_the_latency_of_a_job_without_retry(day: Day) -> None:
    job = day.rows[day.ids["nap"]]
    assert None not in (job.enqueued_at, job.wait_seconds, job.runtime_seconds)
    latency = (job.finished_at or 0) - (job.enqueued_at or 0)
    assert (job.wait_seconds or 0) + (job.runtime_seconds or 0) == pytest.approx(latency, abs=0.02)
    assert (job.runtime_seconds or 0) >= 0.3


def test_a_retry_has_its_own_wait_and_the_latency_of_the_first_attempt(day: Day) -> None:
    job = day.rows[day.ids["retry"]]
    assert (job.status, job.attempts) == (JobStatus.SUCCEEDED, 2)
    # 0.1 s of the first attempt and the countdown lie before the second wait began.
    latency = (job.finished_at or 0) - (job.enqueued_at or 0)
    waited_and_ran = (job.wait_seconds or 0) + (job.runtime_seconds or 0)
    assert latency >= waited_and_ran + COUNTDOWN_SECONDS + 0.1


def test_a_countdown_is_not_wait_time(day: Day) -> None:
    """A job that was sent for later becomes due then."""
    late, prompt = day.rows[day.ids["late"]], day.rows[day.ids["nap"]]
    assert (late.enqueued_at or 0) - (prompt.enqueued_at or 0) >= 1.0


def test_rows_have_the_error(day: Day) -> None:
    failed, hung = day.rows[day.ids["fail"]], day.rows[day.ids["hang"]]
    assert (failed.error_class, failed.error_message) == ("LookupError", "no such order")
    assert (hung.status, hung.error_class, hung.tenant) == ("failed", "TimeLimitExceeded", "globex")
    assert (hung.name, hung.worker) == ("hang", day.worker)
    assert day.rows[day.ids["aside"]].status is JobStatus.IGNORED


def test_nothing_is_in_flight_or_lost_at_the_end(day: Day) -> None:
    assert day.after.value(IN_FLIGHT, queue="orders") == 0.0
    assert day.after.value(IN_FLIGHT, queue="express") == 0.0
    assert day.after.value("ai_agents_observations_lost_total") == 0.0


def test_the_worker_exports_what_the_catalogue_declares_and_nothing_else(day: Day) -> None:
    assert day.after.names == series_names(m for m in CATALOGUE if m.origin is Origin.WORKER)


def test_the_buckets_reach_from_a_tenth_of_a_second_to_two_hours(day: Day) -> None:
    bounds = {
        dict(have)["le"]
        for (name, have), _ in day.after.samples.items()
        if name == f"{RUNTIME}_bucket"
    }
    assert bounds == {str(float(bound)) for bound in BUCKETS_SECONDS} | {"+Inf"}
    assert (min(BUCKETS_SECONDS), max(BUCKETS_SECONDS)) == (0.1, 8200.0)


def test_the_worker_exports_its_processes_and_memory(day: Day) -> None:
    assert (day.after.value("ai_agents_worker_processes") or 0) >= 1
    assert (day.after.value("ai_agents_worker_memory_bytes") or 0) > 10_000_000


def test_a_child_killed_during_a_job_counts_as_failed_once(shop: Shop) -> None:
    worker = shop.start_worker()
    job_id = shop.send("nap", seconds=120, tenant="acme")
    running = until(worker.scrape, lambda seen: seen.value(IN_FLIGHT, queue="orders") == 1.0)
    assert running.sum(JOBS) == 0
    pid = until(lambda: _child_that_runs(shop, job_id), lambda found: found > 0)
    os.kill(pid, signal.SIGKILL)
    worker.ended(1)
    # The worker has recovered when it runs the next job.
    shop.send("nap", tenant="acme")
    after = worker.at_rest(2)
    assert after.value(JOBS, tenant="acme", queue="orders", outcome="failed") == 1.0
    assert after.value(JOBS, tenant="acme", queue="orders", outcome="succeeded") == 1.0
    assert after.sum(JOBS) == 2.0
    assert after.value(IN_FLIGHT, queue="orders") == 0.0
    row = until(
        lambda: worker.store.get(job_id), lambda job: job is not None and job.status == "failed"
    )
    assert row is not None
    assert row.error_class == "WorkerLostError"
    assert row.runtime_seconds is not None


def test_a_job_returned_to_the_broker_ends_once(
    shop: Shop, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """With late acknowledgement the lost job runs again: the lost attempt is a retried one."""
    worker = shop.start_worker(SHOP_ACKS_LATE="1")
    marker = tmp_path_factory.mktemp("marker") / "died"
    job_id = shop.send("die_once", marker=str(marker), tenant="acme")
    after = worker.at_rest(2)
    assert after.value(JOBS, tenant="acme", queue="orders", outcome="retried") == 1.0
    assert after.value(JOBS, tenant="acme", queue="orders", outcome="succeeded") == 1.0
    row = until(
        lambda: worker.store.get(job_id), lambda job: job is not None and job.status == "succeeded"
    )
    assert row is not None


def test_a_revoked_job_counts_as_revoked_and_leaves_the_rate_alone(shop: Shop) -> None:
    worker = shop.start_worker()
    job_id = shop.send("nap", seconds=120, tenant="acme")
    until(worker.scrape, lambda seen: seen.value(IN_FLIGHT, queue="orders") == 1.0)
    app = shop.app()
    app.control.revoke(job_id, terminate=True)
    after = worker.at_rest(1)
    app.close()
    assert after.value(JOBS, tenant="acme", queue="orders", outcome="revoked") == 1.0
    assert after.sum(JOBS) == 1.0
    assert after.value(IN_FLIGHT, queue="orders") == 0.0
    assert math.isnan(after.value(RATE, tenant="acme") or 0.0)


@pytest.mark.parametrize("pool", ["threads", "solo"])
def test_other_pools_export_the_same(shop: Shop, tmp_path: Path, pool: str) -> None:
    worker = shop.start_worker("--pool", pool)
    shop.send("nap", tenant="acme")
    shop.send("fail", tenant="acme")
    after = worker.at_rest(2)
    assert after.value(RATE, tenant="acme") == 50.0
    assert after.value(IN_FLIGHT, queue="orders") == 0.0
    # Errors of jobs that a job runs in its own process are not kept.
    errors = tmp_path / "errors"
    shop.send("in_place", path=str(errors))
    assert worker.at_rest(3).sum(JOBS, outcome="succeeded") == 2
    assert int(errors.read_text()) <= 1
    if pool == "threads":
        # Celery itself tells nothing of a job that ends by what is no Exception.
        left = shop.send("leave")
        row = until(
            lambda: worker.store.get(left), lambda job: job is not None and bool(job.finished_at)
        )
        assert row is not None
        assert (row.status, row.error_class) == (JobStatus.FAILED, "WorkerLostError")
        assert worker.at_rest(4).sum(JOBS, outcome="failed") == 2


def test_a_busy_port_is_logged_and_used_once_it_is_free(shop: Shop) -> None:
    first = shop.start_worker("-Q", "elsewhere")
    second = shop.start_worker(beside=True, QUEUESCOPE_METRICS_PORT=str(first.port))
    assert "Address already in use" in second.log.read_text()
    assert "QUEUESCOPE_METRICS_PORT" in second.log.read_text()
    job_id = shop.send("nap", tenant="acme")
    until(
        lambda: second.store.get(job_id), lambda job: job is not None and job.status == "succeeded"
    )
    os.killpg(first.process.pid, signal.SIGKILL)
    served = f"metrics are served on port {first.port} from now on"
    until(second.log.read_text, lambda text: served in text)
    assert second.scrape().sum(JOBS, outcome="succeeded") == 1


def test_workers_of_celery_multi_take_a_port_each_of_a_range_and_their_logs_say_which(
    shop: Shop, tmp_path: Path
) -> None:
    """At Celery's own log level, and with logs that Celery sets up late."""
    first = free_ports(10)
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", first))
        busy.listen()
        subprocess.run(
            [
                *(sys.executable, "-m", "celery", "-A", "shop", "multi", "start", "3"),
                *("--pool=solo", "-Q", "elsewhere", f"--pidfile={tmp_path}/%n.pid"),
                f"--logfile={tmp_path}/%n.log",
            ],
            cwd=shop.folder,
            env={
                **{k: v for k, v in os.environ.items() if not k.startswith("QUEUESCOPE_")},
                "SHOP_BROKER": shop.broker_url,
                "QUEUESCOPE_METRICS_PORT": f"{first}-{first + 9}",
            },
            check=True,
            capture_output=True,
        )
        try:
            ports = {_told_port(tmp_path / f"celery{number}.log") for number in (1, 2, 3)}
            assert len(ports) == 3
            assert ports <= set(range(first + 1, first + 10))
            served = [scrape(port).names for port in ports]
        finally:
            for file in tmp_path.glob("*.pid"):
                os.kill(int(file.read_text()), signal.SIGKILL)
    assert all("ai_agents_worker_processes" in names for names in served)


def _told_port(log: Path) -> int:
    said = until(
        lambda: re.findall(r"served on port (\d+), as", log.read_text() if log.exists() else ""),
        bool,
    )
    return int(said[0])


def test_by_default_a_range_without_the_exporters_port_is_tried() -> None:
    assert METRICS_PORTS[0] == 9540
    assert DEFAULT_PORT not in METRICS_PORTS
    assert {DEFAULT_PORT, *METRICS_PORTS} == set(range(9540, 9550))


@pytest.mark.parametrize(
    "port", ["9600-", "-9600", "9609-9600", "0-9", "a", "70000", "1-70000", ""]
)
def test_an_invalid_port_is_refused(port: str) -> None:
    with pytest.raises(ConfigurationError, match="metrics_port"):
        instrument(Celery("refused", set_as_current=False), metrics_port=port)


def test_an_unsupported_broker_is_logged_even_before_it_answers(shop: Shop, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as to:
        process = subprocess.Popen(
            [*(sys.executable, "-m", "celery", "-A", "shop", "worker", "--pool=solo")],
            cwd=shop.folder,
            stdout=to,
            stderr=to,
            env={
                **os.environ,
                "SHOP_BROKER": f"amqp://guest:secret@127.0.0.1:{free_port()}//",
                "QUEUESCOPE_METRICS_PORT": "0",
            },
        )
    try:
        text = until(log.read_text, lambda text: "the broker is RabbitMQ" in text)
    finally:
        process.kill()
        process.wait()
    assert "this worker serves metrics, but live depth, live workers and operations" in text


def test_a_history_that_cannot_be_written_costs_no_metrics(shop: Shop) -> None:
    worker = shop.start_worker(QUEUESCOPE_JOB_STORE_URL="sqlite:////proc/nowhere/jobs.db")
    shop.send("nap", tenant="acme")
    assert worker.ended(1).value(RATE, tenant="acme") == 100.0
    until(worker.log.read_text, lambda text: "rows wait in memory" in text)


def test_a_stopped_worker_writes_what_ran_until_the_end(shop: Shop, evidence: Evidence) -> None:
    """Also the jobs that it finishes while it shuts down."""
    worker = shop.start_worker()
    first = shop.send("nap", tenant="acme")
    worker.ended(1)
    last = evidence.send_long(shop, "last")
    until(worker.scrape, lambda seen: seen.value(IN_FLIGHT, queue="orders") == 1.0)
    worker.process.send_signal(signal.SIGTERM)
    until(worker.log.read_text, lambda text: "Warm shutdown" in text)
    evidence.release()
    assert worker.process.wait(120) == 0
    rows = {job.id: job.status for job in ended_jobs(worker.store)}
    assert rows == {first: JobStatus.SUCCEEDED, last: JobStatus.SUCCEEDED}


def test_a_worker_killed_whole_closes_its_rows_when_it_comes_back(shop: Shop) -> None:
    url = f"sqlite:///{shop.folder / 'shared.db'}"
    worker = shop.start_worker("-n", "phoenix@shop", QUEUESCOPE_JOB_STORE_URL=url)
    job_id = shop.send("nap", seconds=120, tenant="acme")
    store = JobStore(url)
    until(lambda: store.get(job_id), lambda job: job is not None and job.status == "started")
    worker.process.kill()
    worker.process.wait()
    shop.start_worker("-n", "phoenix@shop", QUEUESCOPE_JOB_STORE_URL=url)
    row = until(lambda: store.get(job_id), lambda job: job is not None and job.status != "started")
    store.close()
    assert row is not None
    assert (row.status, row.error_class) == (JobStatus.LOST, "WorkerLostError")


def _child_that_runs(shop: Shop, job_id: str) -> int:
    app = shop.app()
    active = app.control.inspect(timeout=1.0).active() or {}
    app.close()
    return next(
        (
            int(j["worker_pid"])
            for jobs in active.values()
            for j in jobs
            if j["id"] == job_id and j["worker_pid"]
        ),
        0,
    )


_TWO_APPS = """
import os
from celery import Celery, chain, shared_task
from queuescope.instrument import instrument

shop, mill = (Celery(name, broker=os.environ["SHOP_BROKER"]) for name in ("shop", "mill"))
for app in (shop, mill):
    app.conf.update(task_default_queue=f"two-{app.main}", task_ignore_result=True)

@shared_task(name="both")
def both():
    pass

sends = shop.send_task
shop.send_task = lambda *args, **options: sends(*args, **options, headers={"traced": True})
instrument(shop)
for app in (shop, mill):
    app.send_task("by name", countdown=60)
    task = app.tasks["both"]
    task.delay()
    task.apply_async(retries=1)
    chain(task.si(), task.si()).apply_async()
"""


def test_messages_of_other_apps_in_the_process_are_left_alone(
    python: str, broker_url: str, tmp_path: Path
) -> None:
    """And another tool's way to send, which the instrumented app has already, stays in use."""
    (tmp_path / "two.py").write_text(_TWO_APPS, "utf-8")
    environment = {**os.environ, "SHOP_BROKER": broker_url}
    subprocess.run([python, "two.py"], cwd=tmp_path, env=environment, check=True)
    with redis.Redis.from_url(broker_url) as client:
        marked = {
            name: [
                DUE_HEADER in json.loads(message)["headers"]
                for message in client.lrange(f"two-{name}", 0, -1)
            ]
            for name in ("shop", "mill")
        }
        by_name = json.loads(client.lrange("two-shop", -1, -1)[0])["headers"]
        client.delete("two-shop", "two-mill")
    assert by_name["traced"] is True
    assert marked == {"shop": [True] * 4, "mill": [False] * 4}
