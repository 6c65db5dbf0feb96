"""The text about one job, in every table."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC

import pytest

from queuescope.dashboard.jobs.retry import Retriable, Viewer, retriable, retry_note, retry_words
from queuescope.dashboard.jobs.tables import failed_table, group_card, job_details
from queuescope.jobs.failures import FailureGroup
from queuescope.jobs.job import LOST_WORKER, Job, JobStatus
from queuescope.operations.retries import Obstacle

READER = Viewer(UTC, 1_790_000_000.0, "")
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
    assert "4: it came back 3 times unfinished, as when its process dies" in again
    assert "it came back once" in job_details(replace(JOB, deliveries=2), READER)


def test_a_routing_key_is_shown_if_it_is_not_the_queue() -> None:
    assert "media.video" in job_details(replace(JOB, routing_key="media.video"), READER)
    assert "Routing key" not in job_details(replace(JOB, routing_key="media_jobs"), READER)
    assert "Routing key" not in job_details(JOB, READER)


UNKEPT = Obstacle("Its arguments were not kept.", "without kept arguments")


def test_how_many_of_some_jobs_can_be_sent_again_is_said_with_why_not_all() -> None:
    everything = retriable(["a", "b"], {})
    assert everything == Retriable(("a", "b"), {})
    assert (retry_words(everything), retry_note(everything, READER)) == ("", "")
    some = retriable(["a", "b", "c"], {"b": UNKEPT, "c": UNKEPT, "elsewhere": UNKEPT})
    assert (some.ids, some.count) == (("a",), 3)
    words = "1 of 3 failed jobs can be sent again; 2 without kept arguments."
    assert words in retry_note(some, READER)
    # Visitors who may not retry anything get that reason, and not this one as well.
    assert retry_note(some, replace(READER, refusal="Not now.")) == ""


def test_a_job_that_cannot_be_sent_again_cannot_be_chosen_and_says_why() -> None:
    failed = [replace(JOB, id=one, status=JobStatus.FAILED) for one in ("able", "unable")]
    viewer = replace(READER, obstacles={"unable": UNKEPT})
    table = failed_table(failed, ["able", "unable"], viewer, caption="Failures")
    boxes = {one: table.split(f'data-value="{one}"')[1].split(">")[0] for one in ("able", "unable")}
    assert " checked" in boxes["able"]
    assert "disabled" not in boxes["able"]
    assert ' disabled title="Its arguments were not kept."' in boxes["unable"]
    assert " checked" not in boxes["unable"]
    details = {job.id: job_details(job, viewer) for job in failed}
    assert "Its arguments were not kept." in details["unable"]
    assert "Its arguments were not kept." not in details["able"]


@pytest.mark.parametrize(
    ("found", "label", "title"),
    [
        # An unknown fact is no reason against it.
        (None, "Retry all 3 of this group", None),
        (Retriable(("a", "b", "c"), {}), "Retry all 3 of this group", None),
        (Retriable(("a",), {"without kept arguments": 2}), "Retry 1 of 3 of this group", None),
        (
            Retriable((), {"without kept arguments": 3}),
            "Retry 0 of 3 of this group",
            "0 of 3 failed jobs can be sent again; 3 without kept arguments.",
        ),
    ],
)
def test_a_group_is_retried_as_far_as_it_can_be(
    found: Retriable | None, label: str, title: str | None
) -> None:
    group = FailureGroup("f", "transcode", "LostError", "it ended", 3, 1.0, 2.0, (), 0, JOB)
    button = group_card(group, [], [], [], READER, found=found).split(f'aria-label="{label}"')
    assert len(button) == 2
    attributes = button[0].rsplit("<", 1)[1] + button[1].split(">")[0]
    assert ("disabled" in attributes) == (title is not None)
    assert title is None or f'title="{title}"' in attributes
