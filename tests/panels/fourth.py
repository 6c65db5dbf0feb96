"""The panel file that ``docs/panels.md`` describes."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

PAGE = (Path(__file__).parents[2] / "docs" / "panels.md").read_text("utf-8")


def with_fourth() -> str:
    """The built-in file with the example appended."""
    (example,) = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    preset = resources.files("queuescope.panels") / "presets" / "ai-agents.toml"
    return f"{preset.read_text('utf-8')}\n{example}"
