"""Streamlit's page with ours in it: whatever a snapshot holds stays data."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html import unescape
from importlib import resources
from pathlib import Path

import pytest
import streamlit
from tests.dashboard.conftest import HOSTILE

from queuescope.dashboard.assets import STATIC, Assets
from queuescope.dashboard.index import Shell
from queuescope.panels import Dashboard, Kind, PanelRole, load_dashboard

INDEX = Path(streamlit.__file__).parent / "static" / "index.html"


@pytest.fixture(scope="module")
def assets() -> Assets:
    return Assets()


def _shell(assets: Assets, dashboard: Dashboard) -> Shell:
    return Shell(INDEX, assets, dashboard, default_range="6h", refresh_seconds=30)


def test_a_snapshot_cannot_end_its_element(assets: Assets) -> None:
    content = {"cause": HOSTILE, "note": "<!--<script>", "unit": "µs \u2028"}
    snapshot = json.dumps(content, ensure_ascii=False).encode()
    page = _shell(assets, load_dashboard("ai-agents")).document(early=True, snapshot=snapshot)
    without = _shell(assets, load_dashboard("ai-agents")).document(early=True, snapshot=None)
    (inline,) = re.findall(r'id="queuescope-snapshot">(.*?)</script>', page.decode(), re.DOTALL)
    assert json.loads(inline) == content
    assert page.count(b"<") == without.count(b"<") + len(["<script", "</script>"])


def test_titles_of_a_panel_file_are_text(assets: Assets) -> None:
    dashboard = load_dashboard("ai-agents")
    hostile = replace(dashboard.panels[0], title=HOSTILE + '" onload="x')
    alone = replace(dashboard, panels=(hostile,), rows=((hostile.id,),))
    page = _shell(assets, alone).document(early=True, snapshot=None)
    assert HOSTILE.encode() not in page
    assert b'" onload="' not in page
    assert hostile.title in unescape(page.decode())


def test_the_two_lines_are_shown_only_for_metrics_of_instrumented_workers(assets: Assets) -> None:
    own = load_dashboard("ai-agents")
    foreign = tuple(
        replace(panel, metrics=(f"celery_{number}",)) for number, panel in enumerate(own.panels)
    )
    line = b"from queuescope.instrument import instrument"
    for panels, is_told in ((own.panels, 1), ((*foreign, own.panels[0]), 1), (foreign, 0)):
        shell = _shell(assets, replace(own, panels=panels))
        page = shell.document(early=True, snapshot=None)
        assert page.count(line) == is_told
        assert page.count(b"queuescope check") == 1


def test_script_style_and_skeleton_know_no_panel_by_its_id() -> None:
    presets = resources.files("queuescope.panels") / "presets"
    names = [file.name.removesuffix(".toml") for file in presets.iterdir()]
    ids = {panel.id for name in names for panel in load_dashboard(name).panels}
    # An id that is also a kind or a role may be used as such.
    ids -= {*Kind, *PanelRole}
    assert ids
    for file in STATIC.rglob("*.*"):
        if "vendor" not in file.parts and file.suffix in {".js", ".css", ".html"}:
            assert [one for one in ids if one in file.read_text("utf-8")] == [], file


def test_the_page_gets_its_defaults(assets: Assets) -> None:
    page = _shell(assets, load_dashboard("ai-agents")).document(early=True, snapshot=None).decode()
    (defaults,) = re.findall(r'data-defaults="([^"]*)"', page)
    found = json.loads(unescape(defaults))
    assert (found["range"], found["refresh"]) == ("6h", 30)
    assert found["breakdowns"] == ["queue", "instance", "tenant"]
    for name in ("none", *found["breakdowns"]):
        assert f'<option value="{name}">' in page
    assert page.count('data-panel="') == 3
