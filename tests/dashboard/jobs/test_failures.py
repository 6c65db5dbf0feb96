"""The groups of failures on the page of jobs."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path

from tests.browser.dashboard_process import DashboardProcess
from tests.browser.jobs_page import NOWHERE
from tests.dashboard.jobs.jobs_seen import look, once
from tests.instrument.conftest import until

from queuescope.dashboard.jobs.tables import GROUPS_SHOWN
from queuescope.jobs.job import Job, JobStatus
from queuescope.jobs.store import JobStore


def _failed(group: int, number: int) -> Job:
    """A job of a group that is called by letters, which vary from group to group."""
    return Job(
        id=f"{group}-{number}",
        name="enhance_ticket",
        tenant="acme",
        queue="default",
        worker="worker-1@shop",
        status=JobStatus.FAILED,
        finished_at=time.time() - 60,
        error_class=f"{chr(ord('A') + group)}Error",
        error_message="it broke",
    )


def test_a_group_that_is_too_small_for_the_first_ones_is_shown_once_it_is_open(
    tmp_path: Path,
) -> None:
    url, smallest = f"sqlite:///{tmp_path / 'jobs.db'}", _failed(GROUPS_SHOWN, 0)
    others = [_failed(group, number) for group in range(GROUPS_SHOWN) for number in range(2)]
    with closing(JobStore(url)) as store:
        store.record([*others, smallest])
    with DashboardProcess(tmp_path, NOWHERE, job_store_url=url) as dashboard:
        group = f'data-value="{smallest.fingerprint}"'
        assert group not in once(dashboard, "fresh").text
        seen = until(
            lambda: look(dashboard, f"group={smallest.fingerprint}").text,
            lambda text: "Retry all 1 of this group" in text,
            pause_seconds=0.5,
        )
    assert "is not among" not in seen
