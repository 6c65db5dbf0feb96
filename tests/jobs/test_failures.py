"""Groups of failures, compared with a plain grouping of a list, on both databases."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest
from tests.jobs.conftest import FAILED, STARTED, T0

from queuescope.jobs import failures
from queuescope.jobs.failures import (
    FailedIds,
    GroupOrder,
    Span,
    failed_ids,
    failure_groups,
    last_failures,
)
from queuescope.jobs.fingerprint import normalise
from queuescope.jobs.job import Job, JobStatus
from queuescope.jobs.store import JobStore

EVER = Span(0.0, T0 + 1e6)


def some_failures(count: int, seed: int = 3) -> list[Job]:
    rng = random.Random(seed)
    return [
        replace(
            FAILED,
            id=f"f{number:04}",
            name=rng.choice(["enhance", "classify"]),
            tenant=f"tenant-{rng.randrange(14):02}",
            finished_at=T0 + rng.randrange(100),
            error_class=rng.choice(["ValueError", "TimeoutError"]),
            error_message=rng.choice([f"ticket {number} is bad", f"{number} s", ""]),
        )
        for number in range(count)
    ]


def others() -> list[Job]:
    """What is no failure, though some of it has an error."""
    return [
        replace(STARTED, id="running"),
        replace(FAILED, id="good", status=JobStatus.SUCCEEDED, error_class="", error_message=""),
        replace(FAILED, id="again", status=JobStatus.RETRYING),
        replace(FAILED, id="revoked", status=JobStatus.REVOKED),
    ]


@pytest.fixture
def failed(store: JobStore) -> list[Job]:
    held = some_failures(300)
    store.record([*held, *others()])
    return held


def newest_first(jobs: list[Job]) -> list[Job]:
    return sorted(jobs, key=lambda job: (job.finished_at, job.id), reverse=True)


def test_failures_are_grouped_by_type_error_and_what_their_messages_have_in_common(
    store: JobStore, failed: list[Job]
) -> None:
    span = Span(T0 + 10, T0 + 60)
    report = failure_groups(store, span)
    within = [job for job in failed if span.since <= job.moment < span.until]
    kinds: dict[tuple[str, str, str], list[Job]] = {}
    for job in within:
        kind = (job.name, job.error_class, normalise(job.error_message))
        kinds.setdefault(kind, []).append(job)
    assert (report.group_count, report.failure_count) == (len(kinds), len(within))
    assert report.is_whole
    for group in report.groups:
        members = kinds.pop((group.name, group.error_class, group.pattern))
        tenants = Counter(job.tenant for job in members)
        assert group.count == len(members)
        assert group.example == newest_first(members)[0]
        assert (group.first_at, group.last_at) == (
            min(job.moment for job in members),
            max(job.moment for job in members),
        )
        assert group.tenant_count == len(tenants)
        assert list(group.tenants) == sorted(tenants, key=lambda name: (-tenants[name], name))[:10]
        assert {job.fingerprint for job in members} == {group.fingerprint}
        ids = failed_ids(store, span, group.fingerprint)
        assert ids == FailedIds(tuple(job.id for job in newest_first(members)), is_whole=True)
        singles = last_failures(store, span, limit=4, fingerprint=group.fingerprint)
        assert singles == newest_first(members)[:4]
    assert kinds == {}
    assert last_failures(store, span) == newest_first(within)[:10]


def test_the_biggest_or_the_newest_group_comes_first(store: JobStore, failed: list[Job]) -> None:
    by_count = failure_groups(store, EVER).groups
    by_time = failure_groups(store, EVER, order=GroupOrder.NEWEST).groups
    assert [g.count for g in by_count] == sorted((g.count for g in by_count), reverse=True)
    assert [g.last_at for g in by_time] == sorted((g.last_at for g in by_time), reverse=True)
    assert {g.fingerprint for g in by_count} == {g.fingerprint for g in by_time}
    few = failure_groups(store, EVER, limit=3)
    assert few.groups == by_count[:3]
    assert few.group_count == len(by_count)


def test_nothing_failed(store: JobStore) -> None:
    store.record(others())
    report = failure_groups(store, EVER)
    assert (report.groups, report.failure_count, report.is_whole) == ((), 0, True)
    assert last_failures(store, EVER) == []
    assert failed_ids(store, EVER, "0" * 16) == FailedIds((), is_whole=True)


def test_a_retried_failure_leaves_its_group_and_comes_back_if_it_was_not_sent(
    store: JobStore,
) -> None:
    store.record([FAILED, replace(FAILED, id="j2")])
    mark = FAILED.fingerprint
    store.claim(["j1"])
    assert failed_ids(store, EVER, mark).ids == ("j2",)
    store.release(["j1"])
    assert failed_ids(store, EVER, mark).ids == ("j2", "j1")


def test_jobs_of_a_worker_that_was_lost_are_groups_of_their_own(store: JobStore) -> None:
    names = ["classify", "enhance", "enhance"]
    store.record([replace(STARTED, id=f"j{n}", name=name) for n, name in enumerate(names)])
    assert store.end_lost("w1", before=T0 + 60, redelivers=False)[JobStatus.LOST] == 3
    groups = failure_groups(store, EVER).groups
    assert [(g.name, g.error_class, g.count) for g in groups] == [
        ("enhance", "WorkerLostError", 2),
        ("classify", "WorkerLostError", 1),
    ]
    assert [g.fingerprint for g in groups] == [g.example.fingerprint for g in groups]
    assert store.reopen("w1", ["j0", "j1"]) == 2
    assert [g.count for g in failure_groups(store, EVER).groups] == [1]
    lost = replace(STARTED, id="j0", name="classify")
    assert store.end_started([lost], at=T0 + 70, status=JobStatus.LOST, reason="Gone.") == 1
    retrying = replace(FAILED, id="r", status=JobStatus.RETRYING, finished_at=T0 + 5)
    store.record([retrying])
    assert store.end_old_retries(before=T0 + 60, at=T0 + 90, reason="Not seen again.") == 1
    seen = failure_groups(store, EVER, order=GroupOrder.NEWEST).groups
    assert [(g.error_class, g.pattern) for g in seen] == [
        ("NotRetriedError", "Not seen again."),
        ("WorkerLostError", "Gone."),
        ("WorkerLostError", "The worker ended while it ran this job."),
    ]
    assert [g.fingerprint for g in seen] == [g.example.fingerprint for g in seen]


def test_a_flood_is_looked_at_in_part_and_said_to_be(
    store: JobStore, failed: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failures, "READ_LIMIT", 50)
    report = failure_groups(store, EVER)
    assert (report.failure_count, report.is_whole) == (50, False)
    oldest = newest_first(failed)[49].moment
    assert min(group.first_at for group in report.groups) >= oldest
    mark = report.groups[0].fingerprint
    some = failed_ids(store, EVER, mark, limit=2)
    members = newest_first([job for job in failed if job.fingerprint == mark])
    assert some == FailedIds(tuple(job.id for job in members[:2]), is_whole=False)


def test_hostile_text_is_grouped_and_kept_as_text(store: JobStore) -> None:
    odd = "<script>alert(1)</script>\x00\udce9'; DROP TABLE jobs; --"
    hostile = replace(FAILED, name=odd, tenant=odd, error_class=odd, error_message=odd)
    store.record([hostile])
    (group,) = failure_groups(store, EVER).groups
    assert group.example.error_message == odd.replace("\x00", "").replace("\udce9", "\\udce9")
    assert failed_ids(store, EVER, group.fingerprint).ids == ("j1",)
    assert failed_ids(store, EVER, "'; DROP TABLE jobs; --").ids == ()
