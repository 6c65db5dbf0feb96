"""Decodes Celery's messages as Redis holds them: waiting in a list, or delivered."""

from __future__ import annotations

from typing import Annotated

import msgspec

from queuescope.broker.headers import CLOCK_HEADER, DUE_HEADER
from queuescope.broker.redis.bounded_replies import REPLY_LIMIT_BYTES
from queuescope.broker.redis.sender_clocks import Due
from queuescope.broker.reports import NAME_LIMIT, parse

_LATEST_MARK = 1e12


class _Headers(msgspec.Struct):
    # The bounds leave out impossible times: Celery did not exist before 1e9.
    due_at: Annotated[float, msgspec.Meta(ge=1e9, le=1e11)] | None = msgspec.field(
        default=None, name=DUE_HEADER
    )
    # An invalid value here must not hide since when a message waits.
    mark: object = msgspec.field(default=None, name=CLOCK_HEADER)
    eta: object = None
    redelivered: object = None


class _Envelope(msgspec.Struct):
    headers: _Headers = msgspec.field(default_factory=_Headers)


_Text = Annotated[str, msgspec.Meta(max_length=NAME_LIMIT)]
_envelope_decoder = msgspec.json.Decoder(_Envelope)
_route_decoder = msgspec.json.Decoder(tuple[msgspec.Raw, _Text, _Text])


def due_of(raw: bytes | None) -> Due | None:
    """When a message became due; ``None`` if unknown."""
    if raw is None:
        return None
    try:
        envelope = parse(raw, _envelope_decoder, limit_bytes=REPLY_LIMIT_BYTES)
    except ValueError:
        return None
    headers = envelope.headers
    if headers.due_at is None:
        return None
    mark = headers.mark
    return Due(
        headers.due_at,
        float(mark) if isinstance(mark, int | float) and abs(mark) < _LATEST_MARK else None,
        is_timed=headers.eta is not None,
        is_redelivered=bool(headers.redelivered),
    )


def route_of(raw: bytes) -> tuple[str, str] | None:
    """Exchange and routing key of a delivered message; ``None`` if unreadable."""
    try:
        _, exchange, routing_key = parse(raw, _route_decoder, limit_bytes=REPLY_LIMIT_BYTES)
    except ValueError:
        return None
    return exchange, routing_key
