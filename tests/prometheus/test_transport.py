"""Whatever a server does, a call ends in time, within its memory limit, with a plain message."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import tracemalloc
import zlib
from email.utils import formatdate

import pytest
from tests.fault_server import FaultServer, Respond, http_response
from tests.ports import free_port

from queuescope.errors import ConfigurationError, SourceError, SourceErrorKind
from queuescope.prometheus import PrometheusClient
from queuescope.prometheus.failures import plain_text
from queuescope.timeseries import Grid

pytestmark = pytest.mark.anyio

KIND = SourceErrorKind
TOKEN = "s3cret-token"
SCALAR = json.dumps(
    {"status": "success", "data": {"resultType": "scalar", "result": [1000, "42"]}}
).encode()
GZIP = {"Content-Encoding": "gzip"}
_TOO_LARGE = (
    "Prometheus sent more data than this page accepts; choose a shorter range, or let the "
    "panel's query aggregate its series"
)


async def failure(
    respond: Respond | bytes, *, timeout_seconds: float = 10.0, max_body_bytes: int = 1_000_000
) -> SourceError:
    """The error of an instant query to such a server."""
    async with FaultServer(respond) as server:
        client = PrometheusClient(
            server.url,
            token=TOKEN,
            timeout_seconds=timeout_seconds,
            max_body_bytes=max_body_bytes,
        )
        async with client:
            with pytest.raises(SourceError) as caught:
                await client.query("up")
    error = caught.value
    shown = str(error) + error.detail
    assert TOKEN not in shown
    assert server.url not in str(error)
    assert "\n" not in shown
    assert len(error.detail) <= 300
    return error


def api_error(status: str, error_type: str, error: str = "why", **headers: str) -> bytes:
    body = json.dumps({"status": "error", "errorType": error_type, "error": error}).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return http_response(body, status=status, headers=named)


async def answer(body: bytes, **headers: str) -> float:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with (
        FaultServer(http_response(body, headers=named)) as server,
        PrometheusClient(server.url) as client,
    ):
        return (await client.query("up")).samples[0].value


async def test_a_plain_and_a_gzipped_answer_are_read() -> None:
    assert await answer(SCALAR) == 42.0
    assert await answer(gzip.compress(SCALAR), Content_Encoding="gzip") == 42.0


async def test_an_answer_larger_than_one_piece_is_read_whole() -> None:
    padded = SCALAR[:-1] + b', "padding": "' + b"x" * 3_000_000 + b'"}'
    assert await answer(padded) == 42.0
    assert await answer(gzip.compress(padded), Content_Encoding="gzip") == 42.0


async def test_a_refused_connection_and_an_unknown_host_cannot_be_connected_to() -> None:
    for url in (f"http://127.0.0.1:{free_port()}", "http://no-such-host.invalid:9090"):
        async with PrometheusClient(url) as client:
            with pytest.raises(SourceError, match="does not accept connections") as caught:
                await client.query("up")
        assert KIND.CANNOT_CONNECT is caught.value.kind


async def test_a_connection_that_is_closed_or_reset_cannot_be_connected_to() -> None:
    async def close(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async def reset(_: bytes, writer: asyncio.StreamWriter) -> None:
        linger_no_time = b"\x01\x00\x00\x00\x00\x00\x00\x00"
        writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, linger_no_time
        )
        writer.transport.abort()

    assert KIND.CANNOT_CONNECT is (await failure(close)).kind
    assert KIND.CANNOT_CONNECT is (await failure(reset)).kind


async def test_a_server_that_never_answers_is_given_up() -> None:
    async def silence(_: bytes, _writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(3600)

    error = await failure(silence, timeout_seconds=0.3)
    assert (error.kind, str(error)) == (KIND.TIMEOUT, "Prometheus did not answer within 0.3 s")


@pytest.mark.parametrize("part", ["head", "body"])
async def test_a_trickle_does_not_outlast_the_deadline(part: str) -> None:
    async def trickle(_: bytes, writer: asyncio.StreamWriter) -> None:
        whole = http_response(SCALAR)
        at_once = 0 if part == "head" else whole.index(b"\r\n\r\n") + 4
        writer.write(whole[:at_once])
        for byte in whole[at_once:]:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.1)

    assert KIND.TIMEOUT is (await failure(trickle, timeout_seconds=0.5)).kind


async def test_the_pieces_of_a_split_query_share_one_deadline() -> None:
    step = 15
    served = 0

    async def slow(_: bytes, writer: asyncio.StreamWriter) -> None:
        nonlocal served
        await asyncio.sleep(0.3)
        body = b'{"status":"success","data":{"resultType":"matrix","result":[]}}'
        writer.write(http_response(body))
        served += 1

    async with (
        FaultServer(slow) as server,
        PrometheusClient(server.url, timeout_seconds=0.5) as client,
    ):
        with pytest.raises(SourceError, match="did not answer within") as caught:
            await client.query_range("up", Grid(0, 110_000 * step, step))
    assert KIND.TIMEOUT is caught.value.kind
    assert served < 11, "all pieces were answered, each in its own time"


async def test_a_cut_body_is_an_error() -> None:
    async def cut(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(http_response(SCALAR, content_length=len(SCALAR) + 50))
        writer.close()

    async def cut_without_length(_: bytes, writer: asyncio.StreamWriter) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"
        writer.write(head + SCALAR[:-5])
        writer.close()

    assert KIND.DECODE is (await failure(cut)).kind
    assert KIND.DECODE is (await failure(cut_without_length)).kind


@pytest.mark.parametrize("missing_bytes", [1, 8, 12])
async def test_a_cut_gzip_stream_is_an_error_even_when_all_of_its_text_came(
    missing_bytes: int,
) -> None:
    body = gzip.compress(SCALAR)[:-missing_bytes]
    assert KIND.DECODE is (await failure(http_response(body, headers=GZIP))).kind


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (b"this is no gzip", "gzip"),
        (gzip.compress(SCALAR, mtime=0) + b"more", "gzip"),
        (b"", "gzip"),
        (SCALAR, "br"),
        (zlib.compress(SCALAR), "deflate"),
    ],
)
async def test_a_broken_or_unasked_for_encoding_is_an_error(body: bytes, encoding: str) -> None:
    response = http_response(body, headers={"Content-Encoding": encoding})
    assert KIND.DECODE is (await failure(response)).kind


async def test_a_gzip_bomb_is_refused_before_it_fills_the_memory() -> None:
    packer = zlib.compressobj(wbits=31)
    spaces = b" " * 1_000_000
    bomb = b"".join(packer.compress(spaces) for _ in range(300)) + packer.flush()
    assert len(bomb) < 400_000
    response = http_response(bomb, headers=GZIP)
    tracemalloc.start()
    try:
        error = await failure(response, max_body_bytes=4_000_000, timeout_seconds=60)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (
        error.kind,
        str(error),
    ) == (KIND.TOO_LARGE, _TOO_LARGE)
    assert peak_bytes < 20_000_000


async def test_a_body_that_is_announced_or_grows_too_large_is_refused() -> None:
    async def endless(_: bytes, writer: asyncio.StreamWriter) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"
        writer.write(head)
        while True:
            writer.write(b" " * 65_536)
            await writer.drain()

    announced = http_response(b"{}", content_length=2_000_000)
    assert KIND.TOO_LARGE is (await failure(announced)).kind
    assert KIND.TOO_LARGE is (await failure(endless)).kind


@pytest.mark.parametrize(
    "response",
    [
        http_response(b"<html>login</html>", content_type="text/html"),
        http_response(SCALAR, content_type="text/plain"),
        http_response(SCALAR, content_type=""),
        http_response(b"404 page not found", status="404 Not Found", content_type="text/plain"),
        http_response(b"<html>", status="400 Bad Request", content_type="text/html"),
        http_response(status="405 Method Not Allowed"),
        http_response(status="204 No Content"),
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    ],
)
async def test_what_is_no_prometheus_api_is_called_so(response: bytes) -> None:
    error = await failure(response)
    assert (
        error.kind,
        str(error),
    ) == (KIND.NOT_PROMETHEUS, "The address answers, but not as a Prometheus API")


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"])
async def test_a_redirect_is_not_followed(status: str) -> None:
    async with FaultServer(http_response(SCALAR)) as elsewhere:
        location = {"Location": f"{elsewhere.url}/api/v1/query"}
        error = await failure(http_response(status=status, headers=location))
        assert KIND.NOT_PROMETHEUS is error.kind
        assert elsewhere.connections == 0


@pytest.mark.parametrize(
    ("response", "kind"),
    [
        (http_response(b"no", status="401 Unauthorized"), KIND.AUTHENTICATION),
        (http_response(b"no", status="403 Forbidden"), KIND.AUTHENTICATION),
        (api_error("400 Bad Request", "bad_data"), KIND.BAD_DATA),
        (api_error("422 Unprocessable Entity", "execution"), KIND.EXECUTION),
        (api_error("422 Unprocessable Entity", "422"), KIND.BAD_DATA),
        (api_error("503 Service Unavailable", "timeout"), KIND.TIMEOUT),
        (api_error("503 Service Unavailable", "canceled"), KIND.TIMEOUT),
        (api_error("503 Service Unavailable", "unavailable"), KIND.BUSY),
        (http_response(b"starting", status="503 Service Unavailable"), KIND.BUSY),
        (http_response(b"slow", status="429 Too Many Requests"), KIND.BUSY),
        (http_response(b"gateway", status="502 Bad Gateway"), KIND.CANNOT_CONNECT),
        (http_response(b"gateway", status="504 Gateway Timeout"), KIND.TIMEOUT),
        (api_error("500 Internal Server Error", "internal"), KIND.SERVER_ERROR),
        (
            http_response(gzip.compress(b"x", mtime=0)[:9], status="500 No", headers=GZIP),
            KIND.SERVER_ERROR,
        ),
    ],
)
async def test_a_status_has_its_kind(response: bytes, kind: SourceErrorKind) -> None:
    assert kind is (await failure(response)).kind


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        ("0", 0.0),
        ("-5", 0.0),
        ("1000000000", 300.0),
        ("1e999", 300.0),
        ("nan", None),
        ("soon", None),
        (formatdate(0), 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 300.0),
        ("Mon, 99 Foo 2026 99:99:99 GMT", None),
    ],
)
async def test_retry_after_is_kept_between_zero_and_five_minutes(
    value: str, seconds: float | None
) -> None:
    response = http_response(status="429 Too Many Requests", headers={"Retry-After": value})
    assert seconds == (await failure(response)).retry_after_seconds


async def test_the_words_of_the_source_are_kept_for_the_log_only_and_made_harmless() -> None:
    hostile = f"\x1b[31m\u202egnp.exe\nline {TOKEN} " + "x" * 1000
    error = await failure(api_error("400 Bad Request", "bad_data", hostile))
    assert str(error) == "Prometheus refused this query as wrong"
    assert error.detail.startswith(r"HTTP 400: bad_data: \x1b[31m\u202egnp.exe\nline ***")


def test_plain_text_escapes_what_could_forge_a_line_and_caps_the_length() -> None:
    assert plain_text("a\nb\x1b\u202e") == r"a\nb\x1b\u202e"
    assert len(plain_text("\n" * 1000)) == 300


async def test_get_is_used_when_post_is_not_allowed_and_remembered() -> None:
    async def get_only(request: bytes, writer: asyncio.StreamWriter) -> None:
        allowed = request.startswith(b"GET ")
        status = "200 OK" if allowed else "405 Method Not Allowed"
        writer.write(http_response(SCALAR if allowed else b"", status=status))

    async with FaultServer(get_only) as server, PrometheusClient(server.url) as client:
        for _ in range(2):
            assert (await client.query('up{a="b&c"}')).samples[0].value == 42.0
    assert [request.split()[0] for request in server.requests] == [b"POST", b"GET", b"GET"]
    assert b"query=up%7Ba%3D%22b%26c%22%7D" in server.requests[-1].split()[1]


async def test_a_kept_connection_that_was_closed_is_replaced_once() -> None:
    served = 0

    async def answer_once_per_connection(_: bytes, writer: asyncio.StreamWriter) -> None:
        nonlocal served
        served += 1
        if served == 2:
            writer.close()  # the request has arrived, and no response is sent
        else:
            writer.write(http_response(SCALAR))

    async with (
        FaultServer(answer_once_per_connection) as server,
        PrometheusClient(server.url) as client,
    ):
        for _ in range(2):
            assert (await client.query("up")).samples[0].value == 42.0
    assert (len(server.requests), server.connections) == (3, 2)


async def test_nothing_else_is_tried_twice() -> None:
    async with (
        FaultServer(http_response(status="500 No")) as server,
        PrometheusClient(server.url) as client,
    ):
        for _ in range(2):
            with pytest.raises(SourceError):
                await client.query("up")
    assert len(server.requests) == 2


async def test_the_token_and_extra_headers_are_sent_below_the_path_of_the_url() -> None:
    async with FaultServer(http_response(SCALAR)) as server:
        url = f"{server.url}/tenant/prometheus/"
        headers = {"X-Scope-OrgID": "blue"}
        async with PrometheusClient(url, token=TOKEN, headers=headers) as client:
            await client.query("up")
    (request,) = server.requests
    assert request.startswith(b"POST /tenant/prometheus/api/v1/query HTTP/1.1")
    lower = request.lower()
    assert b"authorization: bearer s3cret-token" in lower
    assert b"x-scope-orgid: blue" in lower


async def test_only_what_may_be_large_is_asked_for_compressed() -> None:
    """Compression costs the server more than a small response."""
    asked = {}
    async with (
        FaultServer(api_error("400 No", "bad_data")) as server,
        PrometheusClient(server.url) as client,
    ):
        for name, question in {
            "instant": client.query("up"),
            "edge of a range": client.query_range("up", Grid(0, 900, 60)),
            "range": client.query_range("up", Grid(0, 960, 60)),
            "rules": client.rules(),
            "runtime": client.runtimeinfo(),
            "names": client.label_values("queue", (), 0, 1),
            "series": client.series(("up",), 0, 1),
        }.items():
            with pytest.raises(SourceError):
                await question
            asked[name] = b"accept-encoding: gzip\r\n" in server.requests[-1].lower()
    assert [name for name, compressed in asked.items() if compressed] == [
        "range",
        "names",
        "series",
    ]


async def test_the_identity_tells_tenants_apart_and_holds_no_secret() -> None:
    url = "http://prometheus:9090"
    identities = []
    for headers in ({}, {"X-Scope-OrgID": "blue"}, {"X-Scope-OrgID": "red"}):
        async with PrometheusClient(f"{url}/", token=TOKEN, headers=headers) as client:
            identities.append(client.identity)
    assert url == identities[0]
    assert len(set(identities)) == 3
    assert not any(TOKEN in identity or "blue" in identity for identity in identities)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("ftp://prometheus", "must be an http"),
        ("prometheus:9090", "must be an http"),
        ("http://", "must be an http"),
        ("http://prometheus:99999", "must be an http"),
        ("http://user:pw@prometheus", "must not contain a user"),
    ],
)
async def test_an_unusable_url_is_refused(url: str, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason) as caught:
        PrometheusClient(url)
    assert "pw" not in str(caught.value)


@pytest.mark.parametrize("token", ["", "two words", "line\nfeed", "grün"])
async def test_a_token_that_is_no_header_value_is_refused(token: str) -> None:
    with pytest.raises(ConfigurationError, match="token must be ASCII"):
        PrometheusClient("http://prometheus", token=token)


def test_plain_text_keeps_the_beginning_and_the_end_of_a_long_text() -> None:
    shown = plain_text("error when executing " + "x" * 1000 + ": too many points")
    assert shown.startswith("error when executing x")
    assert shown.endswith("x: too many points")
    assert len(shown) == 300
