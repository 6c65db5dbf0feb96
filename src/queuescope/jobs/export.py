"""Exports jobs as CSV (RFC 4180, UTF-8) without cells that a spreadsheet evaluates.

Numbers and times are formatted here and need no escaping.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from queuescope.csv_cells import harmless
from queuescope.jobs.job import Job

ROWS_LIMIT = 100_000
"""The most jobs in a file: the newest ones."""

COLUMNS = (
    "id",
    "status",
    "name",
    "tenant",
    "queue",
    "worker",
    "enqueued_at",
    "started_at",
    "finished_at",
    "wait_seconds",
    "runtime_seconds",
    "attempts",
    "error_class",
    "error_message",
    "fingerprint",
    "routing_key",
    "redelivers",
    "deliveries",
)
NUMBERS = frozenset({"wait_seconds", "runtime_seconds", "attempts", "deliveries"})

_CHUNK_ROWS = 200


def csv_of(jobs: Iterable[Job]) -> Iterator[bytes]:
    """The file in pieces, starting with the column names. Times are ISO 8601 in UTC, unknown values
    are empty. Raises what ``jobs`` raises; the file is incomplete then.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for number, job in enumerate(jobs, 1):
        writer.writerow(_cells(job))
        if number % _CHUNK_ROWS == 0:
            yield _drained(buffer)
    yield _drained(buffer)


def _drained(buffer: io.StringIO) -> bytes:
    piece = buffer.getvalue().encode("utf-8", "backslashreplace")
    buffer.seek(0)
    buffer.truncate()
    return piece


def _cells(job: Job) -> list[str]:
    return [
        harmless(job.id),
        harmless(job.status),
        harmless(job.name),
        harmless(job.tenant),
        harmless(job.queue),
        harmless(job.worker),
        _time(job.enqueued_at),
        _time(job.started_at),
        _time(job.finished_at),
        _number(job.wait_seconds),
        _number(job.runtime_seconds),
        str(job.attempts),
        harmless(job.error_class),
        harmless(job.error_message),
        job.fingerprint,
        harmless(job.routing_key),
        "" if job.redelivers is None else str(job.redelivers).lower(),
        str(job.deliveries),
    ]


def _time(at: float | None) -> str:
    if at is None:
        return ""
    try:
        when = datetime.fromtimestamp(at, UTC)
    except (ValueError, OverflowError, OSError):
        return ""
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _number(value: float | None) -> str:
    return "" if value is None or not math.isfinite(value) else repr(value)
