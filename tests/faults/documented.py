"""The lists in ``docs/faults.md``, made from the tests. Run it to rewrite them."""

from __future__ import annotations

import argparse
import ast
from itertools import groupby
from pathlib import Path

from tests.faults.troubles import TROUBLES, Scope

PAGE = Path(__file__).parents[2] / "docs" / "faults.md"

_FOLLOWS = "## Bad responses\n"
_TABLE = f"{_FOLLOWS}\n| response | affects | cause that is shown |\n|---|---|---|\n"
_NAMES = {"prometheus": "Prometheus", "Nan": "NaN"}

SECTIONS = {
    "test_source.py": "The server and the connection to it",
    "test_remarks.py": "Responses that are used, with a remark",
    "test_samples.py": "Odd, missing and late samples",
    "test_disk.py": "The cache on disk",
    "test_oracles.py": "What the checks detect, shown on falsified readings",
}


def written() -> str:
    """The lists on the page."""
    return _FOLLOWS + PAGE.read_text("utf-8").partition(_FOLLOWS)[2]


def lists() -> str:
    """The lists that it must have."""
    lines = []
    for row, troubles in groupby(TROUBLES, lambda trouble: trouble.row):
        lines.append(f"| **{row}** | | |")
        for trouble in troubles:
            affects = ", ".join(scope for scope in Scope if scope in trouble.scopes)
            lines.append(f"| {trouble.name} | {affects} | “… {trouble.words} …” |")
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


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    introduction = PAGE.read_text("utf-8").partition(_FOLLOWS)[0]
    PAGE.write_text(introduction + lists(), "utf-8")


if __name__ == "__main__":
    main()
