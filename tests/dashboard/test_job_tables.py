"""What is said of one job, wherever it stands."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC

from queuescope.dashboard.job_tables import Reader, job_details
from queuescope.jobs.store import LOST_WORKER, Job, JobStatus

READER = Reader(UTC, 1_790_000_000.0, "")
JOB = Job(
    *("a-job", "transcode", "acme", "media_jobs", "w1@studio"),
    status=JobStatus.RETRYING,
    started_at=1_789_999_000.0,
    finished_at=1_789_999_001.0,
    error_class=LOST_WORKER,
    error_message="The worker ended while it ran this job.",
)


def test_a_job_that_comes_back_without_an_end_is_marked() -> None:
    assert "begun" not in job_details(JOB, READER)
    again = job_details(replace(JOB, deliveries=4), READER)
    assert "begun 4 times" in again
    assert "4: it came back 3 times without an end, as when its process dies in it" in again
    assert "it came back once" in job_details(replace(JOB, deliveries=2), READER)


def test_a_routing_key_is_told_where_it_is_not_the_queue() -> None:
    assert "media.video" in job_details(replace(JOB, routing_key="media.video"), READER)
    assert "Routing key" not in job_details(replace(JOB, routing_key="media_jobs"), READER)
    assert "Routing key" not in job_details(JOB, READER)
