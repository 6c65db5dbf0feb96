"""ES modules joined into the one file that a browser asks for.

Each module keeps a scope of its own, so names that it does not export stay private. Only these
forms of import and export are supported, each on lines of its own::

    import { name, other } from "./module.js";
    export function name() {}      // also `async function`, `class` and `const`

Comments on lines of their own are left out: they would be a quarter of the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

_IMPORT = re.compile(r'^import \{\s*(\w+(?:,\s*\w+)*),?\s*\} from "(\.[^"]+)";$', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:(?:async )?function|class|const) (\w+))", re.MULTILINE)
_COMMENT = re.compile(r"^ *(?://.*|/\*\*(?:[^*]|\*(?!/))*\*/ *)\n", re.MULTILINE)
_OTHER = re.compile(r"^(?:import|export)\b.*", re.MULTILINE)


def join_modules(entry: Path) -> str:
    """``entry`` with all that it imports, as a classic script.

    Raises ``ValueError`` for modules that cannot be joined: another form of import or export, a
    name that its module does not export, or circular imports.
    """
    exports: dict[Path, list[str]] = {}
    parts = [
        f"const m{number} = (() => {{\n{text}}})();\n"
        for number, text in enumerate(_texts(entry.resolve(), exports, ()))
    ]
    return f'"use strict";(() => {{\n{"".join(parts)}}})();\n'


def _texts(
    module: Path, exports: dict[Path, list[str]], importers: tuple[Path, ...]
) -> Iterator[str]:
    """The texts of modules that are not in ``exports`` yet, each after those that it imports."""
    if module in importers:
        circle = " imports ".join(file.name for file in (*importers, module))
        raise ValueError(f"modules cannot be joined that import each other: {circle}")
    if module in exports:
        return
    text = _COMMENT.sub("", module.read_text("utf-8"))
    imports = [
        ((module.parent / found[2]).resolve(), re.findall(r"\w+", found[1]))
        for found in _IMPORT.finditer(text)
    ]
    for imported, names in imports:
        yield from _texts(imported, exports, (*importers, module))
        if missing := sorted(set(names) - set(exports[imported])):
            raise ValueError(f"{module.name}: {imported.name} does not export {missing[0]}")
    exports[module] = _EXPORT.findall(text)
    numbers = {file: number for number, file in enumerate(exports)}
    text = _EXPORT.sub("", text)
    text = _IMPORT.sub(
        lambda found: f"const {{{found[1]}}} = m{numbers[(module.parent / found[2]).resolve()]};",
        text,
    )
    if other := _OTHER.search(text):
        raise ValueError(f"{module.name}: this form cannot be joined: {other[0]}")
    yield f"{text}return {{ {', '.join(exports[module])} }};\n"
