"""The names of metrics and labels, and text, as PromQL writes them.

Prometheus 3 takes names of any letters, which stand in quotes: ``{"service.name"="x"}``.
"""

from __future__ import annotations

import re

from queuescope.errors import ConfigurationError

_PLAIN_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_PLAIN_METRIC = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
# What could be a slip (a space, a quote, a bracket) is refused, although Prometheus 3 takes it.
_NAME = re.compile(r"(?:[^\W\d]|:)[^\s\"'`\\{}()\[\],;=!~<>\x00-\x1f\x7f\ufffd]*")


def quote(value: str) -> str:
    """``value`` as a PromQL string literal, whatever it holds.

    Raises ``ConfigurationError`` for text that cannot be sent as UTF-8.
    """
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as exc:
        raise ConfigurationError(f"{value!a} is not valid Unicode text") from exc
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    # Prometheus takes U+FFFD, written out, for a byte that is no text.
    return '"' + re.sub(r"[\x00-\x1f\x7f\ufffd]", lambda m: f"\\u{ord(m[0]):04x}", escaped) + '"'


def is_label_name(name: str) -> bool:
    """Whether a label can be called so."""
    return _NAME.fullmatch(name) is not None


def is_metric_name(name: str) -> bool:
    """Whether a metric can be called so."""
    return _NAME.fullmatch(name) is not None


def is_plain_label(name: str) -> bool:
    """Whether a label of this name stands without quotes."""
    return _PLAIN_LABEL.fullmatch(name) is not None


def is_plain_metric(name: str) -> bool:
    """Whether a metric of this name stands without quotes."""
    return _PLAIN_METRIC.fullmatch(name) is not None


def label_text(name: str) -> str:
    """The name of a label as PromQL writes it."""
    return name if is_plain_label(name) else quote(name)


def selector(metric: str, matchers: str = "") -> str:
    """What selects the series of ``metric``; ``matchers`` is rendered PromQL."""
    if is_plain_metric(metric):
        return f"{metric}{{{matchers}}}"
    return f"{{{','.join(filter(None, [quote(metric), matchers]))}}}"
