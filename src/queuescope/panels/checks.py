"""Checks for all tables of a panel file, with errors that name the place and the remedy."""

from __future__ import annotations

import math
from collections.abc import Collection
from string import Template
from typing import Any, TypeGuard

from rapidfuzz import process

from queuescope.errors import ConfigurationError
from queuescope.panels.template import PLACEHOLDERS


def check_template(text: str, place: str, *, also: Collection[str] = ()) -> None:
    """``also`` are placeholders that are allowed here besides the usual ones."""
    template = Template(text)
    if not template.is_valid():
        raise ConfigurationError(f"{place}: the template has a single $; write $$ for a dollar")
    for name in template.get_identifiers():
        if name not in PLACEHOLDERS and name not in also:
            known = sorted({*PLACEHOLDERS, *also})
            raise ConfigurationError(
                f"{place}: unknown placeholder ${name}{suggestion(name, known)}"
            )


def texts(raw: dict[str, Any], key: str, place: str) -> tuple[str, ...]:
    values = raw.get(key, [])
    if not isinstance(values, list) or not all(isinstance(v, str) for v in values):
        raise ConfigurationError(f"{place}: {key!r} must be a list of texts")
    return tuple(values)


def numbers(raw: dict[str, Any], key: str, place: str) -> tuple[float, ...]:
    values = raw.get(key, [])
    if not isinstance(values, list) or not all(map(is_finite, values)):
        raise ConfigurationError(f"{place}: {key!r} must be a list of numbers")
    return tuple(map(float, values))


def is_finite(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def check_keys(raw: dict[str, Any], known: set[str], place: str) -> None:
    for key in raw:
        if key not in known:
            raise ConfigurationError(
                f"{place}: unknown key {key!r}{suggestion(key, sorted(known))}"
            )


def suggestion(given: str, known: Collection[str]) -> str:
    found = process.extractOne(given, list(known), score_cutoff=60)
    return f", did you mean {str(found[0])!r}?" if found else ""
