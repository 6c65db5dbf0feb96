"""A file that is sent while it is made. Its limits are tested with the files themselves."""

from __future__ import annotations

import asyncio

import pytest
from starlette.types import Message

from queuescope.dashboard.ui.sent_file import SentFile


@pytest.mark.anyio
@pytest.mark.parametrize("version", ["2.3", "2.4"])
async def test_a_server_that_stops_cuts_a_file_off_without_an_error(
    version: str, caplog: pytest.LogCaptureFixture
) -> None:
    ended: list[bool] = []
    sent: list[Message] = []
    is_reading = asyncio.Event()

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError("the reader says nothing and stays")

    async def take(message: Message) -> None:
        sent.append(message)
        if message["type"] == "http.response.body":
            is_reading.set()
            await asyncio.Event().wait()

    file = SentFile(iter([b"a", b"b"]), "jobs.csv", "text/csv", lambda: ended.append(True))
    scope = {"type": "http", "method": "GET", "asgi": {"spec_version": version}}
    response = asyncio.ensure_future(file(scope, receive, take))
    await is_reading.wait()
    response.cancel()
    await response
    assert ended == [True]
    assert all(message.get("more_body", True) for message in sent)
    assert caplog.messages == ["a file was cut off: the server is stopping"]
