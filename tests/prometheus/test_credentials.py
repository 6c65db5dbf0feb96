"""Credentials are sent to the source and appear nowhere else."""

from __future__ import annotations

import asyncio
import base64
import html
import json
import logging
import os
import traceback
from pathlib import Path
from urllib.parse import quote

import pytest
from tests.fault_server import FaultServer, http_response

from queuescope.cache import CachedReader, FrameStore
from queuescope.errors import SourceError, SourceErrorKind
from queuescope.prometheus import PrometheusClient
from queuescope.prometheus.credentials import Credentials
from queuescope.timeseries import Grid

pytestmark = pytest.mark.anyio

ANSWER = http_response(b'{"status":"success","data":{"resultType":"scalar","result":[1000,"42"]}}')
TOKEN = "t0ken.c4n4ry_AAAA-BBBB"
PASSWORD = 'p4ss"w<ord> &c4n4ry/+\\é'
API_KEY = "k3y-c4n4ry"
PAIR = base64.b64encode(f"ops:{PASSWORD}".encode()).decode()


def _authorization(request: bytes) -> str:
    for line in request.decode("latin-1").split("\r\n"):
        if line.lower().startswith("authorization:"):
            return line.partition(":")[2].strip()
    return ""


async def test_a_token_file_is_read_again_for_each_question(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("first-token\n", "utf-8")
    async with (
        FaultServer(ANSWER) as server,
        PrometheusClient(server.url, token_file=path) as client,
    ):
        await client.query("up")
        path.write_text("other-token\n", "utf-8")  # of equal length, perhaps in the same tick
        await client.query("up")
        renewed = tmp_path / "renewed"
        renewed.write_text("third", "utf-8")
        renewed.rename(path)
        await client.query("up")
    sent = [_authorization(request) for request in server.requests]
    assert sent == ["Bearer first-token", "Bearer other-token", "Bearer third"]


@pytest.mark.parametrize("content", [None, "", "two words", "\x00"])
async def test_a_token_file_that_breaks_is_an_error_and_not_a_question_without_a_token(
    content: str | None, tmp_path: Path
) -> None:
    path = tmp_path / "token"
    path.write_text(TOKEN, "utf-8")
    async with (
        FaultServer(ANSWER) as server,
        PrometheusClient(server.url, token_file=path) as client,
    ):
        path.unlink()
        if content is not None:
            path.write_text(content, "utf-8")
        with pytest.raises(SourceError, match="its file must be checked") as caught:
            await client.query("up")
        assert SourceErrorKind.AUTHENTICATION is caught.value.kind
        assert str(path) in caught.value.detail
        assert server.requests == []

        path.write_text(TOKEN, "utf-8")
        assert (await client.query("up")).samples[0].value == 42.0


async def test_the_identity_tells_users_and_tenants_apart_but_not_renewed_secrets() -> None:
    async def identity(**who: object) -> str:
        async with PrometheusClient("http://prometheus", **who) as client:  # type: ignore[arg-type]
            return client.identity

    plain = await identity()
    assert plain == "http://prometheus"
    assert await identity(token="a") == await identity(token="b") == plain
    header = {"Authorization": "Key a"}
    assert await identity(headers=header) == plain
    ops = await identity(username="ops", password="a")
    assert await identity(username="ops", password="b") == ops
    tenant = {"X-Scope-OrgID": "blue"}
    others = [
        ops,
        await identity(username="dev", password="a"),
        await identity(headers=tenant),
        await identity(headers=tenant, username="ops", password="a"),
        await identity(headers={"X-Scope-OrgID": "red"}),
    ]
    assert len({plain, *others}) == 6


WHO = {
    "token": {"token": TOKEN},
    "password": {"username": "ops", "password": PASSWORD},
    "header": {"headers": {"X-Api-Key": API_KEY}},
}
SECRETS = {"token": [TOKEN], "password": [PASSWORD, PAIR], "header": [API_KEY]}


def _echoes(secret: str) -> dict[str, bytes]:
    """Responses that repeat the credentials, in every place that can get into an error."""
    said = json.dumps({"status": "error", "errorType": "bad_data", "error": secret}).encode()
    typed = json.dumps({"status": "error", "errorType": secret, "error": "no"}).encode()
    raw = secret.encode()
    label = json.dumps(secret)
    vector = '{"status":"success","data":{"resultType":"vector","result":[%s]}}'
    sample = '{"metric":{},"value":[1,%s]}'
    return {
        "API error": http_response(said, status="400 Bad Request"),
        "kind of API error": http_response(typed, status="422 Unprocessable Entity"),
        "text": http_response(raw, status="500 No", content_type="text/plain"),
        "page": http_response(
            html.escape(secret).encode(), status="403 Forbidden", content_type="text/html"
        ),
        "address": http_response(quote(secret, safe="").encode(), status="502 Bad Gateway"),
        "JSON": http_response(label.encode(), status="401 Unauthorized"),
        "content type": http_response(b"{}", content_type=f"text/{secret}"),
        "encoding": http_response(b"{}", headers={"Content-Encoding": secret}),
        "number": http_response((vector % (sample % label)).encode()),
        "status": http_response(json.dumps({"status": secret}).encode()),
        "cut off": http_response(b"x" * 295 + raw, status="500 No"),
    }


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("place", _echoes(""))
async def test_a_server_that_echoes_a_secret_does_not_make_us_tell_it(
    place: str, who: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    in_header = place in ("content type", "encoding")
    echoed = SECRETS[who][-1 if in_header or place == "text" else 0]
    caplog.set_level(logging.INFO)  # the messages of the HTTP library below it are for developers
    caplog.set_level(logging.DEBUG, "queuescope")
    async with (
        FaultServer(_echoes(echoed)[place]) as server,
        PrometheusClient(server.url, **WHO[who]) as client,  # type: ignore[arg-type]
    ):
        with pytest.raises(SourceError) as caught:
            await client.query("up")
        reader = CachedReader(
            client, FrameStore(tmp_path, max_points=1000), horizon_seconds=0, clock=lambda: 0.0
        )
        reading = await reader.read("up", Grid(0, 60, 60), source_now=60)
        error = caught.value
        texts = [
            *(str(error), repr(error), error.detail, repr(reading), client.identity, repr(client)),
            *traceback.format_exception(error),
            *(record.getMessage() for record in caplog.records),
            *os.listdir(tmp_path),  # noqa: PTH208 - the names are what is looked at
        ]
    sent = server.requests[0].decode("latin-1")
    assert any(secret in sent for secret in SECRETS[who]), "the secret must have been sent"
    for secret in SECRETS[who]:
        core = secret[:12]  # a part of it would also be a leak
        for text in texts:
            assert core not in text
            assert "c4n4ry" not in text


async def test_a_token_that_was_renewed_while_its_answer_was_under_way_is_still_hidden(
    tmp_path: Path,
) -> None:
    path = tmp_path / "token"
    path.write_text(TOKEN, "utf-8")
    asked, renewed = asyncio.Event(), asyncio.Event()

    async def echo_late(request: bytes, writer: asyncio.StreamWriter) -> None:
        if TOKEN.encode() in request:
            asked.set()
            await renewed.wait()
            writer.write(http_response(f"no {TOKEN}".encode(), status="403 Forbidden"))
        else:
            writer.write(ANSWER)
            renewed.set()

    async with (
        FaultServer(echo_late) as server,
        PrometheusClient(server.url, token_file=path) as client,
    ):
        late = asyncio.create_task(client.query("up"))
        await asked.wait()
        path.write_text("another-token", "utf-8")
        await client.query("up")
        with pytest.raises(SourceError) as caught:
            await late
    assert caught.value.detail == "HTTP 403: no ***"


def test_what_holds_a_secret_does_not_print_it() -> None:
    for who in WHO.values():
        credentials = Credentials(**who)  # type: ignore[arg-type]
        assert "c4n4ry" not in f"{credentials!r}{credentials}{credentials.fingerprint()}"


async def test_a_credential_does_not_follow_a_redirect() -> None:
    async with FaultServer(ANSWER) as elsewhere:
        moved = http_response(status="307 Temporary", headers={"Location": elsewhere.url})
        async with (
            FaultServer(moved) as server,
            PrometheusClient(server.url, token=TOKEN) as client,
        ):
            with pytest.raises(SourceError):
                await client.query("up")
        assert elsewhere.requests == []
