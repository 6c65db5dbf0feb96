"""The route that streams jobs as a file, to a limited number of readers at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from queuescope.dashboard.services import services
from queuescope.dashboard.ui.csv_file import CsvFile
from queuescope.errors import ConfigurationError, JobStoreError

JOBS_CSV = "/queuescope/jobs.csv"
_AT_ONCE = 4
_BEGINS_WITHIN_SECONDS = 8.0


class JobsFile:
    """Sends the newest jobs that match an address, at most ``export.ROWS_LIMIT``.

    Visitors who may not view it do not get here (see ``Admission``).
    """

    def __init__(self) -> None:
        self._running = 0

    async def send(self, request: Request) -> Response:
        store = services().jobs
        if store is None:
            return _refused("No job history is configured; set job_store_url", 404)
        from queuescope.dashboard.jobs.filter import parse_filter  # noqa: PLC0415
        from queuescope.jobs.export import ROWS_LIMIT, csv_of  # noqa: PLC0415
        from queuescope.jobs.search import each_job  # noqa: PLC0415

        try:
            wanted = parse_filter(request.query_params, services().now())
        except ConfigurationError as exc:
            return _refused(str(exc), 400)
        if self._running >= _AT_ONCE:
            return _refused("Too many files are being sent; try again in a moment", 503)
        self._running += 1
        pieces = csv_of(each_job(store, wanted, limit=ROWS_LIMIT))
        beginning = asyncio.ensure_future(asyncio.to_thread(next, pieces))
        is_sent = False
        try:
            # An error before the first piece gets an error response.
            first = await asyncio.wait_for(asyncio.shield(beginning), _BEGINS_WITHIN_SECONDS)
            file = CsvFile(_with(first, pieces), "queuescope-jobs.csv", self._ended)
            is_sent = True
        except JobStoreError as exc:
            return _refused(f"The job history cannot be read: {exc}", 503)
        except TimeoutError:
            return _refused("The job history does not answer in time", 503)
        finally:
            # From here on the file itself releases its place.
            if beginning.done() and not is_sent:
                self._ended()
            elif not is_sent:
                beginning.add_done_callback(self._given_up)
        return file

    def _given_up(self, beginning: asyncio.Future[bytes]) -> None:
        """Release the place of a file that no one waits for any more, now that its thread has
        ended.
        """
        if not beginning.cancelled():
            beginning.exception()
        self._ended()

    def _ended(self) -> None:
        self._running -= 1


def _with(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _refused(sentence: str, status: int) -> Response:
    return PlainTextResponse(f"{sentence}.\n", status, {"Cache-Control": "no-store"})
