"""The lists in ``docs/faults.md``, as they follow from the cells. Run it to write them anew."""

from __future__ import annotations

import ast
from itertools import groupby
from pathlib import Path

from tests.faults.troubles import TROUBLES, Scope

PAGE = Path(__file__).parents[2] / "docs" / "faults.md"

_FOLLOWS = "## Bad answers\n"
_TABLE = f"{_FOLLOWS}\n| answer | befalls | cause that is told |\n|---|---|---|\n"
_NAMES = {"prometheus": "Prometheus", "Nan": "NaN"}

SECTIONS = {
    "test_source.py": "The server and the way to it",
    "test_told.py": "Answers that are used, with what is said beside them",
    "test_samples.py": "Odd, missing and late samples",
    "test_disk.py": "The cache on disk",
    "test_oracles.py": "What the checks object to, shown on doctored readings",
}


def written() -> str:
    """What the page says of the tests."""
    return _FOLLOWS + PAGE.read_text("utf-8").partition(_FOLLOWS)[2]


def lists() -> str:
    """What it must say of them."""
    lines = []
    for row, troubles in groupby(TROUBLES, lambda trouble: trouble.row):
        lines.append(f"| **{row}** | | |")
        for trouble in troubles:
            befalls = ", ".join(scope for scope in Scope if scope in trouble.scopes)
            lines.append(f"| {trouble.name} | {befalls} | “… {trouble.words} …” |")
    text = _TABLE + "\n".join(lines) + "\n"
    for module, title in SECTIONS.items():
        text += f"\n## {title}\n\n"
        text += "".join(f"- {sentence}\n" for sentence in _sentences(module))
    return text


def _sentences(module: str) -> list[str]:
    """The names of the module's tests, as sentences."""
    tree = ast.parse((Path(__file__).parent / module).read_text("utf-8"))
    names = [
        node.name.removeprefix("test_").replace("_", " ")
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
    ]
    sentences = (name[0].upper() + name[1:] for name in names)
    return [" ".join(_NAMES.get(word, word) for word in text.split()) for text in sentences]


if __name__ == "__main__":
    introduction = PAGE.read_text("utf-8").partition(_FOLLOWS)[0]
    PAGE.write_text(introduction + lists(), "utf-8")
