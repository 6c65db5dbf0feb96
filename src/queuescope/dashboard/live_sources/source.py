"""One source as it was seen last, whatever it tells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from queuescope.errors import QueuescopeError
from queuescope.view.present.live_sources import LiveSource, Origin

if TYPE_CHECKING:
    from queuescope.known import Known


def live_source(origin: Origin, known: Known[Any], **told: Any) -> LiveSource:
    error = known.error
    cause = "" if error is None else str(error)
    if known.value is None and not cause:
        cause = f"{origin.words} has not answered yet"
    return LiveSource(
        origin,
        as_of=known.as_of,
        cause=cause,
        kind=_kind(error),
        failing_since=known.failing_since,
        **told,
    )


def _kind(error: QueuescopeError | None) -> str:
    return str(getattr(error, "kind", "")) if error is not None else ""
