"""``docs/panels.md`` names every key, role and placeholder, and its example is a panel file."""

from __future__ import annotations

import re

from tests.panels.fourth import PAGE, with_fourth

from queuescope.panels import Kind, PanelRole, parse_dashboard
from queuescope.panels.loader import OPTIONAL, REQUIRED
from queuescope.panels.template import PLACEHOLDERS


def _rows(heading: str) -> list[list[str]]:
    """The cells of the table below that heading."""
    text = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (.*) \|$", text, re.MULTILINE)
    return [re.split(r" *\| *", row) for row in rows]


def test_every_key_of_a_panel_is_documented() -> None:
    keys = {key.strip("`"): needed for key, needed, *_ in _rows("A panel")[1:]}
    assert {key for key, needed in keys.items() if needed == "required"} == REQUIRED
    assert {key for key, needed in keys.items() if not needed} == OPTIONAL


def test_every_role_is_documented_with_its_kind() -> None:
    kinds = {role: kind.strip("`") for role, kind, *_ in _rows("Roles")[1:]}
    assert kinds == {f"`{role}`": role.kind or "any" for role in PanelRole}


def test_every_placeholder_is_documented() -> None:
    names = [name for cells in _rows("Queries") for name in re.findall(r"`\$(\w+)`", cells[0])]
    assert sorted(names) == sorted(PLACEHOLDERS)


def test_the_example_is_a_panel_file_with_a_fourth_chart() -> None:
    dashboard = parse_dashboard(with_fourth(), "four", "docs/panels.md")
    assert [panel.id for panel in dashboard.panels][3:] == ["in-flight"]
    assert dashboard.panels[3].kind is Kind.COUNT
    assert dashboard.rows == (("queue_depth", "success_rate", "latency"), ("in-flight",))
