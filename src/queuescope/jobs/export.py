"""Jobs as CSV (RFC 4180, UTF-8), in which no spreadsheet finds a formula.

A spreadsheet that opens a CSV file evaluates every cell that begins like a formula, and jobs carry
texts of strangers. A text gets an apostrophe wherever some spreadsheet could begin a cell with such
a sign: at its beginning and, because spreadsheets of some countries separate cells by semicolons,
after a semicolon, a tab or a line break within it. Numbers and times are made here, are never
touched, and stand in columns of their own.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from queuescope.jobs.table import Job

ROWS_LIMIT = 100_000
"""How many jobs a file holds at most: the newest."""

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
)
NUMBERS = frozenset({"wait_seconds", "runtime_seconds", "attempts"})

_CHUNK_ROWS = 200
# What a reader may skip before a sign: spaces, quotes and characters that do not show.
_SKIPPED = r"[\s\"\x00-\x20\x7f-\xa0\u00ad\u200b-\u200f\u2028-\u202f\u2060-\u206f\ufeff]*"
_SIGNS = "=+\\-@\uff1d\uff0b\uff0d\uff20\u2212\ufe62\ufe63\ufe66\ufe6b"
_FORMULA = re.compile(rf"(?:\A|(?<=[;\t\r\n])){_SKIPPED}(?=[{_SIGNS}])")
_CONTROL = re.compile(r"\A[\t\r\n]")


def harmless(text: str) -> str:
    """``text`` with apostrophes where a spreadsheet could take it for a formula."""
    if _CONTROL.match(text):
        text = f"'{text}"
    return _FORMULA.sub(r"\g<0>'", text)


def csv_of(jobs: Iterable[Job]) -> Iterator[bytes]:
    """The file in pieces, the names of its columns first. Times are ISO 8601 in UTC, what is not
    known is empty. Raises what ``jobs`` raises, and is then a file that breaks off.
    """
    held = io.StringIO()
    writer = csv.writer(held, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for number, job in enumerate(jobs, 1):
        writer.writerow(_cells(job))
        if number % _CHUNK_ROWS == 0:
            yield _taken(held)
    yield _taken(held)


def _taken(held: io.StringIO) -> bytes:
    piece = held.getvalue().encode("utf-8", "backslashreplace")
    held.seek(0)
    held.truncate()
    return piece


def _cells(job: Job) -> list[str]:
    return [
        harmless(job.id),
        job.status.value,
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
