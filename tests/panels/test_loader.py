"""Panel files: the built-in preset is valid, and every mistake is reported with its place."""

from __future__ import annotations

import tomllib
from importlib import resources
from itertools import product
from pathlib import Path

import promql_parser
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.metric_names import names_in

from queuescope.errors import ConfigurationError
from queuescope.panels import Kind, PanelRole, Resolution, Threshold, load_dashboard, render
from queuescope.panels import parse_dashboard as parse
from queuescope.prometheus import promql

PANEL = """
title = "Mine"
[[panel]]
id = "queue_depth"
title = "Depth"
kind = "count"
unit = "jobs"
query = '''sum$by(
  depth{$matchers})'''
now = "sum(depth{$matchers})"
point = "peak within {step}"
metrics = ["depth"]
breakdowns = ["queue"]
"""
PRESETS = sorted(
    path.name.removesuffix(".toml")
    for path in (resources.files("queuescope.panels") / "presets").iterdir()
)


def _with(line: str) -> str:
    """The valid file with ``line`` instead of the one that sets the same key."""
    key = line.partition("=")[0]
    kept = tomllib.loads(PANEL)["panel"][0]
    kept.pop(key.strip(), None)
    return "[[panel]]\n" + "\n".join(f"{k} = {v!r}" for k, v in kept.items()) + f"\n{line}\n"


def test_a_panel_file_becomes_a_dashboard(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(PANEL, "utf-8")
    dashboard = load_dashboard(str(file))
    assert (dashboard.name, dashboard.title, dashboard.breakdowns) == ("mine", "Mine", ("queue",))
    (panel,) = dashboard.panels
    assert (panel.id, panel.kind, panel.scale) == ("queue_depth", Kind.COUNT, 1.0)
    assert panel.role is PanelRole.NONE
    assert panel.query == "sum$by( depth{$matchers})"


def test_thresholds_and_quantiles_are_read() -> None:
    text = _with('quantiles = [0.5, 0.95]\nthresholds = [{ value = 3 }, {value = 4.5, label="x"}]')
    (panel,) = parse(text, "t", "t").panels
    assert panel.quantiles == (0.5, 0.95)
    assert panel.thresholds == (Threshold(3.0, "limit 3"), Threshold(4.5, "x"))


def test_the_first_preset_keeps_its_panels() -> None:
    dashboard = load_dashboard("ai-agents")
    roles = {panel.id: panel.role for panel in dashboard.panels}
    assert roles == {
        "queue_depth": PanelRole.DEPTH,
        "success_rate": PanelRole.SUCCESS,
        "latency": PanelRole.LATENCY,
    }
    assert dashboard.rows == (("queue_depth", "success_rate", "latency"),)
    assert dashboard.panels[2].quantiles == (0.5, 0.95, 0.99)


def test_any_number_of_panels_with_any_name_form_rows() -> None:
    ids = [f"panel-{number}" for number in range(7)]
    text = "".join(_with(f'id = "{name}"') for name in ids)
    default = parse(text, "t", "t")
    assert [panel.id for panel in default.panels] == ids
    assert default.rows == (tuple(ids[:3]), tuple(ids[3:6]), (ids[6],))
    text += f"[[row]]\npanels = {ids[4:]}\n[[row]]\npanels = {ids[:4]}\n"
    assert parse(text, "t", "t").rows == (tuple(ids[4:]), tuple(ids[:4]))
    assert parse(_with('role = "none"'), "t", "t").panels[0].role is PanelRole.NONE


RESOLUTIONS = [
    Resolution(step, scrape, left_open)
    for step, scrape, left_open in product(
        (1, 7, 15, 60, 300, 900, 3600, 86_400), (1, 2, 5, 15, 30, 60, 300, 3600), (True, False)
    )
    if step >= scrape
]
MATCHERS = ("", 'env="prod"', 'env="prod",team=~"a|b",note!~"\\"}[5m]"')


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(
    ("resolutions", "matchers"),
    [
        # An odd stride, so that both kinds of range are among them.
        pytest.param(RESOLUTIONS[::3], MATCHERS[-1:], id="resolutions"),
        pytest.param(RESOLUTIONS[:1], MATCHERS, id="matchers"),
        pytest.param(RESOLUTIONS, MATCHERS, marks=pytest.mark.long, id="each with each"),
    ],
)
def test_every_rendered_query_of_a_preset_is_promql_on_the_metrics_that_it_names(
    preset: str, resolutions: list[Resolution], matchers: tuple[str, ...]
) -> None:
    for panel in load_dashboard(preset).panels:
        for resolution, matcher, by in product(resolutions, matchers, (None, *panel.breakdowns)):
            for template in (panel.query, panel.now):
                query = render(template, resolution, matcher, by)
                assert names_in(query) <= set(panel.all_metrics), query
        selected = names_in(render(panel.query, RESOLUTIONS[0]))
        assert selected == set(panel.all_metrics)


@settings(deadline=None)
@given(worker=st.text(st.characters(exclude_categories=["Cs"])))
def test_the_query_for_a_worker_is_valid_promql_for_any_name(worker: str) -> None:
    per_worker = load_dashboard("ai-agents").per_worker
    assert per_worker is not None
    query = render(
        per_worker.throughput, Resolution(3600, 15), 'env="prod"', worker=promql.quote(worker)
    )
    assert names_in(query) == {"ai_agents_worker_jobs_total"}


@settings(deadline=None)
@given(
    name=st.from_regex(r"[a-z_][a-z0-9_]{0,9}", fullmatch=True),
    operator=st.sampled_from(["=", "!="]),
    value=st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
)
def test_a_matcher_with_any_value_reaches_every_selector_unchanged(
    name: str, operator: promql.MatchOperator, value: str
) -> None:
    matcher = promql.Matcher(name, operator, value)
    for panel in load_dashboard("ai-agents").panels:
        query = render(panel.query, Resolution(60, 15), promql.render_matchers([matcher]), None)
        selectors = _selectors(query)
        assert selectors
        for selector in selectors:
            assert (name, value) in [(m.name, m.value) for m in selector.matchers.matchers]


def _selectors(query: str) -> list[promql_parser.VectorSelector]:
    found: list[promql_parser.VectorSelector] = []

    def visit(expression: promql_parser.Expr) -> None:
        if isinstance(expression, promql_parser.VectorSelector):
            found.append(expression)

    promql_parser.walk(promql.parse(query), pre_visit=visit)
    return found


_WRONG_ID = ": 'id' begins with a letter and holds letters, digits, _ and - only, 64 at most"
IN_THE_PANEL = {
    'role = "dept"': (
        ": role must be one of depth, success, latency, workers, throughput, oldest, none, "
        "did you mean 'depth'?"
    ),
    "role = 3": ": role must be one of depth, success, latency, workers, throughput, oldest, none",
    'role = "success"': ": a panel with the role success is of the kind percent, not count",
    'unti = "jobs"': ": unknown key 'unti', did you mean 'unit'?",
    'title = " "': ": 'title' must be a text that is not empty",
    "unit = 1": ": 'unit' must be a text that is not empty",
    'kind = "counter"': ": kind must be one of count, percent, latency",
    'query = "a($matcher)"': ", query: unknown placeholder $matcher, did you mean 'matchers'?",
    'now = "a$"': ", now: the template has a single $; write $$ for a dollar",
    'point = "in {stepp}"': ": 'point' may hold {step}, and no other braces",
    'point = "{step.__class__}"': ": 'point' may hold {step}, and no other braces",
    'breakdowns = ["a b"]': ": 'a b' is not a label name",
    'breakdowns = "queue"': ": 'breakdowns' must be a list of texts",
    "metrics = []": ": 'metrics' must name at least one metric",
    'metrics = ["a{}"]': ": 'a{}' is not a metric name",
    "quantiles = [0.5, 95]": ": quantiles differ and lie between 0 and 1, such as 0.95",
    "quantiles = [0.95, 0.95]": ": quantiles differ and lie between 0 and 1, such as 0.95",
    "quantiles = [nan]": ": 'quantiles' must be a list of numbers",
    "quantiles = [0.5]": ": quantiles must hold 0.95, which the present value and breakdowns show",
    "scale = 0": ": scale must be a number above 0",
    "scale = inf": ": scale must be a number above 0",
    "scale = true": ": scale must be a number above 0",
    "thresholds = 100": ": thresholds are a list such as [{ value = 100 }]",
    "thresholds = [100]": ": thresholds are a list such as [{ value = 100 }]",
    'thresholds = [{ label = "x" }]': ": a threshold needs a number as its value",
    "thresholds = [{ value = nan }]": ": a threshold needs a number as its value",
    "thresholds = [{ value = 1, lable = '' }]": (
        ", threshold 1: unknown key 'lable', did you mean 'label'?"
    ),
}


@pytest.mark.parametrize(("line", "expected"), IN_THE_PANEL.items())
def test_a_mistake_in_a_panel_is_reported_with_its_place(line: str, expected: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse(_with(line), "t", "here")
    assert str(caught.value) == f"here, panel 'queue_depth'{expected}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('titel = "Mine"\n' + _with(""), ": unknown key 'titel', did you mean 'title'?"),
        (PANEL.replace('unit = "jobs"\n', ""), ", panel 'queue_depth': 'unit' is missing"),
        (_with("id = 3"), ", panel 1: 'id' must be a text that is not empty"),
        (_with('id = "a b"'), f", panel 'a b'{_WRONG_ID}"),
        (_with('id = "card:x"'), f", panel 'card:x'{_WRONG_ID}"),
        (_with('id = "1h"'), f", panel '1h'{_WRONG_ID}"),
        (_with(f"id = '{'x' * 65}'"), f", panel '{'x' * 65}'{_WRONG_ID}"),
        (
            _with('role = "depth"') + _with('id = "deep"\nrole = "depth"'),
            ": two panels have the role depth: 'queue_depth' and 'deep'",
        ),
        ("row = 3\n" + PANEL, ": rows are written as [[row]] tables"),
        (PANEL + "[[row]]", ", row 1: 'panels' must name at least one panel"),
        (PANEL + "[[row]]\npanels = 'queue_depth'", ", row 1: 'panels' must be a list of texts"),
        (
            PANEL + "[[row]]\npanel = ['queue_depth']",
            ", row 1: unknown key 'panel', did you mean 'panels'?",
        ),
        (
            PANEL + "[[row]]\npanels = ['queue_dept']",
            ", row 1: there is no panel 'queue_dept' in this file, did you mean 'queue_depth'?",
        ),
        (
            PANEL + "[[row]]\npanels = ['queue_depth']\n[[row]]\npanels = ['queue_depth']",
            ", row 2: the panel 'queue_depth' is already in row 1",
        ),
        (
            PANEL + _with('id = "more"') + "[[row]]\npanels = ['queue_depth']",
            (": the panel 'more' is in no row; add it to one, or leave out all [[row]] tables"),
        ),
        (
            _with("") + _with(""),
            ": two panels have the same id among queue_depth, queue_depth",
        ),
        ("", ": at least one [[panel]] is needed"),
        ("panel = 3", ": at least one [[panel]] is needed"),
        ("panel = [3]", ": panels are written as [[panel]] tables"),
        ("worker = 3\n" + PANEL, ", worker is written as a [worker] table"),
        (PANEL + "[worker]", ", worker: 'throughput' must be a text that is not empty"),
        (
            PANEL + "[worker]\nthroughput = 'up'\nmemory = 'up'",
            ", worker: unknown key 'memory'",
        ),
        (
            PANEL + "[worker]\nthroughput = 'rate(x[$window])'",
            ", worker, throughput: $worker must name the worker",
        ),
        (
            PANEL + "[worker]\nthroughput = 'x{worker=$wroker}'",
            ", worker, throughput: unknown placeholder $wroker, did you mean 'worker'?",
        ),
    ],
)
def test_a_mistake_in_a_file_is_reported_with_its_place(text: str, expected: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse(text, "t", "here")
    assert str(caught.value) == f"here{expected}"


def test_text_that_is_not_toml_is_reported_with_the_line() -> None:
    with pytest.raises(ConfigurationError, match=r"^here is not valid TOML: .*line 2"):
        parse('title = "x"\n[[panel]\n', "t", "here")


def test_the_second_panel_is_named_by_its_number_when_it_has_no_id() -> None:
    with pytest.raises(ConfigurationError, match=r"^here, panel 2: 'id' is missing"):
        parse(PANEL + "[[panel]]\n", "t", "here")


def test_an_unknown_preset_is_reported_with_the_nearest_and_all_of_them() -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_dashboard("ai-agent")
    assert str(caught.value) == (
        "unknown preset 'ai-agent', did you mean 'ai-agents'?; there are: " + ", ".join(PRESETS)
    )


@pytest.mark.parametrize("content", [None, b"title = '\xff'"])
def test_a_panel_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "absent.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"cannot read the panel file .*absent\.toml"):
        load_dashboard(str(file))


def test_a_mistake_in_a_file_is_reported_with_the_files_path(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(PANEL.replace("unit =", "unti ="), "utf-8")
    with pytest.raises(ConfigurationError) as caught:
        load_dashboard(str(file))
    assert str(caught.value).startswith(f"{file}, panel 'queue_depth': unknown key 'unti'")
