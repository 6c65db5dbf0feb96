"""One HTTP exchange with a source, bounded in time and size, with failures as ``SourceError``.

The HTTP client bounds each read, not the whole call, inflates a body before anyone can object,
and takes a cut gzip stream for a whole one. So the deadline and the inflating are done here.
"""

from __future__ import annotations

import asyncio
import email.utils
import hashlib
import math
import time
import zlib
from collections.abc import Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

import httpx2

from queuescope.errors import ConfigurationError, SourceError, SourceErrorKind
from queuescope.prometheus.wire import parse_error

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

Form = Sequence[tuple[str, str]]

_PIECE_BYTES = 256 * 1024
_ERROR_BODY_BYTES = 64 * 1024
_DETAIL_CHARACTERS = 300
_RETRY_AFTER_LIMIT_SECONDS = 300.0
_DEFAULT_LIMITS = httpx2.Limits(
    max_connections=16, max_keepalive_connections=8, keepalive_expiry=60
)


def plain_text(text: str) -> str:
    """Foreign text for a log line: control and direction characters escaped, length capped."""
    escaped = "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii")
        for c in text[:_DETAIL_CHARACTERS]
    )
    return escaped[:_DETAIL_CHARACTERS]


@dataclass(frozen=True, slots=True)
class _Response:
    status: int
    content_type: str
    retry_after_seconds: float | None
    body: bytes


class Transport:
    """Sends requests to the API below one URL. Belongs to the event loop that first uses it.

    ``deadline()`` bounds everything inside it to ``timeout_seconds`` of wall time.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None,
        timeout_seconds: float,
        headers: Mapping[str, str],
        max_body_bytes: int,
    ) -> None:
        self._base = _base_url(url)
        self._token = token
        self._timeout_seconds = timeout_seconds
        self._max_body_bytes = max_body_bytes
        self._get_only = False
        self.identity = self._base + _fingerprint(headers)
        try:
            self._client = httpx2.AsyncClient(
                headers={**headers, **_fixed_headers(token)},
                timeout=None,  # the deadline bounds the whole call instead
                trust_env=False,
                follow_redirects=False,
                limits=_DEFAULT_LIMITS,
            )
        except (UnicodeEncodeError, TypeError) as exc:
            raise ConfigurationError("headers for Prometheus must be plain ASCII text") from exc

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        await self._client.aclose()

    @asynccontextmanager
    async def deadline(self) -> AsyncIterator[None]:
        """Raises ``SourceError`` (``TIMEOUT``) when the block takes too long."""
        try:
            async with asyncio.timeout(self._timeout_seconds):
                yield
        except TimeoutError as exc:
            raise SourceError(
                SourceErrorKind.TIMEOUT,
                f"Prometheus did not answer within {self._timeout_seconds:g} s",
            ) from exc

    async def post_form(self, path: str, form: Form) -> bytes:
        """The body of a successful answer; by GET when the source refuses POST."""
        if not self._get_only:
            response = await self._exchange("POST", path, form)
            if response.status != httpx2.codes.METHOD_NOT_ALLOWED:
                return self._successful(response)
            self._get_only = True
        return await self.get(path, form)

    async def get(self, path: str, form: Form = ()) -> bytes:
        """The body of a successful answer."""
        return self._successful(await self._exchange("GET", path, form))

    async def _exchange(self, method: str, path: str, form: Form) -> _Response:
        try:
            return await self._send(method, path, form)
        except _StaleConnectionError:
            # The server closed a kept connection at the moment of its use. Questions change
            # nothing, so asking once more on a new connection is safe.
            try:
                return await self._send(method, path, form)
            except _StaleConnectionError as exc:
                raise self._cannot_connect(exc) from exc

    async def _send(self, method: str, path: str, form: Form) -> _Response:
        connected_anew = False

        async def trace(event: str, _info: Mapping[str, object]) -> None:
            nonlocal connected_anew
            connected_anew = connected_anew or event == "connection.connect_tcp.started"

        request = self._client.build_request(
            method,
            self._base + path,
            params=list(form) if method == "GET" and form else None,
            data=_fields(form) if method == "POST" else None,
            extensions={"trace": trace},
        )
        try:
            response = await self._client.send(request, stream=True)
        except (httpx2.ReadError, httpx2.WriteError, httpx2.RemoteProtocolError) as exc:
            if not connected_anew:
                raise _StaleConnectionError(str(exc)) from exc
            raise self._no_http(exc) from exc
        except (httpx2.NetworkError, httpx2.TimeoutException) as exc:
            raise self._cannot_connect(exc) from exc
        except (httpx2.HTTPError, httpx2.InvalidURL) as exc:
            raise self._no_http(exc) from exc
        try:
            return await self._received(response)
        finally:
            await response.aclose()

    async def _received(self, response: httpx2.Response) -> _Response:
        body = b""
        if response.status_code == httpx2.codes.OK:
            body = await self._body(response, self._max_body_bytes)
        elif response.status_code >= httpx2.codes.BAD_REQUEST:
            try:
                body = await self._body(response, min(_ERROR_BODY_BYTES, self._max_body_bytes))
            except SourceError:
                body = b""  # the status alone says enough
        return _Response(
            response.status_code,
            response.headers.get("content-type", "").partition(";")[0].strip().lower(),
            _retry_after_seconds(response.headers.get("retry-after")),
            body,
        )

    async def _body(self, response: httpx2.Response, limit_bytes: int) -> bytes:
        encoding = response.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("identity", "gzip", "x-gzip", ""):
            raise _undecodable(f"content encoding {plain_text(encoding)}")
        if int(response.headers.get("content-length", "0")) > limit_bytes:
            raise _too_large(limit_bytes)
        out = bytearray()
        inflater = zlib.decompressobj(wbits=31) if encoding.endswith("gzip") else None
        try:
            async for chunk in response.aiter_raw(_PIECE_BYTES):
                rest = chunk
                while rest:
                    if inflater is None:
                        piece, rest = rest, b""
                    elif inflater.eof:
                        raise _undecodable("bytes after the end of the gzip stream")
                    else:
                        piece = inflater.decompress(rest, _PIECE_BYTES)
                        rest = inflater.unconsumed_tail or inflater.unused_data
                        await asyncio.sleep(0)  # lets the deadline strike between two pieces
                    out += piece
                    if len(out) > limit_bytes:
                        raise _too_large(limit_bytes)
            if inflater is not None:
                await self._drain(inflater, out, limit_bytes)
        except zlib.error as exc:
            raise _undecodable(f"broken gzip stream: {exc}") from exc
        except httpx2.HTTPError as exc:
            raise _undecodable(f"the body ended early: {plain_text(str(exc))}") from exc
        return bytes(out)

    @staticmethod
    async def _drain(inflater: zlib._Decompress, out: bytearray, limit_bytes: int) -> None:
        """Take what the inflater still holds after its last input."""
        while not inflater.eof:
            piece = inflater.decompress(b"", _PIECE_BYTES)
            if not piece:
                raise _undecodable("the gzip stream is cut")
            out += piece
            if len(out) > limit_bytes:
                raise _too_large(limit_bytes)
            await asyncio.sleep(0)

    def _successful(self, response: _Response) -> bytes:
        if response.status == httpx2.codes.OK:
            if response.content_type != "application/json":
                raise _not_prometheus(f"content type {plain_text(response.content_type)!r}")
            return response.body
        kind, message = _failure(response)
        error = parse_error(response.body)
        raw = f"{error.error_type}: {error.error}" if error else ""
        raw = raw or response.body.decode("utf-8", "replace")
        detail = plain_text(self._redacted(f"HTTP {response.status}: {raw}"))
        wait = response.retry_after_seconds if kind is SourceErrorKind.BUSY else None
        raise SourceError(kind, message, detail=detail, retry_after_seconds=wait)

    def _redacted(self, text: str) -> str:
        return text.replace(self._token, "***") if self._token else text

    def _cannot_connect(self, exc: Exception) -> SourceError:
        return SourceError(
            SourceErrorKind.CANNOT_CONNECT,
            "Prometheus does not accept connections",
            detail=plain_text(self._redacted(str(exc))),
        )

    def _no_http(self, exc: Exception) -> SourceError:
        if isinstance(exc, httpx2.NetworkError) or "disconnected" in str(exc):
            return SourceError(
                SourceErrorKind.CANNOT_CONNECT,
                "Prometheus closed the connection without an answer",
                detail=plain_text(self._redacted(str(exc))),
            )
        return _not_prometheus(plain_text(self._redacted(str(exc))))


class _StaleConnectionError(Exception):
    """A kept connection turned out to be closed before any answer came."""


def _failure(response: _Response) -> tuple[SourceErrorKind, str]:
    """The kind and the sentence for an answer that is not a success."""
    status = response.status
    named = parse_error(response.body)
    kind = SourceErrorKind
    if status in (401, 403):
        return kind.AUTHENTICATION, "Prometheus refused access; its token must be checked"
    if status == 429:
        return kind.BUSY, "Prometheus is busy and asked to be left alone for a while"
    if status == 504 or (named and named.error_type in ("timeout", "canceled")):
        return kind.TIMEOUT, "Prometheus gave up on a query that took too long"
    if status == 503:
        return kind.BUSY, "Prometheus is busy or still starting"
    if status == 502:
        return kind.CANNOT_CONNECT, "The gateway in front of Prometheus does not reach it"
    if named and named.error_type == "execution":
        return kind.EXECUTION, "Prometheus could not compute this query"
    if status in (400, 422) and named:
        return kind.BAD_DATA, "Prometheus refused this query as wrong"
    if status >= 500:
        return kind.SERVER_ERROR, "Prometheus failed while answering"
    error = _not_prometheus("")
    return error.kind, str(error)


def _base_url(url: str) -> str:
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = -1
    if parts.scheme not in ("http", "https") or not parts.hostname or port == -1:
        raise ConfigurationError(
            "the Prometheus URL must be an http:// or https:// address,"
            " such as http://prometheus:9090"
        )
    if parts.username or parts.password:
        raise ConfigurationError(
            "the Prometheus URL must not hold a user or password; use a token instead"
        )
    if parts.query or parts.fragment:
        raise ConfigurationError("the Prometheus URL must end with its path, without ? or #")
    return url.rstrip("/")


def _fingerprint(headers: Mapping[str, str]) -> str:
    """Extra headers may choose a tenant, and tenants must not share cached data."""
    if not headers:
        return ""
    named = repr(sorted((name.lower(), value) for name, value in headers.items()))
    return "#" + hashlib.sha256(named.encode()).hexdigest()[:12]


def _fixed_headers(token: str | None) -> dict[str, str]:
    fixed = {"Accept": "application/json", "Accept-Encoding": "gzip", "User-Agent": "queuescope"}
    if token is None:
        return fixed
    if not token.isascii() or not token.isprintable() or " " in token or not token:
        raise ConfigurationError("the Prometheus token must be ASCII text without spaces")
    return {**fixed, "Authorization": f"Bearer {token}"}


def _fields(form: Form) -> dict[str, list[str]]:
    fields: dict[str, list[str]] = {}
    for name, value in form:
        fields.setdefault(name, []).append(value)
    return fields


def _retry_after_seconds(text: str | None) -> float | None:
    """Seconds from now, between 0 and five minutes; None when it cannot be understood."""
    if not text:
        return None
    try:
        wait = float(text)
    except ValueError:
        parsed = email.utils.parsedate_tz(text)
        if parsed is None:
            return None
        try:
            wait = email.utils.mktime_tz(parsed) - time.time()
        except (OverflowError, ValueError):
            return None
    return None if math.isnan(wait) else min(max(wait, 0.0), _RETRY_AFTER_LIMIT_SECONDS)


def _undecodable(detail: str) -> SourceError:
    return SourceError(
        SourceErrorKind.DECODE, "Prometheus sent an answer that cannot be read", detail=detail
    )


def _too_large(limit_bytes: int) -> SourceError:
    return SourceError(
        SourceErrorKind.TOO_LARGE,
        "Prometheus sent more data than this page accepts",
        detail=f"more than {limit_bytes} bytes inflated",
    )


def _not_prometheus(detail: str) -> SourceError:
    return SourceError(
        SourceErrorKind.NOT_PROMETHEUS,
        "The address answers, but not as a Prometheus API",
        detail=detail,
    )
