"""Translates failures of requests to a source into ``SourceError`` with plain messages."""

from __future__ import annotations

import email.utils
import math
import re
import ssl
import time
from dataclasses import dataclass

from queuescope.errors import SourceError, SourceErrorKind
from queuescope.prometheus.wire import ErrorBody, parse_error

_DETAIL_CHARACTERS = 300
_RETRY_AFTER_LIMIT_SECONDS = 300.0
# Messages of VictoriaMetrics and Prometheus, also of servers with a lower limit than Prometheus.
_POINT_LIMIT = r"too many points for the given step|exceeded maximum resolution"
# Messages of Prometheus and Thanos, of VictoriaMetrics, of Mimir and Cortex.
_SAMPLE_LIMIT = (
    r"too many samples|exceeded (?:samples|series|chunks) limit|limit \d+ violated"
    r"|maxSamplesPer(?:Query|Series)|maxMemoryPerQuery"
    r"|err-mimir-max-(?:chunks|series|estimated|fetched|total-query-length)"
    r"|exceeded the maximum number of (?:chunks|series|samples)"
    r"|query time range exceeds the limit"
)
_OVER_LIMIT = re.compile(f"{_POINT_LIMIT}|{_SAMPLE_LIMIT}")
_TRANSIENT_STATUSES = frozenset({429, 502, 503, 504})


class TransientError(SourceError):
    """A failure that may be over a moment later: a retry can help, and is safe."""


@dataclass(frozen=True, slots=True)
class Response:
    """One HTTP response; ``body`` is decompressed, and empty if only the status matters."""

    status: int
    content_type: str
    retry_after: str | None
    body: bytes


def plain_text(text: str) -> str:
    """Foreign text for a log line: control and direction characters escaped, length capped.

    Of a long text the beginning and the end are kept, where servers put the reason.
    """
    escaped = "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii")
        for c in _shortened(text)
    )
    return _shortened(escaped)


def _shortened(text: str) -> str:
    if len(text) <= _DETAIL_CHARACTERS:
        return text
    end = _DETAIL_CHARACTERS // 2
    return f"{text[: _DETAIL_CHARACTERS - end - 3]} … {text[-end:]}"


def refused(response: Response) -> SourceError:
    """The error for a response whose status is not a success."""
    named = parse_error(response.body)
    kind, message = _kind_and_message(response.status, named)
    raw = f"{named.error_type}: {named.error}" if named else ""
    raw = raw or response.body.decode("utf-8", "replace")
    wait = retry_after_seconds(response.retry_after) if kind is SourceErrorKind.BUSY else None
    # A query that the source gave up would only take as long again.
    gave_up = named is not None and named.error_type in ("timeout", "canceled")
    is_transient = response.status in _TRANSIENT_STATUSES and not gave_up
    return (TransientError if is_transient else SourceError)(
        kind, message, detail=f"HTTP {response.status}: {raw}", retry_after_seconds=wait
    )


def is_over_limit(error: SourceError) -> bool:
    """Whether a source refused a range because of its size, so that a part of it may work."""
    refused_as = (SourceErrorKind.BAD_DATA, SourceErrorKind.EXECUTION)
    return error.kind in refused_as and _OVER_LIMIT.search(error.detail) is not None


def _kind_and_message(status: int, named: ErrorBody | None) -> tuple[SourceErrorKind, str]:
    kind = SourceErrorKind
    if status in (401, 403):
        return kind.AUTHENTICATION, "Prometheus refused access; its credentials must be checked"
    if status == 429:
        return kind.BUSY, "Prometheus is busy and asked to be left alone for a while"
    if status == 504 or (named and named.error_type in ("timeout", "canceled")):
        return kind.TIMEOUT, "Prometheus gave up on a query that took too long"
    if status == 503:
        return kind.BUSY, "Prometheus is busy or still starting"
    if status == 502:
        return kind.CANNOT_CONNECT, "The gateway in front of Prometheus does not reach it"
    if named and status in (400, 422) and re.search(_SAMPLE_LIMIT, named.error):
        return kind.EXECUTION, _MORE_THAN_ALLOWED
    if named and named.error_type == "execution":
        return kind.EXECUTION, "Prometheus could not compute this query"
    if status in (400, 422) and named:
        return kind.BAD_DATA, "Prometheus refused this query as wrong"
    if status >= 500:
        return kind.SERVER_ERROR, "Prometheus failed while answering"
    error = not_prometheus("")
    return error.kind, str(error)


def no_connection(exc: Exception) -> SourceError:
    """The error for a connection that could not be opened."""
    tls = _cause(exc, ssl.SSLError)
    if isinstance(tls, ssl.SSLCertVerificationError):
        return SourceError(
            SourceErrorKind.CANNOT_CONNECT,
            "The certificate of Prometheus is not trusted; its CA file must be checked",
            detail=f"{tls.verify_message or tls}",
        )
    if tls is not None:
        return _tls(tls)
    return TransientError(
        SourceErrorKind.CANNOT_CONNECT, "Prometheus does not accept connections", detail=str(exc)
    )


def connection_lost(exc: Exception) -> SourceError:
    """The error for a connection that ended before a response."""
    tls = _cause(exc, ssl.SSLError)
    return _closed(str(exc)) if tls is None else _tls(tls)


def _closed(detail: str) -> SourceError:
    return TransientError(
        SourceErrorKind.CANNOT_CONNECT,
        "Prometheus closed the connection without an answer",
        detail=detail,
    )


def _tls(exc: ssl.SSLError) -> SourceError:
    """The error for a TLS failure; alerts mean that the client certificate is missing or wrong."""
    reason = exc.reason or str(exc)
    if isinstance(exc, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return _closed(reason)
    if "ALERT" in reason and ("CERTIFICATE" in reason or "UNKNOWN_CA" in reason):
        return SourceError(
            SourceErrorKind.AUTHENTICATION,
            "Prometheus refused access; its client certificate must be checked",
            detail=reason,
        )
    return SourceError(
        SourceErrorKind.CANNOT_CONNECT,
        "No secure connection to Prometheus could be made",
        detail=reason,
    )


def not_prometheus(detail: str) -> SourceError:
    return SourceError(
        SourceErrorKind.NOT_PROMETHEUS,
        "The address answers, but not as a Prometheus API",
        detail=detail,
    )


def undecodable(detail: str) -> SourceError:
    return SourceError(SourceErrorKind.DECODE, _UNREADABLE, detail=detail)


def cut_off(exc: Exception) -> SourceError:
    """The error for a body that ended early."""
    return TransientError(
        SourceErrorKind.DECODE, _UNREADABLE, detail=f"the body ended early: {exc}"
    )


def too_large(detail: str) -> SourceError:
    return SourceError(
        SourceErrorKind.TOO_LARGE,
        "Prometheus sent more data than this page accepts; choose a shorter range, or let the "
        "panel's query aggregate its series",
        detail=detail,
    )


def too_slow_in_parts(parts: int) -> SourceError:
    return SourceError(
        SourceErrorKind.TIMEOUT,
        "Prometheus computes this range only in parts, which took too long together; choose a "
        "shorter range, or record what this chart needs by a recording rule",
        detail=f"{parts} parts were answered in time",
    )


def retry_after_seconds(text: str | None) -> float | None:
    """Seconds from now, between 0 and five minutes; ``None`` if the header cannot be parsed."""
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


def _cause(exc: BaseException, kind: type[ssl.SSLError]) -> ssl.SSLError | None:
    """The first TLS error among an exception and its causes."""
    seen: BaseException | None = exc
    while seen is not None and not isinstance(seen, kind):
        seen = seen.__cause__ or seen.__context__
    return seen


_UNREADABLE = "Prometheus sent an answer that cannot be read"
_MORE_THAN_ALLOWED = (
    "This query reads more samples at once than Prometheus allows (--query.max-samples); a "
    "recording rule, or a narrower “selector”, makes it smaller"
)
