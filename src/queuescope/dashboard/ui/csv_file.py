"""A CSV file that is sent while it is made, within time limits."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator

from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

_PIECE_TAKEN_WITHIN_SECONDS = 30.0
_WHOLE_TAKEN_WITHIN_SECONDS = 600.0

logger = logging.getLogger(__name__)


class CsvFile(StreamingResponse):
    """A failure on the way cuts the connection, so that a part does not pass for the whole file. A
    reader who takes too long is cut off as well, since others wait for the place.
    """

    def __init__(self, pieces: Iterator[bytes], name: str, ended: Callable[[], None]) -> None:
        headers = {
            "Cache-Control": "no-store",
            "Content-Disposition": f'attachment; filename="{name}"',
            "X-Content-Type-Options": "nosniff",
        }
        super().__init__(pieces, headers=headers, media_type="text/csv")
        self._ended = ended

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        clock = asyncio.get_running_loop().time
        ends_at = clock() + _WHOLE_TAKEN_WITHIN_SECONDS

        async def send_in_time(message: Message) -> None:
            limit = asyncio.timeout_at(min(clock() + _PIECE_TAKEN_WITHIN_SECONDS, ends_at))
            try:
                async with limit:
                    await send(message)
            except TimeoutError:
                if limit.expired():
                    raise _TooSlowError from None
                raise

        try:
            await super().__call__(scope, receive, send_in_time)
        except _TooSlowError:
            # Since the end is missing, the server cuts the connection.
            logger.warning("a CSV file was cut off: its reader took too long")
        finally:
            self._ended()


class _TooSlowError(Exception):
    """The reader of a file took too long."""
