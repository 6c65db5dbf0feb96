"""Medians, spreads and ratios of a run, as JSON and as a table."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil


@dataclass(frozen=True, slots=True)
class Measure:
    """What was measured of one contender; ``unit`` is that of all ``values``."""

    title: str
    contender: str
    unit: str
    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def words(self) -> str:
        digits = 0 if self.median >= 100 else 1 if self.median >= 10 else 2
        low, high = min(self.values), max(self.values)
        text = f"{self.median:,.{digits}f} {self.unit}"
        if len(self.values) == 1:
            return text
        return f"{text} ({low:,.{digits}f}–{high:,.{digits}f})"


@dataclass(frozen=True, slots=True)
class Ratio:
    """The ratio of two medians and its ``target``, a minimum or a maximum.

    Without a target (None) the ratio is only shown. A ``value`` of None is unknown.
    """

    title: str
    value: float | None
    target: float | None
    at_least: bool

    @property
    def met(self) -> bool | None:
        if self.target is None or self.value is None:
            return None
        return self.value >= self.target if self.at_least else self.value <= self.target

    @property
    def words(self) -> str:
        """The target and whether it is met, as two cells of a table."""
        if self.target is None:
            return "– | "
        sign = "≥" if self.at_least else "≤"
        verdict = {True: "met", False: "**missed**", None: "unknown"}[self.met]
        return f"{sign} {self.target:g} | {verdict}"


@dataclass(slots=True)
class Results:
    """A run. ``load`` is how many cores were busy between its parts.

    ``name`` is that of the files, ``machine`` the versions of the measured software.
    """

    name: str
    title: str
    options: dict[str, Any]
    machine: dict[str, str]
    measures: list[Measure] = field(default_factory=list)
    ratios: list[Ratio] = field(default_factory=list)
    load: dict[str, list[float]] = field(default_factory=dict)

    def add(self, title: str, contender: str, unit: str, values: Sequence[float]) -> None:
        self.measures.append(Measure(title, contender, unit, tuple(values)))

    def median(self, title: str, contender: str) -> float:
        return next(m.median for m in self.measures if (m.title, m.contender) == (title, contender))

    def times(self, title: str, contender: str, than: str) -> float | None:
        """The median of ``contender`` divided by that of ``than``; None if that was too little to
        be measured, as the CPU time of a few refreshes may be.
        """
        least = self.median(title, than)
        return self.median(title, contender) / least if least > 0 else None

    def write(self, directory: Path) -> None:
        """A JSON file and a table in ``directory``."""
        directory.mkdir(parents=True, exist_ok=True)
        content = {
            "machine": _machine() | self.machine,
            "taken_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "options": self.options,
            "load_of_others_cores": self.load,
            "measures": [asdict(m) | {"median": m.median} for m in self.measures],
            "ratios": [asdict(ratio) | {"met": ratio.met} for ratio in self.ratios],
        }
        text = json.dumps(content, indent=1) + "\n"
        (directory / f"{self.name}.json").write_text(text, "utf-8")
        (directory / f"{self.name}.md").write_text(self._table(content), "utf-8")

    def _table(self, content: dict[str, Any]) -> str:
        contenders = list(dict.fromkeys(m.contender for m in self.measures))
        lines = [
            f"# {self.title}",
            "",
            "Medians (smallest–largest). How it is measured: [README](../README.md).",
            "",
            f"| | {' | '.join(contenders)} |",
            f"|---|{'---:|' * len(contenders)}",
        ]
        for title in dict.fromkeys(m.title for m in self.measures):
            cells = {m.contender: m.words for m in self.measures if m.title == title}
            row = " | ".join(cells.get(contender, "") for contender in contenders)
            lines.append(f"| {title} | {row} |")
        lines += ["", "| | reached | target | |", "|---|---:|---:|---|"]
        for ratio in self.ratios:
            value = "unknown" if ratio.value is None else f"{ratio.value:.2f}"
            lines.append(f"| {ratio.title} | {value} | {ratio.words} |")
        loads = [one for part in self.load.values() for one in part]
        machine = ", ".join(f"{name} {value}" for name, value in content["machine"].items())
        busy = f"{statistics.median(loads):.2f} cores busy (at most {max(loads):.2f})"
        # Measured between the parts, so work that a contender does after its turn is included.
        lines += ["", f"Taken {content['taken_at']}; {machine}. Between the parts {busy}.", ""]
        return "\n".join(lines)


def _machine() -> dict[str, Any]:
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    described = {
        "cores": os.cpu_count(),
        "cpu": model,
        "system": platform.freedesktop_os_release()["PRETTY_NAME"],
        "python": platform.python_version(),
    }
    return {name: str(value) for name, value in described.items()}


def versions(*packages: str) -> dict[str, str]:
    return {package: version(package) for package in packages}


def busy_cores(seconds: float = 0.5) -> float:
    """How many cores are busy while the benchmark only waits."""
    percent = float(psutil.cpu_percent(interval=seconds))
    return round(percent / 100 * (os.cpu_count() or 1), 3)
