"""The job history of real workers in a real PostgreSQL, through its restart."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest
from tests.instrument.conftest import Shop, until
from tests.job_rows import ended_jobs
from tests.real_postgresql import RealPostgreSQL

from queuescope.jobs.job import Job, JobStatus
from queuescope.jobs.store import JobStore


def test_a_worker_keeps_its_history_in_postgresql_through_a_restart_of_the_server(
    shop: Shop, postgresql: RealPostgreSQL, postgresql_url: str
) -> None:
    worker = shop.start_worker(SHOP_OPTIONS=f"dict(job_store_url={postgresql_url!r})")
    store = JobStore(postgresql_url)

    def row(job_id: str) -> Job:
        found = until(lambda: store.get(job_id), lambda job: job is not None and ended(job))
        assert found is not None
        return found

    began = time.time()
    good = row(shop.send("nap", seconds=0.1, tenant="acme"))
    took_seconds = time.time() - began
    bad = row(shop.send("fail", tenant="globex"))
    assert (good.status, good.tenant, good.queue) == (JobStatus.SUCCEEDED, "acme", "orders")
    assert good.runtime_seconds is not None
    assert 0.1 <= good.runtime_seconds <= took_seconds
    assert (bad.status, bad.error_class, bad.error_message) == (
        JobStatus.FAILED,
        "LookupError",
        "no such order",
    )
    try:
        postgresql.kill()
        meanwhile = shop.send("nap", tenant="acme")
        worker.ended(3)
        until(worker.log.read_text, lambda text: "rows wait in memory" in text)
    finally:
        postgresql.start()
    assert row(meanwhile).status is JobStatus.SUCCEEDED
    until(worker.log.read_text, lambda text: "the job history answers again" in text)
    assert {job.worker for job in ended_jobs(store)} == {good.worker}
    store.close()


@pytest.mark.parametrize(("how", "ended_count"), [("retry", 2), ("replace", 1)])
def test_a_job_has_succeeded_if_its_next_attempt_ends_before_the_one_that_asked_for_it(
    shop: Shop, tmp_path: Path, how: str, ended_count: int
) -> None:
    """A retry without a countdown starts at once, in another process."""
    worker = shop.start_worker()
    job_id = shop.send("ends_after_the_next", path=str(tmp_path / "next"), how=how)
    worker.at_rest(ended_count)
    # Then everything is written.
    worker.process.send_signal(signal.SIGTERM)
    worker.process.wait(120)
    row = worker.store.get(job_id)
    assert row is not None
    assert (row.status, row.error_class, row.deliveries) == (JobStatus.SUCCEEDED, "", 1)
    assert row.attempts == ended_count


def test_secrets_in_an_error_are_masked_before_they_are_written(shop: Shop) -> None:
    worker = shop.start_worker(
        SHOP_OPTIONS="dict(redact=lambda text: text.replace('contract 77', 'contract') "
        "if 'contract' in text else [][0])"
    )
    # The password begins where the text is cut.
    url = "postgresql://shop:hunter2-S3cr3t@db/shop"
    texts = {
        f"{url} refused, contract 77": "postgresql://shop:[redacted]@db/shop refused, contract",
        f"contract {'x' * 970} {url}": f"contract {'x' * 970} postgresql://shop:[redacted]"[:1000],
        "nothing in it": "(the text was left out: the project's redact failed)",
    }
    ids = [shop.send("fail_with", text=text) for text in texts]
    worker.ended(len(ids))
    for job_id, text in zip(ids, texts.values(), strict=True):
        row = until(lambda: worker.store.get(job_id), lambda job: job is not None and ended(job))  # noqa: B023
        assert row is not None
        assert row.error_message == text


def ended(job: Job) -> bool:
    return job.status not in (JobStatus.STARTED, JobStatus.RETRYING)
