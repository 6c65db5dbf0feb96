"""``time.time`` of a process whose machine may have a clock of its own.

Imported before all that keeps ``time.time``. It costs nothing to be read by another Python, as it
needs nothing of these tests.
"""

from __future__ import annotations

import time

_real = time.time
ahead_file = ""
"""Where the clock's lead in seconds is read each time; empty: the clock is right."""


def _shifted() -> float:
    if not ahead_file:
        return _real()
    with open(ahead_file, encoding="ascii") as file:  # noqa: PTH123 - pathlib costs each start
        return _real() + float(file.read())


time.time = _shifted
