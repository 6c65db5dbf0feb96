"""Loads panel files (TOML), with errors that name the problem, the place and the remedy."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, cast

from queuescope.errors import ConfigurationError
from queuescope.panels.checks import (
    check_keys,
    check_template,
    is_finite,
    numbers,
    suggestion,
    texts,
)
from queuescope.panels.layout import default_rows, parse_rows
from queuescope.panels.measures import parse_ended, parse_flow, parse_measures, parse_per_worker
from queuescope.panels.model import (
    RANKED_QUANTILE,
    Dashboard,
    Kind,
    Panel,
    PanelRole,
    Threshold,
)
from queuescope.panels.native import with_native
from queuescope.prometheus.promql import is_label_name, is_metric_name

REQUIRED = {"id", "title", "kind", "unit", "query", "now", "point", "metrics"}
OPTIONAL = {"role", "breakdowns", "thresholds", "quantiles", "scale"}
_MOST_LETTERS = 64
# An id is used in addresses, selectors and file names.
_ID = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


def load_dashboard(preset: str) -> Dashboard:
    """Load a built-in preset by name, or a panel file by path.

    Raises ``ConfigurationError``, which names the file, the panel and the key.
    """
    if preset.endswith(".toml") or "/" in preset:
        path = Path(preset)
        try:
            return parse_dashboard(path.read_text("utf-8"), path.stem, str(path))
        except (OSError, UnicodeDecodeError) as exc:
            raise ConfigurationError(f"cannot read the panel file {path}: {exc}") from exc
    directory = resources.files("queuescope.panels") / "presets"
    known = sorted(p.name.removesuffix(".toml") for p in directory.iterdir())
    if preset not in known:
        raise ConfigurationError(
            f"unknown preset {preset!r}{suggestion(preset, known)}; there are: {', '.join(known)}"
        )
    text = (directory / f"{preset}.toml").read_text("utf-8")
    return parse_dashboard(text, preset, f"preset {preset}")


def parse_dashboard(text: str, name: str, place: str) -> Dashboard:
    """Validate the text of a panel file. ``place`` is its name in errors."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise ConfigurationError(f"{place} is not valid TOML: {exc}") from exc
    check_keys(raw, {"title", "panel", "row", "measure", "flow", "worker", "ended"}, place)
    tables = raw.get("panel")
    if not isinstance(tables, list) or not tables:
        raise ConfigurationError(f"{place}: at least one [[panel]] is needed")
    if not all(isinstance(table, dict) for table in tables):
        raise ConfigurationError(f"{place}: panels are written as [[panel]] tables")
    panels = tuple(
        _panel(cast("dict[str, Any]", table), f"{place}, panel {number}")
        for number, table in enumerate(tables, start=1)
    )
    ids = [panel.id for panel in panels]
    if len(set(ids)) != len(ids):
        raise ConfigurationError(f"{place}: two panels have the same id among {', '.join(ids)}")
    _refuse_twice_the_role(panels, place)
    rows = parse_rows(raw["row"], place, ids) if "row" in raw else default_rows(ids)
    measures = parse_measures(raw.get("measure", []), place, {p.id: p for p in panels})
    flow = parse_flow(raw["flow"], f"{place}, flow") if "flow" in raw else None
    per_worker = parse_per_worker(raw["worker"], f"{place}, worker") if "worker" in raw else None
    ended = parse_ended(raw["ended"], f"{place}, ended") if "ended" in raw else None
    title = str(raw.get("title", name))
    return Dashboard(name, title, panels, rows, measures, flow, per_worker, ended)


def _panel(raw: dict[str, Any], place: str) -> Panel:
    if isinstance(raw.get("id"), str):
        place = f"{place.rsplit(',', 1)[0]}, panel {raw['id']!r}"
    check_keys(raw, REQUIRED | OPTIONAL, place)
    for key in sorted(REQUIRED - raw.keys()):
        raise ConfigurationError(f"{place}: {key!r} is missing")
    for key in ("id", "title", "kind", "unit", "query", "now", "point"):
        if not isinstance(raw[key], str) or not raw[key].strip():
            raise ConfigurationError(f"{place}: {key!r} must be a text that is not empty")
    if not _ID.fullmatch(raw["id"]) or len(raw["id"]) > _MOST_LETTERS:
        raise ConfigurationError(
            f"{place}: 'id' begins with a letter and holds letters, digits, _ and - only, "
            f"{_MOST_LETTERS} at most"
        )
    if raw["kind"] not in list(Kind):
        raise ConfigurationError(f"{place}: kind must be one of {', '.join(Kind)}")
    role = _role(raw, place)
    if set("{}") & set(raw["point"].replace("{step}", "")):
        raise ConfigurationError(f"{place}: 'point' may hold {{step}}, and no other braces")
    for key in ("query", "now"):
        check_template(raw[key], f"{place}, {key}")
    breakdowns = texts(raw, "breakdowns", place)
    for label in breakdowns:
        if not is_label_name(label):
            raise ConfigurationError(f"{place}: {label!r} is not a label name")
    metrics = texts(raw, "metrics", place)
    if not metrics:
        raise ConfigurationError(f"{place}: 'metrics' must name at least one metric")
    for metric in metrics:
        if not is_metric_name(metric):
            raise ConfigurationError(f"{place}: {metric!r} is not a metric name")
    quantiles = numbers(raw, "quantiles", place)
    if any(not 0 < q < 1 for q in quantiles) or len(set(quantiles)) != len(quantiles):
        raise ConfigurationError(f"{place}: quantiles differ and lie between 0 and 1, such as 0.95")
    if quantiles and RANKED_QUANTILE not in quantiles:
        raise ConfigurationError(
            f"{place}: quantiles must hold {RANKED_QUANTILE}, "
            "which the present value and breakdowns show"
        )
    scale = raw.get("scale", 1)
    if not is_finite(scale) or scale <= 0:
        raise ConfigurationError(f"{place}: scale must be a number above 0")
    return Panel(
        id=raw["id"],
        title=raw["title"],
        kind=Kind(raw["kind"]),
        unit=raw["unit"],
        query=with_native(" ".join(raw["query"].split()), quantiles),
        now=with_native(" ".join(raw["now"].split()), quantiles and (RANKED_QUANTILE,)),
        point=raw["point"],
        metrics=metrics,
        role=role,
        breakdowns=breakdowns,
        thresholds=_thresholds(raw, place),
        quantiles=quantiles,
        scale=float(scale),
    )


def _role(raw: dict[str, Any], place: str) -> PanelRole:
    given = raw.get("role", PanelRole.NONE)
    if given not in list(PanelRole):
        raise ConfigurationError(
            f"{place}: role must be one of {', '.join(PanelRole)}"
            f"{suggestion(str(given), list(PanelRole))}"
        )
    role = PanelRole(given)
    if role.kind not in (None, raw["kind"]):
        raise ConfigurationError(
            f"{place}: a panel with the role {role!s} is of the kind {role.kind}, not {raw['kind']}"
        )
    return role


def _refuse_twice_the_role(panels: Sequence[Panel], place: str) -> None:
    holders: dict[PanelRole, str] = {}
    for panel in panels:
        if (
            panel.role is not PanelRole.NONE
            and holders.setdefault(panel.role, panel.id) != panel.id
        ):
            raise ConfigurationError(
                f"{place}: two panels have the role {panel.role}: "
                f"{holders[panel.role]!r} and {panel.id!r}"
            )


def _thresholds(raw: dict[str, Any], place: str) -> tuple[Threshold, ...]:
    tables = raw.get("thresholds", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise ConfigurationError(f"{place}: thresholds are a list such as [{{ value = 100 }}]")
    found = []
    for table in tables:
        value = table.get("value")
        if not is_finite(value):
            raise ConfigurationError(f"{place}: a threshold needs a number as its value")
        check_keys(table, {"value", "label"}, f"{place}, threshold {value}")
        found.append(Threshold(float(value), str(table.get("label", f"limit {value:g}"))))
    return tuple(found)
