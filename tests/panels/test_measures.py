"""The cards of a panel file: the queries of the built-in ones, and mistakes reported with their
place.
"""

from __future__ import annotations

import pytest
from tests.metric_names import names_in

from queuescope.errors import ConfigurationError
from queuescope.panels import EndedJobs, Resolution, Share, load_dashboard, render
from queuescope.panels import parse_dashboard as parse

PANELS = """
[[panel]]
id = "success_rate"
role = "success"
title = "Success rate"
kind = "percent"
unit = "%"
query = "good{$matchers}"
now = "good{$matchers}"
point = "lowest within {step}"
metrics = ["good"]

[[panel]]
id = "depth"
role = "depth"
title = "Depth"
kind = "count"
unit = "jobs"
query = "depth{$matchers}"
now = "depth{$matchers}"
point = "peak within {step}"
metrics = ["depth"]
"""
SHARE = """
[[measure]]
id = "success_rate"
title = "Success rate"
panel = "success_rate"
now = "avg_over_time(good[24h])"
share = "sum by (end) (rate(jobs{$matchers}[$window]))"
share_of = { end = "good" }
"""


def test_a_share_names_its_rates_and_which_of_them_are_counted() -> None:
    [measure] = parse(PANELS + SHARE, "t", "t").measures
    expected = Share("sum by (end) (rate(jobs{$matchers}[$window]))", "end", "good")
    assert expected == measure.share


@pytest.mark.parametrize(
    ("wrong", "right", "expected"),
    [
        ("share_of = {", "share_of = 3 #", "'share_of' must name a label and its value, such as"),
        ('end = "good"', "", "'share_of' must name a label and its value, such as"),
        ('end = "good"', "end = 3", "'share_of' must name a label and its value, such as"),
        ('end = "good"', '"a b" = "c"', "'share_of' must name a label and its value, such as"),
        ('share = "sum', 'now_ = "sum', "unknown key 'now_', did you mean 'now'?"),
        ("$window", "$windw", "share: unknown placeholder $windw, did you mean 'window'?"),
        (
            'panel = "success_rate"',
            'panel = "depth"',
            "the panel 'depth' has the role depth; this card reads one with role = \"success\"",
        ),
        (
            'panel = "success_rate"',
            'panel = "succes_rate"',
            "there is no panel 'succes_rate' in this file, did you mean 'success_rate'?",
        ),
        ("now = ", "note = ", "a share needs 'now', which is queried if the share has no data"),
        (
            'id = "success_rate"\ntitle = "Success rate"\npanel = "success_rate"',
            'id = "queue_depth"\ntitle = "Depth"\npanel = "depth"',
            "a share is in percent, the panel 'depth' is not",
        ),
    ],
)
def test_a_mistake_in_a_share_is_reported_with_its_place(
    wrong: str, right: str, expected: str
) -> None:
    assert wrong in SHARE
    with pytest.raises(ConfigurationError) as caught:
        parse(PANELS + SHARE.replace(wrong, right), "t", "here")
    assert str(caught.value).startswith("here, measure '")
    assert expected in str(caught.value)


def test_the_ended_table_serves_all_present_figures() -> None:
    text = "[ended]\nnow = 'sum by (end) (rate(jobs{$matchers}[$recent]))'\ngood = { end = 'good' }"
    expected = EndedJobs("sum by (end) (rate(jobs{$matchers}[$recent]))", "end", "good")
    assert expected == parse(PANELS + text, "t", "t").ended


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ended = 3\n", "here, ended is written as an [ended] table"),
        ("ended = {}\n", "here, ended: 'now' must be a text that is not empty"),
        ("ended = { now = 'a' }\n", "here, ended: 'good' must name a label and its value, such as"),
        ("ended = { now = 'a$' }\n", "here, ended, now: the template has a single $"),
        ("ended = { then = 'a' }\n", "here, ended: unknown key 'then'"),
    ],
)
def test_a_mistake_in_the_ended_table_is_reported(text: str, expected: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse(text + PANELS, "t", "here")
    assert str(caught.value).startswith(expected)


def test_queries_of_the_built_in_cards_are_promql_on_their_metrics() -> None:
    dashboard = load_dashboard("ai-agents")
    for measure in dashboard.measures:
        panel = measure.panel
        texts = [measure.now, panel.query, panel.now]
        texts += [measure.share.query] if measure.share else []
        for text in texts:
            query = render(text, Resolution(900, 15), 'env="prod"')
            assert names_in(query) <= set(panel.all_metrics), query
    ended = dashboard.ended
    assert ended is not None
    query = render(ended.now, Resolution(300, 15), 'env="prod"')
    assert names_in(query) == {"ai_agents_enhancement_jobs_total"}
