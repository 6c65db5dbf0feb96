"""Writes down which tests failed, for whoever wants to run those once more."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

VARIABLE = "QUEUESCOPE_FAILED_TESTS"
"""Names the file; unset writes nothing."""


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """One node id a line, in the order of the failures. Runs once, however many processes test."""
    path = os.environ.get(VARIABLE)
    if not path:
        return
    reports = [
        report for kind in ("failed", "error") for report in terminalreporter.stats.get(kind, ())
    ]
    names = dict.fromkeys(report.nodeid for report in reports)
    Path(path).write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
