"""The result of a long proof: when it ran, on what, and what it covered."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

_PROJECT = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One proof that held. ``command`` is what repeats it, from the project's root."""

    title: str
    command: str
    lines: Sequence[str]
    seconds: float

    def tell(self, result: Path | None) -> None:
        """Print it, and write it to ``result``, replacing an earlier one with this title."""
        heading = f"## {self.title}\n"
        text = "\n".join([heading, *self.lines, "", self._taken(), ""])
        print(text)
        if result is None:
            return
        kept = result.read_text("utf-8") if result.exists() else ""
        before, found, rest = kept.partition(heading)
        _, next_heading, after = rest.partition("\n## ") if found else ("", "", "")
        following = f"\n## {after}" if next_heading else ""
        result.write_text(f"{before.rstrip()}\n\n{text}{following}".lstrip(), encoding="utf-8")

    def _taken(self) -> str:
        at = datetime.now(UTC).isoformat(timespec="seconds")
        return (
            f"`.venv/bin/{self.command}`, taken {at} at revision {_revision()},"
            f" in {self.seconds:,.0f} s."
        )


def table(title: str, counts: Mapping[str, int]) -> list[str]:
    """``counts`` as a table, the most frequent first."""
    rows = sorted(counts.items(), key=lambda row: (-row[1], row[0]))
    return [f"| {title} | |", "|---|---:|", *(f"| {name} | {n:,} |" for name, n in rows), ""]


def _revision() -> str:
    said = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=_PROJECT,
        check=False,
        capture_output=True,
        text=True,
    )
    return said.stdout.strip() or "unknown"
