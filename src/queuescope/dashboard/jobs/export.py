"""The route of the file of jobs."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from queuescope.dashboard.services import services
from queuescope.dashboard.ui.sent_file import FileSender, refused
from queuescope.errors import ConfigurationError

JOBS_CSV = "/queuescope/jobs.csv"


class JobsFile:
    """Sends the newest jobs that match an address, at most ``export.ROWS_LIMIT``.

    Visitors who may not view it do not get here (see ``Admission``).
    """

    def __init__(self) -> None:
        self._files = FileSender("The job history")

    async def send(self, request: Request) -> Response:
        store = services().jobs
        if store is None:
            return refused("No job history is configured; set job_store_url", 404)
        from queuescope.dashboard.jobs.filter import parse_filter  # noqa: PLC0415
        from queuescope.jobs.export import ROWS_LIMIT, csv_of  # noqa: PLC0415
        from queuescope.jobs.search import each_job  # noqa: PLC0415

        try:
            wanted = parse_filter(request.query_params, services().now())
        except ConfigurationError as exc:
            return refused(str(exc), 400)
        pieces = csv_of(each_job(store, wanted, limit=ROWS_LIMIT))
        return await self._files.send(pieces, "queuescope-jobs.csv", "text/csv")
