"""The ``[[measure]]``, ``[ended]``, ``[flow]`` and ``[worker]`` tables of a panel file."""

from __future__ import annotations

from collections.abc import Mapping
from string import Template
from typing import Any

from queuescope.errors import ConfigurationError
from queuescope.health import Limits, Worse
from queuescope.panels.checks import check_keys, check_template, is_finite, suggestion, texts
from queuescope.panels.model import (
    EndedJobs,
    Flow,
    Kind,
    Measure,
    Panel,
    PanelRole,
    PerWorker,
    Share,
)
from queuescope.prometheus.promql import is_label_name

CARDS = {
    "queue_depth": PanelRole.DEPTH,
    "success_rate": PanelRole.SUCCESS,
    "p95_latency": PanelRole.LATENCY,
    "active_workers": PanelRole.WORKERS,
    "throughput": PanelRole.THROUGHPUT,
    "oldest_waiting": PanelRole.OLDEST,
}
"""The possible cards, and the role of the panel that each reads."""

_WORKER = "worker"
_OF_PANEL = {"panel", "now", "share", "share_of"}
_OF_OWN = {"kind", "unit", "query", "now", "metrics", "scale"}
_SHARED = {"id", "title", "worse", "degraded", "down", "note"}


def parse_measures(tables: Any, place: str, panels: Mapping[str, Panel]) -> tuple[Measure, ...]:
    """Validate the measures. ``panels`` are those of the same file, by id.

    A measure reads the panel that ``panel`` names, or has a ``kind``, ``unit``, ``query``, ``now``
    and ``metrics`` of its own. Raises ``ConfigurationError``.
    """
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise ConfigurationError(f"{place}: measures are written as [[measure]] tables")
    measures = tuple(
        _measure(table, f"{place}, measure {table.get('id', number)!r}", panels)
        for number, table in enumerate(tables, start=1)
    )
    ids = [measure.id for measure in measures]
    if len(set(ids)) != len(ids):
        raise ConfigurationError(f"{place}: two measures have the same id among {', '.join(ids)}")
    return measures


def parse_flow(raw: Any, place: str) -> Flow:
    """Validate the table for the drain forecast. Raises ``ConfigurationError``."""
    if not isinstance(raw, dict):
        raise ConfigurationError(f"{place} is written as a [flow] table")
    history = {"waiting", "completed"}
    # The growth of the depth follows from its history; older files may still have a query for it.
    check_keys(raw, {"growth", "completion", "window_seconds"} | history, place)
    if history & raw.keys() and not history <= raw.keys():
        raise ConfigurationError(f"{place}: give both 'waiting' and 'completed', or neither")
    queries = {
        key: _one_line(_text(raw, key, place))
        for key in ("completion", *sorted(history & raw.keys()))
    }
    for key, text in queries.items():
        check_template(text, f"{place}, {key}")
    seconds = raw.get("window_seconds", 600)
    if isinstance(seconds, bool) or not isinstance(seconds, int) or not 60 <= seconds <= 86_400:
        raise ConfigurationError(f"{place}: window_seconds must be whole seconds, 60 to 86400")
    return Flow(**queries, window_seconds=seconds)


def parse_per_worker(raw: Any, place: str) -> PerWorker:
    """Validate the table for the page of workers. Raises ``ConfigurationError``."""
    if not isinstance(raw, dict):
        raise ConfigurationError(f"{place} is written as a [worker] table")
    check_keys(raw, {"throughput"}, place)
    query = _one_line(_text(raw, "throughput", place))
    check_template(query, f"{place}, throughput", also={_WORKER})
    if _WORKER not in Template(query).get_identifiers():
        raise ConfigurationError(f"{place}, throughput: $worker must name the worker")
    return PerWorker(query)


def parse_ended(raw: Any, place: str) -> EndedJobs:
    """Validate the table for success rate and throughput. Raises ``ConfigurationError``."""
    if not isinstance(raw, dict):
        raise ConfigurationError(f"{place} is written as an [ended] table")
    check_keys(raw, {"now", "good"}, place)
    now = _text(raw, "now", place)
    check_template(now, f"{place}, now")
    return EndedJobs(_one_line(now), *_label(raw, "good", place))


def _measure(raw: dict[str, Any], place: str, panels: Mapping[str, Panel]) -> Measure:
    check_keys(raw, _SHARED | _OF_PANEL | _OF_OWN, place)
    given = str(raw.get("id", ""))
    if given not in CARDS:
        raise ConfigurationError(
            f"{place}: id must be one of {', '.join(CARDS)}{suggestion(given, CARDS)}"
        )
    if not isinstance(raw.get("title"), str) or not raw["title"].strip():
        raise ConfigurationError(f"{place}: 'title' must be a text that is not empty")
    if "panel" in raw:
        check_keys(raw, _SHARED | _OF_PANEL, place)
        panel = panels.get(str(raw["panel"]))
        if panel is None:
            raise ConfigurationError(
                f"{place}: there is no panel {raw['panel']!r} in this file"
                f"{suggestion(str(raw['panel']), panels)}"
            )
        if panel.role is not CARDS[given]:
            raise ConfigurationError(
                f"{place}: the panel {panel.id!r} has the role {panel.role}; this card reads one "
                f'with role = "{CARDS[given]}"'
            )
    else:
        panel = _own_panel(raw, place)
    share = _share(raw, place, panel) if {"share", "share_of"} & raw.keys() else None
    now = _text(raw, "now", place) if "now" in raw else panel.now
    check_template(now, f"{place}, now")
    return Measure(
        given,
        panel,
        raw["title"],
        _one_line(now),
        _limits(raw, place),
        note=str(raw.get("note", "")),
        on_page="panel" in raw,
        share=share,
    )


def _share(raw: dict[str, Any], place: str, panel: Panel) -> Share:
    if panel.kind is not Kind.PERCENT:
        raise ConfigurationError(f"{place}: a share is in percent, the panel {panel.id!r} is not")
    if "now" not in raw:
        raise ConfigurationError(
            f"{place}: a share needs 'now', which is queried if the share has no data"
        )
    query = _text(raw, "share", place)
    check_template(query, f"{place}, share")
    return Share(_one_line(query), *_label(raw, "share_of", place))


def _label(raw: dict[str, Any], key: str, place: str) -> tuple[str, str]:
    """The only label with its value in the table ``key``."""
    table = raw.get(key)
    pairs = list(table.items()) if isinstance(table, dict) else []
    if len(pairs) != 1 or not isinstance(pairs[0][1], str) or not is_label_name(pairs[0][0]):
        raise ConfigurationError(
            f'{place}: {key!r} must name a label and its value, such as {{ outcome = "done" }}'
        )
    [(label, value)] = pairs
    return label, value


def _own_panel(raw: dict[str, Any], place: str) -> Panel:
    for key in ("kind", "unit", "query", "now"):
        _text(raw, key, place)
    if raw["kind"] not in list(Kind):
        raise ConfigurationError(f"{place}: kind must be one of {', '.join(Kind)}")
    role = CARDS[raw["id"]]
    if raw["kind"] != role.kind:
        raise ConfigurationError(f"{place}: this card is of the kind {role.kind}")
    check_template(raw["query"], f"{place}, query")
    metrics = texts(raw, "metrics", place)
    if not metrics:
        raise ConfigurationError(f"{place}: 'metrics' must name at least one metric")
    scale = raw.get("scale", 1)
    if not is_finite(scale) or scale <= 0:
        raise ConfigurationError(f"{place}: scale must be a number above 0")
    return Panel(
        id=raw["id"],
        title=raw["title"],
        kind=Kind(raw["kind"]),
        unit=raw["unit"],
        query=_one_line(raw["query"]),
        now=_one_line(raw["now"]),
        point="",
        metrics=metrics,
        role=role,
        scale=float(scale),
    )


def _limits(raw: dict[str, Any], place: str) -> Limits | None:
    worse = raw.get("worse")
    if worse is None:
        if {"degraded", "down"} & raw.keys():
            raise ConfigurationError(f"{place}: a limit needs 'worse', which says above or below")
        return None
    if worse not in list(Worse):
        raise ConfigurationError(f"{place}: worse must be one of {', '.join(Worse)}")
    for key in ("degraded", "down"):
        if key in raw and not is_finite(raw[key]):
            raise ConfigurationError(f"{place}: {key!r} must be a number")
    try:
        return Limits(Worse(worse), raw.get("degraded"), raw.get("down"))
    except ValueError as exc:
        raise ConfigurationError(f"{place}: {exc}") from exc


def _text(raw: dict[str, Any], key: str, place: str) -> str:
    value = raw.get(key)
    if not isinstance(value, str) or not value.strip():
        raise ConfigurationError(f"{place}: {key!r} must be a text that is not empty")
    return value


def _one_line(text: str) -> str:
    return " ".join(text.split())
