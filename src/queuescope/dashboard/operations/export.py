"""The routes of the files of the audit, and a search of it as written in an address."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from queuescope.dashboard.services import services
from queuescope.dashboard.ui.parameters import epoch_seconds, moment_text, short_text
from queuescope.dashboard.ui.sent_file import FileSender, refused
from queuescope.errors import ConfigurationError
from queuescope.operations.request import Operation

if TYPE_CHECKING:
    from queuescope.operations.audit import Search

AUDIT_CSV = "/queuescope/audit.csv"
AUDIT_JSON = "/queuescope/audit.jsonl"
TEXT_LIMIT = 255
"""The most characters of a text that is searched."""

_PIECE_LINES = 200


class AuditFiles:
    """Sends all entries that match an address, oldest first.

    Visitors who may not view it do not get here (see ``Admission``).
    """

    def __init__(self) -> None:
        self._files = FileSender("The audit")

    async def send_csv(self, request: Request) -> Response:
        return await self._send(request, "csv", "text/csv")

    async def send_json(self, request: Request) -> Response:
        return await self._send(request, "jsonl", "application/x-ndjson")

    async def _send(self, request: Request, kind: str, media_type: str) -> Response:
        context = services().operations_context
        if context is None:
            return refused("Operations are not configured; set broker_url", 404)
        try:
            search = parse_search(request.query_params)
        except ConfigurationError as exc:
            return refused(str(exc), 400)
        audit = context.store.audit
        lines = audit.export_csv(search) if kind == "csv" else audit.export_json(search)
        return await self._files.send(_pieces(lines), f"queuescope-audit.{kind}", media_type)


def parse_search(params: Mapping[str, str]) -> Search:
    """The search in ``params``; other parameters are ignored.

    Raises ``ConfigurationError``, whose text may be shown to anyone.
    """
    from queuescope.operations.audit import Result, Search  # noqa: PLC0415

    return Search(
        text=_text(params, "find"),
        target=_text(params, "target"),
        operation=_one_of(params, "operation", list(Operation)),
        actor=_text(params, "actor"),
        result=_one_of(params, "result", list(Result)),
        since_ms=_epoch_ms(params, "from"),
        until_ms=_epoch_ms(params, "to"),
    )


def query_of(search: Search) -> str:
    """``search`` as the query of an address; its times are whole seconds."""
    params = {
        "find": search.text,
        "target": search.target,
        "operation": search.operation,
        "actor": search.actor,
        "result": search.result,
        "from": _moment_text(search.since_ms),
        "to": _moment_text(search.until_ms),
    }
    return urlencode([(name, text) for name, text in params.items() if text])


def _pieces(lines: Iterator[str]) -> Iterator[bytes]:
    while piece := "".join(islice(lines, _PIECE_LINES)):
        yield piece.encode("utf-8", "backslashreplace")


def _text(params: Mapping[str, str], name: str) -> str:
    return short_text(params, name, TEXT_LIMIT).strip()


def _one_of(params: Mapping[str, str], name: str, known: list[str]) -> str:
    text = params.get(name, "")
    if text and text not in known:
        raise ConfigurationError(f"{name}={text[:40]!r}: give one of {', '.join(known)}")
    return text


def _moment_text(at_ms: int | None) -> str:
    return "" if at_ms is None else moment_text(datetime.fromtimestamp(at_ms / 1000, UTC))


def _epoch_ms(params: Mapping[str, str], name: str) -> int | None:
    seconds = epoch_seconds(name, params.get(name, ""))
    return None if seconds is None else round(seconds * 1000)
