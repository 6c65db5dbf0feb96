"""The filter of the job history, as written in an address.

The page and the file of jobs parse the same address, so that the file holds what the page shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlencode

from queuescope.dashboard.ui.parameters import epoch_seconds, short_text
from queuescope.errors import ConfigurationError
from queuescope.jobs.job import LABEL_LIMIT, JobStatus
from queuescope.jobs.search import TEXT_LIMIT, JobFilter, Place

CUSTOM = "custom"
TIMES = {"1h": 3600, "24h": 86_400, "7d": 7 * 86_400}
"""Seconds back from now, by their names in an address."""

NAMES = ("find", "status", "tenant", "type", "queue", "worker", "time", "from", "to")
"""The parameters of a filter, in their order in an address."""

_STEP_SECONDS = 10


def parse_filter(params: Mapping[str, str], now: float) -> JobFilter:
    """The filter in ``params``; parameters that are not in ``NAMES`` are ignored.

    ``now`` (epoch seconds) is the end of a time such as ``24h``. Raises ``ConfigurationError``,
    whose text may be shown to anyone.
    """
    since, until = _span(params, now)
    return JobFilter(
        status=_status(params.get("status", "")),
        tenant=_name(params, "tenant"),
        name=_name(params, "type"),
        queue=_name(params, "queue"),
        worker=_name(params, "worker"),
        since=since,
        until=until,
        text=short_text(params, "find", TEXT_LIMIT).strip(),
    )


def query_of(params: Mapping[str, str]) -> str:
    """The filter in ``params`` as the query of an address."""
    return urlencode([(name, params[name]) for name in NAMES if params.get(name)])


def page_text(way: str, place: Place) -> str:
    """A page as written in an address: ``older`` or ``newer`` than ``place``."""
    return f"{way}~{place}"


def parse_page(text: str) -> tuple[Place | None, Place | None]:
    """The places that the page is older and newer than; both None for any other text."""
    way, _, rest = text.partition("~")
    place = Place.parse(rest)
    return (place if way == "older" else None), (place if way == "newer" else None)


def _status(text: str) -> JobStatus | None:
    if not text:
        return None
    try:
        return JobStatus(text)
    except ValueError:
        known = ", ".join(JobStatus)
        raise ConfigurationError(f"status={text[:40]!r}: give one of {known}") from None


def _name(params: Mapping[str, str], name: str) -> str:
    """The exact name: one that ends in a line break is another name."""
    text = short_text(params, name, LABEL_LIMIT)
    return text if text.strip() else ""


def _span(params: Mapping[str, str], now: float) -> tuple[float | None, float | None]:
    time = params.get("time", "")
    since, until = params.get("from", ""), params.get("to", "")
    if time in TIMES:
        # Rounded, so that all viewers within one step share a query.
        return now // _STEP_SECONDS * _STEP_SECONDS - TIMES[time], None
    if time not in ("", CUSTOM):
        raise ConfigurationError(
            f"time={time[:40]!r}: give one of {', '.join((*TIMES, CUSTOM))}, or from and to"
        )
    return epoch_seconds("from", since), epoch_seconds("to", until)
