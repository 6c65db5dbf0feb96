"""A gateway in front of a real server that lets only some requests through."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

from tests.fault_server import FaultServer, http_response

Allows = Callable[[str, dict[str, list[str]]], bool]
"""Whether a request may pass, from its path and the parameters of its address."""


def gateway(port: int, allows: Allows) -> FaultServer:
    """A server in front of the one on ``port``; blocked requests get a 404 that does not come from
    Prometheus. Use it as an asynchronous context manager.
    """

    async def respond(request: bytes, writer: asyncio.StreamWriter) -> None:
        target = urlsplit(request.split(b" ", 2)[1].decode())
        if not allows(target.path, parse_qs(target.query)):
            writer.write(http_response(b"not here", status="404 Not Found", content_type="text/x"))
            await writer.drain()
            return
        reader, upstream = await asyncio.open_connection("127.0.0.1", port)
        upstream.write(request.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
        answer = await reader.read()
        upstream.close()
        writer.write(answer)
        await writer.drain()
        writer.close()

    return FaultServer(respond)
