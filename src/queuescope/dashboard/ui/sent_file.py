"""Files that are sent while they are made, to a limited number of readers, within time limits."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator

from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from queuescope.errors import QueuescopeError

_AT_ONCE = 4
_BEGINS_WITHIN_SECONDS = 8.0
_PIECE_TAKEN_WITHIN_SECONDS = 30.0
_WHOLE_TAKEN_WITHIN_SECONDS = 600.0

logger = logging.getLogger(__name__)


class FileSender:
    """Sends the files that are read from one source, a few at once. ``source`` is its name at the
    beginning of a sentence.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._running = 0

    async def send(self, pieces: Iterator[bytes], name: str, media_type: str) -> Response:
        """The response with the file ``name``; an error before the first piece, and a busy or slow
        source, get a response of their own. ``pieces`` are made in threads.
        """
        if self._running >= _AT_ONCE:
            return refused("Too many files are being sent; try again in a moment", 503)
        self._running += 1
        beginning = asyncio.ensure_future(asyncio.to_thread(next, pieces, b""))
        is_sent = False
        try:
            first = await asyncio.wait_for(asyncio.shield(beginning), _BEGINS_WITHIN_SECONDS)
            file = SentFile(_with(first, pieces), name, media_type, self._ended)
            is_sent = True
        except QueuescopeError as exc:
            return refused(f"{self._source} cannot be read: {exc}", 503)
        except TimeoutError:
            return refused(f"{self._source} does not answer in time", 503)
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


class SentFile(StreamingResponse):
    """A failure on the way cuts the connection, so that a part does not pass for the whole file. A
    reader who takes too long is cut off as well, since others wait for the place.
    """

    def __init__(
        self, pieces: Iterator[bytes], name: str, media_type: str, ended: Callable[[], None]
    ) -> None:
        headers = {
            "Cache-Control": "no-store",
            "Content-Disposition": f'attachment; filename="{name}"',
            "X-Content-Type-Options": "nosniff",
        }
        super().__init__(pieces, headers=headers, media_type=media_type)
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
            logger.warning("a file was cut off: its reader took too long")
        except asyncio.CancelledError:
            # Only a server that stops cancels a response; it would log this as an error of ours.
            logger.warning("a file was cut off: the server is stopping")
        finally:
            self._ended()


def refused(sentence: str, status: int) -> Response:
    """The answer to an address for which there is no file; ``sentence`` has no full stop."""
    return PlainTextResponse(f"{sentence}.\n", status, {"Cache-Control": "no-store"})


def _with(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


class _TooSlowError(Exception):
    """The reader of a file took too long."""
