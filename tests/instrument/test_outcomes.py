"""What real workers record for jobs that end in unusual ways."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from tests.instrument.conftest import Scrape, Shop, until
from tests.job_rows import ended_jobs

from queuescope.broker.headers import CLOCK_HEADER, DUE_HEADER
from queuescope.instrument.due_headers import FIRST_DUE_HEADER
from queuescope.jobs.job import Job, JobStatus

JOBS = "ai_agents_enhancement_jobs_total"
IN_FLIGHT = "ai_agents_enhancement_jobs_in_flight"
_GOES_ON = ("started", "retrying")


@dataclass(frozen=True)
class Oddities:
    scrape: Scrape
    rows: dict[str, Job]
    naive: Job

    def outcomes(self, tenant: str) -> dict[str, float]:
        return {
            labels["outcome"]: value
            for (name, have), value in self.scrape.samples.items()
            if name == JOBS and value and (labels := dict(have))["tenant"] == tenant
        }


@pytest.fixture(scope="module")
def oddities(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Oddities:
    """Of a worker in a zone far from UTC; each job has a tenant of its own."""
    worker = shop.start_worker(TZ="Asia/Tokyo")
    mark = tmp_path_factory.mktemp("marks") / "given-back"
    names = ("replaced", "own_failure", "give_up", "never_lucky", "unpicklable", "soft")
    ids = {name: shop.send(name, tenant=name) for name in names}
    ids["give_back_once"] = shop.send("give_back_once", path=str(mark), tenant="give_back_once")
    ids["nobody_knows"] = shop.send("nobody_knows", tenant="nobody_knows")
    ids["expired"] = shop.send("nap", {"expires": -1}, tenant="expired")
    ids["aside"] = shop.send("set_aside", tenant="aside")
    shop.send("send_naive")

    def read() -> dict[str, Job]:
        return {job.id: job for job in ended_jobs(worker.store) if job.status not in _GOES_ON}

    rows = until(
        read,
        lambda found: (
            set(ids.values()) <= set(found) and any(j.tenant == "naive" for j in found.values())
        ),
    )
    scrape = until(worker.scrape, lambda seen: seen.sum(IN_FLIGHT) == 0)
    naive = next(job for job in rows.values() if job.tenant == "naive")
    return Oddities(scrape, {name: rows[job_id] for name, job_id in ids.items()}, naive)


@pytest.mark.parametrize(
    ("name", "status", "error_class", "outcomes"),
    [
        ("replaced", JobStatus.SUCCEEDED, "", {"succeeded": 1.0}),
        ("own_failure", JobStatus.FAILED, "OutOfStock", {"failed": 1.0}),
        ("give_up", JobStatus.FAILED, "Reject", {"failed": 1.0}),
        ("give_back_once", JobStatus.SUCCEEDED, "", {"retried": 1.0, "succeeded": 1.0}),
        ("never_lucky", JobStatus.FAILED, "OSError", {"retried": 1.0, "failed": 1.0}),
        ("unpicklable", JobStatus.FAILED, "Unpicklable", {"failed": 1.0}),
        ("soft", JobStatus.FAILED, "SoftTimeLimitExceeded", {"failed": 1.0}),
        ("nobody_knows", JobStatus.FAILED, "UnknownJobType", {"failed": 1.0}),
        ("expired", JobStatus.EXPIRED, "", {"expired": 1.0}),
        ("aside", JobStatus.IGNORED, "", {"ignored": 1.0}),
    ],
)
def test_an_unusual_end_has_the_right_outcome(
    oddities: Oddities,
    name: str,
    status: JobStatus,
    error_class: str,
    outcomes: dict[str, float],
) -> None:
    row = oddities.rows[name]
    assert (row.status, row.error_class) == (status, error_class)
    assert oddities.outcomes(name) == outcomes


def test_a_name_that_no_worker_knows_is_in_the_success_rate(oddities: Oddities) -> None:
    rate = oddities.scrape.value("ai_agents_enhancement_success_rate", tenant="nobody_knows")
    assert rate == 0.0
    row = oddities.rows["nobody_knows"]
    assert (row.name, row.queue) == ("nobody_knows", "orders")
    assert row.error_message.startswith("No job type of this name is registered in worker w")
    name = "ai_agents_enhancement_unrunnable_messages_total"
    assert oddities.scrape.value(name, reason="unknown_job_type") == 1.0
    assert oddities.scrape.value(name, reason="invalid_message") == 0.0


def test_a_redelivered_message_is_counted(oddities: Oddities) -> None:
    name = "ai_agents_enhancement_redelivered_total"
    assert oddities.scrape.value(name, queue="orders") == 1.0


def test_a_job_that_replaces_another_has_its_latency(oddities: Oddities) -> None:
    row = oddities.rows["replaced"]
    assert row.name == "nap"
    assert None not in (row.finished_at, row.enqueued_at, row.wait_seconds, row.runtime_seconds)
    latency = (row.finished_at or 0) - (row.enqueued_at or 0)
    assert latency > (row.wait_seconds or 0) + (row.runtime_seconds or 0)


def test_an_eta_without_a_zone_is_read_as_celery_reads_it(oddities: Oddities) -> None:
    """UTC, wherever the worker is: it started at once when it was due."""
    assert oddities.naive.wait_seconds is not None
    assert 0 <= oddities.naive.wait_seconds < 60
    assert (oddities.naive.started_at or 0) - (oddities.naive.enqueued_at or 0) < 60


def test_invalid_headers_cost_no_job_its_outcome(shop: Shop) -> None:
    """Nor any other job its figures: an infinite wait would stay in the sum of all."""
    worker = shop.start_worker("--pool", "threads")
    stranger = shop.app()
    wild: list[dict[str, object]] = [
        {DUE_HEADER: float("-inf"), FIRST_DUE_HEADER: float("-inf")},
        {DUE_HEADER: float("nan"), CLOCK_HEADER: float("inf")},
        {DUE_HEADER: -1e308, CLOCK_HEADER: 10**400},
        {DUE_HEADER: 10**400, FIRST_DUE_HEADER: 10**400},
        {"retries": "many"},
        {"retries": float("inf")},
        {"retries": 10**30},
        {"headers": "none"},
    ]
    ids = [stranger.send_task("nap", queue="orders", headers=headers).id for headers in wild]
    stranger.close()
    scrape = worker.at_rest(len(wild))
    assert scrape.sum(JOBS, outcome="succeeded") == len(wild)
    assert scrape.sum("ai_agents_observations_lost_total") == 0
    for name in ("wait", "latency", "runtime"):
        assert 0 <= scrape.sum(f"ai_agents_enhancement_{name}_seconds_sum") < 600
    rows = until(
        lambda: [worker.store.get(job_id) for job_id in ids],
        lambda found: all(row is not None and row.finished_at for row in found),
    )
    assert {row.attempts for row in rows if row is not None} == {1}
