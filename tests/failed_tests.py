"""Writes a list of the failed tests, so that they can run once more."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

VARIABLE = "FAILED_TESTS_FILE"
"""Names the file; unset writes nothing."""

# Removed from the environment before the test processes start: the programs under test must
# always have the same environment.
_file = os.environ.pop(VARIABLE, None)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """One node id a line, in the order of the failures. Runs once, however many processes test."""
    if not _file:
        return
    reports = [
        report for kind in ("failed", "error") for report in terminalreporter.stats.get(kind, ())
    ]
    names = dict.fromkeys(report.nodeid for report in reports)
    Path(_file).write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
