"""What can go wrong between the page and Prometheus, and what the page must show."""

from __future__ import annotations

import asyncio
import gzip
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import orjson
from tests.fault_server import http_response
from tests.faults.oracles import CANARY, UPSTREAM
from tests.faults.proxy import (
    Exchange,
    Request,
    Spoil,
    alter,
    ask_instead,
    hang_up,
    reset,
    say,
    swallow,
    trickle,
)
from tests.faults.world import panel_of

_IMPATIENT_SECONDS = 3.9
_PATIENT_SECONDS = 10.0
HOSTILE = f"\x1b[31m\u202e{UPSTREAM} <script>alert('{CANARY}')</script>\r\nlevel=info forged=1"


class Scope(StrEnum):
    """Which queries the trouble affects."""

    SOURCE = "source"
    PANEL = "one panel"
    PRESENT = "present values"

    def concerns(self, request: Request) -> bool:
        if self is Scope.SOURCE:
            return True
        if self is Scope.PANEL:
            return request.endpoint == "query_range" and panel_of(request.query) == "latency"
        return request.endpoint == "query" and "queuescope_panel" in request.query


EVERYWHERE = tuple(Scope)
WHOLE = (Scope.SOURCE,)
NOT_PRESENT = (Scope.SOURCE, Scope.PANEL)
ONE_PANEL = (Scope.PANEL,)


@dataclass(frozen=True, slots=True)
class Trouble:
    """A bad response. ``kind`` and ``words`` are the cause that the page must show.

    ``most_spoilt`` limits the queries that forty-one viewers may send to it within a few seconds.
    """

    name: str
    row: str
    kind: str
    words: str
    spoil: Spoil
    scopes: tuple[Scope, ...] = EVERYWHERE
    timeout_seconds: float = _PATIENT_SECONDS
    most_spoilt: int = 12


def _error(status: str, kind: str = "", text: str = HOSTILE, **headers: str) -> bytes:
    body = orjson.dumps({"status": "error", "errorType": kind, "error": text})
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return http_response(body if kind else text.encode(), status=status, headers=named)


def _page(status: str = "200 OK", content_type: str = "text/html") -> bytes:
    body = f"<html><title>{HOSTILE}</title></html>".encode()
    return http_response(body, status=status, content_type=content_type)


def _zipped(change: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    def changed(body: bytes) -> bytes:
        return http_response(change(gzip.compress(body)), headers={"Content-Encoding": "gzip"})

    return changed


def _bomb() -> bytes:
    packer = zlib.compressobj(1, wbits=31)
    body = packer.compress(bytes(32 * 1024 * 1024)) + packer.flush()
    return http_response(body, headers={"Content-Encoding": "gzip"})


async def _endless(exchange: Exchange) -> None:
    await exchange.send(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    while True:
        await exchange.send(chunk)


async def _late(exchange: Exchange) -> None:
    answer = http_response(await exchange.body())
    await asyncio.sleep(_IMPATIENT_SECONDS + 0.5)
    await exchange.send(answer)


_FIRST_VALUE = re.compile(rb',"([^"]+)"\]')


def _first_value(text: bytes) -> Callable[[bytes], bytes]:
    """The first number of a response as other JSON; a response without a number is broken too."""

    def changed(body: bytes) -> bytes:
        found, count = _FIRST_VALUE.subn(b"," + text + b"]", body, count=1)
        return http_response(found if count else b"{")

    return changed


def _repeated_key(body: bytes) -> bytes:
    return http_response(body.replace(b'"data":', b'"data":null,"data":', 1))


def _mostly(share: float) -> Callable[[bytes], bytes]:
    return lambda body: body[: int(len(body) * share)]


_LAST_POINT = re.compile(rb'\[(\d+),"[^"]*"\]\]\}')


def _last_point(text: bytes) -> Callable[[bytes], bytes]:
    """``text`` instead of each series' last point; ``@`` is replaced by its time."""

    def changed(body: bytes) -> bytes:
        return http_response(_LAST_POINT.sub(lambda m: text.replace(b"@", m[1]) + b"]}", body))

    return changed


def _series_twice(body: bytes) -> bytes:
    return http_response(re.sub(rb'("result":\[)(\{.*?\]\]\})', rb"\1\2,\2", body, count=1))


def _native_histograms(body: bytes) -> bytes:
    return http_response(body.replace(b'"values":', b'"histograms":[[1,{}]],"values":', 1))


_NESTED = b'{"status":"success","data":' + b"[" * 200_000

TROUBLES = (
    Trouble(
        "connection reset",
        "connection closed or reset",
        "cannot_connect",
        "without an answer",
        reset,
    ),
    Trouble(
        "connection closed",
        "connection closed or reset",
        "cannot_connect",
        "without an answer",
        hang_up(b""),
    ),
    Trouble(
        "no response",
        "no response, or a slow one",
        "timeout",
        "did not answer within",
        swallow,
        NOT_PRESENT,
        timeout_seconds=_IMPATIENT_SECONDS,
    ),
    Trouble(
        "late response",
        "no response, or a slow one",
        "timeout",
        "did not answer within",
        _late,
        ONE_PANEL,
        timeout_seconds=_IMPATIENT_SECONDS,
    ),
    Trouble(
        "headers byte by byte",
        "no response, or a slow one",
        "timeout",
        "did not answer within",
        trickle(0),
        WHOLE,
        timeout_seconds=_IMPATIENT_SECONDS,
    ),
    Trouble(
        "body byte by byte",
        "no response, or a slow one",
        "timeout",
        "did not answer within",
        trickle(100),
        ONE_PANEL,
        timeout_seconds=_IMPATIENT_SECONDS,
    ),
    Trouble(
        "truncated JSON",
        "truncated or corrupt body",
        "decode",
        "cannot be read",
        alter(lambda body: http_response(_mostly(0.6)(body))),
    ),
    Trouble(
        "shorter than its Content-Length",
        "truncated or corrupt body",
        "decode",
        "cannot be read",
        hang_up(http_response(b'{"status":"success"', content_length=10_000)),
        NOT_PRESENT,
    ),
    Trouble(
        "truncated gzip",
        "truncated or corrupt body",
        "decode",
        "cannot be read",
        alter(_zipped(lambda packed: packed[:-9])),
    ),
    Trouble(
        "corrupt gzip",
        "truncated or corrupt body",
        "decode",
        "cannot be read",
        alter(_zipped(lambda packed: packed[:20] + b"\xff" * 8 + packed[28:])),
        NOT_PRESENT,
    ),
    Trouble(
        "gzip bomb",
        "too large",
        "too_large",
        "more data than this page accepts",
        say(_bomb()),
    ),
    Trouble(
        "huge Content-Length",
        "too large",
        "too_large",
        "more data than this page accepts",
        say(http_response(b"{}", content_length=10**12)),
        NOT_PRESENT,
    ),
    Trouble(
        "endless body",
        "too large",
        "too_large",
        "more data than this page accepts",
        _endless,
        NOT_PRESENT,
    ),
    Trouble(
        "HTML page",
        "not a Prometheus API",
        "not_prometheus",
        "not as a Prometheus API",
        say(_page()),
    ),
    Trouble(
        "HTML page with 404",
        "not a Prometheus API",
        "not_prometheus",
        "not as a Prometheus API",
        say(_page("404 Not Found")),
        NOT_PRESENT,
    ),
    Trouble(
        "JSON as plain text",
        "not a Prometheus API",
        "not_prometheus",
        "not as a Prometheus API",
        alter(lambda body: http_response(body, content_type="text/plain")),
        NOT_PRESENT,
    ),
    Trouble(
        "not HTTP",
        "not a Prometheus API",
        "not_prometheus",
        "not as a Prometheus API",
        hang_up(f"220 {UPSTREAM} ESMTP\r\n\r\n".encode()),
        NOT_PRESENT,
    ),
    Trouble(
        "401",
        "401, 403",
        "authentication",
        "credentials must be checked",
        say(_error("401 Unauthorized")),
        most_spoilt=4,
    ),
    Trouble(
        "403",
        "401, 403",
        "authentication",
        "credentials must be checked",
        say(_error("403 Forbidden", "forbidden")),
        NOT_PRESENT,
        most_spoilt=4,
    ),
    Trouble(
        "429, retry after 30 s",
        "429, 503 with Retry-After",
        "busy",
        "asked to be left alone",
        say(_error("429 Too Many Requests", Retry_After="30")),
        WHOLE,
        most_spoilt=1,
    ),
    Trouble(
        "429, retry after 10^9 s",
        "429, 503 with Retry-After",
        "busy",
        "asked to be left alone",
        say(_error("429 Too Many Requests", Retry_After="1000000000")),
        WHOLE,
        most_spoilt=1,
    ),
    Trouble(
        "429, retry after -5 s",
        "429, 503 with Retry-After",
        "busy",
        "asked to be left alone",
        say(_error("429 Too Many Requests", Retry_After="-5")),
        NOT_PRESENT,
    ),
    Trouble(
        "429, retry after a past date",
        "429, 503 with Retry-After",
        "busy",
        "asked to be left alone",
        say(_error("429 Too Many Requests", Retry_After="Thu, 01 Jan 1970 00:00:00 GMT")),
        NOT_PRESENT,
    ),
    Trouble(
        "429, retry after a future date",
        "429, 503 with Retry-After",
        "busy",
        "asked to be left alone",
        say(_error("429 Too Many Requests", Retry_After="Fri, 31 Dec 9999 23:59:59 GMT")),
        WHOLE,
        most_spoilt=1,
    ),
    Trouble(
        "503, unreadable Retry-After",
        "429, 503 with Retry-After",
        "busy",
        "busy or still starting",
        say(_error("503 Service Unavailable", Retry_After=f"soon {UPSTREAM}")),
        NOT_PRESENT,
    ),
    Trouble(
        "503",
        "429, 503 with Retry-After",
        "busy",
        "busy or still starting",
        say(_error("503 Service Unavailable")),
    ),
    Trouble(
        "502",
        "5xx",
        "cannot_connect",
        "gateway",
        say(_page("502 Bad Gateway")),
        NOT_PRESENT,
    ),
    Trouble(
        "504",
        "5xx",
        "timeout",
        "took too long",
        say(_error("504 Gateway Timeout")),
        NOT_PRESENT,
    ),
    Trouble(
        "500",
        "5xx",
        "server_error",
        "failed while answering",
        say(_error("500 Internal Server Error", "internal")),
        NOT_PRESENT,
    ),
    # Each rejected figure is queried separately, and then whether it was ever measured.
    Trouble(
        "400 bad_data",
        "400 bad_data, 422 execution",
        "bad_data",
        "refused this query",
        ask_instead(f"sum({{{UPSTREAM}"),
        most_spoilt=16,
    ),
    Trouble(
        "422 execution",
        "400 bad_data, 422 execution",
        "execution",
        "could not compute",
        ask_instead("ai_agents_queue_depth + on(env) ai_agents_queue_depth"),
        most_spoilt=16,
    ),
    Trouble(
        "bare NaN",
        "wrong JSON",
        "decode",
        "cannot be read",
        alter(_first_value(b"NaN")),
    ),
    Trouble(
        "bare 1e999",
        "wrong JSON",
        "decode",
        "cannot be read",
        alter(_first_value(b"1e999")),
    ),
    Trouble(
        "text instead of a number",
        "wrong JSON",
        "decode",
        "cannot be read",
        alter(_first_value(f'"{UPSTREAM}"'.encode())),
    ),
    Trouble(
        "duplicate keys",
        "wrong JSON",
        "decode",
        "cannot be read",
        alter(_repeated_key),
    ),
    Trouble(
        "deep nesting",
        "wrong JSON",
        "decode",
        "cannot be read",
        say(http_response(_NESTED)),
    ),
    Trouble(
        "an error with status 200",
        "wrong JSON",
        "decode",
        "cannot be read",
        say(_error("200 OK", "internal")),
        NOT_PRESENT,
    ),
    Trouble(
        "two values for one timestamp",
        "contradictory series",
        "decode",
        "cannot be read",
        alter(_last_point(b'[@,"1"],[@,"2"]')),
        ONE_PANEL,
    ),
    Trouble(
        "a point between the steps",
        "contradictory series",
        "decode",
        "cannot be read",
        alter(_last_point(b'[@.5,"1"]')),
        ONE_PANEL,
    ),
    Trouble(
        "a duplicate series",
        "contradictory series",
        "decode",
        "cannot be read",
        alter(_series_twice),
        ONE_PANEL,
    ),
    Trouble(
        "native histograms",
        "contradictory series",
        "decode",
        "cannot be read",
        alter(_native_histograms),
        ONE_PANEL,
    ),
)
