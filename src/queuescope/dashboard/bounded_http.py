"""Limits on how much an unidentified connection may send, and how long it may take.

uvicorn's own protocol collects the head of a request whatever its length, and waits forever for it,
for a body, and for the reader of a response. So anyone who reaches the port could use up its memory
or all its connections, before hosts and logins are checked.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, TimerHandle, Transport
from collections.abc import Callable
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

# The cookies of a login with many groups are longer than the 8 KiB that is usual elsewhere.
LONGEST_HEAD = 65_536
# Bytes are counted outside the parser, which does not expose an unfinished header, in slices of
# this size.
_SLICE = 4096
_NOT_TO_BE_SHOWN = (
    b"cache-control: no-store\r\n"
    b"content-security-policy: frame-ancestors 'none'\r\n"
    b"cross-origin-resource-policy: same-origin\r\n"
    b"referrer-policy: same-origin\r\n"
    b"x-content-type-options: nosniff\r\n"
    b"x-frame-options: DENY\r\n"
)


class BoundedHttp(HttpToolsProtocol):
    """uvicorn's protocol with limits. A client that exceeds one gets an error response if possible,
    and its connection is closed.

    Sizes are of bytes as they come, to within 4 KiB; times are in seconds:

    * ``longest_head``, ``head_seconds``: a request's line and headers; the time begins with the
      connection or, later, with the first byte that follows an answer.
    * ``longest_body``, ``body_seconds``: what follows them, trailers included. The dashboard is
      sent nothing but small ones.
    * ``stalled_seconds``, ``stalled_bytes``: a connection with an answer on its way is closed when
      its reader took less than so much in that time. The slowest telephone takes many times more.

    """

    longest_head = LONGEST_HEAD
    longest_body = 2 * 1024 * 1024
    head_seconds = 10.0
    body_seconds = 30.0
    stalled_seconds = 60.0
    stalled_bytes = 16_384
    checks_while_stalled = 12
    """How often within ``stalled_seconds`` the unsent bytes are checked."""

    linger_seconds = 2.0
    """How long further input is read and dropped: if the connection were closed earlier, the
    refusal could be lost on the way.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._deadline: TimerHandle | None = None
        self._check: TimerHandle | None = None
        self._begun = False
        self._in_body = False
        self._received = 0
        self._is_refused = False
        self._unsent = 0
        self._taken = 0
        self._checks = 0

    # Connection

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._within(self.head_seconds, self._head_is_late)
        self._check_later()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self) -> None:
        """From here on the connection belongs to the websocket protocol, which has its
        own pings.
        """
        self._stop()
        super().handle_websocket_upgrade()

    # What is received

    def data_received(self, data: bytes) -> None:
        for start in range(0, len(data), _SLICE):
            if self._is_refused or self.transport.is_closing():
                return
            piece = data[start : start + _SLICE]
            super().data_received(piece)
            if self.parser.should_upgrade() and not self._in_body:
                return
            self._received += len(piece)
            if self._in_body and self._received > self.longest_body:
                self._refuse(413, "The body of the request is too long.")
            elif not self._in_body and self._received > self.longest_head + _SLICE:
                self._refuse(431, "The headers of the request are too long.")
        self._expect_head()

    def _expect_head(self) -> None:
        """Set the deadline for a head that has begun, or for anything else that was sent."""
        is_idle = self.cycle is None or self.cycle.response_complete
        if (
            self._deadline is None
            and not self._in_body
            and (self._begun or is_idle)
            # A connection that we are not reading from at the moment is not late.
            and not self.flow.read_paused
            and not self._is_refused
        ):
            self._within(self.head_seconds, self._head_is_late)

    def on_message_begin(self) -> None:
        self._begun = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._in_body = True
        self._received = 0
        self._within(self.body_seconds, self._body_is_late)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._begun = self._in_body = False
        self._received = 0
        self._end_deadline()

    def _head_is_late(self) -> None:
        if self._begun:
            self._refuse(408, "The headers of the request did not come in time.")
        else:
            self.transport.close()

    def _body_is_late(self) -> None:
        self._refuse(408, "The body of the request did not come in time.")

    # What is refused

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, msg)

    def _refuse(self, status: int, sentence: str) -> None:
        """Answer the request that is being received, and accept no other. If a response is already
        on its way, or was sent early, nothing may be written into or after it: the connection is
        cut off.
        """
        if self._is_refused:
            return
        self._is_refused = True
        self._end_deadline()
        self._unset_keepalive_if_required()
        cycle = self.cycle
        if self._in_body:
            can_answer = cycle is None or not (cycle.response_started or self.pipeline)
        else:
            can_answer = cycle is None or cycle.response_complete
        if self.transport.is_closing() or not can_answer:
            self.transport.abort()
            return
        if cycle is not None:
            # Whatever the application still sends is dropped.
            cycle.disconnected = True
            cycle.message_event.set()
        body = f"{sentence}\n".encode("ascii")
        self.transport.write(
            STATUS_LINE[status]
            + b"".join(b"%b: %b\r\n" % header for header in self.server_state.default_headers)
            + _NOT_TO_BE_SHOWN
            + b"content-type: text/plain; charset=utf-8\r\n"
            + b"content-length: %d\r\nconnection: close\r\n\r\n" % len(body)
            + body
        )
        if self.transport.can_write_eof():
            self.transport.write_eof()
        # Paused input is read too, so that it does not block the response.
        self.flow.resume_reading()
        self._within(self.linger_seconds, self.transport.abort)

    # What is sent

    def resume_writing(self) -> None:
        super().resume_writing()
        self._taken = self.stalled_bytes

    def _check_later(self) -> None:
        self._check = self.loop.call_later(
            self.stalled_seconds / self.checks_while_stalled, self._check_unsent
        )

    def _check_unsent(self) -> None:
        """Only the unsent bytes can be seen, not the sent ones, and they may fall and rise between
        two checks. So a reader counts as slow only if the unsent bytes hardly fell in many checks,
        and never reached 0.
        """
        unsent = self.transport.get_write_buffer_size()
        self._taken += max(0, self._unsent - unsent)
        self._unsent = unsent
        self._checks += 1
        if unsent == 0 or self._taken >= self.stalled_bytes:
            self._checks = self._taken = 0
        elif self._checks > self.checks_while_stalled:
            self.transport.abort()
            return
        self._check_later()

    # Time

    def _within(self, seconds: float, then: Callable[[], None]) -> None:
        self._end_deadline()
        self._deadline = self.loop.call_later(seconds, then)

    def _end_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _stop(self) -> None:
        self._end_deadline()
        if self._check is not None:
            self._check.cancel()
            self._check = None
