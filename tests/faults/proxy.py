"""A proxy in front of a real Prometheus that spoils some or all of its responses."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, urlencode, urlsplit

from tests.fault_server import http_response


@dataclass(frozen=True, slots=True)
class Request:
    """One request: its API path without ``/api/v1/``, its form, and all its bytes."""

    method: str
    endpoint: str
    form: dict[str, str]
    raw: bytes

    @property
    def query(self) -> str:
        return self.form.get("query", "")


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request that waits for its response; ``ask`` returns that of Prometheus itself."""

    request: Request
    writer: asyncio.StreamWriter
    ask: Callable[[Request], Awaitable[bytes]]

    async def send(self, answer: bytes) -> None:
        self.writer.write(answer)
        await self.writer.drain()

    async def body(self) -> bytes:
        """The body of Prometheus's own response."""
        head, _, body = (await self.ask(self.request)).partition(b"\r\n\r\n")
        return _unchunked(body) if b"transfer-encoding: chunked" in head.lower() else body


Spoil = Callable[[Exchange], Awaitable[None]]
Concerns = Callable[[Request], bool]


class FaultProxy:
    """Passes requests on to the Prometheus at ``upstream``, except those that are spoilt.

    ``seen`` holds every request since ``forget``, ``spoilt`` counts those that ``spoil`` answered.
    """

    def __init__(self, upstream: int) -> None:
        self.upstream = upstream
        self.seen: list[Request] = []
        self.spoilt = 0
        self._spoil: Spoil | None = None
        self._concerns: Concerns = lambda _: True
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    async def __aenter__(self) -> Self:
        await self.heal()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.refuse()

    def spoil(self, spoil: Spoil, concerns: Concerns = lambda _: True) -> None:
        """Answer the requests that ``concerns`` selects with ``spoil`` from now on."""
        self._spoil, self._concerns = spoil, concerns

    async def heal(self) -> None:
        """Pass everything on, at the same port as before."""
        self._spoil = None
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def refuse(self) -> None:
        """Close the port and every connection."""
        if self._server is not None:
            self._server.close()
            self._server = None
        await self.disconnect()

    async def disconnect(self) -> None:
        """Close every connection; new ones are accepted."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def forget(self) -> None:
        """Reset the counts."""
        self.seen.clear()
        self.spoilt = 0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while True:
                request = await _read(reader)
                self.seen.append(request)
                exchange = Exchange(request, writer, self._ask)
                if self._spoil is not None and self._concerns(request):
                    self.spoilt += 1
                    await self._spoil(exchange)
                else:
                    await exchange.send(await self._ask(request))
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the client has left, Prometheus is down, or the test is over
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _ask(self, request: Request) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.upstream)
        try:
            head, _, body = request.raw.partition(b"\r\n\r\n")
            lines = [
                line
                for line in head.split(b"\r\n")
                if not line.lower().startswith((b"connection:", b"accept-encoding:"))
            ]
            writer.write(b"\r\n".join([*lines, b"Connection: close", b"", body]))
            await writer.drain()
            answer = await reader.read(-1)
        finally:
            writer.close()
        if not answer:
            raise ConnectionResetError
        # The connection to the client is kept.
        return answer.replace(b"Connection: close\r\n", b"", 1)


async def _read(reader: asyncio.StreamReader) -> Request:
    head = await reader.readuntil(b"\r\n\r\n")
    fields = dict(
        line.lower().split(b": ", 1) for line in head.strip().split(b"\r\n")[1:] if b": " in line
    )
    body = await reader.readexactly(int(fields.get(b"content-length", b"0")))
    method, target, _ = head.decode("latin-1").split(" ", 2)
    parts = urlsplit(target)
    form = parse_qs(parts.query) | parse_qs(body.decode())
    endpoint = parts.path.removeprefix("/api/v1/")
    return Request(method, endpoint, {name: v[-1] for name, v in form.items()}, head + body)


def _unchunked(body: bytes) -> bytes:
    whole = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        length = int(size, 16)
        whole += body[:length]
        body = body[length + 2 :]
    return whole


async def reset(exchange: Exchange) -> None:
    """End the connection with a TCP reset."""
    connection = exchange.writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    exchange.writer.transport.abort()
    raise ConnectionResetError


async def swallow(_exchange: Exchange) -> None:
    """Never respond."""
    await asyncio.Event().wait()


def trickle(answer_bytes: int) -> Spoil:
    """The right response, ``answer_bytes`` at once and then a byte at a time, too slowly."""

    async def spoil(exchange: Exchange) -> None:
        answer = http_response(await exchange.body())
        await exchange.send(answer[:answer_bytes])
        for byte in answer[answer_bytes:]:
            await asyncio.sleep(0.05)
            await exchange.send(bytes([byte]))

    return spoil


def say(answer: bytes) -> Spoil:
    """Always the same bytes."""

    async def spoil(exchange: Exchange) -> None:
        await exchange.send(answer)

    return spoil


def hang_up(answer: bytes) -> Spoil:
    """The same bytes, and then the end of the connection."""

    async def spoil(exchange: Exchange) -> None:
        await exchange.send(answer)
        raise ConnectionAbortedError

    return spoil


def alter(change: Callable[[bytes], bytes]) -> Spoil:
    """Prometheus's own response with a changed body. ``change`` returns the complete response."""

    async def spoil(exchange: Exchange) -> None:
        await exchange.send(change(await exchange.body()))

    return spoil


def ask_instead(query: str) -> Spoil:
    """Prometheus's own response to another query: a real rejection."""

    async def spoil(exchange: Exchange) -> None:
        request = exchange.request
        form = request.form | {"query": query}
        body = urlencode(form).encode()
        raw = (
            f"POST /api/v1/{request.endpoint} HTTP/1.1\r\nHost: prometheus\r\n"
            "Content-Type: application/x-www-form-urlencoded\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        ).encode() + body
        await exchange.send(await exchange.ask(Request("POST", request.endpoint, form, raw)))

    return spoil
