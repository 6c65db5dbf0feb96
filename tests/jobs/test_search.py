"""Searching the history, compared with a scan of a list, on both databases."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.jobs.conftest import FAILED, STARTED, T0
from tests.real_postgresql import RealPostgreSQL

from queuescope.errors import JobStoreError, StoreErrorKind
from queuescope.jobs import search
from queuescope.jobs.job import Job, JobStatus
from queuescope.jobs.search import (
    JobCount,
    JobFilter,
    JobPage,
    Place,
    Values,
    count_jobs,
    each_job,
    find_jobs,
    known_values,
)
from queuescope.jobs.store import JobStore
from queuescope.jobs.table import HAS_ERROR


def some_jobs(count: int, seed: int = 1) -> list[Job]:
    """Jobs of every status, of which many end in the same second."""
    rng = random.Random(seed)
    jobs = []
    for number in range(count):
        status = rng.choice([*JobStatus, JobStatus.SUCCEEDED, JobStatus.SUCCEEDED])
        at = T0 + rng.randrange(count // 2)
        has_error = status in (JobStatus.FAILED, JobStatus.LOST, JobStatus.RETRYING)
        jobs.append(
            Job(
                id=f"{rng.getrandbits(64):016x}-{number}",
                name=rng.choice(["enhance", "classify"]),
                tenant="rare"
                if number % 200 == 0
                else rng.choice(["acme", "globex", "Ünïcode", "x"]),
                queue=rng.choice(["default", "priority"]),
                worker=rng.choice(["w1", "w2", "w3"]),
                status=status,
                enqueued_at=at - 3,
                started_at=at - 2 if status is not JobStatus.STARTED else at,
                finished_at=None if status is JobStatus.STARTED else at,
                error_class=rng.choice(["ValueError", "Time_out"]) if has_error else "",
                error_message=rng.choice(["100% Bad", "a_b 7", "no such order"])
                if has_error
                else "",
            )
        )
    return jobs


def newest_first(jobs: list[Job]) -> list[Job]:
    return sorted(jobs, key=lambda job: (job.moment, job.id), reverse=True)


def looked_through(jobs: list[Job], wanted: JobFilter) -> list[Job]:
    """The naive answer."""
    begin = [job for job in jobs if wanted.text and job.id.startswith(wanted.text)]

    def holds(job: Job) -> bool:
        text = wanted.text.lower()
        return text in job.error_class.lower() or text in job.error_message.lower()

    return newest_first(
        [
            job
            for job in jobs
            if (not wanted.status or job.status is wanted.status)
            and all(
                not value or getattr(job, name) == value
                for name in ("tenant", "name", "queue", "worker")
                for value in [getattr(wanted, name)]
            )
            and (wanted.since is None or job.moment >= wanted.since)
            and (wanted.until is None or job.moment < wanted.until)
            and (not wanted.text or (job in begin if begin else holds(job)))
        ]
    )


def pages(store: JobStore, wanted: JobFilter, limit: int) -> Iterator[JobPage]:
    place = None
    while True:
        page = find_jobs(store, wanted, limit=limit, older_than=place)
        yield page
        place = page.older
        if place is None:
            return


FILTERS = [
    JobFilter(),
    JobFilter(status=JobStatus.FAILED),
    JobFilter(status=JobStatus.STARTED),
    JobFilter(tenant="acme"),
    JobFilter(tenant="Ünïcode", name="enhance"),
    JobFilter(tenant="rare", status=JobStatus.SUCCEEDED),
    JobFilter(tenant="nobody"),
    JobFilter(name="classify", queue="priority", worker="w2", status=JobStatus.RETRYING),
    JobFilter(since=T0 + 50, until=T0 + 60),
    JobFilter(worker="w3", until=T0 + 100),
    JobFilter(text="valueerror"),
    JobFilter(text="100%", tenant="globex"),
    JobFilter(text="a_b"),
    JobFilter(text="a\\b"),
    JobFilter(text="no such order", status=JobStatus.RETRYING, since=T0 + 20),
    JobFilter(text="zebra"),
    JobFilter(text="'; DROP TABLE jobs; --\x00"),
]


@pytest.fixture
def jobs(store: JobStore) -> list[Job]:
    held = some_jobs(400)
    store.record(held)
    return held


@pytest.mark.parametrize("looked_at", [20_000, 40])
def test_pages_have_the_same_jobs_as_a_full_scan(
    looked_at: int, store: JobStore, jobs: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if a page may read at most 40 rows."""
    monkeypatch.setattr(search, "SEARCHED_LIMIT", looked_at)
    monkeypatch.setattr(search, "_PROBE_LIMIT", 30)
    ids = [job.id for job in jobs[:3]]
    for wanted in [*FILTERS, *(JobFilter(text=text) for text in (ids[0], ids[1][:8]))]:
        expected = looked_through(jobs, wanted)
        for limit in (23, 1000):
            found = [job for page in pages(store, wanted, limit) for job in page.jobs]
            assert found == expected, wanted
        assert list(each_job(store, wanted, limit=10**6)) == expected
        assert list(each_job(store, wanted, limit=5)) == expected[:5]


def test_a_page_leads_to_the_newer_one_it_came_from(store: JobStore, jobs: list[Job]) -> None:
    for wanted in FILTERS:
        seen = list(pages(store, wanted, 23))
        assert seen[0].newer is None
        for newer, page in pairwise(seen):
            assert page.newer is not None
            back = find_jobs(store, wanted, limit=23, newer_than=page.newer)
            assert back.jobs == newer.jobs
            assert back.older is not None
            again = find_jobs(store, wanted, limit=23, older_than=back.older)
            assert again.jobs == page.jobs
        assert find_jobs(store, wanted, limit=400, newer_than=seen[-1].newer).newer is None


def test_new_rows_move_no_page(store: JobStore, jobs: list[Job]) -> None:
    first = find_jobs(store, JobFilter(), limit=10)
    second = find_jobs(store, JobFilter(), limit=10, older_than=first.older)
    store.record([replace(FAILED, id=f"new-{n}", finished_at=T0 + 10_000 + n) for n in range(25)])
    assert find_jobs(store, JobFilter(), limit=10, older_than=first.older) == second
    assert find_jobs(store, JobFilter(until=T0 + 9_000), limit=10) == first


def test_a_job_that_ends_meanwhile_moves_to_the_moment_of_its_end(store: JobStore) -> None:
    store.record([STARTED, replace(FAILED, id="j0", finished_at=T0 + 3)])
    assert [job.id for job in find_jobs(store, JobFilter()).jobs] == ["j0", "j1"]
    store.record([FAILED])
    assert [job.id for job in find_jobs(store, JobFilter()).jobs] == ["j1", "j0"]


def test_a_job_without_any_time_is_the_oldest(store: JobStore) -> None:
    store.record([replace(STARTED, id="timeless", enqueued_at=None, started_at=None), FAILED])
    first = find_jobs(store, JobFilter(), limit=1)
    assert [job.id for job in first.jobs] == ["j1"]
    second = find_jobs(store, JobFilter(), older_than=first.older)
    assert [job.id for job in second.jobs] == ["timeless"]


def test_a_search_that_ends_early_says_how_far_back_it_went(
    store: JobStore, jobs: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "SEARCHED_LIMIT", 40)
    page = find_jobs(store, JobFilter(status=JobStatus.SUCCEEDED, tenant="nobody", worker="w1"))
    assert page == JobPage((), None, None)  # the tenant's index has the answer at once
    page = find_jobs(store, JobFilter(text="zebra"))
    with_error = newest_first([job for job in jobs if job.error_class])
    assert page.jobs == ()
    assert page.searched_back_to == with_error[39].moment
    assert page.older == Place.of(with_error[39])
    last = with_error[-40:]
    page = find_jobs(store, JobFilter(text="zebra"), older_than=Place.of(with_error[-41]))
    assert (len(last), page.older, page.searched_back_to) == (40, None, None)


def test_a_count_is_exact_or_says_that_it_is_not(
    store: JobStore, jobs: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    for wanted in FILTERS:
        expected = len(looked_through(jobs, wanted))
        assert count_jobs(store, wanted) == JobCount(expected, is_exact=True), wanted
    monkeypatch.setattr(search, "COUNT_LIMIT", 30)
    assert count_jobs(store, JobFilter()) == JobCount(30, is_exact=False)
    assert count_jobs(store, JobFilter(text="zebra")) == JobCount(0, is_exact=True)
    monkeypatch.setattr(search, "SEARCHED_LIMIT", 40)
    looked_at = newest_first([job for job in jobs if job.error_class])[:40]
    held = sum(job.tenant == "globex" for job in looked_at)
    monkeypatch.setattr(search, "_density", lambda _c, one, _s: (one is not HAS_ERROR, 0.0))
    counted = count_jobs(store, JobFilter(text="o", tenant="globex"))
    assert counted == JobCount(held, is_exact=False)


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("tenant", ("acme", "globex", "rare", "x", "Ünïcode")),
        ("name", ("classify", "enhance")),
        ("queue", ("default", "priority")),
        ("worker", ("w1", "w2", "w3")),
    ],
)
def test_the_values_to_choose_from_are_those_that_are_there(
    column: str, values: tuple[str, ...], store: JobStore, jobs: list[Job]
) -> None:
    known = known_values(store, column)
    assert (tuple(sorted(known.values)), known.is_whole) == (values, True)
    few = known_values(store, column, limit=2)
    assert few == Values(known.values[:2], is_whole=len(values) == 2)


def test_an_empty_history_has_nothing_to_choose_from_and_nothing_to_show(store: JobStore) -> None:
    assert known_values(store, "tenant") == Values((), is_whole=True)
    assert find_jobs(store, JobFilter(text="x", tenant="y")) == JobPage((), None, None)
    assert count_jobs(store, JobFilter()) == JobCount(0, is_exact=True)
    with pytest.raises(ValueError, match="error_message"):
        known_values(store, "error_message")


def test_the_beginning_of_very_many_ids_is_looked_for_in_errors(store: JobStore) -> None:
    store.record([replace(FAILED, id=f"no-{n:04}") for n in range(300)])
    store.record([replace(FAILED, id="other", error_message="no such order")])
    assert [job.id for job in find_jobs(store, JobFilter(text="no")).jobs] == ["other"]
    assert len(find_jobs(store, JobFilter(text="no-00")).jobs) == 50


@pytest.mark.parametrize("collation", ["en-x-icu", "C"])
def test_ids_are_found_by_their_beginning_in_any_locale(
    collation: str, postgresql: RealPostgreSQL
) -> None:
    """Locales other than C skip hyphens when they order texts."""
    name = f"locale_{collation.replace('-', '_').lower()}"
    how = f"LOCALE_PROVIDER icu ICU_LOCALE '{collation}'" if collation != "C" else "LOCALE 'C'"
    postgresql.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8' {how}")
    held = JobStore(postgresql.url(name))
    ids = ["a-b", "ab", "a-c", "A-b", "a-", "a", "b"]
    held.record([replace(FAILED, id=job_id, error_message="") for job_id in ids])
    found = {job.id for job in find_jobs(held, JobFilter(text="a-")).jobs}
    everything = [job.id for page in pages(held, JobFilter(), 2) for job in page.jobs]
    held.close()
    assert found == {"a-b", "a-c", "a-"}
    assert sorted(everything) == sorted(ids)


def test_a_search_that_takes_too_long_is_aborted(store: JobStore, jobs: list[Job]) -> None:
    endless = (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(i) FROM n"
    )
    with (
        pytest.raises(JobStoreError, match="took too long") as caught,
        store.reading(within_seconds=0.2) as connection,
    ):
        connection.exec_driver_sql(endless)
    assert caught.value.kind is StoreErrorKind.SLOW
    assert len(find_jobs(store, JobFilter()).jobs) == 50


@given(st.floats(allow_nan=False, allow_infinity=False), st.text())
def test_a_place_is_read_as_it_was_written(moment: float, job_id: str) -> None:
    place = Place(moment, job_id[:255])
    assert Place.parse(str(place)) == place


@given(st.one_of(st.text(), st.sampled_from(["nan~x", "inf~x", "~", "1", "1e999~"])))
def test_no_text_in_an_address_breaks_a_place(text: str) -> None:
    place = Place.parse(text)
    assert place is None or place.moment - place.moment == 0
