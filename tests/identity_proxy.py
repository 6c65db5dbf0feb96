"""A proxy that identifies its users, in its own process, in front of a real dashboard.

It removes identity headers of its visitors, names them in ``X-Forwarded-User``, and connects to
the dashboard from its own address. ``/login?user=ada`` logs in. The file ``users`` lists the users
with access, one per line; its first line is the response for all others: ``401``, or ``302`` to
the login.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from http.cookies import SimpleCookie
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, urlsplit

from tests.ports import free_port

ADDRESS = "127.0.0.2"
_COOKIE = "proxy_session"
_OWN = frozenset({"xforwardeduser", "xforwardedfor", "connection"})


class IdentityProxy:
    """The process, in front of a dashboard on ``upstream``."""

    def __init__(self, directory: Path, upstream: int) -> None:
        self.port = free_port(ADDRESS)
        self.url = f"http://{ADDRESS}:{self.port}"
        self._users = directory / "users"
        self.allow("ada", "eve")
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.identity_proxy"),
                *(str(self.port), str(upstream), str(self._users)),
            ],
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        self._process.stdout.readline()

    def allow(self, *users: str, otherwise: str = "401") -> None:
        """Give access to these users only; ``otherwise`` is the status for all others."""
        self._users.write_text("\n".join([otherwise, *users]), "utf-8")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


async def _serve(port: int, upstream: int, users: Path) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await _answer(reader, writer, upstream, users)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, ADDRESS, port)
    print("listening", flush=True)
    await server.serve_forever()


async def _answer(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, upstream: int, users: Path
) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    request, *lines = head.rstrip("\r\n").split("\r\n")
    headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    address = urlsplit(request.split(" ")[1])
    if address.path == "/login":
        user = parse_qs(address.query)["user"][0]
        writer.write(_response("302 Found", Location="/", **{"Set-Cookie": f"{_COOKIE}={user}"}))
        await writer.drain()
        return
    cookies = SimpleCookie()
    for name, value in headers:
        if name.lower() == "cookie":
            cookies.load(value)
    user = cookies[_COOKIE].value if _COOKIE in cookies else ""
    otherwise, *allowed = (await asyncio.to_thread(users.read_text, "utf-8")).split("\n")
    if user not in allowed:
        refused = {"401": "401 Unauthorized", "302": "302 Found"}[otherwise]
        writer.write(_response(refused, Location="/login?user="))
        await writer.drain()
        return
    upgrades = any(name.lower() == "upgrade" for name, _ in headers)
    # Some servers treat other spellings of a header as the same.
    kept = [pair for pair in headers if "".join(filter(str.isalnum, pair[0].lower())) not in _OWN]
    kept += [
        ("X-Forwarded-User", user),
        ("X-Forwarded-For", writer.get_extra_info("peername")[0]),
        ("Connection", "Upgrade" if upgrades else "close"),
    ]
    said = "\r\n".join([request, *(f"{name}: {value}" for name, value in kept), "", ""])
    back, forth = await asyncio.open_connection("127.0.0.1", upstream, local_addr=(ADDRESS, 0))
    forth.write(said.encode("latin-1"))
    pumps = [asyncio.create_task(_pump(back, writer)), asyncio.create_task(_pump(reader, forth))]
    await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
    for pump in pumps:
        pump.cancel()
    forth.close()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while part := await source.read(65_536):
            sink.write(part)
            await sink.drain()


def _response(status: str, **headers: str) -> bytes:
    lines: Iterable[str] = (f"{name}: {value}" for name, value in headers.items())
    body = "<!DOCTYPE html><title>Proxy</title>Log in."
    return "\r\n".join(
        [
            f"HTTP/1.1 {status}",
            *lines,
            "Content-Type: text/html",
            f"Content-Length: {len(body)}",
            "Connection: close",
            "",
            body,
        ]
    ).encode()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])))
