"""Sends requests to a source, limited in time and size, with failures as ``SourceError``.

The HTTP client limits each read, not the whole call, decompresses a body of any size, and accepts a
gzip stream that is cut off. So the deadline and decompression are implemented here.
"""

from __future__ import annotations

import asyncio
import itertools
import zlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

import httpx2

from queuescope.errors import ConfigurationError, SourceError, SourceErrorKind
from queuescope.prometheus import failures
from queuescope.prometheus.credentials import Credentials, refuse_own_parameters
from queuescope.prometheus.failures import Response, TransientError, plain_text
from queuescope.prometheus.retry import Retry

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator

Form = Sequence[tuple[str, str]]

_PIECE_BYTES = 256 * 1024
_ERROR_BODY_BYTES = 64 * 1024
# Connections stay open between refreshes, and are closed before Prometheus does so, after five
# minutes.
_DEFAULT_LIMITS = httpx2.Limits(
    max_connections=16, max_keepalive_connections=8, keepalive_expiry=240
)
# The HTTP client passes on alerts of TLS 1.3, which arrive after the TLS handshake, untranslated.
_CONNECTION_LOST = (httpx2.ReadError, httpx2.WriteError, OSError)
_FIXED_HEADERS = {
    "Accept": "application/json",
    "User-Agent": "queuescope",
}


class Transport:
    """Sends requests to the API at one URL. Belongs to the event loop that first uses it."""

    def __init__(
        self,
        url: str,
        *,
        credentials: Credentials,
        tls: ssl.SSLContext,
        timeout_seconds: float,
        max_body_bytes: int,
        retry: Retry,
    ) -> None:
        self._base, in_address = split_url(url)
        self._parameters = (*in_address, *credentials.parameters)
        self._credentials = credentials
        self._timeout_seconds = timeout_seconds
        self._max_body_bytes = max_body_bytes
        self._retry = retry
        self._get_only = False
        self.connections = 0
        self.identity = self._base + credentials.fingerprint(in_address)
        self._client = httpx2.AsyncClient(
            headers=_FIXED_HEADERS,
            timeout=None,  # the deadline limits the whole call instead
            trust_env=False,
            follow_redirects=False,
            verify=tls,
            limits=_DEFAULT_LIMITS,
        )

    async def aclose(self) -> None:
        await self._client.aclose()

    @asynccontextmanager
    async def call(self, *, may_repeat: bool = True) -> AsyncIterator[Call]:
        """One call of any number of requests that ends within ``timeout_seconds``.

        Errors leave the block without secrets and control characters. With ``may_repeat`` requests
        are retried after transient failures.
        """
        until = asyncio.get_running_loop().time() + self._timeout_seconds
        try:
            async with asyncio.timeout_at(until):
                yield Call(self, until, self._retry if may_repeat else Retry(attempts=1))
        except TimeoutError as exc:
            raise SourceError(
                SourceErrorKind.TIMEOUT,
                f"Prometheus did not answer within {self._timeout_seconds:g} s",
            ) from exc
        except SourceError as exc:
            exc.detail = plain_text(self._credentials.hide(exc.detail))
            if _contains_secret(exc, self._credentials):
                exc.__cause__, exc.__suppress_context__ = None, True
            raise

    async def post_form(self, path: str, form: Form, *, small: bool) -> bytes:
        """The body of a successful response; with GET if the source refuses POST.

        See ``Call`` for ``small``.
        """
        if not self._get_only:
            response = await self._exchange("POST", path, form, small=small)
            if response.status != httpx2.codes.METHOD_NOT_ALLOWED:
                return _successful(response)
            self._get_only = True
        return await self.get(path, form, small=small)

    async def get(self, path: str, form: Form, *, small: bool) -> bytes:
        """The body of a successful response."""
        return _successful(await self._exchange("GET", path, form, small=small))

    async def _exchange(self, method: str, path: str, form: Form, *, small: bool) -> Response:
        try:
            return await self._send(method, path, form, small=small)
        except _StaleConnectionError:
            # The server closed an idle connection at the moment of its use. Requests only read, so
            # sending it again is safe, on a new or another idle connection.
            try:
                return await self._send(method, path, form, small=small)
            except _StaleConnectionError as exc:
                raise _without_answer(exc.error) from exc

    async def _send(self, method: str, path: str, form: Form, *, small: bool) -> Response:
        connected_anew = False

        async def trace(event: str, _info: Mapping[str, object]) -> None:
            nonlocal connected_anew
            if event == "connection.connect_tcp.started":
                connected_anew = True
                self.connections += 1

        in_address: list[tuple[str, str | int | float | bool | None]] = []
        in_address += [*self._parameters, *(form if method == "GET" else ())]
        request = self._client.build_request(
            method,
            self._base + path,
            params=in_address or None,
            data=_fields(form) if method == "POST" else None,
            headers={
                **self._credentials.headers(),
                "Accept-Encoding": "identity" if small else "gzip",
            },
            extensions={"trace": trace},
        )
        try:
            response = await self._client.send(request, stream=True)
        except (*_CONNECTION_LOST, httpx2.RemoteProtocolError) as exc:
            if not connected_anew:
                raise _StaleConnectionError(exc) from exc
            raise _without_answer(exc) from exc
        except (httpx2.NetworkError, httpx2.TimeoutException) as exc:
            raise failures.no_connection(exc) from exc
        except (httpx2.HTTPError, httpx2.InvalidURL) as exc:
            raise failures.not_prometheus(str(exc)) from exc
        try:
            return await self._received(response)
        finally:
            await response.aclose()

    async def _received(self, response: httpx2.Response) -> Response:
        body = b""
        if response.status_code == httpx2.codes.OK:
            body = await self._body(response, self._max_body_bytes)
        elif response.status_code >= httpx2.codes.BAD_REQUEST:
            try:
                body = await self._body(response, min(_ERROR_BODY_BYTES, self._max_body_bytes))
            except SourceError:
                body = b""  # the status is enough
        return Response(
            response.status_code,
            response.headers.get("content-type", "").partition(";")[0].strip().lower(),
            response.headers.get("retry-after"),
            body,
        )

    async def _body(self, response: httpx2.Response, limit_bytes: int) -> bytes:
        encoding = response.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("identity", "gzip", "x-gzip", ""):
            raise failures.undecodable(f"content encoding {encoding}")
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
                        raise failures.undecodable("bytes after the end of the gzip stream")
                    else:
                        piece = inflater.decompress(rest, _PIECE_BYTES)
                        rest = inflater.unconsumed_tail or inflater.unused_data
                        await asyncio.sleep(0)  # lets the deadline expire between two pieces
                    out += piece
                    if len(out) > limit_bytes:
                        raise _too_large(limit_bytes)
            if inflater is not None:
                await self._drain(inflater, out, limit_bytes)
        except zlib.error as exc:
            raise failures.undecodable(f"broken gzip stream: {exc}") from exc
        except (httpx2.HTTPError, OSError) as exc:
            raise failures.cut_off(exc) from exc
        return bytes(out)

    @staticmethod
    async def _drain(inflater: zlib._Decompress, out: bytearray, limit_bytes: int) -> None:
        """Read what the decompressor still holds after its last input."""
        while not inflater.eof:
            piece = inflater.decompress(b"", _PIECE_BYTES)
            if not piece:
                raise failures.undecodable("the gzip stream is cut")
            out += piece
            if len(out) > limit_bytes:
                raise _too_large(limit_bytes)
            await asyncio.sleep(0)


class Call:
    """Requests that share one deadline; ``until`` is the event loop's time.

    A ``small`` response is requested uncompressed: setting up the compressor costs Prometheus
    several times as much as a small response. A compressed one is accepted all the same.
    """

    def __init__(self, transport: Transport, until: float, retry: Retry) -> None:
        self._transport = transport
        self._until = until
        self._retry = retry

    async def post_form(self, path: str, form: Form, *, small: bool = False) -> bytes:
        """The body of a successful response; with GET if the source refuses POST."""
        return await self._repeated(lambda: self._transport.post_form(path, form, small=small))

    async def get(self, path: str, form: Form = (), *, small: bool = False) -> bytes:
        """The body of a successful response."""
        return await self._repeated(lambda: self._transport.get(path, form, small=small))

    async def _repeated(self, send: Callable[[], Awaitable[bytes]]) -> bytes:
        for failed in itertools.count(1):
            try:
                return await send()
            except TransientError as exc:
                remaining = self._until - asyncio.get_running_loop().time()
                wait = self._retry.wait_seconds(failed, exc.retry_after_seconds, remaining)
                if wait is None:
                    raise
            await asyncio.sleep(wait)
        raise AssertionError  # the count has no end


class _StaleConnectionError(Exception):
    """An idle connection turned out to be closed before a response."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


def _without_answer(exc: Exception) -> SourceError:
    """The error for a connection without a valid HTTP response."""
    if isinstance(exc, _CONNECTION_LOST) or "disconnected" in str(exc):
        return failures.connection_lost(exc)
    return failures.not_prometheus(str(exc))


def _successful(response: Response) -> bytes:
    if response.status != httpx2.codes.OK:
        raise failures.refused(response)
    if response.content_type != "application/json":
        raise failures.not_prometheus(f"content type {response.content_type!r}")
    return response.body


def _contains_secret(error: BaseException, credentials: Credentials) -> bool:
    """Whether a cause of ``error`` contains a secret, which a server may have echoed."""
    cause = error.__cause__ or error.__context__
    while cause is not None:
        text = f"{cause!r}{cause}"
        if credentials.hide(text) != text:
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def split_url(url: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    """The address without its parameters, and the parameters. Raises ``ConfigurationError``."""
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
            "the Prometheus URL must not contain a user or password; use the settings for them"
        )
    if parts.fragment:
        raise ConfigurationError("the Prometheus URL must not contain a #")
    parameters = tuple(parse_qsl(parts.query, keep_blank_values=True))
    refuse_own_parameters(name for name, _ in parameters)
    return parts._replace(query="").geturl().rstrip("/"), parameters


def _fields(form: Form) -> dict[str, list[str]]:
    fields: dict[str, list[str]] = {}
    for name, value in form:
        fields.setdefault(name, []).append(value)
    return fields


def _too_large(limit_bytes: int) -> SourceError:
    return failures.too_large(f"more than {limit_bytes} bytes inflated")
