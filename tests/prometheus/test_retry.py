"""What is retried, what is not, and how long the waits are."""

from __future__ import annotations

import asyncio
import random

import pytest
from tests.fault_server import FaultServer, http_response
from tests.ports import free_port

from queuescope.errors import SourceError, SourceErrorKind
from queuescope.prometheus import PrometheusClient
from queuescope.prometheus.retry import Retry

pytestmark = pytest.mark.anyio

KIND = SourceErrorKind
ANSWER = http_response(b'{"status":"success","data":{"resultType":"scalar","result":[1000,"42"]}}')
GAVE_UP = b'{"status":"error","errorType":"timeout","error":"too long"}'
BROKEN = b'{"status":"error","errorType":"bad_data","error":"wrong"}'


class Flaky:
    """Responds with ``bad`` to ``times`` requests, then correctly; b"" closes the connection."""

    def __init__(self, bad: bytes, times: int) -> None:
        self._bad = bad
        self._left = times

    async def __call__(self, _: bytes, writer: asyncio.StreamWriter) -> None:
        self._left -= 1
        writer.write(self._bad if self._left >= 0 else ANSWER)
        if self._left >= 0 and (not self._bad or b"\r\nConnection: close" in self._bad):
            writer.close()


def _status(status: str, body: bytes = b"", **headers: str) -> bytes:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return http_response(body, status=status, headers=named)


CUT = http_response(b'{"status":', content_length=500, headers={"Connection": "close"})
PASSING = {
    "502": _status("502 Bad Gateway"),
    "503": _status("503 Service Unavailable"),
    "504": _status("504 Gateway Timeout"),
    "429": _status("429 Too Many Requests"),
    "429 at once": _status("429 Too Many Requests", Retry_After="0"),
    "closed": b"",
    "cut body": CUT,
}
LASTING = {
    "400": _status("400 Bad Request", BROKEN),
    "401": _status("401 Unauthorized"),
    "403": _status("403 Forbidden"),
    "404": _status("404 Not Found"),
    "422": _status("422 Unprocessable Entity", BROKEN),
    "500": _status("500 Internal Server Error"),
    "302": _status("302 Found", Location="http://127.0.0.1:1/"),
    "a query given up": _status("503 Service Unavailable", GAVE_UP),
    "429 for an hour": _status("429 Too Many Requests", Retry_After="3600"),
    "no JSON": http_response(b"nonsense"),
    "a page": http_response(b"<html>", content_type="text/html"),
}


@pytest.mark.parametrize("fault", PASSING)
@pytest.mark.parametrize("times", [1, 2])
async def test_a_passing_fault_is_not_seen(fault: str, times: int) -> None:
    async with (
        FaultServer(Flaky(PASSING[fault], times)) as server,
        PrometheusClient(server.url) as client,
    ):
        assert (await client.query("up")).samples[0].value == 42.0
        assert len(server.requests) == times + 1


@pytest.mark.parametrize("fault", PASSING)
async def test_a_fault_that_stays_is_told_after_three_requests(fault: str) -> None:
    async with (
        FaultServer(Flaky(PASSING[fault], 100)) as server,
        PrometheusClient(server.url) as client,
    ):
        with pytest.raises(SourceError):
            await client.query("up")
        assert len(server.requests) == 3


@pytest.mark.parametrize("fault", LASTING)
async def test_a_fault_that_asking_again_does_not_mend_costs_one_request(fault: str) -> None:
    async with (
        FaultServer(Flaky(LASTING[fault], 1)) as server,
        PrometheusClient(server.url) as client,
    ):
        with pytest.raises(SourceError):
            await client.query("up")
        assert len(server.requests) == 1


async def test_a_server_that_comes_up_within_the_call_is_reached() -> None:
    port = free_port()
    async with PrometheusClient(
        f"http://127.0.0.1:{port}", retry=Retry(attempts=100, base_seconds=0.02)
    ) as client:
        asked = asyncio.create_task(client.query("up"))
        await asyncio.sleep(0.2)
        assert not asked.done()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(ANSWER)
            await reader.read()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", port)
        async with server:
            assert (await asked).samples[0].value == 42.0
            await client.aclose()


async def test_retries_do_not_outlast_the_deadline_and_keep_the_cause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The second would end after the deadline.
    waits = iter([0.1, 1000.0])
    monkeypatch.setattr(random, "uniform", lambda _least, most: next(waits, most))
    async with (
        FaultServer(PASSING["502"]) as server,
        PrometheusClient(
            server.url, timeout_seconds=30, retry=Retry(attempts=10**6, longest_seconds=10**6)
        ) as client,
    ):
        with pytest.raises(SourceError) as caught:
            await client.query("up")
    assert caught.value.kind is KIND.CANNOT_CONNECT


async def test_a_dead_source_costs_nothing_until_the_next_trial() -> None:
    now = 1000.0
    async with (
        FaultServer(PASSING["502"]) as server,
        PrometheusClient(server.url, clock=lambda: now) as client,
    ):
        for _ in range(50):
            with pytest.raises(SourceError, match="does not reach it"):
                await client.now()
        assert len(server.requests) == 3
        assert client.breaker_state == "open"

        now += 60
        for _ in range(50):
            with pytest.raises(SourceError, match="does not reach it"):
                await client.query("up")
        assert len(server.requests) == 4


async def test_a_source_that_recovers_is_asked_again_by_everybody() -> None:
    now = 1000.0
    async with (
        FaultServer(Flaky(PASSING["502"], 3)) as server,
        PrometheusClient(server.url, clock=lambda: now) as client,
    ):
        with pytest.raises(SourceError):
            await client.now()
        now += 60
        for _ in range(5):
            assert (await client.query("up")).samples[0].value == 42.0
        assert client.breaker_state == "closed"
        assert len(server.requests) == 8


async def test_a_wait_that_a_busy_source_names_is_kept_between_questions() -> None:
    now = 1000.0
    async with (
        FaultServer(Flaky(LASTING["429 for an hour"], 1)) as server,
        PrometheusClient(server.url, clock=lambda: now) as client,
    ):
        for _ in range(20):
            with pytest.raises(SourceError, match="left alone") as caught:
                await client.query("up")
            assert 290 < (caught.value.retry_after_seconds or 0) <= 301
        assert len(server.requests) == 1
        now += 299
        with pytest.raises(SourceError):
            await client.query("up")
        assert len(server.requests) == 1
        now += 2
        assert (await client.query("up")).samples[0].value == 42.0


def test_the_waits_are_random_below_a_bound_that_doubles() -> None:
    retry = Retry(attempts=9, base_seconds=0.1, longest_seconds=1.0)
    for failed, bound in ((1, 0.1), (2, 0.2), (3, 0.4), (4, 0.8), (5, 1.0), (8, 1.0)):
        waits = [retry.wait_seconds(failed, None, 1e9) for _ in range(300)]
        known = [wait for wait in waits if wait is not None]
        assert len(known) == 300
        assert 0 <= min(known) < 0.2 * bound
        assert 0.8 * bound < max(known) <= bound
    assert retry.wait_seconds(9, None, 1e9) is None


@pytest.mark.parametrize(
    ("retry_after_seconds", "remaining_seconds", "waits"),
    [
        (0.5, 5.0, True),
        (0.5, 0.4, False),
        (1.5, 100.0, True),
        (2.1, 100.0, False),
        (None, 0, False),
    ],
)
def test_a_named_wait_is_kept_where_it_fits_and_else_told(
    retry_after_seconds: float | None, remaining_seconds: float, waits: bool
) -> None:
    wait = Retry().wait_seconds(1, retry_after_seconds, remaining_seconds)
    assert waits == (wait is not None)
    if wait is not None:
        assert wait >= (retry_after_seconds or 0)
