"""CSV files: any CSV reader reads them completely, and no spreadsheet finds a formula."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.jobs.conftest import FAILED, T0

from queuescope.csv_cells import harmless
from queuescope.errors import JobStoreError
from queuescope.jobs.export import COLUMNS, NUMBERS, csv_of
from queuescope.jobs.job import Job, JobStatus


def read(jobs: list[Job], delimiter: str = ",") -> list[dict[str, str]]:
    text = b"".join(csv_of(jobs)).decode("utf-8")
    return list(csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter))


def test_a_file_is_read_back_as_it_was_written() -> None:
    (row,) = read([replace(FAILED, routing_key="=media.video", redelivers=True, deliveries=3)])
    assert row == {
        "id": "j1",
        "status": "failed",
        "name": "enhance",
        "tenant": "acme",
        "queue": "default",
        "worker": "w1",
        "enqueued_at": "2026-09-21T14:13:20.000Z",
        "started_at": "2026-09-21T14:13:22.000Z",
        "finished_at": "2026-09-21T14:13:25.000Z",
        "wait_seconds": "2.0",
        "runtime_seconds": "3.0",
        "attempts": "1",
        "error_class": "ValueError",
        "error_message": "bad",
        "fingerprint": FAILED.fingerprint,
        "routing_key": "'=media.video",
        "redelivers": "true",
        "deliveries": "3",
    }


def test_lines_end_as_the_standard_says_and_the_columns_are_named_without_jobs_too() -> None:
    assert b"".join(csv_of([])) == (",".join(COLUMNS) + "\r\n").encode()
    many = [replace(FAILED, id=f"j{n}") for n in range(1001)]
    pieces = list(csv_of(many))
    assert len(pieces) > 5
    assert b"".join(pieces).count(b"\r\n") == 1002
    assert [row["id"] for row in read(many)] == [job.id for job in many]


@given(st.text(st.characters(codec="utf-8")))
@example('a"b, c\r\nand ünïcödé')
def test_text_is_read_back_but_for_the_apostrophes(text: str) -> None:
    (row,) = read([replace(FAILED, name=text, error_message=text)])
    assert row["name"] == row["error_message"] == harmless(text)
    assert row["name"].replace("'", "") == text.replace("'", "")


@given(st.floats(), st.integers(0, 2**31 - 1))
def test_numbers_are_numbers(seconds: float, attempts: int) -> None:
    """Negative ones, too: nothing stands before their sign."""
    job = replace(FAILED, wait_seconds=seconds, runtime_seconds=-1.5, attempts=attempts)
    (row,) = read([job])
    assert set(row) >= NUMBERS
    if seconds - seconds == 0:
        assert float(row["wait_seconds"]) == seconds
    else:
        assert row["wait_seconds"] == ""
    assert (row["runtime_seconds"], row["attempts"]) == ("-1.5", str(attempts))


def test_what_is_not_known_is_empty() -> None:
    job = Job("j", "n", "t", "q", "w", JobStatus.STARTED, started_at=1e300)
    (row,) = read([job])
    empty = {name for name, value in row.items() if value == ""}
    assert empty == {
        *("enqueued_at", "started_at", "finished_at", "wait_seconds", "runtime_seconds"),
        *("error_class", "error_message", "fingerprint", "routing_key", "redelivers"),
    }


def test_a_history_that_fails_breaks_the_file_off() -> None:
    def jobs() -> object:
        yield replace(FAILED, finished_at=T0)
        raise JobStoreError("the job history did not answer")

    with pytest.raises(JobStoreError):
        list(csv_of(jobs()))  # type: ignore[arg-type]
