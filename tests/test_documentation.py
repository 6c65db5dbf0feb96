"""The examples in README and documentation work: each block of code is run or parsed.

The quickstart is followed literally by ``test_quickstart.py``, the backup by
``deploy/test_backup.py``.
"""

from __future__ import annotations

import importlib
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest
from celery import Celery
from click.testing import CliRunner
from tests.environments import PROJECT

from queuescope.cli import main
from queuescope.dashboard.overview.chart_csv import CHART_CSV
from queuescope.instrument.exporter import options
from queuescope.panels import load_dashboard
from queuescope.prometheus import promql
from queuescope.settings import load_settings
from queuescope.view.address import parse_view

FILES = sorted(
    path
    for place in (PROJECT, PROJECT / "docs", PROJECT / "deploy")
    for path in (place.glob("*.md") if place == PROJECT else place.rglob("*.md"))
)
_BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A block of code; ``section`` is the heading of the second level above it."""

    file: str
    section: str
    language: str
    code: str


def blocks() -> Iterator[Block]:
    for path in FILES:
        text = path.read_text("utf-8")
        for found in _BLOCK.finditer(text):
            headings = re.findall(r"^## (.+)$", text[: found.start()], re.MULTILINE)
            indent, language, code = found.groups()
            yield Block(
                str(path.relative_to(PROJECT)),
                headings[-1] if headings else "",
                language,
                re.sub(rf"^{indent}", "", code, flags=re.MULTILINE),
            )


BLOCKS = list(blocks())
# Blocks that are run elsewhere, or are diagrams and not code.
ELSEWHERE = {
    ("docs/quickstart.md", "Your own Celery project"): "tests/test_quickstart.py",
    ("docs/deployment.md", "Backups"): "tests/deploy/test_backup.py",
    ("docs/architecture.md", ""): "tests/test_architecture.py",
}


def python(block: Block) -> None:
    exec(  # noqa: S102 - what it documents
        compile(block.code, block.file, "exec"), {"app": Celery("documented", set_as_current=False)}
    )


def toml(block: Block) -> None:
    assert tomllib.loads(block.code)


def formula(block: Block) -> None:
    """A query with words in place of durations, or several with a name for each."""
    durations = {"lookback": "5m", "step": "1h", "scrape": "15s", "w": "5m"}
    code = re.sub(r" offset …", " offset 5s", block.code)
    code = re.sub(r"\[[^\]]+\]", lambda m: re.sub(r"\w+", _of(durations), m[0]), code)
    for query in re.split(r"^\w+\(t\) *= ", code, flags=re.MULTILINE):
        if query.strip():
            promql.parse(query)


def _of(words: dict[str, str]) -> Callable[[re.Match[str]], str]:
    return lambda found: words.get(found[0], found[0])


def shell(block: Block) -> None:
    subprocess.run(["bash", "-n"], input=block.code, text=True, check=True)
    for line in re.sub(r"\\\n", " ", block.code).splitlines():
        command = shlex.split(line, comments=True)
        while command and (command[0] == "export" or re.match(r"\w+=", command[0])):
            command.pop(0)
        if command:
            COMMANDS[Path(command[0]).name](command)


def _queuescope(command: list[str]) -> None:
    name, *arguments = command[1:]
    if name == "exporter":
        options().parse_args(arguments)
        return
    # Options are parsed before the help is shown, and unknown ones rejected.
    done = CliRunner().invoke(main, [name, *arguments, "--help"])
    assert done.exit_code == 0, done.output


def _script(command: list[str]) -> None:
    done = subprocess.run(
        [*command, "--help"], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def _curl(command: list[str]) -> None:
    url = urlsplit(command[-1])
    assert url.path == CHART_CSV
    asked = dict(parse_qsl(url.query))
    dashboard = load_dashboard("ai-agents")
    assert asked.pop("panel") in {panel.id for panel in dashboard.panels}
    parse_view(asked, breakdowns=dashboard.breakdowns, default_range="24h", now=0.0)


def _exists(command: list[str]) -> None:
    assert os.access(PROJECT / command[0], os.X_OK)


def _install(command: list[str]) -> None:
    extras = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))["project"]
    for extra in re.findall(r"\[(\w+)\]", " ".join(command)):
        assert extra in extras["optional-dependencies"]


def _foreign(command: list[str]) -> None:
    """Not part of the project and not installed here: bash has checked the syntax."""


COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "queuescope": _queuescope,
    "run": _script,
    # The commands of long proofs are looked at wherever they stand.
    "python": _foreign,
    "curl": _curl,
    "pip": _install,
    # It would start all tests again; the other one is run by it.
    "test": _exists,
    "page_script.sh": _exists,
    "oauth2-proxy": _foreign,
}
READERS = {"python": python, "toml": toml, "sh": shell}


@pytest.mark.parametrize("block", BLOCKS, ids=lambda b: f"{b.file}-{b.section}")
def test_a_block_of_code_is_what_it_says(block: Block) -> None:
    if (elsewhere := ELSEWHERE.get((block.file, block.section))) is not None:
        assert (PROJECT / elsewhere).exists()
        return
    reader = READERS.get(block.language)
    if reader is None:
        first = block.code.split()[0]
        reader = shell if Path(first).name in COMMANDS else formula
    reader(block)


SETTINGS = [block for block in BLOCKS if re.search(r"^(export )?\w+=", block.code, re.MULTILINE)]


@pytest.mark.parametrize("block", SETTINGS, ids=lambda b: f"{b.file}-{b.section}")
def test_settings_that_are_shown_are_accepted(
    block: Block, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lines = re.findall(r"^(?:export )?(\w+=.*)$", block.code, re.MULTILINE)
    printed = subprocess.run(
        ["bash", "-c", "set -a\n" + "\n".join(lines) + "\nenv -0"],
        env={"HOME": str(tmp_path), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\0")
    names = {line.partition("=")[0] for line in lines}
    for name in [name for name in os.environ if name.startswith("QUEUESCOPE_")]:
        monkeypatch.delenv(name)
    for name, _, value in (pair.partition("=") for pair in printed):
        if name in names:
            monkeypatch.setenv(name, value)
    settings = load_settings()
    for name in names & {f"QUEUESCOPE_{field.upper()}" for field in type(settings).model_fields}:
        assert name.removeprefix("QUEUESCOPE_").lower() in settings.model_fields_set


BY_HAND = sorted(
    ".".join(path.relative_to(PROJECT).with_suffix("").parts)
    for place in ("tests", "benchmarks")
    for path in (PROJECT / place).rglob("*.py")
    if (text := path.read_text("utf-8")).endswith('if __name__ == "__main__":\n    main()\n')
    and "argparse.ArgumentParser(" in text
)


@pytest.mark.parametrize("module", BY_HAND)
def test_a_module_run_by_hand_starts_and_has_the_options_that_are_documented(
    module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The long proofs and the benchmarks: they take too long to be run whole here."""
    monkeypatch.setattr(sys, "argv", [module, "--help"])
    with pytest.raises(SystemExit) as left:
        importlib.import_module(module).main()
    assert left.value.code == 0
    options = set(re.findall(r"--[\w-]+", capsys.readouterr().out))
    for used in re.findall(
        rf"python -m {re.escape(module)}\b((?:\\+\n|[^`\n])*)", _documentation()
    ):
        assert set(re.findall(r"--[\w-]+", used)) <= options, used


def test_each_module_that_documentation_runs_exists() -> None:
    named = set(re.findall(r"python -m ((?:tests|benchmarks)\.[\w.]*\w)", _documentation()))
    assert len(named) > 5
    # Needs Atheris, which is not part of the project.
    assert named - {"tests.prometheus.guided_fuzz"} <= set(BY_HAND)


def test_each_benchmark_is_listed_by_its_command_and_its_readme() -> None:
    usage = subprocess.run(
        [PROJECT / "benchmarks/run"], capture_output=True, text=True, check=False
    ).stderr
    offered = set(re.findall(r"[a-z_]+", usage.partition("run ")[2].partition(" ")[0]))
    readme = (PROJECT / "benchmarks/README.md").read_text("utf-8")
    # It is started by another benchmark.
    measured = {name.partition(".")[2] for name in BY_HAND if name.startswith("benchmarks.")}
    assert offered == measured - {"line"} == set(re.findall(r"^\| \[(\w+)\]", readme, re.MULTILINE))


def _documentation() -> str:
    """All pages, and what the modules say of themselves."""
    modules = [
        path for place in ("tests", "benchmarks") for path in (PROJECT / place).rglob("*.py")
    ]
    pages = [*FILES, *(PROJECT / "benchmarks").glob("*.md"), *modules]
    return "\n".join(path.read_text("utf-8") for path in pages)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PROJECT)))
def test_links_and_paths_lead_somewhere(path: Path) -> None:
    text = path.read_text("utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        place, _, anchor = target.partition("#")
        if "://" in place:
            continue
        found = (path.parent / place).resolve() if place else path
        assert found.exists(), target
        assert not anchor or anchor in anchors(found), target
    if path.name == "CHANGELOG.md":
        return
    for named in re.findall(r"`((?:src|tests|docs|scripts|deploy|benchmarks)/[\w./-]+)`", text):
        # The reader creates this file from the example.
        assert (PROJECT / named).exists() or named.endswith(".env"), named


def anchors(path: Path) -> set[str]:
    """As GitHub makes them of the headings."""
    headings = re.findall(r"^#+ (.+)$", path.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
