"""What the page's address asks for.

The page and its data endpoints parse the address with the same functions. Times are ISO 8601
(without a zone: UTC), epoch seconds or milliseconds, or relative to now as Grafana writes them
(``now-3h``, ``now-1d/d``; days and weeks are those of UTC, and weeks begin on Monday).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from queuescope.errors import ConfigurationError
from queuescope.view.selection import (
    MAX_SPAN_SECONDS,
    RANGE_UNITS,
    RANGES,
    STEPS,
    View,
    range_name,
)

SHORTEST_SPAN_SECONDS = 60
"""The shortest range that follows the present."""

_SPAN = re.compile(r"([0-9]{1,9})([smhdw])")
_RELATIVE = re.compile(r"now((?:[+-][0-9]{1,9}[smhdw])*)(?:/([smhdw]))?")
_SHIFT = re.compile(r"([+-])([0-9]{1,9})([smhdw])")
_EPOCH = re.compile(r"[0-9]{9,15}")
_LONGEST_SECONDS_TEXT = 11
_MONDAY = 4 * 86_400
"""The epoch began on a Thursday; its first Monday is day 4."""
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Address:
    """A view, and the part of it that is zoomed to (epoch seconds); ``remarks`` are sentences about
    parameters that could not be honoured.
    """

    view: View
    zoom: tuple[int, int] | None = None
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Instant:
    """``seconds`` since the epoch. ``back`` is how long ago that is, in seconds, for a time
    relative to now; None for any other.
    """

    seconds: int
    back: int | None = None


def parse_view(
    params: Mapping[str, str], breakdowns: Sequence[str], default_range: str, now: float
) -> View:
    """The view that an address names; ``now`` is in epoch seconds.

    Raises ``ConfigurationError`` with the parameter, what it holds and what it may hold.
    """
    by = _breakdown(params, breakdowns)
    step = _step(params.get("step"))
    return _window(params, default_range, step, by, now)


def read_address(
    params: Mapping[str, str], breakdowns: Sequence[str], default_range: str, now: float
) -> Address:
    """Like ``parse_view``, but never raises: each invalid parameter is replaced by its default,
    with a remark that says so.
    """
    remarks: list[str] = []

    def tried(parse: Callable[[], _T], otherwise: _T, shown: str) -> _T:
        try:
            return parse()
        except ConfigurationError as exc:
            remarks.append(f"{exc}. Shown instead: {shown}.")
            return otherwise

    by = tried(lambda: _breakdown(params, breakdowns), None, "all together")
    step = tried(lambda: _step(params.get("step")), None, "the usual step")
    view = tried(
        lambda: _window(params, default_range, step, by, now),
        View(default_range, None, None, step, by),
        f"the last {default_range}",
    )
    zoom = tried(lambda: _zoom(params.get("zoom"), now), None, "the whole range")
    for name in ("from", "to"):
        text = params.get(name, "")
        if view.range is None and _lacks_zone(text):
            remarks.append(f"{name}={text[:40]!r} names no time zone and is read as UTC.")
        elif view.range is None and "/" in text:
            remarks.append(f"{name}={text[:40]!r} is read with days of UTC.")
    return Address(view, zoom, tuple(remarks))


def _breakdown(params: Mapping[str, str], breakdowns: Sequence[str]) -> str | None:
    by = params.get("by") or None
    if by == "none":
        return None
    if by is not None and by not in breakdowns:
        raise ConfigurationError(f"by={by[:40]!r}: choose one of none, {', '.join(breakdowns)}")
    return by


def _window(
    params: Mapping[str, str], default_range: str, step: int | None, by: str | None, now: float
) -> View:
    if not (params.get("from") or params.get("to")):
        name = _range(params["range"]) if params.get("range") else default_range
        return View(name, None, None, step, by)
    if not (params.get("from") and params.get("to")):
        raise ConfigurationError("a custom range needs both from= and to=")
    start, end = _instant("from", params["from"], now), _instant("to", params["to"], now, up=True)
    if end.back == 0 and start.back is not None and start.back > 0:
        return View(_checked_range("from", params["from"], start.back), None, None, step, by)
    if end.seconds <= start.seconds:
        raise ConfigurationError("from= must lie before to=")
    if end.seconds - start.seconds > MAX_SPAN_SECONDS:
        raise ConfigurationError(
            f"from= and to= are more than {MAX_SPAN_SECONDS // 86_400} days apart"
        )
    if start.seconds >= now:
        raise ConfigurationError(
            f"from={params['from'][:40]!r} lies in the future: it is {_iso(now)} now"
        )
    return View(None, start.seconds, end.seconds, step, by)


def _range(text: str) -> str:
    if text in RANGES:
        return text
    found = _SPAN.fullmatch(text)
    if found is None:
        raise ConfigurationError(
            f"range={text[:40]!r}: choose one of {', '.join(RANGES)}, "
            "or another number of m, h, d or w"
        )
    return _checked_range("range", text, int(found[1]) * RANGE_UNITS[found[2]])


def _checked_range(name: str, text: str, seconds: int) -> str:
    if not SHORTEST_SPAN_SECONDS <= seconds <= MAX_SPAN_SECONDS:
        raise ConfigurationError(
            f"{name}={text[:40]!r}: a range is at least 1m and at most "
            f"{MAX_SPAN_SECONDS // 86_400}d long"
        )
    return range_name(seconds)


def _step(text: str | None) -> int | None:
    if not text:
        return None
    plain = text.isascii() and text.isdecimal() and len(text) < 10
    if not plain or not 0 < int(text) <= STEPS[-1]:
        raise ConfigurationError(f"step={text[:40]!r}: give whole seconds, 1 to {STEPS[-1]}")
    return int(text)


def _zoom(text: str | None, now: float) -> tuple[int, int] | None:
    if not text:
        return None
    first, comma, second = text.partition(",")
    if not comma:
        raise ConfigurationError(f"zoom={text[:40]!r}: give two times with a comma between them")
    start, end = _instant("zoom", first, now), _instant("zoom", second, now, up=True)
    if end.seconds <= start.seconds:
        raise ConfigurationError(f"zoom={text[:60]!r}: the first time must lie before the second")
    return start.seconds, end.seconds


def _instant(name: str, text: str, now: float, *, up: bool = False) -> _Instant:
    """One end of a range. With ``up`` it is the later end, so a rounded unit such as ``/d`` counts
    to its end.
    """
    if (relative := _RELATIVE.fullmatch(text.replace(" ", "+"))) is not None:
        found = _relative(relative[1], relative[2], now, up=up)
    elif _EPOCH.fullmatch(text):
        # Seconds with so many digits would lie some thousand years ahead.
        is_seconds = len(text) <= _LONGEST_SECONDS_TEXT
        found = _Instant(int(text) if is_seconds else int(text) // 1000)
    else:
        found = _Instant(_moment(name, text))
    if not 0 <= found.seconds < 2**33:
        raise ConfigurationError(f"{name}={text[:40]!r} lies outside the years 1970 to 2242")
    return found


def _relative(shifts: str, unit: str | None, now: float, *, up: bool) -> _Instant:
    back = 0
    for sign, count, size in _SHIFT.findall(shifts):
        back += (-1 if sign == "+" else 1) * int(count) * RANGE_UNITS[size]
    at = int(now) - back
    if unit is None:
        return _Instant(at, back)
    size, shift = RANGE_UNITS[unit], _MONDAY if unit == "w" else 0
    begun = (at - shift) // size * size + shift
    return _Instant(begun + size if up else begun)


def _moment(name: str, text: str) -> int:
    try:
        when = datetime.fromisoformat(text.replace(" ", "+"))
    except ValueError:
        raise ConfigurationError(
            f"{name}={text[:40]!r}: give a time such as 2026-01-31T14:00:00Z, epoch "
            "milliseconds, or now-3h"
        ) from None
    return int((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp())


def _lacks_zone(text: str) -> bool:
    if _RELATIVE.fullmatch(text) or _EPOCH.fullmatch(text):
        return False
    try:
        return datetime.fromisoformat(text.replace(" ", "+")).tzinfo is None
    except ValueError:
        return False


def _iso(seconds: float) -> str:
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=int(seconds))
    return at.isoformat().replace("+00:00", "Z")
